// @ts-check
// Shapes drawn into a mask, pixel by pixel, so that nothing is antialiased and nothing is read back from a canvas, which
// privacy settings of some browsers blur or refuse. Coordinates are pixels; value is the level to paint, 0 to erase.
import { isHard } from "./bits.js";
import { clamp } from "./dom.js";

/** `data` holds levels, row by row: 0 is kept, 255 repainted. */
export const newMask = (width, height) => ({ width, height, data: new Uint8Array(width * height) });

/** The part of a box that lies on the mask. */
const cut = ({ x0, y0, x1, y1 }, { width, height }) => ({
  x0: clamp(x0, 0, width), y0: clamp(y0, 0, height), x1: clamp(x1, 0, width), y1: clamp(y1, 0, height),
});

/** The number of the pixel under a point, -1 beyond the mask. */
export function pixelAt(point, { width, height }) {
  const x = Math.floor(point.x), y = Math.floor(point.y);
  return x < 0 || y < 0 || x >= width || y >= height ? -1 : y * width + x;
}

/** Calls `each` with the number and the centre of every pixel of a box. Returns the part of the box that lies on the mask. */
function visit(mask, box, each) {
  const { x0, y0, x1, y1 } = cut(box, mask);
  for (let y = y0; y < y1; y++) {
    for (let x = x0; x < x1; x++) each(y * mask.width + x, x + 0.5, y + 0.5);
  }
  return { x0, y0, x1, y1 };
}

/** Sets the pixels of a box whose centre (x, y) `holds`. */
const paintWhere = (mask, box, value, holds) => visit(mask, box, (i, x, y) => { if (holds(x, y)) mask.data[i] = value; });

/** A stroke of the brush as it goes: what was there, and how much of each pixel (0..1) it has covered. */
export const newStroke = ({ data }, { value, softness = 0 }) =>
  ({ value, softness, before: data.slice(), cover: softness ? new Float32Array(data.length) : null });

/**
 * Every pixel whose centre is within `radius` of the line from a to b, and the pixel under b. A soft brush covers less and
 * less beyond `1 - softness` of its radius; going over a pixel twice in one stroke covers it no more. Returns the touched box.
 */
export function paintLine(mask, a, b, radius, { value, softness, before, cover }) {
  const dx = b.x - a.x, dy = b.y - a.y, length2 = dx * dx + dy * dy, core = radius * (1 - softness);
  const box = {
    x0: Math.floor(Math.min(a.x, b.x) - radius), y0: Math.floor(Math.min(a.y, b.y) - radius),
    x1: Math.ceil(Math.max(a.x, b.x) + radius) + 1, y1: Math.ceil(Math.max(a.y, b.y) + radius) + 1,
  };
  const touched = visit(mask, box, (i, x, y) => {
    const px = x - a.x, py = y - a.y, along = length2 ? clamp((px * dx + py * dy) / length2, 0, 1) : 0;
    const away2 = (px - along * dx) ** 2 + (py - along * dy) ** 2;
    if (away2 > radius * radius) return;
    if (!cover) mask.data[i] = value;
    else {
      cover[i] = Math.max(cover[i], falloff((Math.sqrt(away2) - core) / (radius - core)));
      mask.data[i] = Math.round(before[i] + (value - before[i]) * cover[i]);
    }
  });
  const under = pixelAt(b, mask);
  if (under >= 0 && !cover) mask.data[under] = value;
  return touched;
}

/** From 1 in the core of a soft brush (`out` <= 0) to 0 at its rim (1), without a kink. */
const falloff = (out) => 0.5 + 0.5 * Math.cos(Math.PI * clamp(out, 0, 1));

/** The box between two corners, on whole pixels, widened by `margin` on all sides. It may reach beyond the image. */
export const snap = (a, b, margin = 0) => ({
  x0: Math.round(Math.min(a.x, b.x) - margin), y0: Math.round(Math.min(a.y, b.y) - margin),
  x1: Math.round(Math.max(a.x, b.x) + margin), y1: Math.round(Math.max(a.y, b.y) + margin),
});

export function paintRectangle(mask, box, value) {
  paintWhere(mask, box, value, () => true);
}

export function paintEllipse(mask, box, value) {
  const rx = (box.x1 - box.x0) / 2, ry = (box.y1 - box.y0) / 2;
  paintWhere(mask, box, value, (x, y) => ((x - box.x0 - rx) / rx) ** 2 + ((y - box.y0 - ry) / ry) ** 2 <= 1);
}

