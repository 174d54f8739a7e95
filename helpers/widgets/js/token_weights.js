// The words of a prompt, each with a slider, and the picture that they make.
//
// Python holds the truth: `weights`, `plain`, `_weighted`, `_picture`. While a slider is dragged its value is sent only
// once Python has answered the one before, and the newest alone, so that none pile up.

const MOST = 2, STEP = 0.05;

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const number = (value) => value.toFixed(2).replace(/0$/, "");

async function copied(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {  // not a secure page, or not allowed: mark it for Ctrl+C
    window.getSelection().selectAllChildren(code);
    return document.execCommand("copy");
  }
  return true;
}

// One a widget: all its views share it.
class Mailbox {
  held = null;  // the weights under the hand, until Python has answered: a late answer must not move a slider back
  waiting = 0;
  newest = null;
  views = new Set();

  open(model) {
    this.model = model;
    model.on("msg:custom", (content) => {
      if (content.kind !== "heard") return;
      this.waiting = Math.max(0, this.waiting - 1);
      if (this.newest) this.post();
      else if (!this.waiting && !this.moving) this.held = null;
      this.show();
    });
    model.on("change:weights", () => this.show());
  }

  get weights() { return this.held ?? this.model.get("weights"); }

  show() { for (const view of this.views) view(); }

  send(weights, moving) {
    this.held = weights;
    this.moving = moving;
    this.newest = { kind: "change", weights, moving };
    if (!this.waiting || !moving) this.post();
    this.show();
  }

  post() {
    this.waiting += 1;
    this.model.send(this.newest);
    this.newest = null;
  }
}

function render(mailbox, { model, el, signal }) {
  const listen = (target, type, handler) => target.addEventListener(type, handler, { signal });
  const follow = (name, handler) => {
    model.on(`change:${name}`, handler);
    signal.addEventListener("abort", () => model.off(`change:${name}`, handler));
  };
  const parts = model.get("_parts"), words = parts.filter(([, place]) => place !== null);

  // -- what there is
  const picture = element("img", { class: "tw-picture", alt: "", draggable: "false" });
  const badge = element("span", { class: "tw-badge" });
  const frame = element("div", { class: "tw-frame" }, picture, badge);
  const status = element("div", { class: "tw-status", role: "status" });

  const sentence = element("p", { class: "tw-sentence", "aria-hidden": "true" });
  const chips = parts.map(([text, place]) => {
    const chip = element("span", { class: place === null ? "tw-sign" : "tw-chip" }, text);
    if (place !== null) listen(chip, "click", () => sliders[place].focus());
    sentence.append(/^[,.;:!?]/.test(text) ? "" : " ", chip);
    return chip;
  });

  const outputs = [];
  const sliders = words.map(([text, place]) => {
    const slider = element("input", { type: "range", min: 0, max: MOST, step: STEP, "aria-label": `Weight of ${text}` });
    listen(slider, "input", () => change(place, Number(slider.value), true));
    listen(slider, "change", () => change(place, Number(slider.value), false));
    outputs[place] = element("output", { class: "tw-value" });
    return slider;
  });
  const rows = words.map(([text, place]) => {
    const back = element("button", { type: "button", class: "tw-one", "aria-label": `${text} back to 1`, title: "back to 1" }, "↺");
    listen(back, "click", () => change(place, 1, false));
    return element("div", { class: "tw-row" },
      element("span", { class: "tw-word", "aria-hidden": "true" }, text), sliders[place], outputs[place], back);
  });

  const button = (text, action) => {
    const node = element("button", { type: "button", class: "tw-button" }, text);
    listen(node, "click", action);
    return node;
  };
  const all = button("All back to 1", () => mailbox.send(words.map(() => 1), false));
  const plain = button("Without weights", () => { model.set("plain", !model.get("plain")); model.save_changes(); });
  const copy = button("Copy prompt", async () => {
    if (await copied(written)) copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy prompt"; }, 1500);
  });
  const written = element("code", { class: "tw-written", "aria-label": "The prompt with its weights" });

  const root = element("div", { class: "token-weights" },
    element("div", { class: "tw-main" },
      element("div", { class: "tw-stage" }, frame, status),
      element("div", { class: "tw-side" }, sentence, element("div", { class: "tw-rows" }, ...rows),
        element("div", { class: "tw-bar" }, all, plain, copy))),
    written);
  el.append(root);

  // -- what the hand does
  // Keys work as everywhere, but must not reach the notebook, where single letters cut and delete cells.
  const onKey = (event) => {
    const { target, key } = event;
    if (!root.contains(target) || event.ctrlKey || event.metaKey || key === "Tab" || (key === "Enter" && event.shiftKey)) return;
    event.stopImmediatePropagation();
  };
  window.addEventListener("keydown", onKey, { capture: true, signal });

  function change(place, value, moving) {
    const values = [...mailbox.weights];
    values[place] = value;
    mailbox.send(values, moving);
  }

  // -- what is shown
  function showWeights() {
    const values = mailbox.weights;
    words.forEach(([text, place], index) => {
      const value = values[place];
      if (Number(sliders[place].value) !== value) sliders[place].value = value;
      sliders[place].setAttribute("aria-valuetext", `${text} ${number(value)}`);
      outputs[place].textContent = number(value);
      rows[index].classList.toggle("tw-changed", value !== 1);
    });
    parts.forEach(([, place], index) => {
      if (place === null) return;
      const value = values[place];
      chips[index].style.setProperty("--tw-share", `${Math.round(Math.abs(value - 1) * 75)}%`);
      chips[index].classList.toggle("tw-less", value < 1);
    });
    all.disabled = values.every((value) => value === 1);
  }

  let url = "";
  function showPicture() {
    const bytes = model.get("_picture");
    const before = url;
    url = bytes?.byteLength ? URL.createObjectURL(new Blob([bytes], { type: "image/png" })) : "";
    frame.classList.toggle("tw-blank", !url);
    if (url) picture.src = url;
    if (before) setTimeout(() => URL.revokeObjectURL(before), 1000);
  }
  signal.addEventListener("abort", () => url && URL.revokeObjectURL(url));

  function showState() {
    const { phase, draft, text } = model.get("_state");
    const isPlain = model.get("plain");
    badge.textContent = isPlain ? "without weights" : draft ? "draft" : "";
    status.textContent = phase === "failed" ? text : phase === "running" ? "painting …" : "";
    status.classList.toggle("tw-error", phase === "failed");
    frame.setAttribute("aria-busy", phase === "running");
    plain.setAttribute("aria-pressed", isPlain);
    const weighted = model.get("_weighted");
    if (written.textContent !== weighted) written.textContent = weighted;  // a text set anew loses the reader's selection
    picture.alt = isPlain ? "the picture without weights" : `the picture of ${weighted}`;
  }

  mailbox.views.add(showWeights);
  signal.addEventListener("abort", () => mailbox.views.delete(showWeights));
  follow("_picture", showPicture);
  for (const name of ["_state", "_weighted", "plain"]) follow(name, showState);
  showWeights();
  showPicture();
  showState();
}

export default () => {
  const mailbox = new Mailbox();
  return {
    initialize: ({ model }) => mailbox.open(model),
    render: (context) => render(mailbox, context),
  };
};
