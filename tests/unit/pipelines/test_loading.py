"""load() and unload(): the right class, shared weights, own schedulers, refusals before anything is loaded."""

from __future__ import annotations

import gc
import weakref

import diffusers
import numpy as np
import pytest
import torch

from helpers.catalog import devices, memory_plan
from helpers.catalog.checkpoints import CATALOG
from helpers.catalog.memory_plan import Plan
from helpers.common.sizes import GB
from helpers.pipelines import loading
from helpers.pipelines.loading import load, unload
from tests.support.calls import CALLS, arguments
from tests.support.tiny import RECIPES, SIZE, tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")


def painted(pipe, task: str) -> np.ndarray:
    pipe.set_progress_bar_config(disable=True)
    call = arguments(pipe, task, generator=torch.Generator().manual_seed(0))
    return np.asarray(pipe(**call).images[0])


def loaded() -> set[str]:
    return {held.name for held in loading._loaded.values()}


def modules(pipe) -> dict[str, torch.nn.Module]:
    return {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}


@pytest.fixture
def never_reads(monkeypatch):
    """Fail the test if weights are read, or even looked for."""

    def fail(*args, **kwargs):
        raise AssertionError("weights were read before the refusal")

    monkeypatch.setattr(loading, "_read", fail)
    monkeypatch.setattr("helpers.catalog.miniatures.assemble", fail)


@pytest.mark.parametrize("name, task, controlnet, kind", CALLS)
def test_every_task_loads_its_plain_class_and_makes_an_image(name, task, controlnet, kind):
    pipe = load(name, task=task, controlnet=controlnet)
    assert type(pipe) is getattr(diffusers, kind)
    assert {p.dtype for part in modules(pipe).values() for p in part.parameters()} == {torch.float32}
    side = CATALOG[name].size * {"upscale-x2": 2, "upscale-x4": 4}.get(name, 1)
    assert painted(pipe, task).shape == (side, side, 3)
    assert {(n, t) for n, t, _, _ in CALLS} == {(n, t) for n in RECIPES for t in CATALOG[n].tasks}


@pytest.mark.parametrize("name, task", [("sd15", "inpaint"), ("sd15-inpaint", "inpaint"), ("sdxl-refiner", "inpaint")])
def test_the_image_is_that_of_plain_from_pretrained(name, task):
    kind = type(load(name, task=task))
    plain = kind.from_pretrained(CATALOG[name].source, **CATALOG[name].load_kwargs)
    difference = painted(plain, task).astype(int) - painted(load(name, task=task), task)
    assert np.abs(difference).max() <= 1  # channels-last convolutions round otherwise


def test_another_task_uses_the_same_weights_and_allocates_none():
    first = load("sd15")
    pointers = {name: [p.data_ptr() for p in part.parameters()] for name, part in modules(first).items()}
    for task in CATALOG["sd15"].tasks:
        pipe = load("sd15", task=task)
        assert pipe is not first
        assert modules(pipe).keys() == {"vae", "text_encoder", "unet"}
        for name, part in modules(pipe).items():
            assert part is getattr(first, name)
            assert [p.data_ptr() for p in part.parameters()] == pointers[name]
        assert pipe.tokenizer is first.tokenizer


def test_another_checkpoint_shares_the_components_that_are_equal():
    plain, inpaint = load("sd15"), load("sd15-inpaint")
    shared = [name for name in plain.components if getattr(plain, name) is getattr(inpaint, name)]
    assert [name for name in shared if getattr(plain, name) is not None] == ["vae", "text_encoder", "tokenizer"]
    assert load("sdxl-refiner").text_encoder_2 is not plain.text_encoder


def test_each_pipeline_has_a_scheduler_of_its_own():
    first, second = load("sd15"), load("sd15", task="inpaint")
    assert first.scheduler is not second.scheduler
    first.scheduler.set_timesteps(7)
    assert second.scheduler.num_inference_steps is None
    first.scheduler = diffusers.UniPCMultistepScheduler.from_config(first.scheduler.config)
    assert type(load("sd15").scheduler) is type(second.scheduler) is diffusers.PNDMScheduler
    assert dict(second.scheduler.config)["skip_prk_steps"] is True
    one, two = load("upscale-x4"), load("upscale-x4")
    assert one.low_res_scheduler is not two.low_res_scheduler


