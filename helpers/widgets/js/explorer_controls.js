// @ts-check
// An explorer's controls: each is a row on the screen, with `refresh(value)`; `change(value, moving)` hears of every edit.
import { button, element, mark, onResize, svg } from "./dom.js";
import { schedulerText, seedOf, shown } from "./formats.js";

const DRAWINGS = {
  cancel: '<rect x="5.5" y="5.5" width="9" height="9" rx="1.5" fill="currentColor"/>',
  dice: '<rect x="3.5" y="3.5" width="13" height="13" rx="3"/><g fill="currentColor" stroke="none"><circle cx="7" cy="7" r="1.2"/><circle cx="13" cy="7" r="1.2"/><circle cx="10" cy="10" r="1.2"/><circle cx="7" cy="13" r="1.2"/><circle cx="13" cy="13" r="1.2"/></g>',
  locked: '<rect x="4.5" y="9" width="11" height="7.5" rx="1.6"/><path d="M6.8 9V6.6a3.2 3.2 0 0 1 6.4 0V9"/>',
  open: '<rect x="4.5" y="9" width="11" height="7.5" rx="1.6"/><path d="M6.8 9V6.2a3.2 3.2 0 0 1 6.2-1"/>',
  accept: '<path d="M4 10.5l4 4 8-9"/>',
  compare: '<rect x="3" y="4.5" width="14" height="11" rx="1.5"/><path d="M10 2.5v15"/><path d="M10 5.2h5.6v9.6H10z" fill="currentColor" stroke="none" opacity=".45"/>',
  live: '<path d="M11 2.5L4.5 11.5H10l-1 6 6.5-9H10z"/>',
  code: '<path d="M7 6l-4 4 4 4M13 6l4 4-4 4M11.2 4.8L8.8 15.2"/>',
  save: '<path d="M10 3v9.5M6.3 9L10 12.7 13.7 9M4 16.5h12"/>',
  load: '<path d="M10 13V3.5M6.3 7.2L10 3.5l3.7 3.7M4 16.5h12"/>',
  copy: '<rect x="7" y="7" width="9.5" height="9.5" rx="1.5"/><path d="M13 4.8A1.5 1.5 0 0 0 11.6 3.5H5A1.5 1.5 0 0 0 3.5 5v6.6A1.5 1.5 0 0 0 4.8 13"/>',
};

const icon = (name) => svg(DRAWINGS[name]);

/** A button with an icon, a text, or both; `label` is its accessible name where there is no text. */
export function exButton({ action, name = "", text = "", label = "", title = label }) {
  const node = button("cw-button ex-button", action, { title, ...(label && { "aria-label": label }) });
  if (name) node.innerHTML = icon(name);
  if (text) node.append(element("span", {}, text));
  return node;
}

let count = 0;

/** An id that no other element of the page has. */
export const newId = () => `ex-${++count}`;

/** A label, which tells on hovering what the control does. */
const labelOf = ({ label, help }, id) => element("label", { for: id, title: help }, label);

function numberBox({ kind, least, most, whole }, change, attributes) {
  const read = kind === "seed" ? seedOf : Number;
  const box = element("input", { type: "number", min: least, step: whole ? 1 : "any", ...attributes,
    onchange: () => { if (box.value !== "") change(read(box.value), false); } });
  if (most !== null) box.max = String(most);
  return box;
}

function toggle(label, action, title = "") {
  const onchange = ({ target }) => action(target.checked);
  return element("input", { type: "checkbox", role: "switch", "aria-label": label, title, onchange });
}

/** A text is a draft while one types, and chosen after a pause, with Enter (see `commit`) or on leaving. */
function text(control, change, { store: { model }, signal }) {
  let timers = [];
  const stop = () => { timers.forEach(clearTimeout); timers = []; };
  const fit = () => { area.style.height = "0"; area.style.height = `${area.scrollHeight + 2}px`; };
  const commit = () => { const waiting = timers.length; stop(); if (waiting) change(area.value, false); };
  const area = element("textarea", { id: newId(), rows: control.name === "prompt" ? 2 : 1, spellcheck: false,
    placeholder: control.help, onchange: commit, oncommit: commit, oninput: () => {
      fit();
      stop();
      timers = [window.setTimeout(() => change(area.value, true), 300), window.setTimeout(commit, 1500)];
    } });
  onResize(area, fit, signal);
  const note = element("div", { class: "ex-hint ex-note", id: newId(), role: "status" });
  mark(area, { "aria-describedby": note.id });
  const row = element("div", { class: "ex-row" }, element("label", { for: area.id }, control.label), area, note);
  return {
    row,
    refresh(value) {
      const said = model.get("_notes")[control.name] ?? "";
      if (note.textContent !== said) note.textContent = said;  // set anew, it is spoken again
      if (!timers.length && area.value !== value) { area.value = value; fit(); }
    },
  };
}

