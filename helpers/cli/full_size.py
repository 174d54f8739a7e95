"""The full checkpoints' true shapes with random weights: what they cost does not depend on what they learned."""

from __future__ import annotations

from importlib import import_module
from typing import Any

UNET: dict[str, Any] = {"sample_size": 64, "in_channels": 4, "out_channels": 4}
SD = UNET | {"cross_attention_dim": 768, "attention_head_dim": 8}
SDXL = UNET | {
    "sample_size": 128, "use_linear_projection": True, "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256, "in_channels": 9, "block_out_channels": (320, 640, 1280),
    "cross_attention_dim": 2048, "attention_head_dim": (5, 10, 20), "transformer_layers_per_block": (1, 2, 10),
    "projection_class_embeddings_input_dim": 2816,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
KANDINSKY = UNET | {
    "block_out_channels": (384, 768, 1152, 1536), "layers_per_block": 3, "attention_head_dim": 64, "out_channels": 8,
    "cross_attention_dim": 768, "encoder_hid_dim": 1280, "encoder_hid_dim_type": "image_proj",
    "addition_embed_type": "image", "resnet_time_scale_shift": "scale_shift",
    "down_block_types": ("ResnetDownsampleBlock2D",) + ("SimpleCrossAttnDownBlock2D",) * 3,
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D",) * 3 + ("ResnetUpsampleBlock2D",),
}  # fmt: skip
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4, "force_upcast": False,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
MOVQ: dict[str, Any] = {
    "block_out_channels": (128, 256, 256, 512), "layers_per_block": 2, "latent_channels": 4, "norm_type": "spatial",
    "down_block_types": ("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",), "vq_embed_dim": 4,
    "up_block_types": ("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3, "num_vq_embeddings": 16384,
}  # fmt: skip
PRIOR: dict[str, Any] = {"num_attention_heads": 32, "attention_head_dim": 64, "num_layers": 20, "embedding_dim": 1280}
TEXT: dict[str, Any] = {"vocab_size": 49408, "bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}  # as below
CLIP_L = TEXT | {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "projection_dim": 768,
}  # fmt: skip
BIG_G = TEXT | {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
    "projection_dim": 1280, "hidden_act": "gelu",
}  # fmt: skip
VISION: dict[str, Any] = {
    "hidden_size": 1664, "intermediate_size": 8192, "num_hidden_layers": 48, "num_attention_heads": 16,
    "image_size": 224, "patch_size": 14, "projection_dim": 1280, "hidden_act": "gelu",
}  # fmt: skip
BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def models(name: str) -> dict[str, Any]:
    """The models of a checkpoint by component name, in float32, on the device that `torch.device` is entered for."""
    diffusers, transformers = import_module("diffusers"), import_module("transformers")
    text, text_2 = transformers.CLIPTextModel, transformers.CLIPTextModelWithProjection
    clip_l, big_g = transformers.CLIPTextConfig(**CLIP_L), transformers.CLIPTextConfig(**BIG_G)
    if name.startswith("kandinsky22"):
        return {
            "unet": diffusers.UNet2DConditionModel(**KANDINSKY),
            "movq": diffusers.VQModel(**MOVQ),
            "prior_prior": diffusers.PriorTransformer(**PRIOR, num_embeddings=77),
            "prior_image_encoder": transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**VISION)),
            "prior_text_encoder": text_2(big_g),
        }
    unets = {"sd15": SD, "sd15-inpaint": SD | {"in_channels": 9}, "sdxl-inpaint": SDXL}
    found = {"unet": diffusers.UNet2DConditionModel(**unets[name]), "text_encoder": text(clip_l)}
    if name.startswith("sdxl"):
        found["text_encoder_2"] = text_2(big_g)
    sdxl = {"sample_size": 1024, "scaling_factor": 0.13025}
    return found | {
        "vae": diffusers.AutoencoderKL(**VAE, **(sdxl if name.startswith("sdxl") else {"sample_size": 512}))
    }


def pipeline(name: str, models: dict[str, Any]) -> Any:
    """The checkpoint's own pipeline of these models, with a tokenizer of letters."""
    import tokenizers

    diffusers, transformers = import_module("diffusers"), import_module("transformers")
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = transformers.CLIPTokenizer(vocabulary, [], model_max_length=77)
    if name == "kandinsky22":
        unclip = {"variance_type": "fixed_small_log", "prediction_type": "sample", "clip_sample_range": 5.0}
        return diffusers.KandinskyV22CombinedPipeline(
            **models, scheduler=diffusers.DDPMScheduler(**BETAS), prior_tokenizer=tokenizer,
            prior_scheduler=diffusers.UnCLIPScheduler(num_train_timesteps=1000, **unclip),
            prior_image_processor=transformers.CLIPImageProcessor(size=224, crop_size=224),
        )  # fmt: skip
    parts = models | {"scheduler": diffusers.EulerDiscreteScheduler(**BETAS), "tokenizer": tokenizer}
    if name == "sdxl-inpaint":
        return diffusers.StableDiffusionXLInpaintPipeline(**parts, tokenizer_2=tokenizer)
    kinds = {"sd15": diffusers.StableDiffusionPipeline, "sd15-inpaint": diffusers.StableDiffusionInpaintPipeline}
    return kinds[name](**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
