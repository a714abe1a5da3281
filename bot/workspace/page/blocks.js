/**
 * Block Kit as people know it. One small renderer per block type; an unknown or broken block says so in its place
 * instead of taking the message with it.
 */
import { card, carousel, container, plan, taskCard } from "./blocks-cards.js";
import { chart } from "./blocks-charts.js";
import { control, firstState } from "./blocks-inputs.js";
import { dataTable, table } from "./blocks-tables.js";
import { h, newId, sizeOf } from "./dom.js";
import { interact, renderElement } from "./elements.js";
import { icon } from "./icons.js";
import { fileAddress, link, ownAddress, picture } from "./links.js";
import { markdown } from "./markdown.js";
import { richText } from "./richtext.js";
import { textLine, textObject, words } from "./texts.js";

/** The nodes of a list of blocks on a surface (see elements.js). */
export const renderBlocks = (blocks, surface) =>
  blocks.map((block) => renderBlock(block, surface)).filter(Boolean);

function renderBlock(block, surface) {
  const build = BLOCKS[block.type];
  try {
    const inside = build ? build(block, surface) : notShown(block, "has no picture of this block yet");
    return (
      inside && h("div", { class: `block block-${block.type}`, "data-block-id": block.block_id }, inside)
    );
  } catch (problem) {
    return h("div", { class: "block" }, notShown(block, `could not show this block (${problem.message})`));
  }
}

function notShown(block, why) {
  const source = h("pre", { class: "code-block" }, JSON.stringify(block, null, 2));
  return h(
    "details",
    { class: "not-shown" },
    h("summary", {}, `The local workspace ${why}: ${block.type}`),
    source,
  );
}

function section(block, surface) {
  const { store } = surface;
  const fields = (block.fields ?? []).map((field) =>
    h("div", { class: "section-field" }, textObject(field, store)),
  );
  const body = h(
    "div",
    { class: "section-body" },
    textObject(block.text, store),
    fields.length > 0 ? h("div", { class: "section-fields" }, fields) : null,
  );
  const accessory = block.accessory && renderElement(block.accessory, block.block_id, surface);
  return [
    long(body, `${surface.key}:${block.block_id}`, store),
    accessory ? h("div", { class: "section-accessory" }, accessory) : null,
  ];
}

const LONG_TEXT = 2600;

/** Folds what is very long, and remembers whether it was unfolded. */
export function long(node, key, store) {
  if (node.textContent.length < LONG_TEXT) return node;
  const memory = `unfolded:${key}`;
  const button = h("button", {
    class: "link-button",
    type: "button",
    "data-testid": "show-more",
    onclick: () => show(!store.remembered(memory, false)),
  });
  const frame = h("div", { class: "long" }, h("div", { class: "long-text" }, node), button);
  function show(unfolded) {
    store.remember(memory, unfolded);
    frame.classList.toggle("folded", !unfolded);
    button.textContent = unfolded ? "Show less" : "Show more";
    button.setAttribute("aria-expanded", String(unfolded));
  }
  show(store.remembered(memory, false));
  return frame;
}

/** A heading under the channel's own, or on the Home tab right under its name. */
const header = (block, { kind }) =>
  h(
    kind === "home" ? "h2" : "h3",
    { class: `header-block header-${block.level ?? 1}` },
    textLine(block.text),
  );

function context(block, surface) {
  return block.elements.map((element) =>
    element.type === "image"
      ? renderElement(element, block.block_id, surface)
      : h("span", { class: "context-text" }, textLine(element, surface.store)),
  );
}

function actions(block, surface) {
  return block.elements.map((element) => renderElement(element, block.block_id, surface)).filter(Boolean);
}

function image(block, surface) {
  const source = block.image_url ?? fileAddress(block.slack_file);
  const caption = block.title ? h("figcaption", {}, textLine(block.title, surface.store)) : null;
  return h("figure", {}, caption, picture(source, block.alt_text));
}

