"""The catalogue's facts, the choice of edition, and the names that `helpers` shows."""

from __future__ import annotations

import diffusers
import pytest
import torch

import helpers
from helpers.catalog import devices, editions, tasks
from helpers.catalog.checkpoints import CATALOG
from helpers.common import paths
from helpers.pipelines import loading

NAMES = [
    "sd15", "sd15-inpaint", "sdxl-inpaint", "sdxl-refiner", "kandinsky22", "kandinsky22-inpaint", "comic", "pixel-art",
    "elden-ring", "upscale-x2", "upscale-x4", "controlnet-inpaint", "controlnet-depth",
    "depth-estimator", "lcm", "segmenter",
]  # fmt: skip


@pytest.fixture
def fresh(monkeypatch):
    """No edition chosen, none in the environment, nothing loaded."""
    helpers.unload()
    monkeypatch.setattr(editions, "_chosen", None)
    monkeypatch.delenv("COURSE_EDITION", raising=False)
    monkeypatch.delenv("COURSE_DEVICE", raising=False)


@pytest.fixture
def full(fresh):
    helpers.use("full")


def test_every_name_of_the_course_is_there_and_no_other():
    assert list(CATALOG) == NAMES
    assert all(CATALOG[name].name == name for name in NAMES)


def test_a_download_is_about_as_large_as_its_weights():
    for checkpoint in CATALOG.values():
        parameters = sum(checkpoint.parameters.values()) * 1_000_000
        assert 1.9 * parameters < checkpoint.download_size < 4.2 * parameters, checkpoint.name  # float16 to float32
        if checkpoint.variant == "fp16":
            assert checkpoint.download_size == pytest.approx(2 * parameters, rel=0.05), checkpoint.name


def test_every_task_has_its_pipeline_class_in_diffusers():
    for checkpoint in CATALOG.values():
        for task in checkpoint.tasks:
            assert hasattr(diffusers, tasks.class_name(checkpoint, task))
    assert all(hasattr(diffusers, name) for family in tasks.CLASSES.values() for name in family.values())


def test_only_checkpoints_with_one_latent_space_share_its_name():
    spaces = {name: checkpoint.latent_space for name, checkpoint in CATALOG.items()}
    assert spaces["comic"] == spaces["sd15"] == spaces["upscale-x2"]  # their VAEs are SD1.5's
    assert len({spaces["sd15"], spaces["sdxl-inpaint"], spaces["kandinsky22"], spaces["upscale-x4"]}) == 4
    assert spaces["sdxl-refiner"] == spaces["sdxl-inpaint"]


def test_checkpoints_without_safetensors_or_licence_say_so():
    assert [name for name in NAMES if CATALOG[name].pickled] == ["pixel-art", "elden-ring"]
    assert [name for name in NAMES if CATALOG[name].licence is None] == ["pixel-art"]


@pytest.mark.parametrize(
    "name, meant",
    [("sd15inpaint", "'sd15-inpaint'"), ("SD15", "'sd15'"), ("pixelart", "'pixel-art'"), ("nonsense", "Known:")],
)
def test_an_unknown_name_says_which_was_meant(name, meant):
    with pytest.raises(KeyError) as raised:
        CATALOG[name]
    assert isinstance(raised.value, ValueError)
    assert repr(name) in str(raised.value) and meant in str(raised.value)


def test_a_hub_id_is_answered_with_the_course_name():
    with pytest.raises(ValueError, match="is called 'upscale-x4'"):
        CATALOG["stabilityai/stable-diffusion-x4-upscaler"]


def test_the_edition_is_mini_until_the_environment_or_use_says_full(fresh, monkeypatch):
    assert helpers.edition() == "mini"
    monkeypatch.setenv("COURSE_EDITION", "full")
    assert helpers.edition() == "full"
    helpers.use("mini")
    assert helpers.edition() == "mini"


def test_an_edition_that_is_none_is_named(fresh, monkeypatch):
    with pytest.raises(ValueError, match="edition is 'large'; expected 'mini' or 'full'"):
        helpers.use("large")
    monkeypatch.setenv("COURSE_EDITION", "Full")
    with pytest.raises(ValueError, match="COURSE_EDITION is 'Full'; expected 'mini' or 'full'"):
        helpers.edition()


def test_the_edition_changes_after_a_load_only_by_way_of_unload(tiny_course):
    loading.load("sd15")
    with pytest.raises(RuntimeError, match=r"sd15 of the other edition are in memory. Call unload\(\) first"):
        helpers.use("full")
    assert helpers.edition() == "mini"
    helpers.use("mini")  # no change, no complaint
    helpers.unload()
    helpers.use("full")
    assert helpers.edition() == "full"


def test_sizes_follow_the_edition(tiny_course):
    assert CATALOG["sd15"].size == 32  # what checkpoints.json of the tiny course says
    assert CATALOG["comic"].size == 128  # not shipped there
    helpers.use("full")
    assert CATALOG["sd15"].size == 512
    assert CATALOG["sdxl-inpaint"].size == 1024


def test_the_full_source_is_the_hub_id_and_needs_nothing_else(full, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "MINIATURES", tmp_path / "nowhere")
    assert [checkpoint.source for checkpoint in CATALOG.values()] == [c.hub_id for c in CATALOG.values()]


@pytest.mark.parametrize("device, dtype", [("cpu", torch.float32), ("cuda", torch.float16)])
def test_full_arguments_ask_for_safetensors_the_variant_and_the_dtype_of_the_device(full, monkeypatch, device, dtype):
    monkeypatch.setenv("COURSE_DEVICE", device)
    monkeypatch.setattr(devices, "check_device", str)
    assert CATALOG["sd15-inpaint"].load_kwargs == {
        "dtype": dtype, "use_safetensors": True, "variant": "fp16", "safety_checker": None,
        "requires_safety_checker": False,
    }  # fmt: skip
    assert CATALOG["sdxl-inpaint"].load_kwargs == {"dtype": dtype, "use_safetensors": True, "variant": "fp16"}
    assert CATALOG["upscale-x4"].load_kwargs == {"dtype": dtype, "use_safetensors": True}


def test_mini_arguments_are_float32_everywhere(fresh, monkeypatch):
    monkeypatch.setattr(devices, "_fastest", lambda: "cuda")
    assert CATALOG["sdxl-inpaint"].load_kwargs == {"dtype": torch.float32, "use_safetensors": True}


def test_a_public_name_that_is_none_says_which_was_meant():
    with pytest.raises(AttributeError, match="helpers has no 'load_imgae'; did you mean 'load_image'?"):
        print(helpers.load_imgae)
    assert not hasattr(helpers, "torch")
