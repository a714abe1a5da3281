/** `table` and `data_table`: rows as the app sent them, and pages and sorting where there are many. */
import { h } from "./dom.js";
import { richText } from "./richtext.js";

function cellContent(cell, store) {
  if (cell?.type === "rich_text") return richText(cell, store);
  return cell?.text ?? (cell?.value === undefined ? "" : String(cell.value));
}

const plainOf = (cell) => (cell?.type === "rich_text" ? JSON.stringify(cell.elements) : (cell?.text ?? ""));
const numberOf = (cell) => (cell?.type === "raw_number" ? cell.value : Number.NaN);

function alignOf(setting, cell) {
  if (setting?.align) return `align-${setting.align}`;
  return cell?.type === "raw_number" ? "align-right" : "align-left";
}

/** `table`: the first row is the head. */
export function table(block, { store }) {
  const settings = block.column_settings ?? [];
  const cell = (tag, content, column) =>
    h(
      tag,
      {
        class: `${alignOf(settings[column], content)}${settings[column]?.is_wrapped ? "" : " unwrapped"}`,
        scope: tag === "th" ? "col" : null,
      },
      cellContent(content, store),
    );
  const [head, ...body] = block.rows;
  const rows = body.map((row) =>
    h(
      "tr",
      {},
      row.map((content, column) => cell("td", content, column)),
    ),
  );
  return h(
    "div",
    { class: "table-frame", tabindex: "0" },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          head.map((content, column) => cell("th", content, column)),
        ),
      ),
      h("tbody", {}, rows),
    ),
  );
}

const FIRST = { page: 0, column: null, down: false };

/** `data_table`: caption, sortable columns, pages of `page_size` rows (Slack's default is 5). */
export function dataTable(block, { store, key }) {
  const memory = `table:${key}:${block.caption}`;
  const frame = h("div", { class: "data-table", "data-testid": "data-table" });
  const show = (change) => {
    store.remember(memory, { ...store.remembered(memory, FIRST), ...change });
    frame.replaceChildren(...dataTableParts(block, store, store.remembered(memory, FIRST), show));
  };
  show({});
  return frame;
}

function dataTableParts(block, store, state, show) {
  const [head, ...body] = block.rows;
  const size = block.page_size ?? 5;
  const pages = Math.max(1, Math.ceil(body.length / size));
  const page = Math.min(state.page, pages - 1);
  const rows = sorted(body, state).slice(page * size, (page + 1) * size);
  const rowHead = block.row_header_column_index ?? 0;
  const frame = h(
    "div",
    { class: "table-frame", tabindex: "0" },
    h(
      "table",
      {},
      h("caption", {}, block.caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          head.map((cell, column) => headCell(cell, column, body, state, show)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            {},
            row.map((cell, column) => bodyCell(cell, column === rowHead, store)),
          ),
        ),
      ),
    ),
  );
  return pages > 1 ? [frame, pager(page, pages, body.length, show)] : [frame];
}

function headCell(cell, column, body, state, show) {
  const held = state.column === column;
  const sort = held ? (state.down ? "descending" : "ascending") : "none";
  const mark = held ? (state.down ? " ↓" : " ↑") : "";
  const button = h(
    "button",
    {
      class: "sort-button",
      type: "button",
      "data-testid": `sort-${column}`,
      onclick: () => show({ column, down: held && !state.down, page: 0 }),
    },
    `${cell.text ?? ""}${mark}`,
  );
  return h("th", { scope: "col", "aria-sort": sort, class: alignOf(null, body[0]?.[column]) }, button);
}

function bodyCell(cell, isHead, store) {
  return h(
    isHead ? "th" : "td",
    { class: alignOf(null, cell), scope: isHead ? "row" : null },
    cellContent(cell, store),
  );
}

function sorted(rows, { column, down }) {
  if (column === null) return rows;
  const direction = down ? -1 : 1;
  return [...rows].sort((a, b) => {
    const difference = numberOf(a[column]) - numberOf(b[column]);
    return (
      direction *
      (Number.isNaN(difference)
        ? plainOf(a[column]).localeCompare(plainOf(b[column]), undefined, { numeric: true })
        : difference)
    );
  });
}

function pager(page, pages, count, show) {
  const step = (to, label, name) =>
    h(
      "button",
      {
        class: "button button-small",
        type: "button",
        "data-testid": `page-${name}`,
        disabled: to < 0 || to >= pages,
        onclick: () => show({ page: to }),
      },
      label,
    );
  return h(
    "div",
    { class: "pager" },
    step(page - 1, "Previous", "previous"),
    h("span", { "aria-live": "polite" }, `Page ${page + 1} of ${pages} · ${count} rows`),
    step(page + 1, "Next", "next"),
  );
}
