// @ts-check
// The page: what is on it, what its worker is asked, and what is shown of the answers.
import { deflate, inflate, pack, unpack } from "../../../helpers/widgets/js/bits.js";
import compare from "../../../helpers/widgets/js/compare.js";
import { button, copy, element, imageURL, mark } from "../../../helpers/widgets/js/dom.js";
import { BUILDERS, exButton } from "../../../helpers/widgets/js/explorer_controls.js";
import { stepsRun } from "../../../helpers/widgets/js/formats.js";
import steps from "../../../helpers/widgets/js/steps.js";
import { canvasOf, check, fromURL, png } from "./images.js";
import { Model } from "./model.js";
import { Painter } from "./painter.js";
import { CONTROLS, defaults, fromLink, MODES, OWN, PROMPTS, python, refusal, toLink } from "./settings.js";

const here = (path) => new URL(path, import.meta.url).href;
const text64 = (bytes) => btoa(String.fromCharCode(...bytes));
const bytes64 = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

const STAYS = " Your image stays in this tab: the link has the mask and all settings, and asks who opens it for the image.";
const ASKED_FOR = "This link was made with an image of its sender's own, which no link carries. Open that image with “Yours”, and the "
  + "link's mask lies over it; or go on with this one.";

const INSIDE = { noised: "Noised latents", clean: "Predicted clean image", guidance: "What guidance changed" };

class Page {
  settings = defaults("");
  base = new Uint8ClampedArray();  // the image before, RGBA
  own = null;  // the mask that a link has for an image of its sender's own
  result = null;  // { id, pixels }
  took = "";  // how long it took, in words
  newest = 0;  // the number of the newest call
  ready = false;  // the models are there
  notes = new Model({ _notes: {} });  // what is said of a control's value
  views = new Map();  // what is open: "compare", "inside" or "code", and what closes it
  files = element("input", { type: "file", accept: "image/png,image/jpeg,image/webp", hidden: "", "aria-label": "Your image",
    onchange: () => { const file = this.files.files?.[0]; this.files.value = ""; if (file) this.take(file); } });

  constructor(facts, root) {
    this.facts = facts;
    this.root = root;
    this.painter = new Painter(facts.size, { painted: () => this.ask(), starts: () => this.close("compare") });
    this.controls = this.buildControls();
    this.modes = Object.entries(MODES).map(([mode, label]) =>
      ({ mode, node: button("cw-button", () => this.choose({ mode }), {}, label) }));
    this.images = [...facts.images, OWN].map((name) => ({ name, node: name === OWN ? exButton({ name: "load", text: "Yours",
      title: "An image of your own; it stays in this tab", action: () => this.files.click() })
      : button("ex-thumb", () => this.choose({ image: name }), { "aria-label": `Image: ${name}`, title: name },
        element("img", { src: here(`models/${name}.png`), alt: "", draggable: false })) }));
    this.build();
    this.worker = new Worker(here("worker.js"), { type: "module" });
    this.worker.onmessage = ({ data }) => this.hear(data);
    this.worker.onerror = () => this.fail("The page's worker does not start. Reload the page; an up-to-date browser is needed.");
    this.worker.postMessage({ kind: "facts", facts });
  }

  buildControls() {
    const context = { store: { model: this.notes }, signal: new AbortController().signal };
    return CONTROLS.map((control) => {
      const change = (value) => { this.settings[control.name] = value; this.refresh(); this.ask(); };
      const made = BUILDERS[control.kind](control, change, context);
      made.row.dataset.name = control.name;
      return { control, ...made };
    });
  }

