// A picture under a translucent mask, painted with mouse, touch, pen or keys.
//
// The mask is an array of 0 and 1, and every shape is drawn into it here, pixel by pixel. So nothing is antialiased, and
// nothing is read back from a canvas, which privacy settings of some browsers blur or refuse. It travels as a PNG of one
// bit a pixel. The mask, its history and the overlay belong to the model: all views of one widget share them.

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// ---- Shapes: all take a mask {width, height, data}, coordinates in pixels, and 1 to paint or 0 to erase ----

export const newMask = (width, height) => ({ width, height, data: new Uint8Array(width * height) });

/** Every pixel whose centre is within `radius` of the line from a to b, and the pixel under b. Returns the touched box. */
export function paintLine(mask, a, b, radius, value) {
  const { width, height, data } = mask;
  const box = {
    x0: clamp(Math.floor(Math.min(a.x, b.x) - radius), 0, width),
    y0: clamp(Math.floor(Math.min(a.y, b.y) - radius), 0, height),
    x1: clamp(Math.ceil(Math.max(a.x, b.x) + radius) + 1, 0, width),
    y1: clamp(Math.ceil(Math.max(a.y, b.y) + radius) + 1, 0, height),
  };
  const dx = b.x - a.x, dy = b.y - a.y, length2 = dx * dx + dy * dy;
  for (let y = box.y0; y < box.y1; y++) {
    for (let x = box.x0; x < box.x1; x++) {
      const px = x + 0.5 - a.x, py = y + 0.5 - a.y;
      const along = length2 ? clamp((px * dx + py * dy) / length2, 0, 1) : 0;
      if ((px - along * dx) ** 2 + (py - along * dy) ** 2 <= radius * radius) data[y * width + x] = value;
    }
  }
  const x = Math.floor(b.x), y = Math.floor(b.y);
  if (x >= 0 && y >= 0 && x < width && y < height) data[y * width + x] = value;
  return box;
}

/** The box between two corners, on whole pixels, widened by `rim` on all sides. It may reach beyond the picture. */
export const snap = (a, b, rim = 0) => ({
  x0: Math.round(Math.min(a.x, b.x) - rim), y0: Math.round(Math.min(a.y, b.y) - rim),
  x1: Math.round(Math.max(a.x, b.x) + rim), y1: Math.round(Math.max(a.y, b.y) + rim),
});

export function paintRectangle(mask, box, value) {
  const x0 = clamp(box.x0, 0, mask.width), x1 = clamp(box.x1, 0, mask.width);
  for (let y = clamp(box.y0, 0, mask.height); y < clamp(box.y1, 0, mask.height); y++) {
    mask.data.fill(value, y * mask.width + x0, y * mask.width + x1);
  }
}

export function paintEllipse(mask, box, value) {
  const rx = (box.x1 - box.x0) / 2, ry = (box.y1 - box.y0) / 2;
  for (let y = clamp(box.y0, 0, mask.height); y < clamp(box.y1, 0, mask.height); y++) {
    const v = (y + 0.5 - box.y0 - ry) / ry;
    for (let x = clamp(box.x0, 0, mask.width); x < clamp(box.x1, 0, mask.width); x++) {
      const u = (x + 0.5 - box.x0 - rx) / rx;
      if (u * u + v * v <= 1) mask.data[y * mask.width + x] = value;
    }
  }
}

/** The inside of a closed outline; where it crosses itself, what it goes round at all counts (non-zero winding). */
export function paintPolygon(mask, points, value) {
  const { width, height, data } = mask;
  for (let y = 0; y < height; y++) {
    const centre = y + 0.5, crossings = [];
    points.forEach((a, i) => {
      const b = points[(i + 1) % points.length];
      if ((a.y <= centre) !== (b.y <= centre)) {
        crossings.push({ x: a.x + ((centre - a.y) / (b.y - a.y)) * (b.x - a.x), turn: a.y < b.y ? 1 : -1 });
      }
    });
    crossings.sort((one, other) => one.x - other.x);
    let winding = 0;
    for (let i = 0; i + 1 < crossings.length; i++) {
      winding += crossings[i].turn;
      if (!winding) continue;
      const from = clamp(Math.ceil(crossings[i].x - 0.5), 0, width);
      const to = clamp(Math.ceil(crossings[i + 1].x - 0.5), 0, width);
      data.fill(value, y * width + from, y * width + to);
    }
  }
}

/** The connected area around one pixel, up to where the mask changes. */
export function paintArea(mask, point, value) {
  const { width, height, data } = mask;
  const x = Math.floor(point.x), y = Math.floor(point.y);
  if (x < 0 || y < 0 || x >= width || y >= height || data[y * width + x] === value) return;
  const todo = [y * width + x];
  while (todo.length) {
    const seed = todo.pop();
    if (data[seed] === value) continue;
    const row = seed - (seed % width);
    let left = seed, right = seed + 1;
    while (left > row && data[left - 1] !== value) left--;
    while (right < row + width && data[right] !== value) right++;
    data.fill(value, left, right);
    for (const next of [row - width, row + width]) {
      if (next < 0 || next >= width * height) continue;
      for (let i = left; i < right; i++) {
        const here = next + (i - row);
        if (data[here] !== value && (i === left || data[here - 1] === value)) todo.push(here);
      }
    }
  }
}

