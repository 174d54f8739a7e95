// @ts-check
// Latents as colours, without the decoder: the linear map of helpers/pipelines/latent_preview.py.

/** Latents (C, side, side) -> RGBA bytes of side x side pixels. */
export function preview(latents, side, { weights, bias, loudest }) {
  const channels = latents.length / (side * side), pixels = new Uint8ClampedArray(4 * side * side).fill(255);
  const size = Math.sqrt(latents.reduce((sum, value) => sum + value * value, 0) / latents.length);
  const scale = size ? Math.min(1, loudest / size) : 1, inside = (place) => Math.min(side - 1, Math.max(0, place));
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      for (let colour = 0; colour < 3; colour++) {
        let sum = bias[colour];
        for (let i = 0; i < 9 * channels; i++) {
          const row = inside(y + Math.floor((i % 9) / 3) - 1), column = inside(x + (i % 3) - 1);
          sum += weights[colour][i] * scale * latents[Math.floor(i / 9) * side * side + row * side + column];
        }
        pixels[4 * (y * side + x) + colour] = (sum + 1) * 127.5;
      }
    }
  }
  return pixels;
}

/** What two sets of RGBA bytes differ by: grey where they do not. */
export const apart = (one, other) => one.map((value, i) => (i % 4 === 3 ? 255 : 128 + (value - other[i]) / 2));
