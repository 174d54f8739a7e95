"""The true shapes of the full checkpoints with random weights: what they cost does not depend on what they learned.

`models(name)` builds a checkpoint's models on a device ("meta" for shapes alone); `save(name, folder)` writes a folder
that `load()` reads as it reads the publisher's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("sd15", "sd15-inpaint", "sdxl-inpaint", "sdxl-refiner", "kandinsky22", "kandinsky22-inpaint")

UNET = {"sample_size": 64, "layers_per_block": 2, "norm_num_groups": 32, "act_fn": "silu"}
SD = UNET | {
    "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "attention_head_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}  # fmt: skip
XL = UNET | {
    "sample_size": 128, "use_linear_projection": True, "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256, "upcast_attention": None,
}  # fmt: skip
SDXL = XL | {
    "block_out_channels": (320, 640, 1280), "cross_attention_dim": 2048, "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10), "projection_class_embeddings_input_dim": 2816,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
REFINER = XL | {
    "block_out_channels": (384, 768, 1536, 1536), "cross_attention_dim": 1280, "attention_head_dim": (6, 12, 24, 24),
    "transformer_layers_per_block": 4, "projection_class_embeddings_input_dim": 2560,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
KANDINSKY = UNET | {
    "block_out_channels": (384, 768, 1152, 1536), "layers_per_block": 3, "attention_head_dim": 64, "out_channels": 8,
    "cross_attention_dim": 768, "encoder_hid_dim": 1280, "encoder_hid_dim_type": "image_proj",
    "addition_embed_type": "image", "resnet_time_scale_shift": "scale_shift",
    "down_block_types": ("ResnetDownsampleBlock2D",) + ("SimpleCrossAttnDownBlock2D",) * 3,
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D",) * 3 + ("ResnetUpsampleBlock2D",),
}  # fmt: skip
TEXT = {"vocab_size": 49408, "bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}  # the tokenizer's below
CLIP_L = TEXT | {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "projection_dim": 768,
}  # fmt: skip
BIG_G = TEXT | {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
    "projection_dim": 1280, "hidden_act": "gelu",
}  # fmt: skip
VISION = {
    "hidden_size": 1664, "intermediate_size": 8192, "num_hidden_layers": 48, "num_attention_heads": 16,
    "image_size": 224, "patch_size": 14, "projection_dim": 1280, "hidden_act": "gelu",
}  # fmt: skip
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SMALL |= {"projection_dim": 16, "vocab_size": 514}
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def models(name: str, *, device: str = "meta", tiny: bool = False) -> dict[str, Any]:
    """The models of a checkpoint by component name, on a device, in float32; on "meta" they take no memory."""
    import torch

    with torch.device(device):
        return {part: build(tiny) for part, build in BUILDERS[name].items()}


def save(name: str, folder: Path, *, device: str = "cpu", tiny: bool = False) -> Path:
    """Write the checkpoint as float16 safetensors, in the layout of its family; returns the folder.

    tiny: with small models of the same classes, to try out what reads them.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {"_class_name": _pipeline(name), "_diffusers_version": "0.40.0"}
    for part, build in BUILDERS[name].items():
        with torch.device(device):
            model = build(tiny).half()
        model.save_pretrained(folder / part, variant="fp16", safe_serialization=True)
        index[part] = [type(model).__module__.split(".")[0], type(model).__name__]
        del model
    for part, other in _others(name).items():
        other.save_pretrained(folder / part)
        index[part] = [type(other).__module__.split(".")[0], type(other).__name__]
    settings = {"sd": {"requires_safety_checker": False, "safety_checker": [None, None]}}
    settings["sd"]["feature_extractor"] = [None, None]
    index |= settings.get(_family(name), {})
    (folder / "model_index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    return folder


def _family(name: str) -> str:
    return "kandinsky22" if name.startswith("kandinsky") else "sdxl" if name.startswith("sdxl") else "sd"


def _pipeline(name: str) -> str:
    return {
        "sd15": "StableDiffusionPipeline",
        "sd15-inpaint": "StableDiffusionInpaintPipeline",
        "sdxl-inpaint": "StableDiffusionXLInpaintPipeline",
        "sdxl-refiner": "StableDiffusionXLImg2ImgPipeline",
        "kandinsky22": "KandinskyV22CombinedPipeline",
        "kandinsky22-inpaint": "KandinskyV22InpaintCombinedPipeline",
    }[name]


def _others(name: str) -> dict[str, Any]:
    """Tokenizers, schedulers and image processors."""
    import diffusers
    import tokenizers
    import transformers

    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = transformers.CLIPTokenizer(vocabulary, [], model_max_length=77)
    if _family(name) == "kandinsky22":
        unclip = {"variance_type": "fixed_small_log", "prediction_type": "sample", "clip_sample_range": 5.0}
        return {
            "scheduler": diffusers.DDPMScheduler(**BETAS), "prior_tokenizer": tokenizer,
            "prior_scheduler": diffusers.UnCLIPScheduler(num_train_timesteps=1000, **unclip),
            "prior_image_processor": transformers.CLIPImageProcessor(size=224, crop_size=224),
        }  # fmt: skip
    texts = [part for part in BUILDERS[name] if part.startswith("text_encoder")]
    found = {part.replace("text_encoder", "tokenizer"): tokenizer for part in texts}
    return found | {"scheduler": diffusers.EulerDiscreteScheduler(**BETAS)}


def _unet(shape: dict[str, Any], tiny: bool, **more: Any) -> Any:
    import diffusers

    if tiny:
        small = {"block_out_channels": (32,) * len(shape["block_out_channels"]), "attention_head_dim": 2}
        small |= {"cross_attention_dim": 32 if shape is SDXL else 16, "sample_size": 8, "norm_num_groups": 16}
        if "encoder_hid_dim" in shape:
            small |= {"encoder_hid_dim": 16, "attention_head_dim": 16}
        if "addition_time_embed_dim" in shape:
            numbers = 6 if shape is SDXL else 5
            small |= {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 16 + 8 * numbers}
            small |= {"transformer_layers_per_block": 1}
        shape = shape | small
    return diffusers.UNet2DConditionModel(**{"in_channels": 4, "out_channels": 4} | shape | more)


def _vae(tiny: bool, sample_size: int, scaling_factor: float) -> Any:
    import diffusers

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return diffusers.AutoencoderKL(
        **blocks, block_out_channels=(32,) * 4 if tiny else (128, 256, 512, 512), layers_per_block=2, latent_channels=4,
        sample_size=64 if tiny else sample_size, scaling_factor=scaling_factor, force_upcast=False,
    )  # fmt: skip


def _movq(tiny: bool) -> Any:
    import diffusers

    return diffusers.VQModel(
        block_out_channels=(32,) * 4 if tiny else (128, 256, 256, 512), layers_per_block=2, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",), norm_type="spatial",
        up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3, vq_embed_dim=4, norm_num_groups=32,
        num_vq_embeddings=8 if tiny else 16384,
    )  # fmt: skip


def _prior(tiny: bool) -> Any:
    import diffusers

    shape = {"num_attention_heads": 32, "attention_head_dim": 64, "num_layers": 20, "embedding_dim": 1280}
    small = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, "embedding_dim": 16}
    return diffusers.PriorTransformer(**small if tiny else shape, num_embeddings=77)