export function invert(mask) {
  for (let i = 0; i < mask.data.length; i++) mask.data[i] ^= 1;
}

/** Adds every pixel within `radius` of the mask. */
export function grow(mask, radius) {
  const { width, height, data } = mask;
  const away = new Int32Array(data.length);  // distance to the next painted pixel of the same row
  for (let row = 0; row < data.length; row += width) {
    for (let i = row, d = width; i < row + width; i++) away[i] = d = data[i] ? 0 : d + 1;
    for (let i = row + width - 1, d = width; i >= row; i--) away[i] = Math.min(away[i], (d = data[i] ? 0 : d + 1));
  }
  for (let dy = -radius; dy <= radius; dy++) {
    const reach = Math.floor(Math.sqrt(radius * radius - dy * dy));
    for (let y = Math.max(0, -dy); y < Math.min(height, height - dy); y++) {
      for (let x = 0, i = y * width; x < width; x++, i++) if (away[i + dy * width] <= reach) data[i] = 1;
    }
  }
}

/** Takes away every pixel within `radius` of the outside; the picture's own edge does not count as outside. */
export function shrink(mask, radius) {
  invert(mask);
  grow(mask, radius);
  invert(mask);
}

// ---- PNG, one bit a pixel: `rows` are its scan lines, each led by the filter byte 0; undo keeps them too ----

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

export function toRows(mask) {
  const stride = Math.ceil(mask.width / 8) + 1, rows = new Uint8Array(stride * mask.height);
  for (let y = 0, i = 0; y < mask.height; y++) {
    for (let x = 0; x < mask.width; x++, i++) if (mask.data[i]) rows[y * stride + 1 + (x >> 3)] |= 0x80 >> (x & 7);
  }
  return rows;
}

export function fromRows(mask, rows) {
  const stride = Math.ceil(mask.width / 8) + 1;
  for (let y = 0, i = 0; y < mask.height; y++) {
    if (rows[y * stride]) throw new Error("MaskPainter: this PNG was not written by MaskPainter; set .mask instead");
    for (let x = 0; x < mask.width; x++, i++) mask.data[i] = (rows[y * stride + 1 + (x >> 3)] >> (7 - (x & 7))) & 1;
  }
}

const through = async (bytes, stream) =>
  new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());

function chunk(type, data) {
  const bytes = new Uint8Array(data.length + 12), view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  for (let i = 0; i < 4; i++) bytes[4 + i] = type.charCodeAt(i);
  bytes.set(data, 8);
  let crc = -1;
  for (let i = 4; i < bytes.length - 4; i++) {
    crc ^= bytes[i];
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  view.setInt32(bytes.length - 4, ~crc);
  return bytes;
}

export async function encodePNG(rows, width, height) {
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 1);  // one bit, greyscale
  const data = await through(rows, new CompressionStream("deflate"));
  const parts = [SIGNATURE, chunk("IHDR", new Uint8Array(header.buffer)), chunk("IDAT", data), chunk("IEND", [])];
  const png = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (png.set(part, at), at + part.length), 0);
  return png;
}

export async function decodePNG(png) {
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength), data = [];
  for (let at = 8; at < png.byteLength; at += view.getUint32(at) + 12) {
    const isData = view.getUint32(at + 4) === 0x49444154;  // IDAT
    if (isData) data.push(new Uint8Array(png.buffer, png.byteOffset + at + 8, view.getUint32(at)));
  }
  return through(new Blob(data), new DecompressionStream("deflate"));
}

// ---- One store a model: the mask, its history, its overlay ----

const HISTORY_BYTES = 64e6;

class Store {
  views = new Set();
  past = [];
  future = [];
  ticket = 0;  // the newest exchange with Python; older ones that come in late are dropped

  async open(model) {
    this.model = model;
    const [width, height] = model.get("_size");
    this.mask = newMask(width, height);
    this.canvas = Object.assign(document.createElement("canvas"), { width, height });
    this.context = this.canvas.getContext("2d");
    this.pixels = this.context.createImageData(width, height);
    this.picture = await createImageBitmap(new Blob([model.get("_picture")]));
    this.rows = await decodePNG(model.get("mask_png"));
    fromRows(this.mask, this.rows);
    this.colour();
    model.on("change:colour", () => this.colour());
    model.on("change:mask_png", () => this.sending || this.receive());
  }

  /** Brings the overlay up to date within a box. */
  show(box = { x0: 0, y0: 0, x1: this.mask.width, y1: this.mask.height }) {
    const words = new Uint32Array(this.pixels.data.buffer), { width, data } = this.mask;
    for (let y = box.y0; y < box.y1; y++) {
      for (let i = y * width + box.x0; i < y * width + box.x1; i++) words[i] = data[i] ? this.word : 0;
    }
    if (box.x1 > box.x0 && box.y1 > box.y0) {
      this.context.putImageData(this.pixels, 0, 0, box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0);
    }
    this.views.forEach((view) => view.draw(box));
  }

