/** What unfolds or stands in a frame: task cards and plans, cards and carousels, containers. */
import { h } from "./dom.js";
import { renderElement } from "./elements.js";
import { link, picture } from "./links.js";
import { richText } from "./richtext.js";
import { textLine, textObject, words } from "./texts.js";

const STATES = {
  pending: { mark: "", name: "waiting" },
  in_progress: { mark: "", name: "in progress" },
  complete: { mark: "✓", name: "done" },
  error: { mark: "!", name: "failed" },
};

/** One task with its state; details, output and sources unfold. */
export function taskCard(task, surface) {
  const state = STATES[task.status] ? task.status : "pending";
  const mark = h(
    "span",
    { class: `task-mark task-${state}`, role: "img", "aria-label": STATES[state].name },
    STATES[state].mark,
  );
  const title = h("span", { class: "task-title" }, words(task.title));
  const more = taskMore(task, surface.store);
  const testid = `task-${task.task_id ?? task.id}`;
  if (more.length === 0)
    return h(
      "div",
      { class: "task", "data-testid": testid, "data-status": state },
      h("div", { class: "task-line" }, mark, title),
    );
  const body = h("div", { class: "task-more" }, more);
  return h(
    "div",
    { class: "task", "data-testid": testid, "data-status": state },
    folding(
      `task:${surface.key}:${testid}`,
      state === "error",
      surface.store,
      [mark, title],
      body,
      "task-line",
    ),
  );
}

function taskMore(task, store) {
  const text = (value) => (typeof value === "string" ? [h("p", {}, value)] : richText(value, store));
  const sources = (task.sources ?? []).map((source) =>
    h("li", {}, link(source.url, source.text || source.url)),
  );
  return [
    task.details ? h("div", { class: "task-details" }, text(task.details)) : null,
    task.output ? h("div", { class: "task-output" }, text(task.output)) : null,
    sources.length > 0 ? h("ul", { class: "task-sources" }, sources) : null,
  ].filter(Boolean);
}

/** A `<details>` that stays as the reader left it when its message is drawn again. */
function folding(key, openAtFirst, store, summary, body, className) {
  const node = h(
    "details",
    { open: store.remembered(key, openAtFirst) },
    h("summary", { class: className }, summary),
    body,
  );
  node.addEventListener("toggle", () => store.remember(key, node.open));
  return node;
}

/** A titled list of tasks with how many are done. */
export function plan(block, surface) {
  const done = block.tasks.filter((task) => task.status === "complete").length;
  const running = block.tasks.some((task) => task.status === "in_progress");
  const failed = block.tasks.some((task) => task.status === "error");
  const state = failed
    ? "error"
    : done === block.tasks.length
      ? "complete"
      : running
        ? "in_progress"
        : "pending";
  const head = [
    h(
      "span",
      { class: `task-mark task-${state}`, role: "img", "aria-label": STATES[state].name },
      STATES[state].mark,
    ),
    h("span", { class: "plan-title" }, words(block.title)),
    h("span", { class: "quiet" }, `${done} of ${block.tasks.length}`),
  ];
  const tasks = h(
    "div",
    { class: "plan-tasks" },
    block.tasks.map((task) => taskCard(task, surface)),
  );
  return h(
    "div",
    { class: "plan", "data-testid": "plan" },
    folding(`plan:${surface.key}:${words(block.title)}`, true, surface.store, head, tasks, "plan-head"),
  );
}

const ICONS = {
  rocket: "🚀",
  check: "✔️",
  bot: "🤖",
  star: "⭐",
  "star-filled": "⭐",
  warning: "⚠️",
  info: "ℹ️",
  book: "📖",
  file: "📄",
  gear: "⚙️",
  lightbulb: "💡",
  flag: "🚩",
  heart: "❤️",
  key: "🔑",
  bug: "🐛",
  calendar: "📅",
  user: "👤",
  tag: "🏷️",
  link: "🔗",
  globe: "🌐",
  sparkle: "✨",
  "thumbs-up": "👍",
  "thumbs-down": "👎",
  trash: "🗑️",
  clipboard: "📋",
  code: "💻",
  folder: "📁",
  email: "✉️",
  help: "❓",
};

function cardIcon(block) {
  if (block.icon) return picture(block.icon.image_url, block.icon.alt_text, "picture picture-small");
  return block.slack_icon
    ? h("span", { class: "card-icon", "aria-hidden": "true" }, ICONS[block.slack_icon.name] ?? "▫️")
    : null;
}

/** A card: picture, title, text and up to three buttons. */
export function card(block, surface) {
  const { store } = surface;
  const line = (className, text) => (text ? h("div", { class: className }, textLine(text, store)) : null);
  const buttons = (block.actions ?? [])
    .map((element) => renderElement(element, block.block_id, surface))
    .filter(Boolean);
  return h(
    "article",
    { class: "card" },
    block.hero_image
      ? h("div", { class: "card-hero" }, picture(block.hero_image.image_url, block.hero_image.alt_text))
      : null,
    h(
      "div",
      { class: "card-head" },
      cardIcon(block),
      h("div", {}, line("card-title", block.title), line("card-subtitle", block.subtitle)),
    ),
    block.body ? h("div", { class: "card-body" }, textObject(block.body, store)) : null,
    buttons.length > 0 ? h("div", { class: "card-actions" }, buttons) : null,
    line("card-subtext", block.subtext),
  );
}

/** Cards side by side, scrolled by hand or by arrow keys. */
export const carousel = (block, surface) =>
  h(
    "div",
    { class: "carousel", tabindex: "0", role: "group", "aria-label": "Cards" },
    block.elements.map((one) => card(one, surface)),
  );

/** A frame around other blocks; `renderBlocks` is passed in because a container holds blocks like any other surface. */
export function container(block, surface, renderBlocks) {
  const { store } = surface;
  const title = block.rich_text_title ? richText(block.rich_text_title, store) : textLine(block.title, store);
  const subtitle = block.subtitle
    ? h("div", { class: "card-subtitle" }, textLine(block.subtitle, store))
    : null;
  const head = [cardIcon(block), h("div", {}, h("div", { class: "card-title" }, title), subtitle)];
  const body = h("div", { class: "container-body" }, renderBlocks(block.child_blocks, surface));
  const look = `container container-${["narrow", "standard", "wide", "full"].includes(block.width) ? block.width : "standard"}`;
  if (!block.is_collapsible)
    return h(
      "section",
      { class: look },
      h("div", { class: `card-head${block.has_header_divider ? " divided" : ""}` }, head),
      body,
    );
  return h(
    "section",
    { class: look },
    folding(
      `container:${surface.key}:${words(block.title)}`,
      !block.default_collapsed,
      store,
      head,
      body,
      "card-head",
    ),
  );
}
