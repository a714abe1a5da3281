/**
 * Slack's own markup, mrkdwn, as nodes: *bold* _italic_ ~strike~ `code` ```pre``` > quote, lists, <links>, <@people>.
 *
 * It reads text as Slack stores it (& < > arrive escaped) and never fails: what is not markup is text.
 */
import { codeBlock } from "./code.js";
import { h } from "./dom.js";
import { emoji } from "./emoji.js";
import { link } from "./links.js";
import { broadcastMention, channelMention, personMention } from "./names.js";
import { dateFromPattern } from "./time.js";

const FENCE = /```\n?([\s\S]*?)\n?```/g;
const QUOTE = /^(?:&gt;|>) ?/;
const BULLET = /^(\s*)(?:[•◦▪-]|\*)\s+(?=\S)/;
const NUMBER = /^(\s*)(\d{1,4})[.)]\s+(?=\S)/;
const DEEPEST = 6;

/** `&lt;` becomes `<`, and so on: the last step before text is shown. */
export const unescaped = (text) =>
  text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");

/** A whole message or text object: paragraphs, lists, quotes and code, as an array of nodes. */
export function mrkdwn(text, store) {
  const nodes = [];
  let from = 0;
  for (const found of String(text).matchAll(FENCE)) {
    nodes.push(...lines(text.slice(from, found.index), store));
    nodes.push(codeBlock(unescaped(found[1]), "", "wrapped"));
    from = found.index + found[0].length;
  }
  nodes.push(...lines(String(text).slice(from), store));
  return nodes;
}

/** Text inside one line: no lists, no quotes, no code blocks. */
export const mrkdwnLine = (text, store) => inline(String(text), store, 0);

function kindOf(line, inQuote) {
  if (!inQuote && QUOTE.test(line)) return "quote";
  if (BULLET.test(line)) return "bullets";
  return NUMBER.test(line) ? "numbers" : "text";
}

/** A quote holds no further quote, as in Slack. */
function lines(text, store, inQuote = false) {
  const all = text.replace(/^\n/, "").replace(/\n$/, "").split("\n");
  if (all.length === 1 && all[0] === "") return [];
  const nodes = [];
  for (let at = 0; at < all.length;) {
    const kind = kindOf(all[at], inQuote);
    let end = at + 1;
    while (end < all.length && kindOf(all[end], inQuote) === kind) end += 1;
    nodes.push(RUNS[kind](all.slice(at, end), store));
    at = end;
  }
  return nodes;
}

const RUNS = {
  quote: (run, store) =>
    h("blockquote", {}, lines(run.map((line) => line.replace(QUOTE, "")).join("\n"), store, true)),
  bullets: (run, store) => listOf("ul", run, BULLET, store),
  numbers: (run, store) => listOf("ol", run, NUMBER, store),
  text: (run, store) =>
    h(
      "p",
      {},
      run.flatMap((line, at) => [at > 0 ? h("br") : null, inline(line, store, 0)]),
    ),
};

function listOf(tag, run, mark, store) {
  const first = tag === "ol" ? Number(NUMBER.exec(run[0])[2]) : undefined;
  const items = run.map((line) => {
    const depth = Math.min(4, Math.floor(mark.exec(line)[1].length / 2));
    return h("li", { class: `depth-${depth}` }, inline(line.replace(mark, ""), store, 0));
  });
  return h(tag, { start: first }, items);
}

const wrap = (tag) => (found, store, depth) => h(tag, {}, inline(found[1], store, depth + 1));

/** By first character: a pattern that must match exactly there, and what it becomes. */
const MARKS = {
  "`": { pattern: /`([^`\n]+)`/y, build: (found) => h("code", { class: "code" }, unescaped(found[1])) },
  "<": {
    pattern: /<([@#!][^<>\n]+|[a-z][a-z0-9+.-]*:[^<>\n]+)>/iy,
    build: (found, store) => reference(found[1], store),
  },
  ":": { pattern: /:([a-z0-9_+'-]+):(?::skin-tone-\d:)?/y, build: (found) => emoji(found[1]) },
  "*": { pattern: /\*(?!\s)([^*\n]*[^*\s])\*(?![\p{L}\p{N}])/uy, build: wrap("strong"), atWordStart: true },
  _: { pattern: /_(?!\s)([^_\n]*[^_\s])_(?![\p{L}\p{N}])/uy, build: wrap("em"), atWordStart: true },
  "~": { pattern: /~(?!\s)([^~\n]*[^~\s])~(?![\p{L}\p{N}])/uy, build: wrap("s"), atWordStart: true },
  h: {
    pattern: /https?:\/\/[^\s<>|]*[^\s<>|.,;:!?'")\]]/y,
    build: (found) => link(unescaped(found[0]), unescaped(found[0])),
    atWordStart: true,
  },
};
const WORD = /[\p{L}\p{N}]/u;

function inline(text, store, depth) {
  if (depth > DEEPEST) return [unescaped(text)];
  const nodes = [];
  let plain = 0;
  for (let at = 0; at < text.length;) {
    const found = markAt(text, at);
    if (!found) {
      at += 1;
      continue;
    }
    if (at > plain) nodes.push(unescaped(text.slice(plain, at)));
    nodes.push(MARKS[text[at]].build(found, store, depth));
    at += found[0].length;
    plain = at;
  }
  if (plain < text.length) nodes.push(unescaped(text.slice(plain)));
  return nodes;
}

function markAt(text, at) {
  const mark = MARKS[text[at]];
  if (!mark || (mark.atWordStart && at > 0 && WORD.test(text[at - 1]))) return null;
  mark.pattern.lastIndex = at;
  return mark.pattern.exec(text);
}

function reference(inside, store) {
  const [target, ...rest] = inside.split("|");
  const words = unescaped(rest.join("|"));
  if (target.startsWith("@")) return personMention(store, target.slice(1));
  if (target.startsWith("#")) return channelMention(store, target.slice(1), words);
  if (target.startsWith("!")) return special(target.slice(1), words);
  const address = unescaped(target);
  return link(address, words || address.replace(/^mailto:/, ""));
}

function special(name, words) {
  if (name.startsWith("date^")) {
    const [, seconds, pattern] = name.split("^");
    return h("time", {}, dateFromPattern(seconds, pattern ?? "{date}", words));
  }
  return broadcastMention(words.replace(/^@/, "") || name.replace(/^subteam\^/, ""));
}

/** The text as its author typed it, for editing: mentions by name, nothing escaped. */
export function asTyped(text, store) {
  const named = String(text).replace(/<([@#])([A-Z0-9]+)(?:\|([^>]*))?>/g, (_, sign, id, words) => {
    const name = sign === "@" ? store.user(id)?.name : store.channel(id)?.name;
    return sign + (name ?? words ?? id);
  });
  const plain = named
    .replace(/<(https?:[^|>]+|mailto:[^|>]+)(?:\|[^>]*)?>/g, "$1")
    .replace(/<!(here|channel|everyone)(?:\|[^>]*)?>/g, "@$1");
  return unescaped(plain);
}

/** One line of plain words, for announcements and tooltips. */
export const asWords = (text, store) =>
  asTyped(text, store)
    .replace(/[*_~`]/g, "")
    .replace(/\s+/g, " ")
    .trim();
