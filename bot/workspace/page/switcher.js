/** Ctrl+K (or Cmd+K): go to a channel, a direct message or a conversation with a few letters of its name. */
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { asWords } from "./mrkdwn.js";
import { markOf } from "./names.js";

const MOST = 10;

/** Listens for the keys; `go(address)` moves the page. */
export class Switcher {
  #chosen = 0;
  #places = [];

  constructor(store, go) {
    Object.assign(this, { store, go });
    this.list = h("ul", {
      class: "switcher-list",
      role: "listbox",
      id: "switcher-list",
      "aria-label": "Places",
    });
    this.field = h("input", {
      class: "field",
      type: "search",
      role: "combobox",
      placeholder: "Go to a channel or conversation",
      "aria-label": "Go to a channel or conversation",
      "aria-expanded": "true",
      "aria-controls": "switcher-list",
      autocomplete: "off",
      "data-testid": "switcher-field",
      oninput: () => this.#look(),
      onkeydown: (event) => this.#key(event),
    });
    this.dialog = h(
      "dialog",
      {
        class: "switcher",
        "data-testid": "switcher",
        "aria-label": "Go to",
        onclick: (event) => event.target === this.dialog && this.dialog.close(),
      },
      h("div", { class: "switcher-inside" }, this.field, this.list),
    );
    document.body.append(this.dialog);
    document.addEventListener("keydown", (event) => {
      if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || event.shiftKey) return;
      event.preventDefault();
      if (this.dialog.open) this.dialog.close();
      else if (!document.querySelector("dialog[open]")) this.open();
    });
  }

  open() {
    if (!this.store.me) return;
    this.field.value = "";
    this.#look();
    this.dialog.showModal();
    this.field.focus();
  }

  #look() {
    const sought = this.field.value.trim().toLowerCase();
    const found = this.#all().filter(({ name }) => name.toLowerCase().includes(sought));
    const rank = ({ name, unread }) =>
      (name.toLowerCase().startsWith(sought) ? 0 : 2) + (unread && sought === "" ? -1 : 0);
    this.#places = found.sort((a, b) => rank(a) - rank(b)).slice(0, MOST);
    this.#chosen = 0;
    this.#show();
  }

  #all() {
    const { store } = this;
    const mine = store.channels.filter((channel) => channel.is_member);
    return mine.flatMap((channel) => {
      const place = {
        name: store.nameOf(channel),
        mark: markOf(channel, store),
        address: store.address(channel.id),
        testid: `switch-${channel.name}`,
        unread: store.isUnread(channel.id),
      };
      return store.isApp(channel.other) ? [place, ...this.#conversations(channel.id)] : [place];
    });
  }

  #conversations(channel) {
    const { store } = this;
    const roots = store.messages(channel).filter((message) => message.reply_count && !message.bot_id);
    return roots.map((message) => ({
      name: store.title(channel, message.ts) || asWords(message.text ?? "", store).slice(0, 80),
      mark: icon("thread"),
      address: store.address(channel, message.ts),
      testid: `switch-${message.ts}`,
    }));
  }

  #key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const count = this.#places.length;
    if (step && count > 0) this.#chosen = (this.#chosen + step + count) % count;
    else if (event.key === "Enter" && count > 0) return this.#take(this.#places[this.#chosen]);
    else return undefined;
    event.preventDefault();
    return this.#show();
  }

  #take({ address }) {
    this.dialog.close();
    this.go(address);
  }

  #show() {
    const rows = this.#places.map((place, at) =>
      h(
        "li",
        {
          role: "option",
          id: `switcher-${at}`,
          "aria-selected": String(at === this.#chosen),
          "data-testid": place.testid,
          onclick: () => this.#take(place),
        },
        place.mark,
        h("span", { class: "entry-name" }, place.name),
        place.unread ? h("span", { class: "dot", role: "img", "aria-label": "unread" }) : null,
      ),
    );
    this.list.replaceChildren(
      ...(rows.length > 0 ? rows : [h("li", { class: "quiet" }, "Nothing of that name")]),
    );
    this.field.setAttribute("aria-activedescendant", rows.length > 0 ? `switcher-${this.#chosen}` : "");
  }
}
