"""Chapter 04's checks accept right answers, whatever way they were made, and say of a wrong one what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from helpers import keep_unmasked, load_image, load_mask
from tests.support.answers import hint, right


def test_thirty_three_channels() -> None:
    right("04.1", 33)
    right("04.1", 33.0)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (9, "latents of 4 channels: 4 + 1 + 4"),
        (16, "what a regular UNet takes"),
        (32, "where the mask is"),
        (17, "The image around the hole"),
        (18, "as many channels as what is being painted"),
        (20, "it has 16 channels, not 3"),
        (48, "The mask is one channel"),
        (12, "Got 12. Add up the three parts"),
    ],
)
def test_wrong_numbers_of_channels_are_told_apart(answer: object, said: str) -> None:
    assert said in hint("04.1", answer)


def test_the_pipelines_own_line_is_accepted_however_it_is_written() -> None:
    right("04.2", lambda latents, original, mask: (1 - mask) * original + mask * latents)
    right("04.2", lambda latents, original, mask: torch.lerp(original, latents, mask.expand_as(latents)))
    right("04.2", lambda latents, original, mask: original + (latents - original) * mask)


def written_into(latents, original, mask):
    latents *= mask
    latents += (1 - mask) * original
    return latents


def without_return(latents, original, mask):
    (1 - mask) * original + mask * latents


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda latents, original, mask: mask * original + (1 - mask) * latents, "1 in the mask means repaint"),
        (lambda latents, original, mask: latents, "It returns latents unchanged"),
        (lambda latents, original, mask: original.clone(), "It returns original unchanged"),
        (lambda latents, original, mask: mask * latents, "Outside the mask it gives 0"),
        (lambda latents, original, mask: mask * latents + original, "Weight it by 1 - mask"),
        (lambda latents, original, mask: torch.where(mask >= 0.5, latents, original), "a quarter new"),
        (lambda latents, original, mask: latents + original, "right neither at 1 nor at 0"),
        (lambda latents, original, mask: (mask * latents)[:1], "expected the shape of latents, (2, 4, 8, 8)"),
        (lambda latents, original, mask: 3, "should return latents, a tensor, and returned 3"),
        (lambda latents, original: latents, "stopped with TypeError"),
        (written_into, "It changes its arguments in place"),
        (without_return, "does its last line begin with return?"),
        (torch.zeros(2, 4, 8, 8), "Expected the function itself"),
    ],
)
def test_wrong_mixtures_are_told_apart(answer: object, said: str) -> None:
    assert said in hint("04.2", answer)


def processor(**changed: object) -> VaeImageProcessor:
    return VaeImageProcessor(**{"do_normalize": False, "do_convert_grayscale": True} | changed)


def test_a_processor_that_keeps_greys_is_accepted() -> None:
    right("04.3", processor())
    right("04.3", processor(vae_scale_factor=4, resample="bilinear"))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (processor(do_binarize=True), "still cut at 50 %"),
        (processor(do_normalize=True), "It turns black into -1"),
        (VaeImageProcessor(), "It turns black into -1"),
        (processor(do_convert_grayscale=False), "comes out with 3 channels"),
        (processor(do_resize=False), "Leave do_resize on"),
        (VaeImageProcessor, "VaeImageProcessor(...) with its arguments"),
        ("do_binarize=False", "Expected a VaeImageProcessor, got 'do_binarize=False'"),
    ],
)
def test_wrong_processors_are_told_apart(answer: object, said: str) -> None:
    assert said in hint("04.3", answer)


def test_a_processor_that_changes_the_greys_is_told() -> None:
    class Lighter(VaeImageProcessor):
        def preprocess(self, *args, **named):
            return super().preprocess(*args, **named) ** 0.5

    assert "The greys come out changed, by up to 0.25" in hint(
        "04.3", Lighter(do_normalize=False, do_convert_grayscale=True)
    )


@pytest.fixture(scope="module")
def road() -> Image.Image:
    return load_image("road")


def erased(inside: str, outside: int) -> Image.Image:
    """The road as a pipeline might return it: another colour in the mask, `outside` grey levels off around it."""
    road = load_image("road")
    around = Image.fromarray((np.asarray(road).astype(int) + outside).clip(0, 255).astype(np.uint8))
    return Image.composite(Image.new("RGB", road.size, inside), around, load_mask("road"))


def test_two_erased_rocks_are_right_and_the_rest_is_told_apart(road) -> None:
    regular, special = erased("#777777", 2), erased("#888888", 5)
    right("04.4", [regular, special, keep_unmasked(road, special, load_mask("road"))])
    right("04.4", (regular, special, keep_unmasked(road, special, load_mask("road"))))
    mask, regular, special = load_mask("road"), erased("#777777", 2), erased("#888888", 5)
    kept, swapped = keep_unmasked(road, special, mask), keep_unmasked(special, road, mask)
    assert "special: expected a PIL image" in hint("04.4", [regular, "special", kept])
    assert "kept has 64 x 64 pixels, expected" in hint("04.4", [regular, special, kept.resize((64, 64))])
    assert "regular still shows the rock" in hint("04.4", [road, special, kept])
    assert "kept still shows the rock" in hint("04.4", [regular, special, swapped])
    assert "The first two are the same image" in hint("04.4", [special, special, kept])
    assert "one has its unmasked pixels put back already" in hint("04.4", [kept, special, kept])
    assert "kept differs by 4.9 grey levels, expected 0" in hint("04.4", [regular, special, special])
    assert "The first changed more outside the mask (4.9" in hint("04.4", [special, regular, kept])
    other = keep_unmasked(road, regular, mask)
    assert "kept is not the second image (17.0 grey levels apart)" in hint("04.4", [regular, special, other])
