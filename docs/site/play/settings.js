// @ts-check
// What can be set on the page; the same in a link, and as Python code.
import { stepsRun } from "../../../helpers/widgets/js/formats.js";
import { SCHEDULERS } from "./schedulers.js";

export const MODES = { inpaint: "Inpaint", image2image: "Image to image", text2image: "Text to image" };
export const OWN = "own";  // the visitor's image; the others are the course's
export const LONGEST = 1000;  // characters of a prompt

/** A prompt to begin with, for each of the course's images. */
export const PROMPTS = {
  seashore: "a red boat", meadow: "a black cat", castle: "a white castle at night", road: "road", bench: "a yellow cat",
  jungle: "a red house in a jungle", lighthouse: "a green tree", winter: "a red astronaut",
};

/** As the course's explorer has them. Numbers have a range; whole ones are whole. */
export const CONTROLS = [
  { name: "prompt", kind: "text", label: "Prompt", help: "What should be there?" },
  { name: "negative_prompt", kind: "text", label: "Negative prompt", help: "What should not be there?" },
  { name: "strength", kind: "slider", label: "Strength", low: 0.05, high: 1, step: 0.05, help: "How much of the image is made anew: 1 starts from noise" },
  { name: "guidance_scale", kind: "slider", label: "Guidance scale", low: 1, high: 15, step: 0.5, help: "How closely the prompt is followed; 1 is not at all" },
  { name: "num_inference_steps", kind: "slider", label: "Steps", low: 1, high: 50, step: 1, whole: true, help: "How many steps the noise is taken away in" },
  { name: "seed", kind: "slider", label: "Seed", low: 0, high: 99, step: 1, whole: true, highest: 2 ** 32 - 1, help: "Which noise the image begins with" },
  { name: "scheduler", kind: "choice", label: "Scheduler", choices: Object.keys(SCHEDULERS), labels: Object.keys(SCHEDULERS), help: "How a step is taken" },
  { name: "keep_unmasked", kind: "switch", label: "Keep what is not painted", help: "Puts the original pixels back outside the mask" },
].map((control) => ({ least: control.low, most: control.highest ?? control.high ?? null, ...control }));

export const defaults = (image) => ({
  mode: "inpaint", image, prompt: PROMPTS[image] ?? "", negative_prompt: "", strength: 1, guidance_scale: 7.5,
  num_inference_steps: 20, seed: 1, scheduler: "UniPC", keep_unmasked: true, mask: "",
});

/** What is wrong with a value, in words; "" for a good one. */
function wrong(name, value, images) {
  const control = CONTROLS.find((one) => one.name === name);
  const one = (names) => (names.includes(value) ? "" : `expected one of ${names.join(", ")}`);
  if (name === "mode") return one(Object.keys(MODES));
  if (name === "image") return one(images);
  if (name === "mask") return /^[\w-]*$/.test(value) ? "" : "expected a mask as this page writes it";
  if (control?.kind === "choice") return one(control.choices);
  if (control?.kind === "switch") return typeof value === "boolean" ? "" : "expected true or false";
  if (control?.kind === "text") return value.length > LONGEST ? `it has ${value.length.toLocaleString("en")} characters; at most ${LONGEST.toLocaleString("en")} are taken` : "";
  if (!control) return "this page has no such setting";
  if (!Number.isFinite(value) || value < control.least || value > control.most) return `expected a number from ${control.least} to ${control.most}`;
  return control.whole && !Number.isInteger(value) ? "expected a whole number" : "";
}

/** Why these settings make no image, in a sentence; "" where they do. `painted`: whether the mask has anything. */
export function refusal(settings, painted) {
  for (const [name, value] of Object.entries(settings)) {
    const reason = name === "image" || name === "mask" ? "" : wrong(name, value, []);
    if (reason) return `${name}: ${reason}.`;
  }
  const { mode, strength, num_inference_steps: steps } = settings;
  if (mode === "inpaint" && !painted) return "Nothing is painted yet. Brush over what should change.";
  if (mode !== "text2image" && stepsRun(steps, strength) < 1) return `strength ${strength} of ${steps} steps is less than one step. Raise one of them.`;
  return "";
}

