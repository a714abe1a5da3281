/** The line that says what the app is doing ("apprentice is thinking..."), and the prompts it suggests. */
import { beforePaint, h } from "./dom.js";
import { plain } from "./texts.js";

const TURN_MS = 2600;

/** One line above a message box; `where()` gives `{channel, threadTs}`. */
export class StatusLine {
  #turn = 0;
  #timer = null;

  constructor(store, where) {
    Object.assign(this, { store, where });
    this.node = h("div", { class: "status-slot" });
    this.aloud = h("div", { class: "unseen", role: "status", "aria-live": "polite" });
    this.frame = h("div", {}, this.node, this.aloud);
    this.draw = beforePaint(() => this.#draw());
    store.on("status", () => this.draw());
  }

  #draw() {
    const { channel, threadTs } = this.where() ?? {};
    const status = channel && this.store.status(channel, threadTs);
    clearInterval(this.#timer);
    const told = status ? `${this.store.app.name ?? "The app"} ${status.status}` : "";
    if (this.aloud.textContent !== told) this.aloud.textContent = told;
    if (!status) {
      this.node.replaceChildren();
      return;
    }
    const lines = status.loading_messages?.length ? status.loading_messages : [told];
    const words = h("span", {}, plain(lines[this.#turn % lines.length]));
    this.node.replaceChildren(
      h(
        "div",
        { class: "status", "data-testid": "status", "aria-hidden": "true" },
        h("span", { class: "dots", "aria-hidden": "true" }, h("i"), h("i"), h("i")),
        words,
      ),
    );
    if (lines.length > 1)
      this.#timer = setInterval(
        () => words.replaceChildren(...plain(lines[(this.#turn += 1) % lines.length])),
        TURN_MS,
      );
  }
}

/** Prompts the app offers in its direct message; `use(text)` sends one. */
export function suggestedPrompts(suggested, use) {
  if (!suggested?.prompts?.length) return null;
  const chips = suggested.prompts.map(({ title, message }, at) =>
    h(
      "button",
      {
        class: "prompt",
        type: "button",
        "data-testid": `prompt-${at}`,
        title: message,
        onclick: () => use(message),
      },
      title,
    ),
  );
  return h(
    "div",
    { class: "prompts", "data-testid": "prompts" },
    h("p", { class: "quiet" }, suggested.title || suggested.description || "Try asking"),
    h("div", { class: "prompt-row" }, chips),
  );
}
