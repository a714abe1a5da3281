/** The left side: who one acts as, channels and direct messages, and which of them have something new. */
import { beforePaint, h } from "./dom.js";
import { avatar, markOf } from "./names.js";
import { isDirect } from "./store.js";

/** `go(hash)` is called through plain links; `become(userId)` when another person is chosen. */
export class Sidebar {
  constructor(node, store, { current, become }) {
    Object.assign(this, { node, store, current, become });
    this.draw = beforePaint(() => this.#draw());
    for (const kind of ["people", "channels"]) store.on(kind, () => this.draw());
  }

  #draw() {
    const { store } = this;
    if (!store.me) return;
    const mine = store.channels.filter((channel) => channel.is_member);
    const rooms = mine.filter((channel) => !isDirect(channel)).sort((a, b) => a.name.localeCompare(b.name));
    const direct = mine.filter(isDirect);
    const shown = JSON.stringify([
      store.userId,
      this.current(),
      store.users,
      mine,
      mine.map(this.isNew, this),
    ]);
    if (shown === this.shown) return;
    this.shown = shown;
    const focused = document.activeElement?.dataset?.testid;
    this.node.replaceChildren(
      h("div", { class: "team" }, h("strong", {}, store.team.name), this.#people()),
      section(
        "Channels",
        rooms.map((channel) => this.#entry(channel)),
      ),
      section(
        "Direct messages",
        direct.map((channel) => this.#entry(channel)),
      ),
      h("p", { class: "sidebar-note" }, "Open this page again in another tab to be two people at once."),
    );
    if (focused) this.node.querySelector(`[data-testid="${CSS.escape(focused)}"]`)?.focus();
  }

  isNew(channel) {
    return channel.id !== this.current() && this.store.isUnread(channel.id);
  }

  #people() {
    const { store } = this;
    const options = store.users
      .filter((user) => !user.is_bot)
      .map((user) =>
        h("option", { value: user.id, selected: user.id === store.userId }, user.real_name || user.name),
      );
    const select = h(
      "select",
      {
        class: "person-switch",
        "data-testid": "person-switch",
        "aria-label": "Act as",
        onchange: () => this.become(select.value),
      },
      options,
    );
    const role = store.me.is_admin ? h("span", { class: "badge" }, "ADMIN") : null;
    return h(
      "label",
      { class: "person" },
      avatar(store.me, { small: true }),
      h("span", { class: "person-label" }, "Acting as", role),
      select,
    );
  }

  #entry(channel) {
    const { store } = this;
    const unread = this.isNew(channel);
    const name = store.nameOf(channel);
    const app =
      channel.kind === "im" && store.isApp(channel.other) ? h("span", { class: "badge" }, "APP") : null;
    return h(
      "li",
      {},
      h(
        "a",
        {
          href: store.address(channel.id),
          class: unread ? "entry unread" : "entry",
          "aria-current": channel.id === this.current() ? "page" : null,
          "data-testid": `channel-${channel.name}`,
          "data-channel": channel.id,
        },
        markOf(channel, store),
        h("span", { class: "entry-name" }, name),
        app,
        unread ? h("span", { class: "dot", role: "img", "aria-label": "unread" }) : null,
      ),
    );
  }
}

const section = (title, entries) => h("section", {}, h("h2", {}, title), h("ul", {}, entries));
