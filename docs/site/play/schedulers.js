// @ts-check
// Three schedulers of diffusers, for models that predict noise: made of the same configuration, they take the same steps.
// A scheduler has `timesteps`, and at its step i: `scale(i)`, by which the model's input is multiplied, `noised(x, noise, i)`,
// and `step(noise, i, sample)`, which returns { next, clean }: the sample after it and the clean one that it predicts.

/** Sums of arrays, each times a number. */
export function blend(...terms) {
  const result = new Float32Array(terms[0][1].length);
  for (let i = 0; i < result.length; i++) {
    let sum = 0;
    for (const [factor, values] of terms) sum += factor * values[i];
    result[i] = sum;
  }
  return result;
}

/**
 * The share of the image, as variance, that is left at each of the training's timesteps: rounded where torch rounds, as
 * a thousand roundings add up to what is seen in the image.
 */
export function alphasOf({ num_train_timesteps: count, beta_start: first, beta_end: last, beta_schedule: schedule }) {
  if (schedule !== "scaled_linear") throw new Error(`beta_schedule=${schedule}: the page knows scaled_linear alone.`);
  const { fround } = Math, low = fround(Math.sqrt(first)), high = fround(Math.sqrt(last)), step = fround(fround(high - low) / (count - 1));
  let product = 1;
  return Float32Array.from({ length: count }, (_, i) => {
    const root = fround(i < count / 2 ? low + fround(i * step) : high - fround((count - 1 - i) * step));
    return (product *= fround(1 - fround(root * root)));
  });
}

/** "leading" timesteps, the noisiest first. */
const leading = (count, ratio, offset) => Array.from({ length: count }, (_, i) => (count - 1 - i) * ratio + offset);

class Scheduler {
  constructor(config, steps) {
    this.trained = config.num_train_timesteps;
    this.alphas = alphasOf(config);
    this.timesteps = leading(steps, Math.floor(this.trained / steps), config.steps_offset);
    this.initial = 1;  // the deviation of the noise that a call starts from
  }

  /** Noise for each unit of image at a step; 0 after the last. */
  sigma(i) {
    if (i >= this.timesteps.length) return 0;
    const alpha = this.alphas[this.timesteps[i]];
    return Math.sqrt((1 - alpha) / alpha);
  }

  /** The amplitudes of image and noise at a step. */
  parts(i) {
    const kept = 1 / Math.sqrt(this.sigma(i) ** 2 + 1);
    return [kept, this.sigma(i) * kept];
  }

  scale(i) { return 1; }

  noised(x, noise, i) {
    const [kept, added] = this.parts(i);
    return blend([kept, x], [added, noise]);
  }

  clean(noise, i, sample) {
    const [kept, added] = this.parts(i);
    return blend([1 / kept, sample], [-added / kept, noise]);
  }
}

/** Denoising diffusion implicit models, eta = 0 (Song et al., 2020). */
export class DDIM extends Scheduler {
  static className = "DDIMScheduler";

  constructor(config, steps) {
    super(config, steps);
    this.ratio = Math.floor(this.trained / steps);
  }

  step(noise, i, sample) {
    const before = this.timesteps[i] - this.ratio, alpha = before >= 0 ? this.alphas[before] : 1;
    const clean = this.clean(noise, i, sample);
    return { clean, next: blend([Math.sqrt(alpha), clean], [Math.sqrt(1 - alpha), noise]) };
  }
}

/** Euler's method in units where the noise grows and the image stays (Karras et al., 2022, algorithm 2 without churn). */
export class Euler extends Scheduler {
  static className = "EulerDiscreteScheduler";

  constructor(config, steps) {
    super(config, steps);
    this.initial = Math.sqrt(this.sigma(0) ** 2 + 1);
  }

  scale(i) { return 1 / Math.sqrt(this.sigma(i) ** 2 + 1); }

  noised(x, noise, i) { return blend([1, x], [this.sigma(i), noise]); }

  step(noise, i, sample) {
    return { clean: blend([1, sample], [-this.sigma(i), noise]), next: blend([1, sample], [this.sigma(i + 1) - this.sigma(i), noise]) };
  }
}

/** UniPC of order 2 with the B2(h) update, predicting the clean sample (Zhao et al., 2023). */
export class UniPC extends Scheduler {
  static className = "UniPCMultistepScheduler";
  cleans = [];  // the last two predictions, the newest last
  order = 0;  // of the last step
  before = null;  // the sample that it started from

  constructor(config, steps) {
    super(config, steps);
    this.timesteps = leading(steps, Math.floor(this.trained / (steps + 1)), config.steps_offset)
      .map((time) => time + Math.floor(this.trained / (steps + 1)));
  }

  /** Half the logarithm of the signal to noise ratio. */
  lambda(i) { return -Math.log(this.sigma(i)); }

  step(noise, i, given) {
    const clean = this.clean(noise, i, given);
    const sample = this.before ? this.update(i - 1, this.order, this.before, clean) : given;
    this.cleans = [...this.cleans.slice(-1), clean];
    this.before = sample;
    this.order = Math.min(2, this.timesteps.length - i, this.order + 1);
    return { clean, next: this.update(i, this.order, sample, null) };
  }

  /** From step i to the next: the predictor, or, given what the model says there, the corrector. */
  update(i, order, sample, there) {
    const [kept, added] = this.parts(i + 1), here = this.cleans[this.cleans.length - 1];
    const h = this.lambda(i + 1) - this.lambda(i), growth = Math.expm1(-h);  // -1 for the last step, of infinite length
    const [past, now] = weights(order, h, order > 1 ? (this.lambda(i - 1) - this.lambda(i)) / h : 0, Boolean(there));
    const terms = [[added / this.parts(i)[1], sample], [-kept * growth * (1 - past - now), here]];
    if (past) terms.push([-kept * growth * past, this.cleans[0]]);
    if (there) terms.push([-kept * growth * now, there]);
    return blend(...terms);
  }
}

/** By how much the predictions before and after count in UniPC's update, beside the one at its start. */
function weights(order, h, ratio, corrects) {
  if (!corrects) return [order > 1 ? 0.5 / ratio : 0, 0];
  if (order === 1) return [0, 0.5];
  const phi1 = Math.expm1(-h), phi2 = phi1 / -h - 1, first = phi2 / phi1, second = (2 * (phi2 / -h - 0.5)) / phi1;
  const past = (first - second) / (1 - ratio);
  return [past / ratio, first - past];
}

/** By the names that the page shows. */
export const SCHEDULERS = { UniPC, DDIM, Euler };
