"""Blur and keep_unmasked around a call: against diffusers' own processors, from file, and as a plain script."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from helpers.generation.calls import check
from helpers.generation.records import make
from helpers.generation.sweeps import sweep
from helpers.pipelines.loading import load
from tests.support.calls import arguments, half_mask, noise, same
from tests.support.tiny import SIZE, inpaint_pipeline, quiet, tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")


def by_hand(pipe, call: dict, *, blur: float = 0, keep: bool = False) -> Image.Image:
    mask = call["mask_image"]
    if blur:
        mask = pipe.mask_processor.blur(mask, blur_factor=blur)
    image = pipe(**call | {"mask_image": mask}, generator=torch.Generator("cpu").manual_seed(3)).images[0]
    return pipe.image_processor.apply_overlay(mask, call["image"], image) if keep else image


@pytest.mark.parametrize(("blur", "keep"), [(4, False), (0, True), (4, True)])
@pytest.mark.parametrize("crop", [None, 2])
def test_the_picture_is_that_of_the_calls_by_hand(inpaint, blur, keep, crop) -> None:
    call = arguments(inpaint, "inpaint", strength=0.9, num_inference_steps=4, padding_mask_crop=crop)
    record = make(inpaint, seed=3, **call, blur_factor=blur, keep_unmasked=keep)
    assert same(record, by_hand(inpaint, call, blur=blur, keep=keep))
    assert record.parameters["mask_image"].tobytes() == half_mask().tobytes()  # the mask as it was given


@pytest.mark.parametrize("batch", [False, True])
def test_a_sweep_varies_them_too(inpaint, batch) -> None:
    call = arguments(inpaint, "inpaint")
    seeds = {"seed": [3, 4]} if batch else {}
    records = list(sweep(inpaint, over={"blur_factor": [0, 4]} | seeds, batch=batch, keep_unmasked=True, **call))
    made = [record for record in records if record.parameters["seed"] in (0, 3)]
    right = (SIZE // 2 + 16, 0, SIZE, SIZE)
    for record in records:
        assert record.error is None
        assert record.image.crop(right).tobytes() == call["image"].crop(right).tobytes()
    assert [record.parameters["blur_factor"] for record in made] == [0, 4] and not same(made[0], made[1])


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"blur_factor": "4"}, TypeError, r"blur_factor='4': expected a number, 0 or more"),
        ({"blur_factor": -1}, ValueError, r"blur_factor=-1: expected a number, 0 or more"),
        ({"keep_unmasked": 1}, TypeError, r"keep_unmasked=1: expected True or False"),
        ({"blur_factor": 2, "mask_image": [half_mask()]}, ValueError, "blur_factor=2 needs a mask"),
        ({"keep_unmasked": True, "image": torch.ones(1, 3, SIZE, SIZE)}, ValueError, "needs the original"),
        ({"keep_unmasked": True, "image": noise(1, size=40)}, ValueError, "mask_image is 32 x 32 pixels, image 40"),
        ({"keep_unmasked": True, "height": 64}, ValueError, "the result will be 32 x 64 .*Pass height=32, width=32"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_before_the_model_runs(inpaint, wrong, error, message) -> None:
    ran = []
    inpaint.unet.register_forward_pre_hook(lambda *_: ran.append(1))
    with pytest.raises(error, match=message):
        make(inpaint, seed=1, **arguments(inpaint, "inpaint") | wrong)
    assert not ran


@pytest.mark.parametrize("task", ["text2image", "image2image"])
def test_a_pipeline_without_a_mask_takes_neither(task) -> None:
    pipe = load("sd15", task=task)
    for name, value in (("blur_factor", 4), ("keep_unmasked", True)):
        with pytest.raises(TypeError, match=rf"{name}='{value}': .* does not take it"):
            check(pipe, {name: value})
