// @ts-check
import assert from "node:assert/strict";
import test from "node:test";
import { coloured, mapAt, numbers, stepText } from "../../helpers/widgets/js/heat.js";

test("a map is found among all of them, without a copy", () => {
  const maps = Uint8Array.from({ length: 2 * 3 * 4 }, (_, i) => i);  // two steps, three words, four cells
  assert.deepEqual([...mapAt(maps, { step: 0, word: 0, words: 3, cells: 4 })], [0, 1, 2, 3]);
  assert.deepEqual([...mapAt(maps, { step: 1, word: 2, words: 3, cells: 4 })], [20, 21, 22, 23]);
  assert.equal(mapAt(maps, { step: 1, word: 0, words: 3, cells: 4 }).buffer, maps.buffer);
});

test("each value has its colour of the ramp", () => {
  const ramp = Uint8Array.from({ length: 4 * 256 }, (_, i) => (i % 4 === 3 ? 9 : Math.floor(i / 4)));
  assert.deepEqual([...coloured(Uint8Array.of(0, 255, 7), ramp)], [0, 0, 0, 9, 255, 255, 255, 9, 7, 7, 7, 9]);
});

test("a trait's bytes are read where they lie", () => {
  const whole = Uint8Array.of(1, 2, 3, 4);
  assert.deepEqual([...numbers(new DataView(whole.buffer, 1, 2))], [2, 3]);
});

test("a step is said in words", () => {
  assert.equal(stepText(1, 20, [941, 0.0949, 0.9955]), "Step 1 of 20: t = 941, image 0.09, noise 1.00");
  assert.equal(stepText(3, 3, [250.4, 0.8, 0.6]), "Step 3 of 3: t = 250, image 0.80, noise 0.60");
});
