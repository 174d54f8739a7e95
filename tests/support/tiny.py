"""Tiny checkpoints of the real classes with random weights, laid out as data/miniatures is.

`build(folder)` writes the components and checkpoints.json. Pictures made with them are noise; what they show is that
classes, dtypes, sharing and arguments are right.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import json
import shutil
import tempfile
from pathlib import Path

import diffusers
import pytest
import tokenizers
import torch
import transformers

from helpers.catalog import editions
from helpers.common import paths
from helpers.pipelines import loading
from tests.support.tiny_models import builders

SIZE = 32  # pixels; the VAEs divide by 8, but the x4 upscaler's by 4

VAE = ["diffusers", "AutoencoderKL", "vae"]
SCHEDULER = ["diffusers", "PNDMScheduler", "scheduler"]
TEXT = {
    "text_encoder": ["transformers", "CLIPTextModel", "text_encoder"],
    "tokenizer": ["transformers", "CLIPTokenizer", "tokenizer"],
}
TEXT_2 = {
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection", "text_encoder_2"],
    "tokenizer_2": ["transformers", "CLIPTokenizer", "tokenizer"],
}
PRIOR = {
    "prior_prior": ["diffusers", "PriorTransformer", "prior"],
    "prior_image_encoder": ["transformers", "CLIPVisionModelWithProjection", "image_encoder"],
    "prior_text_encoder": ["transformers", "CLIPTextModelWithProjection", "text_encoder_2"],
    "prior_tokenizer": ["transformers", "CLIPTokenizer", "tokenizer"],
    "prior_scheduler": ["diffusers", "UnCLIPScheduler", "prior_scheduler"],
    "prior_image_processor": ["transformers", "CLIPImageProcessor", "image_processor"],
}


def _unet(folder: str) -> list[str]:
    return ["diffusers", "UNet2DConditionModel", folder]


def _sd(pipeline: str, unet: str) -> dict:
    parts = {"vae": VAE, **TEXT, "unet": _unet(unet), "scheduler": SCHEDULER}
    return {"pipeline": pipeline, "size": SIZE, "components": parts, "config": {"requires_safety_checker": False}}


def _kandinsky(pipeline: str, unet: str) -> dict:
    parts = {"unet": _unet(unet), "movq": ["diffusers", "VQModel", "movq"]}
    return {
        "pipeline": pipeline,
        "size": 64,
        "components": {**parts, "scheduler": ["diffusers", "DDPMScheduler", "ddpm"], **PRIOR},
    }


RECIPES = {
    "sd15": _sd("StableDiffusionPipeline", "unet-sd15"),
    "sd15-inpaint": _sd("StableDiffusionInpaintPipeline", "unet-sd15-inpaint"),
    "sdxl-inpaint": {
        "pipeline": "StableDiffusionXLInpaintPipeline",
        "size": SIZE,
        "components": {"vae": VAE, **TEXT, **TEXT_2, "unet": _unet("unet-sdxl-inpaint"), "scheduler": SCHEDULER},
        "config": {"force_zeros_for_empty_prompt": True},
    },
    "sdxl-refiner": {
        "pipeline": "StableDiffusionXLImg2ImgPipeline",
        "size": SIZE,
        "components": {"vae": VAE, **TEXT_2, "unet": _unet("unet-sdxl-refiner"), "scheduler": SCHEDULER},
        "config": {"force_zeros_for_empty_prompt": False, "requires_aesthetics_score": True},
    },
    "kandinsky22": _kandinsky("KandinskyV22CombinedPipeline", "unet-kandinsky22"),
    "kandinsky22-inpaint": _kandinsky("KandinskyV22InpaintCombinedPipeline", "unet-kandinsky22-inpaint"),
    "upscale-x2": {
        "pipeline": "StableDiffusionLatentUpscalePipeline",
        "size": SIZE,
        "components": {
            "vae": VAE, **TEXT, "unet": _unet("unet-upscale-x2"),
            "scheduler": ["diffusers", "EulerDiscreteScheduler", "euler"],
        },
    },
    "upscale-x4": {
        "pipeline": "StableDiffusionUpscalePipeline",
        "size": SIZE,
        "components": {
            "vae": ["diffusers", "AutoencoderKL", "vae-upscale-x4"], **TEXT, "unet": _unet("unet-upscale-x4"),
            "scheduler": SCHEDULER, "low_res_scheduler": ["diffusers", "DDPMScheduler", "ddpm"],
        },
        "config": {"max_noise_level": 350},
    },
    "controlnet-inpaint": {"model": ["diffusers", "ControlNetModel", "controlnet-inpaint"], "size": SIZE},
    "controlnet-depth": {"model": ["diffusers", "ControlNetModel", "controlnet-depth"], "size": SIZE},
    "depth-estimator": {"model": ["transformers", "GLPNForDepthEstimation", "depth-estimator"], "size": SIZE},
}  # fmt: skip


def build(folder: Path) -> Path:
    """Write every component (models as float16 safetensors) and checkpoints.json to `folder`; returns it."""
    torch.manual_seed(0)
    for name, part in {**_models(), **_others()}.items():
        if isinstance(part, torch.nn.Module):
            part.half()
        part.save_pretrained(folder / name)
    transformers.GLPNImageProcessor().save_pretrained(folder / "depth-estimator")
    weights = torch.randn(3, 36).round(decimals=2).tolist()
    for vae in ("vae", "vae-upscale-x4", "movq"):
        preview = {"weights": weights, "bias": [0, 0, 0], "loudest": 1.5}
        (folder / vae / "preview.json").write_text(json.dumps(preview), encoding="utf-8")
    (folder / "checkpoints.json").write_text(json.dumps(RECIPES), encoding="utf-8")
    return folder


@functools.cache
def _built() -> tempfile.TemporaryDirectory:
    folder = tempfile.TemporaryDirectory(prefix="tiny-")
    build(Path(folder.name))
    # Every unload() searches for garbage; half a million objects of the libraries need not be searched each time.
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # or triton complains at the end of what it takes for leaks
    return folder


def mini_edition(patch: pytest.MonkeyPatch, root: Path) -> Path:
    """Let the catalogue load a copy of the tiny components, with an empty cache and nothing loaded; their folder."""
    folder = root / "data" / "miniatures"
    shutil.copytree(_built().name, folder)
    patch.setattr(paths, "DATA", folder.parent)
    patch.setattr(paths, "MINIATURES", folder)
    patch.setattr(editions, "_chosen", None)
    patch.setenv("COURSE_CACHE", str(root / "cache"))
    patch.setenv("COURSE_EDITION", "mini")
    loading.unload()
    return folder


@pytest.fixture
def tiny_course(monkeypatch, tmp_path) -> Path:
    """The mini edition on a copy of the tiny components; their folder."""
    yield mini_edition(monkeypatch, tmp_path)
    loading.unload()


def quiet(name: str, task: str | None = None, **more):
    """`load` without a progress bar."""
    pipe = loading.load(name, task=task, **more)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(name="inpaint")  # so that its function, once imported, shadows no argument
def inpaint_pipeline(tiny_course):
    return quiet("sd15-inpaint")


@contextlib.contextmanager
def failing(pipe):
    """Within, the model fails at its first step, with a cause."""

    def fail(*_):
        try:
            raise KeyError("the cause")
        except KeyError as cause:
            raise OSError("the weights are gone") from cause

    hook = pipe.unet.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        hook.remove()


def _models() -> dict[str, torch.nn.Module]:
    build = builders(
        words=514,
        blocks={
            "sample_size": SIZE // 8, "block_out_channels": (16, 32),
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        },
        vae={"sample_size": SIZE, "force_upcast": False},
        movq={"up_block_types": ("AttnUpDecoderBlock2D",) * 4},
        vision={"image_size": SIZE, "patch_size": 16},
    )  # fmt: skip
    control, _ = build.pop("controlnet"), build.pop("vae-sdxl")
    depth = transformers.GLPNConfig(
        depths=(1, 1, 1, 1), hidden_sizes=(8, 8, 16, 16), num_attention_heads=(1, 1, 2, 2), mlp_ratios=(2,) * 4,
        decoder_hidden_size=8, max_depth=1,
    )  # fmt: skip
    models = {name: make() for name, make in build.items()}
    for name in ("controlnet-inpaint", "controlnet-depth"):
        models[name] = control()
        for part, values in models[name].named_parameters():  # which start at 0, and would steer nothing
            if not values.any() and part.endswith("weight"):
                torch.nn.init.normal_(values, std=0.5)
    return models | {"depth-estimator": transformers.GLPNForDepthEstimation(depth)}


def _others() -> dict[str, object]:
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    steps = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return {
        "tokenizer": transformers.CLIPTokenizer(vocabulary, [], model_max_length=77),
        "image_processor": transformers.CLIPImageProcessor(size=SIZE, crop_size=SIZE),
        "scheduler": diffusers.PNDMScheduler(**steps, skip_prk_steps=True, steps_offset=1),
        "ddpm": diffusers.DDPMScheduler(**steps),
        "euler": diffusers.EulerDiscreteScheduler(**steps),
        "prior_scheduler": diffusers.UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", num_train_timesteps=1000, clip_sample_range=5.0
        ),
    }
