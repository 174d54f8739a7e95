// @ts-check
// What every widget needs of its page: elements, listeners that go when the view goes, keys, image URLs, the clipboard.

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** Sets attributes; a function, as in `onclick: f`, becomes a listener. */
export function mark(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, String(value));
  }
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {Record<string, any>} [attributes] @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  mark(node, attributes);
  node.append(...children);
  return node;
}

/** The icons are drawings on 20 x 20 units. */
export const svg = (drawing) => `<svg viewBox="0 0 20 20" aria-hidden="true">${drawing}</svg>`;

export const button = (kind, action, attributes, ...children) =>
  element("button", { type: "button", class: kind, onclick: action, ...attributes }, ...children);

export function listen(target, type, handler, signal, options = {}) {
  target.addEventListener(type, handler, { ...options, signal });
}

export function hear(model, event, handler, signal) {
  model.on(event, handler);
  signal.addEventListener("abort", () => model.off(event, handler));
}

export function follow(model, traits, handler, signal) {
  for (const trait of traits) hear(model, `change:${trait}`, handler, signal);
}

/** A widget's module for anywidget: all views of one model share what `open` gives, and each is drawn by `render`. */
export const widget = (open, render) => () => {
  let shared;
  return {
    async initialize(context) { shared = await open(context); },
    render: (context) => render(shared, context),
  };
};

/** Sets traits, here and in Python. */
export function save(model, values) {
  for (const [name, value] of Object.entries(values)) model.set(name, value);
  model.save_changes();
}

export function onResize(node, handler, signal) {
  const observer = new ResizeObserver(handler);
  observer.observe(node);
  signal.addEventListener("abort", () => observer.disconnect());
}

/**
 * Keeps the keys that are pressed in a widget from the notebook, where single letters cut and delete cells. Jupyter
 * listens on the document while the event comes down: so this listens on the window. `taken` and, for Ctrl and Cmd,
 * `command` say whether they acted on a key; what `taken` leaves, arrows on a slider say, works as everywhere.
 */
export function keepKeys(root, signal, taken = (event) => false, command = (event) => false) {
  listen(window, "keydown", (event) => {
    if (!root.contains(event.target)) return;
    const modified = (event.ctrlKey || event.metaKey) && !event.getModifierState("AltGraph");  // AltGr+8 is [ in German
    if (!modified && (event.key === "Tab" || (event.key === "Enter" && event.shiftKey))) return;
    const acted = modified ? command(event) : taken(event);
    if (modified && !acted) return;  // Ctrl+S and the rest are the notebook's
    if (acted) event.preventDefault();
    event.stopImmediatePropagation();
  }, signal, { capture: true });
}

/** The URL of an image that came as bytes; "" for none. */
export const imageURL = (bytes, type = "image/png") =>
  (bytes?.byteLength ? URL.createObjectURL(new Blob([bytes], { type })) : "");

async function copied(node) {
  try {
    await navigator.clipboard.writeText(node.textContent ?? "");
  } catch {  // not a secure page, or not allowed: mark it for Ctrl+C
    window.getSelection()?.selectAllChildren(node);
    return document.execCommand("copy");
  }
  return true;
}

/** Copies the text of a node; `label`, the button's own text, says so for a moment. */
export async function copy(node, label, text) {
  if (await copied(node)) label.textContent = "Copied";
  setTimeout(() => { label.textContent = text; }, 1500);
}
