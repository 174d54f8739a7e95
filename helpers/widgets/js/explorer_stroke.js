// @ts-check
// The mask on its way to Python while a stroke or a shape is drawn, so that the image follows the hand. One is under way until
// Python has answered; of those that come meanwhile only the newest is sent.
import { deflate, equal, pack } from "./bits.js";
import { hear } from "./dom.js";

export class Stroke {
  number = 0;  // of the stroke
  newest = null;  // gives the mask so far, where the hand has moved since one was sent
  away = false;  // whether Python has still to answer
  told = null;  // what it has heard last of this stroke

  /** `store`: that of the mask; `model`: the explorer's. */
  constructor(store, model, signal) {
    this.store = store;
    this.model = model;
    hear(model, "msg:custom", ({ kind, asked }) => { if (kind === "drawn" || asked === "draw") this.answered(); }, signal);
  }

  /** The hand has moved; `newest` gives the mask as it would be if it ended here. */
  draw(newest) {
    this.newest = newest;
    this.send();
  }

  /** The stroke has changed the mask, which is sent as after any other change. Or it has not, and Python goes back. */
  end(changed) {
    if (this.told && !changed) this.model.send({ kind: "draw" });
    this.told = this.newest = null;
    this.number++;
  }

  answered() {
    this.away = false;
    this.send();
  }

  async send() {
    if (this.away || !this.newest) return;
    const bits = pack(this.newest().data), { number } = this;
    this.newest = null;
    if (equal(bits, this.told ?? this.store.bits)) return;
    this.away = true;
    const { buffer } = await deflate(bits);
    if (number !== this.number) {
      this.answered();
      return;
    }
    this.told = bits;
    this.model.send({ kind: "draw" }, undefined, [buffer]);
  }
}
