// @ts-check
// A painter's mask, its history and its overlay: one a model, shared by all views of the widget.
import { deflate, equal, inflate, pack, unpack } from "./bits.js";
import { follow } from "./dom.js";
import { newMask } from "./raster.js";

const HISTORY_BYTES = 64e6;

export const openMask = async (context) => new MaskStore(context,
  await createImageBitmap(new Blob([context.model.get("_picture")])), await inflate(context.model.get("mask_bits")));

/** A canvas of the image's size, and its pixels as words. */
class Layer {
  constructor(width, height) {
    this.canvas = Object.assign(document.createElement("canvas"), { width, height });
    this.context = this.canvas.getContext("2d");
    this.pixels = this.context.createImageData(width, height);
    this.words = new Uint32Array(this.pixels.data.buffer);
  }

  show({ x0, y0, x1, y1 }) { this.context.putImageData(this.pixels, 0, 0, x0, y0, x1 - x0, y1 - y0); }
}

export class MaskStore {
  views = new Set();
  stroke = null;  // who hears of one while it is drawn
  past = [];
  future = [];
  ticket = 0;  // the newest exchange with Python; older ones that come in late are dropped
  sending = false;
  words = new Uint32Array(256);  // a pixel of the overlay for each level
  full = 0;  // a pixel of `cut`

  constructor({ model, signal }, image, bits) {
    const [width, height] = model.get("_size");
    this.model = model;
    this.image = image;
    this.bits = bits;
    this.mask = newMask(width, height);
    this.layer = new Layer(width, height);  // the mask in colour
    this.cut = new Layer(width, height);  // what of it is repainted: its outline is drawn
    unpack(bits, this.mask.data);
    this.colour();
    follow(model, ["colour"], () => this.colour(), signal);
    follow(model, ["_picture"], () => this.look(), signal);
    follow(model, ["mask_bits"], () => this.sending || this.receive(), signal);
  }

  /** Shows another image. */
  async look() {
    this.image = await createImageBitmap(new Blob([this.model.get("_picture")]));
    this.views.forEach((view) => view.repaint());
  }

  /** A view of the mask, until the signal. */
  enter(painter, signal) {
    const { screen, hand } = painter;
    const view = { draw: screen.draw.bind(screen), repaint: () => { screen.stale = true; screen.draw(); },
      refresh: () => painter.refresh(), drop: () => hand.drop() };
    this.views.add(view);
    signal.addEventListener("abort", () => this.views.delete(view));
    painter.refresh();
  }

  /** Brings the overlay up to date within a box. */
  show(box = { x0: 0, y0: 0, x1: this.mask.width, y1: this.mask.height }) {
    const { words, full, layer, cut, mask: { width, data } } = this;
    for (let y = box.y0; y < box.y1; y++) {
      for (let i = y * width + box.x0; i < y * width + box.x1; i++) {
        layer.words[i] = words[data[i]];
        cut.words[i] = data[i] > 127 ? full : 0;
      }
    }
    if (box.x1 > box.x0 && box.y1 > box.y0) for (const one of [layer, cut]) one.show(box);
    this.views.forEach((view) => view.draw(box));
  }

  colour() {
    const hex = parseInt(this.model.get("colour").slice(1), 16);
    this.words = this.words.map((_, level) => new Uint32Array(new Uint8Array([hex >> 16, hex >> 8, hex, level]).buffer)[0]);
    this.full = this.words[255];
    this.show();
  }

  /** Ends a change: one step of history, and Python hears of it. Returns whether anything has changed. */
  commit() {
    this.show();
    const bits = pack(this.mask.data);
    if (equal(bits, this.bits)) return false;
    this.remember(bits);
    this.send();
    return true;
  }

  remember(bits) {
    this.past.push(this.bits);
    while (this.past.reduce((sum, { length }) => sum + length, 0) > HISTORY_BYTES) this.past.shift();
    this.future.length = 0;
    this.bits = bits;
    this.refresh();
  }

  step(from, to) {
    const bits = from.pop();
    if (!bits) return;
    to.push(this.bits);
    this.bits = bits;
    this.restore();
    this.refresh();
    this.send();
  }

  undo() { this.step(this.past, this.future); }

  redo() { this.step(this.future, this.past); }

  /** Drops what was painted since the last commit. */
  restore() {
    unpack(this.bits, this.mask.data);
    this.show();
  }

  refresh() { this.views.forEach((view) => view.refresh()); }

  /** Asks Python for an object's mask: `{ point }` or `{ box }`, and the level to paint it with. */
  select(where) {
    this.model.set("_note", "Looking for the outline …");
    this.model.save_changes();
    this.model.send({ select: where });
  }

  async send() {
    const ticket = ++this.ticket;
    const bytes = await deflate(this.bits);
    if (ticket !== this.ticket) return;
    this.sending = true;
    this.model.set("mask_bits", new DataView(bytes.buffer));
    this.model.set("_note", "");
    this.sending = false;
    this.model.save_changes();
  }

  async receive() {
    const ticket = ++this.ticket;
    const bits = await inflate(this.model.get("mask_bits"));
    if (ticket !== this.ticket) return;
    this.views.forEach((view) => view.drop());
    this.remember(bits);
    this.restore();
    this.refresh();
  }
}
