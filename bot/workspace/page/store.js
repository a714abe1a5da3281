/**
 * What the page knows of the workspace, as one person sees it, and who wants to hear when that changes.
 *
 * Values in, values out: it draws nothing. A message object is replaced, never changed, so that "the same object"
 * means "nothing to draw again".
 *
 * Says: "people" (a person was loaded), "channels" (list, unread marks), "messages" (channel), "thread" (channel, ts),
 * "status", "views", "view-errors" (view_id, errors), "home", "connection", "notice" (text), "arrived" (a new message).
 */
import { follow, get } from "./api.js";

const threadKey = (channel, ts) => `${channel}:${ts}`;
const asMap = (messages) => new Map(messages.map((message) => [message.ts, message]));
const byTs = (a, b) => (a.ts < b.ts ? -1 : a.ts > b.ts ? 1 : 0);

export class Store extends EventTarget {
  me = null;
  team = null;
  app = {};
  users = [];
  channels = [];
  commands = [];
  shortcuts = [];
  prompts = new Map();
  statuses = new Map();
  titles = new Map();
  views = [];
  homeView = null;
  reached = true;
  connected = null;

  #messages = new Map();
  #threads = new Map();
  #read = {};
  #memory = new Map();
  #dismissed = new Set();
  #waiting = null;
  #stop = () => {};

