// @ts-check
import assert from "node:assert/strict";
import { setMaxListeners } from "node:events";
import test, { mock } from "node:test";
import { equal, inflate, pack, unpack } from "../../helpers/widgets/js/bits.js";
import { BUILDERS, followRange } from "../../helpers/widgets/js/explorer_controls.js";
import { ExplorerStore } from "../../helpers/widgets/js/explorer_store.js";
import { Stroke } from "../../helpers/widgets/js/explorer_stroke.js";
import { Hand } from "../../helpers/widgets/js/mask_gesture.js";
import { newMask } from "../../helpers/widgets/js/raster.js";
import { Viewport } from "../../helpers/widgets/js/viewport.js";
import { Element, newModel } from "./page.js";

let frames = [];
const frame = () => frames.splice(0).forEach((paint) => paint?.());
Object.assign(globalThis, {
  window: globalThis,
  document: { createElement: () => new Element(), activeElement: null },
  ResizeObserver: class { observe() {} disconnect() {} },
  requestAnimationFrame: (paint) => frames.push(paint),
  cancelAnimationFrame: (number) => { delete frames[number - 1]; },
});

const signal = new AbortController().signal;
setMaxListeners(0, signal);

// ---- A value that is moved, and chosen

function openStore() {
  const model = newModel({ _values: { strength: 0.5, prompt: "a cat" }, _state: { phase: "done" }, _history: [], _steps: [] });
  return { model, store: new ExplorerStore({ model, signal }) };
}

test("a moving value is sent at once, then the newest once a frame, and a chosen one at once", () => {
  const { model, store } = openStore();
  for (const strength of [0.6, 0.7, 0.8]) store.change({ strength }, true);
  assert.deepEqual(model.sent.splice(0), [{ kind: "change", values: { strength: 0.6 }, moving: true }]);
  assert.equal(store.value("strength"), 0.8);
  frame();
  assert.deepEqual(model.sent.splice(0), [{ kind: "change", values: { strength: 0.8 }, moving: true }]);
  frame();
  assert.deepEqual([model.sent, frames.filter(Boolean)], [[], []]);
  store.change({ prompt: "a d" }, true);
  store.change({ prompt: "a do" }, true);
  store.change({ seed: 3 }, false);
  frame();
  assert.deepEqual(model.sent, [
    { kind: "change", values: { prompt: "a d" }, moving: true },
    { kind: "change", values: { prompt: "a do", seed: 3 }, moving: false },
  ]);
});

test("a late answer moves nothing back under the hand", () => {
  const { model, store } = openStore();
  store.change({ strength: 0.6 }, true);
  store.change({ strength: 0.7 }, true);
  model.set("_values", { strength: 0.6, prompt: "a cat" });
  assert.equal(store.value("strength"), 0.7);
  model.set("_values", { strength: 0.7, prompt: "a cat" });
  model.set("_values", { strength: 0.3, prompt: "a cat" });  // recalled, say
  assert.equal(store.value("strength"), 0.3);
});

test("a slider is moving until it is let go, and after a key until the keys rest", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const range = new Element(), heard = [], isHeld = followRange(range, (moving) => heard.push(moving));
  for (const type of ["pointerdown", "input", "input"]) range.fire(type);
  assert.deepEqual([heard.splice(0), isHeld()], [[true, true], true]);
  range.fire("change");
  assert.deepEqual([heard.splice(0), isHeld()], [[false], false]);
  for (let press = 0; press < 3; press++) {
    range.dataset.keys = "1";
    range.fire("input");
    range.fire("change");
    mock.timers.tick(300);
  }
  assert.deepEqual(heard.splice(0), [true, true, true]);
  mock.timers.tick(50);
  assert.deepEqual(heard.splice(0), [false]);
  range.dataset.keys = "1";
  for (const type of ["input", "change", "blur"]) range.fire(type);
  mock.timers.tick(1000);
  assert.deepEqual(heard, [true, false]);
  mock.timers.reset();
});

