"""Tiny models of the real classes with random weights, by the name of the component that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import diffusers
import torch
import transformers

WIDTH = 16  # of every text embedding


def builders(
    *, words: int, blocks: Mapping[str, Any], vae: Mapping[str, Any], movq: Mapping[str, Any], vision: Mapping[str, Any]
) -> dict[str, Callable[..., torch.nn.Module]]:
    """Name -> what builds the model, given `sample_size` or nothing.

    words: entries of the tokenizer. blocks: of the UNets and ControlNets. vae, movq, vision: their other settings.
    """
    net: dict[str, Any] = {
        "norm_num_groups": 8, "layers_per_block": 1, "attention_head_dim": 2, "cross_attention_dim": WIDTH,
        "block_out_channels": blocks["block_out_channels"], "down_block_types": blocks["down_block_types"],
    }  # fmt: skip
    unet = partial(_unet, {"in_channels": 4, "out_channels": 4, **net, **blocks})
    xl = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    image = {"encoder_hid_dim": WIDTH, "encoder_hid_dim_type": "image_proj", "addition_embed_type": "image"}
    image |= {"out_channels": 8}  # mean and variance
    text = transformers.CLIPTextConfig(
        vocab_size=words, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        projection_dim=WIDTH, bos_token_id=words - 2, eos_token_id=words - 1, pad_token_id=words - 1,
    )  # fmt: skip
    vision = transformers.CLIPVisionConfig(
        hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, projection_dim=WIDTH,
        **vision,
    )  # fmt: skip
    return {
        "vae": partial(_vae, 4, vae),
        "vae-sdxl": partial(_vae, 4, {**vae, "scaling_factor": 0.13025, "force_upcast": True}),
        "vae-upscale-x4": partial(_vae, 3, {**vae, "scaling_factor": 0.08333}),
        "movq": partial(
            diffusers.VQModel, block_out_channels=(32,) * 4, down_block_types=("DownEncoderBlock2D",) * 4,
            latent_channels=4, num_vq_embeddings=8, vq_embed_dim=4, norm_type="spatial", **movq,
        ),
        "text_encoder": partial(transformers.CLIPTextModel, text),
        "text_encoder_2": partial(transformers.CLIPTextModelWithProjection, text),
        "image_encoder": partial(transformers.CLIPVisionModelWithProjection, vision),
        "prior": partial(
            diffusers.PriorTransformer, num_attention_heads=2, attention_head_dim=8, num_layers=1, embedding_dim=WIDTH,
            num_embeddings=77,
        ),
        "unet-sd15": unet,
        "unet-sd15-inpaint": partial(unet, in_channels=9),
        "unet-sdxl-inpaint": partial(
            unet, in_channels=9, cross_attention_dim=2 * WIDTH, projection_class_embeddings_input_dim=WIDTH + 6 * 8,
            **xl,
        ),
        "unet-sdxl-refiner": partial(unet, projection_class_embeddings_input_dim=WIDTH + 5 * 8, **xl),
        "unet-kandinsky22": partial(unet, **image),
        "unet-kandinsky22-inpaint": partial(unet, in_channels=9, **image),
        "unet-upscale-x2": partial(
            unet, in_channels=8, out_channels=5, time_cond_proj_dim=128 + WIDTH, timestep_post_act=None
        ),
        "unet-upscale-x4": partial(unet, in_channels=7, num_class_embeds=1000),
        "controlnet": partial(
            diffusers.ControlNetModel, conditioning_embedding_out_channels=(8, 16, 16, 16), **net
        ),
    }  # fmt: skip


def _unet(base: Mapping[str, Any], **settings: Any) -> diffusers.UNet2DConditionModel:
    return diffusers.UNet2DConditionModel(**{**base, **settings})


def _vae(blocks: int, base: Mapping[str, Any], **settings: Any) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(**{
        "block_out_channels": (8,) * blocks, "norm_num_groups": 4, "down_block_types": ("DownEncoderBlock2D",) * blocks,
        "up_block_types": ("UpDecoderBlock2D",) * blocks, "latent_channels": 4, "layers_per_block": 1,
        **base, **settings,
    })  # fmt: skip
