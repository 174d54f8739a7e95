"""The Python side of TokenWeights; what a browser makes of it is in tests/browser/test_token_weights.py."""

from __future__ import annotations

import base64
import io
import threading

import pytest
from PIL import Image

from helpers import TokenWeights, weigh
from helpers.generation.records import make
from helpers.pipelines.loading import load
from helpers.widgets import token_weights
from tests.support.calls import half_mask, noise
from tests.support.tiny import tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")
LONG = 120


@pytest.fixture
def sd():
    pipe = load("sd15")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def widget(sd):
    made = TokenWeights(sd, "a (red)1.3 cat, 8k", num_inference_steps=2)
    assert made.wait(LONG)
    yield made
    made.close()


def same(png: bytes, image: Image.Image) -> bool:
    return Image.open(io.BytesIO(png)).convert("RGB").tobytes() == image.tobytes()


def send(widget, weights, *, moving: bool = False) -> list[dict]:
    """A message as the browser sends it; what is answered."""
    answers = []
    plain, widget.send = widget.send, lambda content, buffers=None: answers.append(content)
    try:
        widget._receive(widget, {"kind": "change", "weights": weights, "moving": moving}, [])
    finally:
        widget.send = plain
    assert widget.wait(LONG)
    return answers


def test_the_picture_is_that_of_the_weighed_call(widget, sd) -> None:
    assert (widget.words, widget.weights) == (["a", "red", "cat", "8k"], [1.0, 1.3, 1.0, 1.0])
    assert widget.weighted == "a (red)1.3 cat, 8k"
    made = make(sd, seed=0, num_inference_steps=2, **weigh(sd, widget.weighted))
    assert widget.image.tobytes() == made.image.tobytes() and same(widget._picture, made.image)
    assert widget.record.key() == made.key()
    assert widget._state == {"phase": "done", "draft": False, "text": ""}
    assert repr(widget) == "TokenWeights(StableDiffusionPipeline, 'a (red)1.3 cat, 8k')"


def test_the_picture_follows_weights_set_in_python(widget, sd) -> None:
    widget.weights = [1, 0.5, 0.5, 1]
    assert widget.wait(LONG) and widget.weighted == "a (red cat)0.5, 8k"
    made = make(sd, seed=0, num_inference_steps=2, **weigh(sd, widget.weighted))
    assert widget.image.tobytes() == made.image.tobytes()


def test_the_picture_without_weights_leaves_the_sliders_alone(widget, sd) -> None:
    before = widget.image
    widget.plain = True
    assert widget.wait(LONG) and widget.weights == [1.0, 1.3, 1.0, 1.0]
    made = make(sd, seed=0, num_inference_steps=2, **weigh(sd, "a red cat, 8k"))
    assert widget.image.tobytes() == made.image.tobytes() != before.tobytes()
    widget.plain = False
    assert widget.wait(LONG) and widget.image.tobytes() == before.tobytes()


def test_a_moving_slider_makes_drafts_and_a_chosen_value_the_picture(sd) -> None:
    widget = TokenWeights(sd, "a cat", num_inference_steps=9, draft_steps=1)
    try:
        assert widget.wait(LONG)
        first = widget.image
        assert send(widget, [1, 1.5], moving=True) == [{"kind": "heard"}]
        assert widget._state["draft"] and widget.weights == [1.0, 1.0] and widget.weighted == "a (cat)1.5"
        assert send(widget, [1, 1.5]) == [{"kind": "heard"}]
        assert not widget._state["draft"] and widget.weights == [1.0, 1.5]
        send(widget, [1, 1.2], moving=True)
        send(widget, [1, 1.5])  # back to where it was: the draft must go
        assert not widget._state["draft"] and widget.weighted == "a (cat)1.5"
        assert widget.image.tobytes() != first.tobytes()
    finally:
        widget.close()


def test_it_inpaints_too() -> None:
    pipe = load("sd15-inpaint")
    pipe.set_progress_bar_config(disable=True)
    call = {"image": noise(1), "mask_image": half_mask(), "num_inference_steps": 2, "seed": 5}
    widget = TokenWeights(pipe, "a (red)1.5 cat", "blurry", **call)
    assert widget.wait(LONG)
    made = make(pipe, **call, **weigh(pipe, "a (red)1.5 cat", "blurry"))
    assert widget.image.tobytes() == made.image.tobytes()
    widget.close()


def test_without_a_kernel_a_still_is_seen(widget) -> None:
    data, _ = widget._repr_mimebundle_()
    still = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert still.width >= widget.image.width


@pytest.mark.parametrize(
    ("prompt", "weights", "weighted"),
    [
        ("a (red cat)1.3, 8k", [1, 1.3, 1.3, 1], "a (red cat)1.3, 8k"),
        ("a red++ cat.", [1, 1.21, 1], "a (red)1.21 cat."),
        (r"a \(red\) (c\+\+)0.5", [1, 1, 0.5], r"a \(red\) (c\+\+)0.5"),
        ("sci-fi 1.5 (cat)0 !", [1, 1, 0], "sci-fi 1.5 (cat)0!"),
        ("(a, b)1.5, c", [1.5, 1.5, 1], "(a)1.5, (b)1.5, c"),
    ],
)
def test_weights_are_read_and_written(prompt, weights, weighted) -> None:
    parts, found = token_weights._read(prompt)
    assert found == weights and token_weights._written(parts, found) == weighted
    assert token_weights._read(weighted) == (parts, found)


# Refusals


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
    image = load("sd15", task="image2image")
    with pytest.raises(ValueError, match="leaves no step to run"):
        TokenWeights(image, "a cat", image=noise(1), strength=0.1, num_inference_steps=5)


def test_wrong_weights_are_refused_and_change_nothing(widget) -> None:
    before = widget.weights
    with pytest.raises(ValueError, match="weights has 2 numbers for 4 words: a, red, cat, 8k"):
        widget.weights = [1, 1]
    with pytest.raises(ValueError, match="the weight of 'red' is 3: the sliders go from 0 to 2"):
        widget.weights = [1, 3, 1, 1]
    assert send(widget, [1, -1, 1, 1]) == [{"kind": "heard"}]
    assert "the weight of 'red' is -1" in widget._state["text"] and widget._state["phase"] == "failed"
    assert widget.weights == before


def test_a_slider_waits_for_offloaded_models_without_stopping_the_run_that_has_them(sd, monkeypatch) -> None:
    monkeypatch.setattr(sd.vae, "_hf_hook", object(), raising=False)  # as models have that move between devices
    widget = TokenWeights(sd, "a cat", num_inference_steps=3, draft_steps=2)
    assert widget.wait(LONG)
    computing, go_on, forward = threading.Event(), threading.Event(), sd.unet.forward

    def held(*args, **kwargs):
        computing.set()
        assert go_on.wait(LONG)
        return forward(*args, **kwargs)

    monkeypatch.setattr(sd.unet, "forward", held)
    message = {"kind": "change", "moving": True}
    monkeypatch.setattr(widget, "send", lambda content, buffers=None: None)
    widget._receive(widget, message | {"weights": [1, 1.5]}, [])
    assert computing.wait(LONG)
    mover = threading.Thread(target=widget._receive, args=(widget, message | {"weights": [1, 0.5]}, []), daemon=True)
    mover.start()
    mover.join(0.2)  # it waits for the run
    go_on.set()
    mover.join(LONG)
    assert not mover.is_alive() and widget.wait(LONG)
    assert widget.weighted == "a (cat)0.5" and widget._state["phase"] == "done"
    widget.close()