  build() {
    const { painter, root, controls, modes, images } = this;
    this.bar = element("progress", { class: "ex-progress", "aria-label": "Progress", max: 1 });
    this.status = element("span", { class: "ex-status", role: "status" });
    this.alert = element("div", { class: "ex-alert", role: "alert", hidden: "" });
    this.place = element("div", { class: "play-place" });  // of the comparison
    this.below = element("div", { class: "play-below" });
    this.actions = {
      compare: exButton({ name: "compare", text: "Compare", action: () => this.toggle("compare") }),
      inside: exButton({ text: "Look inside", title: "The steps of this image", action: () => this.toggle("inside") }),
      code: exButton({ name: "code", text: "Code", title: "The diffusers call that makes this image", action: () => this.toggle("code") }),
      link: exButton({ name: "copy", text: "Copy link", title: "A link with all settings", action: () => this.copyLink() }),
      save: exButton({ name: "save", text: "Save", title: "Save the image as PNG", action: () => this.save() }),
    };
    mark(root, { class: "cw explorer play" });
    root.replaceChildren(
      element("div", { class: "cw-main" },
        element("div", { class: "cw-left ex-stage" },
          element("div", { class: "ex-thumbs", role: "group", "aria-label": "Image to begin with" }, ...images.map(({ node }) => node), this.files),
          painter.node, this.place, this.bar, element("div", { class: "ex-line ex-under" }, this.status), this.alert,
          element("div", { class: "ex-line ex-actions", role: "toolbar", "aria-label": "This image" }, ...Object.values(this.actions))),
        element("div", { class: "cw-right" },
          element("div", { class: "ex-tabs", role: "group", "aria-label": "Task" }, ...modes.map(({ node }) => node)),
          ...controls.map(({ row }) => row))),
      this.below);
    for (const type of ["dragover", "drop"]) root.addEventListener(type, (event) => this.drop(event));
  }

  // -- what is chosen

  /** Takes settings from a link, `#name=value&…`, or the defaults. */
  async open(fragment) {
    const { settings, own, refused } = fromLink(fragment, this.facts.images), said = own === null ? [] : [ASKED_FOR];
    Object.assign(this, { settings, own });
    this.say([...said, ...refused, await this.loadImage()].filter(Boolean).join("\n"), true);
    this.refresh();
    this.ask();
  }

  async choose(values) {
    const { settings } = this;
    if (values.image && Object.values(PROMPTS).includes(settings.prompt)) settings.prompt = PROMPTS[values.image];
    Object.assign(settings, values);
    this.say("");
    if (values.image) {
      this.own = null;
      settings.mask = "";
      await this.loadImage();
    }
    this.result = null;
    this.show();
    this.refresh();
    this.ask();
  }

  /** Shows an image of the course with the link's mask, or its own. Returns a sentence where the link's cannot be read. */
  async loadImage() {
    const { facts: { size }, settings, painter } = this, { image } = settings;
    if (image === OWN) return "";
    this.base = await fromURL(here(`models/${image}.png`), size);
    let mask = await this.levels(settings.mask);
    const unread = !mask;
    if (unread || !settings.mask) {
      settings.mask = "";
      const levels = await fromURL(here(`models/${image}_mask.png`), size);
      mask = new Uint8Array(size * size).map((_, i) => levels[4 * i]);
    }
    this.result = null;
    painter.setMask(mask);
    this.show();
    return unread ? "The link's mask cannot be read: the image's own is used." : "";
  }

  /** A link's mask as levels 0..255, empty for ""; null for one that cannot be read. */
  async levels(text) {
    const mask = new Uint8Array(this.facts.size ** 2);
    if (!text) return mask;
    const bits = await Promise.resolve(text).then(bytes64).then(inflate).catch(() => []);
    if (bits.length !== mask.length && bits.length !== mask.length / 8) return null;
    unpack(bits, mask);
    return mask;
  }

  /** A file of the visitor's. */
  async take(file) {
    try {
      await check(file);
      this.base = await this.read(file);
    } catch (error) {
      this.say(error.message);
      return;
    }
    Object.assign(this.settings, { image: OWN, mask: "" });
    if (this.settings.mode === "text2image") this.settings.mode = "inpaint";
    const mask = await this.levels(this.own ?? "");
    this.say(mask ? "" : "The link's mask cannot be read. Paint one.", true);
    this.painter.setMask(mask ?? new Uint8Array(this.facts.size ** 2));
    Object.assign(this, { own: null, result: null });
    this.show();
    this.refresh();
    this.ask();
  }

  /** A file's pixels: the worker decodes it, which takes a while for a large one. */
  read(file) {
    const { port1, port2 } = new MessageChannel();
    this.worker.postMessage({ kind: "read", file, size: this.facts.size }, [port2]);
    return new Promise((done, fail) => {
      port1.onmessage = ({ data }) => (data ? done(data) : fail(new Error(`${file.name} is damaged, or there is not enough memory to decode it.`)));
    });
  }

  drop(event) {
    event.preventDefault();
    const file = event.type === "drop" && event.dataTransfer?.files[0];
    if (file) this.take(file);
  }

  // -- the worker