def _text(tiny: bool) -> Any:
    import transformers

    return transformers.CLIPTextModel(transformers.CLIPTextConfig(**CLIP_L | (SMALL if tiny else {})))


def _text_2(tiny: bool) -> Any:
    import transformers

    return transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**BIG_G | (SMALL if tiny else {})))


def _vision(tiny: bool) -> Any:
    import transformers

    small = {name: value for name, value in SMALL.items() if name != "vocab_size"}
    return transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**VISION | (small if tiny else {})))


def _sd(**more: Any) -> dict[str, Callable[[bool], Any]]:
    return {
        "unet": lambda tiny: _unet(SD, tiny, **more),
        "text_encoder": _text,
        "vae": lambda tiny: _vae(tiny, 512, 0.18215),
    }


def _sdxl(shape: dict[str, Any], **more: Any) -> dict[str, Callable[[bool], Any]]:
    first = {"text_encoder": _text} if shape is SDXL else {}
    return {
        "unet": lambda tiny: _unet(shape, tiny, **more),
        **first,
        "text_encoder_2": _text_2,
        "vae": lambda tiny: _vae(tiny, 1024, 0.13025),
    }


def _kandinsky(**more: Any) -> dict[str, Callable[[bool], Any]]:
    prior = {"prior_prior": _prior, "prior_image_encoder": _vision, "prior_text_encoder": _text_2}
    return {"unet": lambda tiny: _unet(KANDINSKY, tiny, **more), "movq": _movq, **prior}


BUILDERS = {
    "sd15": _sd(),
    "sd15-inpaint": _sd(in_channels=9),
    "sdxl-inpaint": _sdxl(SDXL, in_channels=9),
    "sdxl-refiner": _sdxl(REFINER),
    "kandinsky22": _kandinsky(),
    "kandinsky22-inpaint": _kandinsky(in_channels=9),
}
