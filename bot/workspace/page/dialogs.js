/** Questions that must be answered first: an element's own confirmation, and those of this page. */
import { h, newId } from "./dom.js";
import { textLine, textObject } from "./texts.js";

/** Shows Slack's confirmation object; resolves to whether the person agreed. Esc is no. */
export function confirmed(confirm, store) {
  return new Promise((resolve) => {
    const title = newId("confirm");
    const dialog = h(
      "dialog",
      { class: "confirm", "aria-labelledby": title, "data-testid": "confirm" },
      h("h2", { id: title }, textLine(confirm.title ?? "Are you sure?", store)),
      h("div", { class: "confirm-text" }, textObject(confirm.text, store)),
      h(
        "div",
        { class: "dialog-buttons" },
        h(
          "button",
          {
            class: "button",
            type: "button",
            "data-testid": "confirm-cancel",
            onclick: () => dialog.close("no"),
          },
          textLine(confirm.deny ?? "Cancel", store),
        ),
        h(
          "button",
          {
            class: `button ${confirm.style === "danger" ? "button-danger" : "button-primary"} button-solid`,
            type: "button",
            "data-testid": "confirm-ok",
            autofocus: true,
            onclick: () => dialog.close("yes"),
          },
          textLine(confirm.confirm ?? "Yes", store),
        ),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
