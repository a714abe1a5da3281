/** One message, as people know it: face, name, time, text or blocks, reactions, and what hovering offers. */
import { must } from "./api.js";
import { fileCard, long, renderBlocks } from "./blocks.js";
import { editor } from "./composer.js";
import { confirmed } from "./dialogs.js";
import { h } from "./dom.js";
import { emoji } from "./emoji.js";
import { FormValues } from "./forms.js";
import { icon } from "./icons.js";
import { markdown } from "./markdown.js";
import { openMenu, openPicker } from "./menu.js";
import { asTyped, asWords, mrkdwn } from "./mrkdwn.js";
import { avatar } from "./names.js";
import { surfaceOf } from "./surface.js";
import { ago, clock, inFull } from "./time.js";

/**
 * The node of a message. `place`: `store`, `channel`, `compact` (under a message of the same author), `inThread`,
 * `openThread(ts)`, `redraw()` (after something that only this page knows).
 */
export function renderMessage(message, place) {
  const { store, compact } = place;
  const author = authorOf(message, store);
  const editing = store.remembered(`editing:${place.channel}:${message.ts}`, false);
  const classes = [
    "message",
    compact ? "compact" : "",
    message.ephemeral ? "ephemeral" : "",
    message.streaming ? "streaming" : "",
    editing ? "editing" : "",
  ];
  return h(
    "article",
    {
      class: classes.filter(Boolean).join(" "),
      "data-testid": message.ephemeral ? "ephemeral" : "message",
      "data-ts": message.ts,
      "data-user": message.user,
      tabindex: "-1",
      "aria-label": `${author.name}, ${clock(message.ts)}`,
      "aria-busy": message.streaming ? "true" : null,
    },
    compact
      ? h("span", { class: "gutter-time", "aria-hidden": "true" }, clock(message.ts))
      : avatar(author.user, { picture: author.picture }),
    h(
      "div",
      { class: "message-main" },
      message.ephemeral ? onlyYou(message, place) : null,
      compact ? null : heading(message, author),
      editing ? editBox(message, place) : body(message, place),
      footer(message, place),
    ),
    message.ephemeral || editing || message.subtype === "tombstone" ? null : tools(message, place),
  );
}

function authorOf(message, store) {
  if (message.subtype === "tombstone")
    return { name: "Deleted message", picture: "🗑", user: { id: "deleted", name: "deleted" } };
  const known = store.user(message.user) ?? {
    id: message.user ?? message.bot_id ?? "?",
    name: message.user ?? "?",
    is_bot: Boolean(message.bot_id),
  };
  const name = message.username ?? known.real_name ?? known.name;
  const picture = message.icons?.emoji ? emoji(message.icons.emoji.replaceAll(":", "")) : "";
  return {
    name: name || known.name,
    picture,
    user: message.username ? { ...known, real_name: message.username } : known,
  };
}

function heading(message, author) {
  return h(
    "div",
    { class: "message-head" },
    h("span", { class: "author" }, author.name),
    message.bot_id || author.user.is_bot ? h("span", { class: "badge" }, "APP") : null,
    h(
      "time",
      { title: inFull(message.ts), datetime: new Date(Number.parseFloat(message.ts) * 1000).toISOString() },
      clock(message.ts),
    ),
  );
}

function onlyYou(message, { store, channel }) {
  return h(
    "div",
    { class: "only-you" },
    icon("eye"),
    "Only visible to you",
    h(
      "button",
      {
        class: "link-button",
        type: "button",
        "data-testid": "dismiss",
        onclick: () => store.dismiss(channel, message),
      },
      "Dismiss",
    ),
  );
}

function body(message, place) {
  const { store, channel } = place;
  const key = `${channel}:${message.ts}`;
  const edited = message.edited
    ? h("span", { class: "quiet", title: inFull(message.edited.ts ?? message.ts) }, " (edited)")
    : null;
  const files = (message.files ?? []).map(fileCard);
  return h(
    "div",
    { class: "message-body" },
    content(message, place, key),
    edited,
    files,
    message.streaming ? h("span", { class: "cursor", "aria-hidden": "true" }) : null,
  );

  function content() {
    if (!isWritten(message) && message.blocks?.length)
      return renderBlocks(message.blocks, messageSurface(message, place, key));
    const text = message.text ?? "";
    const nodes = message.streaming ? markdown(text, store) : mrkdwn(text, store);
    return text ? long(h("div", { class: "text" }, nodes), key, store) : null;
  }
}

/** Typed by a person: its rich_text only mirrors the text, which says more about lists and quotes. */
const isWritten = (message) =>
  !message.bot_id && message.text && (message.blocks ?? []).every((block) => block.type === "rich_text");

function messageSurface(message, { store, channel }, key) {
  const values = store.remembered(`values:${key}`, null) ?? new FormValues();
  store.remember(`values:${key}`, values);
  return surfaceOf(store, {
    kind: "message",
    key,
    container: { type: "message", channel, ts: message.ts },
    values,
    blocks: message.blocks,
    files: message.files,
  });
}

function editBox(message, place) {
  const { store, channel, redraw, afterEdit } = place;
  const done = () => {
    store.remember(`editing:${channel}:${message.ts}`, false);
    redraw(message.ts);
    afterEdit();
  };
  return editor(store, {
    text: asTyped(message.text, store),
    cancel: done,
    save: async (text) => {
      await must("edit", { user: store.userId, channel, ts: message.ts, text });
      done();
    },
  });
}

