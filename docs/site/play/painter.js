// @ts-check
// The image and the mask that is painted over it: the course's own mask painter, with the tools that this page needs.
import { isHard, pack } from "../../../helpers/widgets/js/bits.js";
import { button, element, mark, onResize } from "../../../helpers/widgets/js/dom.js";
import { iconButton } from "../../../helpers/widgets/js/mask_icons.js";
import { MaskScreen } from "../../../helpers/widgets/js/mask_screen.js";
import { MaskStore } from "../../../helpers/widgets/js/mask_store.js";
import { Model } from "./model.js";

const KEYS = { b: "brush", e: "eraser" };

export class Painter {
  silent = false;  // a change of the page's own is on its way to `painted`

  /** `painted` hears of every change of the mask; `starts` of the first touch of a stroke. */
  constructor(size, { painted, starts }) {
    const signal = new AbortController().signal, blank = document.createElement("canvas");
    this.model = new Model({ _size: [size, size], tool: "brush", brush_size: Math.round(size / 6), softness: 0, level: 255,
      opacity: 0.45, colour: "#ff2d9b", mask_bits: null, _note: "" });
    this.store = new MaskStore({ model: this.model, signal }, Object.assign(blank, { width: size, height: size }),
      pack(new Uint8Array(size * size)));
    this.screen = new MaskScreen(this.store, signal, () => {});
    const { screen, store, model } = this, { hand } = screen;
    store.views.add({ draw: screen.draw.bind(screen), refresh: () => this.refresh(), drop: () => hand.drop() });
    this.tools = Object.values(KEYS).map((tool) => ({ tool, node: iconButton(tool, tool === "brush" ? "Brush" : "Eraser", tool[0].toUpperCase(),
      () => { model.set("tool", tool); this.refresh(); }) }));
    this.size = element("input", { type: "range", min: 2, max: Math.round(size / 2), value: model.get("brush_size"), "aria-label": "Brush size",
      oninput: () => { model.set("brush_size", Number(this.size.value)); this.refresh(); } });
    this.soft = button("cw-quiet play-word", () => { model.set("softness", model.get("softness") ? 0 : 1); this.refresh(); },
      { title: "A soft brush blends the result into the image" }, "Soft");
    this.actions = { undo: iconButton("undo", "Undo", "Ctrl+Z", () => store.undo()), redo: iconButton("redo", "Redo", "Ctrl+Shift+Z", () => store.redo()),
      clear: iconButton("clear", "Clear the mask", "Delete", () => { store.mask.data.fill(0); store.commit(); }) };
    this.spoken = element("span", { class: "cw-spoken", role: "status", "aria-live": "polite" });
    this.bar = element("div", { class: "cw-bar play-tools", role: "toolbar", "aria-label": "Mask painter" },
      ...this.tools.map(({ node }) => node), this.size, this.soft, ...Object.values(this.actions), this.spoken);
    this.node = element("div", { class: "mask-painter", onkeydown: (event) => this.key(event) }, this.bar, screen.mat);
    model.on("change:mask_bits", () => { if (this.silent) this.silent = false; else painted(); });
    screen.over.addEventListener("pointerdown", () => { this.silent = false; starts(); });
    onResize(screen.mat, () => screen.layout(), signal);
    this.refresh();
  }

  /** The levels 0..255, row by row. */
  get mask() { return this.store.mask.data; }

  get isSoft() { return !isHard(this.mask); }

  /** Shows another mask, of which `painted` does not hear. */
  setMask(data) {
    const { store } = this, before = store.bits;
    store.mask.data.set(data);
    store.commit();
    this.silent = store.bits !== before;
  }

  /** Shows an image, a canvas of any size, under the mask. */
  show(image) {
    const { store, screen } = this, { width, height } = store.mask;
    const context = store.image.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, width, height);
    screen.stale = true;
    screen.draw(null);
  }

  key(event) {
    const key = event.key.toLowerCase(), command = event.ctrlKey || event.metaKey, { actions, screen, model } = this;
    this.silent = false;
    if (command && key === "z") (event.shiftKey ? actions.redo : actions.undo).click();
    else if (command || event.target !== screen.over) return;
    else if (screen.hand.key(event)) this.spoken.textContent = screen.hand.said();
    else if (key in KEYS) { model.set("tool", KEYS[key]); this.refresh(); }
    else if (key === "delete" || key === "backspace") actions.clear.click();
    else if (key === "[" || key === "]") {
      this.size.value = String(Number(this.size.value) + (key === "]" ? 2 : -2));
      this.size.dispatchEvent(new Event("input"));
    } else return;
    event.preventDefault();
  }

  refresh() {
    const { model, store, actions } = this;
    for (const { tool, node } of this.tools) mark(node, { "aria-pressed": tool === model.get("tool") });
    mark(this.soft, { "aria-pressed": model.get("softness") > 0 });
    mark(this.size, { "aria-valuetext": `${model.get("brush_size")} pixels` });
    mark(actions.undo, { "aria-disabled": !store.past.length });
    mark(actions.redo, { "aria-disabled": !store.future.length });
    this.screen.draw();
  }
}
