"""`pytest -s tests/browser/screen_time.py`: from a slider's event to the live image on the screen, beyond the call.

Not collected with the tests, since it measures and asserts nothing: run it on a quiet machine.
"""

from __future__ import annotations

import json
from statistics import median

COUNT = 40
STRENGTHS = [0.6, 0.7, 0.8, 1.0]  # each takes other steps: another image
SETUP = """from helpers import load, load_image, load_mask, Explorer
image, mask = load_image("castle"), load_mask("castle")
explorer = Explorer(load("sd15-inpaint"), image, mask, prompt="a red cat", num_inference_steps=20, live=True)
explorer.wait(120)
explorer"""
CALLS = """import json, time, torch
from diffusers import LCMScheduler
from helpers.pipelines import few_steps
plain = load("sd15-inpaint")
plain.set_progress_bar_config(disable=True)
own, plain = plain.scheduler.config, few_steps.fused(plain)
plain.scheduler = LCMScheduler.from_config(own)
given = explorer.parameters
seed, spent = given.pop("seed"), []
for number in range(COUNT + 5):
    call = few_steps.arguments(given | {"strength": STRENGTHS[number % 4]})
    del call["scheduler"]
    start = time.perf_counter()
    plain(**call, generator=torch.Generator().manual_seed(seed))
    spent.append(1000 * (time.perf_counter() - start))
print(json.dumps(spent[5:]))"""
MOVES = """async (slider, [count, strengths]) => {
  const picture = slider.closest('.explorer').querySelector('.ex-picture'), spent = [];
  for (let number = 0; number < count + 5; number += 1) {
    const shown = new Promise((resolve) => {
      const observer = new MutationObserver(async () => {
        observer.disconnect();
        await picture.decode();
        requestAnimationFrame(() => { const { port1, port2 } = new MessageChannel();  // heard once it is painted
          port1.onmessage = () => resolve(performance.now()); port2.postMessage(0); });
      });
      observer.observe(picture, { attributeFilter: ['src'] });
    });
    const begin = performance.now();
    slider.value = strengths[number % 4];
    slider.dispatchEvent(new Event('input', { bubbles: true }));
    spent.push(await shown - begin);
    await new Promise((resolve) => setTimeout(resolve, 30 + 7 * (number % 10)));  // at any place between two frames
  }
  return spent.slice(5);
}"""


def test_the_time_from_a_sliders_event_to_the_screen(shared_notebook) -> None:
    """Prints the medians: until it is seen, of the plain call of the same image, and what lies between."""
    shared_notebook.write(0, SETUP)
    shared_notebook.run(0, timeout=240)
    root = shared_notebook.widget(".explorer")
    root.locator(".ex-status", has_text="Full image").wait_for(timeout=120_000)
    slider = root.get_by_role("slider", name="Strength", exact=True)
    seen = slider.evaluate(MOVES, [COUNT, STRENGTHS])
    code = f"COUNT, STRENGTHS = {COUNT}, {STRENGTHS}\n{CALLS}"
    calls = json.loads(shared_notebook.python(code, timeout=240))
    beyond = median(seen) - median(calls)
    print(f"\nevent to screen {median(seen):.0f} ms, plain call {median(calls):.0f} ms, beyond it {beyond:.0f} ms")
