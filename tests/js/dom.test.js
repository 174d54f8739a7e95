// @ts-check
import assert from "node:assert/strict";
import test from "node:test";
import { follow, hear, keepKeys, save, widget } from "../../helpers/widgets/js/dom.js";
import { newModel } from "./page.js";

test("a model is followed until the view goes", () => {
  const model = newModel(), life = new AbortController();
  let told = 0;
  follow(model, ["left", "right"], () => { told++; }, life.signal);
  hear(model, "msg:custom", () => {}, life.signal);
  save(model, { left: 1, right: 2, other: 3 });
  assert.deepEqual([told, model.saved, model.count()], [2, 1, 3]);
  life.abort();
  save(model, { left: 5 });
  assert.deepEqual([told, model.count()], [2, 0]);
});

test("all views share what the widget opened", async () => {
  const seen = [];
  const made = widget(async () => ({}), (shared) => { seen.push(shared); })();
  const context = {};
  await made.initialize(context);
  made.render(context);
  made.render(context);
  assert.equal(seen.length, 2);
  assert.equal(seen[0], seen[1]);
});

test("keys stay in the widget, and the notebook keeps its own", () => {
  const window = new EventTarget(), life = new AbortController();
  Object.assign(globalThis, { window });
  const root = ({ contains: (node) => node === window });
  keepKeys(root, life.signal, ({ key }) => key === "a", ({ key }) => key === "z");

  /** Whether a key was acted on, and whether it reached the notebook. */
  const press = (key, more = {}) => {
    let reached = false;
    const event = Object.assign(new Event("keydown", { cancelable: true }), { key, getModifierState: () => false, ...more });
    const after = () => { reached = true; };
    window.addEventListener("keydown", after, { once: true });
    window.dispatchEvent(event);
    window.removeEventListener("keydown", after);
    return [event.defaultPrevented, reached];
  };
  assert.deepEqual(press("a"), [true, false]);
  assert.deepEqual(press("d"), [false, false]);
  assert.deepEqual(press("Tab"), [false, true]);
  assert.deepEqual(press("Enter", { shiftKey: true }), [false, true]);
  assert.deepEqual(press("z", { ctrlKey: true }), [true, false]);
  assert.deepEqual(press("s", { ctrlKey: true }), [false, true]);
  assert.deepEqual(press("[", { ctrlKey: true, getModifierState: () => true }), [false, false]);
  life.abort();
  assert.deepEqual(press("a"), [false, true]);
});
