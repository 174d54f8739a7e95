// @ts-check
// Numbers as they are read, and what they lead to.

/** A value as a number box shows it: two digits at most. */
export const shown = (value) => (value === null ? "" : String(Number(value.toFixed(2))));

/** A word's weight: one digit at least, two at most. */
export const weightText = (value) => value.toFixed(2).replace(/0$/, "");

/** How many steps run at this strength, by the pipelines' own arithmetic: 50 x 0.58 is less than 29 in binary, and 28 run. */
export const stepsRun = (numInferenceSteps, strength) => Math.min(Math.trunc(numInferenceSteps * strength), numInferenceSteps);

/** Whether Python says what was sent. */
export const same = (one, other) =>
  one === other || (typeof one === "number" && typeof other === "number" && Math.abs(one - other) < 1e-9);

/** A seed as it is sent: as text where a number would lose its digits. */
export const seedOf = (text) => (Number.isSafeInteger(Number(text)) ? Number(text) : text.trim());

/** A scheduler's class as people call it. */
export const schedulerText = (name) => name.replace(/(Discrete|Multistep|Singlestep)?Scheduler$/,
  (_, kind) => (kind && kind !== "Discrete" ? ` ${kind.toLowerCase()}` : ""));
