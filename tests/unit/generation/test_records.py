"""Records: the same pixels again from the file and by the plain script, and where an image came from."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import pytest
import torch

from helpers.catalog.checkpoints import CATALOG
from helpers.generation import provenance
from helpers.generation.records import Record, make
from helpers.pipelines.schedulers import KANDINSKY, SCHEDULERS, compatible_schedulers
from tests.support.calls import CALLS, arguments, quietly, same
from tests.support.records import check_script
from tests.support.tiny import SIZE, inpaint_pipeline, quiet, tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")


def test_a_record_is_the_image_of_the_plain_call(inpaint) -> None:
    call = arguments(inpaint, "inpaint", strength=0.6, num_inference_steps=4)
    plain = inpaint(**call, generator=torch.Generator("cpu").manual_seed(7)).images[0]
    record = make(inpaint, seed=7, **call)
    assert same(record, plain)
    assert record.parameters["seed"] == 7
    assert {name: record.parameters[name] for name in ("strength", "prompt")} == {"strength": 0.6, "prompt": "a cat"}
    assert record.error is None and record.exact and record.seconds > 0
    assert not same(record, make(inpaint, seed=8, **call))


CASES = [(*call, {}) for call in CALLS]
CASES += [("sd15-inpaint", "inpaint", None, "", {"scheduler": one, "strength": 0.7}) for one in SCHEDULERS]
CASES += [("kandinsky22-inpaint", "inpaint", None, "", {"scheduler": one}) for one in KANDINSKY]
CASES += [
    (name, "inpaint", None, "", {"blur_factor": 4, "keep_unmasked": True})
    for name in ("sd15-inpaint", "kandinsky22-inpaint")
]


@pytest.mark.parametrize(
    ("name", "task", "controlnet", "kind", "more"), CASES, ids=[" ".join(map(str, c)) for c in CASES]
)
def test_an_image_is_made_again_from_its_file_and_by_its_script(name, task, controlnet, kind, more, tmp_path) -> None:
    pipe = quiet(name, task=None if task == "upscale" else task, controlnet=controlnet)
    steps = {"num_inference_steps": 4} if "scheduler" in more else {}
    record = make(pipe, seed=3, **arguments(pipe, task) | steps | more)
    loaded = Record.load(record.save(tmp_path / "image.png"))
    assert same(loaded, record) and loaded.origin == record.origin and loaded.key() == record.key()
    again = quiet(name, task=None if task == "upscale" else task, controlnet=controlnet)
    assert same(quietly(loaded, again), record)
    code = loaded.code(tmp_path / "inputs")
    check_script(code)
    space: dict = {}
    exec(code, space)  # noqa: S102
    assert same(record, space["image"]) and kind in type(space["pipe"]).__name__


def test_every_offered_scheduler_is_among_the_cases() -> None:
    assert {*compatible_schedulers(quiet("sd15-inpaint"))} == {*SCHEDULERS}
    assert {*compatible_schedulers(quiet("kandinsky22-inpaint"))} == {*KANDINSKY}


def test_repeat_uses_the_recorded_scheduler_of_a_changed_pipeline(inpaint) -> None:
    record = make(inpaint, seed=1, **arguments(inpaint, "inpaint", num_inference_steps=3))
    inpaint.scheduler = diffusers.EulerDiscreteScheduler.from_config(inpaint.scheduler.config)
    assert same(quietly(record, inpaint), record)


def test_repeat_says_what_differs_and_by_how_much(inpaint) -> None:
    record = make(inpaint, seed=1, **arguments(inpaint, "inpaint"))
    changed = record.origin | {"threads": 99, "versions": record.origin["versions"] | {"diffusers": "0.1"}}
    other = Record(record.image, record.parameters, 1.0, changed)
    now = diffusers.__version__
    with pytest.warns(
        UserWarning, match=rf"threads was 99 and .*; diffusers was 0\.1 and is now {now}\. The pixels are equal"
    ):
        other.repeat(inpaint)
    with torch.no_grad():
        inpaint.unet.conv_in.weight.mul_(1.5)
    with pytest.warns(
        UserWarning, match=r"nothing that is recorded has changed\. The pixels differ by up to \d+ of 255"
    ):
        record.repeat(inpaint)


def test_an_origin_names_no_folder_of_this_machine(inpaint) -> None:
    origin = provenance.describe(inpaint)
    assert origin["source"] == Path(CATALOG["sd15-inpaint"].source).name and origin["checkpoint"] == "sd15-inpaint"
    assert "/" not in json.dumps(origin) and provenance.check(origin) == origin


def test_an_origin_names_active_adapters_and_their_scales(inpaint) -> None:
    layer = inpaint.unet.conv_in
    layer.lora_A, layer.scaling, layer.active_adapters, layer.disable_adapters = {}, {"detail": 0.8}, ["detail"], False
    inpaint.unet.peft_config = {"detail": None}
    assert provenance.describe(inpaint)["adapters"] == {"unet": {"detail": 0.8}}


def test_without_a_seed_one_is_drawn_and_noted(inpaint) -> None:
    call = arguments(inpaint, "inpaint")
    first, second = make(inpaint, **call), make(inpaint, **call)
    assert first.parameters["seed"] != second.parameters["seed"]
    assert same(quietly(first, inpaint), first)


def test_inputs_are_copies(inpaint) -> None:
    call = arguments(inpaint, "inpaint", strength=0.5)
    record = make(inpaint, seed=1, **call)
    call["image"].paste(0, (0, 0, SIZE, SIZE))
    assert same(quietly(record, inpaint), record)
