// @ts-check
// A stroke's mask on its way to Python while it is drawn, so that the image follows the brush. One is under way until Python
// has answered; of those that come meanwhile only the newest is sent.
import { deflate, equal, pack } from "./bits.js";
import { hear } from "./dom.js";

export class Stroke {
  number = 0;  // of the stroke
  waiting = false;  // whether the mask has changed since it was last sent
  away = false;  // whether Python has still to answer
  told = false;  // whether it has heard of this stroke

  /** `store`: that of the mask; `model`: the explorer's. */
  constructor(store, model, signal) {
    this.store = store;
    this.model = model;
    hear(model, "msg:custom", ({ kind, asked }) => { if (kind === "drawn" || asked === "draw") this.answered(); }, signal);
  }

  /** The brush has moved. */
  draw() {
    this.waiting = true;
    this.send();
  }

  /** The brush was lifted: the mask is sent as after any other change. Or the stroke was given up, and Python goes back. */
  end(kept) {
    if (this.told && !kept) this.model.send({ kind: "draw" });
    this.told = false;
    this.number++;
  }

  answered() {
    this.away = false;
    this.send();
  }

  async send() {
    if (this.away || !this.waiting) return;
    this.waiting = false;
    const bits = pack(this.store.mask.data), { number } = this;
    if (equal(bits, this.store.bits)) return;
    this.away = true;
    const { buffer } = await deflate(bits);
    if (number !== this.number) {
      this.answered();
      return;
    }
    this.told = true;
    this.model.send({ kind: "draw" }, undefined, [buffer]);
  }
}
