// A pipeline's parameters as controls, the picture they make, and the pictures before it.
//
// Python holds the truth: `_values`, `_state`, `_picture`. What is edited here is sent at once, at most once a frame, and
// shown until Python says the same, so that a late answer never moves a slider back under the hand.

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const same = (one, other) => one === other || (typeof one === "number" && typeof other === "number" && Math.abs(one - other) < 1e-9);

// ---- One store a model: its pictures and what was edited; all views of one widget share it ----

const TRAITS = { _picture: "picture", _before: "before", _a: "a", _b: "b", _control_png: "control" };

class Store {
  views = new Set();
  edits = {};  // what Python has not confirmed yet
  entries = [];  // the history, newest first: {number, text, url}
  urls = {};
  step = null;  // of the running call: {step, steps, inset}
  notice = null;  // why something was refused
  code = null;

  open(model) {
    this.model = model;
    for (const [trait, name] of Object.entries(TRAITS)) {
      const read = () => { this.show(name, model.get(trait)); this.refresh(); };
      model.on(`change:${trait}`, read);
      this.show(name, model.get(trait));
    }
    model.on("change:_values", () => {
      const values = model.get("_values");
      for (const name of Object.keys(this.edits)) if (same(this.edits[name], values[name])) delete this.edits[name];
      this.refresh();
    });
    model.on("change:_state", () => {
      if (model.get("_state").phase !== "running") this.rest();
      if (model.get("_state").phase === "done" && this.code !== null) model.send({ kind: "code" });
      this.refresh();
    });
    for (const trait of ["_locked", "_pins"]) model.on(`change:${trait}`, () => this.refresh());
    model.on("msg:custom", (content, buffers) => this.hear(content, buffers));
    model.send({ kind: "hello" });
  }

  show(name, bytes) {
    if (this.urls[name]) URL.revokeObjectURL(this.urls[name]);
    this.urls[name] = bytes?.byteLength ? URL.createObjectURL(new Blob([bytes])) : "";
  }

  rest() {
    this.step = null;
    this.show("preview", null);
  }

