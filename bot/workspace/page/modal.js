/** Modals: the top of the app's view stack as a dialog, its form, and what was wrong with it. */
import { must, submit } from "./api.js";
import { renderBlocks } from "./blocks.js";
import { h, newId, swap } from "./dom.js";
import { focusPressed } from "./elements.js";
import { FormValues, problemsOf } from "./forms.js";
import { icon } from "./icons.js";
import { surfaceOf } from "./surface.js";
import { textLine } from "./texts.js";

/** Shows and hides modals as the store's views come and go. Focus returns to where it was when the last one closes. */
export class Modals {
  #values = new Map();
  #errors = new Map();
  #shown = null;

  constructor(store) {
    this.store = store;
    this.dialog = h("dialog", { class: "modal", "data-testid": "modal" });
    this.dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      void this.#close();
    });
    this.dialog.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey))
        this.dialog.querySelector("form")?.requestSubmit();
    });
    document.body.append(this.dialog);
    store.on("views", () => this.#show());
    store.on("view-errors", ({ view_id: id, errors }) => this.#fail(id, errors));
  }

  get view() {
    return this.store.views.at(-1);
  }

  #show() {
    const { view } = this;
    if (!view) {
      this.#values.clear();
      this.#errors.clear();
      this.#shown = null;
      if (this.dialog.open) this.dialog.close();
      requestAnimationFrame(focusPressed);
      return;
    }
    if (this.#shown === view) return;
    const before = this.#shown?.id === view.id ? this.#shown : null;
    this.#shown = view;
    this.#draw(view);
    if (!this.dialog.open) this.dialog.showModal();
    const wanted = focusedOnLoad(view, before);
    if (wanted) this.dialog.querySelector(`[data-testid="input-${CSS.escape(wanted)}"]`)?.focus();
    else if (!before) this.#focusFirst();
  }

  #focusFirst() {
    const first =
      this.dialog.querySelector(".modal-body :is(input, textarea, select):not([disabled])") ??
      this.dialog.querySelector("[data-testid=modal-submit]") ??
      this.dialog.querySelector("[data-testid=modal-close]");
    first?.focus();
  }

  #valuesOf(view) {
    if (!this.#values.has(view.id)) this.#values.set(view.id, new FormValues(view));
    return this.#values.get(view.id);
  }

  #draw(view) {
    const title = newId("modal");
    const body = h("div", { class: "modal-body" }, renderBlocks(view.blocks, this.#surface(view)));
    const form = h(
      "form",
      { novalidate: true, onsubmit: (event) => this.#submit(event, view) },
      this.#head(view, title),
      body,
      this.#foot(view),
    );
    const scrolled = this.dialog.querySelector(".modal-body")?.scrollTop ?? 0;
    this.dialog.setAttribute("aria-labelledby", title);
    this.dialog.dataset.viewId = view.id;
    this.dialog.dataset.callbackId = view.callback_id ?? "";
    if (this.dialog.firstElementChild) swap(this.dialog.firstElementChild, form);
    else this.dialog.append(form);
    body.scrollTop = scrolled;
  }

  #surface(view) {
    return surfaceOf(this.store, {
      kind: "modal",
      key: view.id,
      container: { type: "view", view_id: view.id },
      values: this.#valuesOf(view),
      blocks: view.blocks,
      errors: this.#errors.get(view.id),
    });
  }

  #head(view, title) {
    const back =
      this.store.views.length > 1
        ? h(
            "button",
            {
              class: "icon-button",
              type: "button",
              "aria-label": "Back",
              "data-testid": "modal-back",
              onclick: () => this.#close(),
            },
            icon("back"),
          )
        : null;
    return h(
      "header",
      { class: "modal-head" },
      back,
      h("h2", { id: title }, textLine(view.title, this.store)),
      h(
        "button",
        {
          class: "icon-button",
          type: "button",
          "aria-label": "Close",
          "data-testid": "modal-dismiss",
          onclick: () => this.#closeAll(),
        },
        icon("close"),
      ),
    );
  }

  #foot(view) {
    const hasInputs = view.blocks.some((block) => block.type === "input");
    const submit =
      view.submit || hasInputs
        ? h(
            "button",
            { class: "button button-primary button-solid", type: "submit", "data-testid": "modal-submit" },
            view.submit ? textLine(view.submit) : "Submit",
          )
        : null;
    const close = h(
      "button",
      { class: "button", type: "button", "data-testid": "modal-close", onclick: () => this.#close() },
      view.close ? textLine(view.close) : submit ? "Cancel" : "Close",
    );
    return h("footer", { class: "modal-foot" }, close, submit);
  }

  async #submit(event, view) {
    event.preventDefault();
    const values = this.#valuesOf(view);
    const problems = problemsOf(view, values);
    if (Object.keys(problems).length > 0) return this.#fail(view.id, problems);
    this.#errors.delete(view.id);
    const button = this.dialog.querySelector("[data-testid=modal-submit]");
    button.disabled = true;
    button.setAttribute("aria-busy", "true");
    try {
      const refused = await submit({
        user: this.store.userId,
        view_id: view.id,
        values: values.of(view.blocks),
      });
      if (refused) this.#fail(view.id, refused);
    } catch (problem) {
      this.store.problem(problem);
    } finally {
      button.disabled = false;
      button.removeAttribute("aria-busy");
    }
    return undefined;
  }

  #fail(viewId, errors) {
    this.#errors.set(viewId, errors);
    const { view } = this;
    if (view?.id !== viewId) return;
    this.#draw(view);
    this.dialog.querySelector("[aria-invalid=true]")?.focus();
  }

  async #close() {
    const { view } = this;
    if (!view) return;
    try {
      await must("close", { user: this.store.userId, view_id: view.id });
    } catch (problem) {
      this.store.problem(problem);
    }
  }

  async #closeAll() {
    for (let left = this.store.views.length; left > 0; left -= 1) await this.#close();
  }
}

/** The action id of the input that asks for the keyboard, if its block is new to the window. */
function focusedOnLoad(view, before) {
  const known = new Set((before?.blocks ?? []).map((block) => block.block_id));
  return view.blocks.find((block) => block.element?.focus_on_load && !known.has(block.block_id))?.element
    .action_id;
}