  colour() {
    const hex = parseInt(this.model.get("colour").slice(1), 16);
    this.word = new Uint32Array(new Uint8Array([hex >> 16, hex >> 8, hex, 255]).buffer)[0];
    this.show();
  }

  /** Ends a change: one step of history, and Python hears of it. */
  commit() {
    this.show();
    const rows = toRows(this.mask);
    if (rows.every((byte, i) => byte === this.rows[i])) return;
    this.remember(rows);
    this.send();
  }

  remember(rows) {
    this.past.push(this.rows);
    while (this.past.length * rows.length > HISTORY_BYTES) this.past.shift();
    this.future.length = 0;
    this.rows = rows;
    this.views.forEach((view) => view.refresh());
  }

  step(from, to) {
    if (!from.length) return;
    to.push(this.rows);
    this.rows = from.pop();
    this.restore();
    this.views.forEach((view) => view.refresh());
    this.send();
  }

  undo() { this.step(this.past, this.future); }

  redo() { this.step(this.future, this.past); }

  /** Drops what was painted since the last commit. */
  restore() {
    fromRows(this.mask, this.rows);
    this.show();
  }

  share() {
    let painted = 0;
    for (const value of this.mask.data) painted += value;
    return painted / this.mask.data.length;
  }

  async send() {
    const ticket = ++this.ticket;
    const png = await encodePNG(this.rows, this.mask.width, this.mask.height);
    if (ticket !== this.ticket) return;
    this.sending = true;
    this.model.set("mask_png", new DataView(png.buffer));
    this.sending = false;
    this.model.save_changes();
  }

  async receive() {
    const ticket = ++this.ticket;
    const rows = await decodePNG(this.model.get("mask_png"));
    if (ticket !== this.ticket) return;
    this.views.forEach((view) => view.drop());
    this.remember(rows);
    this.restore();
    this.views.forEach((view) => view.refresh());
  }
}

// ---- The view ----

const ICONS = {
  brush: '<path d="M16.8 3.2c-3 1.4-6.6 4.7-8.4 7.4l1 1c2.7-1.8 6-5.4 7.4-8.4z"/>'
    + '<path d="M7.6 11.4c-1.8 0-2.6 1.2-2.8 2.5-.1 1-.7 1.8-1.8 2.1 2.6 1.3 6.3.7 6.3-2.4"/>',
  eraser: '<path d="M3.3 12.2l7.7-7.7a1.4 1.4 0 0 1 2 0l2.9 2.9a1.4 1.4 0 0 1 0 2l-6.6 6.6H6.6l-3.3-3.3'
    + 'a.4.4 0 0 1 0-.5z"/><path d="M7.2 8.3l4.9 4.9M9 16h8"/>',
  rectangle: '<rect x="3.5" y="5" width="13" height="10" rx=".8"/>',
  ellipse: '<ellipse cx="10" cy="10" rx="7" ry="5.5"/>',
  lasso: '<path d="M6.3 13.3C4.3 12.5 3 11 3 9.2 3 6.3 6.1 4 10 4s7 2.3 7 5.2-3.1 5.2-7 5.2c-.9 0-1.7-.1-2.5-.3"/>'
    + '<circle cx="6.6" cy="13.9" r="1.4"/><path d="M6.2 15.3c.2 1-.2 1.7-1 2.2"/>',
  fill: '<path d="M9.3 3.2l6.3 6.3-5.5 5.5a1.4 1.4 0 0 1-2 0l-4.3-4.3a1.4 1.4 0 0 1 0-2L9.3 3.2z"/>'
    + '<path d="M3.5 9.5h12"/><path d="M16.6 12.2c.9 1.3 1.3 2 1.3 2.7a1.3 1.3 0 0 1-2.6 0c0-.7.4-1.4 1.3-2.7z"/>',
  hand: '<path d="M10 2.5v15M2.5 10h15"/><path d="M8 4.5l2-2 2 2M8 15.5l2 2 2-2M4.5 8l-2 2 2 2M15.5 8l2 2-2 2"/>',
  undo: '<path d="M7 4L3.5 7.5 7 11"/><path d="M3.5 7.5h8a4.5 4.5 0 0 1 0 9H8"/>',
  redo: '<path d="M13 4l3.5 3.5L13 11"/><path d="M16.5 7.5h-8a4.5 4.5 0 0 0 0 9H12"/>',
  clear: '<path d="M3.5 5.5h13M8 5.5V3.5h4v2M5.2 5.5l.8 11h8l.8-11M8.5 8.5v5M11.5 8.5v5"/>',
  invert: '<circle cx="10" cy="10" r="6.5"/><path d="M10 3.5a6.5 6.5 0 0 1 0 13z" fill="currentColor"/>',
  grow: '<circle cx="10" cy="10" r="3"/><path d="M10 4.8V2.5M10 17.5v-2.3M4.8 10H2.5M17.5 10h-2.3"/>'
    + '<path d="M8.8 3.6L10 2.4l1.2 1.2M8.8 16.4l1.2 1.2 1.2-1.2M3.6 8.8L2.4 10l1.2 1.2M16.4 8.8l1.2 1.2-1.2 1.2"/>',
  shrink: '<circle cx="10" cy="10" r="2.5"/><path d="M10 5.8V2M10 18v-3.8M5.8 10H2M18 10h-3.8"/>'
    + '<path d="M8.8 4.6L10 5.8l1.2-1.2M8.8 15.4l1.2-1.2 1.2 1.2M4.6 8.8L5.8 10l-1.2 1.2M15.4 8.8L14.2 10l1.2 1.2"/>',
  out: '<path d="M5 10h10"/>',
  in: '<path d="M5 10h10M10 5v10"/>',
  help: '<path d="M7.3 7.4c.2-1.6 1.3-2.4 2.8-2.4 1.6 0 2.7 1 2.7 2.3 0 2.1-2.7 2.2-2.7 4.5"/><path d="M10.1 14.9v.1"/>',
};

