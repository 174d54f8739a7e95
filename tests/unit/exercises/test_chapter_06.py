"""Chapter 06's checks accept right answers, whatever way they were made, and say of a wrong one what is wrong."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import keep_unmasked, load, load_image, outpaint, switch
from helpers.exercises import chapter_06
from tests.support.answers import hint, right


def test_the_four_numbers() -> None:
    right("06.1", (3, 4, 0, 1))
    right("06.1", [3, 4, 0, 1])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((4, 4, 0, 1), "encodes with images: got 4. The first call begins with words"),
        ((3, 3, 0, 1), "decodes with images: got 3. Every one of the four calls ends in an image"),
        ((3, 4, 1, 1), "encodes in latents: got 1. Who would have to encode?"),
        ((3, 4, 0, 0), "decodes in latents: got 0. Only what you look at in the end"),
        ((3, 4, 0, 1.0), "whole numbers only"),
    ],
)
def test_wrong_numbers_are_told_apart(answer: object, said: str) -> None:
    assert said in hint("06.1", answer)


@pytest.mark.parametrize("answer", ["acdg", "gdca", "a, c, d, g", {"a", "c", "d", "g"}, ["A", "C", "D", "G"]])
def test_the_letters_in_any_order(answer: object) -> None:
    right("06.2", answer)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("cdg", "a: sd15 and comic share a latent space"),
        ("abcdg", "b goes from SD 1.5 to SDXL"),
        ("acdeg", "e: the x4 upscaler looks at the small image itself"),
        ("acdfg", "f: Kandinsky encodes whatever it is given"),
        ("acdgh", "h: SD inpainting cuts the hole out of an image"),
        ("abcdefgh", "b goes from SD 1.5 to SDXL: the shape fits, but the numbers mean something else. (3 more"),
        ("acdx", "'x' is not one of the letters a to h"),
        (7, "Expected the letters as one text"),
    ],
)
def test_wrong_letters_are_told_apart(answer: object, said: str) -> None:
    assert said in hint("06.2", answer)


def test_the_catalogue_and_handoff_agree_with_the_letters() -> None:
    from helpers.catalog.checkpoints import CATALOG

    spaces = {"a": ("sd15", "comic"), "b": ("sd15", "sdxl-refiner"), "c": ("sdxl-inpaint", "sdxl-refiner")}
    spaces |= {"d": ("comic", "upscale-x2"), "g": ("upscale-x2", "pixel-art")}
    for letter, (one, other) in spaces.items():
        same = CATALOG[one].latent_space == CATALOG[other].latent_space
        assert same == chapter_06.HAND_OFFS[letter][0], letter


@pytest.fixture(scope="module")
def walked() -> list[torch.Tensor]:
    """Latents of the beach and of two pictures near it, as three calls might return them."""
    pipe, picture = load("sd15"), load_image("seashore")
    with torch.no_grad():
        pixels = pipe.image_processor.preprocess(picture)
        latents = pipe.vae.encode(pixels).latent_dist.mode() * pipe.vae.config.scaling_factor
    return [latents, latents * 0.9, latents * 0.8]


def scored(monkeypatch, value: float) -> None:
    monkeypatch.setattr(chapter_06, "adherence", lambda picture, prompt: value)


def test_three_gentle_steps_are_right_and_the_rest_is_told_apart(monkeypatch, walked) -> None:
    scored(monkeypatch, 0.9)
    right("06.3", walked)
    right("06.3", tuple(one[0] for one in walked))
    scored(monkeypatch, 0.2)
    assert "the classifier gives it 0.20 out of 1" in hint("06.3", walked)
    scored(monkeypatch, 0.9)
    first, second, third = walked
    assert "Number 2: expected latents, a tensor" in hint("06.3", [first, load_image("seashore"), third])
    small = torch.zeros(1, 4, 4, 4)
    assert "Number 3 has the shape (1, 4, 4, 4)" in hint("06.3", [first, second, small])
    assert "Number 1 holds values that are not finite" in hint("06.3", [first * torch.nan, second, third])
    assert "Two in a row are the same" in hint("06.3", [first, first, third])
    assert "The first is far from the beach" in hint("06.3", [-3 * first, second, third])


def wider(border: str | None = None, *, side: str = "left", size: int | None = None) -> Image.Image:
    """The winter picture with a border in one colour, or as outpaint fills it."""
    winter = load_image("winter")
    canvas, mask = outpaint(winter, overlap=8, **{side: size or winter.width // 4})
    return canvas if border is None else keep_unmasked(canvas, Image.new("RGB", canvas.size, border), mask)


def test_a_painted_border_is_right_and_the_rest_is_told_apart() -> None:
    right("06.4", wider("#c8d8f0"))
    winter = load_image("winter")
    made = wider("#c8d8f0")
    assert "It has grown on the right" in hint("06.4", wider("#c8d8f0", side="right"))
    assert f"It is {winter.width} x {winter.height} pixels, expected" in hint("06.4", winter)
    assert "still as outpaint filled it" in hint("06.4", wider())
    noisy = Image.fromarray((np.asarray(made).astype(int) + 3).clip(0, 255).astype(np.uint8))
    assert "keep_unmasked(canvas, painted, mask) puts it back" in hint("06.4", noisy)


def pipes(scheduler: str = "EulerDiscreteScheduler"):
    import diffusers

    pipe = load("sd15", task="image2image")
    pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
    return pipe, switch(pipe, "inpaint")


def test_two_pipelines_around_one_unet_are_right_and_the_rest_is_told_apart() -> None:
    right("06.5", pipes())
    right("06.5", list(pipes()))
    pipe, other = pipes()
    assert "The second is not a pipeline with a UNet: got 'inpaint'" in hint("06.5", [pipe, "inpaint"])
    assert "The first is StableDiffusionInpaintPipeline" in hint("06.5", [other, pipe])
    assert "The second is StableDiffusionImg2ImgPipeline" in hint("06.5", [pipe, pipe])
    assert "a UNet each" in hint("06.5", [pipe, load("sd15-inpaint")])
    shared = type(other)(**pipe.components, requires_safety_checker=False)
    assert "They share one scheduler object" in hint("06.5", [pipe, shared])
    assert "change the scheduler before you build the second" in hint("06.5", [pipe, load("sd15", task="inpaint")])
    assert "are DDIMScheduler, expected EulerDiscreteScheduler" in hint("06.5", pipes("DDIMScheduler"))
    assert "The first is not a pipeline" in hint("06.5", [SimpleNamespace(), other])
