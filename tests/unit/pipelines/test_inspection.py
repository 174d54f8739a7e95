"""What inspection reads from a pipeline is what the pipeline then does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import load
from helpers.catalog.checkpoints import CATALOG
from helpers.pipelines import inspection
from tests.support.tiny import SIZE, quiet, tiny_course  # noqa: F401

STEPS = {"num_inference_steps": 2}
KANDINSKY = STEPS | {"prior_num_inference_steps": 2}
WIDE, ODD = (64, 32), (45, 70)


def image(size: tuple[int, int]) -> Image.Image:
    return Image.new("RGB", size, "red")


def masked(size: tuple[int, int]) -> dict:
    return {"image": image(size), "mask_image": Image.new("L", size, 255)}


# (name, task, controlnet): calls of it
CALLS = {
    ("sd15", "text2image", None): [{}, {"height": 64}, {"width": 48, "height": 24}],
    ("sd15", "image2image", None): [
        {"image": image(WIDE), "strength": 1.0},
        {"image": image(ODD), "strength": 1.0},
        {"image": [image(WIDE)], "strength": 1.0},
        {"image": torch.zeros(1, 3, 32, 64), "strength": 1.0},
        {"image": torch.zeros(3, 32, 64), "strength": 1.0},
        {"image": np.zeros((32, 64, 3), np.float32), "strength": 1.0},
        {"image": torch.zeros(1, 4, 4, 8), "strength": 1.0},
    ],
    ("sd15-inpaint", None, None): [
        masked(WIDE),
        masked(ODD) | {"height": 64, "width": 48},
        masked(WIDE) | {"padding_mask_crop": 0},
    ],
    ("sdxl-inpaint", None, None): [masked(WIDE), masked(WIDE) | {"width": 64}],
    ("sdxl-refiner", "image2image", None): [{"image": image(ODD), "strength": 1.0}],
    ("sd15", "text2image", "controlnet-depth"): [
        {"image": image(WIDE)},
        {"image": image(ODD)},
        {"image": torch.zeros(1, 3, 32, 64)},
        {"image": image(WIDE), "height": 48},
    ],
    ("sd15", "image2image", "controlnet-depth"): [
        {"image": image(WIDE), "control_image": image(WIDE), "strength": 1.0},
        {"image": image(WIDE), "control_image": image(WIDE), "height": 48, "width": 48, "strength": 1.0},
    ],
    ("sd15-inpaint", None, "controlnet-depth"): [
        masked(WIDE) | {"control_image": image(WIDE)},
        masked(ODD) | {"control_image": image(ODD)},
        masked(WIDE) | {"control_image": image(WIDE), "height": 48, "width": 24},
    ],
    ("upscale-x2", None, None): [{"image": image(WIDE)}, {"image": image(ODD)}, {"image": torch.zeros(1, 4, 4, 8)}],
    ("upscale-x4", None, None): [{"image": image(WIDE)}, {"image": image(ODD)}],
    ("kandinsky22", "text2image", None): [{"height": 64, "width": 128}, {"height": 65, "width": 64}],
    ("kandinsky22", "image2image", None): [
        {"image": image((128, 64)), "height": 64, "width": 128, "strength": 1.0},
        {"image": image((128, 64)), "height": 128, "width": 70, "strength": 1.0},
    ],
    ("kandinsky22-inpaint", None, None): [masked(WIDE) | {"height": 64, "width": 128}],
}


@pytest.mark.parametrize("key", CALLS, ids=lambda key: " ".join(map(str, key)))
def test_the_output_has_the_size_that_was_predicted(tiny_course, key) -> None:  # noqa: F811
    name, task, controlnet = key
    pipe = quiet(name, task=task, controlnet=controlnet)
    for call in CALLS[key]:
        made = pipe("a boat", **call, **(KANDINSKY if "kandinsky" in name else STEPS)).images[0]
        assert inspection.output_size(pipe, call) == made.size, call


def test_a_sample_size_may_be_a_pair(tiny_course) -> None:  # noqa: F811
    pipe = quiet("sd15", "text2image")
    pipe.unet.register_to_config(sample_size=(4, 6))  # height, width
    pipe = type(pipe)(**pipe.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    assert inspection.output_size(pipe, {}) == pipe("a boat", **STEPS).images[0].size == (48, 32)


def test_kandinsky_makes_512_pixels_unless_told_otherwise(tiny_course) -> None:  # noqa: F811
    for task in ("text2image", "image2image"):
        assert inspection.output_size(load("kandinsky22", task=task), {}) == (512, 512)


@pytest.mark.parametrize("task", ["image2image", "inpaint", "text2image"])
@pytest.mark.parametrize("name", ["sd15", "kandinsky22"])
def test_size_arguments_give_that_size(tiny_course, name, task) -> None:  # noqa: F811
    pipe = load({"kandinsky22inpaint": "kandinsky22-inpaint"}.get(name + task, name), task=task)
    sides = inspection.size_arguments(pipe, (128, 64))
    assert inspection.output_size(pipe, sides | {"image": image((128, 64))}) == (128, 64)
    assert bool(sides) == ("height" in inspection.parameters_of(pipe))


def test_an_unknown_image_leaves_the_size_open(tiny_course) -> None:  # noqa: F811
    for given in ({}, {"image": None}, {"image": []}, {"image": "castle"}):
        assert inspection.output_size(load("sd15", task="image2image"), given) is None
    crop = {"padding_mask_crop": 8, "height": SIZE, "width": SIZE}
    assert inspection.output_size(load("sd15-inpaint"), crop) is None


@pytest.mark.parametrize("name", [name for name, entry in CATALOG.items() if entry.tasks])
def test_family_and_checkpoint_are_the_catalogue_s(tiny_course, name) -> None:  # noqa: F811
    if not (tiny_course / "checkpoints.json").read_text().count(f'"{name}"'):
        pytest.skip("no tiny checkpoint of it")
    for task in CATALOG[name].tasks:
        pipe = load(name, task=task)
        assert inspection.checkpoint(pipe) is CATALOG[name] and inspection.family(pipe) == CATALOG[name].family
        assert inspection.name_of(pipe) == f"{type(pipe).__name__} ({name!r})"
        assert inspection.pixels_a_latent(pipe) == (4 if name == "upscale-x4" else 8)
        assert inspection.offload_mode(pipe) == "none"


def test_a_pipeline_from_elsewhere_has_no_checkpoint(tiny_course) -> None:  # noqa: F811
    pipe = load("sd15")
    pipe.register_to_config(_name_or_path="/somewhere/sd15-000000000000")
    assert inspection.checkpoint(pipe) is None and inspection.name_of(pipe) == "StableDiffusionPipeline"
    pipe.register_to_config(_name_or_path=CATALOG["sd15"].hub_id)
    assert inspection.checkpoint(pipe) is CATALOG["sd15"]


def test_offload_is_read_from_where_the_weights_are(tiny_course) -> None:  # noqa: F811
    from accelerate import cpu_offload

    pipe = load("sd15")
    pipe.enable_model_cpu_offload(device="cpu")
    assert inspection.offload_mode(pipe) == "model"
    pipe.remove_all_hooks()
    cpu_offload(pipe.unet, execution_device=torch.device("cpu"))  # what sequential offload does to each model
    assert inspection.offload_mode(pipe) == "sequential"
