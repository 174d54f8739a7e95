// @ts-check
// The worker: runs calls for the page, one at a time, and drops the running one at its next step when a newer one comes.
// It reads files and makes the images that the page shows as well: the page itself only draws.
import { enlarged, png, read } from "./images.js";
import { Models } from "./models.js";
import { decoded, keepUnmasked, run } from "./pipeline.js";
import { apart, preview } from "./preview.js";

const NEEDED = { inpaint: "unet-sd15-inpaint", image2image: "unet-sd15", text2image: "unet-sd15" };

let models = null;
let wanted = null;  // the newest request that has not begun
let busy = false;
let last = null;  // the finished call: its id and steps

const post = (message) => self.postMessage(message);

/** Lets messages in. */
const breathe = () => new Promise((done) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = done;
  port2.postMessage(null);
});

const namesFor = ({ mode }) => ["text_encoder", "vae_decoder", ...(mode === "text2image" ? [] : ["vae_encoder"]), NEEDED[mode]];

async function paint({ id, call }) {
  await models.load(namesFor(call));
  const { size, pixels_a_latent: scale, preview: map } = models.facts, steps = [], started = performance.now();
  const kept = (pixels) => (call.mode === "inpaint" && call.keep_unmasked ? keepUnmasked(call.pixels, pixels, call.mask) : pixels);
  for await (const state of run(models, models.facts, call)) {
    if (wanted) return;
    if (state.pixels) {
      const pixels = kept(state.pixels);
      last = { id, steps, pixels };
      post({ kind: "done", id, pixels, milliseconds: performance.now() - started, cut: models.tokenize(call.prompt).cut });
    } else {
      steps.push(state);
      post({ kind: "step", id, number: state.number, count: state.count, pixels: kept(enlarged(preview(state.clean, size / scale, map), size)) });
    }
    await breathe();
  }
}

/** What happened at each step of the finished call, as PNG files: small squares, and decoded images. */
async function lookInside({ id }) {
  const { facts } = models, side = facts.size / facts.pixels_a_latent, small = (latents) => preview(latents, side, facts.preview);
  const seen = [];
  for (const { timestep, kept, noised, clean, prompted } of last.steps) {
    if (wanted) return;
    seen.push({ timestep, kept, noised: await png(small(noised)), clean: await png(await decoded(models, facts, clean)),
      guidance: prompted && await png(apart(small(clean), small(prompted))) });
    post({ kind: "looking", id, number: seen.length, count: last.steps.length });
    await breathe();
  }
  post({ kind: "inside", id, steps: seen, result: await png(last.pixels) });
}

async function work() {
  if (busy) return;
  busy = true;
  while (wanted) {
    const request = wanted;
    wanted = null;
    try {
      if (request.kind === "run") await paint(request);
      else if (last?.id === request.id) await lookInside(request);
    } catch (error) {
      post({ kind: "failed", id: request.id, text: error instanceof Error ? error.message : String(error) });
    }
  }
  busy = false;
}

/** A file's pixels, to who asked; null for one that cannot be decoded. */
const answer = async ({ file, size }, port) => port.postMessage(await read(file, size).catch(() => null));

self.onmessage = ({ data, ports }) => {
  if (data.kind === "facts") models = new Models(data.facts, (got, all) => post({ kind: "download", got, all }));
  else if (data.kind === "read") answer(data, ports[0]);
  else {
    wanted = data;
    work();
  }
};
