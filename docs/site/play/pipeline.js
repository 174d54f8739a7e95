// @ts-check
// The calls of diffusers' Stable Diffusion pipelines, step by step: the same arithmetic on the same random numbers.
import { Generator } from "./random.js";
import { blend, SCHEDULERS } from "./schedulers.js";
import { stepsRun } from "../../../helpers/widgets/js/formats.js";

const joined = (...arrays) => {
  const result = new Float32Array(arrays.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const array of arrays) { result.set(array, at); at += array.length; }
  return result;
};

/** RGBA bytes -> (3, H, W) in -1..1; what `hidden` says of a pixel becomes grey. */
function planes(pixels, hidden = (i) => false) {
  const area = pixels.length / 4, result = new Float32Array(3 * area);
  for (let i = 0; i < area; i++) {
    if (hidden(i)) continue;
    for (let c = 0; c < 3; c++) result[c * area + i] = (2 * pixels[4 * i + c]) / 255 - 1;
  }
  return result;
}

/** (3, H, W) in -1..1 -> RGBA bytes. */
function pixelsOf(image) {
  const area = image.length / 3, pixels = new Uint8ClampedArray(4 * area).fill(255);
  for (let i = 0; i < area; i++) for (let c = 0; c < 3; c++) pixels[4 * i + c] = (image[c * area + i] / 2 + 0.5) * 255;
  return pixels;
}

/** What a mask is in latents: the first pixel of each square of them, repainted or kept. */
function smallMask(mask, size, side) {
  const scale = size / side;
  return Float32Array.from({ length: side * side }, (_, i) =>
    Number(mask[Math.floor(i / side) * scale * size + (i % side) * scale] > 127));
}

/** Latents drawn from what the encoder says of an image: mean and log-variance. */
function drawn(moments, scaling, generator) {
  const half = moments.length / 2, mean = moments.subarray(0, half), spread = moments.subarray(half);
  return generator.randn(half).map((noise, i) => scaling * (mean[i] + Math.exp(Math.min(20, Math.max(-30, spread[i])) / 2) * noise));
}

/** Puts `before` back where the mask keeps it, as keep_unmasked does: greys blend the two. RGBA bytes. */
export function keepUnmasked(before, after, mask) {
  return after.map((value, i) => (i % 4 === 3 ? 255 : Math.round((value * mask[i >> 2] + before[i] * (255 - mask[i >> 2])) / 255)));
}

/**
 * One call, as a generator of its steps: { number, count, timestep, kept, noised, clean, prompted }, and at the end { pixels }.
 *
 * models: functions text(ids), encode(image), decode(latents), unet(name, sample, timestep, embeddings, batch) of Float32Arrays.
 * facts: models.json. call: mode, prompt, negative_prompt, strength, guidance_scale, num_inference_steps, seed, scheduler
 * (a name of SCHEDULERS); pixels, RGBA bytes, where the mode has an image; mask, a byte a pixel, for "inpaint".
 */
export async function* run(models, facts, call) {
  const { size, channels, scaling } = facts, { mode, pixels, mask, guidance_scale: guidance } = call;
  const side = size / facts.pixels_a_latent, area = side * side, guided = guidance > 1;
  const scheduler = new SCHEDULERS[call.scheduler](facts.scheduler, call.num_inference_steps);
  const generator = new Generator(call.seed), strength = mode === "text2image" ? 1 : call.strength;
  const count = stepsRun(call.num_inference_steps, strength), first = call.num_inference_steps - count;
  const said = guided ? [call.negative_prompt, call.prompt] : [call.prompt];
  const embeddings = joined(...await Promise.all(said.map((text) => models.text(text))));
  const encoded = async (image) => drawn(await models.encode(image), scaling, generator);

  const start = mode === "image2image" || (mode === "inpaint" && strength < 1) ? await encoded(planes(pixels)) : null;
  const noise = generator.randn(channels * area);
  let latents = start ? scheduler.noised(start, noise, first) : blend([scheduler.initial, noise]);
  const beside = mode === "inpaint"
    ? [smallMask(mask, size, side), await encoded(planes(pixels, (i) => mask[i] > 127))] : [];
  const unet = mode === "inpaint" ? "sd15-inpaint" : "sd15";

  for (let i = first; i < call.num_inference_steps; i++) {
    const timestep = scheduler.timesteps[i], input = joined(blend([scheduler.scale(i), latents]), ...beside);
    const answer = await models.unet(unet, guided ? joined(input, input) : input, timestep, embeddings, said.length);
    const plain = answer.subarray(0, channels * area), prompted = answer.subarray(-channels * area);
    const predicted = guided ? blend([1 - guidance, plain], [guidance, prompted]) : prompted;
    const noised = latents, { clean, next } = scheduler.step(predicted, i, noised);
    latents = next;
    yield { number: i - first + 1, count, timestep, kept: scheduler.parts(i)[0], noised, clean,
      prompted: guided ? scheduler.clean(prompted, i, noised) : null };
  }
  yield { pixels: await decoded(models, facts, latents) };
}

/** Latents as the image that they stand for, RGBA bytes. */
export const decoded = async (models, { scaling }, latents) => pixelsOf(await models.decode(blend([1 / scaling, latents])));
