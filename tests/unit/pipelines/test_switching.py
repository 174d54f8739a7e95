"""switch() puts one pipeline's models into another task's class, without from_pipe's two surprises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionImg2ImgPipeline
from PIL import Image

from helpers import load, switch
from helpers.pipelines.inspection import models
from tests.support.tiny import SIZE, tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")
PICTURE = Image.new("RGB", (SIZE, SIZE), "orange")


def parameters(pipe) -> list:
    return [tensor for part in models(pipe).values() for tensor in part.parameters()]


@pytest.mark.parametrize(
    ("name", "task", "other", "kind"),
    [
        ("sd15", None, "image2image", "StableDiffusionImg2ImgPipeline"),
        ("sd15", "image2image", "inpaint", "StableDiffusionInpaintPipeline"),
        ("sd15", "inpaint", "text2image", "StableDiffusionPipeline"),
        ("sd15", None, "text2image", "StableDiffusionPipeline"),
        ("sdxl-refiner", "inpaint", "image2image", "StableDiffusionXLImg2ImgPipeline"),
        ("kandinsky22", None, "image2image", "KandinskyV22Img2ImgCombinedPipeline"),
    ],
)
def test_it_is_the_class_that_load_chooses_around_the_same_models(name, task, other, kind) -> None:
    pipe = load(name, task=task)
    made = switch(pipe, other)
    assert type(made).__name__ == kind and type(made) is type(load(name, task=other))
    assert [id(tensor) for tensor in parameters(made)] == [id(tensor) for tensor in parameters(pipe)]


def test_it_paints_what_load_with_that_task_paints() -> None:
    def paint(pipe):
        pipe.set_progress_bar_config(disable=True)
        call = {"image": PICTURE, "num_inference_steps": 4, "generator": torch.Generator().manual_seed(0)}
        return np.asarray(pipe("a boat", **call).images[0])

    assert np.array_equal(paint(switch(load("sd15"), "image2image")), paint(load("sd15", task="image2image")))


def test_every_scheduler_is_its_own_and_equal() -> None:
    for name in ("sd15", "kandinsky22"):
        pipe = load(name)
        made = switch(pipe, "image2image")
        for part in ("scheduler", "prior_scheduler"):
            if hasattr(pipe, part):
                assert getattr(made, part) is not getattr(pipe, part)
                assert dict(getattr(made, part).config) == dict(getattr(pipe, part).config)
    assert made.decoder_pipe.scheduler is made.scheduler is not pipe.decoder_pipe.scheduler


def test_dtypes_stay_where_from_pipe_makes_them_float32() -> None:
    pipe = load("sd15", dtype="bfloat16")
    made = switch(pipe, "image2image")
    assert {tensor.dtype for tensor in parameters(made)} == {torch.bfloat16}
    StableDiffusionImg2ImgPipeline.from_pipe(pipe)
    assert {tensor.dtype for tensor in parameters(pipe)} == {torch.float32}  # the very pipeline that it came from


def test_where_it_came_from_and_its_silence_come_along() -> None:
    pipe = load("sd15")
    pipe.set_progress_bar_config(disable=True)
    before = dict(pipe.components)
    made = switch(pipe, "inpaint")
    assert all(pipe.components[name] is part for name, part in before.items())
    assert made.config._name_or_path == pipe.config._name_or_path
    assert made._progress_bar_config == {"disable": True}


def test_a_controlnet_comes_along() -> None:
    pipe = load("sd15", controlnet="controlnet-depth")
    made = switch(pipe, "image2image")
    assert type(made).__name__ == "StableDiffusionControlNetImg2ImgPipeline"
    assert made.controlnet is pipe.controlnet


def stranger(name: str, task: str | None = None) -> DiffusionPipeline:
    """The same, but nothing says that it is the catalogue's."""
    pipe = load(name, task=task)
    pipe.register_to_config(_name_or_path="a-folder-of-mine")
    return pipe


@pytest.mark.parametrize(
    ("pipe", "task", "said"),
    [
        (lambda: load("sd15-inpaint"), "text2image", "'sd15-inpaint' can do 'inpaint' only"),
        (lambda: load("sdxl-refiner"), "text2image", "'sdxl-refiner' can do 'image2image' and 'inpaint' only"),
        (lambda: load("upscale-x2"), "image2image", "'upscale-x2' can do 'upscale' only"),
        (lambda: stranger("sd15-inpaint"), "image2image", "takes 9 channels: latents, a mask and a masked image"),
        (lambda: stranger("sdxl-refiner"), "text2image", "a refiner (one text encoder) cannot start an image"),
        (lambda: load("sd15"), "img2img", "task is 'img2img'; expected 'text2image' or 'image2image' or 'inpaint'"),
    ],
)
def test_what_the_models_cannot_do_is_refused(pipe, task, said) -> None:
    with pytest.raises(ValueError) as error:
        switch(pipe(), task)
    assert said in str(error.value)


def test_a_name_is_no_pipeline() -> None:
    with pytest.raises(TypeError, match="pipe: expected a diffusers pipeline, as load.* got str"):
        switch("sd15", "inpaint")
