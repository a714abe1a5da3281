/** Where people write: Enter sends, Shift+Enter is a new line, / runs a command, a draft stays where it was begun. */
import { must, upload } from "./api.js";
import { Attachments } from "./attachments.js";
import { Completion } from "./completion.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { openMenu, openPicker } from "./menu.js";

const COMMAND = /^(\/[\w-]+)(?:\s+([\s\S]*))?$/;

function grow(area) {
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight + 2, window.innerHeight * 0.4)}px`;
}

/**
 * The message box of a channel or of a thread. `sent(ts)` hears of a message that arrived; `editLast()` is asked for
 * with the up arrow in an empty box.
 */
export class Composer {
  #drafts = new Map();
  #sending = false;

  constructor(store, { testid, sent = () => {}, editLast = () => false }) {
    Object.assign(this, { store, sent, testid, editLast });
    this.area = h("textarea", {
      rows: 1,
      "data-testid": testid,
      enterkeyhint: "send",
      oninput: () => this.#typed(),
      onkeydown: (event) => this.#key(event),
    });
    this.attachments = new Attachments(store, () => this.#enable());
    this.hint = h("div", { class: "command-hint", "data-testid": "command-hint", "aria-live": "polite" });
    this.node = h(
      "form",
      { class: "composer", onsubmit: (event) => this.#submit(event) },
      this.hint,
      h("div", { class: "composer-box" }, this.attachments.node, this.area, this.#bar()),
    );
    this.completion = new Completion(this.area, this.node, store);
    this.attachments.listen(this.area, this.node);
    store.on("sessions", () => this.#showStop());
    store.on("people", () => this.#showShortcuts());
  }

  #bar() {
    const tool = (name, label, onclick) =>
      h(
        "button",
        { class: "icon-button", type: "button", title: label, "aria-label": label, onclick },
        icon(name),
      );
    const smile = tool("smile", "Emoji", () => openPicker(smile, (name) => this.#write(`:${name}: `)));
    this.send = h(
      "button",
      {
        class: "send",
        type: "submit",
        title: "Send",
        "aria-label": "Send",
        disabled: true,
        "data-testid": `${this.testid}-send`,
      },
      icon("send"),
    );
    this.stop = h(
      "button",
      {
        class: "button button-small stop",
        type: "button",
        hidden: true,
        "data-testid": `${this.testid}-stop`,
        onclick: () => void this.#stop(),
      },
      icon("stop"),
      "Stop",
    );
    this.shortcuts = tool("bolt", "Shortcuts", () => openMenu(this.shortcuts, this.#shortcutItems()));
    this.shortcuts.dataset.testid = `${this.testid}-shortcuts`;
    this.#showShortcuts();
    const attach = tool("plus", "Attach files", () => this.attachments.choose());
    attach.dataset.testid = `${this.testid}-attach`;
    return h(
      "div",
      { class: "composer-bar" },
      attach,
      this.attachments.field,
      smile,
      tool("at", "Mention somebody", () => this.#write("@")),
      tool("slash", "Run a command", () => this.#write("/")),
      this.shortcuts,
      h("span", { class: "composer-end" }, this.#help(), this.stop, this.send),
    );
  }

  #help() {
    return h(
      "span",
      { class: "composer-help", "aria-hidden": "true" },
      h("kbd", {}, "Shift"),
      "+",
      h("kbd", {}, "Enter"),
      " for a new line",
    );
  }

  #showShortcuts() {
    this.shortcuts.hidden = this.store.globalShortcuts.length === 0;
  }

  #shortcutItems() {
    const { store } = this;
    return store.globalShortcuts.map(({ name, callback_id, description }) => ({
      label: name,
      hint: description || store.app.name,
      testid: `global-shortcut-${callback_id}`,
      pick: () =>
        must("global_shortcut", { user: store.userId, callback_id }).catch((problem) =>
          store.problem(problem),
        ),
    }));
  }

  /** The session that Stop would end: of this thread, or the newest of this direct message. */
  get #session() {
    if (!this.target || !this.store.canStop) return undefined;
    const { channel, threadTs } = this.target;
    if (!threadTs && this.store.channel(channel)?.kind !== "im") return undefined;
    return this.store.processing(channel, threadTs);
  }

  #showStop() {
    const hadFocus = this.stop === document.activeElement;
    this.stop.hidden = !this.#session;
    if (this.stop.hidden && hadFocus) this.area.focus();
  }

  async #stop() {
    const session = this.#session;
    if (!session || this.stop.ariaBusy) return;
    const { channel, thread_ts } = session;
    this.stop.ariaBusy = "true";
    try {
      await must("stop", { user: this.store.userId, channel, thread_ts });
    } catch (problem) {
      this.store.problem(problem);
    } finally {
      this.stop.ariaBusy = null;
    }
  }

  /** Points the box at a conversation; what was begun there before is in it again. */
  aim(channel, threadTs, placeholder) {
    if (this.target)
      this.#drafts.set(this.#draftKey, { text: this.area.value, files: this.attachments.files });
    this.target = { channel, threadTs, user: this.store.userId };
    this.area.placeholder = placeholder;
    this.area.setAttribute("aria-label", placeholder);
    const draft = this.#drafts.get(this.#draftKey) ?? { text: "", files: [] };
    this.area.value = draft.text;
    this.attachments.set(draft.files);
    this.#typed();
    this.#showStop();
    this.completion.close();
  }

  get #draftKey() {
    return `${this.target.user}:${this.target.channel}:${this.target.threadTs ?? ""}`;
  }

  #write(text) {
    this.area.focus();
    this.area.setRangeText(text, this.area.selectionStart, this.area.selectionEnd, "end");
    this.area.dispatchEvent(new Event("input"));
  }

  #typed() {
    grow(this.area);
    this.#enable();
    const command = COMMAND.exec(this.area.value)?.[1];
    const known = this.store.commands.find((one) => one.command === command);
    this.hint.replaceChildren(
      ...(known
        ? [h("strong", {}, `${known.command} ${known.usage_hint ?? ""}`), ` ${known.description ?? ""}`]
        : []),
    );
  }

  #enable() {
    const empty = this.area.value.trim() === "" && this.attachments.files.length === 0;
    this.send.disabled = this.#sending || empty;
  }

  #key(event) {
    if (event.isComposing || this.completion.key(event)) return;
    if (event.key === "ArrowUp" && this.area.value === "" && this.editLast()) event.preventDefault();
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    void this.#send();
  }

  #submit(event) {
    event.preventDefault();
    void this.#send();
  }

  async #send() {
    const text = this.area.value.trim();
    if (this.send.disabled) return;
    const target = this.target;
    const files = this.attachments.take();
    this.#sending = true;
    this.area.value = "";
    this.completion.close();
    this.#typed();
    try {
      const answer = await this.#deliver(text, files, target);
      this.sent(answer?.ts);
    } catch (problem) {
      this.store.problem(problem);
      if (this.area.value === "" && this.target === target) this.area.value = text;
      if (this.target === target) this.attachments.set([...files, ...this.attachments.files]);
    } finally {
      this.#sending = false;
      this.#typed();
    }
  }

  async #deliver(text, files, { channel, threadTs }) {
    const user = this.store.userId;
    if (files.length > 0) return upload({ user, channel, thread_ts: threadTs, text }, files);
    const command = COMMAND.exec(text);
    if (!command) return must("post", { user, channel, text, thread_ts: threadTs });
    if (threadTs)
      throw new Error(`${command[1]} cannot be used in a thread. Send it in the channel instead.`);
    if (!this.store.commands.some((one) => one.command === command[1]))
      throw new Error(`${command[1]} is not a command here. Type / to see what is.`);
    await must("command", { user, channel, command: command[1], text: command[2] ?? "" });
    return null;
  }
}

/** The box that replaces a message's text while its author edits it. */
export function editor(store, { text, save, cancel }) {
  const area = h("textarea", {
    "data-testid": "edit-box",
    "aria-label": "Edit message",
    value: text,
    oninput: () => grow(area),
  });
  const keep = async () => {
    try {
      await save(area.value.trim());
    } catch (problem) {
      store.problem(problem);
    }
  };
  const form = h(
    "form",
    { class: "composer edit-box" },
    h("div", { class: "composer-box" }, area),
    h(
      "div",
      { class: "dialog-buttons" },
      h("button", { class: "button button-small", type: "button", onclick: cancel }, "Cancel"),
      h(
        "button",
        {
          class: "button button-small button-primary button-solid",
          type: "submit",
          "data-testid": "edit-save",
        },
        "Save",
      ),
    ),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void keep();
  });
  const completion = new Completion(area, form, store);
  area.addEventListener("keydown", (event) => {
    if (completion.key(event)) return;
    if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      cancel();
    }
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    void keep();
  });
  requestAnimationFrame(() => {
    grow(area);
    area.focus();
    area.setSelectionRange(text.length, text.length);
  });
  return form;
}
