/**
 * Inputs: what a person types or chooses in a modal, on the Home tab or in an actions block.
 *
 * A control's state has the shape Slack sends for it: `{type, value}`, `{type, selected_option}` and so on.
 */
import { upload } from "./api.js";
import { suggestSelect } from "./blocks-suggest.js";
import { h, newId, sizeOf } from "./dom.js";
import { richTextOf, wordsOf } from "./richtext.js";
import { isDirect } from "./store.js";
import { textLine, words } from "./texts.js";

const TYPED = {
  plain_text_input: "text",
  number_input: "number",
  email_text_input: "email",
  url_text_input: "url",
};
const PICKED = {
  datepicker: { input: "date", initial: "initial_date", selected: "selected_date" },
  timepicker: { input: "time", initial: "initial_time", selected: "selected_time" },
};
const LISTED = {
  static_select: "option",
  external_select: "option",
  users_select: "user",
  conversations_select: "conversation",
  channels_select: "channel",
};

/** What an untouched control holds. */
export function firstState(element) {
  const type = element.type;
  if (TYPED[type]) return { type, value: element.initial_value || null };
  if (type === "rich_text_input") return { type, rich_text_value: element.initial_value ?? null };
  if (PICKED[type]) return { type, [PICKED[type].selected]: element[PICKED[type].initial] ?? null };
  if (type === "datetimepicker") return { type, selected_date_time: element.initial_date_time ?? null };
  if (type === "checkboxes") return { type, selected_options: element.initial_options ?? [] };
  if (type === "radio_buttons") return { type, selected_option: element.initial_option ?? null };
  if (type === "file_input") return { type, files: [] };
  const plural = type.startsWith("multi_");
  const thing = LISTED[plural ? type.slice(6) : type] ?? "option";
  if (plural) return { type, [`selected_${thing}s`]: element[`initial_${thing}s`] ?? [] };
  return { type, [`selected_${thing}`]: element[`initial_${thing}`] ?? null };
}

/** Whether nothing was typed or chosen. */
export function isEmpty(state) {
  if (state.type === "rich_text_input") return wordsOf(state.rich_text_value).trim() === "";
  return Object.entries(state).every(
    ([name, value]) =>
      name === "type" || value === null || value === "" || (Array.isArray(value) && value.length === 0),
  );
}

/**
 * The control of an element. `change(state, {commit})` hears every change; `commit` says that the choice is made (a
 * letter typed is not); `suggest(value)` asks the app for options. `label`, `id`, `describedby` name it for people who
 * do not see it.
 */
export function control(element, { store, state, change, suggest, id = newId("input"), label, describedby }) {
  const shared = {
    id,
    "aria-label": label,
    "aria-describedby": describedby,
    "data-testid": `input-${element.action_id}`,
  };
  const build = builderOf(element);
  return build(element, { store, state, change, suggest, shared });
}

function builderOf(element) {
  const type = element.type;
  if (type === "plain_text_input" && element.multiline) return textArea;
  if (type === "rich_text_input") return richTextArea;
  if (TYPED[type]) return textField;
  if (PICKED[type]) return picker;
  if (type === "datetimepicker") return dateAndTime;
  if (type === "checkboxes" || type === "radio_buttons") return choices;
  if (type === "external_select" || type === "multi_external_select") return suggestSelect;
  if (type === "file_input") return fileInput;
  if (type.startsWith("multi_") && LISTED[type.slice(6)]) return multiSelect;
  return LISTED[type] ? select : missing;
}

const missing = (element) =>
  h("p", { class: "not-shown" }, `The local workspace has no ${element.type} input.`);

function textField(element, { state, change, shared }) {
  const make = (value, commit) =>
    change({ type: element.type, value: value === "" ? null : value }, { commit });
  const field = h("input", {
    ...shared,
    class: "field",
    type: TYPED[element.type],
    value: state.value ?? "",
    placeholder: words(element.placeholder) || null,
    maxlength: element.max_length,
    min: element.min_value,
    max: element.max_value,
    step: element.type === "number_input" ? (element.is_decimal_allowed ? "any" : "1") : null,
    oninput: () => make(field.value, false),
    onkeydown: (event) => event.key === "Enter" && make(field.value, true),
  });
  return field;
}

