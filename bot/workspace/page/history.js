/** The conversations with the app, one for each thread of its direct message, newest first. */
import { beforePaint, h } from "./dom.js";
import { asWords } from "./mrkdwn.js";
import { ago } from "./time.js";

const LONGEST_TITLE = 90;
const STATES = {
  active: "",
  processing: "at work",
  suspended: "waits for you",
  closed: "closed",
};

/** Draws the list of `where()`'s conversations while it is shown. */
export class History {
  constructor(store, where) {
    Object.assign(this, { store, where });
    this.node = h("div", {
      class: "history scroller",
      role: "tabpanel",
      "aria-label": "History",
      tabindex: "0",
      "data-testid": "history",
    });
    this.draw = beforePaint(() => this.node.isConnected && this.#draw());
    store.on("messages", ({ channel }) => channel === this.where() && this.draw());
    for (const kind of ["sessions", "thread-title"]) store.on(kind, () => this.draw());
  }

  #draw() {
    const channel = this.where();
    const roots = this.store
      .messages(channel)
      .filter((message) => !message.ephemeral && message.subtype !== "tombstone");
    const newest = (message) => message.latest_reply ?? message.ts;
    roots.sort((a, b) => (newest(a) < newest(b) ? 1 : -1));
    this.node.replaceChildren(
      roots.length > 0
        ? h(
            "ul",
            {},
            roots.map((message) => this.#entry(channel, message)),
          )
        : h("p", { class: "quiet" }, "No conversations yet. Write a message to begin one."),
    );
  }

  #entry(channel, message) {
    const { store } = this;
    const session = store.session(channel, message.ts);
    const title = store.title(channel, message.ts) || asWords(message.text ?? "", store) || "Without words";
    const replies = message.reply_count ?? 0;
    const about = `${replies} ${replies === 1 ? "reply" : "replies"} · ${ago(message.latest_reply ?? message.ts)}`;
    const state = STATES[session?.status];
    return h(
      "li",
      {},
      h(
        "a",
        {
          class: "conversation",
          href: store.address(channel, message.ts),
          "data-testid": `history-${message.ts}`,
        },
        h("strong", {}, title.slice(0, LONGEST_TITLE)),
        h("span", { class: "quiet" }, about),
        state ? h("span", { class: `session session-${session.status}` }, state) : null,
      ),
    );
  }
}
