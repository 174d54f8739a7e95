"""The Python side of TokenWeights; what a browser makes of it is in tests/browser/test_token_weights.py."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import TokenWeights, weigh
from helpers.generation.records import make
from helpers.pipelines.loading import load
from helpers.pipelines.prompt_syntax import escape
from helpers.widgets import token_weights
from tests.support.calls import half_mask, noise
from tests.support.queue import LONG
from tests.support.tiny import quiet
from tests.support.widgets import Browser, same

pytestmark = pytest.mark.usefixtures("tiny_course")


@pytest.fixture
def sd():
    return quiet("sd15")


@pytest.fixture
def sliders():
    """Makes TokenWeights of few steps, waits for their first image, and closes them."""
    made = []

    def sliders(*arguments, wait: bool = True, **call) -> TokenWeights:
        widget = TokenWeights(*arguments, **{"num_inference_steps": 2} | call)
        widget.browser = Browser(widget)
        made.append(widget)
        assert not wait or widget.wait(LONG)
        return widget

    yield sliders
    for widget in made:
        widget.close()


@pytest.fixture
def widget(sliders, sd):
    return sliders(sd, "a (red)1.3 cat, 8k")


def send(widget, weights, *, moving: bool = False) -> None:
    widget.browser.send("change", weights=weights, moving=moving)
    assert widget.wait(LONG)


def test_the_image_is_that_of_the_weighed_call(widget, sd) -> None:
    assert (widget.words, widget.weights) == (["a", "red", "cat", "8k"], [1.0, 1.3, 1.0, 1.0])
    assert widget.weighted == "a (red)1.3 cat, 8k"
    made = make(sd, seed=0, num_inference_steps=2, **weigh(sd, widget.weighted))
    assert same(widget.image, made.image) and same(widget.browser.image("_picture"), made.image)
    assert widget.record.key() == made.key()
    assert (widget.browser.phase, widget.browser.kind, widget.browser.text) == ("done", "full", "")
    assert repr(widget) == "TokenWeights(StableDiffusionPipeline, 'a (red)1.3 cat, 8k')"


def test_the_image_follows_what_is_set_in_python(widget, sd) -> None:
    def expected(prompt):
        return make(sd, seed=0, num_inference_steps=2, **weigh(sd, prompt)).image

    widget.weights = [1, 0.5, 0.5, 1]
    assert widget.wait(LONG) and widget.weighted == "a (red cat)0.5, 8k"
    weighed = widget.image
    assert same(weighed, expected(widget.weighted))
    widget.plain = True
    assert widget.wait(LONG) and widget.weights == [1.0, 0.5, 0.5, 1.0]
    assert same(widget.image, expected("a red cat, 8k")) and not same(widget.image, weighed)
    widget.plain = False
    assert widget.wait(LONG) and same(widget.image, weighed)


def test_a_moving_slider_makes_drafts_and_a_chosen_value_the_image(sliders, sd) -> None:
    widget = sliders(sd, "a cat", num_inference_steps=9)
    first = widget.image
    send(widget, [1, 1.5], moving=True)
    assert widget.browser.kind == "draft" and widget.weights == [1.0, 1.0] and widget.weighted == "a (cat)1.5"
    send(widget, [1, 1.5])
    assert widget.browser.kind == "full" and widget.weights == [1.0, 1.5] and not same(widget.image, first)
    send(widget, [1, 1.2], moving=True)
    send(widget, [1, 1.5])  # back to where it was: the draft must go
    assert widget.browser.kind == "full" and widget.weighted == "a (cat)1.5"


def test_it_inpaints_too(sliders, inpaint) -> None:
    call = {"image": noise(1), "mask_image": half_mask(), "num_inference_steps": 2, "seed": 5}
    widget = sliders(inpaint, "a (red)1.5 cat", "blurry", **call)
    assert same(widget.image, make(inpaint, **call, **weigh(inpaint, "a (red)1.5 cat", "blurry")).image)


def test_a_slider_waits_for_no_model(sliders, sd) -> None:
    widget = sliders(sd, "a cat", num_inference_steps=3)
    where, computing, go_on = [], threading.Event(), threading.Event()
    sd.text_encoder.register_forward_pre_hook(lambda *_: where.append(threading.current_thread().name) or None)
    sd.unet.register_forward_pre_hook(lambda *_: (computing.set(), go_on.wait(LONG)) and None)
    for weights in ([1, 1.5], [1, 0.5]):
        widget.browser.send("change", weights=weights, moving=False)
        assert computing.wait(LONG) and widget.browser.phase == "running"
    go_on.set()
    assert widget.wait(LONG) and widget.weighted == "a (cat)0.5" and widget.browser.phase == "done"
    assert set(where) == {"course-worker"}


@pytest.mark.parametrize(
    ("prompt", "weights", "weighted"),
    [
        ("a (red cat)1.3, 8k", [1, 1.3, 1.3, 1], "a (red cat)1.3, 8k"),
        ("a red++ cat.", [1, 1.21, 1], "a (red)1.21 cat."),
        (r"a \(red\) (c\+\+)0.5", [1, 1, 0.5], r"a \(red\) (c\+\+)0.5"),
        ("sci-fi 1.5 (cat)0 !", [1, 1, 0], "sci-fi 1.5 (cat)0!"),
        ("(a, b)1.5, c", [1.5, 1.5, 1], "(a)1.5, (b)1.5, c"),
        ("16:9, 3:2 castle --ar", [1] * 4, "16:9, 3:2 castle --ar"),
        ("(16:9 3:2)0.5 (f\\:1.8)2 castle-", [0.5, 0.5, 2, 0.9], r"(16:9 3:2)0.5 (f\:1.8)2 (castle)0.9"),
        (r"C\+\+ (\[V\])1.2 5\" a\\ (b)0.5", [1, 1.2, 1, 1, 0.5], r"C\+\+ (\[V\])1.2 5\" a\\ (b)0.5"),
        ("day - (night)1.3 \\-", [1, 1.3], r"day \- (night)1.3 \-"),
        ("Köln – “x” 😀 (猫)1.3", [1, 1, 1.3], "Köln – “x” 😀 (猫)1.3"),
    ],
)
def test_weights_are_read_and_written(sliders, sd, prompt, weights, weighted) -> None:
    for text in (prompt, weighted):
        widget = sliders(sd, text, wait=False)
        widget.cancel()
        assert (widget.weights, widget.weighted) == (weights, weighted)


SIGNS = "ab1 .,:;!?()+-\"'[]{}\\<>|~*=^/_%&#@$`—–“”’»…éß猫😀\u200b\u00a0（）：１\n"


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.one_of(st.sampled_from(SIGNS), st.characters(exclude_categories=["Cs"])), max_size=14),
    st.lists(st.integers(0, 40), min_size=14, max_size=14),
)
def test_whatever_the_sliders_write_reads_back(text, places) -> None:
    """Any text in itself and as plain words, at any place of its sliders."""
    for prompt in (text, escape(text)):
        try:
            parts, weights = token_weights._read(prompt)
        except ValueError:  # refused, or without words
            continue
        chosen = [place / 20 for place in places[: len(weights)]]
        for values in (weights, chosen):
            assert token_weights._read(token_weights._written(parts, values)) == (parts, values)


@pytest.mark.parametrize(
    ("prompt", "error", "said"),
    [
        (3, TypeError, "prompt: expected a text, got int 3"),
        ("a (cat", ValueError, "'(' at position 3"),
        ('("a", "b").blend(1, 1)', ValueError, "no single words to weigh"),
        ('("a", "b").and()', ValueError, "no single words to weigh"),
        ("...", ValueError, "has no words to weigh"),
        ("a (cat)2.5", ValueError, "the weight of 'cat' is 2.5: the sliders go from 0 to 2"),
    ],
)
def test_prompts_without_sliders_are_refused(sd, prompt, error, said) -> None:
    with pytest.raises(error) as caught:
        TokenWeights(sd, prompt)
    assert said in str(caught.value)


def test_calls_that_cannot_be_made_are_refused(sd) -> None:
    with pytest.raises(TypeError, match="prompt_embeds: the sliders make it"):
        TokenWeights(sd, "a cat", prompt_embeds=1)
    with pytest.raises(TypeError, match="strenght.*does not take it"):
        TokenWeights(sd, "a cat", strenght=1)
    with pytest.raises(ValueError, match="its text goes through a prior"):
        TokenWeights(load("kandinsky22"), "a cat")
    with pytest.raises(ValueError, match="leaves no step to run"):
        TokenWeights(load("sd15", task="image2image"), "a", image=noise(1), strength=0.1, num_inference_steps=5)


def test_wrong_weights_are_refused_and_change_nothing(widget) -> None:
    before = widget.weights
    with pytest.raises(ValueError, match="weights has 2 numbers for 4 words: a, red, cat, 8k"):
        widget.weights = [1, 1]
    with pytest.raises(ValueError, match="the weight of 'red' is 3: the sliders go from 0 to 2"):
        widget.weights = [1, 3, 1, 1]
    send(widget, [1, -1, 1, 1])
    assert "the weight of 'red' is -1" in widget.browser.text and widget.browser.phase == "failed"
    assert widget.weights == before