function input(block, surface) {
  const { element } = block;
  const { store, values, errors } = surface;
  const [id, label, hint, error] = ["input", "label", "hint", "error"].map(newId);
  const problem = errors?.[block.block_id];
  const state = values?.get(block.block_id, element.action_id) ?? firstState(element);
  values?.set(block.block_id, element.action_id, state);
  const node = control(element, {
    store,
    state,
    id,
    suggest: (value) => surface.suggest(block.block_id, element.action_id, value),
    describedby: problem ? `${error} ${hint}` : hint,
    change: (fresh, { commit }) => {
      values?.set(block.block_id, element.action_id, fresh);
      if (block.dispatch_action && commit)
        void interact(node, { element, blockId: block.block_id, surface, payload: fresh });
    },
  });
  nameControl(node, label, problem);
  const optional = block.optional ? h("span", { class: "optional" }, " (optional)") : null;
  return [
    h("label", { id: label, for: id, class: "input-label" }, textLine(block.label, store), optional),
    node,
    h("p", { id: hint, class: "input-hint" }, block.hint ? textLine(block.hint, store) : null),
    problem
      ? h(
          "p",
          { id: error, class: "input-error", role: "alert", "data-testid": `error-${block.block_id}` },
          problem,
        )
      : null,
  ];
}

function nameControl(node, labelId, problem) {
  const field = node.matches("input, textarea, select, [role], details")
    ? node
    : (node.querySelector("input, textarea, select") ?? node);
  field.setAttribute("aria-labelledby", labelId);
  if (problem) field.setAttribute("aria-invalid", "true");
}

const ALERTS = { info: "ℹ️", warning: "⚠️", error: "⛔", success: "✅", default: "💬" };

function alert(block, surface) {
  const level = ALERTS[block.level] ? block.level : "default";
  return h(
    "div",
    { class: `alert alert-${level}`, role: level === "error" ? "alert" : "note" },
    h("span", { "aria-hidden": "true" }, ALERTS[level]),
    h("div", {}, textObject(block.text, surface.store)),
  );
}

function file(block, surface) {
  const known = surface.files?.find(
    (one) => one.external_id === block.external_id || one.id === block.file_id,
  );
  return fileCard(known ?? { name: block.external_id ?? block.file_id });
}

/** A file as a small card, with its picture where it is one; a link where it can be fetched. */
export function fileCard({ name, title, url_private: address, permalink, size, mimetype }) {
  const about = [mimetype, Number.isFinite(size) ? sizeOf(size) : null].filter(Boolean).join(" · ");
  const caption = title || name || "File";
  const href = ownAddress(address) ?? address ?? permalink;
  const card = h(
    "div",
    { class: "file-card" },
    icon("file"),
    h("span", {}, href ? link(href, caption) : caption, h("span", { class: "quiet" }, about)),
  );
  const image = mimetype?.startsWith("image/") && address;
  return h("div", { class: "file", "data-testid": "file" }, card, image ? picture(address, caption) : null);
}

function video(block) {
  return h(
    "div",
    { class: "file-card" },
    "🎬 ",
    h(
      "span",
      {},
      link(block.title_url ?? block.video_url, words(block.title) || "Video"),
      h("span", { class: "quiet" }, words(block.description)),
    ),
  );
}

/** A call in another program: who is in it and how to join. */
function call({ call_id: id, call: details }, { store }) {
  const { display_id: number, name, join_url: address, active_participants: people = [] } = details?.v1 ?? {};
  const who = people.map((one) => store.user(one.slack_id)?.real_name ?? one.display_name).filter(Boolean);
  const title = name || number || id || "Call";
  return h(
    "div",
    { class: "file-card" },
    "📞 ",
    h(
      "span",
      {},
      address ? link(address, title) : title,
      h("span", { class: "quiet" }, who.length > 0 ? who.join(", ") : "Call"),
    ),
  );
}

const BLOCKS = {
  call,
  section,
  header,
  context,
  actions,
  image,
  input,
  alert,
  file,
  video,
  card,
  table,
  plan,
  divider: () => h("hr"),
  context_actions: actions,
  rich_text: (block, surface) => richText(block, surface.store),
  markdown: (block, surface) => markdown(block.text ?? "", surface.store),
  data_table: dataTable,
  data_visualization: chart,
  task_card: taskCard,
  carousel,
  container: (block, surface) => container(block, surface, renderBlocks),
};
