// @ts-check
import assert from "node:assert/strict";
import test from "node:test";
import { Viewport } from "../../helpers/widgets/js/viewport.js";

function open(width, height) {
  const viewport = new Viewport(width, height, () => {});
  viewport.resize(856, 640);
  return viewport;
}

test("an image fills its room; a small one is enlarged to 512 pixels", () => {
  const large = open(1712, 800), small = open(128, 64);
  assert.deepEqual([large.scale, large.wide, large.high], [0.5, 856, 400]);
  assert.deepEqual([small.scale, small.wide, small.high], [4, 512, 256]);
  assert.deepEqual([open(1500, 8).high, open(90, 700).high], [48, 640]);
});

test("zooming keeps the point under the pointer", () => {
  const viewport = open(256, 256), point = { x: 401, y: 121 }, before = viewport.toImage(point);
  for (let i = 0; i < 6; i++) viewport.zoom(1.5, point);
  assert.equal(viewport.scale, 2 * 1.5 ** 6);
  const after = viewport.toImage(point), back = viewport.toFrame(after);
  for (const [one, other] of [[before.x, after.x], [before.y, after.y], [back.x, 401], [back.y, 121]]) {
    assert.ok(Math.abs(one - other) < 1e-9);
  }
  viewport.zoom(1000);
  assert.equal(viewport.scale, 32);
});

test("an image is moved as far as it still fills its frame, and not at all where it is all seen", () => {
  const viewport = open(256, 256);
  viewport.pan(50, 50);
  assert.deepEqual([viewport.x, viewport.y], [0, 0]);
  viewport.zoom(2);
  viewport.pan(9999, -9999);
  assert.deepEqual([viewport.x, viewport.y], [0, -512]);
  viewport.zoom(0);
  assert.deepEqual([viewport.scale, viewport.fitted, viewport.x], [2, true, 0]);
});

test("what changes is told", () => {
  let told = 0;
  const viewport = new Viewport(64, 64, () => { told++; });
  viewport.resize(500, 500);
  viewport.pan(1, 1);
  viewport.zoom(2);
  assert.equal(told, 3);
});

test("a frame that is filled shows all of the image, and nothing zooms", () => {
  const view = new Viewport(128, 96, () => {});
  view.fill(384);
  assert.deepEqual([view.scale, view.wide, view.high, view.x, view.y], [3, 384, 288, 0, 0]);
  view.zoom(2);
  view.pan(10, 10);
  assert.deepEqual([view.scale, view.x, view.y], [3, 0, 0]);
  assert.deepEqual(view.toImage({ x: 192, y: 144 }), { x: 64, y: 48 });
  view.fill(192);
  assert.deepEqual([view.scale, view.wide, view.high], [1.5, 192, 144]);
});
