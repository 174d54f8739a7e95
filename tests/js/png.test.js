// @ts-check
import assert from "node:assert/strict";
import test from "node:test";
import { decodePNG, encodePNG, fromRows, toRows } from "../../helpers/widgets/js/png.js";
import { newMask } from "../../helpers/widgets/js/raster.js";

for (const [width, height] of [[1, 1], [7, 5], [8, 3], [37, 23]]) {
  test(`a mask of ${width} x ${height} comes back from its PNG`, async () => {
    const mask = newMask(width, height), back = newMask(width, height);
    for (let i = 0; i < mask.data.length; i++) mask.data[i] = Number((i * 7919) % 13 < 6);
    const png = await encodePNG(toRows(mask), width, height);
    fromRows(back, await decodePNG(new DataView(png.buffer)));
    assert.deepEqual(back, mask);
  });
}

test("a PNG begins with its signature and ends with IEND and its checksum", async () => {
  const png = await encodePNG(toRows(newMask(4, 4)), 4, 4);
  assert.deepEqual([...png.slice(0, 8)], [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  assert.deepEqual([...png.slice(-8)], [0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82]);
});

test("bytes that lie within others are read where they begin", async () => {
  const png = await encodePNG(toRows(newMask(9, 2)), 9, 2), around = new Uint8Array(png.length + 5);
  around.set(png, 5);
  assert.equal((await decodePNG(around.subarray(5))).length, 2 * 3);
});

test("a PNG with line filters is refused with the remedy", () => {
  assert.throws(() => fromRows(newMask(8, 1), new Uint8Array([1, 0])), /was not written by MaskPainter; set \.mask/);
});