/** The inside of a closed outline; where it crosses itself, what it goes round at all counts (non-zero winding). */
export function paintPolygon(mask, points, value) {
  const { width, height, data } = mask;
  for (let y = 0; y < height; y++) {
    const crossings = crossed(points, y + 0.5);
    let winding = 0;
    for (let i = 0; i + 1 < crossings.length; i++) {
      winding += crossings[i].turn;
      if (!winding) continue;
      const [from, to] = [crossings[i], crossings[i + 1]].map(({ x }) => clamp(Math.ceil(x - 0.5), 0, width));
      data.fill(value, y * width + from, y * width + to);
    }
  }
}

/** Where an outline crosses a row, from left to right: downwards (turn 1) or upwards (-1). */
function crossed(points, row) {
  return points.flatMap((a, i) => {
    const b = points[(i + 1) % points.length];
    if ((a.y <= row) === (b.y <= row)) return [];
    return [{ x: a.x + ((row - a.y) / (b.y - a.y)) * (b.x - a.x), turn: a.y < b.y ? 1 : -1 }];
  }).sort((one, other) => one.x - other.x);
}

/** The connected area of one level around one pixel. */
export function paintArea(mask, point, value) {
  const { width, height, data } = mask, todo = [pixelAt(point, mask)], level = data[todo[0]];
  if (level === value) return;
  while (todo.length) {
    const seed = todo.pop();
    if (seed < 0 || data[seed] !== level) continue;
    const row = seed - (seed % width);
    let left = seed, right = seed + 1;
    while (left > row && data[left - 1] === level) left--;
    while (right < row + width && data[right] === level) right++;
    data.fill(value, left, right);
    for (const next of [row - width, row + width]) {
      if (next < 0 || next >= width * height) continue;
      for (let here = next + left - row; here < next + right - row; here++) {
        if (data[here] === level && (here === next + left - row || data[here - 1] !== level)) todo.push(here);
      }
    }
  }
}

export function invert({ data }) {
  for (let i = 0; i < data.length; i++) data[i] = 255 - data[i];
}

/** Raises every pixel to the highest level within `radius`. */
export function grow(mask, radius) {
  if (isHard(mask.data)) growHard(mask, radius);
  else growSoft(mask, radius);
}

function growSoft({ width, height, data }, radius) {
  const before = data.slice();
  for (let dy = -radius; dy <= radius; dy++) {
    const reach = Math.floor(Math.sqrt(radius * radius - dy * dy));
    for (let y = Math.max(0, -dy); y < Math.min(height, height - dy); y++) {
      const highest = highestWithin(before.subarray((y + dy) * width, (y + dy + 1) * width), reach), row = y * width;
      for (let x = 0; x < width; x++) if (highest[x] > data[row + x]) data[row + x] = highest[x];
    }
  }
}

/** The highest of the values at most `reach` away, for each of a row, by a queue of those that can still win. */
function highestWithin(row, reach) {
  const found = new Uint8Array(row.length), queue = new Int32Array(row.length);
  let first = 0, end = 0;
  for (let x = 0, next = 0; x < row.length; x++) {
    for (; next <= Math.min(x + reach, row.length - 1); next++) {
      while (end > first && row[queue[end - 1]] <= row[next]) end--;
      queue[end++] = next;
    }
    while (queue[first] < x - reach) first++;
    found[x] = row[queue[first]];
  }
  return found;
}

function growHard(mask, radius) {
  const { width, height, data } = mask;
  const away = new Int32Array(data.length);  // distance to the next painted pixel of the same row
  for (let row = 0; row < data.length; row += width) {
    for (let i = row, d = width; i < row + width; i++) away[i] = d = data[i] ? 0 : d + 1;
    for (let i = row + width - 1, d = width; i >= row; i--) away[i] = Math.min(away[i], (d = data[i] ? 0 : d + 1));
  }
  for (let dy = -radius; dy <= radius; dy++) {
    const reach = Math.floor(Math.sqrt(radius * radius - dy * dy));
    for (let y = Math.max(0, -dy); y < Math.min(height, height - dy); y++) {
      for (let x = 0, i = y * width; x < width; x++, i++) if (away[i + dy * width] <= reach) data[i] = 255;
    }
  }
}

/** Takes away every pixel within `radius` of the outside; the image's own edge does not count as outside. */
export function shrink(mask, radius) {
  invert(mask);
  grow(mask, radius);
  invert(mask);
}

/** How much of the mask a pipeline repaints, 0..1: it cuts at 50 %. */
export const share = ({ data }) => data.reduce((sum, value) => sum + (value > 127 ? 1 : 0), 0) / data.length;
