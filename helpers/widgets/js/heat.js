// @ts-check
// Attention maps: one byte for each step, word, row and column, and the colours that they are shown in.

/** The bytes of a trait as numbers, without copying them. */
export const numbers = (bytes) => new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** One map out of all of them: `step` and `word` count from 0. */
export function mapAt(maps, { step, word, words, cells }) {
  const start = (step * words + word) * cells;
  return maps.subarray(start, start + cells);
}

/** RGBA of each value; `ramp` has 256 colours. */
export function coloured(values, ramp) {
  const pixels = new Uint8ClampedArray(4 * values.length);
  values.forEach((value, i) => pixels.set(ramp.subarray(4 * value, 4 * value + 4), 4 * i));
  return pixels;
}

/** What a step is, in words: image and noise are amplitudes, whose squares add up to 1. */
export const stepText = (number, count, [timestep, image, noise]) =>
  `Step ${number} of ${count}: t = ${Math.round(timestep)}, image ${image.toFixed(2)}, noise ${noise.toFixed(2)}`;
