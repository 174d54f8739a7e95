// @ts-check
// The image, the mask over it and the pointer, drawn at most once a frame, and only where something changed.
import { clamp, element } from "./dom.js";
import { Hand, isBrush } from "./mask_gesture.js";
import { snap } from "./raster.js";
import { Viewport } from "./viewport.js";

const EVERYWHERE = { x0: -Infinity, y0: -Infinity, x1: Infinity, y1: Infinity };
const LABEL = "Mask over the image. Arrow keys move the cursor, Space paints.";

const contextOf = (canvas) => canvas.getContext("2d");

export class MaskScreen {
  under = element("canvas");
  over = element("canvas", { class: "mp-canvas", tabindex: 0, role: "application", "data-jp-suppress-context-menu": "",
    "aria-label": LABEL });
  ring = element("div", { class: "mp-ring", "aria-hidden": true });
  stage = element("div", { class: "cw-stage mp-stage" }, this.under, this.over, this.ring);
  mat = element("div", { class: "cw-mat mp-mat" }, this.stage);
  whole = element("canvas");  // the mask as it lies on the screen
  halo = element("canvas");  // its outline
  waiting = 0;
  ratio = 0;
  stale = true;
  dirty = null;

  constructor(store, signal, zoomed) {
    this.store = store;
    this.signal = signal;
    this.viewport = new Viewport(store.mask.width, store.mask.height, () => {
      this.stale = true;
      zoomed(this.viewport.scale);
      this.draw();
    });
    this.hand = new Hand(store, this.viewport, (box) => this.draw(box));
    this.hand.listen(this.over, signal);
  }

  /** Fits the frame into its room. */
  layout() {
    const room = this.mat.clientWidth - 2 * 12, { viewport } = this;
    if (room <= 0) return;
    this.ratio = window.devicePixelRatio;
    viewport.resize(room, clamp(window.innerHeight * 0.7, 240, 640));
    this.stage.style.width = `${viewport.wide}px`;
    this.stage.style.height = `${viewport.high}px`;
    this.resize();
  }

  /** Gives the canvases the frame's size. */
  resize() {
    const { viewport } = this;
    for (const canvas of [this.under, this.over, this.whole, this.halo]) {
      canvas.width = Math.round(viewport.wide * this.ratio);
      canvas.height = Math.round(viewport.high * this.ratio);
    }
  }

  /** Of the mask, 0..1; its outline is always seen. */
  get opacity() {
    return this.store.model.get("opacity");
  }

  /** Asks for a frame: of a box of the image, of all of it, or (null) of the pointer alone. */
  draw(box = EVERYWHERE) {
    const { dirty } = this;
    if (box && dirty) {
      this.dirty = { x0: Math.min(box.x0, dirty.x0), y0: Math.min(box.y0, dirty.y0),
        x1: Math.max(box.x1, dirty.x1), y1: Math.max(box.y1, dirty.y1) };
    } else this.dirty = box ?? dirty;
    this.waiting ||= requestAnimationFrame(() => this.paint());
  }

  paint() {
    this.waiting = 0;
    if (!this.viewport.wide || this.signal.aborted) return;
    if (this.ratio !== window.devicePixelRatio) this.layout();
    if (this.stale) this.paintImage();
    if (this.dirty) this.paintMask(this.dirty);
    this.stale = false;
    this.dirty = null;
    this.aim();
  }

