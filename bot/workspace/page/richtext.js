/** `rich_text` blocks as nodes: sections, lists, quotes, preformatted text and everything that stands inside them. */
import { codeBlock } from "./code.js";
import { h } from "./dom.js";
import { characterOf } from "./emoji.js";
import { link } from "./links.js";
import { broadcastMention, channelMention, personMention } from "./names.js";
import { dateFromPattern } from "./time.js";

/** The nodes of a `rich_text` block. */
export const richText = (block, store) => (block?.elements ?? []).map((element) => part(element, store));

function part(element, store) {
  const inside = () => (element.elements ?? []).map((piece) => styled(piece, store));
  if (element.type === "rich_text_list") return list(element, store);
  if (element.type === "rich_text_quote") return h("blockquote", {}, h("p", {}, inside()));
  if (element.type === "rich_text_preformatted") return codeBlock(plainText(element), element.language);
  return h("p", {}, inside());
}

function list(element, store) {
  const depth = Math.min(4, element.indent ?? 0);
  const items = (element.elements ?? []).map((section) =>
    h(
      "li",
      {},
      (section.elements ?? []).map((piece) => styled(piece, store)),
    ),
  );
  const ordered = element.style === "ordered";
  return h(
    ordered ? "ol" : "ul",
    { class: `depth-${depth}`, start: ordered && element.offset ? element.offset + 1 : null },
    items,
  );
}

const plainText = (element) =>
  (element.elements ?? []).map((piece) => piece.text ?? piece.url ?? "").join("");

/** Text with its line breaks. */
const broken = (text) =>
  String(text ?? "")
    .split("\n")
    .flatMap((line, at) => (at > 0 ? [h("br"), line] : [line]));

const PIECES = {
  text: (piece) => broken(piece.text),
  link: (piece) => link(piece.url, piece.text || piece.url),
  user: (piece, store) => personMention(store, piece.user_id),
  channel: (piece, store) => channelMention(store, piece.channel_id),
  usergroup: (piece) => broadcastMention(piece.usergroup_id),
  broadcast: (piece) => broadcastMention(piece.range),
  emoji: (piece) =>
    h(
      "span",
      { class: "emoji", role: "img", "aria-label": piece.name },
      characterOf(piece.name) ?? fromCodes(piece),
    ),
  date: (piece) =>
    h("time", {}, dateFromPattern(piece.timestamp, piece.format ?? "{date}", piece.fallback ?? "")),
  color: (piece) => h("code", { class: "code" }, piece.value),
};

function fromCodes(piece) {
  const codes = /^[0-9a-f]+(-[0-9a-f]+)*$/i.test(piece.unicode ?? "") ? piece.unicode.split("-") : [];
  return codes.length > 0
    ? String.fromCodePoint(...codes.map((code) => Number.parseInt(code, 16)))
    : `:${piece.name}:`;
}

const STYLES = { code: "code", bold: "strong", italic: "em", strike: "s", underline: "u" };

function styled(piece, store) {
  let nodes = [(PIECES[piece.type] ?? ((other) => other.text ?? ""))(piece, store)].flat();
  for (const [style, tag] of Object.entries(STYLES)) {
    if (piece.style?.[style]) nodes = [h(tag, style === "code" ? { class: "code" } : {}, nodes)];
  }
  return nodes;
}

/** A text as the `rich_text` value of an input. */
export const richTextOf = (text) => ({
  type: "rich_text",
  elements: [{ type: "rich_text_section", elements: text === "" ? [] : [{ type: "text", text }] }],
});

/** The words of a `rich_text` value, for an input that begins with it. */
export const wordsOf = (value) =>
  (value?.elements ?? [])
    .map((element) => (element.elements ?? []).map((piece) => piece.text ?? piece.url ?? "").join(""))
    .join("\n");