def test_a_controlnet_joins_the_weights_that_are_in_memory():
    base = load("sd15-inpaint")
    steered, again = load("sd15-inpaint", controlnet="controlnet-depth"), load("sd15", controlnet="controlnet-depth")
    assert steered.unet is base.unet
    assert steered.controlnet is again.controlnet


def test_the_pipeline_knows_its_source_and_has_no_safety_checker():
    pipe = load("sd15-inpaint")
    assert pipe.name_or_path == CATALOG["sd15-inpaint"].source
    assert pipe.safety_checker is None and pipe.config.requires_safety_checker is False
    refiner = load("sdxl-refiner", task="inpaint")
    assert refiner.config.requires_aesthetics_score is True
    assert refiner.config.force_zeros_for_empty_prompt is False


def test_dtype_and_device_can_be_asked_for():
    half = load("sd15", dtype="bfloat16", device="cpu")
    assert {p.dtype for part in modules(half).values() for p in part.parameters()} == {torch.bfloat16}
    assert load("sd15", dtype=torch.bfloat16).unet is half.unet
    assert load("sd15").unet is not half.unet
    with pytest.raises(ValueError, match="dtype is 'int8'"):
        load("sd15", dtype="int8")
    with pytest.raises(ValueError, match="device is 'gpu'"):
        load("sd15", device="gpu")


def test_models_that_from_pipe_cast_are_read_anew():
    half = load("sd15", dtype="bfloat16", device="cpu")
    assert load("sd15", dtype="bfloat16", device="cpu").unet is half.unet
    diffusers.StableDiffusionImg2ImgPipeline.from_pipe(half)  # in place, to float32
    assert half.unet.dtype == torch.float32
    for name in ("sd15", "sd15-inpaint"):
        again = load(name, dtype="bfloat16", device="cpu")
        assert {p.dtype for part in modules(again).values() for p in part.parameters()} == {torch.bfloat16}
    assert again.vae is load("sd15", dtype="bfloat16", device="cpu").vae is not half.vae


@pytest.mark.parametrize(
    "name, task, message",
    [
        (
            "sd15-inpaint",
            "text2image",
            "task is 'text2image', and 'sd15-inpaint' can do 'inpaint' only.*sd15, kandinsky22",
        ),
        ("sdxl-refiner", "text2image", "'sdxl-refiner' can do 'image2image' and 'inpaint' only"),
        ("kandinsky22", "inpaint", "For 'inpaint' load one of: sd15, sd15-inpaint"),
        ("sd15", "img2img", "task is 'img2img', and 'sd15' can do 'text2image' and 'image2image' and 'inpaint' only"),
        ("controlnet-depth", None, r"is a ControlNet .*load\('sd15-inpaint', controlnet='controlnet-depth'\)"),
        ("sd15inpaint", None, "no checkpoint called 'sd15inpaint'. Did you mean 'sd15-inpaint'"),
    ],
)
def test_what_a_checkpoint_cannot_do_is_refused_before_it_is_loaded(never_reads, name, task, message):
    with pytest.raises(ValueError, match=message):
        load(name, task=task)


@pytest.mark.parametrize(
    "name, controlnet, message",
    [
        ("sd15", "comic", "controlnet is 'comic', which is none; expected 'controlnet-inpaint' or 'controlnet-depth'"),
        ("sd15", "controlnet-dept", "Did you mean 'controlnet-depth'"),
        ("sdxl-inpaint", "controlnet-depth", "'controlnet-depth' was trained for sd15, .* does not fit 'sdxl-inpaint'"),
    ],
)
def test_a_controlnet_that_does_not_fit_is_refused_before_it_is_loaded(never_reads, name, controlnet, message):
    with pytest.raises(ValueError, match=message):
        load(name, controlnet=controlnet)


def test_a_miniature_that_is_not_shipped_is_said_by_load_too():
    with pytest.raises(FileNotFoundError, match="python -m miniature_training train elden-ring"):
        load("elden-ring")
    assert loaded() == set()


def test_unload_frees_the_memory():
    pipe = load("sd15")
    other = load("sd15-inpaint")
    unet, vae = weakref.ref(pipe.unet), weakref.ref(pipe.vae)
    assert loaded() == {"sd15", "sd15-inpaint"}
    unload("sd15")
    assert loaded() == {"sd15-inpaint"}
    assert unet() is pipe.unet  # a variable holds it still
    del pipe
    gc.collect()
    assert unet() is None
    assert vae() is other.vae  # shared, and still used
    other.itself = other  # a cycle, as diffusers' offload hooks make them
    del other
    unload()
    assert vae() is None and loaded() == set()