function textArea(element, { state, change, shared }) {
  const area = h("textarea", {
    ...shared,
    class: "field field-tall",
    rows: 5,
    placeholder: words(element.placeholder) || null,
    maxlength: element.max_length,
    value: state.value ?? "",
    oninput: () => {
      count();
      change({ type: element.type, value: area.value === "" ? null : area.value }, { commit: false });
    },
  });
  const counter = h("span", { class: "counter", "aria-hidden": "true" });
  const count = () =>
    counter.replaceChildren(element.max_length ? `${area.value.length} / ${element.max_length}` : "");
  count();
  return h("div", { class: "field-frame" }, area, counter);
}

function richTextArea(element, { state, change, shared }) {
  const area = h("textarea", {
    ...shared,
    class: "field field-tall",
    rows: 6,
    placeholder: words(element.placeholder) || null,
    value: wordsOf(state.rich_text_value),
    oninput: () => change({ type: element.type, rich_text_value: richTextOf(area.value) }, { commit: false }),
  });
  return area;
}

function picker(element, { state, change, shared }) {
  const { input, selected } = PICKED[element.type];
  const field = h("input", {
    ...shared,
    class: "field field-short",
    type: input,
    value: state[selected] ?? "",
    onchange: () => change({ type: element.type, [selected]: field.value || null }, { commit: true }),
  });
  return field;
}

