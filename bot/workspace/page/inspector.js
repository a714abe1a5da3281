/** What goes over the wire, for those who build or doubt: the app's Web API calls, and the frames to and from it. */
import { get, must } from "./api.js";
import { h, newId } from "./dom.js";
import { icon } from "./icons.js";
import { jsonTree } from "./json.js";
import { follow } from "./line.js";

const MOST = 500;
const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
});

/** How each kind of row is read: its title, how it went, and what unfolds. */
const KINDS = {
  calls: {
    label: "Web API calls",
    type: "call",
    title: (call) => call.method,
    outcome: ({ answer }) =>
      answer?.ok === false ? { failed: true, text: answer.error ?? "failed" } : { text: "ok" },
    parts: ({ args, answer }) => [
      ["sent", args],
      ["answered", answer],
    ],
  },
  frames: {
    label: "Frames",
    type: "frame",
    title: frameTitle,
    outcome: frameOutcome,
    parts: ({ body, envelope_id: id, connection, transport }) => [
      [[transport, connection, id].filter(Boolean).join(" · "), body],
    ],
  },
};

/** "events_api · app_mention", "interactive · block_actions · rate". */
function frameTitle({ kind, body }) {
  const payload = body?.payload ?? {};
  const about = [payload.event?.type, payload.event?.subtype, payload.command, payload.type].filter(
    (word) => typeof word === "string" && word !== "event_callback",
  );
  const actions = (payload.actions ?? []).map((action) => action.action_id);
  return [kind, ...about, payload.callback_id ?? payload.view?.callback_id, ...actions]
    .filter(Boolean)
    .join(" · ");
}

function frameOutcome({ retry_attempt: retries, status, body }) {
  if (status >= 400) return { failed: true, text: String(status) };
  if (retries > 0) return { failed: true, text: `retry ${retries}` };
  const told = body?.payload?.response_action ?? (body?.payload?.errors ? "errors" : "");
  return { text: told };
}

/** The drawer and the button that opens it. */
export class Inspector {
  #leave = () => {};
  #lists = {};
  #waiting = null;
  #tab = "calls";

