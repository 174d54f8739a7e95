// @ts-check
// The shapes against the cases that Python checks with its own masks (tests/unit/test_widget_scripts.py).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import * as raster from "../../helpers/widgets/js/raster.js";

const cases = JSON.parse(readFileSync(new URL("./cases/masks.json", import.meta.url), "utf8"));

function read(rows) {
  const mask = raster.newMask(rows[0].length, rows.length);
  mask.data.set([...rows.join("")].map((pixel) => Number(pixel === "#")));
  return mask;
}

const rowsOf = ({ width, height, data }) => Array.from({ length: height },
  (_, y) => [...data.subarray(y * width, (y + 1) * width)].map((value) => ".#"[value]).join(""));

for (const { name, call, start, arguments: given, expected } of cases) {
  test(name, () => {
    const mask = read(start);
    raster[call](mask, ...given);
    assert.deepEqual(rowsOf(mask), expected);
  });
}

test("erasing undoes what was painted", () => {
  for (const { call, arguments: given } of cases.filter(({ call }) => /^paint(Line|Rect|Ell|Poly)/.test(call))) {
    const mask = raster.newMask(29, 21), paint = raster[call];
    paint(mask, ...given);
    paint(mask, ...given.slice(0, -1), 0);
    assert.equal(raster.share(mask), 0, call);
  }
});

test("the smallest brush paints the pixel under it", () => {
  for (const x of [7.0, 7.2, 7.5, 7.99]) {
    const mask = raster.newMask(29, 21);
    raster.paintLine(mask, { x, y: 4 }, { x, y: 4 }, 0.125, 1);
    assert.deepEqual([...mask.data.keys()].filter((i) => mask.data[i]), [4 * 29 + 7]);
  }
});

test("a line tells which box it touched", () => {
  const mask = raster.newMask(29, 21);
  assert.deepEqual(raster.paintLine(mask, { x: -5, y: 3 }, { x: 4, y: 3 }, 2, 1), { x0: 0, y0: 1, x1: 7, y1: 6 });
});

test("a fill beyond the mask, or where it is painted already, changes nothing", () => {
  const mask = read(["#..", "...", "..."]);
  for (const point of [{ x: -1, y: 0 }, { x: 3, y: 1 }, { x: 0.5, y: 0.5 }]) raster.paintArea(mask, point, 1);
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
