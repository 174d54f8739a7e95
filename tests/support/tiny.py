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

SIZE = 32  # pixels; the VAEs divide by 8, but the x4 upscaler's by 4
WIDTH = 16  # of every text embedding

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


@pytest.fixture
def tiny_course(monkeypatch, tmp_path) -> Path:
    """The mini edition on a copy of the tiny components, with an empty cache and nothing loaded; their folder."""
    folder = tmp_path / "data" / "miniatures"
    shutil.copytree(_built().name, folder)
    monkeypatch.setattr(paths, "DATA", folder.parent)
    monkeypatch.setattr(paths, "MINIATURES", folder)
    monkeypatch.setattr(editions, "_chosen", None)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COURSE_EDITION", "mini")
    loading.unload()
    yield folder
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
    text = {"vocab_size": 514, "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2}
    text = transformers.CLIPTextConfig(
        **text, num_attention_heads=2, projection_dim=WIDTH, bos_token_id=512, eos_token_id=513, pad_token_id=513
    )
    vision = transformers.CLIPVisionConfig(
        hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=SIZE,
        patch_size=16, projection_dim=WIDTH,
    )  # fmt: skip
    unet = _diffusion
    xl = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "cross_attention_dim": 2 * WIDTH}
    refiner = xl | {"cross_attention_dim": WIDTH, "projection_class_embeddings_input_dim": WIDTH + 5 * 8}
    image = {"encoder_hid_dim": WIDTH, "encoder_hid_dim_type": "image_proj", "addition_embed_type": "image"}
    image |= {"out_channels": 8}  # mean and variance
    return {
        "vae": _vae(blocks=4),
        "vae-upscale-x4": _vae(blocks=3, scaling_factor=0.08333),
        "movq": diffusers.VQModel(
            block_out_channels=(32, 32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 4, latent_channels=4,
            up_block_types=("AttnUpDecoderBlock2D",) * 4, num_vq_embeddings=8, vq_embed_dim=4, norm_type="spatial",
        ),
        "text_encoder": transformers.CLIPTextModel(text),
        "text_encoder_2": transformers.CLIPTextModelWithProjection(text),
        "image_encoder": transformers.CLIPVisionModelWithProjection(vision),
        "prior": diffusers.PriorTransformer(
            num_attention_heads=2, attention_head_dim=8, num_layers=1, embedding_dim=WIDTH, num_embeddings=77
        ),
        "unet-sd15": unet(),
        "unet-sd15-inpaint": unet(in_channels=9),
        "unet-sdxl-inpaint": unet(in_channels=9, **xl, projection_class_embeddings_input_dim=WIDTH + 6 * 8),
        "unet-sdxl-refiner": unet(**refiner),
        "unet-kandinsky22": unet(**image),
        "unet-kandinsky22-inpaint": unet(**image | {"in_channels": 9}),
        "unet-upscale-x2": unet(
            in_channels=8, out_channels=5, time_cond_proj_dim=128 + WIDTH, timestep_post_act=None,
        ),
        "unet-upscale-x4": unet(in_channels=7, num_class_embeds=1000),
        "controlnet-inpaint": _controlnet(),
        "controlnet-depth": _controlnet(),
        "depth-estimator": transformers.GLPNForDepthEstimation(
            transformers.GLPNConfig(
                depths=(1, 1, 1, 1), hidden_sizes=(8, 8, 16, 16), num_attention_heads=(1, 1, 2, 2), mlp_ratios=(2,) * 4,
                decoder_hidden_size=8, max_depth=1,
            )
        ),
    }  # fmt: skip


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


def _diffusion(**settings) -> diffusers.UNet2DConditionModel:
    settings = {"in_channels": 4, "out_channels": 4, "cross_attention_dim": WIDTH} | settings
    return diffusers.UNet2DConditionModel(
        sample_size=SIZE // 8, block_out_channels=(16, 32), norm_num_groups=8, layers_per_block=1, attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        **settings,
    )  # fmt: skip


def _controlnet() -> diffusers.ControlNetModel:
    net = diffusers.ControlNetModel(
        block_out_channels=(16, 32), norm_num_groups=8, cross_attention_dim=WIDTH, layers_per_block=1,
        attention_head_dim=2, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        conditioning_embedding_out_channels=(8, 16, 16, 16),
    )  # fmt: skip
    for name, values in net.named_parameters():  # which start at 0, and would steer nothing
        if not values.any() and name.endswith("weight"):
            torch.nn.init.normal_(values, std=0.5)
    return net


def _vae(*, blocks: int, **settings) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        block_out_channels=(8,) * blocks, norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks, latent_channels=4, sample_size=SIZE, layers_per_block=1,
        force_upcast=False,
        **settings,
    )  # fmt: skip
