/** The app's Home tab: the view it published for this person. */
import { must } from "./api.js";
import { renderBlocks } from "./blocks.js";
import { beforePaint, h } from "./dom.js";
import { FormValues } from "./forms.js";
import { surfaceOf } from "./surface.js";

/** Draws the Home tab while it is open and tells the app when it is opened. */
export class Home {
  #values = null;
  #id = null;

  constructor(store) {
    this.store = store;
    this.node = h("div", {
      class: "home scroller",
      role: "tabpanel",
      "aria-label": "Home",
      tabindex: "0",
      "data-testid": "home",
    });
    this.draw = beforePaint(() => this.#draw());
    store.on("home", () => this.node.isConnected && this.draw());
  }

  async open() {
    this.draw();
    try {
      await this.store.loadHome();
      await must("home", { user: this.store.userId });
    } catch (problem) {
      this.store.problem(problem);
    }
  }

  #draw() {
    const view = this.store.homeView;
    if (!view) {
      this.node.replaceChildren(
        h("p", { class: "quiet" }, "The app has not published a Home tab for you yet."),
      );
      return;
    }
    if (view.id !== this.#id) this.#values = new FormValues(view);
    this.#id = view.id;
    this.node.replaceChildren(
      h("div", { class: "home-view" }, renderBlocks(view.blocks, this.#surface(view))),
    );
  }

  #surface(view) {
    return surfaceOf(this.store, {
      kind: "home",
      key: `home:${view.id}`,
      container: { type: "view", view_id: view.id },
      values: this.#values,
      blocks: view.blocks,
    });
  }
}