  constructor(node, button, store) {
    Object.assign(this, { node, button, store });
    this.field = h("input", {
      class: "field",
      type: "search",
      placeholder: "Filter",
      "aria-label": "Filter",
      "data-testid": "inspector-filter",
      oninput: () => this.#filter(),
    });
    for (const kind of Object.keys(KINDS)) this.#lists[kind] = this.#list(kind);
    node.append(
      h(
        "header",
        { class: "pane-head" },
        h("div", { class: "head-line" }, h("h2", {}, "Inspector"), this.#tools()),
        h("div", { class: "inspector-tools" }, this.field),
        h(
          "div",
          { class: "tabs", role: "tablist", onkeydown: (event) => this.#turn(event) },
          Object.values(this.#lists).map(({ tab }) => tab),
        ),
      ),
      ...Object.values(this.#lists).map(({ panel }) => panel),
    );
    node.addEventListener("keydown", (event) => event.key === "Escape" && this.toggle(false));
    button.addEventListener("click", () => this.toggle(node.hidden));
    store.on("people", () => !node.hidden && this.#watch());
    this.#show("calls");
  }

  #tools() {
    const small = (label, testid, title, onclick) =>
      h(
        "button",
        { class: "button button-small", type: "button", "data-testid": testid, title, onclick },
        label,
      );
    return [
      small("Clear", "inspector-clear", "Empties this list", () => this.#clear()),
      small("Drop the socket", "disconnect", "Closes the app's sockets, as Slack does every few hours", () =>
        this.#disconnect(),
      ),
      h(
        "button",
        {
          class: "icon-button",
          type: "button",
          "aria-label": "Close inspector",
          "data-testid": "inspector-close",
          onclick: () => this.toggle(false),
        },
        icon("close"),
      ),
    ];
  }

  #list(kind) {
    const id = newId("inspected");
    const count = h("span", { class: "count" });
    const tab = h(
      "button",
      {
        class: "tab",
        type: "button",
        role: "tab",
        "aria-controls": id,
        "data-testid": `inspector-${kind}`,
        onclick: () => this.#show(kind),
      },
      KINDS[kind].label,
      count,
    );
    const rows = h("ol", { class: "calls", "data-testid": kind });
    const panel = h(
      "div",
      { class: "scroller", role: "tabpanel", id, tabindex: "0", "aria-label": KINDS[kind].label },
      rows,
    );
    return { tab, panel, rows, count, since: 0 };
  }

  #turn(event) {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    this.#show(this.#tab === "calls" ? "frames" : "calls");
    this.#lists[this.#tab].tab.focus();
  }

  #show(kind) {
    this.#tab = kind;
    for (const [name, { tab, panel }] of Object.entries(this.#lists)) {
      tab.setAttribute("aria-selected", String(name === kind));
      tab.tabIndex = name === kind ? 0 : -1;
      panel.hidden = name !== kind;
    }
  }

  toggle(open) {
    this.node.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    this.#leave();
    this.#leave = () => {};
    if (open) this.#watch();
    else this.button.focus();
  }

  /** Reads what happened so far, then hears the rest; again after a broken line. */
  #watch() {
    this.#leave();
    this.#leave = follow(this.store.userId, {
      inspect: true,
      opened: () => void this.#read(),
      happened: (event) => {
        const kind = Object.keys(KINDS).find((name) => KINDS[name].type === event.type);
        if (kind && this.#waiting) this.#waiting.push([kind, event]);
        else if (kind) this.#add(kind, event);
      },
      lost: () => {},
    });
  }

  /** What happens while it reads comes after what it read. */
  async #read() {
    this.#waiting = [];
    for (const kind of Object.keys(KINDS)) {
      try {
        const answer = await get(kind, { user: this.store.userId, since: this.#lists[kind].since });
        for (const row of answer[kind]) this.#add(kind, row);
      } catch (problem) {
        this.store.problem(problem);
      }
    }
    const waiting = this.#waiting;
    this.#waiting = null;
    for (const [kind, row] of waiting) this.#add(kind, row);
  }

  #add(kind, row) {
    const list = this.#lists[kind];
    if (row.n <= list.since) return;
    list.since = row.n;
    const { title, outcome, parts } = KINDS[kind];
    const { failed = false, text } = outcome(row);
    const at = typeof row.at === "number" ? CLOCK.format(new Date(row.at * 1000)) : "";
    const detail = h(
      "details",
      {},
      h(
        "summary",
        {},
        h("span", { class: "quiet" }, at),
        row.direction ? h("span", { class: `way way-${row.direction}` }, row.direction) : null,
        h("strong", {}, title(row)),
        text ? h("span", { class: failed ? "call-failed" : "call-ok" }, text) : null,
      ),
    );
    const unfold = () =>
      detail.append(
        ...parts(row).flatMap(([name, value]) => [h("div", { class: "quiet" }, name), jsonTree(value)]),
      );
    detail.addEventListener("toggle", unfold, { once: true });
    const node = h(
      "li",
      { "data-testid": `${KINDS[kind].type}-row`, "data-method": title(row), "data-failed": failed || null },
      detail,
    );
    node.words = JSON.stringify(row).toLowerCase();
    node.hidden = !node.words.includes(this.#sought);
    list.rows.prepend(node);
    while (list.rows.childElementCount > MOST) list.rows.lastElementChild.remove();
    list.count.textContent = String(list.rows.childElementCount);
  }

  get #sought() {
    return this.field.value.trim().toLowerCase();
  }

  #filter() {
    for (const { rows } of Object.values(this.#lists))
      for (const row of rows.children) row.hidden = !row.words.includes(this.#sought);
  }

  #clear() {
    const { rows, count } = this.#lists[this.#tab];
    rows.replaceChildren();
    count.textContent = "";
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
