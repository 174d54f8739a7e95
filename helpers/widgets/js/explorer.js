// @ts-check
// A pipeline's parameters as controls, the image they make, and the images before it.
import { button, copy, element, keepKeys, listen, mark, widget } from "./dom.js";
import { BUILDERS, exButton, tabbed } from "./explorer_controls.js";
import { Brush } from "./explorer_brush.js";
import { setImage, Stage } from "./explorer_stage.js";
import { Steps } from "./explorer_steps.js";
import { ExplorerStore } from "./explorer_store.js";
import { stepsRun } from "./formats.js";

/** The panel of controls; with a ControlNet they have two pages. */
class Panel {
  rows = {};
  node = element("div", { class: "cw-right ex-panel" });
  moveTab = null;
  seen = element("img", { class: "ex-control", draggable: false });  // what the ControlNet looks at

  constructor(store, signal) {
    this.store = store;
    const page = () => element("div", { class: "ex-page" });
    const groups = { picture: page(), control: page(), mask: element("div", { class: "ex-group", role: "group", "aria-label": "Mask" }) };
    for (const control of store.model.get("_controls")) {
      const { name, kind, group } = control;
      this.rows[name] = BUILDERS[kind](control, (value, moving) => store.change({ [name]: value }, moving), { store, signal });
      this.rows[name].row.dataset.name = name;
      groups[group].append(this.rows[name].row);
    }
    if (groups.mask.hasChildNodes()) groups.picture.append(groups.mask);
    this.node.append(groups.picture);
    if (!groups.control.hasChildNodes()) return;
    this.moveTab = tabbed(this.node, { Image: groups.picture, ControlNet: groups.control });
    groups.control.firstChild?.after(this.seen);
  }

  refresh() {
    const { store, rows } = this, controls = store.model.get("_controls");
    for (const control of controls) rows[control.name].refresh(store.value(control.name), control);
    const control = controls.find(({ name }) => name === "control"), { num_inference_steps: steps, strength } = rows;
    if (control) {
      setImage(this.seen, store.urls.control);
      this.seen.alt = `Control image: ${control.labels[control.choices.indexOf(store.value("control"))]}`;
    }
    if (!steps?.hint || !strength) return;
    const chosen = store.value("num_inference_steps"), run = stepsRun(chosen, store.value("strength"));
    steps.hint.textContent = run < chosen ? `${run} are run` : "";
  }
}

/** The images that were made, newest first. */
class Strip {
  thumbs = new Map();
  list = element("div", { class: "ex-thumbs", role: "group", "aria-label": "History, newest first" });
  total = element("span", { class: "ex-hint" });
  pins = ["a", "b"].map((place) => ({ place, node: exButton({ text: place.toUpperCase(),
    label: `Pin this image as ${place.toUpperCase()}`, action: () => this.pin(place) }) }));
  node = element("section", { class: "ex-history", "aria-label": "History", hidden: "" },
    element("div", { class: "ex-line" }, element("strong", {}, "History"), this.total,
      element("span", { class: "ex-hint" }, "Pin this image as"), ...this.pins.map(({ node }) => node)), this.list);

  constructor(store) {
    this.store = store;
  }

  pin(place, number = this.store.state.shown) {
    if (number !== null) this.store.pin(place, number);
  }

  refresh() {
    const { store: { entries, model, state: { shown } }, thumbs, list } = this, marked = model.get("_pins");
    const numbers = new Set(entries.map(({ number }) => number));
    this.node.hidden = !entries.length;
    this.total.textContent = String(entries.length);
    for (const [number, node] of thumbs) if (!numbers.has(number)) { node.remove(); thumbs.delete(number); }
    for (const { number, text, url } of entries) {
      const node = thumbs.get(number) ?? this.add(number, text, url);
      const letters = ["a", "b"].filter((place) => marked[place] === number).map((place) => place.toUpperCase());
      if (node.lastChild) node.lastChild.textContent = letters.join("");
      mark(node, { "aria-label": `Image ${number}${letters.length ? `, pinned as ${letters.join(" and ")}` : ""}: ${text}`,
        "aria-current": number === shown, tabindex: number === shown ? 0 : -1 });
    }
    if (list.firstElementChild && ![...thumbs.values()].some((node) => node.tabIndex === 0)) mark(list.firstElementChild, { tabindex: 0 });
    for (const { place, node } of this.pins) {
      mark(node, { "aria-pressed": shown !== null && marked[place] === shown, "aria-disabled": shown === null });
    }
  }

  add(number, text, url) {
    const node = button("ex-thumb", () => this.store.recall(number), { title: text });
    node.dataset.number = String(number);
    node.append(element("img", { src: url, alt: "", draggable: false }), element("b", { class: "cw-badge", "aria-hidden": true }));
    this.thumbs.set(number, node);
    this.list.prepend(node);
    return node;
  }

  /** Whether a key on one of the images was taken. */
  key(thumb, key) {
    if (key === "ArrowLeft") thumb.previousElementSibling?.focus();
    else if (key === "ArrowRight") thumb.nextElementSibling?.focus();
    else if (/^[ab]$/i.test(key)) this.pin(key.toLowerCase(), Number(thumb.dataset.number));
    else return false;
    return true;
  }
}