/** Settings as the fragment of a link. The visitor's own image stays in the tab: the link says that there was one. */
export const toLink = (settings) => new URLSearchParams(Object.entries(settings).filter(([, value]) => value !== "")
  .map(([name, value]) => [name, String(value)])).toString();

/**
 * A link's settings over the defaults, and a sentence for each that is refused. `own`: the mask over an image that its
 * sender had and the link has not, "" for none; null for an image of the course.
 */
export function fromLink(fragment, images) {
  const given = new URLSearchParams(fragment.replace(/^#/, "")), refused = [], isOwn = given.get("image") === OWN;
  const image = images.includes(given.get("image") ?? "") ? given.get("image") : images[0], settings = defaults(image);
  for (const [name, text] of given) {
    if (name === "image" && isOwn) continue;
    const kind = typeof settings[name];
    const value = kind === "number" ? (text.trim() ? Number(text) : NaN) : kind === "boolean" ? { true: true, false: false }[text] : text;
    const reason = Object.hasOwn(settings, name) ? wrong(name, value, images) : wrong(name, value, []) || "this page has no such setting";
    const shown = text.length > 40 ? `${text.slice(0, 40)} …` : text;
    if (reason) refused.push(`The link says ${name}=${shown}: ${reason}.`);
    else settings[name] = value;
  }
  const own = isOwn && settings.mode !== "text2image" ? settings.mask : null;
  return { settings: isOwn ? { ...settings, mask: "" } : settings, own, refused };
}

const quoted = (text) => JSON.stringify(text);

/** The Python code that makes this image in the course. mask: { bits, soft }, bits in base64. */
export function python(settings, { size, mask }) {
  const { mode, image, scheduler, keep_unmasked: keep } = settings, kind = SCHEDULERS[scheduler].className;
  const inpaint = mode === "inpaint", own = scheduler === "UniPC", hasImage = mode !== "text2image", kept = inpaint && keep;
  const side = `(${size}, ${size})`, checkpoint = inpaint ? '"sd15-inpaint"' : mode === "image2image" ? '"sd15", task="image2image"' : '"sd15"';
  const names = [...(kept ? ["keep_unmasked"] : []), "load", ...(hasImage && image !== OWN ? ["load_image"] : [])];
  const call = [
    `prompt=${quoted(settings.prompt)},`, settings.negative_prompt && `negative_prompt=${quoted(settings.negative_prompt)},`,
    hasImage && "image=image,", inpaint && "mask_image=mask_image,", hasImage && `strength=${settings.strength},`,
    `guidance_scale=${settings.guidance_scale},`, `num_inference_steps=${settings.num_inference_steps},`,
    `generator=torch.Generator("cpu").manual_seed(${settings.seed}),`,
  ];
  return [
    inpaint && "import base64\nimport zlib\n", "import torch", !own && `from diffusers import ${kind}`, hasImage && "from PIL import Image",
    `\nfrom helpers import ${names.join(", ")}\n`, `pipe = load(${checkpoint})`,
    !own && `pipe.scheduler = ${kind}.from_config(pipe.scheduler.config)`,
    hasImage && (image === OWN ? 'image = Image.open("my-image.png").convert("RGB")  # saved with "Save the original"'
      : `image = load_image("${image}").resize(${side}, Image.Resampling.LANCZOS)`),
    inpaint && `pixels = zlib.decompress(base64.b64decode("${mask.bits}"))`,
    inpaint && `mask_image = Image.frombytes("${mask.soft ? "L" : "1"}", ${side}, pixels).convert("L")`,
    "result = pipe(", ...call.filter(Boolean).map((line) => `    ${line}`), ").images[0]",
    kept && "result = keep_unmasked(image, result, mask_image)", "result",
  ].filter(Boolean).join("\n");
}
