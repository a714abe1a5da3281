/**
 * What the page knows of the workspace, as one person sees it, and who wants to hear when that changes.
 *
 * Values in, values out: it draws nothing. A message object is replaced, never changed, so that "the same object"
 * means "nothing to draw again".
 *
 * Says: "people" (a person was loaded), "channels" (list, unread marks), "messages" (channel), "thread" (channel, ts),
 * "status", "sessions", "views", "view-errors" (view_id, errors), "home", "connection", "notice" (text), "arrived" (a
 * new message), "finished" (a streamed answer is complete).
 */
import { get, must } from "./api.js";
import { follow } from "./line.js";

/** After these everything is read again. */
const RELOADS = new Set(["reload", "channel", "reset", "uninstalled"]);

/** A conversation of two or of a few people, which has no name of its own. */
export const isDirect = (channel) => channel?.kind === "im" || channel?.kind === "mpim";

const threadKey = (channel, ts) => `${channel}:${ts}`;
const asMap = (messages) => new Map(messages.map((message) => [message.ts, known(message)]));
const byTs = (a, b) => (a.ts < b.ts ? -1 : a.ts > b.ts ? 1 : 0);

/** A message as the page knows it: `streaming` says whether it is still being written, whatever the server calls it. */
function known(message) {
  const streaming = Boolean(message.streaming) || message.streaming_state === "in_progress";
  return streaming === Boolean(message.streaming) ? message : { ...message, streaming };
}

export class Store extends EventTarget {
  me = null;
  team = null;
  app = {};
  users = [];
  channels = [];
  commands = [];
  shortcuts = [];
  globalShortcuts = [];
  canStop = true;
  installed = true;
  prompts = new Map();
  statuses = new Map();
  titles = new Map();
  sessions = new Map();
  agent = null;
  homeTab = true;
  views = [];
  homeView = null;
  reached = true;
  connected = null;

