// @ts-check
// An explorer's images, its history and what was edited: one a model, shared by all views of the widget.
//
// Python holds the truth: `_values`, `_state`, `_picture`. What is edited here is sent at once, at most once a frame, and
// shown until Python says the same, so that a late answer never moves a slider back under the hand.
import { element, follow, hear, imageURL } from "./dom.js";
import { same } from "./formats.js";

const TRAITS = { _picture: "picture", _before: "before", _a: "a", _b: "b", _control_png: "control" };

export class ExplorerStore {
  views = new Set();
  edits = {};  // what Python has not confirmed yet
  outbox = {};
  entries = [];  // the history, oldest first
  steps = [];  // the first input and the accepted images
  urls = {};
  step = null;  // of the running call
  notice = null;  // why something was refused
  code = null;
  frame = 0;

  constructor({ model, signal }) {
    this.model = model;
    for (const [trait, name] of Object.entries(TRAITS)) {
      follow(model, [trait], () => { this.show(name, model.get(trait)); this.refresh(); }, signal);
      this.show(name, model.get(trait));
    }
    follow(model, ["_values"], () => this.confirm(), signal);
    follow(model, ["_history"], () => { this.list(); this.refresh(); }, signal);
    follow(model, ["_state"], () => this.follow(), signal);
    follow(model, ["_steps"], () => { this.listSteps(); this.refresh(); }, signal);
    follow(model, ["_locked", "_live", "_at", "_pins", "_controls", "_notes"], () => this.refresh(), signal);
    hear(model, "msg:custom", (content, buffers) => this.receive(content, buffers), signal);
    this.list();
    this.listSteps();
  }

  get state() { return this.model.get("_state"); }

  get running() { return this.state.phase === "running"; }

  show(name, bytes) {
    if (this.urls[name]) URL.revokeObjectURL(this.urls[name]);
    this.urls[name] = imageURL(bytes);
  }

  // -- from Python

  confirm() {
    const values = this.model.get("_values");
    for (const name of Object.keys(this.edits)) if (same(this.edits[name], values[name])) delete this.edits[name];
    this.refresh();
  }

  follow() {
    if (!this.running) {
      this.step = null;
      this.show("preview", null);
    }
    if (this.state.phase === "done" && this.code !== null) this.model.send({ kind: "code" });
    this.refresh();
  }

  receive(content, buffers = []) {
    if (content.kind === "drawn" || (content.kind === "step" && !this.running)) return;
    if (content.kind === "step") {
      this.step = content;
      if (buffers.length) this.show("preview", buffers[0]);
    } else if (content.kind === "code" && this.code !== null) this.code = content.text;
    else if (content.kind === "file") download(content.name, imageURL(buffers[0]));
    else if (content.kind === "refused") this.begin(content.text);
    this.refresh();
  }

  list() {
    const urls = new Map(this.entries.map(({ number, url }) => [number, url]));
    this.entries = this.model.get("_history").map(({ number, text, thumb }) =>
      ({ number, text, url: urls.get(number) ?? imageURL(thumb, "image/jpeg") }));
    for (const { number } of this.entries) urls.delete(number);
    for (const url of urls.values()) URL.revokeObjectURL(url);
  }

  listSteps() {
    this.steps.forEach(({ url }) => URL.revokeObjectURL(url));
    this.steps = this.model.get("_steps").map(({ text, thumb }) => ({ text, url: imageURL(thumb, "image/jpeg") }));
  }

  // -- to Python

  /** The value on the screen. */
  value(name) {
    return name in this.edits ? this.edits[name] : this.model.get("_values")[name];
  }

  /** Drops what was edited before. */
  begin(notice = null) {
    this.edits = {};
    this.notice = notice;
  }

  /** Sends edits at once; while `moving`, for drafts, the next of them not before the next frame. */
  change(values, moving) {
    Object.assign(this.edits, values);
    Object.assign(this.outbox, values);
    this.notice = null;
    if (!(moving && this.frame)) this.send(moving);
    this.refresh();
  }

  send(moving) {
    cancelAnimationFrame(this.frame);
    this.frame = moving ? requestAnimationFrame(() => {
      this.frame = 0;
      if (Object.keys(this.outbox).length) this.send(true);
    }) : 0;
    const values = this.outbox;
    this.outbox = {};
    this.model.send({ kind: "change", values, moving });
  }

  /** Asks for another image on the stage. */
  ask(content, buffers) {
    this.begin();
    this.model.send(content, undefined, buffers);
    this.refresh();
  }

  recall(number) { this.ask({ kind: "recall", number }); }

  accept() { this.ask({ kind: "accept" }); }

  back(step) { this.ask({ kind: "back", step }); }

  pin(place, number) {
    this.model.send({ kind: "pin", place, number: this.model.get("_pins")[place] === number ? null : number });
  }

  async restore(file) {
    if (file) this.ask({ kind: "restore" }, [await file.arrayBuffer()]);
  }

  refresh() { this.views.forEach((refresh) => refresh()); }

  /** Python makes nothing for a widget that nobody sees. */
  enter(refresh, signal) {
    const tell = () => this.model.send({ kind: "views", count: this.views.size });
    this.views.add(refresh);
    signal.addEventListener("abort", () => { this.views.delete(refresh); tell(); });
    tell();
  }
}

function download(name, url) {
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
