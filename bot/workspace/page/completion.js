/** The list above a message box: people after @, channels after #, commands after /, emoji after a colon. */
import { h, newId } from "./dom.js";
import { characterOf, findEmoji } from "./emoji.js";
import { avatar } from "./names.js";

const MOST = 8;

/** What is being typed just before the caret: a pattern whose last group is the part to complete, and what fits. */
const KINDS = [
  { pattern: /^(\/[\w-]*)$/, offers: commands },
  { pattern: /(?:^|[\s(])(@[\w.-]*)$/, offers: people },
  { pattern: /(?:^|[\s(])(#[\w-]*)$/, offers: channels },
  { pattern: /(?:^|\s)(:[a-z0-9_+-]{2,})$/, offers: emojis },
];

function commands(part, store) {
  return store.commands
    .filter(({ command }) => command.startsWith(part))
    .map(({ command, description, usage_hint }) => ({
      insert: command,
      title: `${command} ${usage_hint ?? ""}`,
      hint: description,
    }));
}

function people(part, store) {
  const sought = part.slice(1).toLowerCase();
  const fits = (user) =>
    [user.name, ...(user.real_name ?? "").split(" ")].some((name) => name.toLowerCase().startsWith(sought));
  const found = store.users.filter((user) => user.id !== store.userId && fits(user));
  found.sort((a, b) => Number(b.is_bot ?? false) - Number(a.is_bot ?? false));
  return found.map((user) => ({
    insert: `@${user.name}`,
    title: user.real_name || user.name,
    hint: `@${user.name}`,
    face: avatar(user, { small: true }),
  }));
}

function channels(part, store) {
  const found = store.channels.filter(
    (channel) => channel.kind !== "im" && channel.is_member && channel.name.startsWith(part.slice(1)),
  );
  return found.map((channel) => ({
    insert: `#${channel.name}`,
    title: `#${channel.name}`,
    hint: channel.topic,
  }));
}

function emojis(part) {
  return findEmoji(part.slice(1), MOST).map((name) => ({
    insert: `:${name}:`,
    title: `${characterOf(name)}  :${name}:`,
    hint: "",
  }));
}

/** Watches `area` and shows what fits in a list inside `frame`. */
export class Completion {
  #offers = [];
  #part = "";
  #chosen = 0;

  constructor(area, frame, store) {
    Object.assign(this, { area, store });
    this.list = h("ul", {
      class: "completion",
      role: "listbox",
      id: newId("completion"),
      hidden: true,
      "data-testid": "completion",
      "aria-label": "Suggestions",
    });
    frame.append(this.list);
    area.setAttribute("aria-autocomplete", "list");
    area.setAttribute("aria-controls", this.list.id);
    area.addEventListener("input", () => this.look());
    area.addEventListener("click", () => this.look());
    area.addEventListener("blur", () => this.close());
  }

  look() {
    const before = this.area.value.slice(0, this.area.selectionStart);
    for (const { pattern, offers } of KINDS) {
      const found = pattern.exec(before);
      if (!found) continue;
      this.#part = found[1];
      this.#offers = offers(found[1], this.store).slice(0, MOST);
      this.#chosen = 0;
      return this.#show();
    }
    return this.close();
  }

  close() {
    this.#offers = [];
    this.#show();
  }

  /** Takes the keys that are for the list; true where it did. A word that is already complete leaves Enter alone. */
  key(event) {
    if (this.#offers.length === 0) return false;
    const offer = this.#offers[this.#chosen];
    const complete = offer.insert === this.#part;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") this.#move(event.key === "ArrowDown" ? 1 : -1);
    else if (event.key === "Escape") this.close();
    else if ((event.key === "Enter" && !event.shiftKey && !complete) || event.key === "Tab")
      this.#insert(offer);
    else return false;
    event.preventDefault();
    return true;
  }

  #move(step) {
    this.#chosen = (this.#chosen + step + this.#offers.length) % this.#offers.length;
    this.#show();
  }

  #insert({ insert }) {
    const end = this.area.selectionStart;
    this.area.setRangeText(`${insert} `, end - this.#part.length, end, "end");
    this.close();
    this.area.dispatchEvent(new Event("input"));
    this.area.focus();
  }

  #show() {
    this.list.replaceChildren(...this.#offers.map((offer, at) => this.#row(offer, at)));
    this.list.hidden = this.#offers.length === 0;
    if (this.list.hidden) this.area.removeAttribute("aria-activedescendant");
    else this.area.setAttribute("aria-activedescendant", `${this.list.id}-${this.#chosen}`);
  }

  #row(offer, at) {
    const take = (event) => {
      event.preventDefault();
      this.#insert(offer);
    };
    const props = {
      role: "option",
      id: `${this.list.id}-${at}`,
      "aria-selected": String(at === this.#chosen),
      "data-testid": `completion-${offer.insert}`,
      onmousedown: take,
    };
    return h(
      "li",
      props,
      offer.face ?? null,
      h("strong", {}, offer.title),
      h("span", { class: "quiet" }, offer.hint),
    );
  }
}
