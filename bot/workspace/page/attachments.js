/** Files that wait beside a message box until it is sent: chosen with the button, pasted, or dropped. */
import { h, sizeOf } from "./dom.js";
import { icon } from "./icons.js";

const LARGEST = 32 * 1024 * 1024;
const MOST = 10;

/** The row of chosen files above a message box; `changed()` hears when it grows or shrinks. */
export class Attachments {
  files = [];

  constructor(store, changed) {
    Object.assign(this, { store, changed });
    this.node = h("ul", { class: "attachments", hidden: true, "aria-label": "Files to send" });
    this.field = h("input", {
      type: "file",
      multiple: true,
      hidden: true,
      "data-testid": "file-field",
      onchange: () => {
        this.add([...this.field.files]);
        this.field.value = "";
      },
    });
  }

  /** Asks the person for files. */
  choose() {
    this.field.click();
  }

  add(files) {
    for (const file of files) {
      if (file.size > LARGEST) this.store.notice(`${file.name} is larger than ${sizeOf(LARGEST)}.`);
      else if (file.size === 0) this.store.notice(`${file.name} is empty; Slack refuses empty files.`);
      else if (this.files.length >= MOST) this.store.notice(`A message takes at most ${MOST} files.`);
      else this.files.push(file);
    }
    this.#draw();
  }

  /** Hands the files over and forgets them. */
  take() {
    const files = this.files;
    this.set([]);
    return files;
  }

  set(files) {
    this.files = files;
    this.#draw();
  }

  /** Takes files that are pasted into `area` or dropped onto `frame`. */
  listen(area, frame) {
    area.addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (files.length === 0) return;
      event.preventDefault();
      this.add(files);
    });
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    frame.addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      frame.classList.add("drop-here");
    });
    frame.addEventListener("dragleave", (event) => {
      if (!frame.contains(event.relatedTarget)) frame.classList.remove("drop-here");
    });
    frame.addEventListener("drop", (event) => {
      frame.classList.remove("drop-here");
      if (!hasFiles(event)) return;
      event.preventDefault();
      this.add([...event.dataTransfer.files]);
      area.focus();
    });
  }

  #draw() {
    this.node.hidden = this.files.length === 0;
    this.node.replaceChildren(...this.files.map((file) => this.#row(file)));
    this.changed();
  }

  #row(file) {
    const drop = () => this.set(this.files.filter((one) => one !== file));
    return h(
      "li",
      { class: "attachment", "data-testid": "attachment" },
      icon("file"),
      h("span", {}, file.name, h("span", { class: "quiet" }, ` ${sizeOf(file.size)}`)),
      h(
        "button",
        { class: "icon-button", type: "button", "aria-label": `Remove ${file.name}`, onclick: drop },
        icon("close"),
      ),
    );
  }
}
