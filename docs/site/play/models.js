// @ts-check
// The models in ONNX Runtime Web, on one thread of WebAssembly: loaded when they are first needed, kept, and asked once
// for the same thing.
import * as ort from "onnxruntime-web/wasm";
import { Files } from "./files.js";
import { newTokenizer } from "./tokenizer.js";

const same = (one, other) => one.length === other?.length && one.every((value, i) => value === other[i]);

/** `compute`, which remembers its last few answers. */
function remembered(compute, size = 4) {
  const kept = [];
  return async (input) => {
    const found = kept.find((one) => same(one.input, input));
    if (found) return found.output;
    const output = await compute(input);
    kept.unshift({ input, output });
    kept.length = Math.min(kept.length, size);
    return output;
  };
}

export class Models {
  sessions = new Map();

  /** facts: models.json; `told` hears of the download: bytes that have come, and bytes in all. */
  constructor(facts, told) {
    const { size, channels, pixels_a_latent: scale } = facts, side = size / scale;
    this.facts = facts;
    this.files = new Files(facts.files, told);
    this.tokenize = newTokenizer(facts.tokenizer);
    const text = remembered((ids) => this.ask("text_encoder", { tokens: new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]) }), 8);
    this.text = (prompt) => text(this.tokenize(prompt).ids);
    this.encode = remembered((image) => this.ask("vae_encoder", { image: new ort.Tensor("float32", image, [1, 3, size, size]) }));
    this.decode = (latents) => this.ask("vae_decoder", { latents: new ort.Tensor("float32", latents, [1, channels, side, side]) });
    this.unet = (name, sample, timestep, embeddings, batch) => this.ask(`unet-${name}`, {
      sample: new ort.Tensor("float32", sample, [batch, sample.length / (batch * side * side), side, side]),
      timestep: new ort.Tensor("float32", [timestep], [1]),
      encoder_hidden_states: new ort.Tensor("float32", embeddings, [batch, facts.tokenizer.length, embeddings.length / (batch * facts.tokenizer.length)]),
    });
  }

  /** Makes these models ready, one after another; what lacks is downloaded all at once. */
  async load(names) {
    const missing = names.filter((name) => !this.sessions.has(name));
    if (!missing.length) return;
    const [runtime, ...graphs] = await this.files.open(["runtime", ...missing]);
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary ??= runtime.buffer;
    ort.env.wasm.wasmPaths = { mjs: new URL("runtime/ort-wasm-simd-threaded.mjs", import.meta.url).href };
    for (const [i, name] of missing.entries()) {
      this.sessions.set(name, await ort.InferenceSession.create(graphs[i], { executionProviders: ["wasm"] }));
    }
  }

  async ask(name, inputs) {
    const session = this.sessions.get(name), answer = await session.run(inputs);
    return answer[session.outputNames[0]].data;
  }
}
