/** People and channels as they are named inside a message, and the coloured initials that stand for a face. */
import { h } from "./dom.js";
import { icon } from "./icons.js";

const COLOURS = 8;

/** "@ben", highlighted where it names the reader. */
export function personMention(store, id) {
  const user = store.user(id);
  const me = store.me?.id === id;
  return h(
    "span",
    { class: me ? "mention mention-me" : "mention", title: user?.real_name },
    `@${user?.name ?? id}`,
  );
}

/** "#help-desk"; a click goes there where the reader is a member. */
export function channelMention(store, id, fallback) {
  const channel = store.channel(id);
  const name = `#${channel?.name ?? fallback ?? id}`;
  if (!channel) return h("span", { class: "mention" }, name);
  return h("a", { class: "mention", href: store.address(id) }, name);
}

export const broadcastMention = (name) => h("span", { class: "mention mention-me" }, `@${name}`);

const initialsOf = (name) =>
  name
    .split(/[\s_-]+/)
    .filter(Boolean)
    .slice(0, 2)
    .map((word) => [...word][0].toUpperCase())
    .join("");

function colourOf(id) {
  let sum = 0;
  for (const letter of id) sum = (sum * 37 + letter.codePointAt(0)) % 9973;
  return sum % COLOURS;
}

/** The coloured square with initials, or the app's mark. Decoration: the name stands beside it. */
export function avatar(user, { small = false, picture = "" } = {}) {
  const name = user?.real_name || user?.name || "?";
  const look = user?.is_bot ? "avatar-app" : `avatar-${colourOf(user?.id ?? name)}`;
  const text = picture || (user?.is_bot ? "🎓" : initialsOf(name));
  return h("span", { class: `avatar ${look}${small ? " avatar-small" : ""}`, "aria-hidden": "true" }, text);
}

/** What stands before a conversation's name: #, a lock, or a face. */
export function markOf(channel, store) {
  const icons = { private: "lock", mpim: "people" };
  return channel.kind === "im"
    ? avatar(store.user(channel.other), { small: true })
    : icon(icons[channel.kind] ?? "hash");
}
