// @ts-check
// The tools of a mask painter: buttons and sliders for what is drawn on a screen, and the keys that stand for them.
import { button, clamp, element, follow, listen, mark, save } from "./dom.js";
import { iconButton } from "./mask_icons.js";
import { grow, invert, share, shrink } from "./raster.js";

const TOOLS = {
  brush: ["Brush", "b"], eraser: ["Eraser", "e"], rectangle: ["Rectangle", "r"], ellipse: ["Ellipse", "o"],
  lasso: ["Lasso", "l"], fill: ["Fill an enclosed area", "f"], select: ["Select an object: click it, or drag a box around it", "w"],
  hand: ["Move the image", "h"],
};
const HELP = [
  ["B E R O L F W", "brush, eraser, rectangle, ellipse, lasso, fill, select an object"],
  ["[ ]", "smaller or larger brush"],
  ["Shift", "square or circle while you drag"],
  ["Alt or right button", "erase with any tool; so does the other end of a pen"],
  ["Esc", "give up a stroke or a shape"],
  ["Ctrl+Z  Ctrl+Shift+Z", "undo, redo"],
  ["I G S Delete", "invert, grow, shrink, clear"],
  ["+ − 0", "zoom; or Ctrl+wheel, or two fingers"],
  ["H", "move the image; or middle button, or two fingers"],
  ["Arrow keys", "on the image: move the cursor; with Shift by one pixel"],
  ["Space", "paint there; hold it to draw a line; shapes: start and end"],
  ["Enter", "pen down, pen up; closes a lasso"],
];

const group = (label, ...nodes) => element("div", { class: "mp-group", role: "group", "aria-label": label }, ...nodes);

export class Painter {
  size = element("input", { type: "range", min: 0, max: 100, step: 1, "aria-label": "Brush size" });
  sizeText = element("output", { class: "mp-number" });
  softness = element("input", { type: "range", min: 0, max: 100, step: 5, "aria-label": "Softness of the brush",
    title: "Softness of the brush" });
  level = element("input", { type: "range", min: 5, max: 100, step: 5, "aria-label": "Level: how white the mask is painted",
    title: "Level: how white the mask is painted" });
  levelText = element("output", { class: "mp-number mp-short" });
  opacity = element("input", { type: "range", min: 10, max: 100, step: 5, "aria-label": "Opacity of the overlay",
    title: "Opacity of the overlay" });
  colour = element("input", { type: "color", "aria-label": "Colour of the overlay", title: "Colour of the overlay" });
  status = element("span", { class: "mp-status" });
  spoken = element("span", { class: "cw-spoken", role: "status", "aria-live": "polite" });
  help = element("div", { class: "mp-help", hidden: "" },
    ...HELP.map(([keys, text]) => element("div", {}, element("b", {}, keys), text)));

  /** On a `Screen`, such as MaskScreen, of this mask. */
  constructor(store, signal, Screen) {
    const { model, mask } = store, longer = Math.max(mask.width, mask.height);
    this.store = store;
    this.model = model;
    this.largest = Math.max(8, Math.round(longer / 2));
    this.screen = new Screen(store, signal, (scale) => { this.fit.textContent = `${Math.round(scale * 100)} %`; });
    this.viewport = this.screen.viewport;
    this.hand = this.screen.hand;
    this.fit = button("cw-quiet cw-percent", () => this.viewport.zoom(0), { "aria-label": "Fit the image", title: "Fit the image (0)" });
    this.tools = Object.entries(TOOLS).map(([tool, [label, key]]) =>
      ({ tool, node: iconButton(tool, label, key.toUpperCase(), () => save(model, { tool })) }));
    this.actions = this.buildActions(Math.max(1, Math.round(longer / 128)));
    this.shortcuts = this.buildShortcuts();
    this.groups = this.build();
    this.follow(signal);
  }

  buildActions(amount) {
    const { store, hand } = this, { mask } = store;
    const after = (change) => () => { hand.drop(); change(); };
    const edit = (change) => after(() => { change(); store.commit(); });
    return {
      undo: iconButton("undo", "Undo", "Ctrl+Z", after(() => store.undo())),
      redo: iconButton("redo", "Redo", "Ctrl+Shift+Z", after(() => store.redo())),
      invert: iconButton("invert", "Invert", "I", edit(() => invert(mask))),
      grow: iconButton("grow", `Grow by ${amount} px`, "G", edit(() => grow(mask, amount))),
      shrink: iconButton("shrink", `Shrink by ${amount} px`, "S", edit(() => shrink(mask, amount))),
      clear: iconButton("clear", "Clear", "Delete", edit(() => mask.data.fill(0))),
      out: iconButton("out", "Zoom out", "−", () => this.viewport.zoom(1 / 1.5)),
      in: iconButton("in", "Zoom in", "+", () => this.viewport.zoom(1.5)),
      help: iconButton("help", "Keys and gestures", "?", () => {
        this.help.hidden = !this.help.hidden;
        mark(this.actions.help, { "aria-expanded": !this.help.hidden });
      }),
    };
  }

