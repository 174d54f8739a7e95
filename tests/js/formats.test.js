// @ts-check
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { same, schedulerText, seedOf, shown, stepsRun, weightText } from "../../helpers/widgets/js/formats.js";

test("the steps that run are those of diffusers", () => {
  const cases = JSON.parse(readFileSync(new URL("./cases/steps.json", import.meta.url), "utf8"));
  for (const [steps, strength, run] of cases) assert.equal(stepsRun(steps, strength), run, `${steps} x ${strength}`);
  assert.equal(stepsRun(50, 0.58), 28);
});

test("numbers are shown as short as they can be", () => {
  assert.deepEqual([null, 7, 7.5, 0.58, 0.1 + 0.2, 25].map(shown), ["", "7", "7.5", "0.58", "0.3", "25"]);
  assert.deepEqual([1, 0.5, 1.25, 0, 2].map(weightText), ["1.0", "0.5", "1.25", "0.0", "2.0"]);
});

test("what Python confirms may differ by rounding alone", () => {
  assert.ok(same(0.1 + 0.2, 0.3) && same("a", "a") && same(null, null));
  assert.ok(!same(0.3, 0.31) && !same(0, null) && !same("1", 1));
});

test("a seed keeps every digit", () => {
  assert.deepEqual(["0", "7", "1e3", "9007199254740991"].map(seedOf), [0, 7, 1000, 2 ** 53 - 1]);
  for (const text of ["9007199254740993", "18446744073709551615", "1.5", "99999999999999999999"]) assert.equal(seedOf(text), text);
});

test("schedulers have short names", () => {
  assert.deepEqual(["DDIMScheduler", "EulerDiscreteScheduler", "UniPCMultistepScheduler", "DPMSolverSinglestepScheduler"].map(schedulerText),
    ["DDIM", "Euler", "UniPC multistep", "DPMSolver singlestep"]);
});
