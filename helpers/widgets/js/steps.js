// @ts-check
// The steps of one call under a slider. All images are here from the start, so nothing waits for Python.
import { button, clamp, element, follow, imageURL, keepKeys, mark, save } from "./dom.js";
import { coloured, mapAt, numbers, stepText } from "./heat.js";

/** One panel: an image for each step, or the reason why there is none. */
class Panel {
  image = element("img", { class: "st-image", alt: "", draggable: false });
  frame = element("div", { class: "cw-frame st-frame" }, this.image);

  constructor(title, { urls = [], missing = "", squares = false }) {
    this.title = title;
    this.urls = urls;
    this.empty = !urls.length && !missing;
    this.caption = element("figcaption", {}, title);
    this.frame.classList.toggle("st-squares", squares);
    const body = missing ? element("p", { class: "st-missing" }, missing) : this.frame;
    this.root = element("figure", { class: "st-panel" }, this.caption, body);
  }

  show(step, text) {
    if (!this.urls.length) return;
    mark(this.image, { src: this.urls[Math.min(step, this.urls.length) - 1], alt: `${this.title}. ${text}` });
  }
}

class StepsView {
  canvas = element("canvas", { class: "st-heat", "aria-hidden": true });
  text = element("output", { class: "st-text" });

  constructor({ model, signal }) {
    this.model = model;
    this.steps = model.get("_steps");
    this.words = model.get("_words");
    this.maps = numbers(model.get("_attention"));
    this.ramp = numbers(model.get("_ramp"));
    const pictures = model.get("_pictures"), missing = model.get("_missing"), titles = model.get("_titles");
    const urls = Object.fromEntries(Object.entries(pictures).map(([name, images]) => [name, images.map((bytes) => imageURL(bytes))]));
    const result = imageURL(model.get("_result"));
    const panel = (name, squares) => new Panel(titles[name], { urls: urls[name], missing: missing[name], squares });
    this.attention = new Panel(titles.attention, { urls: this.words.length ? urls.clean : [], missing: missing.attention });
    this.attention.frame.append(this.canvas);
    this.panels = [panel("noised", true), panel("clean", false), panel("guidance", false), panel("mask", true),
      new Panel("The image that the call made", { urls: [result] }), this.attention]
      .filter(({ empty }) => !empty);
    this.chips = this.words.map((word, i) =>
      button("cw-button st-word", () => save(model, { word: i }), { "aria-label": `Where “${word}” looks` }, word));
    if (this.chips.length) {
      this.attention.root.append(element("div", { class: "st-words", role: "group", "aria-label": "Words of the prompt" }, ...this.chips));
    }
    this.slider = element("input", { type: "range", class: "st-slider", min: 1, max: this.steps.length, step: 1, "aria-label": "Step",
      oninput: () => save(model, { step: Number(this.slider.value) }) });
    const move = (by) => save(model, { step: clamp(model.get("step") + by, 1, this.steps.length) });
    const tool = (label, text, by) => button("cw-quiet", () => move(by), { "aria-label": label, title: label }, text);
    this.root = element("div", { class: "cw steps" },
      element("div", { class: "cw-bar st-bar" }, tool("Step back", "◀", -1), this.slider, tool("Step on", "▶", 1), this.text),
      element("div", { class: "st-panels" }, ...this.panels.map(({ root }) => root)));
    follow(model, ["step", "word"], () => this.show(), signal);
    keepKeys(this.root, signal);
    signal.addEventListener("abort", () => [result, ...Object.values(urls).flat()].forEach((url) => URL.revokeObjectURL(url)));
  }

  show() {
    const step = this.model.get("step"), word = this.model.get("word");
    const text = stepText(step, this.steps.length, this.steps[step - 1]);
    this.text.textContent = text;
    this.slider.value = String(step);
    mark(this.slider, { "aria-valuetext": text });
    for (const panel of this.panels) panel.show(step, text);
    this.chips.forEach((chip, i) => mark(chip, { "aria-pressed": i === word }));
    if (this.words.length) this.drawHeat(step, word);
  }

  drawHeat(step, word) {
    const [rows, columns] = this.model.get("_grid");
    const values = mapAt(this.maps, { step: step - 1, word, words: this.words.length, cells: rows * columns });
    Object.assign(this.canvas, { width: columns, height: rows });
    this.canvas.getContext("2d")?.putImageData(new ImageData(coloured(values, this.ramp), columns, rows), 0, 0);
    this.attention.caption.textContent = `Where “${this.words[word]}” looks`;
    this.attention.image.alt = `Where “${this.words[word]}” looks at step ${step}`;
  }
}

function render(context) {
  const view = new StepsView(context);
  context.el.append(view.root);
  view.show();
}

export default { render };
