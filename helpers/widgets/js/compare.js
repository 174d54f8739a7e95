// @ts-check
// Two images in one place under a divider. They lie on each other, and the upper one is clipped where the divider is.
// The divider is a slider for the keyboard and for screen readers; a pointer may drag it from anywhere.
import { button, clamp, element, follow, imageURL, keepKeys, listen, mark, onResize, save } from "./dom.js";

const ZOOMS = [1, 2, 3, 4, 6, 8, 12, 16];  // screen pixels a pixel of the largest image
const NATURAL = 384;  // screen pixels that a small image is enlarged to, where it fits

const tool = (label, text, action) => button("cw-quiet", action, { "aria-label": label, title: label }, text);

const newImage = () => element("img", { class: "cm-picture", draggable: false });

class Comparison {
  scale = null;  // screen pixels a pixel; null: as large as fits
  timer = 0;
  under = newImage();
  over = newImage();
  handle = element("div", { class: "cw-divider cm-handle", tabindex: 0, role: "slider", "aria-orientation": "horizontal",
    "aria-valuemin": 0, "aria-valuemax": 100 }, element("span", { "aria-hidden": true }));
  stage = element("div", { class: "cw-stage cm-stage", "data-jp-suppress-context-menu": "" }, this.under, this.over, this.handle);
  mat = element("div", { class: "cw-mat cm-mat" }, this.stage);
  smaller = tool("Zoom out", "−", () => this.zoom(-1));
  larger = tool("Zoom in", "+", () => this.zoom(1));
  fitted = tool("Fit the image", "", () => { this.scale = null; this.layout(); });

  constructor({ model, signal }) {
    this.model = model;
    this.titles = model.get("_titles");
    this.urls = model.get("_pictures").map((bytes) => imageURL(bytes, ""));
    const largest = model.get("_sizes").reduce((most, size) => (size[0] > most[0] ? size : most));
    this.width = largest[0];
    this.height = largest[1];
    this.names = { left: this.chooser("left"), right: this.chooser("right") };
    const swap = tool("Swap left and right", "⇄", () => save(model, { left: model.get("right"), right: model.get("left") }));
    this.fitted.classList.add("cw-percent");
    this.root = element("div", { class: "cw compare" }, this.mat,
      element("div", { class: "cw-bar cm-bar", role: "toolbar", "aria-label": "Compare" }, this.names.left, swap,
        this.names.right, element("span", { class: "cm-space" }), this.smaller, this.fitted, this.larger));
    this.listen(signal);
  }

  chooser(side) {
    if (this.titles.length < 3) return element("span", { class: "cm-title" });
    const node = element("select", { class: "cm-choice", "aria-label": side === "left" ? "Left image" : "Right image",
      onchange: () => save(this.model, { [side]: Number(node.value) }) });
    this.titles.forEach((title, i) => node.append(element("option", { value: i }, title)));
    return node;
  }