function footer(message, place) {
  const parts = [
    reactions(message, place),
    place.inThread ? null : threadLink(message, place),
    place.inThread ? null : threadStatus(message, place),
  ];
  return parts.some(Boolean) ? h("div", { class: "message-foot" }, parts) : null;
}

function reactions(message, place) {
  if (!message.reactions?.length) return null;
  const { store } = place;
  const chips = message.reactions.map(({ name, users, count }) => {
    const mine = users.includes(store.userId);
    const who = users.map((id) => store.user(id)?.real_name ?? id).join(", ");
    const props = {
      class: "reaction",
      type: "button",
      "aria-pressed": String(mine),
      title: `${who} reacted with :${name}:`,
      "aria-label": `${name}, ${count}`,
      "data-testid": `reaction-${name}`,
    };
    return h(
      "button",
      { ...props, onclick: () => react(message, place, name, mine) },
      emoji(name),
      h("span", {}, count ?? users.length),
    );
  });
  const add = h(
    "button",
    {
      class: "reaction",
      type: "button",
      "aria-label": "Add reaction",
      onclick: () => openPicker(add, (name) => react(message, place, name)),
    },
    icon("smile"),
  );
  return h("div", { class: "reactions" }, chips, add);
}

async function react(message, { store, channel }, name, remove = false) {
  const mine = message.reactions?.find((one) => one.name === name)?.users.includes(store.userId);
  await attempt(store, () =>
    must("react", { user: store.userId, channel, ts: message.ts, name, remove: remove || Boolean(mine) }),
  );
}

/** Runs `work` and tells the person what went wrong, if anything. */
async function attempt(store, work) {
  try {
    await work();
  } catch (problem) {
    store.problem(problem);
  }
}

function threadLink(message, { store, openThread }) {
  if (!message.reply_count) return null;
  const faces = (message.reply_users ?? []).slice(0, 4).map((id) => avatar(store.user(id), { small: true }));
  const count = `${message.reply_count} ${message.reply_count === 1 ? "reply" : "replies"}`;
  const last = message.latest_reply
    ? h("span", { class: "quiet" }, `Last reply ${ago(message.latest_reply)}`)
    : null;
  return h(
    "button",
    {
      class: "thread-link",
      type: "button",
      "data-testid": "thread-link",
      onclick: () => openThread(message.ts),
    },
    faces,
    h("strong", {}, count),
    last,
  );
}

function threadStatus(message, { store, channel }) {
  const status = store.status(channel, message.ts);
  return status
    ? h("div", { class: "status-small" }, `${store.app.name ?? "The app"} ${status.status}`)
    : null;
}

function tools(message, place) {
  const { store } = place;
  const tool = (name, label, testid, onclick) =>
    h(
      "button",
      {
        class: "icon-button",
        type: "button",
        title: label,
        "aria-label": label,
        tabindex: "-1",
        "data-testid": testid,
        onclick,
      },
      icon(name),
    );
  const smile = tool("smile", "Add reaction", "message-react", () =>
    openPicker(smile, (name) => react(message, place, name)),
  );
  const reply = place.inThread
    ? null
    : tool("thread", "Reply in thread", "message-reply", () =>
        place.openThread(message.thread_ts ?? message.ts),
      );
  const more = tool("more", "More actions", "message-menu", () => openMenu(more, menuOf(message, place)));
  more.setAttribute("aria-haspopup", "menu");
  return h(
    "div",
    { class: "message-tools", role: "toolbar", "aria-label": `Message actions`, hidden: !store.me },
    smile,
    reply,
    more,
  );
}

function menuOf(message, place) {
  const { store, channel } = place;
  const shortcuts = store.shortcuts.map(({ name, callback_id, description }) => ({
    label: name,
    hint: description || store.app.name,
    testid: `shortcut-${callback_id}`,
    pick: () =>
      attempt(store, () => must("shortcut", { user: store.userId, callback_id, channel, ts: message.ts })),
  }));
  const copy = {
    label: "Copy text",
    testid: "message-copy",
    pick: () => attempt(store, () => navigator.clipboard.writeText(asTyped(message.text ?? "", store))),
  };
  const link = {
    label: "Copy link",
    testid: "message-link",
    pick: () => attempt(store, () => navigator.clipboard.writeText(permalink(message, channel))),
  };
  return [...shortcuts, copy, link, ...(isOwn(message, store) ? ownItems(message, place) : [])];
}

/** Whether the reader wrote it and may change it. */
export const isOwn = (message, store) =>
  message.user === store.userId && !message.bot_id && !message.ephemeral && message.subtype !== "tombstone";

/** The same address that `chat.getPermalink` gives. */
function permalink({ ts, thread_ts: threadTs }, channel) {
  const inThread =
    threadTs && threadTs !== ts ? `?${new URLSearchParams({ thread_ts: threadTs, cid: channel })}` : "";
  return `${location.origin}/archives/${channel}/p${ts.replace(".", "")}${inThread}`;
}

function ownItems(message, place) {
  const { store, channel, redraw } = place;
  const edit = () => {
    store.remember(`editing:${channel}:${message.ts}`, true);
    redraw(message.ts);
  };
  const remove = async () => {
    const question = {
      title: "Delete message",
      text: `Delete “${asWords(message.text ?? "", store).slice(0, 200)}”? This cannot be undone.`,
      confirm: "Delete",
      style: "danger",
    };
    if (await confirmed(question, store))
      await attempt(store, () => must("delete", { user: store.userId, channel, ts: message.ts }));
  };
  return [
    { label: "Edit message", testid: "message-edit", pick: edit },
    { label: "Delete message…", testid: "message-delete", danger: true, pick: remove },
  ];
}