function slider(control, change) {
  const { label, low, high, step, optional, help } = control;
  const range = element("input", { type: "range", id: newId(), min: low, max: high, step, title: help });
  const box = numberBox(control, change, { "aria-label": `${label}, exactly` }), hint = element("span", { class: "ex-hint" });
  const on = optional ? toggle(`${label}, on or off`, (checked) => change(checked ? Number(range.value) : null, false)) : null;
  const isHeld = followRange(range, (moving) => change(Number(range.value), moving));
  let touched = false;
  const row = element("div", { class: "ex-row ex-slider" },
    element("div", { class: "ex-line" }, ...(on ? [on] : []), labelOf(control, range.id), hint, box), range);
  return {
    row, hint,
    refresh(value) {
      const off = value === null;
      if (on) on.checked = !off;
      row.classList.toggle("ex-off", off);
      range.disabled = box.disabled = off;
      if (off) box.value = "";
      if (off && touched) return;
      value ??= (low + high) / 2;
      touched = true;
      if (!isHeld()) range.value = value;
      mark(range, { "aria-valuetext": shown(value) });
      if (!off && document.activeElement !== box) box.value = shown(value);
    },
  };
}

/** Tells moves and choices of a slider apart; returns whether a pointer holds it. */
export function followRange(range, change) {
  let held = false, timer = 0;
  const tell = (moving) => {
    clearTimeout(timer);
    timer = 0;
    change(moving);
  };
  const release = () => { held = false; };
  mark(range, {
    onpointerdown: () => { held = true; delete range.dataset.keys; }, onpointerup: release, onpointercancel: release,
    oninput: () => tell(true), onblur: () => { if (timer) tell(false); },
    onchange: () => {
      const keyed = range.dataset.keys;  // every press of a key is a change: the full image waits for the last
      delete range.dataset.keys;
      release();
      if (keyed) timer = window.setTimeout(() => tell(false), 350);
      else tell(false);
    },
  });
  return () => held;
}

function seed(control, change, { store: { model } }) {
  const box = numberBox(control, change, { id: newId(), title: control.help });
  const dice = exButton({ name: "dice", label: "New seed", title: "New seed, new image",
    action: () => change(crypto.getRandomValues(new Uint32Array(1))[0], false) });
  const lock = exButton({ name: "locked", label: "Keep the seed",
    action: () => model.send({ kind: "lock", on: !model.get("_locked") }) });
  return {
    row: element("div", { class: "ex-row" }, labelOf(control, box.id), element("div", { class: "ex-line" }, box, dice, lock)),
    refresh(value) {
      const locked = model.get("_locked");
      if (document.activeElement !== box) box.value = value;
      lock.innerHTML = icon(locked ? "locked" : "open");
      mark(lock, { "aria-pressed": locked, title: locked ? "The seed stays; click for a new one with each change"
        : "A new seed with each change; click to keep it" });
    },
  };
}

function choice(control, change) {
  const select = element("select", { id: newId(), title: control.help, onchange: () => change(select.value, false) });
  const row = element("div", { class: "ex-row" }, labelOf(control, select.id), select);
  let offered = "";
  return {
    row,
    refresh(value, { choices, labels }) {
      if (offered !== choices.join()) {  // other ones after the pipeline's own scheduler was exchanged
        offered = choices.join();
        select.replaceChildren(...choices.map((name, i) => element("option", { value: name },
          labels[i] ?? schedulerText(name) + (i ? "" : " (its own)"))));
      }
      select.value = value;
    },
  };
}

function onOff(control, change) {
  const node = toggle(control.label, (on) => change(on, false), control.help);
  node.id = newId();
  const row = element("div", { class: "ex-row ex-line" }, node, labelOf(control, node.id));
  return { row, refresh(value) { node.checked = value; } };
}

export const BUILDERS = { text, slider, seed, choice, switch: onOff };

/** Pages of which one is seen, chosen by its name; returns `move(key)`, which goes along the names. */
export function tabbed(holder, pages) {
  const names = Object.keys(pages), tabs = names.map((name) => button("cw-button", () => choose(name), { role: "tab", id: newId() }, name));
  const choose = (chosen) => tabs.forEach((tab, i) => {
    const on = names[i] === chosen;
    mark(tab, { "aria-selected": on, tabindex: on ? 0 : -1 });
    pages[names[i]].hidden = !on;
  });
  tabs.forEach((tab, i) => {
    const page = pages[names[i]], id = `${tab.id}-page`;
    mark(page, { id, role: "tabpanel", "aria-labelledby": tab.id });
    mark(tab, { "aria-controls": id });
    holder.append(page);
  });
  holder.prepend(element("div", { class: "ex-tabs", role: "tablist", "aria-label": "Controls" }, ...tabs));
  choose(names[0]);
  return (key) => {
    const at = tabs.findIndex((tab) => tab.tabIndex === 0), last = tabs.length - 1;
    const next = { ArrowLeft: at ? at - 1 : last, ArrowRight: at < last ? at + 1 : 0, Home: 0, End: last }[key] ?? at;
    choose(names[next]);
    tabs[next].focus();
  };
}