const TOOLS = {
  brush: ["Brush", "b"], eraser: ["Eraser", "e"], rectangle: ["Rectangle", "r"], ellipse: ["Ellipse", "o"],
  lasso: ["Lasso", "l"], fill: ["Fill an enclosed area", "f"], hand: ["Move the picture", "h"],
};
const ERASING = new Set([2, 5]);  // the right button, the other end of a pen
const COLOURS = { "#ff2d9b": "Pink", "#12d67f": "Green", "#2f8fff": "Blue", "#ffb000": "Amber" };
const HELP = [
  ["B E R O L F", "brush, eraser, rectangle, ellipse, lasso, fill"],
  ["[ ]", "smaller or larger brush"],
  ["Shift", "square or circle while you drag"],
  ["Alt or right button", "erase with any tool; so does the other end of a pen"],
  ["Esc", "give up a shape"],
  ["Ctrl+Z  Ctrl+Shift+Z", "undo, redo"],
  ["I G S Delete", "invert, grow, shrink, clear"],
  ["+ − 0", "zoom; or Ctrl+wheel, or two fingers"],
  ["H", "move the picture; or middle button, or two fingers"],
  ["Arrow keys", "on the picture: move the cursor; with Shift by one pixel"],
  ["Space", "paint there; hold it to draw a line; shapes: start and end"],
  ["Enter", "pen down, pen up; closes a lasso"],
];

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function button(icon, label, key, action) {
  const node = element("button", { type: "button", class: "mp-button", "aria-label": label });
  node.title = key ? `${label} (${key})` : label;
  node.innerHTML = `<svg viewBox="0 0 20 20" aria-hidden="true">${ICONS[icon]}</svg>`;
  node.addEventListener("click", action);
  return node;
}

