"""The page's JavaScript beside what it repeats: torch's random numbers, CLIP's tokens, diffusers' schedulers."""

from __future__ import annotations

import random

import diffusers
import numpy as np
import pytest
import torch

from docs.site import export
from helpers import load
from helpers.pipelines import latent_preview
from tests.support.node import NODE, run_module

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed: make test installs one")
PAGE = export.Path(export.__file__).parent / "play"


@pytest.fixture(scope="module")
def pipe():
    return load(export.INPAINT)


@pytest.mark.parametrize("sizes", [[16], [1024, 1024], [20, 16, 35], [5000]])
def test_a_seed_draws_what_it_draws_in_torch(sizes) -> None:
    seeds = [0, 92, 2**32 - 1, 2**33 + 5]
    code = """return given.seeds.map((seed) => {
        const generator = new module.Generator(BigInt(seed));
        return given.sizes.flatMap((size) => [...generator.randn(size)]);
    });"""
    drawn = run_module(PAGE / "random.js", code, {"seeds": [str(seed) for seed in seeds], "sizes": sizes})
    for seed, found in zip(seeds, drawn, strict=True):
        generator = torch.Generator("cpu").manual_seed(seed)
        expected = torch.cat([torch.randn(size, generator=generator) for size in sizes])
        assert np.abs(np.array(found) - expected.numpy()).max() < 1e-6


def prompts() -> list[str]:
    """A few hundred: the world's words, any letters of any script, spaces of all kinds, and what is special."""
    rng = random.Random(7)
    words = "a the cat castle house's don't glowing 8k 3.14 (red:1.3) sea-shore".split()
    words += "naïve ÅNGSTRÖM ΟΔΟΣ İstanbul 日本語 🐈‍⬛ �".split()
    letters = [
        chr(point) for point in (*range(1, 0x250), 0x3A3, 0x3C2, 0x1E9E, 0x85, 0xA0, 0xFEFF, 0x2028, 0x3000, 0x1F600)
    ]
    special = ["<|startoftext|>", "<|endoftext|>", "<|ENDOFTEXT|>", "<|unknown|>", "</w>", "'s", "'LL"]
    made = ["", " ", "\n\t", "cat", "Cat  CAT", "a" * 200, "cat " * 75, "cat " * 74, "cat " * 76, *special]
    for _ in range(150):
        made.append(" ".join(rng.choices(words, k=rng.randint(1, 12))))
        made.append("".join(rng.choices(letters + special + [" "] * 30, k=rng.randint(1, 60))))
    return made


@pytest.mark.filterwarnings("ignore:This miniature cannot read")
def test_tokens_are_those_of_the_tokenizer(pipe) -> None:
    given = prompts()
    code = "const tokenize = module.newTokenizer(given.tables); return given.prompts.map((prompt) => tokenize(prompt));"
    found = run_module(
        PAGE / "tokenizer.js", code, {"tables": export.describe_tokenizer(pipe.tokenizer), "prompts": given}
    )
    length = pipe.tokenizer.model_max_length
    expected = pipe.tokenizer(given, padding="max_length", max_length=length, truncation=True).input_ids
    wrong = {prompt: (a["ids"], b) for prompt, a, b in zip(given, found, expected, strict=True) if a["ids"] != b}
    assert wrong == {}
    whole = [len(ids) for ids in pipe.tokenizer(given).input_ids]
    assert [one["cut"] for one in found] == [max(0, count - length) for count in whole]
    assert any(one["cut"] for one in found)


@pytest.mark.parametrize("name", ["UniPC", "DDIM", "Euler"])
@pytest.mark.parametrize(("steps", "first"), [(1, 0), (2, 0), (8, 0), (20, 0), (20, 9), (50, 49), (7, 5)])
def test_a_scheduler_takes_the_steps_of_diffusers(pipe, name, steps, first) -> None:
    code = """
        const scheduler = new module.SCHEDULERS[given.name](given.config, given.steps);
        const noise = Float32Array.from(given.noise);
        const scaled = [], after = [];
        let sample = scheduler.noised(Float32Array.from(given.start), noise, given.first);
        const begun = [...sample];
        for (let i = given.first; i < given.steps; i++) {
            const input = module.blend([scheduler.scale(i), sample]);
            scaled.push([...input]);
            sample = scheduler.step(input.map((value) => Math.tanh(value)), i, sample).next;
            after.push([...sample]);
        }
        return { times: scheduler.timesteps, initial: scheduler.initial, begun, scaled, after };
    """
    kind = code_name(name)
    scheduler = getattr(diffusers, kind).from_config(pipe.scheduler.config)
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    generator = torch.Generator().manual_seed(3)
    start, noise = torch.randn(1, 64, generator=generator), torch.randn(1, 64, generator=generator)
    given = {"name": name, "config": export.describe(pipe)["scheduler"], "steps": steps, "first": first}
    given |= {"start": start[0].tolist(), "noise": noise[0].tolist()}
    found = run_module(PAGE / "schedulers.js", code, given)

    assert found["times"] == [int(time) for time in scheduler.timesteps]
    assert found["initial"] == pytest.approx(float(scheduler.init_noise_sigma), rel=1e-5)
    sample = scheduler.add_noise(start, noise, scheduler.timesteps[first : first + 1])
    assert np.allclose(found["begun"], sample[0], atol=2e-5)
    for i, time in enumerate(scheduler.timesteps[first:]):
        scaled = scheduler.scale_model_input(sample, time)
        assert np.allclose(found["scaled"][i], scaled[0], atol=2e-5), f"the model's input at step {i + 1}"
        sample = scheduler.step(torch.tanh(scaled), time, sample).prev_sample
        assert np.allclose(found["after"][i], sample[0], atol=1e-4), f"step {i + 1}"


def code_name(name: str) -> str:
    return run_module(PAGE / "schedulers.js", "return module.SCHEDULERS[given].className;", name)


def test_a_preview_is_that_of_the_course(pipe) -> None:
    latent_map = latent_preview.map_of(pipe.vae)
    latents = np.random.default_rng(2).normal(0, 2, (4, 6, 6))
    given = {"latents": latents.ravel().tolist(), "map": export.describe(pipe)["preview"]}
    code = "return [...module.preview(Float32Array.from(given.latents), 6, given.map)];"
    found = np.array(run_module(PAGE / "preview.js", code, given)).reshape(6, 6, 4)
    assert np.abs(found[..., :3] - latent_map(latents).astype(int)).max() <= 1
    assert (found[..., 3] == 255).all()
