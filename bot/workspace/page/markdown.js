/**
 * Standard Markdown as nodes, for Slack's `markdown` block and for answers that are still growing.
 *
 * HTML in it is text. An unfinished construct (a code fence still open, half a table) is shown as far as it goes.
 */
import { codeBlock } from "./code.js";
import { h } from "./dom.js";
import { markdownInline } from "./markdown-inline.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^\s`]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(\s+|$)(.*)$/;
const TASK = /^\[([ xX])\]\s+(.*)$/s;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;
const DEEPEST = 8;

/** A Markdown text as an array of nodes. */
export const markdown = (text, store) =>
  blocks(String(text).replaceAll("\r\n", "\n").replaceAll("\t", "    ").split("\n"), store, 0);

/** Each reader looks at `lines[at]`; where it finds its construct it gives the node and the next line. */
const READERS = [readFence, readHeading, readRule, readQuote, readTable, readList];

function blocks(lines, store, depth) {
  const nodes = [];
  for (let at = 0; at < lines.length;) {
    if (lines[at].trim() === "") {
      at += 1;
      continue;
    }
    const read = depth > DEEPEST ? null : firstReader(lines, at, store, depth);
    const { node, next } = read ?? readParagraph(lines, at, store);
    nodes.push(node);
    at = next;
  }
  return nodes;
}

function firstReader(lines, at, store, depth) {
  for (const reader of READERS) {
    const read = reader(lines, at, store, depth);
    if (read) return read;
  }
  return null;
}

function readFence(lines, at) {
  const open = FENCE.exec(lines[at]);
  if (!open) return null;
  const closing = new RegExp(`^ {0,3}${open[1][0]}{${open[1].length},}\\s*$`);
  let end = at + 1;
  while (end < lines.length && !closing.test(lines[end])) end += 1;
  return { node: codeBlock(lines.slice(at + 1, end).join("\n"), open[2]), next: end + 1 };
}

function readHeading(lines, at, store) {
  const found = HEADING.exec(lines[at]);
  if (!found) return null;
  const level = Math.min(6, found[1].length + 2);
  return {
    node: h(`h${level}`, { class: `md-heading md-h${found[1].length}` }, markdownInline(found[2], store)),
    next: at + 1,
  };
}

function readRule(lines, at) {
  return RULE.test(lines[at]) ? { node: h("hr"), next: at + 1 } : null;
}

function readQuote(lines, at, store, depth) {
  if (!QUOTE.test(lines[at])) return null;
  let end = at;
  while (
    end < lines.length &&
    lines[end].trim() !== "" &&
    (QUOTE.test(lines[end]) || !beginsBlock(lines, end))
  )
    end += 1;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return { node: h("blockquote", {}, blocks(inner, store, depth + 1)), next: end };
}

/** The cells of a row; a pipe after a backslash or inside code belongs to the cell. */
function cellsOf(line) {
  const cells = [""];
  let code = false;
  const row = line
    .trim()
    .replace(/^\|/, "")
    .replace(/(^|[^\\])\|$/, "$1");
  for (let at = 0; at < row.length; at += 1) {
    if (row[at] === "`") code = !code;
    if (row[at] === "\\" && row[at + 1] === "|") cells[cells.length - 1] += row[(at += 1)];
    else if (row[at] === "|" && !code) cells.push("");
    else cells[cells.length - 1] += row[at];
  }
  return cells.map((cell) => cell.trim());
}

function alignmentOf(mark) {
  if (mark.startsWith(":") && mark.endsWith(":")) return "align-center";
  return mark.endsWith(":") ? "align-right" : "align-left";
}

const isTableAt = (lines, at) =>
  lines[at].includes("|") &&
  TABLE_RULE.test(lines[at + 1] ?? "") &&
  cellsOf(lines[at]).length === cellsOf(lines[at + 1]).length;