  /** Sets a context to pixels of the image. */
  place(context) {
    const { scale, x, y } = this.viewport, { ratio } = this;
    context.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * x, ratio * y);
    return context;
  }

  paintImage() {
    const context = contextOf(this.under);
    context.resetTransform();
    context.clearRect(0, 0, this.under.width, this.under.height);
    this.place(context).imageSmoothingEnabled = this.viewport.scale < 6;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.store.image, 0, 0);
  }

  paintMask(dirty) {
    const { scale } = this.viewport, contexts = [this.over, this.whole, this.halo].map(contextOf);
    const [context, shape] = contexts, box = this.screenBox(dirty);
    for (const part of contexts) {
      part.resetTransform();
      part.save();
      part.beginPath();
      part.rect(...box);
      part.clip();
      part.clearRect(...box);
    }
    this.place(shape).imageSmoothingEnabled = scale < 1;
    shape.drawImage(this.store.layer.canvas, 0, 0);
    context.globalAlpha = this.opacity;
    context.drawImage(this.whole, 0, 0);
    context.globalAlpha = 1;
    // A white line with a dark one around it: on an image of any colour, one of the two is seen.
    shape.clearRect(-1, -1, this.store.mask.width + 2, this.store.mask.height + 2);
    shape.drawImage(this.store.cut.canvas, 0, 0);
    this.outline(context, 2, "rgba(0, 0, 0, .55)");
    this.outline(context, 1, "#fff");
    if (this.hand.gesture) this.sketch(this.place(context), this.hand.gesture);
    for (const part of contexts) part.restore();
  }

  /** A box of the image in the canvases' pixels: left, top, width and height. */
  screenBox({ x0, y0, x1, y1 }) {
    const { scale, x, y } = this.viewport, { width, height } = this.over, room = 2 * scale + 4;  // for outline and smoothing
    const pixels = (offset, value, extent) => clamp(Math.round(this.ratio * (offset + scale * value)), 0, extent);
    const left = pixels(x - room, x0, width), top = pixels(y - room, y0, height);
    return [left, top, pixels(x + room, x1, width) - left, pixels(y + room, y1, height) - top];
  }

  outline(context, reach, colour) {
    const { halo, whole } = this, line = contextOf(halo), far = reach * this.ratio, near = far * Math.SQRT1_2;
    line.globalCompositeOperation = "source-over";
    line.clearRect(0, 0, halo.width, halo.height);
    for (const [dx, dy] of [[far, 0], [-far, 0], [0, far], [0, -far], [near, near], [near, -near], [-near, near], [-near, -near]]) {
      line.drawImage(whole, Math.round(dx), Math.round(dy));
    }
    line.globalCompositeOperation = "source-in";
    line.fillStyle = colour;
    line.fillRect(0, 0, halo.width, halo.height);
    line.globalCompositeOperation = "destination-out";
    line.drawImage(whole, 0, 0);
    context.drawImage(halo, 0, 0);
  }

  /** Shows a shape that is not painted yet. */
  sketch(context, { tool, points, margin, value }) {
    if (isBrush(tool)) return;
    if (tool === "select") tool = "rectangle";
    const { x0, y0, x1, y1 } = snap(points[0], points[points.length - 1], margin), path = new Path2D();
    const rx = (x1 - x0) / 2, ry = (y1 - y0) / 2, pixel = 1 / this.viewport.scale;
    if (tool === "rectangle") path.rect(x0, y0, x1 - x0, y1 - y0);
    else if (tool === "ellipse") path.ellipse(x0 + rx, y0 + ry, rx, ry, 0, 0, 2 * Math.PI);
    else points.forEach((point) => path.lineTo(point.x, point.y));
    path.closePath();
    context.globalAlpha = this.opacity;
    context.fillStyle = value ? this.store.model.get("colour") : "#000";
    context.fill(path, "nonzero");
    context.globalAlpha = 1;
    for (const [style, dash] of Object.entries({ "rgba(0, 0, 0, .7)": [], "#fff": [5, 4] })) {
      context.lineWidth = 1.5 * pixel;
      context.strokeStyle = style;
      context.setLineDash(dash.map((length) => length * pixel));
      context.stroke(path);
    }
    context.setLineDash([]);
  }

  /** The ring shows what the brush would touch, and stands for the cursor where keys paint. */
  aim() {
    const { model } = this.store, { pointer, panning } = this.hand, { scale } = this.viewport;
    const tool = model.get("tool"), round = isBrush(tool), extent = round ? Math.max(model.get("brush_size") * scale, 3) : 9;
    const { x, y } = this.viewport.toFrame(pointer), { style, classList } = this.ring;
    this.ring.hidden = !pointer.seen || (!round && !pointer.keys);
    classList.toggle("mp-cross", pointer.keys);
    style.width = style.height = `${extent}px`;
    style.transform = `translate(${x - extent / 2}px, ${y - extent / 2}px)`;
    this.over.style.cursor = tool === "hand" ? (panning ? "grabbing" : "grab") : round && extent > 8 ? "none" : "crosshair";
  }
}
