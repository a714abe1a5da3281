/**
 * Builds elements from values.
 *
 * Strings become text nodes and attributes, never markup: nothing in this page parses HTML, so nothing that a person
 * or a model writes can become an element.
 */

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set([
  "value",
  "checked",
  "disabled",
  "selected",
  "multiple",
  "open",
  "hidden",
  "inert",
]);

/** An HTML element. Functions among `props` listen ("onclick"), null and false leave the attribute out. */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) set(node, name, value);
  node.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return node;
}

function set(node, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (typeof value === "function") node.addEventListener(name.slice(2), value);
  else if (PROPERTIES.has(name)) node[name] = value;
  else node.setAttribute(name, value === true ? "" : String(value));
}

let lastId = 0;

/** An id for labels and descriptions, unique in this page. */
export function newId(prefix) {
  lastId += 1;
  return `${prefix}-${lastId}`;
}

/** Runs `work` once before the next paint, however often it was asked for. */
export function beforePaint(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      work();
    });
  };
}

/** Replaces `old` by `fresh` and keeps the keyboard where it was (the element with the same data-testid). */
export function swap(old, fresh) {
  const focused = old.contains(document.activeElement) ? document.activeElement.dataset.testid : undefined;
  old.replaceWith(fresh);
  if (focused) (fresh.querySelector(`[data-testid="${CSS.escape(focused)}"]`) ?? fresh).focus();
}

/**
 * Makes `old` look like `fresh` and leaves alone whatever is the same, so that a selection, a scrolled pane and the
 * keyboard survive while a message grows. Only what `fresh` has anew brings its own listeners.
 */
export function patch(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes)
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const wanted = [...fresh.childNodes];
  const present = [...old.childNodes];
  wanted.forEach((child, at) => (present[at] ? patch(present[at], child) : old.append(child)));
  for (const child of present.slice(wanted.length)) child.remove();
}

/** "12 kB", for people. */
export const sizeOf = (bytes) =>
  bytes < 1024 * 1024
    ? `${Math.max(1, Math.round(bytes / 1024))} kB`
    : `${(bytes / 1024 / 1024).toFixed(1)} MB`;
