"""The Explorer with a ControlNet: its kinds of control image, when they are made anew, and what a record keeps."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from helpers import Explorer, MaskPainter, depth_map, inpaint_condition
from helpers.generation.records import make
from helpers.pipelines import control_images
from helpers.pipelines.loading import load
from tests.support.calls import half_mask, noise
from tests.support.queue import LONG
from tests.support.tiny import SIZE, quiet
from tests.support.widgets import same

pytestmark = pytest.mark.usefixtures("tiny_course")
SHOWN = {"control", "controlnet_conditioning_scale", "control_guidance_start", "control_guidance_end"}


@pytest.fixture
def edges(monkeypatch):
    """Edges in no time; the images that they were asked of."""
    asked = []
    made = lambda image: asked.append(image) or image.convert("L").convert("RGB")  # noqa: E731
    monkeypatch.setattr(control_images, "canny_edges", made)
    return asked


@pytest.fixture
def pipe():
    return quiet("sd15-inpaint", task="inpaint", controlnet="controlnet-inpaint")


@pytest.fixture
def explorer(explore, pipe):
    return explore(pipe, noise(1), half_mask())


def alpha(browser) -> np.ndarray:
    image = browser.image("_control_png")
    assert image.mode == "RGBA"
    return np.asarray(image)[..., 3]


def test_the_first_image_is_that_of_the_plain_call_with_the_guides_condition(explorer, browser, pipe) -> None:
    plain = pipe(
        prompt="a cat", image=noise(1), mask_image=half_mask(), height=SIZE, width=SIZE, num_inference_steps=3,
        control_image=inpaint_condition(noise(1), half_mask()), generator=torch.Generator("cpu").manual_seed(0),
    ).images[0]  # fmt: skip
    assert same(explorer.image, plain) and SHOWN <= set(browser.values) and "control_image" not in repr(explorer)
    assert browser.values["control"] == "inpaint" and browser.values["controlnet_conditioning_scale"] == 0.5
    assert ((alpha(browser) == 0) == (np.asarray(half_mask()) > 0)).all()
    assert same(make(pipe, **explorer.parameters).image, plain)


@pytest.mark.parametrize(
    ("name", "task", "net", "first", "kinds"),
    [
        ("sd15", "text2image", "controlnet-depth", "given", ["depth", "canny", "given"]),
        ("sd15", "image2image", "controlnet-depth", "depth", ["depth", "canny", "given"]),
        ("sd15", "inpaint", "controlnet-inpaint", "inpaint", ["inpaint", "depth", "canny", "given"]),
        ("sd15", "image2image", "controlnet-inpaint", "canny", ["depth", "canny", "given"]),
        ("sd15", "text2image", None, None, None),
    ],
)
def test_the_kinds_are_those_that_fit_and_the_first_is_the_nets_own(explore, edges, name, task, net, first, kinds):
    inputs = [noise(1), half_mask()] if task == "inpaint" else [noise(1)] if net else []
    more = {} if task == "text2image" else {"strength": 0.9}
    explorer = explore(quiet(name, task, controlnet=net), *inputs, wait=False, **more)
    explorer.cancel()
    controls = {control["name"]: control for control in explorer.browser["_controls"]}
    assert explorer.browser.values.get("control") == first
    if net is None:
        assert not SHOWN & controls.keys() and explorer.browser["_control_png"] == b""
        with pytest.raises(TypeError, match="control='depth': StableDiffusionPipeline"):
            explorer.set(control="depth")
    else:
        assert SHOWN <= controls.keys() and {controls[shown]["group"] for shown in SHOWN} == {"control"}
        assert list(controls["control"]["choices"]) == kinds and len(controls["control"]["labels"]) == len(kinds)


def test_another_kind_is_another_image_and_each_is_made_once(explorer, browser, edges) -> None:
    first = explorer.image
    for kind in ("canny", "inpaint", "canny"):
        explorer.set(control=kind)
    assert explorer.wait(LONG) and not same(explorer.image, first) and len(edges) == 1
    assert same(explorer.record.parameters["control_image"], noise(1).convert("L").convert("RGB"))
    assert alpha(browser).min() == 255


def test_scale_and_span_reach_the_call_and_0_has_no_effect(explorer, edges) -> None:
    explorer.set(controlnet_conditioning_scale=0)
    assert explorer.wait(LONG)
    without = explorer.image
    explorer.set(control="canny")
    assert explorer.wait(LONG) and same(explorer.image, without)
    chosen = {"controlnet_conditioning_scale": 1.5, "control_guidance_start": 0.25, "control_guidance_end": 0.75}
    explorer.set(**chosen)
    assert explorer.wait(LONG) and not same(explorer.image, without)
    assert chosen.items() <= explorer.record.parameters.items()


def test_the_condition_follows_the_painted_mask(explore, pipe) -> None:
    painter = MaskPainter(noise(1))
    explorer = explore(pipe, None, painter)
    assert explorer.browser.phase == "invalid" and "Nothing is painted yet" in explorer.browser.text
    assert "control_image" not in explorer.parameters and explorer.browser["_control_png"] == b""
    for mask in (half_mask(), half_mask().rotate(90)):
        painter.mask = mask
        assert explorer.wait(LONG) and explorer.browser.phase == "done"
        assert torch.equal(explorer.record.parameters["control_image"], inpaint_condition(noise(1), mask))
        assert ((alpha(explorer.browser) == 0) == (np.asarray(mask) > 0)).all()


def test_text_to_image_takes_its_image_as_it_is_or_what_is_made_of_it(explore) -> None:
    pipe = quiet("sd15", "text2image", controlnet="controlnet-depth")
    explorer = explore(pipe, noise(1))
    browser, number = explorer.browser, explorer.browser.shown
    assert same(explorer.record.parameters["image"], noise(1)) and browser.values["control"] == "given"
    explorer.set(control="depth")
    assert explorer.wait(LONG) and same(explorer.record.parameters["image"], depth_map(noise(1)))
    assert same(browser.image("_before"), noise(1))  # what was given
    browser.send("recall", number=number)
    assert browser.values["control"] == "given" and same(explorer.parameters["image"], noise(1))
    with pytest.raises(ValueError, match="image: StableDiffusionControlNetPipeline takes a control image. Pass one"):
        Explorer(pipe)


# ---- Records


def test_a_saved_image_brings_kind_and_sliders_back(explorer, browser, explore, edges, tmp_path) -> None:
    first = browser.values
    explorer.set(control="canny", controlnet_conditioning_scale=1.2, control_guidance_end=0.6, seed=4)
    assert explorer.wait(LONG)
    values, image, control = browser.values, explorer.image, browser.image("_control_png")
    file = explorer.save(tmp_path / "a.png")
    explorer.set(**first | {"prompt": "a dog"})
    assert explorer.wait(LONG) and not same(browser.image("_control_png"), control)
    explorer.restore(file)
    assert browser.values == values and same(explorer.image, image) and same(browser.image("_control_png"), control)

    other = explore(quiet("sd15-inpaint", controlnet="controlnet-inpaint"), noise(5), half_mask().rotate(90))
    other.restore(file)
    assert other.browser.values == values and same(other.image, image)
    other.set(seed=9)
    explorer.set(seed=9)
    assert other.wait(LONG) and explorer.wait(LONG) and same(other.image, explorer.image)


# ---- What cannot work


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"control_guidance_start": 0.5, "control_guidance_end": 0.5}, "control_guidance_start=0.5 is not before cont"),
        ({"padding_mask_crop": 4}, "padding_mask_crop=4: the pipeline crops control images, but not the tensor"),
        ({"control": "given"}, "none was: pass control_image=..., or choose 'inpaint' or 'depth' or 'canny'"),
        ({"control": "cany"}, "control='cany': this pipeline does not work with it. Did you mean 'canny'"),
    ],
)
def test_what_the_pipeline_would_refuse_or_misplace_is_explained(explorer, browser, wrong, message) -> None:
    values = browser.values
    with pytest.raises(ValueError, match=message):
        explorer.set(**wrong)
    assert browser.values == values


def test_a_choice_that_cannot_be_is_explained_in_the_browser(explorer, browser, edges, tiny_course) -> None:
    image, table = explorer.image, tiny_course / "checkpoints.json"
    recipes = {name: recipe for name, recipe in json.loads(table.read_text()).items() if name != "depth-estimator"}
    table.write_text(json.dumps(recipes))
    for kind, text in (("given", "none was"), ("depth", "does not ship the miniature 'depth-esti")):
        browser.change(control=kind)
        assert browser.phase == "invalid" and text in browser.text and same(explorer.image, image)
    browser.change(control="canny", padding_mask_crop=4)
    assert explorer.wait(LONG) and browser.phase == "done"


def test_a_control_image_of_another_size_is_refused() -> None:
    """Image-to-image does not resize it: the call would fail after the text was encoded."""
    pipe = load("sd15", task="image2image", controlnet="controlnet-depth")
    with pytest.raises(ValueError, match="control_image is 64 x 64 pixels, image 32 x 32.*fit"):
        Explorer(pipe, noise(1), control_image=noise(2, size=64))
