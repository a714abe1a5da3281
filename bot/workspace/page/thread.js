/** The right side: one thread, its root, its replies and a box to go on in it. */
import { Composer } from "./composer.js";
import { beforePaint, h } from "./dom.js";
import { icon } from "./icons.js";
import { MessageList } from "./messages.js";
import { StatusLine } from "./status.js";
import { isDirect } from "./store.js";

/** `close()` is asked for with the button or with Esc. */
export class ThreadPane {
  #list = null;

  constructor(node, store, close) {
    Object.assign(this, { node, store });
    this.composer = new Composer(store, {
      testid: "thread-composer",
      sent: () => this.#list?.toEnd(),
      editLast: () => this.#list?.editLast(),
    });
    this.status = new StatusLine(store, () => ({ channel: this.channel, threadTs: this.ts }));
    this.slot = h("div", { class: "channel-body" });
    this.head = h("h2", {}, "Thread");
    const closer = h(
      "button",
      {
        class: "icon-button",
        type: "button",
        "aria-label": "Close thread",
        "data-testid": "thread-close",
        onclick: close,
      },
      icon("close"),
    );
    node.append(
      h("header", { class: "pane-head" }, h("div", { class: "head-line" }, this.head, closer)),
      this.slot,
    );
    node.addEventListener("keydown", (event) => event.key === "Escape" && !event.defaultPrevented && close());
    this.draw = beforePaint(() => this.#list?.draw());
    store.on(
      "thread",
      ({ channel, ts }) => channel === this.channel && (!ts || ts === this.ts) && this.draw(),
    );
    store.on("status", () => this.status.draw());
    store.on("thread-title", () => this.#drawHead());
  }

  /** Shows the thread under `ts`; with null the pane is put away. */
  async show(channel, ts) {
    const same = this.channel === channel && this.ts === ts && this.shownTo === this.store.userId;
    Object.assign(this, { channel, ts, shownTo: this.store.userId });
    this.node.hidden = !ts;
    if (!ts) this.slot.replaceChildren();
    if (!ts || same) return;
    this.#enter();
    try {
      await this.store.loadThread(channel, ts);
    } catch (problem) {
      this.store.problem(problem);
    }
  }

  reveal(ts) {
    this.#list?.reveal(ts);
  }

  #enter() {
    const { store, channel, ts } = this;
    this.#drawHead();
    const place = { store, channel, inThread: true, openThread: () => {} };
    const count = (message, before) => (before?.ts === ts && message.ts !== ts ? this.#replies() : null);
    this.#list = new MessageList(place, () => store.thread(channel, ts), {
      label: "Thread",
      beforeEach: count,
    });
    this.slot.replaceChildren(
      this.#list.node,
      h("div", { class: "pane-foot" }, this.status.frame, this.composer.node),
    );
    this.composer.aim(channel, ts, "Reply…");
    this.status.draw();
    this.#list.draw();
    if (matchMedia("(min-width: 800px)").matches) this.composer.area.focus();
  }

  #drawHead() {
    const room = this.store.channel(this.channel);
    const about = this.store.title(this.channel, this.ts) ?? (!room || isDirect(room) ? "" : `#${room.name}`);
    this.head.replaceChildren("Thread ", h("span", { class: "quiet" }, about));
  }

  #replies() {
    const count = this.store
      .thread(this.channel, this.ts)
      .filter((message) => message.ts !== this.ts && !message.ephemeral).length;
    return h("div", { class: "day replies" }, h("span", {}, `${count} ${count === 1 ? "reply" : "replies"}`));
  }
}
