/** Selects whose options the app supplies while one types: `external_select` and `multi_external_select`. */
import { h, newId } from "./dom.js";
import { textLine, words } from "./texts.js";

const PAUSE_MS = 200;
const SHORTEST = 3;

/** The control; `suggest(value)` asks the app. See blocks-inputs.js for the rest. */
export function suggestSelect(element, { store, state, change, suggest, shared }) {
  const many = element.type.startsWith("multi_");
  const most = many ? (element.max_selected_items ?? Infinity) : 1;
  let held = many ? [...(state.selected_options ?? [])] : [state.selected_option].filter(Boolean);
  let [offers, chosen, timer, asked] = [[], 0, null, 0];
  const listId = newId("options");
  const chips = h("span", { class: "chips" });
  const list = h("ul", {
    class: "options",
    role: "listbox",
    id: listId,
    hidden: true,
    "aria-label": "Options",
  });
  const field = h("input", {
    ...shared,
    class: "field",
    type: "search",
    role: "combobox",
    autocomplete: "off",
    "aria-autocomplete": "list",
    "aria-controls": listId,
    "aria-expanded": "false",
    placeholder: words(element.placeholder) || "Search",
    oninput: look,
    onfocus: look,
    onblur: () => close(),
    onkeydown: key,
  });

  function look() {
    clearTimeout(timer);
    if (field.value.trim().length < (element.min_query_length ?? SHORTEST)) return close();
    timer = setTimeout(ask, PAUSE_MS);
    return undefined;
  }

  async function ask() {
    const mine = (asked += 1);
    list.replaceChildren(h("li", { class: "quiet" }, "Asking the app…"));
    open(true);
    try {
      const answer = await suggest(field.value.trim());
      if (mine !== asked) return;
      const groups = answer.option_groups ?? [{ options: answer.options ?? [] }];
      offers = groups.flatMap((group) =>
        group.options.map((option) => ({ option, group: words(group.label) })),
      );
      chosen = 0;
      show();
    } catch (problem) {
      if (mine !== asked) return;
      list.replaceChildren(h("li", { class: "quiet", role: "alert" }, problem.message));
    }
  }

  function open(yes) {
    list.hidden = !yes;
    field.setAttribute("aria-expanded", String(yes));
  }

  function close() {
    clearTimeout(timer);
    asked += 1;
    offers = [];
    open(false);
  }

  function show() {
    const rows = offers.flatMap(({ option, group }, at) => [
      group && group !== offers[at - 1]?.group ? h("li", { class: "options-group" }, group) : null,
      h(
        "li",
        {
          role: "option",
          id: `${listId}-${at}`,
          "aria-selected": String(at === chosen),
          "data-testid": `option-${option.value}`,
          onmousedown: (event) => {
            event.preventDefault();
            take(option);
          },
        },
        textLine(option.text, store),
        option.description ? h("span", { class: "choice-hint" }, textLine(option.description, store)) : null,
      ),
    ]);
    list.replaceChildren(
      ...(offers.length > 0 ? rows.filter(Boolean) : [h("li", { class: "quiet" }, "No results")]),
    );
    list.scrollIntoView({ block: "nearest" });
    list.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
    field.setAttribute("aria-activedescendant", offers.length > 0 ? `${listId}-${chosen}` : "");
  }

  function key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Backspace" && field.value === "" && held.length > 0) return keep(held.slice(0, -1));
    if (event.key === "Escape" && !list.hidden) close();
    else if (offers.length === 0) return undefined;
    else if (step) {
      chosen = (chosen + step + offers.length) % offers.length;
      show();
    } else if (event.key === "Enter") take(offers[chosen].option);
    else return undefined;
    event.preventDefault();
    event.stopPropagation();
    return undefined;
  }

  function take(option) {
    field.value = "";
    const others = held.filter((one) => one.value !== option.value);
    keep([...others, option].slice(-most));
    close();
  }

  function keep(options) {
    held = options;
    draw();
    change(
      many
        ? { type: element.type, selected_options: held }
        : { type: element.type, selected_option: held[0] ?? null },
      { commit: true },
    );
  }

  function draw() {
    chips.replaceChildren(
      ...held.map((option) =>
        h(
          "span",
          { class: "chip", "data-testid": `chosen-${option.value}` },
          words(option.text),
          h(
            "button",
            {
              class: "chip-remove",
              type: "button",
              "aria-label": `Remove ${words(option.text)}`,
              onclick: () => keep(held.filter((one) => one !== option)),
            },
            "×",
          ),
        ),
      ),
    );
  }

  draw();
  return h("div", { class: "suggest" }, chips, field, list);
}