function render(store, { model, el, signal }) {
  const { mask, picture } = store, { width, height } = mask;
  const largest = Math.max(8, Math.round(Math.max(width, height) / 2));
  const amount = Math.max(1, Math.round(Math.max(width, height) / 128));  // pixels of grow and shrink
  const listen = (target, type, handler, options = {}) => target.addEventListener(type, handler, { ...options, signal });
  const set = (name, value) => { model.set(name, value); model.save_changes(); };

  // -- what is on the screen
  const canvases = [element("canvas"), element("canvas", {
    class: "mp-canvas", tabindex: "0", role: "application", "data-jp-suppress-context-menu": "",
    "aria-label": "Mask over the picture. Arrow keys move the cursor, Space paints.",
  })];
  const [under, over] = canvases;
  const ring = element("div", { class: "mp-ring", "aria-hidden": "true" });
  const stage = element("div", { class: "mp-stage" }, under, over, ring);
  const mat = element("div", { class: "mp-mat" }, stage);

  const tools = Object.fromEntries(Object.entries(TOOLS).map(
    ([name, [label, key]]) => [name, button(name, label, key.toUpperCase(), () => set("tool", name))]));
  const edit = (change) => () => { drop(); change(); store.commit(); };
  const actions = {
    undo: button("undo", "Undo", "Ctrl+Z", () => { drop(); store.undo(); }),
    redo: button("redo", "Redo", "Ctrl+Shift+Z", () => { drop(); store.redo(); }),
    invert: button("invert", "Invert", "I", edit(() => invert(mask))),
    grow: button("grow", `Grow by ${amount} px`, "G", edit(() => grow(mask, amount))),
    shrink: button("shrink", `Shrink by ${amount} px`, "S", edit(() => shrink(mask, amount))),
    clear: button("clear", "Clear", "Delete", edit(() => mask.data.fill(0))),
  };
  const size = element("input", { type: "range", min: 0, max: 100, step: 1, "aria-label": "Brush size" });
  const sizeText = element("output", { class: "mp-number" });
  const zoomText = element("button", { type: "button", class: "mp-button mp-text", "aria-label": "Fit the picture",
    title: "Fit the picture (0)" });
  const opacity = element("input", { type: "range", min: 10, max: 100, step: 5, "aria-label": "Opacity of the overlay",
    title: "Opacity of the overlay" });
  const swatches = Object.entries(COLOURS).map(([colour, label]) => {
    const node = element("button", { type: "button", class: "mp-swatch", "aria-label": `${label} overlay`, title: label });
    node.style.setProperty("--mp-swatch", colour);
    node.addEventListener("click", () => set("colour", colour));
    node.dataset.colour = colour;
    return node;
  });
  const status = element("span", { class: "mp-status" });
  const spoken = element("span", { class: "mp-spoken", role: "status", "aria-live": "polite" });
  const help = element("div", { class: "mp-help", hidden: "" });
  HELP.forEach(([keys, text]) => help.append(element("div", {}, element("b", {}, keys), text)));
  const helpButton = button("help", "Keys and gestures", "?", () => {
    help.hidden = !help.hidden;
    helpButton.setAttribute("aria-expanded", String(!help.hidden));
  });
  helpButton.setAttribute("aria-expanded", "false");
  const group = (label, ...nodes) => element("div", { class: "mp-group", role: "group", "aria-label": label }, ...nodes);
  const root = element("div", { class: "mask-painter" },
    element("div", { class: "mp-bar", role: "toolbar", "aria-label": "Mask painter" },
      group("Tools", ...Object.values(tools)),
      group("Brush size", element("span", { class: "mp-dot small" }), size, element("span", { class: "mp-dot" }), sizeText),
      group("History", actions.undo, actions.redo),
      group("Whole mask", actions.invert, actions.grow, actions.shrink, actions.clear),
      group("Zoom", button("out", "Zoom out", "−", () => zoom(1 / 1.5)), zoomText,
        button("in", "Zoom in", "+", () => zoom(1.5)))),
    mat, help,
    element("div", { class: "mp-bar mp-foot" }, status, spoken,
      group("Overlay", element("span", {}, "Overlay"), ...swatches, opacity), helpButton));
  el.append(root);

  // -- where the picture lies: `scale` screen pixels to one of its own, its corner at (x, y)
  const at = { scale: 1, x: 0, y: 0, fitted: true };
  let wide = 0, high = 0, ratio = 0, fit = 1;

  function layout() {
    const room = mat.clientWidth - 2 * 12;
    if (room <= 0) return;
    const tallest = clamp(window.innerHeight * 0.7, 240, 640);
    fit = Math.min(room / width, tallest / height, Math.max(1, 512 / Math.max(width, height)));
    const before = { wide, high };
    wide = Math.max(48, Math.round(width * fit));
    high = Math.max(48, Math.round(height * fit));
    ratio = window.devicePixelRatio;
    stage.style.width = `${wide}px`;
    stage.style.height = `${high}px`;
    for (const canvas of [...canvases, whole, halo]) {
      canvas.width = Math.round(wide * ratio);
      canvas.height = Math.round(high * ratio);
    }
    if (at.fitted) at.scale = fit;
    else { at.x += (wide - before.wide) / 2; at.y += (high - before.high) / 2; }
    settle();
  }

  function settle() {
    at.fitted = at.scale <= fit * 1.001;
    if (at.fitted) at.scale = fit;
    const within = (offset, room, extent) => extent <= room ? (room - extent) / 2 : clamp(offset, room - extent, 0);
    at.x = within(at.x, wide, width * at.scale);
    at.y = within(at.y, high, height * at.scale);
    zoomText.textContent = `${Math.round(at.scale * 100)} %`;
    stale = true;
    draw();
  }

  function zoom(factor, x = wide / 2, y = high / 2) {
    const scale = clamp(at.scale * factor, fit, Math.max(32, 4 * fit));
    at.x = x - (x - at.x) * (scale / at.scale);
    at.y = y - (y - at.y) * (scale / at.scale);
    at.scale = scale;
    settle();
  }

  function pan(dx, dy) {
    at.x += dx;
    at.y += dy;
    settle();
  }

  // -- drawing, at most once a frame, and only where something changed
  const whole = document.createElement("canvas"), halo = document.createElement("canvas");
  const everywhere = { x0: -Infinity, y0: -Infinity, x1: Infinity, y1: Infinity };
  let waiting = 0, stale = true, dirty = null;
  const view = { draw, refresh, drop };

  /** Asks for a frame: of a box of the picture, of all of it, or (null) of the pointer alone. */
  function draw(box = everywhere) {
    if (box && dirty) {
      box = { x0: Math.min(box.x0, dirty.x0), y0: Math.min(box.y0, dirty.y0),
        x1: Math.max(box.x1, dirty.x1), y1: Math.max(box.y1, dirty.y1) };
    }
    dirty = box ?? dirty;
    waiting ||= requestAnimationFrame(paint);
  }

  function place(context) {
    context.setTransform(ratio * at.scale, 0, 0, ratio * at.scale, ratio * at.x, ratio * at.y);
    return context;
  }

  function paint() {
    waiting = 0;
    if (!wide || signal.aborted) return;
    if (ratio !== window.devicePixelRatio) layout();
    if (stale) {
      const context = under.getContext("2d");
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, under.width, under.height);
      place(context).imageSmoothingEnabled = at.scale < 6;
      context.imageSmoothingQuality = "high";
      context.drawImage(picture, 0, 0);
      stale = false;
    }
    if (dirty) paintMask();
    dirty = null;
    aim();
  }

  function paintMask() {
    const rim = 2 * at.scale + 4;  // room for the outline and for smoothing
    const pixels = (offset, value, extent) => clamp(Math.round(ratio * (offset + at.scale * value)), 0, extent);
    const x0 = pixels(at.x - rim, dirty.x0, over.width), x1 = pixels(at.x + rim, dirty.x1, over.width);
    const y0 = pixels(at.y - rim, dirty.y0, over.height), y1 = pixels(at.y + rim, dirty.y1, over.height);
    const [context, shape, line] = [over, whole, halo].map((canvas) => canvas.getContext("2d"));
    for (const part of [context, shape, line]) {
      part.setTransform(1, 0, 0, 1, 0, 0);
      part.save();
      part.beginPath();
      part.rect(x0, y0, x1 - x0, y1 - y0);
      part.clip();
      part.clearRect(x0, y0, x1 - x0, y1 - y0);
    }
    place(shape).imageSmoothingEnabled = at.scale < 1;
    shape.drawImage(store.canvas, 0, 0);
    context.globalAlpha = model.get("opacity");
    context.drawImage(whole, 0, 0);
    context.globalAlpha = 1;
    // A white line with a dark one around it: on a picture of any colour, one of the two is seen.
    outline(context, 2, "rgba(0, 0, 0, .55)");
    outline(context, 1, "#fff");
    if (gesture) sketch(place(context));
    for (const part of [context, shape, line]) part.restore();
  }

  function outline(context, reach, colour) {
    const line = halo.getContext("2d"), far = reach * ratio, near = far * Math.SQRT1_2;
    line.globalCompositeOperation = "source-over";
    line.clearRect(0, 0, halo.width, halo.height);
    for (const [dx, dy] of [[far, 0], [-far, 0], [0, far], [0, -far], [near, near], [near, -near], [-near, near], [-near, -near]]) {
      line.drawImage(whole, Math.round(dx), Math.round(dy));
    }
    line.globalCompositeOperation = "source-in";
    line.fillStyle = colour;
    line.fillRect(0, 0, halo.width, halo.height);
    line.globalCompositeOperation = "destination-out";
    line.drawImage(whole, 0, 0);
    context.drawImage(halo, 0, 0);
  }

  function sketch(context) {
    const { tool, points } = gesture, box = snap(points[0], points[points.length - 1], gesture.rim);
    const path = new Path2D();
    if (tool === "rectangle") path.rect(box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0);
    else if (tool === "ellipse") {
      const rx = (box.x1 - box.x0) / 2, ry = (box.y1 - box.y0) / 2;
      path.ellipse(box.x0 + rx, box.y0 + ry, rx, ry, 0, 0, 2 * Math.PI);
    } else if (tool === "lasso") {
      points.forEach((point) => path.lineTo(point.x, point.y));
      path.closePath();
    } else return;
    context.globalAlpha = 0.45;
    context.fillStyle = gesture.value ? model.get("colour") : "#000";
    context.fill(path, "nonzero");
    context.globalAlpha = 1;
    const pixel = 1 / at.scale;
    for (const [style, dash] of [["rgba(0, 0, 0, .7)", []], ["#fff", [5 * pixel, 4 * pixel]]]) {
      context.lineWidth = 1.5 * pixel;
      context.strokeStyle = style;
      context.setLineDash(dash);
      context.stroke(path);
    }
    context.setLineDash([]);
  }

  /** The ring shows what the brush would touch, and stands for the cursor where keys paint. */
  function aim() {
    const tool = model.get("tool"), round = tool === "brush" || tool === "eraser";
    const extent = round ? Math.max(model.get("brush_size") * at.scale, 3) : 9;
    ring.hidden = !pointer.seen || (!round && !pointer.keys);
    ring.classList.toggle("mp-cross", pointer.keys);
    ring.style.width = ring.style.height = `${extent}px`;
    ring.style.transform = `translate(${at.x + pointer.x * at.scale - extent / 2}px, ${at.y + pointer.y * at.scale - extent / 2}px)`;
    over.style.cursor = tool === "hand" ? (panning ? "grabbing" : "grab") : round && extent > 8 ? "none" : "crosshair";
  }

  // -- a gesture: from pen down to pen up, whatever the pen is
  const pointer = { x: width / 2, y: height / 2, seen: false, keys: false };
  let gesture = null, panning = null, pinch = null;

  function begin(point, { erase = false, keys = false, pressure = 1 } = {}) {
    drop();
    const tool = model.get("tool");
    if (tool === "hand") return;
    const value = erase || tool === "eraser" ? 0 : 1;
    if (tool === "fill") {
      paintArea(mask, point, value);
      store.commit();
      return;
    }
    gesture = { tool, value, keys, points: [point, point], rim: keys ? 0.5 : 0 };  // keys go from pixel to pixel
    if (tool === "brush" || tool === "eraser") stroke(point, pressure);
    draw();
  }

  function stroke(point, pressure = 1) {
    const from = gesture.points[0], radius = (model.get("brush_size") / 2) * (0.25 + 0.75 * pressure);
    gesture.points[0] = point;
    store.show(paintLine(mask, from, point, radius, gesture.value));
  }

  function move(point, { square = false, pressure = 1 } = {}) {
    const { tool, points, keys } = gesture;
    if (tool === "lasso") {
      if (keys) points[points.length - 1] = point;
      else points.push(point);
    } else if (tool === "rectangle" || tool === "ellipse") {
      const dx = point.x - points[0].x, dy = point.y - points[0].y, side = Math.max(Math.abs(dx), Math.abs(dy));
      points[1] = square ? { x: points[0].x + Math.sign(dx) * side, y: points[0].y + Math.sign(dy) * side } : point;
    } else stroke(point, pressure);
    draw();
  }

  function end() {
    if (!gesture) return;
    const { tool, points, value, rim } = gesture;
    gesture = null;
    if (tool === "lasso") paintPolygon(mask, points, value);
    if (tool === "rectangle") paintRectangle(mask, snap(...points, rim), value);
    if (tool === "ellipse") paintEllipse(mask, snap(...points, rim), value);
    store.commit();
  }

  function drop() {
    if (!gesture) return;
    gesture = null;
    store.restore();
  }

  // -- mouse, touch and pen
  const fingers = new Map();
  const spot = (event) => {
    const frame = over.getBoundingClientRect();
    return { x: (event.clientX - frame.left) * (wide / frame.width), y: (event.clientY - frame.top) * (high / frame.height) };
  };
  const inside = ({ x, y }) => ({ x: (x - at.x) / at.scale, y: (y - at.y) / at.scale });
  const force = (event) => (event.pointerType === "pen" && event.pressure > 0 ? event.pressure : 1);
  const spread = ([a, b]) => ({ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, far: Math.hypot(a.x - b.x, a.y - b.y) || 1 });

  listen(over, "pointerdown", (event) => {
    event.preventDefault();
    over.focus({ preventScroll: true });
    over.setPointerCapture(event.pointerId);
    const here = spot(event);
    if (event.pointerType === "touch") {
      fingers.set(event.pointerId, here);
      if (fingers.size === 2) {
        drop();
        panning = null;
        pinch = spread([...fingers.values()]);
      }
      if (fingers.size > 1) return;
    }
    hover(event);
    if (event.button === 1 || model.get("tool") === "hand") panning = here;
    else begin(inside(here), { erase: event.altKey || ERASING.has(event.button), pressure: force(event) });
    draw(null);
  });

  function hover(event) {
    Object.assign(pointer, inside(spot(event)), { seen: event.pointerType !== "touch", keys: false });
  }

  listen(over, "pointermove", (event) => {
    const here = spot(event);
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, here);
    if (pinch) {
      if (fingers.size < 2) return;
      const now = spread([...fingers.values()]);
      pan(now.x - pinch.x, now.y - pinch.y);
      zoom(now.far / pinch.far, now.x, now.y);
      pinch = now;
      return;
    }
    if (panning) {
      pan(here.x - panning.x, here.y - panning.y);
      panning = here;
    } else if (gesture && !gesture.keys && event.buttons) {
      const steps = event.getCoalescedEvents?.() ?? [];
      for (const step of steps.length ? steps : [event]) {
        move(inside(spot(step)), { square: event.shiftKey, pressure: force(step) });
      }
    }
    hover(event);
    draw(null);
  });

  const lift = (event) => {
    fingers.delete(event.pointerId);
    if (pinch && fingers.size) return;  // the other finger is still down: it does not paint
    if (gesture && !gesture.keys && !pinch) end();
    pinch = panning = null;
    draw(null);
  };
  listen(over, "pointerup", lift);
  listen(over, "pointercancel", lift);
  listen(over, "pointerleave", () => { pointer.seen = pointer.keys; draw(null); });
  listen(over, "contextmenu", (event) => { event.preventDefault(); event.stopPropagation(); });
  for (const type of ["mousedown", "auxclick"]) listen(over, type, (event) => event.preventDefault());  // no autoscroll
  listen(over, "wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;  // a bare wheel scrolls the notebook
    event.preventDefault();
    const { x, y } = spot(event);
    zoom(Math.exp(-clamp(event.deltaY, -60, 60) / 120), x, y);
  }, { passive: false });

  // -- keys
  const resize = (factor) => {
    const now = model.get("brush_size");
    const next = factor > 1 ? Math.max(now + 1, Math.round(now * factor)) : Math.min(now - 1, Math.round(now * factor));
    set("brush_size", clamp(next, 1, largest));
  };
  const shortcuts = {
    "[": () => resize(1 / 1.2), "]": () => resize(1.2), i: () => actions.invert.click(), g: () => actions.grow.click(),
    s: () => actions.shrink.click(), delete: () => actions.clear.click(), backspace: () => actions.clear.click(),
    "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: () => zoomText.click(),
    "?": () => helpButton.click(), escape: drop,
  };
  for (const [name, [, key]] of Object.entries(TOOLS)) shortcuts[key] = () => set("tool", name);
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function travel([dx, dy], fine) {
    const pace = fine ? 1 : Math.max(1, Math.round(Math.max(model.get("brush_size") / 4, Math.max(width, height) / 64)));
    pointer.x = clamp(Math.floor(pointer.x) + dx * pace, 0, width - 1) + 0.5;
    pointer.y = clamp(Math.floor(pointer.y) + dy * pace, 0, height - 1) + 0.5;
    const x = at.x + pointer.x * at.scale, y = at.y + pointer.y * at.scale, rim = 16;
    pan(clamp(x, rim, wide - rim) - x, clamp(y, rim, high - rim) - y);  // the picture follows the cursor
    if (gesture) move({ x: pointer.x, y: pointer.y });
    const painted = mask.data[Math.floor(pointer.y) * width + Math.floor(pointer.x)];
    spoken.textContent = `x ${Math.floor(pointer.x)}, y ${Math.floor(pointer.y)}, ${painted ? "painted" : "not painted"}`;
  }

  /** Space holds the pen down while it is held; Enter puts it down or lifts it. Shapes take a start and an end. */
  function press(key, event) {
    const point = { x: Math.floor(pointer.x) + 0.5, y: Math.floor(pointer.y) + 0.5 };
    const drawing = gesture && gesture.keys;
    if (drawing && gesture.tool === "lasso" && key === " ") gesture.points.push(point);
    else if (drawing) end();
    else begin(point, { erase: event.altKey, keys: true });
    if (gesture) gesture.held = key === " " && (gesture.tool === "brush" || gesture.tool === "eraser");
  }

  function onKey(event) {
    if (!root.contains(event.target)) return;
    const { key } = event, onCanvas = event.target === over;
    const modified = (event.ctrlKey || event.metaKey) && !event.getModifierState("AltGraph");  // AltGr+8 is [ in German
    let taken = true;
    if (modified) {
      const redo = key.toLowerCase() === "y" || (key.toLowerCase() === "z" && event.shiftKey);
      if (redo) actions.redo.click();
      else if (key.toLowerCase() === "z") actions.undo.click();
      else return;  // Ctrl+S and the rest are the notebook's
    } else if (key === "Tab" || (key === "Enter" && event.shiftKey)) return;
    else if (onCanvas && (key in ARROWS || key === " " || key === "Enter")) {
      Object.assign(pointer, { seen: true, keys: true });
      if (key in ARROWS) travel(ARROWS[key], event.shiftKey);
      else if (!event.repeat) press(key, event);
      draw(null);
    } else if (key.toLowerCase() in shortcuts) shortcuts[key.toLowerCase()]();
    else taken = false;
    if (taken) event.preventDefault();
    // What is left, arrows on a slider say, works as everywhere, but must not reach the notebook, where single letters
    // cut and delete cells. Jupyter listens on the document while the event comes down: so this listens on the window.
    event.stopImmediatePropagation();
  }
  listen(window, "keydown", onKey, { capture: true });
  listen(over, "keyup", (event) => { if (event.key === " " && gesture?.held) end(); });
  listen(over, "blur", () => {
    if (gesture?.keys) end();
    pointer.seen = pointer.keys = false;
    draw(null);
  });

  // -- sliders, and all that follows the model
  listen(size, "input", () => model.set("brush_size", Math.round(1 + (largest - 1) * (size.value / 100) ** 2)));
  listen(size, "change", () => model.save_changes());
  listen(opacity, "input", () => model.set("opacity", opacity.value / 100));
  listen(opacity, "change", () => model.save_changes());
  listen(zoomText, "click", () => { at.scale = fit; settle(); });

  function refresh() {
    const tool = model.get("tool"), brush = model.get("brush_size");
    for (const [name, node] of Object.entries(tools)) node.setAttribute("aria-pressed", String(name === tool));
    for (const node of swatches) node.setAttribute("aria-pressed", String(node.dataset.colour === model.get("colour")));
    // Not `disabled`: that would take the focus away, and the keys with it.
    actions.undo.setAttribute("aria-disabled", String(!store.past.length));
    actions.redo.setAttribute("aria-disabled", String(!store.future.length));
    if (document.activeElement !== size) size.value = 100 * Math.sqrt((brush - 1) / (largest - 1));
    size.setAttribute("aria-valuetext", `${brush} pixels`);
    sizeText.textContent = `${brush} px`;
    opacity.value = 100 * model.get("opacity");
    status.textContent = `${(100 * store.share()).toFixed(1)} % to repaint · ${width} × ${height} px`;
    draw();
  }
  for (const name of ["tool", "brush_size", "opacity", "colour"]) model.on(`change:${name}`, refresh);

  const observer = new ResizeObserver(layout);
  observer.observe(root);
  (function watch() {  // a window that moves to another screen
    const query = window.matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`);
    query.addEventListener("change", () => { layout(); watch(); }, { once: true, signal });
  })();
  store.views.add(view);
  refresh();
  return () => {
    observer.disconnect();
    store.views.delete(view);
  };
}

export default () => {
  const store = new Store();
  return {
    initialize: ({ model }) => store.open(model),
    render: (context) => render(store, context),
  };
};
