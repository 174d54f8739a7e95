// @ts-check
import assert from "node:assert/strict";
import test from "node:test";
import { deflate, inflate, pack, unpack } from "../../helpers/widgets/js/bits.js";

for (const length of [1, 35, 24, 851]) {
  test(`a mask of ${length} pixels comes back from its bits`, async () => {
    const data = Uint8Array.from({ length }, (_, i) => Number((i * 7919) % 13 < 6)), back = new Uint8Array(length);
    unpack(await inflate(new DataView((await deflate(pack(data))).buffer)), back);
    assert.deepEqual(back, data);
  });
}
