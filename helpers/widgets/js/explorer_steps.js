// @ts-check
// The accepted images of an explorer, each painted on the one before it: a click goes on from there.
import { button, element, mark } from "./dom.js";

export class Steps {
  listed = null;
  list = element("div", { class: "ex-thumbs", role: "group", "aria-label": "Accepted, the first input first" });
  node = element("section", { class: "ex-history", "aria-label": "Accepted", hidden: "" },
    element("div", { class: "ex-line" }, element("strong", {}, "Accepted"),
      element("span", { class: "ex-hint" }, "Each was painted on the one before it. Go on from any of them.")), this.list);

  constructor(store) {
    this.store = store;
  }

  refresh() {
    const { store: { steps, model }, list } = this, at = model.get("_at");
    this.node.hidden = !steps.length;
    if (this.listed !== steps) list.replaceChildren(...steps.map((step, number) => this.thumb(step, number)));
    this.listed = steps;
    [...list.children].forEach((node, number) => mark(node, { "aria-current": number === at, tabindex: number === at ? 0 : -1 }));
  }

  thumb({ text, url }, number) {
    const label = number ? `Step ${number}: ${text}` : text;
    return button("ex-thumb ex-step", () => this.store.back(number), { title: label, "aria-label": label },
      element("img", { src: url, alt: "", draggable: false }),
      element("b", { class: "cw-badge", "aria-hidden": true }, number ? String(number) : "Start"));
  }

  /** Whether a key on one of the images was taken. */
  key(thumb, key) {
    const other = { ArrowLeft: thumb.previousElementSibling, ArrowRight: thumb.nextElementSibling }[key];
    other?.focus();
    return Boolean(other);
  }
}