  ask() {
    const { settings, painter, base } = this, id = ++this.newest, mask = painter.mask.slice();
    const reason = refusal(settings, mask.some((level) => level > 127));
    this.root.dataset.state = reason ? "refused" : "running";
    this.close("inside");
    if (reason) {
      this.told(reason);
      return;
    }
    if (this.ready) this.told(`Step 0 of ${stepsRun(settings.num_inference_steps, settings.mode === "text2image" ? 1 : settings.strength)}`);
    this.asked = { id, mask, settings: { ...settings } };
    this.worker.postMessage({ kind: "run", id, call: { ...settings, pixels: base, mask } });
  }

  /** @param {any} message */
  hear({ kind, id, ...told }) {
    if (kind === "download") this.showDownload(told);
    else if (id !== this.newest) return;
    else if (kind === "step") this.showStep(told);
    else if (kind === "done") this.finish(id, told);
    else if (kind === "looking") this.told(`Looking inside: step ${told.number} of ${told.count}`);
    else if (kind === "inside") this.showInside(told);
    else if (kind === "failed") this.fail(told.text);
  }

  showDownload({ got, all }) {
    this.ready = got >= all;
    this.bar.value = got / all;
    this.told(this.ready ? "Starting the models …" : `Downloading the models, once: ${megabytes(got)} of ${megabytes(all)}`);
  }

  showStep({ number, count, pixels }) {
    this.ready = true;
    this.bar.value = number / count;
    this.told(`Step ${number} of ${count}`);
    this.painter.show(canvasOf(pixels));
  }

  finish(id, { pixels, milliseconds, cut }) {
    this.result = { id, pixels };
    this.notes.set("_notes", { prompt: cut ? `The text encoder has no room for the last ${cut} tokens of this prompt.` : "" });
    this.root.dataset.state = "done";
    this.took = `${(milliseconds / 1000).toFixed(2)} s for this image, computed in this tab`;
    this.told(this.took);
    this.show();
    this.refresh();
    for (const name of ["compare", "code"]) if (this.views.has(name)) this.toggle(name, true);
  }

  fail(text) {
    const short = /memory|alloc|RangeError/i.test(text)
      ? "There is not enough free memory for the models, which need about 500 MB. Close other tabs and try again." : text;
    this.root.dataset.state = "failed";
    this.say(short);
    this.alert.append(exButton({ text: "Try again", action: () => { this.say(""); this.ask(); } }));
    this.told("");
  }

  // -- what is shown

  show() {
    const { result, base, settings, facts: { size } } = this;
    const blank = new Uint8ClampedArray(4 * size * size).fill(128).map((value, i) => (i % 4 === 3 ? 255 : value));
    this.painter.show(canvasOf(result?.pixels ?? (settings.mode === "text2image" ? blank : base)));
  }

  told(text) { this.status.textContent = text; }

  say(text, mild = false) {
    this.alert.hidden = !text;
    this.alert.classList.toggle("ex-mild", mild);
    this.alert.replaceChildren(element("div", {}, text));
  }

  refresh() {
    const { settings, root, controls, modes, images, actions, result, views } = this;
    mark(root, { "data-mode": settings.mode });
    for (const { control, refresh } of controls) refresh(settings[control.name], control);
    for (const { mode, node } of modes) mark(node, { "aria-pressed": mode === settings.mode });
    for (const { name, node } of images) mark(node, { "aria-current": name === settings.image });
    for (const [name, node] of Object.entries(actions)) {
      mark(node, { "aria-disabled": !result && name !== "link" && name !== "code" });
      if (name !== "link" && name !== "save") mark(node, { "aria-pressed": views.has(name) });
    }
  }

  close(name) {
    this.views.get(name)?.abort();
    this.views.delete(name);
    mark(this.root, { "data-comparing": this.views.has("compare") });
    this.refresh();
  }

  /** Opens a view, or closes it; `again`: it is drawn anew. */
  async toggle(name, again = false) {
    const open = again || !this.views.has(name);
    this.close(name);
    if (!open || (!this.result && name !== "code")) return;
    const life = new AbortController(), put = (where, ...nodes) => {
      where.append(...nodes);
      life.signal.addEventListener("abort", () => nodes.forEach((node) => node.remove()));
    };
    this.views.set(name, life);
    if (name === "code") put(this.below, await this.codeView());
    else if (name === "compare") {
      const [before, after] = await Promise.all([png(this.base), png(this.result.pixels)]), { size } = this.facts, el = element("div");
      const model = new Model({ _titles: ["Before", "After"], _pictures: [before, after], _sizes: [[size, size], [size, size]], left: 0, right: 1, position: 0.5 });
      put(this.place, el);
      mark(this.root, { "data-comparing": true });
      compare.render({ model, el, signal: life.signal });
    } else this.worker.postMessage({ kind: "inside", id: this.result.id });
    this.refresh();
  }

