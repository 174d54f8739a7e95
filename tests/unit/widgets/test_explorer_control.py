"""The Explorer with a ControlNet: its kinds of control picture, when they are made anew, and what a record keeps."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import MaskPainter, depth_map, inpaint_condition
from helpers.generation.records import make
from helpers.pipelines import control_images
from helpers.pipelines.loading import load
from helpers.widgets.explorer.widget import Explorer
from tests.support.calls import half_mask, noise
from tests.support.queue import engine  # noqa: F401
from tests.support.tiny import SIZE, tiny_course  # noqa: F401
from tests.unit.widgets.test_explorer import LONG, ask, counted, explore, pixels, same  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")
SHOWN = {"control", "controlnet_conditioning_scale", "control_guidance_start", "control_guidance_end"}


def pipeline(name="sd15-inpaint", task="inpaint", controlnet="controlnet-inpaint"):
    pipe = load(name, task=task, controlnet=controlnet)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def edges(monkeypatch):
    """Edges in no time; the pictures that they were asked of."""
    asked = []
    monkeypatch.setattr(
        control_images, "canny_edges", lambda image: asked.append(image) or image.convert("L").convert("RGB")
    )
    return asked


@pytest.fixture
def steered(explore):  # noqa: F811
    return explore(pipeline(), noise(1), half_mask())


def alpha(explorer) -> np.ndarray:
    mode, size, data = pixels(explorer._control_png)
    assert mode == "RGBA"
    return np.frombuffer(data, np.uint8).reshape(*size[::-1], 4)[..., 3]


def test_the_first_picture_is_that_of_the_plain_call_with_the_guides_condition(steered) -> None:
    plain = steered._pipe(
        prompt="a cat", image=noise(1), mask_image=half_mask(), height=SIZE, width=SIZE, num_inference_steps=3,
        control_image=inpaint_condition(noise(1), half_mask()), generator=torch.Generator("cpu").manual_seed(0),
    ).images[0]  # fmt: skip
    assert same(steered.image, plain) and SHOWN <= set(steered._values)
    assert steered._values["control"] == "inpaint" and steered._values["controlnet_conditioning_scale"] == 0.5
    assert "control_image" not in repr(steered)
    assert ((alpha(steered) == 0) == (np.asarray(half_mask()) > 0)).all()
    assert same(make(steered._pipe, **steered.parameters).image, plain)


@pytest.mark.parametrize(
    ("name", "task", "net", "first", "kinds"),
    [
        ("sd15", "text2image", "controlnet-depth", "given", ["depth", "canny", "given"]),
        ("sd15", "image2image", "controlnet-depth", "depth", ["depth", "canny", "given"]),
        ("sd15", "inpaint", "controlnet-depth", "depth", ["inpaint", "depth", "canny", "given"]),
        ("sd15", "inpaint", "controlnet-inpaint", "inpaint", ["inpaint", "depth", "canny", "given"]),
        ("sd15", "image2image", "controlnet-inpaint", "canny", ["depth", "canny", "given"]),
    ],
)
def test_the_kinds_are_those_that_fit_and_the_first_is_the_nets_own(edges, name, task, net, first, kinds) -> None:
    inputs = [noise(1), half_mask()] if task == "inpaint" else [noise(1)]
    explorer = Explorer(pipeline(name, task, net), *inputs, strength=0.9) if task != "text2image" else Explorer(
        pipeline(name, task, net), *inputs
    )  # fmt: skip
    explorer.cancel()
    [control] = [control for control in explorer._controls if control["name"] == "control"]
    assert control["choices"] == kinds and len(control["labels"]) == len(kinds) and control["group"] == "control"
    assert explorer._values["control"] == first
    explorer.close()


def test_without_a_controlnet_there_is_no_such_control() -> None:
    explorer = Explorer(load("sd15"), num_inference_steps=2)
    explorer.cancel()
    assert not SHOWN & set(explorer._values) and not [c for c in explorer._controls if c["group"] == "control"]
    assert explorer._control_png == b""
    with pytest.raises(TypeError, match="control='depth': StableDiffusionPipeline"):
        Explorer(load("sd15"), control="depth")
    explorer.close()


def test_another_kind_is_another_picture_and_each_is_made_once(steered, edges) -> None:
    first = steered.image
    steered.set(control="canny")
    assert steered.wait(LONG) and not same(steered.image, first)
    assert steered.record.parameters["control_image"].tobytes() == noise(1).convert("L").convert("RGB").tobytes()
    assert pixels(steered._control_png)[0] == "RGBA" and alpha(steered).min() == 255
    ran = counted(steered._pipe)
    steered.set(control="inpaint")
    steered.set(control="canny")
    assert steered.wait(LONG) and len(edges) == 1 and not ran


def test_scale_and_span_reach_the_call_and_0_steers_nothing(steered, edges) -> None:
    steered.set(controlnet_conditioning_scale=0)
    assert steered.wait(LONG)
    without = steered.image
    steered.set(control="canny")
    assert steered.wait(LONG) and same(steered.image, without)
    steered.set(controlnet_conditioning_scale=1.5, control_guidance_start=0.25, control_guidance_end=0.75)
    assert steered.wait(LONG) and not same(steered.image, without)
    kept = steered.record.parameters
    assert (kept["controlnet_conditioning_scale"], kept["control_guidance_start"], kept["control_guidance_end"]) == (
        1.5,
        0.25,
        0.75,
    )


def test_the_condition_follows_the_painted_mask(explore) -> None:  # noqa: F811
    painter = MaskPainter(noise(1))
    pipe = pipeline()
    ran = counted(pipe)
    explorer = explore(pipe, None, painter)
    assert explorer._state["phase"] == "invalid" and "Nothing is painted yet" in explorer._state["text"]
    assert "control_image" not in explorer.parameters and explorer._control_png == b"" and not ran
    for mask in (half_mask(), half_mask().rotate(90)):
        painter.mask = mask
        assert explorer.wait(LONG) and explorer._state["phase"] == "done"
        assert torch.equal(explorer.record.parameters["control_image"], inpaint_condition(noise(1), mask))
        assert ((alpha(explorer) == 0) == (np.asarray(mask) > 0)).all()


def test_text_to_image_is_steered_by_its_picture_as_it_is_or_by_what_is_made_of_it(explore) -> None:  # noqa: F811
    pipe = pipeline("sd15", "text2image", "controlnet-depth")
    explorer = explore(pipe, noise(1))
    assert (
        explorer.record.parameters["image"].tobytes() == noise(1).tobytes() and explorer._values["control"] == "given"
    )
    explorer.set(control="depth")
    assert explorer.wait(LONG)
    assert explorer.record.parameters["image"].tobytes() == depth_map(noise(1)).tobytes()
    assert pixels(explorer._before)[2] == noise(1).tobytes()  # what was given
    with pytest.raises(ValueError, match="image: StableDiffusionControlNetPipeline is steered by a picture. Pass one"):
        Explorer(pipe)


# ---- Records


def test_a_saved_picture_brings_kind_and_sliders_back(steered, explore, edges, tmp_path) -> None:  # noqa: F811
    steered.set(control="canny", controlnet_conditioning_scale=1.2, control_guidance_end=0.6, seed=4)
    assert steered.wait(LONG)
    values, picture, control = dict(steered._values), steered.image, steered._control_png
    file = steered.save(tmp_path / "a.png")
    steered.set(**steered._form.defaults | {"prompt": "a dog"})
    assert steered.wait(LONG) and steered._control_png != control
    steered.restore(file)
    assert steered._values == values | {"control": "given"}  # of neither kind that is at hand: as it was saved
    assert same(steered.image, picture) and pixels(steered._control_png) == pixels(control)
    ran = counted(steered._pipe)
    steered.set(seed=4)
    assert steered.wait(LONG) and same(steered.image, picture) and not ran

    other = explore(pipeline(), noise(5), half_mask().rotate(90), control="canny")
    other.restore(file)
    assert other._values == values and same(other.image, picture)
    other.set(seed=9)
    steered.set(seed=9)
    assert other.wait(LONG) and steered.wait(LONG) and same(other.image, steered.image)


def test_the_history_brings_the_kind_back(steered, edges) -> None:
    number, values = steered._state["shown"], dict(steered._values)
    steered.set(control="canny")
    assert steered.wait(LONG)
    assert not ask(steered, "recall", number=number)
    assert steered._values == values and (alpha(steered) == 0).any()


def test_the_code_makes_exactly_this_picture_in_a_process_without_helpers(steered, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    steered.set(controlnet_conditioning_scale=0.9, control_guidance_start=0.2, num_inference_steps=5, seed=3)
    assert steered.wait(LONG)
    code = steered.code()
    assert "helpers" not in code and "ControlNetModel.from_pretrained(" in code and "control_guidance_start=0.2" in code
    script = f'{code}\nimport sys\nassert "helpers" not in sys.modules\nimage.save("made.png")\n'
    (tmp_path / "script.py").write_text(script)
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, check=True, capture_output=True)
    with Image.open(tmp_path / "made.png") as made:
        assert same(made, steered.image)


# ---- What cannot work


def test_what_the_pipeline_would_refuse_or_misplace_is_explained(steered, edges) -> None:
    values, picture = dict(steered._values), steered.image
    for wrong, message in (
        (
            {"control_guidance_start": 0.5, "control_guidance_end": 0.5},
            "control_guidance_start=0.5 is not before control",
        ),
        ({"padding_mask_crop": 4}, "padding_mask_crop=4: the pipeline crops control pictures, but no tensors"),
        ({"control": "given"}, "there is none: pass control_image=..., or choose 'inpaint' or 'depth' or 'canny'"),
        ({"control": "cany"}, "control='cany': this pipeline does not work with it. Did you mean 'canny'"),
        ({"control_guidance_end": 1.5}, "control_guidance_end=1.5: expected 0 to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            steered.set(**wrong)
    assert steered._values == values
    ask(steered, "change", values={"control": "given"}, moving=False)
    assert steered._state["phase"] == "invalid" and "there is none" in steered._state["text"]
    assert same(steered.image, picture)
    ask(steered, "change", values={"control": "canny", "padding_mask_crop": 4}, moving=False)
    assert steered.wait(LONG) and steered._state["phase"] == "done"


def test_a_control_picture_of_another_size_is_refused() -> None:
    """Image-to-image does not resize it: the call would fail after the text was encoded."""
    pipe = pipeline("sd15", "image2image", "controlnet-depth")
    with pytest.raises(ValueError, match="control_image is 64 x 64 pixels, image 32 x 32.*fit"):
        Explorer(pipe, noise(1), control_image=noise(2, size=64))


def test_a_missing_estimator_is_named_where_the_kind_was_chosen(steered, tiny_course) -> None:  # noqa: F811
    import json

    table = tiny_course / "checkpoints.json"
    recipes = {name: recipe for name, recipe in json.loads(table.read_text()).items() if name != "depth-estimator"}
    table.write_text(json.dumps(recipes))
    ask(steered, "change", values={"control": "depth"}, moving=False)
    assert steered._state["phase"] == "invalid" and "does not ship the miniature 'depth-esti" in steered._state["text"]
    ask(steered, "change", values={"control": "inpaint"}, moving=False)
    assert steered.wait(LONG) and steered._state["phase"] == "done"
