// @ts-check
// An explorer's stage: the image, the preview of what is being made, and two images behind a divider; below it what runs.
import { element, mark } from "./dom.js";
import { exButton } from "./explorer_controls.js";

const newImage = (kind) => element("img", { class: kind, alt: "", draggable: false });

/** Shows an image, or none where the URL is empty. */
export function setImage(image, url) {
  if (!url) image.removeAttribute("src");
  else if (image.getAttribute("src") !== url) image.src = url;
  image.hidden = !url;
}

export class Stage {
  comparing = false;
  picture = newImage("ex-picture");
  left = newImage("ex-picture ex-left");
  preview = newImage("ex-preview");
  names = ["left", "right"].map((side) => element("span", { class: `cw-badge ex-name ex-name-${side}` }));
  badge = element("span", { class: "cw-badge ex-badge" });
  empty = element("span", { class: "ex-empty" });
  divider = element("input", { type: "range", class: "ex-reach", min: 0, max: 100, step: 1, value: 50,
    "aria-label": "Divider between the two images", oninput: () => this.divide() });
  frame = element("div", { class: "cw-frame ex-frame" }, this.picture, this.left, this.preview,
    element("div", { class: "cw-divider", "aria-hidden": true }, element("span")),
    ...this.names, this.badge, this.empty, this.divider);
  bar = element("progress", { class: "ex-progress", "aria-label": "Steps" });
  status = element("span", { class: "ex-status" });
  spoken = element("span", { class: "cw-spoken", role: "status", "aria-live": "polite" });
  cancel = exButton({ name: "cancel", text: "Cancel", title: "Stop at the next step (Esc)",
    action: () => this.store.model.send({ kind: "cancel" }) });
  alert = element("div", { class: "ex-alert", role: "alert", hidden: "" });

  /** `brush`: its mask lies on the images, under the divider. */
  constructor(store, brush) {
    this.store = store;
    this.brush = brush;
    this.preview.after(brush.cover);
    this.nodes = [this.frame, brush.tools, this.bar, element("div", { class: "ex-line ex-under" }, this.status, this.cancel), this.alert];
    this.divide();
  }

  divide() {
    this.frame.style.setProperty("--ex-cut", `${this.divider.value}%`);
  }

  /** What lies left and right of the divider. */
  get pair() {
    const { urls } = this.store;
    const one = urls.a ? [urls.a, "A"] : [urls.before, "Before"], other = urls.b ? [urls.b, "B"] : [urls.picture, "Now"];
    return one[0] && other[0] ? { urls: [one[0], other[0]], names: [one[1], other[1]] } : null;
  }

  refresh() {
    const { state } = this.store;
    this.showImages(state);
    this.showProgress(state);
    this.tell(state);
    this.brush.refresh();
  }

  showImages(state) {
    const { store: { urls, step, running }, picture, frame, pair } = this;
    this.comparing &&= Boolean(pair);
    setImage(picture, this.comparing && pair ? pair.urls[1] : urls.picture || urls.before);
    picture.classList.toggle("ex-faint", !urls.picture && running);
    frame.classList.toggle("ex-painted", Boolean(this.brush.painter));
    picture.alt = state.shown !== null || urls.picture ? `Image made from ${JSON.stringify(this.store.value("prompt"))}`
      : "The image before";
    frame.classList.toggle("ex-comparing", this.comparing);
    if (this.comparing && pair) {
      setImage(this.left, pair.urls[0]);
      this.names.forEach((node, i) => { node.textContent = pair.names[i]; });
      mark(this.divider, { "aria-label": `Divider: ${pair.names[0]} to its left, ${pair.names[1]} to its right` });
    }
    const coming = running && !this.comparing ? urls.preview : "", made = picture.hasAttribute("src");
    setImage(this.preview, coming);
    this.preview.classList.toggle("ex-inset", Boolean(step?.inset));
    this.badge.textContent = this.comparing || (coming && !step?.inset) ? "" : { live: "Live", draft: "Draft" }[state.kind] ?? "";
    frame.classList.toggle("cw-blank", !made);
    this.empty.textContent = made || coming ? "" : running ? "The first image is being made" : "No image yet";
  }

  showProgress(state) {
    const { store: { step, running }, bar } = this, total = step?.steps, done = step?.step ?? 0;
    bar.style.visibility = this.cancel.style.visibility = running ? "" : "hidden";
    bar.max = total ?? 1;
    if (total || !running) bar.value = done;
    else bar.removeAttribute("value");
    const waiting = step?.before ? ` · ${step.before} before you` : " · waiting";
    const words = { running: `${{ draft: "Draft", live: "Live image" }[state.making] ?? "Image"}${total ? ` · step ${done} of ${total}` : waiting}`,
      cancelled: "Cancelled", failed: "No new image", invalid: "No new image",
      done: { live: "Live image: four steps", draft: "Draft: a few quick steps" }[state.kind] ?? "Full image" };
    this.status.textContent = words[state.phase] ?? "";
    const settled = state.phase === "cancelled" ? "Cancelled" : state.phase === "done" && state.kind === "full" ? "Image ready" : "";
    if (this.spoken.textContent !== settled) this.spoken.textContent = settled;
  }

  tell({ phase, text, details }) {
    const { store: { notice }, alert } = this, message = notice ?? text, key = `${message}\n${details}`;
    alert.hidden = !message;
    alert.classList.toggle("ex-mild", !notice && !["failed", "invalid"].includes(phase));
    if (alert.dataset.key === key) return;
    alert.dataset.key = key;
    alert.replaceChildren(element("div", {}, message));
    if (details && !notice) {
      alert.append(element("details", {}, element("summary", {}, "Where it happened"), element("pre", { tabindex: 0 }, details)));
    }
  }
}
