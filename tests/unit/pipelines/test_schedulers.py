"""How many steps a scheduler runs: tried without a model, and what is found is what a call finds."""

from __future__ import annotations

import diffusers
import numpy as np
import pytest
import torch

from helpers.pipelines import schedulers
from helpers.pipelines.schedulers import SCHEDULERS, check_steps, class_named

CONFIGS = {  # of the miniatures, and of Stable Diffusion's repositories
    "mini": {"timestep_spacing": "leading", "steps_offset": 1},
    "pndm": {"timestep_spacing": "leading", "steps_offset": 1, "skip_prk_steps": True, "set_alpha_to_one": False},
    "trailing": {"timestep_spacing": "trailing"},
    "linspace": {"timestep_spacing": "linspace"},
    "karras": {"timestep_spacing": "linspace", "use_karras_sigmas": True},
}
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def scheduler(name: str, config: str):
    return getattr(diffusers, name).from_config(diffusers.DDIMScheduler(**BETAS).config | CONFIGS[config])


def whole_run(one, steps: int, strength: float) -> bool:
    """Whether a call's own loop runs these steps to an image of numbers; written apart from what it checks."""
    noise = torch.Generator().manual_seed(1)
    try:
        one.set_timesteps(steps)
        start = steps - min(int(steps * strength), steps)
        times = one.timesteps[start * one.order :]
        if hasattr(one, "set_begin_index"):
            one.set_begin_index(start * one.order)
        latents = torch.randn(2, 4, 2, 2, generator=noise)
        latents = one.add_noise(latents, latents.flip(0), times[:1].repeat(2)) if start else latents
        for time in times:
            output = torch.randn(2, 4, 2, 2, generator=noise) + 0 * one.scale_model_input(latents, time)
            latents = one.step(output, time, latents).prev_sample
    except Exception:
        return False
    return len(times) > 0 and bool(torch.isfinite(latents).all())


def allowed(one, steps: int, strength: float = 1.0) -> bool:
    try:
        check_steps(one, steps, strength=strength)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("name", SCHEDULERS)
def test_what_is_refused_is_what_fails(name) -> None:
    chance = np.random.default_rng(SCHEDULERS.index(name))
    for config in CONFIGS:
        cases = [(steps, 1.0) for steps in (1, 2, 3, 4)]
        cases += [(int(chance.integers(1, 40)), float(chance.uniform(0.05, 1))) for _ in range(2)]
        one = scheduler(name, config)
        for steps, strength in cases:
            assert allowed(one, steps, strength) is whole_run(one, steps, strength), (config, steps, strength)


@pytest.mark.parametrize(
    "name", ["DDIMScheduler", "PNDMScheduler", "UniPCMultistepScheduler", "EulerDiscreteScheduler"]
)
@pytest.mark.parametrize("steps", [999, 1000])
def test_the_end_of_a_long_schedule_is_tried_too(name, steps) -> None:
    assert allowed(scheduler(name, "mini"), steps) is whole_run(scheduler(name, "mini"), steps, 1.0)


def test_a_refusal_names_a_number_that_works() -> None:
    with pytest.raises(ValueError, match=r"num_inference_steps=1000: UniPCMultistepScheduler ends in NaN\. Use .*=\d+"):
        check_steps(scheduler("UniPCMultistepScheduler", "mini"), 1000)
    with pytest.raises(ValueError, match=r"num_inference_steps=2: PNDMScheduler fails .*Use num_inference_steps=4, or"):
        check_steps(scheduler("PNDMScheduler", "mini"), 2)
    check_steps(scheduler("PNDMScheduler", "mini"), 4)
    with pytest.raises(ValueError, match=r"steps=9 with denoising_end=0\.01: .* has no step left to run"):
        check_steps(scheduler("DDIMScheduler", "mini"), 9, end=0.01)


def test_trying_changes_nothing(monkeypatch) -> None:
    one, state = scheduler("EulerAncestralDiscreteScheduler", "mini"), torch.get_rng_state()
    schedulers._problem.cache_clear()
    check_steps(one, 25, strength=0.5)
    assert one.num_inference_steps is None and torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr(schedulers, "_finite", lambda *_: pytest.fail("tried twice"))
    check_steps(one, 25, strength=0.5)
    check_steps(one, 25, strength=0.51)  # the same steps
    check_steps(diffusers.FlowMatchEulerDiscreteScheduler(), 3)  # of a kind that this course does not know


@pytest.mark.parametrize("name", ["DDIMSheduler", "UNet2DConditionModel", "Scheduler", "", None, 3])
def test_only_a_scheduler_is_one(name) -> None:
    with pytest.raises(ValueError, match=r"scheduler=.*: diffusers has no such scheduler"):
        class_named(name)
    assert class_named("DDIMScheduler") is diffusers.DDIMScheduler
