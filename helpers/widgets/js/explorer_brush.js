// @ts-check
// The brush on an explorer's stage: the mask lies over the image that it makes, with the tools of a mask painter below.
import { element, follow, onResize } from "./dom.js";
import { Stroke } from "./explorer_stroke.js";
import { MaskScreen } from "./mask_screen.js";
import { openMask } from "./mask_store.js";
import { Painter } from "./mask_tools.js";

const REFERENCE = "IPY_MODEL_";  // what ipywidgets writes before the id of another widget's model

/** A mask as large as what it lies on: coloured until its image is there, quick ones included, then a line around it. */
class Veil extends MaskScreen {
  fresh = true;  // whether its image is still to come
  seen = false;  // whether there is one of the stroke that is being drawn

  layout() {
    const wide = this.over.parentElement?.clientWidth;
    if (!wide) return;
    this.ratio = window.devicePixelRatio;
    this.viewport.fill(wide);
    this.resize();
  }

  paintImage() {}  // that is the stage's

  get opacity() {
    return this.fresh || (this.hand.gesture && !this.seen) ? super.opacity : 0;
  }
}

/** Follows the explorer's MaskPainter, which may be displayed elsewhere as well: both paint one mask. */
export class Brush {
  cover = element("div", { class: "mp-stage ex-cover", hidden: "" });
  tools = element("div", { class: "ex-tools", hidden: "" });
  painter = null;
  picture = "";  // the URL of the image that is shown
  closing = new AbortController();

  constructor(store, signal) {
    this.store = store;
    this.signal = signal;
    follow(store.model, ["_painter"], () => this.open(), signal);
    signal.addEventListener("abort", () => this.closing.abort());
    this.open();
  }

  async open() {
    this.close();
    const { store: { model }, closing: { signal } } = this, name = model.get("_painter");
    if (!name || !model.widget_manager?.get_model) return;
    const mask = await openMask({ model: await model.widget_manager.get_model(name.slice(REFERENCE.length)), signal });
    if (signal.aborted) return;
    const painter = this.painter = new Painter(mask, signal, Veil), { screen } = painter;
    delete painter.shortcuts.h;  // nothing zooms here, so there is nothing to move
    this.cover.replaceChildren(screen.over, screen.ring, painter.spoken);
    this.tools.replaceChildren(painter.bar("tools", "history", "size", "whole"));
    for (const { tool, node } of painter.tools) if (tool === "hand") node.hidden = true;
    this.cover.hidden = this.tools.hidden = false;
    onResize(this.cover, () => screen.layout(), signal);
    mask.enter(painter, signal);
    mask.stroke = new Stroke(mask, model, signal);
    follow(mask.model, ["mask_bits"], () => { this.tint(!screen.seen); screen.seen = false; }, signal);
    this.refresh();
  }

  close() {
    this.closing.abort();
    this.closing = new AbortController();
    if (this.signal.aborted) this.closing.abort();
    this.painter = null;
    this.cover.hidden = this.tools.hidden = true;
  }

  /** What is being painted. */
  get gesture() {
    return this.painter?.screen.hand.gesture;
  }

  refresh() {
    const { store: { state, urls }, painter, gesture } = this, came = urls.picture !== this.picture;
    this.picture = urls.picture;
    if (painter && came) {
      painter.screen.seen = Boolean(gesture);
      if (gesture) painter.screen.draw();
    }
    if (painter?.screen.seen || state.phase === "done") this.tint(false);
  }

  tint(fresh) {
    const screen = this.painter?.screen;
    if (!screen || screen.fresh === fresh) return;
    screen.fresh = fresh;
    screen.draw();
  }

  /** Whether a key, on the image or on a tool, was taken. */
  key(event) {
    return this.owns(event.target) && Boolean(this.painter?.key(event));
  }

  command(event) {
    return this.owns(event.target) && Boolean(this.painter?.command(event));
  }

  owns(node) {
    return this.cover.contains(node) || this.tools.contains(node);
  }
}
