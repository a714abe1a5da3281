/** Small surfaces that open beside a button: menus and the emoji picker. Esc and a click elsewhere close them. */
import { h } from "./dom.js";
import { characterOf, findEmoji } from "./emoji.js";

let closeOpen = () => {};

/**
 * A menu of `{label, pick, hint?, testid?, danger?, href?}`; arrow keys move, Enter picks, focus returns to `anchor`.
 */
export function openMenu(anchor, items) {
  const nodes = items.map((item) => menuItem(item, () => close()));
  const menu = h(
    "div",
    { class: "menu", role: "menu", "data-testid": "menu", onkeydown: (event) => walk(event, nodes) },
    nodes,
  );
  const close = openBeside(anchor, menu);
  nodes[0]?.focus();
}

function menuItem(item, close) {
  const props = {
    class: item.danger ? "menu-item menu-danger" : "menu-item",
    role: "menuitem",
    "data-testid": item.testid,
    onclick: () => {
      close();
      item.pick();
    },
  };
  const inside = [h("span", {}, item.label), item.hint ? h("span", { class: "menu-hint" }, item.hint) : null];
  if (item.href)
    return h("a", { ...props, href: item.href, target: "_blank", rel: "noopener noreferrer" }, inside);
  return h("button", { ...props, type: "button" }, inside);
}

function walk(event, nodes) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || nodes.length === 0) return;
  event.preventDefault();
  const at = nodes.indexOf(document.activeElement);
  nodes[(at + step + nodes.length) % nodes.length].focus();
}

/** A picker of emoji; `pick(name)` hears the choice. */
export function openPicker(anchor, pick) {
  const grid = h("div", { class: "picker-grid", role: "group", "aria-label": "Emoji" });
  const field = h("input", {
    class: "field",
    type: "search",
    placeholder: "Search emoji",
    "aria-label": "Search emoji",
    "data-testid": "emoji-search",
  });
  const show = () => grid.replaceChildren(...offered(field.value.trim().toLowerCase()));
  const offered = (part) => {
    const names = findEmoji(part);
    return names.length > 0 ? names.map(cell) : [h("p", { class: "quiet" }, "No emoji of that name")];
  };
  const cell = (name) =>
    h(
      "button",
      {
        class: "picker-cell",
        type: "button",
        title: `:${name}:`,
        "aria-label": name,
        "data-testid": `emoji-${name}`,
        onclick: () => choose(name),
      },
      characterOf(name),
    );
  const choose = (name) => {
    close();
    pick(name);
  };
  field.addEventListener("input", show);
  field.addEventListener(
    "keydown",
    (event) => event.key === "Enter" && grid.querySelector("button")?.click(),
  );
  show();
  const close = openBeside(
    anchor,
    h(
      "div",
      { class: "menu picker", role: "dialog", "aria-label": "Pick an emoji", "data-testid": "emoji-picker" },
      field,
      grid,
    ),
  );
  field.focus();
}

/** Shows `node` beside `anchor`, above everything; returns what closes it. */
function openBeside(anchor, node) {
  closeOpen();
  const host = anchor.closest("dialog") ?? document.body;
  const focused = document.activeElement;
  host.append(node);
  place(anchor.getBoundingClientRect(), node);
  anchor.setAttribute("aria-expanded", "true");
  anchor.closest(".message")?.classList.add("has-menu");
  const away = (event) => !node.contains(event.target) && close();
  const escape = (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    close();
  };
  const close = () => {
    const inside = node.contains(document.activeElement);
    node.remove();
    anchor.removeAttribute("aria-expanded");
    anchor.closest(".message")?.classList.remove("has-menu");
    document.removeEventListener("pointerdown", away, true);
    document.removeEventListener("keydown", escape, true);
    closeOpen = () => {};
    if (inside) (anchor.isConnected ? anchor : focused)?.focus?.();
  };
  document.addEventListener("pointerdown", away, true);
  document.addEventListener("keydown", escape, true);
  closeOpen = close;
  return close;
}

function place(box, node) {
  const { width, height } = node.getBoundingClientRect();
  const left = Math.min(Math.max(8, box.right - width), window.innerWidth - width - 8);
  const below = box.bottom + 4 + height < window.innerHeight;
  node.style.left = `${Math.max(8, left)}px`;
  node.style.top = `${below ? box.bottom + 4 : Math.max(8, box.top - height - 4)}px`;
}