  listen(signal) {
    const { model, stage, handle } = this;
    listen(stage, "pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      stage.setPointerCapture(event.pointerId);
      handle.focus({ preventScroll: true });
      this.drag(event);
    }, signal);
    listen(stage, "pointermove", (event) => stage.hasPointerCapture(event.pointerId) && this.drag(event), signal);
    for (const type of ["pointerup", "pointercancel"]) {
      listen(stage, type, () => this.timer && this.move(model.get("position")), signal);
    }
    keepKeys(this.root, signal, (event) => event.target === handle && this.key(event));
    follow(model, ["left", "right"], () => this.show(), signal);
    follow(model, ["position"], () => this.divide(), signal);
    onResize(this.mat, () => { if (this.scale === null) this.layout(); }, signal);
    signal.addEventListener("abort", () => this.urls.forEach(URL.revokeObjectURL));
  }

  // -- what is shown

  show() {
    for (const [side, image] of Object.entries({ left: this.under, right: this.over })) {
      const number = this.model.get(side), name = this.names[side];
      if (image.dataset.number !== String(number)) {
        mark(image, { src: this.urls[number], alt: this.titles[number], "data-number": number });
      }
      if (name instanceof HTMLSelectElement) name.value = number;
      else name.textContent = this.titles[number];
    }
    mark(this.handle, { "aria-label": `Divider between ${this.under.alt} and ${this.over.alt}` });
    this.divide();
  }

  divide() {
    const percent = 100 * this.model.get("position"), whole = Math.round(percent);
    this.over.style.clipPath = `inset(0 0 0 ${percent}%)`;
    this.handle.style.left = `${percent}%`;
    const text = `${whole} % ${this.under.alt}, ${100 - whole} % ${this.over.alt}`;
    mark(this.handle, { "aria-valuenow": whole, "aria-valuetext": text });
  }

  /** Screen pixels a pixel, at most as many as there is room for. */
  fitting() {
    const { width, height, mat } = this, ratio = window.devicePixelRatio || 1;
    const room = Math.max(64, mat.clientWidth - 24), tall = Math.max(160, Math.min(640, 0.7 * window.innerHeight));
    const wanted = Math.max(1, Math.floor((NATURAL * ratio) / Math.max(width, height)));
    return Math.min(wanted, (room * ratio) / width, (tall * ratio) / height);
  }

  layout() {
    const fit = this.fitting(), now = this.scale ?? fit, ratio = window.devicePixelRatio || 1;
    const percent = `${Math.round(100 * now)} %`;
    this.stage.style.width = `${(this.width * now) / ratio}px`;
    this.stage.style.height = `${(this.height * now) / ratio}px`;
    this.root.classList.toggle("cm-pixels", now >= 2);
    this.fitted.textContent = percent;
    mark(this.fitted, { "aria-label": `Zoom ${percent}. Fit the image` });
    mark(this.smaller, { "aria-disabled": now <= Math.min(1, fit) });
    mark(this.larger, { "aria-disabled": now >= Math.max(...ZOOMS) });
  }

  zoom(direction) {
    const { mat } = this, fit = this.fitting(), now = this.scale ?? fit, steps = [Math.min(1, fit), ...ZOOMS];
    const next = direction > 0 ? steps.find((step) => step > now + 0.01) : steps.findLast((step) => step < now - 0.01);
    if (next === undefined) return;
    const middle = [mat.scrollLeft + mat.clientWidth / 2, mat.scrollTop + mat.clientHeight / 2];
    this.scale = next;
    this.layout();
    mat.scrollLeft = (middle[0] * next) / now - mat.clientWidth / 2;  // what was in the middle stays there
    mat.scrollTop = (middle[1] * next) / now - mat.clientHeight / 2;
  }

  // -- the divider

  move(position, dragged = false) {
    this.model.set("position", clamp(Math.round(position * 1000) / 1000, 0, 1));
    clearTimeout(this.timer);
    if (dragged) this.timer = window.setTimeout(() => this.model.save_changes(), 100);  // Python hears of it now and then
    else this.model.save_changes();
  }

  drag(event) {
    const box = this.stage.getBoundingClientRect();
    this.move((event.clientX - box.left) / box.width, true);
  }

  key({ key, ctrlKey, metaKey, altKey, shiftKey }) {
    if (ctrlKey || metaKey || altKey) return false;
    const now = this.model.get("position"), step = shiftKey ? 0.1 : 0.01;
    const goals = { ArrowLeft: now - step, ArrowDown: now - step, ArrowRight: now + step, ArrowUp: now + step,
      PageDown: now - 0.1, PageUp: now + 0.1, Home: 0, End: 1 };
    if (key in goals) this.move(goals[key]);
    else if (key === "+" || key === "=") this.zoom(1);
    else if (key === "-") this.zoom(-1);
    else if (key === "0") this.fitted.click();
    else return false;
    return true;
  }
}

function render(context) {
  const comparison = new Comparison(context);
  context.el.append(comparison.root);
  comparison.show();
  comparison.layout();
}

export default { render };