test("a text is moving while one types and rests, chosen after a longer rest, with Enter or on leaving", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const areas = [], heard = [], create = document.createElement;
  document.createElement = (tag) => { const node = create(tag); if (tag === "textarea") areas.push(node); return node; };
  const context = { store: { model: newModel({ _notes: {} }) }, signal };
  BUILDERS.text({ name: "prompt", label: "Prompt", help: "" }, (value, moving) => heard.push([value, moving]), context);
  document.createElement = create;
  const [area] = areas, type = (text) => { area.value = text; area.fire("input"); };
  type("a");
  mock.timers.tick(299);
  type("a c");
  mock.timers.tick(300);
  assert.deepEqual(heard.splice(0), [["a c", true]]);
  mock.timers.tick(1200);
  assert.deepEqual(heard.splice(0), [["a c", false]]);
  for (const end of ["commit", "change"]) {
    type(end);
    area.fire(end);
    mock.timers.tick(2000);
    assert.deepEqual(heard.splice(0), [[end, false]]);
  }
  mock.timers.reset();
});

// ---- A stroke or a shape that is drawn

const SIDE = 32, rest = (time) => new Promise((done) => { setTimeout(done, time); });

/** Waits until so many messages were sent, and a little longer: there might be more. */
async function settled({ sent }, count) {
  for (let i = 0; i < 1000 && sent.length < count; i++) await rest(5);
  await rest(20);
}

/** A hand with a brush of two pixels, unless `traits` say another tool, and the explorer that hears of it. */
function openHand(traits = {}) {
  const painter = newModel({ tool: "brush", brush_size: 2, softness: 0, level: 255, ...traits }), mask = newMask(SIDE, SIDE);
  const model = newModel(), commits = [];
  const store = {
    model: painter, mask, bits: pack(mask.data), stroke: null, show() {},
    commit() {
      const changed = !equal(this.bits, pack(mask.data));
      this.bits = pack(mask.data);
      commits.push(model.sent.length);
      return changed;
    },
    restore() { unpack(this.bits, mask.data); },
  };
  store.stroke = new Stroke(store, model, signal);
  return { hand: new Hand(store, new Viewport(SIDE, SIDE, () => {}), () => {}), model, commits, mask,
    answer: (content = { kind: "drawn" }, count = model.sent.length) => { model.hear(content); return settled(model, count); } };
}

const at = (x) => ({ x, y: 8.5 });

/** How many pixels each mask that was sent has painted; null where a stroke was given up. */
const painted = (model) => Promise.all(model.sent.map(async ({ kind, buffers }) => {
  assert.equal(kind, "draw");
  if (!buffers) return null;
  const { data } = newMask(SIDE, SIDE);
  unpack(await inflate(new Uint8Array(buffers[0])), data);
  return data.filter(Boolean).length;
}));

test("while a stroke is drawn one mask is under way, and of the others only the newest waits for the answer", async () => {
  const { hand, model, commits, answer, mask } = openHand(), counts = [];
  hand.begin(at(4));
  counts.push(mask.data.filter(Boolean).length);
  await settled(model, 1);
  for (let x = 5; x < 20; x++) hand.move(at(x));
  await settled(model, 1);
  assert.deepEqual(await painted(model), counts);
  counts.push(mask.data.filter(Boolean).length);
  await answer(undefined, 2);
  await answer();
  assert.deepEqual(await painted(model), counts);
  hand.move(at(24));
  counts.push(mask.data.filter(Boolean).length);
  await settled(model, 3);
  assert.deepEqual([await painted(model), commits], [counts, []]);
  hand.move(at(26));  // it would wait for the answer, but the pen is lifted
  hand.end();
  await answer();
  assert.deepEqual([await painted(model), commits], [counts, [3]]);
});

test("a mask that was on its way when the pen was lifted is not sent after the one that is kept", async () => {
  const { hand, model, commits } = openHand();
  hand.begin(at(4));
  hand.end();
  hand.begin(at(20));
  const { mask } = hand.store;
  await settled(model, 1);
  assert.deepEqual([await painted(model), commits], [[mask.data.filter(Boolean).length], [0]]);
});

test("a refusal is an answer too", async () => {
  const { hand, model, answer } = openHand();
  hand.begin(at(4));
  await settled(model, 1);
  hand.move(at(8));
  await answer({ kind: "refused", asked: "save" });
  assert.equal(model.sent.length, 1);
  await answer({ kind: "refused", asked: "draw" }, 2);
  assert.equal(model.sent.length, 2);
});

