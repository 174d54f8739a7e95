// @ts-check
// Where an image lies in its frame on the screen.
import { clamp } from "./dom.js";

const SMALLEST = 48;  // screen pixels of a frame, however narrow the image
const ENLARGED = 512;  // screen pixels that a small image is enlarged to, where it fits

/** `scale` screen pixels to one of the image, whose corner lies at (x, y) of a frame of `wide` by `high`. */
export class Viewport {
  scale = 1;
  x = 0;
  y = 0;
  wide = 0;
  high = 0;
  fit = 1;  // the scale that shows all of it
  fitted = true;
  fixed = false;

  /** Of an image of this size; `moved` hears of every change. */
  constructor(width, height, moved) {
    this.width = width;
    this.height = height;
    this.moved = moved;
  }

  /** Gives the frame at most this many screen pixels; the middle stays where it was. */
  resize(room, tallest) {
    const { width, height, wide, high } = this;
    this.fit = Math.min(room / width, tallest / height, Math.max(1, ENLARGED / Math.max(width, height)));
    this.wide = Math.max(SMALLEST, Math.round(width * this.fit));
    this.high = Math.max(SMALLEST, Math.round(height * this.fit));
    if (this.fitted) this.scale = this.fit;
    const shift = this.fitted ? 0 : 0.5;
    this.pan(shift * (this.wide - wide), shift * (this.high - high));
  }

  /** Gives the frame this width and the image's proportions; from now on all of the image is shown, and nothing zooms. */
  fill(wide) {
    this.fit = this.scale = wide / this.width;
    this.wide = wide;
    this.high = this.height * this.fit;
    this.fixed = true;
    this.pan(0, 0);
  }

  /** Moves the image, as far as it still fills its frame. */
  pan(dx, dy) {
    this.fitted = this.scale <= this.fit * 1.001;
    if (this.fitted) this.scale = this.fit;
    this.x = within(this.x + dx, this.wide, this.width * this.scale);
    this.y = within(this.y + dy, this.high, this.height * this.scale);
    this.moved();
  }

  /** Zooms about a point of the frame, its middle if not told: that stays where it is. */
  zoom(factor, { x, y } = { x: this.wide / 2, y: this.high / 2 }) {
    if (this.fixed) return;
    const scale = clamp(this.scale * factor, this.fit, Math.max(32, 4 * this.fit));
    this.x = x - (x - this.x) * (scale / this.scale);
    this.y = y - (y - this.y) * (scale / this.scale);
    this.scale = scale;
    this.pan(0, 0);
  }

  /** The point of the image under a point of the frame. */
  toImage({ x, y }) {
    return { x: (x - this.x) / this.scale, y: (y - this.y) / this.scale };
  }

  toFrame({ x, y }) {
    return { x: this.x + x * this.scale, y: this.y + y * this.scale };
  }
}

const within = (offset, room, extent) => (extent <= room ? (room - extent) / 2 : clamp(offset, room - extent, 0));
