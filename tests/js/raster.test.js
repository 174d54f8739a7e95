// @ts-check
// The shapes against the cases that Python checks with its own masks (tests/unit/test_widget_scripts.py).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import * as raster from "../../helpers/widgets/js/raster.js";

const cases = JSON.parse(readFileSync(new URL("./cases/masks.json", import.meta.url), "utf8"));

function read(rows) {
  const mask = raster.newMask(rows[0].length, rows.length);
  mask.data.set([...rows.join("")].map((pixel) => 255 * Number(pixel === "#")));
  return mask;
}

const rowsOf = ({ width, height, data }) => Array.from({ length: height },
  (_, y) => [...data.subarray(y * width, (y + 1) * width)].map((value) => ({ 0: ".", 255: "#" }[value])).join(""));

/** Calls a shape of raster.js as the cases have it, where 1 paints and 0 erases. */
function draw(call, mask, given, value = given.at(-1)) {
  const rest = given.slice(0, -1);
  if (call === "paintLine") raster.paintLine(mask, ...rest, raster.newStroke(mask, { value: 255 * value }));
  else if (call.startsWith("paint")) raster[call](mask, ...rest, 255 * value);
  else raster[call](mask, ...given);
}

for (const { name, call, start, arguments: given, expected } of cases) {
  test(name, () => {
    const mask = read(start);
    draw(call, mask, given);
    assert.deepEqual(rowsOf(mask), expected);
  });
}

test("erasing undoes what was painted", () => {
  for (const { call, arguments: given } of cases.filter(({ call }) => /^paint(Line|Rect|Ell|Poly)/.test(call))) {
    const mask = raster.newMask(29, 21);
    draw(call, mask, given);
    draw(call, mask, given, 0);
    assert.equal(raster.share(mask), 0, call);
  }
});

test("the smallest brush paints the pixel under it", () => {
  for (const x of [7.0, 7.2, 7.5, 7.99]) {
    const mask = raster.newMask(29, 21);
    draw("paintLine", mask, [{ x, y: 4 }, { x, y: 4 }, 0.125, 1]);
    assert.deepEqual([...mask.data.keys()].filter((i) => mask.data[i]), [4 * 29 + 7]);
  }
});

test("a line tells which box it touched", () => {
  const mask = raster.newMask(29, 21), stroke = raster.newStroke(mask, { value: 255 });
  assert.deepEqual(raster.paintLine(mask, { x: -5, y: 3 }, { x: 4, y: 3 }, 2, stroke), { x0: 0, y0: 1, x1: 7, y1: 6 });
});

test("a fill beyond the mask, or where it is painted already, changes nothing", () => {
  const mask = read(["#..", "...", "..."]);
  for (const point of [{ x: -1, y: 0 }, { x: 3, y: 1 }, { x: 0.5, y: 0.5 }]) raster.paintArea(mask, point, 255);
  assert.equal(raster.share(mask), 1 / 9);
});

test("inverting twice is nothing, and a share counts pixels", () => {
  const mask = read(["##..", "#..."]);
  assert.equal(raster.share(mask), 3 / 8);
  raster.invert(mask);
  assert.deepEqual(rowsOf(mask), ["..##", ".###"]);
  raster.invert(mask);
  assert.deepEqual(rowsOf(mask), ["##..", "#..."]);
});

test("a box lies on whole pixels, from any two corners", () => {
  assert.deepEqual(raster.snap({ x: 9.6, y: 2.2 }, { x: 1.4, y: 7.5 }), { x0: 1, y0: 2, x1: 10, y1: 8 });
  assert.deepEqual(raster.snap({ x: 2.5, y: 2.5 }, { x: 4.5, y: 2.5 }, 0.5), { x0: 2, y0: 2, x1: 5, y1: 3 });
});

test("a soft brush covers less toward its rim, and going over a place twice in a stroke changes nothing", () => {
  const mask = raster.newMask(41, 41), stroke = raster.newStroke(mask, { value: 200, softness: 0.5 }), at = { x: 20.5, y: 20.5 };
  raster.paintLine(mask, at, at, 16, stroke);
  const once = mask.data.slice(), row = [...once.subarray(20 * 41 + 20, 21 * 41)];
  assert.deepEqual(row.slice(0, 9), Array(9).fill(200));  // the core: half the radius
  assert.equal(row[12], 100);  // half way from core to rim
  assert.equal(row[16], 0);
  assert.ok(row.every((value, i) => !i || value <= row[i - 1]));
  raster.paintLine(mask, at, at, 16, stroke);
  assert.deepEqual(mask.data, once);
  const eraser = raster.newStroke(mask, { value: 0, softness: 0.5 });
  raster.paintLine(mask, at, at, 16, eraser);
  assert.equal(mask.data[20 * 41 + 20], 0);
  assert.equal(mask.data[20 * 41 + 32], 50);  // half of the half
});

test("a level replaces what was there, upwards and downwards", () => {
  const mask = read(["####", "####"]);
  raster.paintRectangle(mask, { x0: 1, y0: 0, x1: 3, y1: 1 }, 90);
  assert.deepEqual([...mask.data], [255, 90, 90, 255, 255, 255, 255, 255]);
  raster.paintArea(mask, { x: 1.5, y: 0.5 }, 140);
  assert.deepEqual([...mask.data], [255, 140, 140, 255, 255, 255, 255, 255]);
  assert.equal(raster.share(mask), 1);
  raster.invert(mask);
  assert.deepEqual([...mask.data], [0, 115, 115, 0, 0, 0, 0, 0]);
  assert.equal(raster.share(mask), 0);
});

test("a soft mask grows to the highest level within reach, as a disc does", () => {
  const mask = raster.newMask(23, 17);
  mask.data.forEach((_, i) => { mask.data[i] = (i * 7919) % 251 < 12 ? (i * 31) % 256 : 0; });
  for (const radius of [1, 2, 5]) {
    const grown = { ...mask, data: mask.data.slice() };
    raster.grow(grown, radius);
    for (let y = 0; y < 17; y++) {
      for (let x = 0; x < 23; x++) {
        let highest = 0;
        for (let v = 0; v < 17; v++) {
          for (let u = 0; u < 23; u++) if ((u - x) ** 2 + (v - y) ** 2 <= radius ** 2) highest = Math.max(highest, mask.data[v * 23 + u]);
        }
        assert.equal(grown.data[y * 23 + x], highest);
      }
    }
  }
});
