// @ts-check
import assert from "node:assert/strict";
import test from "node:test";
import { defaults, fromLink, OWN, python, refusal, toLink } from "../../docs/site/play/settings.js";

const IMAGES = ["seashore", "castle"];

test("a link carries every setting there and back", () => {
  const settings = { mode: "image2image", image: "castle", prompt: "a cat & a dog, 50 % #1", negative_prompt: "blurry", strength: 0.35,
    guidance_scale: 3.5, num_inference_steps: 7, seed: 4294967295, scheduler: "Euler", keep_unmasked: false, mask: "eJz-_9" };
  assert.deepEqual(fromLink(`#${toLink(settings)}`, IMAGES), { settings, own: null, refused: [] });
  assert.deepEqual(fromLink("", IMAGES), { settings: defaults("seashore"), own: null, refused: [] });
});

test("a link to an image of one's own says that there was one, and keeps its mask apart", () => {
  const settings = { ...defaults("seashore"), prompt: "a cat", strength: 0.5 };
  const link = (changes) => `#${toLink({ ...settings, image: OWN, mask: "eJz-_9", ...changes })}`;
  assert.deepEqual(fromLink(link({}), IMAGES), { settings, own: "eJz-_9", refused: [] });
  assert.equal(fromLink(link({ mode: "image2image", mask: "" }), IMAGES).own, "");
  assert.equal(fromLink(link({ mode: "text2image", mask: "" }), IMAGES).own, null);
  assert.equal(fromLink(link({ mask: "<b>" }), IMAGES).refused.length, 1);
});

for (const [link, reason] of [
  ["strength=2", "expected a number from 0.05 to 1"], ["strength=", "expected a number"], ["seed=1.5", "expected a whole number"],
  ["seed=-1", "expected a number from 0"], ["num_inference_steps=1e9", "expected a number from 1 to 50"], ["mode=video", "expected one of inpaint"],
  ["keep_unmasked=yes", "expected true or false"], ["scheduler=constructor", "expected one of UniPC"], ["image=owl", "expected one of seashore"],
  ["__proto__=1", "no such setting"], ["toString=1", "no such setting"], ["mask=<b>", "expected a mask"], [`prompt=${"x".repeat(1001)}`, "1,001 characters"],
]) {
  test(`a link that says ${link.slice(0, 30)} is refused, and the default stays`, () => {
    const { settings, refused } = fromLink(`#${link}`, IMAGES);
    assert.deepEqual(settings, defaults("seashore"));
    assert.equal(refused.length, 1);
    assert.ok(refused[0].includes(reason), refused[0]);
  });
}

test("a call that would make no image is refused before it is made", () => {
  const settings = defaults("castle");
  assert.equal(refusal(settings, true), "");
  assert.match(refusal(settings, false), /Nothing is painted yet/);
  assert.match(refusal({ ...settings, strength: 0.1, num_inference_steps: 5 }, true), /less than one step/);
  assert.equal(refusal({ ...settings, mode: "text2image", strength: 0.1, num_inference_steps: 5 }, false), "");
  assert.match(refusal({ ...settings, prompt: "x".repeat(5000) }, true), /5,000 characters/);
  assert.match(refusal({ ...settings, guidance_scale: NaN }, true), /guidance_scale: expected a number/);
});

test("code quotes what people type", () => {
  const code = python({ ...defaults("castle"), prompt: 'a "red" boat\\\n' }, { size: 128, mask: { bits: "eJw=", soft: true } });
  assert.ok(code.includes(String.raw`prompt="a \"red\" boat\\\n",`), code);
  assert.ok(code.includes('Image.frombytes("L", (128, 128)'));
  assert.ok(!python({ ...defaults("castle"), mode: "text2image" }, { size: 128, mask: { bits: "", soft: false } }).includes("image="));
});
