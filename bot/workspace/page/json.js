/** JSON to look into: objects and lists unfold, and are built only when they do. */
import { h } from "./dom.js";

const UNFOLDED = 2;
const LONGEST = 400;

/** The tree of `value`; the first levels are open. */
export const jsonTree = (value) => h("div", { class: "json" }, entry(null, value, 0));

function entry(name, value, depth) {
  const label = name === null ? null : h("span", { class: "json-name" }, `${name}: `);
  if (value === null || typeof value !== "object")
    return h("div", { class: "json-line" }, label, leaf(value));
  const entries = Object.entries(value);
  const [open, close] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
  if (entries.length === 0) return h("div", { class: "json-line" }, label, `${open}${close}`);
  const count = h("span", { class: "quiet" }, `${open}${entries.length}${close}`);
  const node = h(
    "details",
    { open: depth < UNFOLDED && entries.length <= 30 },
    h("summary", {}, label, count),
  );
  const unfold = () => {
    if (node.open && node.childElementCount === 1)
      node.append(
        h(
          "div",
          { class: "json-inside" },
          entries.map(([key, inner]) => entry(key, inner, depth + 1)),
        ),
      );
  };
  node.addEventListener("toggle", unfold);
  unfold();
  return node;
}

function leaf(value) {
  const text = JSON.stringify(value) ?? "undefined";
  if (text.length <= LONGEST) return h("span", { class: `json-${typeof value}` }, text);
  return h(
    "details",
    { class: "json-long" },
    h("summary", {}, `${text.slice(0, 80)}… (${text.length} characters)`),
    h("span", { class: "json-string" }, text),
  );
}
