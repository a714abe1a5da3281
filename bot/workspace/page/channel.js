/** The middle: one channel or direct message with its messages and its message box; for the app also its Home tab. */
import { must } from "./api.js";
import { Composer } from "./composer.js";
import { beforePaint, h } from "./dom.js";
import { History } from "./history.js";
import { Home } from "./home.js";
import { MessageList } from "./messages.js";
import { markOf } from "./names.js";
import { StatusLine, suggestedPrompts } from "./status.js";
import { isDirect } from "./store.js";
import { plain } from "./texts.js";

/** `go(address)` moves the page. */
export class ChannelPane {
  #list = null;
  #tab = "messages";

  constructor(node, store, go) {
    Object.assign(this, { node, store, go });
    this.home = new Home(store);
    this.history = new History(store, () => this.id);
    this.composer = new Composer(store, {
      testid: "composer",
      sent: (ts) => this.#sent(ts),
      editLast: () => this.#list?.editLast(),
    });
    this.status = new StatusLine(store, () => ({ channel: this.id }));
    this.prompts = h("div");
    this.frame = h("div", { class: "channel-body" });
    this.head = h("header", { class: "pane-head" });
    node.append(this.head, this.frame);
    this.drawHead = beforePaint(() => this.#drawHead());
    store.on("messages", ({ channel }) => channel === this.id && this.#messagesChanged());
    store.on("status", () => this.#statusChanged());
    store.on("channels", () => this.drawHead());
    store.on("people", () => this.#list?.refresh());
    store.on("people", () => this.#statusChanged());
  }

  get channel() {
    return this.store.channel(this.id);
  }

  /** Shows a channel; `tab` is "messages" or, for the app's direct message, "home" or "history". */
  show(id, tab = "messages") {
    const isNew = id !== this.id || this.shownTo !== this.store.userId;
    const was = this.#tab;
    Object.assign(this, { id, shownTo: this.store.userId });
    const exists = this.#isAppsOwn() && (tab !== "home" || this.store.homeTab);
    this.#tab = exists ? tab : "messages";
    if (isNew) {
      this.readBefore = this.store.readUntil(id);
      this.firstNew = null;
      this.#list = this.#newList();
    }
    if (isNew || was !== this.#tab) this.#enter();
    this.#messagesChanged();
    this.#statusChanged();
    this.drawHead();
  }

  reveal(ts) {
    this.#list?.reveal(ts);
  }

  #isAppsOwn() {
    return this.channel?.kind === "im" && this.store.isApp(this.channel.other);
  }

  #newList() {
    const { store, id } = this;
    const place = { store, channel: id, inThread: false, openThread: (ts) => this.go(store.address(id, ts)) };
    return new MessageList(place, () => store.messages(id), {
      label: `Messages in ${this.#name()}`,
      above: () => [this.#beginning()],
      beforeEach: (message) => this.#newMark(message),
    });
  }

  /** A line before the first message that was not read when the channel was opened. */
  #newMark(message) {
    const isNew = message.ts > this.readBefore && message.user !== this.store.userId;
    if (!this.firstNew && isNew && this.readBefore !== "0") this.firstNew = message.ts;
    if (this.firstNew !== message.ts) return null;
    this.newMark ??= h("div", { class: "day new-mark", "data-testid": "new-mark" }, h("span", {}, "New"));
    return this.newMark;
  }

  #name() {
    const { channel, store } = this;
    return `${isDirect(channel) ? "" : "#"}${store.nameOf(channel)}`;
  }

  #beginning() {
    const { channel } = this;
    const text = this.#isAppsOwn()
      ? "This is a direct message with the app. Every message you write here begins a thread, and the answer comes in that thread."
      : `This is the very beginning of ${this.#name()}. Mention @${this.store.app.name ?? "the app"} to ask it something.`;
    this.beginning ??= new Map();
    if (!this.beginning.has(channel.id))
      this.beginning.set(
        channel.id,
        h("div", { class: "beginning" }, h("h2", {}, this.#name()), h("p", { class: "quiet" }, text)),
      );
    return this.beginning.get(channel.id);
  }

  #enter() {
    const foot = h("div", { class: "pane-foot" }, this.prompts, this.status.frame, this.composer.node);
    const parts = {
      home: [this.home.node],
      history: [this.history.node],
      messages: [this.#list.node, foot],
    };
    this.frame.replaceChildren(...parts[this.#tab]);
    if (this.#tab === "home") void this.home.open();
    else if (this.#tab === "history") this.history.draw();
    else this.composer.aim(this.id, undefined, `Message ${this.#name()}`);
    if (this.#tab === "messages" && this.#isAppsOwn())
      must("messages_tab", { user: this.store.userId }).catch((problem) => this.store.problem(problem));
    if (this.#tab === "messages") this.#list.toEnd();
    if (
      this.#tab === "messages" &&
      matchMedia("(min-width: 800px)").matches &&
      document.activeElement?.tagName !== "SELECT"
    )
      this.composer.area.focus();
  }

  #messagesChanged() {
    this.#list?.draw();
    if (document.visibilityState === "visible" && this.#tab === "messages") this.store.markRead(this.id);
  }

  #statusChanged() {
    this.#list?.draw();
    this.status.draw();
    const offered = this.#offered();
    if (offered === this.promptsShown) return;
    this.promptsShown = offered;
    const suggested = suggestedPrompts(offered, (text) => this.#use(text));
    this.prompts.replaceChildren(...(suggested ? [suggested] : []));
  }

  /** What the app suggested in this conversation; in its own direct message at least what its manifest says. */
  #offered() {
    const { agent, prompts } = this.store;
    return prompts.get(this.id) ?? (this.#isAppsOwn() && agent?.prompts?.length ? agent : null);
  }

  async #use(text) {
    try {
      const { ts } = await must("post", { user: this.store.userId, channel: this.id, text });
      this.#sent(ts);
    } catch (problem) {
      this.store.problem(problem);
    }
  }

  /** In the app's direct message the answer comes in a thread: show it. */
  #sent(ts) {
    this.#list.toEnd();
    if (ts && this.#isAppsOwn()) this.go(this.store.address(this.id, ts));
  }

  #drawHead() {
    const { channel, store } = this;
    if (!channel) return;
    const about = isDirect(channel)
      ? null
      : h(
          "span",
          { class: "quiet head-about" },
          channel.topic ? h("span", {}, plain(channel.topic)) : null,
          h("span", {}, `${channel.members.length} members`),
        );
    this.head.replaceChildren(
      h("div", { class: "head-line" }, markOf(channel, store), h("h1", {}, store.nameOf(channel)), about),
      ...(this.#isAppsOwn() ? [this.#tabs()] : []),
    );
  }

  #tabs() {
    const tab = (name, label, address) =>
      h(
        "a",
        {
          role: "tab",
          class: "tab",
          href: address,
          "aria-selected": String(this.#tab === name),
          "data-testid": `tab-${name}`,
        },
        label,
      );
    return h(
      "div",
      { class: "tabs", role: "tablist" },
      this.store.homeTab ? tab("home", "Home", this.store.address(this.id, "home")) : null,
      tab("messages", "Messages", this.store.address(this.id)),
      tab("history", "History", this.store.address(this.id, "history")),
    );
  }
}