/** What can be done with the image on the stage, and its code. */
class Actions {
  file = element("input", { type: "file", accept: "image/png", hidden: "", onchange: () => {
    this.store.restore(this.file.files?.[0]);
    this.file.value = "";
  } });
  accept = exButton({ name: "accept", text: "Accept", title: "Paint on: this image becomes the input of the next ones",
    action: () => this.store.accept() });
  compare = exButton({ name: "compare", text: "Compare", title: "Two images behind a divider: A and B, "
    + "or what was before and what is now", action: () => { this.stage.comparing = !this.stage.comparing; this.refreshView(); } });
  live = exButton({ name: "live", text: "Live", title: "While a value is changed: finished images of four steps, instead of "
    + "drafts", action: () => this.store.model.send({ kind: "live", on: !this.store.model.get("_live") }) });
  code = exButton({ name: "code", text: "Code", title: "The complete diffusers code of this image",
    action: () => this.toggleCode() });
  save = exButton({ name: "save", text: "Save", title: "Save as PNG, with all parameters in it",
    action: () => this.store.model.send({ kind: "save" }) });
  open = exButton({ name: "load", text: "Open", title: "Bring back a saved image with its parameters; or drop it here",
    action: () => this.file.click() });
  node = element("div", { class: "ex-line ex-actions", role: "toolbar", "aria-label": "This image" },
    this.accept, this.compare, this.live, this.code, this.save, this.open, this.file);
  text = element("code", { tabindex: 0, "aria-label": "Python code" });
  copy = exButton({ name: "copy", text: "Copy", action: () => copy(this.text, this.copy.lastChild, "Copy") });
  script = element("section", { class: "ex-script", "aria-label": "Code of this image", hidden: "" },
    element("div", { class: "ex-line" }, element("span", { class: "ex-hint" },
      "Plain diffusers, ready to paste. The images it opens are written beside the notebook."), this.copy),
    element("pre", { class: "cw-code" }, this.text));

  constructor(store, stage, refreshView) {
    this.store = store;
    this.stage = stage;
    this.refreshView = refreshView;
  }

  toggleCode() {
    this.store.code = this.script.hidden ? "" : null;
    this.script.hidden = !this.script.hidden;
    if (!this.script.hidden) this.store.model.send({ kind: "code" });
    this.refreshView();
  }

  refresh() {
    const { store, stage: { comparing, pair }, script, text } = this, made = Boolean(store.urls.picture);
    const { phase, kind } = store.state;
    this.accept.hidden = !store.urls.before;
    mark(this.accept, { "aria-disabled": !made || phase !== "done" || kind !== "full" });
    mark(this.compare, { "aria-pressed": comparing, "aria-disabled": !pair });
    const live = store.model.get("_live");
    this.live.hidden = live === null;
    mark(this.live, { "aria-pressed": live });
    mark(this.save, { "aria-disabled": !made });
    mark(this.code, { "aria-disabled": !made, "aria-pressed": !script.hidden, "aria-expanded": !script.hidden });
    if (!script.hidden && text.textContent !== store.code) text.textContent = store.code;
  }
}

/** A PNG that is dropped anywhere on the widget is opened. */
function takeDrops(root, store, signal) {
  let depth = 0;  // of the elements that a dragged file is over
  const drag = (type, handler) => listen(root, type, (event) => {
    if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
    event.preventDefault();
    event.stopPropagation();
    handler(event);
    root.classList.toggle("ex-dropping", depth > 0);
  }, signal);
  drag("dragenter", () => { depth++; });
  drag("dragover", ({ dataTransfer }) => { if (dataTransfer) dataTransfer.dropEffect = "copy"; });
  drag("dragleave", () => { depth = Math.max(0, depth - 1); });
  drag("drop", ({ dataTransfer }) => { depth = 0; store.restore(dataTransfer?.files[0]); });
}

function render(store, { model, el, signal }) {
  const brush = new Brush(store, signal), stage = new Stage(store, brush), panel = new Panel(store, signal);
  const strip = new Strip(store), steps = new Steps(store);
  const actions = new Actions(store, stage, () => refresh());
  const refresh = () => { for (const part of [panel, stage, steps, strip, actions]) part.refresh(); };
  const root = element("div", { class: "cw explorer", role: "region", "aria-label": "Parameter explorer" },
    element("div", { class: "cw-main" }, element("div", { class: "cw-left ex-stage" }, ...stage.nodes, actions.node), panel.node),
    steps.node, strip.node, actions.script, stage.spoken);
  el.append(root);
  keepKeys(root, signal, (event) => {
    const { key } = event, target = event.target, thumb = target.closest(".ex-thumb");
    let taken = true;
    if (key === "Escape" && store.running && !brush.gesture) model.send({ kind: "cancel" });
    else if (key === "Enter" && target.matches("textarea")) target.dispatchEvent(new Event("commit"));
    else if (target.role === "tab" && /^(Arrow(Left|Right)|Home|End)$/.test(key)) panel.moveTab?.(key);
    else if (thumb instanceof HTMLElement) taken = (steps.node.contains(thumb) ? steps : strip).key(thumb, key);
    else taken = brush.key(event);
    if (!taken && target.matches("[type=range]") && /^(Arrow|Page|Home|End)/.test(key)) target.dataset.keys = "1";
    return taken;
  }, (event) => brush.command(event));
  takeDrops(root, store, signal);
  store.enter(refresh, signal);
  refresh();
}

export default widget((context) => new ExplorerStore(context), render);
