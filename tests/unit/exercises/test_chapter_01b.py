"""The exercises of chapter 01b accept the pipeline's own image alone, and know the usual mistakes."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from helpers import invert, load, load_image, load_mask
from helpers.exercises import chapter_01b
from tests.support.answers import hint, right

KNOWN = chapter_01b.KNOWN_Y


def ended(known) -> torch.Tensor:
    return torch.tensor(chapter_01b._ring(known))


def made(task: str | None, seed: int, **call) -> Image.Image:
    pipe = load("sd15", task=task)
    pipe.set_progress_bar_config(disable=True)
    return pipe(**call, generator=torch.Generator("cpu").manual_seed(seed)).images[0]


def test_y_is_put_back_with_its_noise_after_every_step() -> None:
    right("01b.1", ended(lambda z, signal, noise, random: signal * KNOWN + noise * random))
    assert "without its noise" in hint("01b.1", ended(lambda z, signal, noise, random: signal * KNOWN + 0 * random))
    assert "without its noise" in hint("01b.1", ended(lambda z, signal, noise, random: KNOWN + 0 * random))
    late = ended(lambda z, signal, noise, random: z[:, 1] if noise else KNOWN + 0 * random)
    assert "at the very end only" in hint("01b.1", late)
    assert "y should be -0.6 at the end" in hint("01b.1", ended(lambda z, signal, noise, random: z[:, 1]))


def test_other_points_are_told_apart() -> None:
    points = ended(lambda z, signal, noise, random: signal * KNOWN + noise * random)
    assert "You put x back" in hint("01b.1", points.flip(1))
    assert "the chapter's `start`" in hint("01b.1", points.flip(0))
    assert "got an array of shape (41, 300, 2)" in hint("01b.1", torch.zeros(41, 300, 2))
    assert "got 'ring'" in hint("01b.1", "ring")


CAT = {"prompt": "a cat", "negative_prompt": "white", "num_inference_steps": 12, "guidance_scale": 5.0}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, None),
        ({"guidance_scale": 1.0}, "guidance is missing"),
        ({"negative_prompt": None}, "the negative prompt is missing"),
        ({"prompt": "white", "negative_prompt": "a cat"}, "the two answers are swapped"),
        ({"guidance_scale": 7.5}, "7.5 instead of 5"),
        ({"num_inference_steps": 25}, "Check the seed, the number of steps"),
    ],
)
def test_a_cat_is_compared_number_by_number(change, expected) -> None:
    image = made(None, 7, **CAT | change)
    told = right("01b.2", image) if expected is None else hint("01b.2", image)
    assert (expected or "the pipeline's own image") in told


def test_a_pixel_that_differs_is_told() -> None:
    image = made(None, 7, **CAT)
    image.putpixel((0, 0), tuple(level ^ 1 for level in image.getpixel((0, 0))))
    assert "Very close" in hint("01b.2", image)
    assert "Expected" in hint("01b.2", image.resize((64, 64)))
    assert "Expected a PIL image, got an array" in hint("01b.2", torch.zeros(1, 4, 16, 16))


@pytest.mark.parametrize(
    ("strength", "expected"),
    [
        (0.7, None),
        (1.0, "all 15 steps ran"),
        (0.74, "one step too many"),
        (0.34, "only 5 steps"),
        (0.5, "Check the seed"),
    ],
)
def test_a_late_start_is_the_pipelines(strength, expected) -> None:
    call = {"prompt": "a lighthouse at night", "image": load_image("lighthouse"), "num_inference_steps": 15}
    image = made("image2image", 3, strength=strength, **call)
    told = right("01b.3", image) if expected is None else hint("01b.3", image)
    assert (expected or "the pipeline's own image") in told
    if strength == 1.0:
        call.pop("image")
        assert "began with noise alone" in hint("01b.3", made(None, 3, **call))


def test_the_mixing_line_is_the_pipelines() -> None:
    image, mask = load_image("meadow"), load_mask("meadow")
    call = {"prompt": "a red house", "image": image, "num_inference_steps": 15}
    call |= {"height": image.height, "width": image.width}
    right("01b.4", made("inpaint", 2, mask_image=mask, **call))
    assert "the wrong way round" in hint("01b.4", made("inpaint", 2, mask_image=invert(mask), **call))
    nothing = made("inpaint", 2, mask_image=Image.new("L", image.size, 255), **call)
    assert "nothing was put back" in hint("01b.4", nothing)