  buildShortcuts() {
    const { actions } = this, tools = this.tools.map(({ tool, node }) => [TOOLS[tool][1], () => node.click()]);
    return {
      ...Object.fromEntries(tools), "[": () => this.resize(1 / 1.2), "]": () => this.resize(1.2),
      i: () => actions.invert.click(), g: () => actions.grow.click(), s: () => actions.shrink.click(),
      delete: () => actions.clear.click(), backspace: () => actions.clear.click(),
      "+": () => actions.in.click(), "=": () => actions.in.click(), "-": () => actions.out.click(),
      0: () => this.fit.click(), "?": () => actions.help.click(), escape: () => this.hand.drop(),
    };
  }

  build() {
    const { actions: { undo, redo, invert, grow, shrink, clear, out, in: larger, help } } = this;
    mark(help, { "aria-expanded": false });
    return {
      tools: group("Tools", ...this.tools.map(({ node }) => node)),
      size: group("Brush size", element("span", { class: "mp-dot small" }), this.size, element("span", { class: "mp-dot" }), this.sizeText),
      soft: group("Soft masks", element("span", { class: "mp-dot" }), this.softness, element("span", { class: "mp-dot soft" }),
        this.level, this.levelText),
      history: group("Strokes", undo, redo),
      whole: group("Whole mask", invert, grow, shrink, clear),
      zoom: group("Zoom", out, this.fit, larger),
      overlay: group("Overlay", element("span", {}, "Overlay"), this.colour, this.opacity),
    };
  }

  /** A toolbar of some groups. */
  bar(...names) {
    return element("div", { class: "cw-bar mp-bar", role: "toolbar", "aria-label": "Mask painter" },
      ...names.map((name) => this.groups[name]));
  }

  follow(signal) {
    const { model, size, softness, level, opacity, colour } = this;
    listen(size, "input", () => model.set("brush_size", Math.round(1 + (this.largest - 1) * (Number(size.value) / 100) ** 2)), signal);
    listen(opacity, "input", () => model.set("opacity", Number(opacity.value) / 100), signal);
    listen(softness, "input", () => model.set("softness", Number(softness.value) / 100), signal);
    listen(level, "input", () => model.set("level", Math.round(2.55 * Number(level.value))), signal);
    listen(colour, "input", () => model.set("colour", colour.value), signal);
    for (const input of [size, softness, level, opacity, colour]) listen(input, "change", () => model.save_changes(), signal);
    follow(model, ["tool", "brush_size", "softness", "level", "opacity", "colour", "_note"], () => this.refresh(), signal);
  }

  key(event) {
    if (event.target === this.screen.over && this.hand.key(event)) {
      if (event.key.startsWith("Arrow")) this.spoken.textContent = this.hand.said();
      return true;
    }
    const shortcut = this.shortcuts[event.key.toLowerCase()];
    shortcut?.();
    return Boolean(shortcut);
  }

  command(event) {
    const key = event.key.toLowerCase();
    if (key === "y" || (key === "z" && event.shiftKey)) this.actions.redo.click();
    else if (key === "z") this.actions.undo.click();
    else return false;
    return true;
  }

  resize(factor) {
    const now = this.model.get("brush_size"), next = Math.round(now * factor);
    save(this.model, { brush_size: clamp(factor > 1 ? Math.max(now + 1, next) : Math.min(now - 1, next), 1, this.largest) });
  }

  refresh() {
    const { model, store, actions, size } = this, brush = model.get("brush_size"), { mask } = store;
    for (const { tool, node } of this.tools) mark(node, { "aria-pressed": tool === model.get("tool") });
    this.colour.value = model.get("colour");
    // Not `disabled`: that would take the focus away, and the keys with it.
    mark(actions.undo, { "aria-disabled": !store.past.length });
    mark(actions.redo, { "aria-disabled": !store.future.length });
    if (document.activeElement !== size) size.value = String(100 * Math.sqrt((brush - 1) / (this.largest - 1)));
    mark(size, { "aria-valuetext": `${brush} pixels` });
    this.sizeText.textContent = `${brush} px`;
    this.opacity.value = String(100 * model.get("opacity"));
    const level = `${Math.round(model.get("level") / 2.55)} %`;
    if (document.activeElement !== this.softness) this.softness.value = String(100 * model.get("softness"));
    if (document.activeElement !== this.level) this.level.value = String(model.get("level") / 2.55);
    mark(this.level, { "aria-valuetext": level });
    this.levelText.textContent = level;
    this.status.textContent = model.get("_note") || `${(100 * share(mask)).toFixed(1)} % to repaint · ${mask.width} × ${mask.height} px`;
    this.screen.draw();
  }
}
