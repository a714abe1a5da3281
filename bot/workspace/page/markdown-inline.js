/**
 * Markdown inside a paragraph: emphasis, code, links, line breaks, emoji and mentions of known people and channels.
 *
 * A line break is kept, as in a chat. A mention of everybody (`<!channel>`) is text: a model does not call people.
 */
import { h } from "./dom.js";
import { emoji } from "./emoji.js";
import { link, picture } from "./links.js";
import { channelMention, personMention } from "./names.js";

const DEEPEST = 6;
const WORD = /[\p{L}\p{N}]/u;
const ENTITIES = { "&lt;": "<", "&gt;": ">", "&amp;": "&", "&quot;": '"', "&#39;": "'", "&nbsp;": "\u00a0" };

const styled =
  (tag, group = 1) =>
  (found, store, depth) =>
    h(tag, {}, markdownInline(found[group], store, depth + 1));

/** By first character, in order of preference: a pattern that must match exactly there, and what it becomes. */
const MARKS = {
  "\\": [{ pattern: /\\([!-/:-@[-`{-~])/y, build: (found) => found[1] }],
  "`": [
    {
      pattern: /(`+)(?!`)([^`]|[^`][\s\S]*?[^`])\1(?!`)/y,
      build: (found) => h("code", { class: "code" }, found[2].replace(/^ (.+) $/, "$1")),
    },
  ],
  "!": [
    {
      pattern: /!\[([^\]\n]*)\]\(\s*<?([^\s)>]+)>?(?:\s+"[^"\n]*")?\s*\)/y,
      build: (found) => picture(found[2], found[1], "picture picture-inline"),
    },
  ],
  "[": [
    {
      pattern:
        /\[((?:[^[\]\n]|\[[^[\]\n]*\])+)\]\(\s*<?((?:[^\s()<>]|\([^\s()]*\))+)>?(?:\s+"[^"\n]*")?\s*\)/y,
      build: (found, store, depth) => link(found[2], markdownInline(found[1], store, depth + 1)),
    },
  ],
  "<": [
    { pattern: /<@([UW][A-Z0-9]+)(?:\|[^>\n]*)?>/y, build: (found, store) => personMention(store, found[1]) },
    {
      pattern: /<#(C[A-Z0-9]+)(?:\|([^>\n]*))?>/y,
      build: (found, store) => channelMention(store, found[1], found[2]),
    },
    {
      pattern: /<((?:https?:\/\/|mailto:)[^\s<>|]+)(?:\|([^<>\n]+))?>/y,
      build: (found) => link(found[1], found[2] ?? found[1]),
    },
  ],
  "*": [
    {
      pattern: /\*\*\*(?!\s)([^\n]*?[^\s*])\*\*\*/y,
      build: (found, store, depth) =>
        h("strong", {}, h("em", {}, markdownInline(found[1], store, depth + 1))),
    },
    { pattern: /\*\*(?!\s)([^\n]*?[^\s])\*\*(?!\*)/y, build: styled("strong") },
    { pattern: /\*(?![\s*])((?:[^*\n]|\*\*[^*\n]+\*\*)*?[^\s*])\*(?!\*)/y, build: styled("em") },
  ],
  _: [
    { pattern: /__(?!\s)([^\n]*?[^\s])__(?![\p{L}\p{N}_])/uy, build: styled("strong"), atWordStart: true },
    { pattern: /_(?![\s_])([^_\n]*[^\s_])_(?![\p{L}\p{N}_])/uy, build: styled("em"), atWordStart: true },
  ],
  "~": [{ pattern: /(~~?)(?![\s~])([^~\n]*[^\s~])\1(?!~)/y, build: styled("s", 2) }],
  ":": [{ pattern: /:([a-z0-9_+'-]+):/y, build: (found) => emoji(found[1]) }],
  "&": [{ pattern: /&(?:lt|gt|amp|quot|#39|nbsp);/y, build: (found) => ENTITIES[found[0]] }],
  "\n": [{ pattern: /\n/y, build: () => h("br") }],
  h: [
    {
      pattern: /https?:\/\/[^\s<>|]*[^\s<>|.,;:!?'")\]*_~`]/y,
      build: (found) => link(found[0], found[0]),
      atWordStart: true,
    },
  ],
};

/** The nodes of one paragraph's text. */
export function markdownInline(text, store, depth = 0) {
  if (depth > DEEPEST) return [text];
  const nodes = [];
  let plain = 0;
  for (let at = 0; at < text.length;) {
    const read = markAt(text, at);
    if (!read) {
      at += 1;
      continue;
    }
    if (at > plain) nodes.push(text.slice(plain, at));
    nodes.push(read.mark.build(read.found, store, depth));
    at += read.found[0].length;
    plain = at;
  }
  if (plain < text.length) nodes.push(text.slice(plain));
  return nodes;
}

function markAt(text, at) {
  for (const mark of MARKS[text[at]] ?? []) {
    if (mark.atWordStart && at > 0 && WORD.test(text[at - 1])) continue;
    mark.pattern.lastIndex = at;
    const found = mark.pattern.exec(text);
    if (found) return { mark, found };
  }
  return null;
}
