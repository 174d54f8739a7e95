// @ts-check
// A gesture, from pen down to pen up, whatever the pen is; and the pens: mouse, fingers, a stylus, and keys.
import { clamp, listen } from "./dom.js";
import { newStroke, paintArea, paintEllipse, paintLine, paintPolygon, paintRectangle, pixelAt, snap } from "./raster.js";

const ERASING = new Set([2, 5]);  // the right button, the other end of a pen
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const TWITCH = 3;  // pixels of the image: a shorter drag of the select tool is a click
const PEEK = 16;  // screen pixels between the cursor and the frame, so that one sees where it goes

export const isBrush = (tool) => tool === "brush" || tool === "eraser";

export class Hand {
  gesture = null;  // its tool, value and points; margin widens a shape; held: it ends when the space bar is let go
  panning = null;
  pinch = null;
  fingers = new Map();

  /** `draw` asks for a frame: of all, or (null) of the pointer alone. */
  constructor(store, viewport, draw) {
    this.store = store;
    this.viewport = viewport;
    this.draw = draw;
    this.pointer = { x: viewport.width / 2, y: viewport.height / 2, seen: false, keys: false };
  }

  // -- the gesture

  begin(point, { erase = false, keys = false, pressure = 1 } = {}) {
    this.drop();
    const { model } = this.store, tool = model.get("tool"), value = erase || tool === "eraser" ? 0 : model.get("level");
    if (tool === "hand") return;
    if (tool === "fill") {
      paintArea(this.store.mask, point, value);
      this.store.commit();
      return;
    }
    const margin = keys ? 0.5 : 0;  // keys go from pixel to pixel
    this.gesture = { tool, value, keys, held: false, points: [point, point], margin };
    if (isBrush(tool)) this.gesture.line = newStroke(this.store.mask, { value, softness: model.get("softness") });
    if (isBrush(tool)) this.stroke(this.gesture, point, pressure);
    this.show();
  }

  stroke({ points, line }, point, pressure) {
    const { mask, model } = this.store, radius = (model.get("brush_size") / 2) * (0.25 + 0.75 * pressure);
    const from = points[0];
    points[0] = point;
    this.store.show(paintLine(mask, from, point, radius, line));
  }

  /** The screen follows the gesture, and so does whoever hears of a mask while it is drawn. */
  show() {
    const { gesture, store: { mask, stroke } } = this;
    stroke?.draw(() => paintShape({ ...mask, data: mask.data.slice() }, gesture));
    this.draw();
  }

  move(point, { square = false, pressure = 1 } = {}) {
    if (!this.gesture) return;
    const { tool, points, keys } = this.gesture, [start] = points;
    if (isBrush(tool)) this.stroke(this.gesture, point, pressure);
    else if (tool !== "lasso") points[1] = square ? squared(start, point) : point;
    else if (keys) points[points.length - 1] = point;
    else points.push(point);
    this.show();
  }

  end() {
    if (!this.gesture) return;
    const { gesture, store } = this;
    this.gesture = null;
    if (gesture.tool === "select") {
      this.find(gesture);
      return;
    }
    paintShape(store.mask, gesture);
    const changed = store.commit();
    store.stroke?.end(changed);
  }

  /** Asks Python for the object in a box, or under a click; it answers with a new mask. */
  find({ points: [start, end], value, margin }) {
    const { x0, y0, x1, y1 } = snap(start, end, margin), { width, height } = this.store.mask;
    const clicked = Math.max(Math.abs(end.x - start.x), Math.abs(end.y - start.y)) < TWITCH;
    if (clicked && pixelAt(start, this.store.mask) < 0) return;
    this.store.select(clicked ? { point: [start.x, start.y], value }
      : { box: [clamp(x0, 0, width), clamp(y0, 0, height), clamp(x1, 0, width), clamp(y1, 0, height)], value });
  }

  drop() {
    if (!this.gesture) return;
    this.gesture = null;
    this.store.stroke?.end(false);
    this.store.restore();
  }

  // -- mouse, touch and pen