def test_unload_is_quiet_about_what_is_not_loaded_and_not_about_what_does_not_exist():
    unload("sdxl-inpaint")
    assert unload() is None
    with pytest.raises(ValueError, match="Did you mean 'sd15'"):
        unload("sd-15")


# What follows simulates a card, or the full edition with a local folder in the Hub's place.


class Part:
    def __init__(self):
        self.moves = []

    def parameters(self):
        return iter(())

    def to(self, device):
        self.moves.append(device)


def test_unload_takes_from_the_card_what_no_other_checkpoint_uses(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    own, shared, tokenizer = Part(), Part(), object()
    for name, components in {"a": {"unet": own, "vae": shared, "tokenizer": tokenizer}, "b": {"vae": shared}}.items():
        card = Plan("cuda", torch.float16, "none", True, 0, 0)
        loading._loaded[(name,)] = loading.LoadedCheckpoint(name, card, components, {})
    loading._drop([("a",)])
    assert (own.moves, shared.moves) == (["cpu"], [])
    loading._drop([("b",)])
    assert shared.moves == ["cpu"]


@pytest.mark.parametrize(
    "offload, method", [("model", "enable_model_cpu_offload"), ("sequential", "enable_sequential_cpu_offload")]
)
def test_offload_is_switched_on_for_each_pipeline(monkeypatch, offload, method):
    asked = []
    monkeypatch.setattr(memory_plan, "plan_memory", lambda *a, **k: Plan("cuda", torch.float32, offload, True, 0, 0))
    monkeypatch.setattr(diffusers.DiffusionPipeline, method, lambda self, **kwargs: asked.append((self, kwargs)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    made = [load("sd15"), load("sd15", task="inpaint")]
    assert asked == [(pipe, {"device": "cuda"}) for pipe in made]
    assert made[0].unet is made[1].unet and made[0].device.type == "cpu"  # it goes to the card when it is called
    unload()


def test_where_memory_is_short_idle_checkpoints_make_room(monkeypatch):
    used, idle = load("sd15"), load("sdxl-inpaint")
    del idle
    gone = weakref.ref(load("sdxl-refiner").unet)
    plans = [Plan("cpu", torch.float32, "none", False, 2, 1, "no room"), Plan("cpu", torch.float32, "none", True, 1, 1)]
    monkeypatch.setattr(memory_plan, "plan_memory", lambda *a, **k: plans.pop(0))
    load("upscale-x2")
    assert loaded() == {"sd15", "upscale-x2"} and plans == []
    assert gone() is None
    assert used.unet is not None


def test_what_does_not_fit_is_refused_with_advice(monkeypatch, tmp_path):
    loading.use("full")
    monkeypatch.setattr(devices, "free_memory", lambda device: GB)
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    with pytest.raises(MemoryError, match=r"sdxl-inpaint will not fit: it needs about .* use\('mini'\)"):
        load("sdxl-inpaint")


@pytest.fixture
def local_hub(monkeypatch, tmp_path):
    """The full edition where 'sd15' lies in a local folder, in half precision, instead of the Hub's cache."""
    load("sd15").to(dtype=torch.float16).save_pretrained(tmp_path / "hub", variant="fp16")
    unload()
    loading.use("full")
    monkeypatch.setattr(loading.download, "folders", lambda checkpoint: (str(tmp_path / "hub"), None, "fp16"))
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    return tmp_path / "hub"


def test_a_half_variant_comes_up_as_float32_on_a_cpu(local_hub):
    pipe = load("sd15", task="image2image")
    assert {p.dtype for part in modules(pipe).values() for p in part.parameters()} == {torch.float32}
    assert pipe.safety_checker is None and pipe.config.requires_safety_checker is False
    assert pipe.name_or_path == CATALOG["sd15"].hub_id
    plain = diffusers.AutoPipelineForImage2Image.from_pretrained(local_hub, variant="fp16", dtype=torch.float32)
    assert torch.equal(plain.unet.conv_in.weight, pipe.unet.conv_in.weight)
    assert SIZE // 8 == pipe.unet.config.sample_size


def test_pickles_are_not_read(monkeypatch):
    loading.use("full")
    with pytest.raises(ValueError, match="kohbanye/pixel-art-style publishes its weights as pickles only"):
        load("pixel-art")
