/** Slack's text objects (`plain_text`, `mrkdwn`) as nodes. */
import { emoji } from "./emoji.js";
import { mrkdwn, mrkdwnLine } from "./mrkdwn.js";

const SHORTNAME = /:([a-z0-9_+'-]+):/g;

/** Plain words; only emoji shortnames are translated, unless the object says no. */
export function plain(text, withEmoji = true) {
  if (!withEmoji) return [text];
  const nodes = [];
  let from = 0;
  for (const found of text.matchAll(SHORTNAME)) {
    nodes.push(text.slice(from, found.index), emoji(found[1]));
    from = found.index + found[0].length;
  }
  nodes.push(text.slice(from));
  return nodes.filter((node) => node !== "");
}

/** A text object of one line or more: paragraphs, lists and so on where it is mrkdwn. */
export function textObject(object, store) {
  if (!object) return [];
  if (typeof object === "string") return plain(object);
  return object.type === "mrkdwn"
    ? mrkdwn(object.text ?? "", store)
    : plain(object.text ?? "", object.emoji !== false);
}

/** The same where only one line fits: a label, an option, a button. */
export function textLine(object, store) {
  if (!object) return [];
  if (typeof object === "string") return plain(object);
  return object.type === "mrkdwn"
    ? mrkdwnLine(object.text ?? "", store)
    : plain(object.text ?? "", object.emoji !== false);
}

/** The words of a text object, for attributes such as a label. */
export const words = (object) => (typeof object === "string" ? object : (object?.text ?? ""));
