/**
 * Puts the page together. The address says who one is and where: `#U0CLEO/C0HELP/1718000000.000100`, so that a tab, a
 * reload and the back button keep their place, and two tabs can be two people.
 */
import { must } from "./api.js";
import { ChannelPane } from "./channel.js";
import { icon } from "./icons.js";
import { Inspector } from "./inspector.js";
import { Modals } from "./modal.js";
import { announce, showConnection, showNotices } from "./notices.js";
import { Sidebar } from "./sidebar.js";
import { Store } from "./store.js";
import { Switcher } from "./switcher.js";
import { themeSwitch } from "./theme.js";
import { ThreadPane } from "./thread.js";

const FIRST_PERSON = "U0ANN";
const FIRST_CHANNEL = "help-desk";
const TABS = new Set(["home", "history"]);

const byId = (id) => document.getElementById(id);
const store = new Store();
const go = (address) => {
  location.hash = address;
};
const channelPane = new ChannelPane(byId("channel"), store, go);
const threadPane = new ThreadPane(byId("thread"), store, () => go(store.address(channelPane.id)));
const sidebar = new Sidebar(byId("sidebar"), store, {
  current: () => channelPane.id,
  become: (user) => go(`#${user}/${channelPane.id ?? ""}`),
});
new Modals(store);
const switcher = new Switcher(store, go);
themeSwitch(byId("theme"));
new Inspector(byId("inspector"), byId("open-inspector"), store);
showNotices(byId("toasts"), store);
showConnection(byId("lines"), store);
announce(byId("announcer"), store, (channel) => channel === channelPane.id);

function asked() {
  const [user, channel, rest] = decodeURIComponent(location.hash.slice(1)).split("/");
  return { user: user || localStorage.getItem("person") || FIRST_PERSON, channel, rest };
}

let newest = 0;
let becoming = Promise.resolve();

/** Follows the address: first who, then where. A person or channel that is not there gives way to one that is. */
async function follow() {
  const mine = ++newest;
  const { user, channel, rest } = asked();
  if (user !== store.userId) becoming = become(user);
  await becoming;
  if (mine !== newest) return; // the address has changed meanwhile
  const room = roomFor(channel);
  if (!room) return;
  if (room.id !== channel) history.replaceState(null, "", store.address(room.id));
  const ts = room.id === channel && rest && !TABS.has(rest) ? rest : null;
  const moved = room.id !== channelPane.id;
  channelPane.show(room.id, TABS.has(rest) ? rest : "messages");
  await threadPane.show(room.id, ts);
  if (mine !== newest) return;
  if (moved) tellContext(room.id);
  reveal(ts);
  sidebar.draw();
  document.body.classList.toggle("with-thread", Boolean(ts));
  showSidebar(false);
  document.body.dataset.shown = store.address(room.id);
  document.title = `${room.name} · Local workspace`;
}

/** The app of an agent view hears what the person looks at; another app is left alone. */
function tellContext(channel) {
  if (store.hasAgentView) must("context", { user: store.userId, channel }).catch(() => {});
}

let sought = null;

/** A link to a message (`/archives/C.../p...`, see chat.getPermalink) arrives here as a query: it becomes an address. */
function takeLink() {
  const query = new URLSearchParams(location.search);
  const [channel, ts, thread] = ["channel", "ts", "thread_ts"].map((name) => query.get(name));
  if (!channel) return;
  sought = ts;
  const { user } = asked();
  history.replaceState(null, "", `/#${[user, channel, thread].filter(Boolean).join("/")}`);
}

/** Brings the message that a link named into view. */
function reveal(threadTs) {
  if (!sought || !store.me) return;
  const ts = sought;
  sought = null;
  requestAnimationFrame(() => {
    if (threadTs && threadTs !== ts) threadPane.reveal(ts);
    else channelPane.reveal(ts);
  });
}

/** The channel asked for; where this person has none of that id, the same kind of place, or the first. */
function roomFor(id) {
  const mine = store.channels.filter((channel) => channel.is_member);
  const direct = id?.startsWith("D")
    ? mine.find((channel) => channel.kind === "im" && store.isApp(channel.other))
    : undefined;
  return (
    mine.find((channel) => channel.id === id) ??
    direct ??
    mine.find((channel) => channel.name === FIRST_CHANNEL) ??
    mine[0]
  );
}

async function become(user) {
  try {
    await store.become(user);
    localStorage.setItem("person", user);
  } catch (problem) {
    if (user !== FIRST_PERSON) return go(`#${FIRST_PERSON}`);
    store.problem(problem);
  }
  return undefined;
}

function showSidebar(open) {
  document.body.classList.toggle("sidebar-open", open);
  byId("open-sidebar").setAttribute("aria-expanded", String(open));
}

byId("open-sidebar").append(icon("menu"));
byId("open-sidebar").addEventListener("click", () =>
  showSidebar(!document.body.classList.contains("sidebar-open")),
);
byId("channel").addEventListener("click", () => showSidebar(false));
byId("sidebar").addEventListener("click", (event) => event.target.closest("a") && showSidebar(false));
document.addEventListener(
  "visibilitychange",
  () => document.visibilityState === "visible" && channelPane.id && store.markRead(channelPane.id),
);
byId("open-switcher").append(icon("search"));
byId("open-switcher").addEventListener("click", () => switcher.open());
takeLink();
window.addEventListener("hashchange", () => void follow());
void follow();
