"""The Python side of Steps; what a browser makes of it is in tests/browser/test_steps.py."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from helpers import Steps
from helpers.generation.records import make
from helpers.widgets import steps as module
from tests.support.calls import arguments, same
from tests.support.tiny import quiet

pytestmark = pytest.mark.usefixtures("tiny_course")
SEEN = ["noised", "clean", "guidance", "mask"]


def shown(widget: Steps, panel: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(one)) for one in widget._pictures[panel]]


@pytest.fixture
def widget() -> Steps:
    pipe = quiet("sd15", "inpaint")
    return Steps(
        pipe, **arguments(pipe, "inpaint", num_inference_steps=3, prompt="a red cat", scheduler="DDIMScheduler"), seed=4
    )


def test_the_image_is_the_plain_calls(widget) -> None:
    pipe = quiet("sd15", "inpaint")
    call = arguments(pipe, "inpaint", num_inference_steps=3, prompt="a red cat", scheduler="DDIMScheduler")
    plain = make(pipe, seed=4, **call)
    assert same(plain, widget.image) and widget.record.key() == plain.key()
    assert Image.open(io.BytesIO(widget._result)).tobytes() == plain.image.tobytes()


def test_each_panel_has_an_image_a_step(widget) -> None:
    assert widget.count == 3 and list(widget._pictures) == ["noised", "clean", "guidance", "mask"]
    assert {name: len(images) for name, images in widget._pictures.items()} == dict.fromkeys(SEEN, 3)
    assert widget._missing == {} and widget.step == 3
    side = widget.image.width
    assert {image.size for image in shown(widget, "clean")} == {(side, side)}
    assert {image.size for image in shown(widget, "noised")} == {(side // 8, side // 8)}
    assert all(image**2 + noise**2 == pytest.approx(1) for _, image, noise in widget._steps)


def test_the_last_predicted_image_is_the_one_that_is_painted_inside_the_mask(widget) -> None:
    """The last step goes where the prediction is; the mask's mix comes after it."""
    last, image = np.asarray(shown(widget, "clean")[-1], int), np.asarray(widget.image, int)
    assert np.abs(last[:, :8] - image[:, :8]).mean() < np.abs(last[:, -8:] - image[:, -8:]).mean()


def test_the_mask_panel_is_grey_where_the_mask_repaints(widget) -> None:
    for image in shown(widget, "mask"):
        levels = np.asarray(image)
        assert (levels[:, :2] == 128).all() and not (levels[:, 2:] == 128).all(axis=-1).any()


def test_words_have_maps_from_0_to_255(widget) -> None:
    assert widget.words == ["a", "red", "cat"] and widget.word in (1, 2)
    maps = np.frombuffer(widget._attention, np.uint8).reshape(3, 3, *widget._grid)
    assert maps.max(axis=(0, 2, 3)).min() >= 254 and maps.min(axis=(0, 2, 3)).max() == 0
    assert np.frombuffer(widget._ramp, np.uint8).shape == (1024,)


def test_step_and_word_are_set_in_python_and_checked(widget) -> None:
    widget.step, widget.word = 1, 0
    assert (widget.step, widget.word) == (1, 0)
    with pytest.raises(ValueError, match="step=4: expected a whole number from 1 to 3"):
        widget.step = 4
    with pytest.raises(ValueError, match="step=0"):
        widget.step = 0
    with pytest.raises(ValueError, match="word=3: expected a whole number from 0 to 2"):
        widget.word = 3
    assert repr(widget) == "Steps(StableDiffusionInpaintPipeline: 3 steps, step=1)"


@pytest.mark.parametrize(
    ("name", "task", "more", "reasons"),
    [
        ("sd15", "text2image", {}, {"mask": "the call has no mask"}),
        ("sd15", "text2image", {"guidance_scale": 1.0}, {"mask": "no mask", "guidance": "guidance is off"}),
        ("sd15-inpaint", "inpaint", {}, {}),
        ("sd15-inpaint", "inpaint", {"prompt": ""}, {"attention": "no prompt in words"}),
        ("kandinsky22", "text2image", {}, {"mask": "no mask", "attention": "an imagined image, not the words"}),
    ],
)
def test_what_a_call_cannot_show_says_why(name, task, more, reasons) -> None:
    pipe = quiet(name, task)
    widget = Steps(pipe, **arguments(pipe, task) | more)
    assert widget._missing.keys() == reasons.keys()
    for panel, reason in reasons.items():
        assert widget._missing[panel].startswith("Not available here, because") and reason in widget._missing[panel]
        assert panel not in widget._pictures
    assert bool(widget.words) == ("attention" not in reasons)
    assert widget._repr_mimebundle_()[0]["image/png"]


def test_weighed_prompts_have_no_words_and_no_made_up_map() -> None:
    from helpers import weigh

    pipe = quiet("sd15")
    widget = Steps(pipe, **weigh(pipe, "a (red)1.3 cat"), num_inference_steps=2)
    assert widget.words == [] and "no prompt in words" in widget._missing["attention"]


def test_without_a_preview_map_latents_are_decoded(monkeypatch) -> None:
    monkeypatch.setattr("helpers.pipelines.latent_preview.map_of", lambda vae: None)
    pipe = quiet("sd15")
    widget = Steps(pipe, **arguments(pipe, "text2image"))
    side = widget.image.width // 8
    assert {image.size for image in shown(widget, "noised")} == {(side, side)}
    assert len({image.tobytes() for image in shown(widget, "noised")}) == widget.count


def test_the_still_has_a_row_for_each_panel(widget, monkeypatch) -> None:
    rows = []
    real = module.show
    monkeypatch.setattr(module, "show", lambda *images, **how: rows.append(how["titles"]) or real(*images, **how))
    still = widget._still()
    assert max(still.size) <= 2 * module.STILL_SIDE
    assert rows[0][:3] == ["step 1: Noised latents", "step 2: Noised latents", "step 3: Noised latents"]
    assert len(rows[0]) == 5 * 3 and rows[0][-1] == f"step 3: Where “{widget.words[widget.word]}” looks"


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="has no callback_on_step_end"):
        Steps(quiet("upscale-x2"), prompt="a cat", image=Image.new("RGB", (32, 32)))
    with pytest.raises(ValueError, match="num_inference_steps=0"):
        Steps(quiet("sd15"), prompt="a cat", num_inference_steps=0)
    with pytest.raises(TypeError, match="does not take it"):
        Steps(quiet("sd15"), prompt="a cat", stpes=4)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'pipe'"):
        Steps()
