/** A block of code: its language, the code as it is, and a button that copies it. */
import { h } from "./dom.js";
import { icon } from "./icons.js";

const THANKS_MS = 1500;

/** `looks` adds a class to the frame. The button comes with the pointer or the keyboard: most blocks are only read. */
export function codeBlock(text, language = "", looks = "") {
  const offer = () => frame.querySelector(":scope > button") ?? frame.append(copyButton(text));
  const frame = h(
    "div",
    { class: `code-frame ${looks}`.trim(), onpointermove: offer, onfocusin: offer },
    language ? h("span", { class: "code-language" }, language) : null,
    h("pre", { class: "code-block", tabindex: "0" }, h("code", {}, text)),
  );
  return frame;
}

function copyButton(text) {
  const button = h(
    "button",
    {
      class: "icon-button code-copy",
      type: "button",
      title: "Copy",
      "aria-label": "Copy the code",
      "data-testid": "code-copy",
      onclick: () => void copied(button, text),
    },
    icon("copy"),
  );
  return button;
}

async function copied(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.replaceChildren(icon("check"));
    button.title = "Copied";
  } catch {
    button.title = "This browser does not let the page copy. Select the code and copy it.";
  }
  setTimeout(() => button.replaceChildren(icon("copy")), THANKS_MS);
}
