// @ts-check
// A painter's mask, its history and its overlay: one a model, shared by all views of the widget.
import { follow } from "./dom.js";
import { decodePNG, encodePNG, fromRows, toRows } from "./png.js";
import { newMask } from "./raster.js";

const HISTORY_BYTES = 64e6;

export const openMask = async (context) => new MaskStore(context,
  await createImageBitmap(new Blob([context.model.get("_picture")])), await decodePNG(context.model.get("mask_png")));

export class MaskStore {
  views = new Set();
  past = [];
  future = [];
  ticket = 0;  // the newest exchange with Python; older ones that come in late are dropped
  sending = false;
  word = 0;  // one painted pixel of the overlay

  constructor({ model, signal }, image, rows) {
    const [width, height] = model.get("_size");
    this.model = model;
    this.image = image;
    this.rows = rows;
    this.mask = newMask(width, height);
    this.canvas = Object.assign(document.createElement("canvas"), { width, height });
    this.context = this.canvas.getContext("2d");
    this.pixels = this.context.createImageData(width, height);
    fromRows(this.mask, rows);
    this.colour();
    follow(model, ["colour"], () => this.colour(), signal);
    follow(model, ["mask_png"], () => this.sending || this.receive(), signal);
  }

  /** Brings the overlay up to date within a box. */
  show(box = { x0: 0, y0: 0, x1: this.mask.width, y1: this.mask.height }) {
    const words = new Uint32Array(this.pixels.data.buffer), { width, data } = this.mask;
    for (let y = box.y0; y < box.y1; y++) {
      for (let i = y * width + box.x0; i < y * width + box.x1; i++) words[i] = data[i] ? this.word : 0;
    }
    if (box.x1 > box.x0 && box.y1 > box.y0) {
      this.context.putImageData(this.pixels, 0, 0, box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0);
    }
    this.views.forEach((view) => view.draw(box));
  }

  colour() {
    const hex = parseInt(this.model.get("colour").slice(1), 16);
    this.word = new Uint32Array(new Uint8Array([hex >> 16, hex >> 8, hex, 255]).buffer)[0];
    this.show();
  }

  /** Ends a change: one step of history, and Python hears of it. */
  commit() {
    this.show();
    const rows = toRows(this.mask);
    if (rows.every((byte, i) => byte === this.rows[i])) return;
    this.remember(rows);
    this.send();
  }

  remember(rows) {
    this.past.push(this.rows);
    while (this.past.length * rows.length > HISTORY_BYTES) this.past.shift();
    this.future.length = 0;
    this.rows = rows;
    this.refresh();
  }

  step(from, to) {
    const rows = from.pop();
    if (!rows) return;
    to.push(this.rows);
    this.rows = rows;
    this.restore();
    this.refresh();
    this.send();
  }

  undo() { this.step(this.past, this.future); }

  redo() { this.step(this.future, this.past); }

  /** Drops what was painted since the last commit. */
  restore() {
    fromRows(this.mask, this.rows);
    this.show();
  }

  refresh() { this.views.forEach((view) => view.refresh()); }

  async send() {
    const ticket = ++this.ticket;
    const png = await encodePNG(this.rows, this.mask.width, this.mask.height);
    if (ticket !== this.ticket) return;
    this.sending = true;
    this.model.set("mask_png", new DataView(png.buffer));
    this.sending = false;
    this.model.save_changes();
  }

  async receive() {
    const ticket = ++this.ticket;
    const rows = await decodePNG(this.model.get("mask_png"));
    if (ticket !== this.ticket) return;
    this.views.forEach((view) => view.drop());
    this.remember(rows);
    this.restore();
    this.refresh();
  }
}