  #messages = new Map();
  #threads = new Map();
  #sorted = new Map();
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
    await get("views", { user: userId });
    await new Promise((resolve, reject) => {
      this.#stop = follow(userId, {
        opened: () => this.#reload().then(resolve, reject),
        happened: (event) => this.#hear(event),
        lost: () => this.#set("reached", false, "connection"),
      });
    });
  }

  #forget() {
    this.#messages.clear();
    this.#threads.clear();
    this.#sorted.clear();
    this.statuses.clear();
    this.sessions.clear();
    this.titles.clear();
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
    this.sessions = new Map(
      (state.sessions ?? []).map((session) => [threadKey(session.channel, session.thread_ts), session]),
    );
    this.agent = state.agent ?? null;
    this.homeTab = state.home_tab ?? true;
    this.globalShortcuts = state.global_shortcuts ?? [];
    this.canStop = state.can_stop ?? true;
    this.installed = state.installed ?? true;
    this.prompts = new Map((state.prompts ?? []).map((prompts) => [prompts.channel, prompts]));
    const count = state.connected ?? app?.connected;
    if (count !== undefined) this.connected = Number(count);
    const mine = this.channels.filter((channel) => channel.is_member);
    const [views] = await Promise.all([
      get("views", { user }),
      ...mine.map((channel) => this.#loadChannel(channel.id)),
    ]);
    this.views = views.views;
    for (const kind of ["people", "channels", "status", "sessions", "views", "connection"]) this.#say(kind);
  }

  #named(channel) {
    if (channel.kind !== "im") return channel;
    const other = channel.members.find((id) => id !== this.userId) ?? this.userId;
    return { ...channel, other, name: this.user(other)?.name ?? channel.name };
  }

  async #loadChannel(channel) {
    const { messages } = await get("messages", { user: this.userId, channel });
    this.#messages.set(channel, asMap(messages));
    this.#sorted.delete(channel);
    this.#say("messages", { channel });
  }

  async loadThread(channel, ts) {
    const { messages } = await get("messages", { user: this.userId, channel, thread_ts: ts });
    this.#threads.set(threadKey(channel, ts), asMap(messages));
    this.#sorted.delete(threadKey(channel, ts));
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

  /** A conversation as people call it: "help-desk", "Apprentice", "Ben Expert, Dan Asker". */
  nameOf(channel) {
    if (!channel || !isDirect(channel)) return channel?.name ?? "";
    const others = channel.members.filter((id) => id !== this.userId);
    const names = (others.length > 0 ? others : [this.userId]).map((id) => this.user(id)?.real_name ?? id);
    return names.join(", ");
  }

  /** The page's own address of a conversation, for this person. */
  address(channel, threadTs) {
    return `#${[this.userId, channel, threadTs].filter(Boolean).join("/")}`;
  }

  get hasAgentView() {
    return Boolean(this.agent?.description || this.agent?.prompts?.length);
  }

  isApp(userId) {
    return userId === this.app?.bot_user;
  }

  /** Root messages of a channel and what only this person sees there, oldest first. */
  messages(channel) {
    return this.#inOrder(channel, this.#messages.get(channel)) ?? [];
  }

  /** A root and its replies, oldest first; null while they are not loaded. */
  thread(channel, ts) {
    const key = threadKey(channel, ts);
    return this.#inOrder(key, this.#threads.get(key)) ?? null;
  }

  #inOrder(key, messages) {
    if (messages && !this.#sorted.has(key)) {
      const shown = [...messages.values()].filter((message) => !this.#dismissed.has(message.ts));
      this.#sorted.set(key, shown.sort(byTs));
    }
    return messages && this.#sorted.get(key);
  }

  /** The app's session in a thread, or undefined. */
  session(channel, threadTs) {
    return this.sessions.get(threadKey(channel, threadTs));
  }

  /** The newest session of a thread, or of any thread in this channel, in which the app is at work; else undefined. */
  processing(channel, threadTs) {
    const here = [...this.sessions.values()].filter(
      (session) =>
        session.status === "processing" &&
        session.channel === channel &&
        (!threadTs || session.thread_ts === threadTs),
    );
    return here.sort((a, b) => (a.thread_ts < b.thread_ts ? -1 : 1)).at(-1);
  }

  status(channel, threadTs) {
    return this.statuses.get(threadKey(channel, threadTs ?? ""));
  }

  /** Takes an "only visible to you" message away, for good. */
  async dismiss(channel, message) {
    this.#dismissed.add(message.ts);
    this.#changed(channel, message);
    try {
      await must("dismiss", { user: this.userId, channel, ts: message.ts });
    } catch (problem) {
      this.problem(problem);
    }
  }

  /** The timestamp up to which this person has read a channel. */
  readUntil(channel) {
    return this.#read[channel] ?? "0";
  }

  isUnread(channel) {
    const last = this.readUntil(channel);
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
    if (event.type === "reset") this.#forget();
    if (RELOADS.has(event.type)) this.#reload().catch((problem) => this.problem(problem));
    else if (this.#waiting) this.#waiting.push(event);
    else this.#apply(event);
  }

  #apply(event) {
    this.#HAPPENED[event.type]?.(event);
  }

  #HAPPENED = {
    message: ({ channel, message }) => this.#put(channel, message, true),
    ephemeral: ({ channel, message }) => this.#put(channel, { ...message, ephemeral: true }, true),
    message_changed: ({ channel, message }) => this.#change(channel, message),
    message_deleted: ({ channel, message, ts, deleted_ts }) =>
      this.#drop(channel, { ...message, ts: message?.ts ?? deleted_ts ?? ts }),
    reactions: ({ channel, ts, reactions }) => this.#react(channel, ts, reactions),
    status: (event) => this.#tell(event),
    session: (event) => this.#setSession(event),
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
    return this.titles.get(threadKey(channel, ts)) ?? this.session(channel, ts)?.title;
  }

  #setSession(event) {
    this.sessions.set(threadKey(event.channel, event.thread_ts), event);
    this.#say("sessions");
    this.#say("thread-title", { channel: event.channel, ts: event.thread_ts });
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

  #change(channel, message) {
    const before = this.#messages.get(channel)?.get(message.ts) ?? this.#inThread(channel, message);
    this.#put(channel, message, false);
    if (before?.streaming && !known(message).streaming) this.#say("finished", { channel, message });
  }

  #inThread(channel, { thread_ts: threadTs, ts }) {
    return this.#threads.get(threadKey(channel, threadTs ?? ts))?.get(ts);
  }

  #put(channel, given, isNew) {
    const message = known(given);
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
    this.#forgetOrder(channel);
    for (const map of maps) {
      const message = map?.get(ts);
      if (message) map.set(ts, { ...message, reactions });
    }
    this.#say("messages", { channel });
    this.#say("thread", { channel });
  }

  #forgetOrder(channel) {
    for (const key of this.#sorted.keys())
      if (key === channel || key.startsWith(`${channel}:`)) this.#sorted.delete(key);
  }

  #changed(channel, message) {
    this.#forgetOrder(channel);
    this.#say("messages", { channel });
    this.#say("thread", { channel, ts: message.thread_ts ?? message.ts });
    if (!message.streaming) this.#say("channels");
  }
}