function dateAndTime(element, { state, change, shared }) {
  const offset = (date) =>
    new Date(date.getTime() - date.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
  const field = h("input", {
    ...shared,
    class: "field field-short",
    type: "datetime-local",
    value: state.selected_date_time ? offset(new Date(state.selected_date_time * 1000)) : "",
    onchange: () => {
      const seconds = field.value ? Math.floor(new Date(field.value).getTime() / 1000) : null;
      change({ type: element.type, selected_date_time: seconds }, { commit: true });
    },
  });
  return field;
}

const MOST_FILES = 10;

/** Files that are sent with the form: each is uploaded when it is chosen. */
function fileInput(element, { store, state, change, shared }) {
  const most = element.max_files ?? MOST_FILES;
  let files = [...(state.files ?? [])];
  const chips = h("span", { class: "chips" });
  const field = h("input", {
    ...shared,
    class: "field",
    type: "file",
    multiple: most > 1,
    accept: element.filetypes?.map((name) => `.${name}`).join(",") || null,
    onchange: () => void take([...field.files]),
  });

  async function take(chosen) {
    field.disabled = true;
    try {
      const { kept } = await upload({ user: store.userId }, chosen.slice(0, most));
      keep([...files, ...kept].slice(-most));
      if (chosen.length > most) store.notice(`This input takes at most ${most} files.`);
    } catch (problem) {
      store.problem(problem);
    } finally {
      field.disabled = false;
      field.value = "";
    }
  }

  function keep(wanted) {
    files = wanted;
    chips.replaceChildren(...files.map(chip));
    change({ type: element.type, files }, { commit: true });
  }

  const chip = (file) =>
    h(
      "span",
      { class: "chip", "data-testid": "chosen-file" },
      `${file.name} (${sizeOf(file.size)})`,
      h(
        "button",
        {
          class: "chip-remove",
          type: "button",
          "aria-label": `Remove ${file.name}`,
          onclick: () => keep(files.filter((one) => one !== file)),
        },
        "×",
      ),
    );

  chips.append(...files.map(chip));
  return h("div", { class: "suggest" }, chips, field);
}

const sameOption = (one, other) => one?.value === other?.value;

/** Checkboxes and radio buttons: options with an optional description. */
function choices(element, { store, state, change, shared }) {
  const many = element.type === "checkboxes";
  const group = newId("choices");
  const boxes = element.options.map((option) => {
    const held = many
      ? (state.selected_options ?? []).some((one) => sameOption(one, option))
      : sameOption(state.selected_option, option);
    return h("input", {
      type: many ? "checkbox" : "radio",
      name: group,
      value: option.value,
      checked: held,
      "data-testid": `option-${option.value}`,
      onchange: report,
    });
  });
  function report() {
    const held = element.options.filter((_, at) => boxes[at].checked);
    change(
      many
        ? { type: element.type, selected_options: held }
        : { type: element.type, selected_option: held[0] ?? null },
      { commit: true },
    );
  }
  const rows = element.options.map((option, at) => {
    const hint = option.description
      ? h("span", { class: "choice-hint" }, textLine(option.description, store))
      : null;
    return h("label", { class: "choice" }, boxes[at], h("span", {}, textLine(option.text, store), hint));
  });
  return h("div", { ...shared, class: "choices", role: many ? "group" : "radiogroup" }, rows);
}

/** What a select offers: `{label, value, held}`, in groups where the element has them. `held` is what its state keeps. */
function offers(element, store) {
  const thing = LISTED[element.type.replace(/^multi_/, "")];
  if (thing === "user")
    return [
      {
        offers: store.users.map((user) => ({
          label: user.real_name || user.name,
          value: user.id,
          held: user.id,
        })),
      },
    ];
  if (thing === "conversation" || thing === "channel") {
    const kinds = thing === "channel" ? ["public"] : element.filter?.include;
    const channels = store.channels.filter((channel) => !kinds || kinds.includes(channel.kind));
    return [
      {
        offers: channels.map((channel) => ({
          label: `${isDirect(channel) ? "@" : "#"}${channel.name}`,
          value: channel.id,
          held: channel.id,
        })),
      },
    ];
  }
  const groups = element.option_groups ?? [{ options: element.options ?? [] }];
  return groups.map((group) => ({
    label: words(group.label),
    offers: group.options.map((option) => ({
      label: words(option.text),
      hint: words(option.description),
      value: option.value,
      held: option,
    })),
  }));
}

const valueOf = (held) => (typeof held === "object" && held !== null ? held.value : held);

function select(element, { store, state, change, shared }) {
  const key = `selected_${LISTED[element.type]}`;
  const groups = offers(element, store);
  const all = groups.flatMap((group) => group.offers);
  const current = valueOf(state[key]);
  const option = (offer) =>
    h(
      "option",
      { value: offer.value, selected: offer.value === current },
      offer.hint ? `${offer.label} – ${offer.hint}` : offer.label,
    );
  const nodes = groups.map((group) =>
    group.label ? h("optgroup", { label: group.label }, group.offers.map(option)) : group.offers.map(option),
  );
  const node = h(
    "select",
    {
      ...shared,
      class: "field field-select",
      onchange: () =>
        change(
          { type: element.type, [key]: all.find((offer) => offer.value === node.value)?.held ?? null },
          { commit: true },
        ),
    },
    h(
      "option",
      { value: "", selected: current === undefined || current === null },
      words(element.placeholder) || "Choose an option",
    ),
    nodes,
  );
  return node;
}

/** Several of a list: a box that unfolds, with one checkbox for each. */
function multiSelect(element, { store, state, change, shared }) {
  const key = `selected_${LISTED[element.type.slice(6)]}s`;
  const all = offers(element, store).flatMap((group) => group.offers);
  const held = new Set((state[key] ?? []).map(valueOf));
  const summary = h("summary", { class: "field field-select", "aria-label": shared["aria-label"] });
  const show = () => {
    const chosen = all.filter((offer) => held.has(offer.value));
    summary.replaceChildren(
      ...(chosen.length > 0
        ? chosen.map((offer) => h("span", { class: "chip" }, offer.label))
        : [words(element.placeholder) || "Choose options"]),
    );
  };
  const toggle = (offer, on) => {
    if (on) held.add(offer.value);
    else held.delete(offer.value);
    show();
    limit();
    change(
      { type: element.type, [key]: all.filter((one) => held.has(one.value)).map((one) => one.held) },
      { commit: true },
    );
  };
  const boxes = new Map();
  const limit = () => {
    const full = held.size >= (element.max_selected_items ?? Infinity);
    for (const [value, box] of boxes) box.disabled = full && !held.has(value);
  };
  const row = (offer) => {
    const box = h("input", {
      type: "checkbox",
      checked: held.has(offer.value),
      "data-testid": `option-${offer.value}`,
      onchange: () => toggle(offer, box.checked),
    });
    boxes.set(offer.value, box);
    return h(
      "label",
      { class: "choice" },
      box,
      h("span", {}, offer.label, offer.hint ? h("span", { class: "choice-hint" }, offer.hint) : null),
    );
  };
  show();
  const rows = all.map(row);
  limit();
  return h(
    "details",
    { ...shared, class: "multi-select" },
    summary,
    h("div", { class: "multi-select-list" }, rows),
  );
}