  /** Becomes `userId`: forgets what the person before saw, follows what happens, reads everything. */
  async become(userId) {
    this.#stop();
    this.#forget();
    this.userId = userId;
    this.#read = JSON.parse(localStorage.getItem(`read:${userId}`) ?? "{}");
    await new Promise((resolve, reject) => {
      this.#stop = follow(userId, {
        opened: () => this.#reload().then(resolve, reject),
        happened: (event) => this.#hear(event),
        lost: () => {
          this.#set("reached", false, "connection");
          reject(new Error("The local workspace does not answer. Is it still running?"));
        },
      });
    });
  }

  #forget() {
    this.#messages.clear();
    this.#threads.clear();
    this.statuses.clear();
    this.prompts.clear();
    this.views = [];
    this.homeView = null;
    this.#waiting = null;
  }

  /** Reads everything; what happens meanwhile is applied after it, so that nothing falls between. */
  async #reload() {
    const threads = [...this.#threads.keys()];
    this.#waiting = [];
    try {
      await this.#load();
      await Promise.all(threads.map((key) => this.loadThread(...key.split(":"))));
      this.#set("reached", true, "connection");
    } finally {
      const waiting = this.#waiting ?? [];
      this.#waiting = null;
      for (const event of waiting) this.#apply(event);
    }
  }

  async #load() {
    const user = this.userId;
    const state = await get("state", { user });
    const { me, team, users, channels, commands, app } = state;
    Object.assign(this, { me, team, users, commands, app, shortcuts: state.shortcuts ?? [] });
    this.channels = channels.map((channel) => this.#named(channel));
    this.statuses = new Map(
      (state.statuses ?? []).map((status) => [threadKey(status.channel, status.thread_ts ?? ""), status]),
    );
    this.prompts = new Map((state.prompts ?? []).map((prompts) => [prompts.channel, prompts]));
    const count = state.connected ?? app?.connected;
    if (count !== undefined) this.connected = Number(count);
    const mine = this.channels.filter((channel) => channel.is_member);
    const [views] = await Promise.all([
      get("views", { user }),
      ...mine.map((channel) => this.#loadChannel(channel.id)),
    ]);
    this.views = views.views;
    for (const kind of ["people", "channels", "status", "views", "connection"]) this.#say(kind);
  }

  #named(channel) {
    if (channel.kind !== "im") return channel;
    const other = channel.members.find((id) => id !== this.userId) ?? this.userId;
    return { ...channel, other, name: this.user(other)?.name ?? channel.name };
  }

  async #loadChannel(channel) {
    const { messages } = await get("messages", { user: this.userId, channel });
    this.#messages.set(channel, asMap(messages));
    this.#say("messages", { channel });
  }

  async loadThread(channel, ts) {
    const { messages } = await get("messages", { user: this.userId, channel, thread_ts: ts });
    this.#threads.set(threadKey(channel, ts), asMap(messages));
    this.#say("thread", { channel, ts });
  }

  async loadHome() {
    const { view } = await get("home", { user: this.userId });
    this.#set("homeView", view, "home");
  }

  user(id) {
    return this.users.find((user) => user.id === id);
  }

  channel(id) {
    return this.channels.find((channel) => channel.id === id);
  }

  /** The page's own address of a conversation, for this person. */
  address(channel, threadTs) {
    return `#${[this.userId, channel, threadTs].filter(Boolean).join("/")}`;
  }

  isApp(userId) {
    return userId === this.app?.bot_user;
  }

  /** Root messages of a channel and what only this person sees there, oldest first. */
  messages(channel) {
    return [...(this.#messages.get(channel)?.values() ?? [])]
      .filter((message) => !this.#dismissed.has(message.ts))
      .sort(byTs);
  }

  /** A root and its replies, oldest first; null while they are not loaded. */
  thread(channel, ts) {
    const known = this.#threads.get(threadKey(channel, ts));
    return known
      ? [...known.values()].filter((message) => !this.#dismissed.has(message.ts)).sort(byTs)
      : null;
  }

  status(channel, threadTs) {
    return this.statuses.get(threadKey(channel, threadTs ?? ""));
  }

  /** Takes an "only visible to you" message away; it is nowhere but in this page. */
  dismiss(channel, message) {
    this.#dismissed.add(message.ts);
    this.#changed(channel, message);
  }

  isUnread(channel) {
    const last = this.#read[channel] ?? "0";
    const newer = (ts) => ts && ts > last;
    const others = (message) => message.user !== this.userId && newer(message.ts);
    const replied = (message) =>
      newer(message.latest_reply) && [message.user, ...(message.reply_users ?? [])].includes(this.userId);
    return this.messages(channel).some((message) => others(message) || replied(message));
  }

  markRead(channel) {
    const seen = this.messages(channel).flatMap((message) => [message.ts, message.latest_reply ?? "0"]);
    const newest = seen.reduce((a, b) => (a > b ? a : b), this.#read[channel] ?? "0");
    if (newest === this.#read[channel]) return;
    this.#read[channel] = newest;
    localStorage.setItem(`read:${this.userId}`, JSON.stringify(this.#read));
    this.#say("channels");
  }

  /** How the reader left something that unfolds, sorts or turns pages, across a new drawing of it. */
  remembered(key, otherwise) {
    return this.#memory.has(key) ? this.#memory.get(key) : otherwise;
  }

  remember(key, value) {
    this.#memory.set(key, value);
  }

  notice(text) {
    this.#say("notice", { text });
  }

  /** Tells the person what went wrong, unless the workspace did so itself. */
  problem(error) {
    if (!error.told) this.notice(error.message);
  }

  on(kind, heard) {
    this.addEventListener(kind, (event) => heard(event.detail ?? {}));
  }

  #say(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }

  #set(name, value, kind) {
    this[name] = value;
    this.#say(kind);
  }

  #hear(event) {
    if (event.type === "reload" || event.type === "channel")
      this.#reload().catch((problem) => this.problem(problem));
    else if (this.#waiting) this.#waiting.push(event);
    else this.#apply(event);
  }

  #apply(event) {
    this.#HAPPENED[event.type]?.(event);
  }

  #HAPPENED = {
    message: ({ channel, message }) => this.#put(channel, message, true),
    ephemeral: ({ channel, message }) => this.#put(channel, { ...message, ephemeral: true }, true),
    message_changed: ({ channel, message }) => this.#put(channel, message, false),
    message_deleted: ({ channel, message, ts, deleted_ts }) =>
      this.#drop(channel, { ...message, ts: message?.ts ?? deleted_ts ?? ts }),
    reactions: ({ channel, ts, reactions }) => this.#react(channel, ts, reactions),
    status: (event) => this.#tell(event),
    prompts: (event) => this.#setPrompts(event),
    view_opened: ({ view }) => this.#setViews([...this.views.filter((one) => one.id !== view.id), view]),
    view_updated: ({ view }) => this.#setViews(this.views.map((one) => (one.id === view.id ? view : one))),
    view_closed: ({ view }) => this.#setViews(this.views.filter((one) => one.id !== view.id)),
    view_errors: (event) => this.#say("view-errors", event),
    home: ({ view }) => this.#set("homeView", view, "home"),
    title: ({ channel, thread_ts: ts, title }) => this.#setTitle(channel, ts, title),
    connected: ({ count }) => this.#set("connected", count, "connection"),
    notice: ({ text }) => this.notice(text),
  };

  #setViews(views) {
    this.#set("views", views, "views");
  }

  #setTitle(channel, ts, title) {
    this.titles.set(threadKey(channel, ts), title);
    this.#say("thread-title", { channel, ts });
  }

  /** The name the app gave a thread, if it did. */
  title(channel, ts) {
    return this.titles.get(threadKey(channel, ts));
  }

  #setPrompts(event) {
    this.prompts.set(event.channel, event);
    this.#say("status");
  }

  #tell({ channel, thread_ts: ts, status, loading_messages: loading }) {
    const key = threadKey(channel, ts ?? "");
    if (status) this.statuses.set(key, { channel, thread_ts: ts, status, loading_messages: loading });
    else this.statuses.delete(key);
    this.#say("status");
  }

  #put(channel, message, isNew) {
    const isReply = message.thread_ts && message.thread_ts !== message.ts;
    const rootTs = isReply ? message.thread_ts : message.ts;
    const thread = this.#threads.get(threadKey(channel, rootTs));
    if (!isReply) this.#messages.get(channel)?.set(message.ts, message);
    if (isReply || thread?.has(rootTs)) thread?.set(message.ts, message);
    this.#changed(channel, message);
    if (isNew) this.#say("arrived", { channel, message });
  }

  #drop(channel, message) {
    this.#messages.get(channel)?.delete(message.ts);
    for (const [key, thread] of this.#threads) if (key.startsWith(`${channel}:`)) thread.delete(message.ts);
    this.#changed(channel, message);
    this.#say("thread", { channel });
  }

  #react(channel, ts, reactions) {
    const room = this.#messages.get(channel);
    const maps = [
      room,
      ...[...this.#threads].filter(([key]) => key.startsWith(`${channel}:`)).map(([, thread]) => thread),
    ];
    for (const map of maps) {
      const message = map?.get(ts);
      if (message) map.set(ts, { ...message, reactions });
    }
    this.#say("messages", { channel });
    this.#say("thread", { channel });
  }

  #changed(channel, message) {
    this.#say("messages", { channel });
    this.#say("thread", { channel, ts: message.thread_ts ?? message.ts });
    this.#say("channels");
  }
}
