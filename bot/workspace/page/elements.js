/**
 * What can be pressed or chosen inside a block: buttons, menus, feedback, and inputs that stand in an actions block.
 *
 * A `surface` is where the block stands: `store`, `kind` ("message", "modal", "home"), `key` (a name for what is
 * remembered about it) and `act(blockId, actionId, payload)`, which reaches the app and resolves when it acknowledged.
 */
import { control, firstState } from "./blocks-inputs.js";
import { confirmed } from "./dialogs.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { fileAddress, picture, safeUrl } from "./links.js";
import { openMenu } from "./menu.js";
import { textLine, words } from "./texts.js";

let pressed = null;

/** Gives the keyboard, if nothing else has it, back to what was pressed last: it was disabled while a modal opened. */
export function focusPressed() {
  const active = document.activeElement;
  if (active && active !== document.body && active.checkVisibility()) return;
  const { node, testid, ts } = pressed ?? {};
  const again = node?.isConnected
    ? node
    : ts && document.querySelector(`[data-ts="${ts}"] [data-testid="${CSS.escape(testid)}"]`);
  again?.focus();
}

/** An element of a block, or null where it is not for this reader's eyes. */
export function renderElement(element, blockId, surface) {
  if (element.visible_to_user_ids?.length && !element.visible_to_user_ids.includes(surface.store.me.id))
    return null;
  const build = ELEMENTS[element.type];
  return build ? build(element, blockId, surface) : chooser(element, blockId, surface);
}

/**
 * Asks for confirmation where the element wants it, then acts; `node` is greyed until the app has acknowledged.
 * Resolves to whether the app got it.
 */
export async function interact(node, { element, blockId, surface, payload = {} }) {
  const confirm = element.confirm ?? payload.selected_option?.confirm;
  if (confirm && !(await confirmed(confirm, surface.store))) return false;
  if (!node.closest("dialog"))
    pressed = { node, testid: node.dataset.testid, ts: node.closest("[data-ts]")?.dataset.ts };
  node.setAttribute("aria-busy", "true");
  if ("disabled" in node) node.disabled = true;
  try {
    await surface.act(blockId, element.action_id, payload);
    return true;
  } catch (problem) {
    surface.store.problem(problem);
    node.classList.add("failed");
    return false;
  } finally {
    node.removeAttribute("aria-busy");
    if ("disabled" in node) node.disabled = false;
  }
}

function button(element, blockId, surface) {
  const href = element.url ? safeUrl(element.url) : null;
  const look = `button ${element.style === "primary" ? "button-primary" : element.style === "danger" ? "button-danger" : ""}`;
  const payload = element.value === undefined ? {} : { value: element.value };
  const node = h(
    href ? "a" : "button",
    {
      class: look,
      type: href ? null : "button",
      href,
      target: href ? "_blank" : null,
      rel: href ? "noopener noreferrer" : null,
      "data-testid": `button-${element.action_id}`,
      "aria-label": element.accessibility_label,
      onclick: () => interact(node, { element, blockId, surface, payload }),
    },
    textLine(element.text, surface.store),
  );
  return node;
}

function iconButton(element, blockId, surface) {
  const payload = element.value === undefined ? {} : { value: element.value };
  const name = element.accessibility_label ?? words(element.text);
  const node = h(
    "button",
    {
      class: "icon-button",
      type: "button",
      title: words(element.text),
      "aria-label": name,
      "data-testid": `button-${element.action_id}`,
      onclick: () => interact(node, { element, blockId, surface, payload }),
    },
    icon(element.icon),
  );
  return node;
}

/** Two thumbs. Slack keeps no state for them, so this browser remembers what this person chose last. */
function feedbackButtons(element, blockId, surface) {
  const memory = `feedback:${surface.store.me.id}:${surface.key}:${element.action_id}`;
  const group = h("span", { class: "feedback", role: "group", "aria-label": "Rate this answer" });
  const thumbs = ["positive", "negative"].map((side) => thumb(side, element, blockId, surface, chosen));
  function chosen(side) {
    localStorage.setItem(memory, side);
    show(side);
  }
  function show(side) {
    for (const node of thumbs) node.setAttribute("aria-pressed", String(node.dataset.side === side));
  }
  show(localStorage.getItem(memory));
  group.append(...thumbs);
  return group;
}

function thumb(side, element, blockId, surface, chosen) {
  const choice = element[`${side}_button`];
  const node = h(
    "button",
    {
      class: "icon-button thumb",
      type: "button",
      title: words(choice.text),
      "aria-label": choice.accessibility_label ?? words(choice.text),
      "data-side": side,
      "data-testid": `feedback-${side}`,
      onclick: async () => {
        if (await interact(node, { element, blockId, surface, payload: { value: choice.value } }))
          chosen(side);
      },
    },
    icon(side === "positive" ? "up" : "down"),
  );
  return node;
}

function overflow(element, blockId, surface) {
  const items = element.options.map((option) => ({
    label: textLine(option.text, surface.store),
    hint: words(option.description),
    testid: `option-${option.value}`,
    href: option.url ? safeUrl(option.url) : null,
    pick: () => interact(node, { element, blockId, surface, payload: { selected_option: option } }),
  }));
  const node = h(
    "button",
    {
      class: "icon-button",
      type: "button",
      "aria-label": "More actions",
      "aria-haspopup": "menu",
      "data-testid": `overflow-${element.action_id}`,
      onclick: () => openMenu(node, items),
    },
    icon("more"),
  );
  return node;
}

const imageElement = (element) =>
  picture(element.image_url ?? fileAddress(element.slack_file), element.alt_text, "picture picture-small");

function unavailable(element) {
  return h(
    "button",
    { class: "button", type: "button", disabled: true, title: "Not available in the local workspace" },
    textLine(element.text),
  );
}

/** Selects, pickers, checkboxes and radio buttons outside an input block act as soon as something is chosen. */
function chooser(element, blockId, surface) {
  const values = surface.values;
  const state = values?.get(blockId, element.action_id) ?? firstState(element);
  values?.set(blockId, element.action_id, state);
  const node = control(element, {
    store: surface.store,
    state,
    label: words(element.placeholder) || "Choose",
    suggest: (value) => surface.suggest(blockId, element.action_id, value),
    change: (fresh, { commit }) => {
      values?.set(blockId, element.action_id, fresh);
      if (commit) void interact(node, { element, blockId, surface, payload: fresh });
    },
  });
  return node;
}

const ELEMENTS = {
  button,
  icon_button: iconButton,
  feedback_buttons: feedbackButtons,
  overflow,
  image: imageElement,
  workflow_button: unavailable,
};
