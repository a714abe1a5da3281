/** What the app asked of the workspace, call by call: a drawer for those who build or doubt. */
import { get, must } from "./api.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";

const POLL_MS = 1200;
const MOST = 300;
const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
});

/** The drawer and the button that opens it. */
export class Inspector {
  #since = 0;
  #timer = null;

  constructor(node, button, store) {
    Object.assign(this, { node, button, store });
    this.rows = h("ol", { class: "calls", "data-testid": "calls" });
    this.field = h("input", {
      class: "field",
      type: "search",
      placeholder: "Filter by method",
      "aria-label": "Filter by method",
      oninput: () => this.#filter(),
    });
    node.append(
      h(
        "header",
        { class: "pane-head" },
        h(
          "div",
          { class: "head-line" },
          h("h2", {}, "Inspector"),
          h(
            "button",
            {
              class: "icon-button",
              type: "button",
              "aria-label": "Close inspector",
              onclick: () => this.toggle(false),
            },
            icon("close"),
          ),
        ),
        h(
          "p",
          { class: "quiet" },
          "What the app calls on this workspace, newest first. On Slack these calls go to slack.com/api.",
        ),
        h(
          "div",
          { class: "inspector-tools" },
          this.field,
          h(
            "button",
            {
              class: "button button-small",
              type: "button",
              "data-testid": "disconnect",
              title: "Closes the app's sockets, as Slack does every few hours",
              onclick: () => this.#disconnect(),
            },
            "Drop the socket",
          ),
        ),
      ),
      h("div", { class: "scroller" }, this.rows),
    );
    button.addEventListener("click", () => this.toggle(node.hidden));
  }

  toggle(open) {
    this.node.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    clearTimeout(this.#timer);
    if (open) void this.#poll();
    else this.button.focus();
  }

  async #poll() {
    try {
      const { calls } = await get("calls", { user: this.store.userId, since: this.#since });
      for (const call of calls) this.#add(call);
      this.#filter();
    } catch (problem) {
      this.store.problem(problem);
      return this.toggle(false);
    }
    if (!this.node.hidden) this.#timer = setTimeout(() => this.#poll(), POLL_MS);
    return undefined;
  }

  #add(call) {
    this.#since = Math.max(this.#since, call.n ?? call.at);
    const { answer } = call;
    const ok = answer?.ok !== false;
    const at = typeof call.at === "number" ? CLOCK.format(new Date(call.at * 1000)) : String(call.at ?? "");
    const detail = h(
      "details",
      {},
      h(
        "summary",
        {},
        h("span", { class: "quiet" }, at),
        " ",
        h("strong", {}, call.method),
        " ",
        h("span", { class: ok ? "call-ok" : "call-failed" }, ok ? "ok" : (answer?.error ?? "failed")),
      ),
    );
    detail.addEventListener(
      "toggle",
      () =>
        detail.childElementCount === 1 && detail.append(json("sent", call.args), json("answered", answer)),
      { once: true },
    );
    this.rows.prepend(h("li", { "data-method": call.method }, detail));
    while (this.rows.childElementCount > MOST) this.rows.lastElementChild.remove();
  }

  #filter() {
    const sought = this.field.value.trim().toLowerCase();
    for (const row of this.rows.children) row.hidden = !row.dataset.method.toLowerCase().includes(sought);
  }

  async #disconnect() {
    try {
      await must("disconnect", { user: this.store.userId });
      this.store.notice("The app's sockets were dropped. It should be back within seconds.");
    } catch (problem) {
      this.store.problem(problem);
    }
  }
}

const json = (name, value) =>
  h(
    "div",
    {},
    h("div", { class: "quiet" }, name),
    h("pre", { class: "code-block" }, JSON.stringify(value, null, 2)),
  );
