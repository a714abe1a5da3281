/** Where people write: Enter sends, Shift+Enter is a new line, / runs a command, a draft stays where it was begun. */
import { must } from "./api.js";
import { Completion } from "./completion.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { openPicker } from "./menu.js";

const COMMAND = /^(\/[\w-]+)(?:\s+([\s\S]*))?$/;

function grow(area) {
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight + 2, window.innerHeight * 0.4)}px`;
}

/** The message box of a channel or of a thread. `sent(ts)` hears of a message that arrived. */
export class Composer {
  #drafts = new Map();
  #sending = false;

  constructor(store, { testid, sent = () => {} }) {
    Object.assign(this, { store, sent, testid });
    this.area = h("textarea", {
      rows: 1,
      "data-testid": testid,
      enterkeyhint: "send",
      oninput: () => this.#typed(),
      onkeydown: (event) => this.#key(event),
    });
    this.hint = h("div", { class: "command-hint", "data-testid": "command-hint", "aria-live": "polite" });
    this.node = h(
      "form",
      { class: "composer", onsubmit: (event) => this.#submit(event) },
      this.hint,
      h("div", { class: "composer-box" }, this.area, this.#bar()),
    );
    this.completion = new Completion(this.area, this.node, store);
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
    return h(
      "div",
      { class: "composer-bar" },
      smile,
      tool("at", "Mention somebody", () => this.#write("@")),
      tool("slash", "Run a command", () => this.#write("/")),
      h(
        "span",
        { class: "composer-help" },
        h("kbd", {}, "Shift"),
        "+",
        h("kbd", {}, "Enter"),
        " for a new line",
      ),
      this.send,
    );
  }

  /** Points the box at a conversation; what was begun there before is in it again. */
  aim(channel, threadTs, placeholder) {
    if (this.target) this.#drafts.set(this.#key_(), this.area.value);
    this.target = { channel, threadTs };
    this.area.placeholder = placeholder;
    this.area.setAttribute("aria-label", placeholder);
    this.area.value = this.#drafts.get(this.#key_()) ?? "";
    this.#typed();
    this.completion.close();
  }

  #key_() {
    return `${this.store.userId}:${this.target.channel}:${this.target.threadTs ?? ""}`;
  }

  #write(text) {
    this.area.focus();
    this.area.setRangeText(text, this.area.selectionStart, this.area.selectionEnd, "end");
    this.area.dispatchEvent(new Event("input"));
  }

  #typed() {
    grow(this.area);
    this.send.disabled = this.#sending || this.area.value.trim() === "";
    const command = COMMAND.exec(this.area.value)?.[1];
    const known = this.store.commands.find((one) => one.command === command);
    this.hint.replaceChildren(
      ...(known
        ? [h("strong", {}, `${known.command} ${known.usage_hint ?? ""}`), ` ${known.description ?? ""}`]
        : []),
    );
  }

  #key(event) {
    if (event.isComposing || this.completion.key(event)) return;
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
    if (text === "" || this.#sending) return;
    const target = this.target;
    this.#sending = true;
    this.area.value = "";
    this.completion.close();
    this.#typed();
    try {
      const answer = await this.#deliver(text, target);
      this.sent(answer?.ts);
    } catch (problem) {
      this.store.problem(problem);
      if (this.area.value === "" && this.target === target) this.area.value = text;
    } finally {
      this.#sending = false;
      this.#typed();
    }
  }

  async #deliver(text, { channel, threadTs }) {
    const user = this.store.userId;
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
    if (event.key === "Escape") cancel();
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