  showInside({ steps: seen, result }) {
    const life = this.views.get("inside");
    if (!life) return;
    const guided = Boolean(seen[0].guidance), names = Object.keys(INSIDE).filter((name) => guided || name !== "guidance");
    const pictures = Object.fromEntries(names.map((name) => [name, seen.map((step) => step[name])]));
    const model = new Model({ _steps: seen.map(({ timestep, kept }) => [timestep, kept, Math.sqrt(1 - kept * kept)]), _words: [],
      _attention: new Uint8Array(), _ramp: new Uint8Array(), _titles: INSIDE, _pictures: pictures, _result: result,
      _missing: guided ? {} : { guidance: "Not available here, because guidance is off: the UNet is asked once a step." }, step: seen.length, word: 0 });
    const el = element("section", { class: "play-inside", "aria-label": "Inside this image" });
    this.below.prepend(el);
    life.signal.addEventListener("abort", () => el.remove());
    steps.render({ model, el, signal: life.signal });
    this.told(this.took);
    el.scrollIntoView({ behavior: "smooth", block: "nearest" });
  }

  /** The mask as it travels in links and code. */
  async maskBits() { return text64(await deflate(pack(this.painter.mask))); }

  async codeView() {
    const { facts: { size }, painter, settings } = this;
    const code = element("code", { tabindex: 0, "aria-label": "Python code" }, python(settings, { size, mask: { bits: await this.maskBits(), soft: painter.isSoft } }));
    const label = exButton({ name: "copy", text: "Copy", action: () => copy(code, label.lastChild, "Copy") });
    return element("section", { class: "ex-script", "aria-label": "Code of this image" },
      element("div", { class: "ex-line" }, element("span", { class: "ex-hint" },
        "In the course, this makes the same image: seed and noise are torch's, and values differ by at most 1 of 255 here and there."), label),
      element("pre", { class: "cw-code" }, code));
  }

  async copyLink() {
    const { settings } = this, bits = settings.mode === "inpaint" ? await this.maskBits() : "";
    const mask = bits.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
    history.replaceState(null, "", `#${toLink({ ...settings, mask })}`);
    const own = settings.image === OWN && settings.mode !== "text2image" ? STAYS : "";
    try {
      await navigator.clipboard.writeText(location.href);
      this.told(`Link copied.${own}`);
    } catch {  // not a secure page, or not allowed
      this.told(`The link is in the address bar.${own}`);
    }
  }

  async save() {
    if (!this.result) return;
    for (const [name, pixels] of [["painted", this.result.pixels], ...(this.settings.image === OWN ? [["my-image", this.base]] : [])]) {
      const url = imageURL(await png(pixels));
      element("a", { href: url, download: `${name}.png` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    }
  }
}

/** What this browser lacks, in a sentence; "" where it has all that the page needs. */
function lacking() {
  if (typeof WebAssembly !== "object") return "WebAssembly is switched off in this browser, and the models run in it. Allow it for this page, or use another browser.";
  const needed = { Worker: window.Worker, DecompressionStream: window.DecompressionStream, ResizeObserver: window.ResizeObserver,
    OffscreenCanvas: window.OffscreenCanvas };
  const missing = Object.entries(needed).filter(([, value]) => !value).map(([name]) => name);
  return missing.length ? `This browser has no ${missing.join(" and no ")}. Use a newer one.` : "";
}

async function start() {
  const root = /** @type {HTMLElement} */ (document.querySelector("#play")), refuse = (text) => {
    root.replaceChildren(element("p", { class: "play-refused", role: "alert" }, text));
    root.dataset.state = "failed";
    return null;
  };
  if (lacking()) return refuse(lacking());
  let facts;
  try {
    facts = await (await fetch(here("models/models.json"))).json();
  } catch {
    return refuse("The page's list of models does not load. Check the connection and reload the page.");
  }
  const page = new Page(facts, root);
  window.addEventListener("hashchange", () => page.open(location.hash));
  await page.open(location.hash);
  navigator.serviceWorker?.register(here("sw.js")).catch(() => {});  // not on an insecure page: then it needs the network
  return page;
}

export const page = await start();