test("Python hears that a stroke was given up, if it knew of it", async () => {
  const { hand, model, commits, mask } = openHand();
  hand.begin(at(4));
  await settled(model, 1);
  hand.drop();
  hand.begin(at(8));
  hand.drop();
  await settled(model, 2);
  assert.deepEqual([(await painted(model)).slice(1), commits, mask.data.some(Boolean)], [[null], [], false]);
});

/** The packed mask of a message. */
const bitsOf = ({ buffers }) => inflate(new Uint8Array(buffers[0]));

/** Python answers until it has heard of everything. */
async function heard(model, stroke) {
  for (let answered = 0; stroke.newest || stroke.away; await rest(1)) {
    if (model.sent.length > answered) { answered = model.sent.length; model.hear({ kind: "drawn" }); }
  }
}

const PATH = [[3, 3], [20, 5], [21, 18], [15, 24]].map(([x, y]) => ({ x, y }));

for (const [tool, keys] of [["rectangle"], ["rectangle", true], ["ellipse"], ["ellipse", true], ["lasso"]]) {
  test(`while a shape is drawn, the mask is sent that would be kept if it ended there: ${tool}${keys ? " by keys" : ""}`, async () => {
    for (const erase of [false, true]) {
      for (let count = 3; count <= PATH.length; count++) {
        const { hand, model, commits, mask } = openHand({ tool }), { store } = hand;
        for (let i = 0; i < mask.data.length; i++) mask.data[i] = i % SIDE < 12 ? 255 : 0;
        const before = store.bits = pack(mask.data);
        hand.begin(PATH[0], { erase, keys });
        for (const point of PATH.slice(1, count)) hand.move(point);
        await heard(model, store.stroke);
        assert.deepEqual([store.bits, pack(mask.data), commits], [before, before, []]);
        const { length } = model.sent, drawn = await bitsOf(model.sent[length - 1]);
        hand.end();
        assert.deepEqual([store.bits, commits, model.sent.length], [drawn, [length], length]);
        assert.notDeepEqual(drawn, before);
      }
    }
  });
}

for (const tool of ["rectangle", "ellipse", "lasso"]) {
  test(`of a shape too only the newest mask waits, and nothing comes after it was given up: ${tool}`, async () => {
    const { hand, model, answer } = openHand({ tool }), { store } = hand, blank = store.bits;
    hand.begin(at(4));
    for (let x = 5; x < 12; x++) hand.move({ x, y: x + 8 });
    await settled(model, 1);
    for (let x = 12; x < 24; x++) hand.move({ x, y: 40 - x });
    await settled(model, 1);
    assert.equal(model.sent.length, 1);
    await answer(undefined, 2);
    assert.equal(model.sent.length, 2);
    hand.move({ x: 28, y: 20 });
    hand.drop();
    await answer();
    assert.deepEqual([model.sent.slice(2), store.bits], [[{ kind: "draw" }], blank]);
  });
}

test("a shape that shrinks to nothing is nothing to Python too, and when it ends so, Python goes back", async () => {
  const { hand, model, answer, commits } = openHand({ tool: "rectangle" }), { store } = hand, blank = store.bits;
  hand.begin(at(4));
  hand.move({ x: 20, y: 20 });
  await settled(model, 1);
  hand.move(at(4));
  await answer(undefined, 2);
  assert.deepEqual(await bitsOf(model.sent[1]), blank);
  await answer();
  hand.end();
  assert.deepEqual([model.sent.slice(2), commits, store.bits], [[{ kind: "draw" }], [2], blank]);
});

test("the box of a select is not sent: Python finds the mask", async () => {
  const { hand, model } = openHand({ tool: "select" }), asked = [];
  hand.store.select = (where) => asked.push(where);
  hand.begin(at(4));
  hand.move({ x: 20, y: 20 });
  hand.end();
  await settled(model, 0);
  assert.deepEqual([model.sent, asked], [[], [{ box: [4, 9, 20, 20], value: 255 }]]);
});

test("what changes nothing is not sent, nor is a shape before it is there", async () => {
  const erasing = openHand({ tool: "eraser" }), boxing = openHand({ tool: "rectangle" });
  for (const { hand, model } of [erasing, boxing]) {
    hand.begin(at(4));
    hand.move(at(12));
    await settled(model, 0);
    hand.end();
  }
  assert.deepEqual([erasing.model.sent, boxing.model.sent, boxing.commits], [[], [], [0]]);
});
