// @ts-check
// The words of a prompt, each with a slider, and the image that they make.
//
// Python holds the truth: `weights`, `plain`, `_weighted`, `_picture`. A slider that is dragged is told once a frame, and
// stays where the hand left it until Python says the same.
import { button, copy, element, follow, imageURL, keepKeys, mark, save, widget } from "./dom.js";
import { same, weightText } from "./formats.js";

const MOST = 2, STEP = 0.05;

/** What the hand does, on its way to Python: one a widget, shared by its views. */
class Mailbox {
  held = null;  // under the hand, until Python says the same: a late answer must not move a slider
  views = new Set();
  frame = 0;

  constructor({ model, signal }) {
    this.model = model;
    follow(model, ["weights"], () => this.hold(this.held), signal);
  }

  get weights() { return this.held ?? this.model.get("weights"); }

  /** Keeps what the hand left, unless Python says the same. */
  hold(weights) {
    this.held = weights?.some((weight, i) => !same(weight, this.model.get("weights")[i])) ? weights : null;
    for (const view of this.views) view();
  }

  send(weights, moving) {
    const tell = () => { this.frame = 0; this.model.send({ weights: this.weights, moving }); };
    this.hold(weights);
    cancelAnimationFrame(this.frame);
    if (moving) this.frame = requestAnimationFrame(tell);
    else tell();
  }
}

/** One word: in the sentence, and in a row with its slider. */
class Word {
  constructor(text, change) {
    this.text = text;
    this.slider = element("input", { type: "range", min: 0, max: MOST, step: STEP, "aria-label": `Weight of ${text}`,
      oninput: () => change(Number(this.slider.value), true), onchange: () => change(Number(this.slider.value), false) });
    this.chip = element("span", { class: "tw-chip", onclick: () => this.slider.focus() }, text);
    this.output = element("output", { class: "tw-value" });
    this.row = element("div", { class: "tw-row" }, element("span", { class: "tw-word", "aria-hidden": true }, text), this.slider,
      this.output, button("cw-quiet tw-one", () => change(1, false), { "aria-label": `${text} back to 1`, title: "back to 1" }, "↺"));
  }

  show(value) {
    if (Number(this.slider.value) !== value) this.slider.value = String(value);
    mark(this.slider, { "aria-valuetext": `${this.text} ${weightText(value)}` });
    this.output.textContent = weightText(value);
    this.row.classList.toggle("tw-changed", value !== 1);
    this.chip.style.setProperty("--tw-share", `${Math.round(Math.abs(value - 1) * 75)}%`);
    this.chip.classList.toggle("tw-less", value < 1);
  }
}

class Weights {
  url = "";
  picture = element("img", { class: "tw-picture", alt: "", draggable: false });
  badge = element("span", { class: "cw-badge tw-badge" });
  frame = element("div", { class: "cw-frame tw-frame" }, this.picture, this.badge);
  status = element("div", { class: "tw-status", role: "status" });
  written = element("code", { class: "cw-code tw-written", "aria-label": "The prompt with its weights" });
  copy = button("cw-button", () => copy(this.written, this.copy, "Copy prompt"), {}, "Copy prompt");

  constructor(mailbox, { model, signal }) {
    this.mailbox = mailbox;
    this.model = model;
    const parts = model.get("_parts");
    const sentence = element("p", { class: "tw-sentence", "aria-hidden": true });
    this.words = [];
    for (const [text, place] of parts) {
      if (place !== null) this.words[place] = new Word(text, (value, moving) => this.change(place, value, moving));
      const chip = place === null ? element("span", { class: "tw-sign" }, text) : this.words[place].chip;
      sentence.append(/^[,.;:!?]/.test(text) ? "" : " ", chip);
    }
    this.all = button("cw-button", () => mailbox.send(this.words.map(() => 1), false), {}, "All back to 1");
    this.plain = button("cw-button", () => save(model, { plain: !model.get("plain") }), {}, "Without weights");
    this.root = element("div", { class: "cw token-weights" },
      element("div", { class: "cw-main" },
        element("div", { class: "cw-left" }, this.frame, this.status),
        element("div", { class: "cw-right" }, sentence, element("div", { class: "tw-rows" }, ...this.words.map(({ row }) => row)),
          element("div", { class: "tw-bar" }, this.all, this.plain, this.copy))),
      this.written);
    const showWeights = () => this.showWeights();
    mailbox.views.add(showWeights);
    signal.addEventListener("abort", () => { mailbox.views.delete(showWeights); URL.revokeObjectURL(this.url); });
    follow(model, ["_picture"], () => this.showPicture(), signal);
    follow(model, ["_state", "_weighted", "plain"], () => this.showState(), signal);
    keepKeys(this.root, signal);
  }

  change(place, value, moving) {
    this.mailbox.send(this.mailbox.weights.with(place, value), moving);
  }

  showWeights() {
    const { weights } = this.mailbox;
    this.words.forEach((word, place) => word.show(weights[place]));
    this.all.disabled = weights.every((value) => value === 1);
  }

  showPicture() {
    const before = this.url;
    this.url = imageURL(this.model.get("_picture"));
    this.frame.classList.toggle("cw-blank", !this.url);
    if (this.url) this.picture.src = this.url;
    setTimeout(() => URL.revokeObjectURL(before), 1000);
  }

  showState() {
    const { phase, kind, text } = this.model.get("_state"), plain = this.model.get("plain"), weighted = this.model.get("_weighted");
    this.badge.textContent = plain ? "without weights" : kind === "full" ? "" : kind;
    this.status.textContent = phase === "failed" ? text : phase === "running" ? "painting …" : "";
    this.status.classList.toggle("tw-error", phase === "failed");
    mark(this.frame, { "aria-busy": phase === "running" });
    mark(this.plain, { "aria-pressed": plain });
    if (this.written.textContent !== weighted) this.written.textContent = weighted;  // set anew, it loses the reader's selection
    this.picture.alt = plain ? "the image without weights" : `the image of ${weighted}`;
  }
}

function render(mailbox, context) {
  const weights = new Weights(mailbox, context);
  context.el.append(weights.root);
  weights.showWeights();
  weights.showPicture();
  weights.showState();
}

export default widget((context) => new Mailbox(context), render);