  listen(canvas, signal) {
    const spot = (event) => {
      const frame = canvas.getBoundingClientRect(), { wide, high } = this.viewport;
      return { x: (event.clientX - frame.left) * (wide / frame.width), y: (event.clientY - frame.top) * (high / frame.height) };
    };
    const lift = (event) => this.up(event);
    listen(canvas, "pointerdown", (event) => {
      event.preventDefault();
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      this.down(event, spot(event));
    }, signal);
    listen(canvas, "pointermove", (event) => this.drag(event, spot), signal);
    listen(canvas, "pointerup", lift, signal);
    listen(canvas, "pointercancel", lift, signal);
    listen(canvas, "pointerleave", () => { this.pointer.seen = this.pointer.keys; this.draw(null); }, signal);
    listen(canvas, "contextmenu", (event) => { event.preventDefault(); event.stopPropagation(); }, signal);
    for (const type of ["mousedown", "auxclick"]) listen(canvas, type, (event) => event.preventDefault(), signal);  // no autoscroll
    listen(canvas, "wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;  // a bare wheel scrolls the notebook
      event.preventDefault();
      this.viewport.zoom(Math.exp(-clamp(event.deltaY, -60, 60) / 120), spot(event));
    }, signal, { passive: false });
    listen(canvas, "keyup", (event) => { if (event.key === " " && this.gesture?.held) this.end(); }, signal);
    listen(canvas, "blur", () => {
      if (this.gesture?.keys) this.end();
      this.pointer.seen = this.pointer.keys = false;
      this.draw(null);
    }, signal);
  }

  down(event, here) {
    if (event.pointerType === "touch") {
      this.fingers.set(event.pointerId, here);
      if (this.fingers.size === 2) {
        this.drop();
        this.panning = null;
        this.pinch = spread(this.fingers);
      }
      if (this.fingers.size > 1) return;
    }
    this.hover(event, here);
    const erase = event.altKey || ERASING.has(event.button);
    if (event.button === 1 || this.store.model.get("tool") === "hand") this.panning = here;
    else this.begin(this.viewport.toImage(here), { erase, pressure: force(event) });
    this.draw(null);
  }

  drag(event, spot) {
    const here = spot(event);
    if (this.fingers.has(event.pointerId)) this.fingers.set(event.pointerId, here);
    if (this.pinch) {
      if (this.fingers.size < 2) return;
      const before = this.pinch, now = spread(this.fingers);
      this.viewport.pan(now.x - before.x, now.y - before.y);
      this.viewport.zoom(now.far / before.far, now);
      this.pinch = now;
      return;
    }
    if (this.panning) {
      this.viewport.pan(here.x - this.panning.x, here.y - this.panning.y);
      this.panning = here;
    } else if (this.gesture && !this.gesture.keys && event.buttons) {
      const steps = event.getCoalescedEvents?.() ?? [];
      for (const step of steps.length ? steps : [event]) {
        this.move(this.viewport.toImage(spot(step)), { square: event.shiftKey, pressure: force(step) });
      }
    }
    this.hover(event, here);
    this.draw(null);
  }

  up(event) {
    this.fingers.delete(event.pointerId);
    if (this.pinch && this.fingers.size) return;  // the other finger is still down: it does not paint
    if (this.gesture && !this.gesture.keys && !this.pinch) this.end();
    this.pinch = this.panning = null;
    this.draw(null);
  }

  hover(event, here) {
    Object.assign(this.pointer, this.viewport.toImage(here), { seen: event.pointerType !== "touch", keys: false });
  }

  // -- keys

  /** Whether a key on the canvas moved the cursor or painted. */
  key(event) {
    if (!(event.key in ARROWS) && event.key !== " " && event.key !== "Enter") return false;
    Object.assign(this.pointer, { seen: true, keys: true });
    if (event.key in ARROWS) this.travel(ARROWS[event.key], event.shiftKey);
    else if (!event.repeat) this.press(event);
    this.draw(null);
    return true;
  }

  travel([dx, dy], fine) {
    const { pointer, viewport } = this, { width, height } = this.store.mask;
    const coarse = Math.round(Math.max(this.store.model.get("brush_size") / 4, Math.max(width, height) / 64));
    const pace = fine ? 1 : Math.max(1, coarse);
    pointer.x = clamp(Math.floor(pointer.x) + dx * pace, 0, width - 1) + 0.5;
    pointer.y = clamp(Math.floor(pointer.y) + dy * pace, 0, height - 1) + 0.5;
    const { x, y } = viewport.toFrame(pointer);
    viewport.pan(clamp(x, PEEK, viewport.wide - PEEK) - x, clamp(y, PEEK, viewport.high - PEEK) - y);  // the image follows the cursor
    this.move({ x: pointer.x, y: pointer.y });
  }

  /** Space holds the pen down while it is held; Enter puts it down or lifts it. Shapes take a start and an end. */
  press(event) {
    const point = { x: Math.floor(this.pointer.x) + 0.5, y: Math.floor(this.pointer.y) + 0.5 };
    if (this.gesture?.keys && this.gesture.tool === "lasso" && event.key === " ") this.gesture.points.push(point);
    else if (this.gesture?.keys) this.end();
    else this.begin(point, { erase: event.altKey, keys: true });
    if (this.gesture) this.gesture.held = event.key === " " && isBrush(this.gesture.tool);
  }

  /** Where the cursor is, for screen readers. */
  said() {
    const { x, y } = this.pointer, level = this.store.mask.data[pixelAt(this.pointer, this.store.mask)];
    const painted = level === 255 ? "painted" : level ? `painted to ${Math.round(level / 2.55)} %` : "not painted";
    return `x ${Math.floor(x)}, y ${Math.floor(y)}, ${painted}`;
  }
}

/** Paints the shape of a gesture; a brush has painted already, and a select paints nothing. Returns the mask. */
function paintShape(mask, { tool, points, value, margin }) {
  if (tool === "lasso") paintPolygon(mask, points, value);
  if (tool === "rectangle") paintRectangle(mask, snap(points[0], points[1], margin), value);
  if (tool === "ellipse") paintEllipse(mask, snap(points[0], points[1], margin), value);
  return mask;
}

function squared(start, { x, y }) {
  const dx = x - start.x, dy = y - start.y, side = Math.max(Math.abs(dx), Math.abs(dy));
  return { x: start.x + Math.sign(dx) * side, y: start.y + Math.sign(dy) * side };
}

/** How hard a pen is pressed, 0..1. */
const force = (event) => (event.pointerType === "pen" && event.pressure > 0 ? event.pressure : 1);

/** The middle of two fingers, and how far they are apart. */
function spread(fingers) {
  const [a, b] = fingers.values();
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, far: Math.hypot(a.x - b.x, a.y - b.y) || 1 };
}
