/** A list of messages that grows: days, runs of one author, following the newest, and nothing drawn twice. */
import { beforePaint, h, swap } from "./dom.js";
import { icon } from "./icons.js";
import { renderMessage } from "./message.js";
import { dayKey, dayName } from "./time.js";

const SHOWN_AT_FIRST = 150;
const SAME_RUN_S = 300;
const NEAR_END_PX = 90;

/** The messages of a channel or of a thread. `read()` gives them, or null while they are loading. */
export class MessageList {
  #drawn = new Map();
  #shown = SHOWN_AT_FIRST;
  #following = true;

  constructor(place, read, { label, above = () => [], beforeEach = () => null }) {
    Object.assign(this, { place: { ...place, redraw: (ts) => this.#redraw(ts) }, read, above, beforeEach });
    this.list = h("div", {
      class: "message-list",
      role: "group",
      "aria-label": label,
      onkeydown: (event) => this.#walk(event),
    });
    this.newer = h(
      "button",
      { class: "newer", type: "button", hidden: true, "data-testid": "newer", onclick: () => this.toEnd() },
      icon("arrow"),
      "New messages",
    );
    this.scroller = h(
      "div",
      {
        class: "scroller",
        tabindex: "0",
        "aria-label": label,
        role: "region",
        onscroll: () => this.#scrolled(),
      },
      this.list,
    );
    this.node = h("div", { class: "message-frame" }, this.scroller, this.newer);
    this.draw = beforePaint(() => this.#draw());
    new ResizeObserver(() => this.#following && this.#jump()).observe(this.list);
    new ResizeObserver(() => this.#following && this.#jump()).observe(this.scroller);
  }

  /** Draws what changed since the last time, and stays at the end if the reader was there. */
  #draw() {
    const messages = this.read();
    const had = this.#drawn.size;
    const parts =
      messages === null ? [h("p", { class: "quiet loading" }, "Loading…")] : this.#parts(messages);
    place(this.list, [...this.above(), ...parts]);
    if (this.#following) this.#jump();
    else if (this.#drawn.size > had && had > 0) this.newer.hidden = false;
  }

  #parts(messages) {
    const from = Math.max(0, messages.length - this.#shown);
    const parts = from > 0 ? [this.#earlier(from)] : [];
    const kept = new Set();
    for (let at = from; at < messages.length; at += 1) {
      const message = messages[at];
      const before = at > from ? messages[at - 1] : null;
      const newDay = !before || dayKey(before.ts) !== dayKey(message.ts);
      if (newDay) parts.push(divider(dayName(message.ts)));
      const extra = this.beforeEach(message, before);
      if (extra) parts.push(extra);
      parts.push(this.#node(message, !newDay && !extra && isSameRun(before, message)));
      kept.add(message.ts);
    }
    for (const ts of this.#drawn.keys()) if (!kept.has(ts)) this.#drawn.delete(ts);
    return parts;
  }

  #earlier(count) {
    const more = () => {
      this.#shown += SHOWN_AT_FIRST;
      this.#following = false;
      this.draw();
    };
    return h(
      "button",
      { class: "button earlier", type: "button", "data-testid": "earlier", onclick: more },
      `Show earlier messages (${count})`,
    );
  }

  #node(message, compact) {
    const known = this.#drawn.get(message.ts);
    const status = this.place.store.status(this.place.channel, message.ts);
    if (known && known.message === message && known.compact === compact && known.status === status)
      return known.node;
    const node = renderMessage(message, { ...this.place, compact });
    if (known?.node.isConnected) swap(known.node, node);
    this.#drawn.set(message.ts, { message, compact, status, node });
    return node;
  }

  /** Draws one message again although it did not change. */
  #redraw(ts) {
    const known = this.#drawn.get(ts);
    if (known) this.#drawn.set(ts, { ...known, message: null });
    this.draw();
  }

  /** Everything anew, for instance after names changed. */
  refresh() {
    for (const ts of this.#drawn.keys()) this.#redraw(ts);
    this.draw();
  }

  toEnd() {
    this.#following = true;
    this.newer.hidden = true;
    this.#jump();
  }

  #jump() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    this.#following = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    if (this.#following) this.newer.hidden = true;
  }

  /** Arrow keys move from message to message; the tools of the one in focus can then be reached with Tab. */
  #walk(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const current = event.target.closest(".message");
    if (!step || event.target !== current) return;
    event.preventDefault();
    const all = [...this.list.querySelectorAll(".message")];
    all[all.indexOf(current) + step]?.focus();
  }
}

const divider = (text) =>
  h("div", { class: "day", role: "separator", "aria-label": text }, h("span", {}, text));

function isSameRun(before, message) {
  if (!before || before.ephemeral || message.ephemeral || before.user !== message.user) return false;
  if (before.username !== message.username || before.reply_count) return false;
  return Number.parseFloat(message.ts) - Number.parseFloat(before.ts) < SAME_RUN_S;
}

/** Makes `parts` the children of `parent`, moving as little as possible. */
function place(parent, parts) {
  const wanted = new Set(parts);
  for (const child of [...parent.childNodes]) if (!wanted.has(child)) child.remove();
  parts.forEach((part, at) => {
    if (parent.childNodes[at] !== part) parent.insertBefore(part, parent.childNodes[at] ?? null);
  });
}
