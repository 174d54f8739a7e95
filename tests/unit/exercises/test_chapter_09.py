"""Chapter 09's checks accept right answers and say of a wrong one what is wrong."""

import math

import torch

from helpers import check
from helpers.exercises import chapter_09
from helpers.generation.records import Record
from miniature_training.world.scenes import Scene, draw
from tests.support.answers import hint

HOUSE = draw(Scene(1, "house", "red", "snow"), 128).image
CASTLE = draw(Scene(1, "castle", "purple", "meadow"), 128).image


def record(picture=HOUSE, error=None, scheduler="UniPCMultistepScheduler", **parameters):
    origin = {"schedulers": {"scheduler": {"class": scheduler}}}
    return Record(picture, {"seed": 0, **parameters}, 0.0, origin, error=error)


def test_the_latents_of_a_call_are_counted():
    assert check("09.1", 240) and check("09.1", 240.0)
    assert "asked twice" in hint("09.1", 120)
    assert "The call makes four" in hint("09.1", 60)
    assert "On how many latents at once" in hint("09.1", 30)
    assert "That is one step" in hint("09.1", 8)
    assert "UniPC takes 30" in hint("09.1", 248)
    assert "Got 7. Multiply" in hint("09.1", 7)


def right(dear, before, after):
    return math.ceil(dear / (before - after)) if after < before else None


def test_a_function_that_rounds_up_is_accepted():
    assert check("09.2", right)


def test_other_functions_are_told_what_they_returned():
    assert "Expected a function, got 16" in hint("09.2", 16)
    assert "pays_back(8, 1, 0.5) returned None, expected 16" in hint("09.2", lambda *_: None)
    assert "returned 13.33. There are no fractions of a call: round up, to 14" in hint(
        "09.2", lambda c, b, a: c / (b - a)
    )
    assert "After 13 calls it has not paid back yet" in hint("09.2", lambda c, b, a: int(c // (b - a)))
    assert "each call saves 0.5 seconds" in hint("09.2", lambda c, b, a: c / b)
    assert "divides by zero" in hint("09.2", lambda c, b, a: math.ceil(c / (b - a)))
    endless = lambda c, b, a: math.inf if a >= b else right(c, b, a)  # noqa: E731
    assert "it never pays back, so return None" in hint("09.2", endless)


def houses(**given):
    picture = given.pop("picture", HOUSE)
    parameters = {"prompt": chapter_09.HOUSE, "num_inference_steps": 6} | given
    return [record(picture, **parameters | {"seed": seed}) for seed in range(3)]


def test_three_houses_of_six_steps_are_right_and_the_rest_is_told_apart():
    assert check("09.3", houses())
    assert 'expected "a red house in the snow"' in hint("09.3", houses(prompt="a house"))
    assert "Text-to-image has none" in hint("09.3", houses(image=HOUSE))
    assert "One was made with 20 steps, expected 6 at most" in hint("09.3", houses(num_inference_steps=20))
    assert "Their seeds are [0, 0, 0]" in hint("09.3", [houses()[0]] * 3)
    mixed = houses()[:2] + [record(scheduler="DDIMScheduler", **houses()[2].parameters)]
    assert "made with DDIMScheduler and UniPCMultistepScheduler: choose one" in hint("09.3", mixed)
    assert "Their adherence is" in hint("09.3", houses(picture=CASTLE))


def test_the_full_edition_needs_no_classifier(monkeypatch):
    monkeypatch.setattr(chapter_09, "edition", lambda: "full")
    monkeypatch.setattr(chapter_09, "adherence", None)
    assert check("09.3", houses(picture=CASTLE))


def test_kept_embeddings_are_told_from_others(tiny_course):
    from helpers import load

    pipe = load("sd15")
    positive, negative = pipe.encode_prompt(chapter_09.BOAT, "cpu", 1, True)
    other, _ = pipe.encode_prompt("a house", "cpu", 1, False)
    kept = lambda what, **more: [record(seed=seed, prompt_embeds=what, **more) for seed in (0, 1)]  # noqa: E731
    assert check("09.4", kept(positive)) and check("09.4", kept(positive, negative_prompt_embeds=negative))
    assert "the embeddings of the empty text" in hint("09.4", kept(negative))
    assert "the embeddings of a text other than" in hint("09.4", kept(other))
    assert "has the shape (1, 3, 2), expected (1, 77, 16)" in hint("09.4", kept(torch.zeros(1, 3, 2)))
    assert "One holds the prompt as text" in hint("09.4", kept(positive, prompt=chapter_09.BOAT))
    assert "One has no prompt_embeds" in hint("09.4", [record(seed=0), record(seed=1)])
    assert "Their seeds are [0, 0], expected [0, 1]" in hint("09.4", [record(prompt_embeds=positive)] * 2)


def test_the_faster_offload_that_fits_is_accepted():
    for answer in ("enable_model_cpu_offload", "pipe.enable_model_cpu_offload()", " enable_model_cpu_offload() "):
        assert check("09.5", answer)
    assert "the slowest way" in hint("09.5", "enable_sequential_cpu_offload()")
    assert "it needs more than 8 GB" in hint("09.5", "")
    assert "'enable_vae_tiling' is not what the table says for 8 GB" in hint("09.5", "enable_vae_tiling")
    assert "Expected the name of a method" in hint("09.5", 8)
