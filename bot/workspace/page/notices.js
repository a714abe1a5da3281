/** Short words that come and go, lines that stay while something is wrong, and what is read aloud. */
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { asWords } from "./mrkdwn.js";

const SHOWN_MS = 9000;
const ALOUD_MS = 5000;
const ALOUD = 500;

/** Shows the store's notices above everything, an open modal too. */
export function showNotices(node, store) {
  store.on("notice", ({ text }) => {
    const toast = h(
      "div",
      { class: "toast", "data-testid": "notice" },
      h("span", {}, text),
      h(
        "button",
        { class: "icon-button", type: "button", "aria-label": "Dismiss", onclick: () => gone() },
        icon("close"),
      ),
    );
    const gone = () => {
      toast.remove();
      if (!node.firstChild && node.matches(":popover-open")) node.hidePopover();
    };
    node.append(toast);
    if (node.matches(":popover-open")) node.hidePopover();
    node.showPopover();
    setTimeout(gone, SHOWN_MS);
  });
}

/** The lines under the banner: the app is away, or this page lost the workspace. */
export function showConnection(node, store) {
  const draw = () => {
    const lines = [];
    if (!store.reached)
      lines.push(
        h(
          "p",
          { class: "line line-lost", "data-testid": "lost" },
          "Reconnecting… This page lost the local workspace and is trying again. Is it still running?",
        ),
      );
    else if (!store.installed)
      lines.push(
        h(
          "p",
          { class: "line", "data-testid": "uninstalled" },
          `${store.app?.name ?? "The app"} was uninstalled: its tokens are refused until this workspace is reset.`,
        ),
      );
    else if (store.connected === 0)
      lines.push(
        h(
          "p",
          { class: "line", "data-testid": "offline" },
          `${store.app?.name ?? "The app"} is offline: no socket is connected. You can write, but nobody answers until it is back.`,
        ),
      );
    node.replaceChildren(...lines);
  };
  store.on("connection", draw);
  store.on("people", draw);
}

/** Reads new messages of others aloud where the reader is; an answer that is written piece by piece once, at its end. */
export function announce(node, store, isHere) {
  const tell = ({ channel, message }) => {
    if (message.user === store.userId || !isHere(channel)) return;
    const name = store.user(message.user)?.real_name ?? message.username ?? "The app";
    const streaming = message.streaming || message.streaming_state === "in_progress";
    const line = h(
      "p",
      {},
      streaming ? `${name} is answering.` : `${name}: ${asWords(message.text ?? "", store).slice(0, ALOUD)}`,
    );
    node.append(line);
    setTimeout(() => line.remove(), ALOUD_MS);
  };
  store.on("arrived", tell);
  store.on("finished", tell);
}