function readTable(lines, at, store) {
  if (!isTableAt(lines, at)) return null;
  const head = cellsOf(lines[at]);
  const align = cellsOf(lines[at + 1]).map(alignmentOf);
  let end = at + 2;
  while (end < lines.length && lines[end].trim() !== "" && lines[end].includes("|")) end += 1;
  const cell = (tag, text, column) =>
    h(tag, { class: align[column], scope: tag === "th" ? "col" : null }, markdownInline(text, store));
  const row = (line) => {
    const cells = cellsOf(line);
    return h(
      "tr",
      {},
      head.map((_, column) => cell("td", cells[column] ?? "", column)),
    );
  };
  const table = h(
    "table",
    {},
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        head.map((text, column) => cell("th", text, column)),
      ),
    ),
    h("tbody", {}, lines.slice(at + 2, end).map(row)),
  );
  return { node: h("div", { class: "table-frame", tabindex: "0" }, table), next: end };
}

const indentOf = (line) => line.length - line.trimStart().length;

/** A list: its items with what is indented under them, nested lists included. */
function readList(lines, at, store, depth) {
  const first = ITEM.exec(lines[at]);
  if (!first) return null;
  const base = first[1].length;
  const ordered = /\d/.test(first[2]);
  const items = [];
  let end = at;
  while (end < lines.length) {
    const found = ITEM.exec(lines[end]);
    if (
      !found ||
      Math.abs(found[1].length - base) > 1 ||
      /\d/.test(found[2]) !== ordered ||
      RULE.test(lines[end])
    )
      break;
    const next = endOfItem(lines, end + 1, base);
    items.push(
      itemNode([found[4], ...lines.slice(end + 1, next).map((line) => dedent(line, base + 2))], store, depth),
    );
    end = next;
  }
  const node = h(ordered ? "ol" : "ul", { start: ordered ? Number.parseInt(first[2], 10) : null }, items);
  return items.length > 0 ? { node, next: end } : null;
}

function endOfItem(lines, from, base) {
  let at = from;
  while (at < lines.length) {
    const blank = lines[at].trim() === "";
    if (
      blank &&
      (at + 1 >= lines.length || indentOf(lines[at + 1]) <= base + 1) &&
      !ITEM.test(lines[at + 1] ?? "")
    )
      break;
    if (!blank && indentOf(lines[at]) <= base + 1 && beginsBlock(lines, at)) break;
    if (!blank && indentOf(lines[at]) <= base && lines[at - 1].trim() === "") break;
    at += 1;
  }
  return at;
}

const dedent = (line, by) => line.slice(Math.min(by, indentOf(line)));

function itemNode(lines, store, depth) {
  const task = TASK.exec(lines[0]);
  if (!task) return h("li", {}, loosened(blocks(lines, store, depth + 1)));
  const box = h("input", {
    type: "checkbox",
    checked: task[1] !== " ",
    disabled: true,
    "aria-label": task[1] === " " ? "open" : "done",
  });
  return h("li", { class: "task" }, box, loosened(blocks([task[2], ...lines.slice(1)], store, depth + 1)));
}

/** A list item of one paragraph shows its words without the paragraph around them. */
function loosened(nodes) {
  const [first, ...rest] = nodes;
  return first?.tagName === "P" ? [...first.childNodes, ...rest] : nodes;
}

function beginsBlock(lines, at) {
  const line = lines[at];
  return (
    FENCE.test(line) ||
    HEADING.test(line) ||
    RULE.test(line) ||
    QUOTE.test(line) ||
    ITEM.test(line) ||
    isTableAt(lines, at)
  );
}

function readParagraph(lines, at, store) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() !== "" && !beginsBlock(lines, end)) end += 1;
  return {
    node: h(
      "p",
      {},
      markdownInline(
        lines
          .slice(at, end)
          .map((line) => line.trimStart())
          .join("\n"),
        store,
      ),
    ),
    next: end,
  };
}
