// @ts-check
import assert from "node:assert/strict";
import test from "node:test";
import { deflate, inflate, isHard, pack, unpack } from "../../helpers/widgets/js/bits.js";

for (const length of [1, 35, 24, 851]) {
  test(`a mask of ${length} pixels comes back from its bits`, async () => {
    const data = Uint8Array.from({ length }, (_, i) => 255 * Number((i * 7919) % 13 < 6)), back = new Uint8Array(length);
    const bits = pack(data);
    unpack(await inflate(new DataView((await deflate(bits)).buffer)), back);
    assert.deepEqual(back, data);
    assert.equal(bits.length, Math.ceil(length / 8));
  });
}

test("a soft mask travels as bytes, and a hard one as bits again", () => {
  const data = Uint8Array.from({ length: 35 }, (_, i) => 7 * i), back = new Uint8Array(35);
  assert.ok(!isHard(data));
  const bytes = pack(data);
  data.fill(0);
  assert.equal(bytes.length, 35);
  unpack(bytes, back);
  assert.deepEqual(back, Uint8Array.from({ length: 35 }, (_, i) => 7 * i));
  assert.equal(pack(data).length, 5);
});

test("a mask of one pixel is always a bit: grey is cut at 50 %", () => {
  const back = new Uint8Array(1);
  for (const [level, read] of [[127, 0], [128, 255], [255, 255]]) {
    unpack(pack(Uint8Array.of(level)), back);
    assert.equal(back[0], read);
  }
});
