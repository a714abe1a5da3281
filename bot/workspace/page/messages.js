/** A list of messages that grows: days, runs of one author, following the newest, and nothing drawn twice. */
import { beforePaint, h, patch, swap } from "./dom.js";
import { icon } from "./icons.js";
import { isOwn, renderMessage } from "./message.js";
import { dayKey, dayName } from "./time.js";

const SHOWN_AT_FIRST = 150;
const SAME_RUN_S = 300;
const NEAR_END_PX = 90;
const NEAR_START_PX = 300;
const FOUND_MS = 2500;

/** The messages of a channel or of a thread. `read()` gives them, or null while they are loading. */
export class MessageList {
  #drawn = new Map();
  #days = new Map();
  #shown = SHOWN_AT_FIRST;
  #following = true;
  #top = 0;

  constructor(place, read, { label, above = () => [], beforeEach = () => null }) {
    const own = { redraw: (ts) => this.#redraw(ts), afterEdit: () => this.#goBack() };
    Object.assign(this, { place: { ...place, ...own }, read, above, beforeEach });
    this.list = h("div", {
      class: "message-list",
      role: "group",
      "aria-label": label,
      onfocusin: (event) => this.#reachTools(event.target.closest(".message")),
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
        onkeydown: (event) => this.#key(event),
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
    if (this.#following) this.#shown = SHOWN_AT_FIRST;
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
      if (newDay) parts.push(this.#day(message.ts));
      const extra = this.beforeEach(message, before);
      if (extra) parts.push(extra);
      parts.push(this.#node(message, !newDay && !extra && isSameRun(before, message)));
      kept.add(message.ts);
    }
    for (const ts of this.#drawn.keys()) if (!kept.has(ts)) this.#drawn.delete(ts);
    return parts;
  }

  #day(ts) {
    const key = dayKey(ts);
    if (!this.#days.has(key)) this.#days.set(key, divider(dayName(ts)));
    return this.#days.get(key);
  }

  #earlier(count) {
    return h(
      "button",
      { class: "button earlier", type: "button", "data-testid": "earlier", onclick: () => this.#more() },
      `Show earlier messages (${count})`,
    );
  }

  /** Shows more of what came before; what is being read stays where it is. */
  #more() {
    const fromEnd = this.scroller.scrollHeight - this.scroller.scrollTop;
    this.#shown += SHOWN_AT_FIRST;
    this.#following = false;
    this.#draw();
    this.scroller.scrollTop = this.scroller.scrollHeight - fromEnd;
  }

  #node(message, compact) {
    const known = this.#drawn.get(message.ts);
    const status = this.place.store.status(this.place.channel, message.ts);
    // A box that somebody types in stays as it is, whatever happens to its message meanwhile.
    const editing = this.place.store.remembered(`editing:${this.place.channel}:${message.ts}`, false);
    if (known?.editing && editing) return known.node;
    if (known && known.message === message && known.compact === compact && known.status === status)
      return known.node;
    let node = renderMessage(message, { ...this.place, compact });
    if (known?.message?.streaming && message.streaming && known.compact === compact) {
      patch(known.node, node);
      node = known.node;
    } else if (known?.node.isConnected) swap(known.node, node);
    this.#drawn.set(message.ts, { message, compact, status, editing, node });
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

  /** Brings one message into view and marks it for a moment. */
  reveal(ts) {
    const at = this.read()?.findIndex((message) => message.ts === ts) ?? -1;
    if (at < 0) return;
    this.#following = false;
    this.#shown = Math.max(this.#shown, this.read().length - at + 10);
    this.#draw();
    const { node } = this.#drawn.get(ts);
    node.scrollIntoView({ block: "center" });
    node.classList.add("found");
    setTimeout(() => node.classList.remove("found"), FOUND_MS);
  }

  /** Opens the newest message of one's own for editing; false where there is none. */
  editLast() {
    const { store } = this.place;
    const own = this.read()?.findLast((message) => isOwn(message, store));
    if (!own) return false;
    this.returnTo = document.activeElement;
    this.#edit(own.ts);
    return true;
  }

  #goBack() {
    this.returnTo?.focus();
    this.returnTo = null;
  }

  #edit(ts) {
    this.place.store.remember(`editing:${this.place.channel}:${ts}`, true);
    this.#redraw(ts);
  }

  toEnd() {
    this.#following = true;
    this.newer.hidden = true;
    this.#jump();
  }

  #jump() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.#top = this.scroller.scrollTop;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const nearEnd = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    if (nearEnd || scrollTop < this.#top) this.#following = nearEnd;
    this.#top = scrollTop;
    if (this.#following) this.newer.hidden = true;
    if (scrollTop < NEAR_START_PX && !this.#following && this.#hasEarlier()) this.#more();
  }

  #hasEarlier() {
    return (this.read()?.length ?? 0) > this.#shown;
  }

  /** Arrow keys move from message to message; the tools of the one in focus can then be reached with Tab. */
  #key(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const current = event.target.closest(".message");
    if (event.target !== (current ?? this.scroller)) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) this.#walk(event, current, step);
    else if (current) this.#shortcut(event, current);
  }

  #walk(event, current, step) {
    const all = [...this.list.querySelectorAll(".message")];
    const next = current ? all[all.indexOf(current) + step] : all.at(-1);
    event.preventDefault();
    next?.focus();
  }

  /** e edits, t opens the thread, r reacts, m opens the menu. */
  #shortcut(event, node) {
    const message = this.read().find(({ ts }) => ts === node.dataset.ts);
    const tool = { t: "message-reply", r: "message-react", m: "message-menu" }[event.key];
    const button = tool && node.querySelector(`[data-testid="${tool}"]`);
    if (button) button.click();
    else if (event.key === "e" && message && isOwn(message, this.place.store)) this.#edit(message.ts);
    else return;
    event.preventDefault();
  }

  #reachTools(node) {
    for (const [of, index] of [
      [this.focused, "-1"],
      [node, "0"],
    ])
      for (const tool of of?.querySelectorAll(".message-tools > button") ?? []) tool.tabIndex = Number(index);
    this.focused = node;
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