  hear(content, buffers) {
    const entry = ({ number, text }, bytes) => ({ number, text, url: URL.createObjectURL(new Blob([bytes])) });
    const drop = (entries) => entries.forEach(({ url }) => URL.revokeObjectURL(url));
    if (content.kind === "step") {
      if (this.model.get("_state").phase !== "running") return;
      this.step = content;
      if (buffers.length) this.show("preview", buffers[0]);
    } else if (content.kind === "add") {
      this.entries.unshift(entry(content.entry, buffers[0]));
    } else if (content.kind === "gone") {
      drop(this.entries.filter(({ number }) => content.numbers.includes(number)));
      this.entries = this.entries.filter(({ number }) => !content.numbers.includes(number));
    } else if (content.kind === "history") {
      drop(this.entries);
      this.entries = content.entries.map((listed, i) => entry(listed, buffers[i])).reverse();
    } else if (content.kind === "code") {
      if (this.code !== null) this.code = content.text;
    } else if (content.kind === "file") {
      const url = URL.createObjectURL(new Blob([buffers[0]], { type: "image/png" }));
      element("a", { href: url, download: content.name }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    } else if (content.kind === "refused") {
      this.notice = content.text;
      this.edits = {};
    }
    this.refresh();
  }

  /** The value on the screen. */
  value(name) {
    return name in this.edits ? this.edits[name] : this.model.get("_values")[name];
  }

  /** Sends edits: while `moving` once a frame, for drafts; a chosen value at once, for the full picture. */
  change(values, moving) {
    Object.assign(this.edits, values);
    this.outbox = { ...this.outbox, ...values };
    this.notice = null;
    if (moving) this.frame ||= requestAnimationFrame(() => this.send(true));
    else this.send(false);
    this.refresh();
  }

  send(moving) {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const values = this.outbox;
    this.outbox = {};
    this.model.send({ kind: "change", values, moving });
  }

  recall(number) {
    this.edits = {};
    this.notice = null;
    this.model.send({ kind: "recall", number });
    this.refresh();
  }

  pin(place, number) {
    const now = this.model.get("_pins")[place];
    this.model.send({ kind: "pin", place, number: now === number ? null : number });
  }

  async restore(file) {
    if (!file) return;
    this.edits = {};
    this.notice = null;
    if (file.size > 64 * 2 ** 20) this.hear({ kind: "refused", text: `${file.name} is larger than 64 MiB.` });
    else this.model.send({ kind: "restore" }, undefined, [await file.arrayBuffer()]);
    this.refresh();
  }

  refresh() {
    this.views.forEach((view) => view.refresh());
  }

  /** Python makes nothing for a widget that nobody sees. */
  enter(view) {
    this.views.add(view);
    this.model.send({ kind: "views", count: this.views.size });
  }

  leave(view) {
    this.views.delete(view);
    this.model.send({ kind: "views", count: this.views.size });
  }
}

// ---- Parts of the screen ----

const ICONS = {
  cancel: '<rect x="5.5" y="5.5" width="9" height="9" rx="1.5" fill="currentColor"/>',
  dice: '<rect x="3.5" y="3.5" width="13" height="13" rx="3"/><g fill="currentColor" stroke="none">'
    + '<circle cx="7" cy="7" r="1.2"/><circle cx="13" cy="7" r="1.2"/><circle cx="10" cy="10" r="1.2"/>'
    + '<circle cx="7" cy="13" r="1.2"/><circle cx="13" cy="13" r="1.2"/></g>',
  locked: '<rect x="4.5" y="9" width="11" height="7.5" rx="1.6"/><path d="M6.8 9V6.6a3.2 3.2 0 0 1 6.4 0V9"/>',
  open: '<rect x="4.5" y="9" width="11" height="7.5" rx="1.6"/><path d="M6.8 9V6.2a3.2 3.2 0 0 1 6.2-1"/>',
  compare: '<rect x="3" y="4.5" width="14" height="11" rx="1.5"/><path d="M10 2.5v15"/>'
    + '<path d="M10 5.2h5.6v9.6H10z" fill="currentColor" stroke="none" opacity=".45"/>',
  code: '<path d="M7 6l-4 4 4 4M13 6l4 4-4 4M11.2 4.8L8.8 15.2"/>',
  save: '<path d="M10 3v9.5M6.3 9L10 12.7 13.7 9M4 16.5h12"/>',
  load: '<path d="M10 13V3.5M6.3 7.2L10 3.5l3.7 3.7M4 16.5h12"/>',
  copy: '<rect x="7" y="7" width="9.5" height="9.5" rx="1.5"/><path d="M13 4.8A1.5 1.5 0 0 0 11.6 3.5H5A1.5 1.5 0 0 0 3.5 5v6.6A1.5 1.5 0 0 0 4.8 13"/>',
  close: '<path d="M5.5 5.5l9 9M14.5 5.5l-9 9"/>',
};

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const icon = (name) => `<svg viewBox="0 0 20 20" aria-hidden="true">${ICONS[name]}</svg>`;

/** A button with an icon, a text, or both; `label` is its accessible name where there is no text. */
function button({ name, text, label, title, action, kind = "" }) {
  const node = element("button", { type: "button", class: `ex-button ${kind}` });
  node.innerHTML = name ? icon(name) : "";
  if (text) node.append(element("span", {}, text));
  if (label) node.setAttribute("aria-label", label);
  node.title = title ?? label ?? "";
  node.addEventListener("click", action);
  return node;
}

let count = 0;  // for ids

const digits = ({ step, whole }) => (whole ? 0 : step < 0.1 ? 2 : step < 1 ? 1 : 0);
const shown = (control, value) => (value === null ? "" : String(Number(Number(value).toFixed(Math.max(2, digits(control))))));

/** Controls: each returns its row and `refresh(value)`. `change(value, moving)` hears of every edit. */
const BUILDERS = {
  text(control, change) {
    const id = `ex-${++count}`, area = element("textarea", { id, rows: control.name === "prompt" ? 2 : 1, spellcheck: "false" });
    area.placeholder = control.help;
    let timers = [];
    const stop = () => { timers.forEach(clearTimeout); timers = []; };
    const fit = () => { area.style.height = "0"; area.style.height = `${area.scrollHeight + 2}px`; };
    const commit = () => { const waiting = timers.length; stop(); if (waiting) change(area.value, false); };
    area.addEventListener("input", () => {
      fit();
      stop();
      timers = [setTimeout(() => change(area.value, true), 300), setTimeout(commit, 1500)];
    });
    area.addEventListener("change", commit);
    area.commit = commit;
    new ResizeObserver(fit).observe(area);
    const row = element("div", { class: "ex-row" }, element("label", { for: id }, control.label), area);
    return { row, refresh(value) { if (!timers.length && area.value !== value) { area.value = value; fit(); } } };
  },

  slider(control, change) {
    const id = `ex-${++count}`, { low, high, step, optional, most, least } = control;
    const slider = element("input", { type: "range", id, min: low, max: high, step, title: control.help });
    const box = element("input", { type: "number", min: least, step: control.whole ? 1 : "any", "aria-label": `${control.label}, exactly` });
    if (most !== null) box.max = most;
    const hint = element("span", { class: "ex-hint" });
    const label = element("label", { for: id, title: control.help }, control.label);
    const on = optional ? toggle(`${control.label}, on or off`, (checked) => change(checked ? Number(slider.value) : null, false)) : null;
    let held = false, timer = 0, touched = false;
    const settle = () => {
      clearTimeout(timer);
      timer = 0;
      change(Number(slider.value), false);
    };
    slider.addEventListener("pointerdown", () => { held = true; delete slider.dataset.keys; });
    for (const type of ["pointerup", "pointercancel"]) slider.addEventListener(type, () => { held = false; });
    slider.addEventListener("input", () => {
      clearTimeout(timer);
      timer = 0;
      change(Number(slider.value), true);
    });
    slider.addEventListener("change", () => {
      const keyed = slider.dataset.keys;  // every press of a key is a change: the full picture waits for the last
      delete slider.dataset.keys;
      held = false;
      if (keyed) timer = setTimeout(settle, 350);
      else settle();
    });
    slider.addEventListener("blur", () => { if (timer) settle(); });
    box.addEventListener("change", () => { if (box.value !== "") change(Number(box.value), false); });
    const row = element("div", { class: "ex-row ex-slider" },
      element("div", { class: "ex-line" }, ...(on ? [on.node] : []), label, hint, box), slider);
    return {
      row, hint,
      refresh(value) {
        const off = value === null;
        on?.refresh(!off);
        row.classList.toggle("ex-off", off);
        slider.disabled = box.disabled = off;
        if (off) box.value = "";
        if (off && touched) return;
        value ??= (low + high) / 2;
        touched = true;
        if (!held) slider.value = value;
        slider.style.setProperty("--ex-at", clamp((value - low) / (high - low), 0, 1));
        slider.setAttribute("aria-valuetext", shown(control, value));
        if (!off && document.activeElement !== box) box.value = shown(control, value);
      },
    };
  },

  seed(control, change, { store }) {
    const id = `ex-${++count}`, box = element("input", { type: "number", id, min: 0, step: 1, title: control.help });
    box.addEventListener("change", () => { if (box.value !== "") change(Number(box.value), false); });
    const dice = button({ name: "dice", label: "New seed", title: "New seed, new picture",
      action: () => change(crypto.getRandomValues(new Uint32Array(1))[0], false) });
    const lock = button({ name: "locked", label: "Keep the seed", kind: "ex-toggle",
      action: () => store.model.send({ kind: "lock", on: !store.model.get("_locked") }) });
    const row = element("div", { class: "ex-row" }, element("label", { for: id, title: control.help }, control.label),
      element("div", { class: "ex-line" }, box, dice, lock));
    return {
      row,
      refresh(value) {
        const locked = store.model.get("_locked");
        if (document.activeElement !== box) box.value = value;
        lock.innerHTML = icon(locked ? "locked" : "open");
        lock.setAttribute("aria-pressed", String(locked));
        lock.title = locked ? "The seed stays; click for a new one with each change" : "A new seed with each change; click to keep it";
      },
    };
  },

  choice(control, change) {
    const id = `ex-${++count}`, select = element("select", { id, title: control.help });
    const scheduler = (name, i) => name.replace(/(Discrete|Multistep|Singlestep)?Scheduler$/,
      (_, kind) => (kind && kind !== "Discrete" ? ` ${kind.toLowerCase()}` : "")) + (i ? "" : " (its own)");
    control.choices.forEach((name, i) => select.append(
      element("option", { value: name }, control.labels[i] ?? scheduler(name, i))));
    select.addEventListener("change", () => change(select.value, false));
    const row = element("div", { class: "ex-row" }, element("label", { for: id, title: control.help }, control.label), select);
    return { row, refresh(value) { select.value = value; } };
  },

  switch(control, change) {
    const on = toggle(control.label, (checked) => change(checked, false), control.help);
    on.node.id = `ex-${++count}`;
    const label = element("label", { for: on.node.id, title: control.help }, control.label);
    return { row: element("div", { class: "ex-row ex-line" }, on.node, label), refresh: on.refresh };
  },
};

function toggle(label, action, title = "") {
  const node = element("button", { type: "button", role: "switch", class: "ex-switch", "aria-label": label, title });
  node.addEventListener("click", () => action(node.getAttribute("aria-checked") !== "true"));
  return { node, refresh(on) { node.setAttribute("aria-checked", String(on)); } };
}

/** Pages of which one is seen, chosen by its name; `move(key)` goes along the names. */
function tabbed(holder, pages) {
  const list = element("div", { class: "ex-tabs", role: "tablist", "aria-label": "Controls" }), names = Object.keys(pages);
  const choose = (chosen, focus) => names.forEach((name, i) => {
    const tab = list.children[i], on = name === chosen;
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
    pages[name].hidden = !on;
    if (on && focus) tab.focus();
  });
  for (const name of names) {
    const id = `ex-${++count}`, page = `${id}-page`;
    const tab = element("button", { type: "button", role: "tab", class: "ex-tab", id, "aria-controls": page }, name);
    tab.addEventListener("click", () => choose(name));
    for (const [key, value] of Object.entries({ id: page, role: "tabpanel", "aria-labelledby": id })) pages[name].setAttribute(key, value);
    list.append(tab);
    holder.append(pages[name]);
  }
  holder.prepend(list);
  choose(names[0]);
  const at = () => [...list.children].findIndex((tab) => tab.tabIndex === 0);
  const steps = { ArrowLeft: () => at() - 1, ArrowRight: () => at() + 1, Home: () => 0, End: () => -1 };
  return { move: (key) => choose(names.at(steps[key]() % names.length), true) };
}

/** Python with its strings, comments and keywords marked. */
function highlighted(code) {
  const nodes = [], kinds = ["ex-comment", "ex-string", "ex-keyword"];
  let at = 0;
  for (const match of code.matchAll(/(#[^\n]*)|("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|\b(from|import|for|in|True|False|None)\b/g)) {
    nodes.push(code.slice(at, match.index), element("span", { class: kinds[match.slice(1).findIndex(Boolean)] }, match[0]));
    at = match.index + match[0].length;
  }
  return [...nodes, code.slice(at)];
}

async function copied(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {  // not a secure page, or not allowed: mark it for Ctrl+C
    window.getSelection().selectAllChildren(code);
    return document.execCommand("copy");
  }
  return true;
}

// ---- The view ----

function render(store, { model, el, signal }) {
  const controls = model.get("_controls");
  const listen = (target, type, handler, options = {}) => target.addEventListener(type, handler, { ...options, signal });
  const sized = controls.some(({ group }) => group === "mask"), steered = controls.some(({ group }) => group === "control");

  // -- the stage: what was made, the preview of what is being made, and two pictures behind a divider
  const picture = element("img", { class: "ex-picture", alt: "", draggable: "false" });
  const left = element("img", { class: "ex-picture ex-left", alt: "", draggable: "false" });
  const preview = element("img", { class: "ex-preview", alt: "", draggable: "false" });
  const badge = element("span", { class: "ex-badge" });
  const names = ["ex-name ex-name-left", "ex-name ex-name-right"].map((kind) => element("span", { class: kind }));
  const line = element("div", { class: "ex-divider", "aria-hidden": "true" }, element("span", {}, "◂ ▸"));
  const divider = element("input", { type: "range", class: "ex-reach", min: 0, max: 100, step: 1, value: 50,
    "aria-label": "Divider between the two pictures" });
  const empty = element("span", { class: "ex-empty" });
  const frame = element("div", { class: "ex-frame" }, picture, left, preview, line, ...names, badge, empty, divider);
  const bar = element("div", { class: "ex-progress", role: "progressbar", "aria-label": "Steps", "aria-valuemin": 0 },
    element("div"));
  const status = element("span", { class: "ex-status" });
  const spoken = element("span", { class: "ex-spoken", role: "status", "aria-live": "polite" });
  const cancel = button({ name: "cancel", text: "Cancel", title: "Stop at the next step (Esc)", kind: "ex-cancel",
    action: () => model.send({ kind: "cancel" }) });
  const alert = element("div", { class: "ex-alert", role: "alert", hidden: "" });

  // -- what can be done with the picture
  let comparing = false, coded = false;
  const pins = Object.fromEntries(["a", "b"].map((place) => [place, button({
    text: place.toUpperCase(), label: `Pin this picture as ${place.toUpperCase()}`, kind: "ex-toggle",
    action: () => { const { shown } = model.get("_state"); if (shown !== null) store.pin(place, shown); } })]));
  const compare = button({ name: "compare", text: "Compare", kind: "ex-toggle", title: "Two pictures behind a divider: A and B, "
    + "or what was before and what is now", action: () => { comparing = !comparing; refresh(); } });
  const code = button({ name: "code", text: "Code", kind: "ex-toggle", title: "The complete diffusers code of this picture",
    action: () => { coded = !coded; store.code = coded ? "" : null; if (coded) model.send({ kind: "code" }); refresh(); } });
  const save = button({ name: "save", text: "Save", title: "Save as PNG, with all parameters in it",
    action: () => model.send({ kind: "save" }) });
  const file = element("input", { type: "file", accept: "image/png", hidden: "" });
  listen(file, "change", () => { store.restore(file.files[0]); file.value = ""; });
  const load = button({ name: "load", text: "Open", title: "Bring back a saved picture with its parameters; or drop it here",
    action: () => file.click() });
  compare.setAttribute("aria-pressed", "false");

  // -- the controls
  const rows = {};
  const panel = element("div", { class: "ex-panel" });
  const pages = { picture: element("div", { class: "ex-page" }), control: element("div", { class: "ex-page" }) };
  const groups = { ...pages, mask: element("div", { class: "ex-group", role: "group", "aria-label": "Mask" }) };
  for (const control of controls) {
    const change = (value, moving) => store.change({ [control.name]: value }, moving);
    const row = rows[control.name] = BUILDERS[control.kind](control, change, { store });
    row.row.dataset.name = control.name;
    groups[control.group].append(row.row);
  }
  if (sized) pages.picture.append(groups.mask);
  panel.append(pages.picture);

  // -- what the ControlNet looks at, on a page of its own
  const seen = element("img", { class: "ex-control", draggable: "false" });
  const tabs = steered ? tabbed(panel, { Picture: pages.picture, ControlNet: pages.control }) : null;
  if (steered) pages.control.firstChild.after(seen);

  const text = element("code", { tabindex: "0", "aria-label": "Python code" });
  const copy = button({ name: "copy", text: "Copy", action: async () => {
    if (await copied(text)) copy.lastChild.textContent = "Copied";
    setTimeout(() => { copy.lastChild.textContent = "Copy"; }, 1500);
  } });
  const script = element("section", { class: "ex-script", "aria-label": "Code of this picture", hidden: "" },
    element("div", { class: "ex-line" },
      element("span", { class: "ex-hint" }, "Plain diffusers, ready to paste. The pictures it opens are written beside the notebook."), copy),
    element("pre", {}, text));
  const thumbs = element("div", { class: "ex-thumbs", role: "group", "aria-label": "History, newest first" });
  const history = element("section", { class: "ex-history", "aria-label": "History", hidden: "" },
    element("div", { class: "ex-line" }, element("strong", {}, "History"), element("span", { class: "ex-hint" }, ""),
      element("span", { class: "ex-hint" }, "Pin this picture as"), pins.a, pins.b),
    thumbs);
  const root = element("div", { class: "explorer", role: "region", "aria-label": "Parameter explorer" },
    element("div", { class: "ex-main" },
      element("div", { class: "ex-stage" }, frame, bar,
        element("div", { class: "ex-line ex-under" }, status, cancel), alert,
        element("div", { class: "ex-line ex-actions", role: "toolbar", "aria-label": "This picture" }, compare, code, save, load, file)),
      panel),
    history, script, spoken);
  el.append(root);

  // -- all that follows the model
  function refresh() {
    const state = model.get("_state"), { urls, step } = store, running = state.phase === "running";
    for (const control of controls) rows[control.name].refresh(store.value(control.name));
    if (steered) {
      const { choices, labels } = controls.find(({ name }) => name === "control");
      set(seen, urls.control);
      seen.alt = `Control picture: ${labels[choices.indexOf(store.value("control"))]}`;
    }
    countSteps();

    const marked = model.get("_pins"), two = pair(marked);
    comparing &&= Boolean(two);
    set(picture, comparing ? two.right : urls.picture || urls.before);
    picture.classList.toggle("ex-faint", !urls.picture);
    picture.alt = state.shown !== null || urls.picture ? `Picture made from ${JSON.stringify(store.value("prompt"))}` : "The picture before";
    frame.classList.toggle("ex-comparing", comparing);
    if (comparing) {
      set(left, two.left);
      names.forEach((node, i) => { node.textContent = two.names[i]; });
      divider.setAttribute("aria-label", `Divider: ${two.names[0]} to its left, ${two.names[1]} to its right`);
    }
    const coming = running && !comparing && urls.preview;
    set(preview, coming ? urls.preview : "");
    preview.classList.toggle("ex-inset", Boolean(step?.inset));
    badge.textContent = state.draft && !comparing && !(coming && !step.inset) ? "Draft" : "";
    frame.classList.toggle("ex-blank", !picture.hasAttribute("src"));
    empty.textContent = picture.hasAttribute("src") || coming ? "" : running ? "The first picture is being made" : "No picture yet";

    const total = step?.steps, done = step?.step ?? 0;
    bar.classList.toggle("ex-busy", running && !total);
    bar.classList.toggle("ex-idle", !running);
    bar.setAttribute("aria-valuemax", total ?? 1);
    bar.setAttribute("aria-valuenow", running ? done : 0);
    bar.firstChild.style.width = `${running && total ? (100 * done) / total : 0}%`;
    status.textContent = words(state, done, total);
    cancel.style.visibility = running ? "" : "hidden";
    const settled = { done: state.draft ? "" : "Picture ready", cancelled: "Cancelled" }[state.phase] ?? "";
    if (spoken.textContent !== settled) spoken.textContent = settled;
    tell(state);

    for (const [place, node] of Object.entries(pins)) {
      node.setAttribute("aria-pressed", String(state.shown !== null && marked[place] === state.shown));
      node.setAttribute("aria-disabled", String(state.shown === null));
    }
    compare.setAttribute("aria-pressed", String(comparing));
    compare.setAttribute("aria-disabled", String(!two));
    for (const node of [save, code]) node.setAttribute("aria-disabled", String(!urls.picture));
    code.setAttribute("aria-pressed", String(coded));
    code.setAttribute("aria-expanded", String(coded));
    script.hidden = !coded;
    if (coded && text.textContent !== store.code) text.replaceChildren(...highlighted(store.code ?? ""));
    strip(state.shown, marked);
  }

  function set(image, url) {
    if (!url) image.removeAttribute("src");
    else if (image.getAttribute("src") !== url) image.src = url;
    image.hidden = !url;
  }

  /** What lies left and right of the divider. */
  function pair(marked) {
    const { urls } = store;
    const one = urls.a ? [urls.a, "A"] : [urls.before, "Before"];
    const other = urls.b ? [urls.b, "B"] : [urls.picture, "Now"];
    return one[0] && other[0] ? { left: one[0], right: other[0], names: [one[1], other[1]] } : null;
  }

  function words(state, done, total) {
    if (state.phase === "running") return `${state.quick ? "Draft" : "Picture"}${total ? ` · step ${done} of ${total}` : " · waiting"}`;
    if (state.phase === "cancelled") return "Cancelled";
    if (state.phase === "failed" || state.phase === "invalid") return "No new picture";
    return state.phase === "done" ? (state.draft ? "Draft: a few quick steps" : "Full picture") : "";
  }

  function countSteps() {
    if (!rows.strength || !rows.num_inference_steps) return;
    const run = Math.floor(store.value("num_inference_steps") * store.value("strength") + 1e-9);
    rows.num_inference_steps.hint.textContent = run < store.value("num_inference_steps") ? `${run} are run` : "";
  }

  function tell(state) {
    const message = store.notice ?? state.text, trouble = store.notice || ["failed", "invalid"].includes(state.phase);
    alert.hidden = !message;
    alert.classList.toggle("ex-mild", !trouble);
    const key = `${message}\n${state.details}`;
    if (alert.dataset.key === key) return;
    alert.dataset.key = key;
    alert.replaceChildren(element("div", {}, message));
    if (state.details && !store.notice) {
      alert.append(element("details", {}, element("summary", {}, "Where it happened"), element("pre", { tabindex: "0" }, state.details)));
    }
  }

  const buttons = new Map();  // of the history, by number

  function strip(now, marked) {
    history.hidden = !store.entries.length;
    const numbers = new Set(store.entries.map(({ number }) => number));
    for (const [number, node] of buttons) if (!numbers.has(number)) { node.remove(); buttons.delete(number); }
    store.entries.forEach(({ number, text: about, url }, i) => {
      let node = buttons.get(number);
      if (!node) {
        node = button({ label: `Picture ${number}: ${about}`, title: about, kind: "ex-thumb", action: () => store.recall(number) });
        node.dataset.number = number;
        node.append(element("img", { src: url, alt: "", draggable: "false" }), element("b", { "aria-hidden": "true" }));
        buttons.set(number, node);
        thumbs.prepend(node);
      }
      const letters = ["a", "b"].filter((place) => marked[place] === number).map((place) => place.toUpperCase()).join("");
      node.lastChild.textContent = letters;
      node.setAttribute("aria-label", `Picture ${number}${letters && `, pinned as ${[...letters].join(" and ")}`}: ${about}`);
      node.setAttribute("aria-current", String(number === now));
      node.tabIndex = number === now || (now === null && !i) ? 0 : -1;
    });
    if (![...buttons.values()].some((node) => node.tabIndex === 0) && thumbs.firstChild) thumbs.firstChild.tabIndex = 0;
    history.querySelector(".ex-hint").textContent = String(store.entries.length);
  }

  // -- the divider, keys, files
  const move = () => frame.style.setProperty("--ex-cut", `${divider.value}%`);
  listen(divider, "input", move);
  move();

  function onKey(event) {
    const { target, key } = event;
    if (!root.contains(target) || event.ctrlKey || event.metaKey || (key === "Enter" && event.shiftKey) || key === "Tab") return;
    const thumb = target.closest(".ex-thumb");
    let taken = true;
    if (key === "Escape" && model.get("_state").phase === "running") model.send({ kind: "cancel" });
    else if (key === "Enter" && target.matches("textarea")) target.commit();
    else if (target.role === "tab" && /^(Arrow(Left|Right)|Home|End)$/.test(key)) tabs.move(key);
    else if (thumb && /^Arrow(Left|Right)$/.test(key)) {
      (key === "ArrowLeft" ? thumb.previousSibling : thumb.nextSibling)?.focus();
    } else if (thumb && /^[ab]$/i.test(key)) store.pin(key.toLowerCase(), Number(thumb.dataset.number));
    else taken = false;
    if (!taken && target.type === "range" && /^(Arrow|Page|Home|End)/.test(key)) target.dataset.keys = "1";
    if (taken) event.preventDefault();
    // What is left works as everywhere, but must not reach the notebook, where single letters cut and delete cells.
    event.stopImmediatePropagation();
  }
  listen(window, "keydown", onKey, { capture: true });

  let over = 0;  // how deep a dragged file is
  const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const drag = (type, handler) => listen(root, type, (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    event.stopPropagation();
    handler(event);
    root.classList.toggle("ex-dropping", over > 0);
  });
  drag("dragenter", () => { over++; });
  drag("dragover", (event) => { event.dataTransfer.dropEffect = "copy"; });
  drag("dragleave", () => { over = Math.max(0, over - 1); });
  drag("drop", (event) => { over = 0; store.restore(event.dataTransfer.files[0]); });

  const view = { refresh };
  store.enter(view);
  refresh();
  return () => store.leave(view);
}

export default () => {
  const store = new Store();
  return {
    initialize: ({ model }) => store.open(model),
    render: (context) => render(store, context),
  };
};
