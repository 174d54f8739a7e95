"""What the small Hub serves: tiny checkpoints of the real classes under the real ids, laid out as the real ones are.

`serve(hub, sizes)` pushes every repository; weights are random and made when they are first asked for. The ids are
spelled out here and not taken from the catalogue, so that each checks the other. `sizes` gives the pixels that a
family's models were "trained on" (REAL, or SMALL to save time); of a real checkpoint only this number is kept.

The layouts follow the publishers: which folders there are, which weights come as safetensors, as pickles, in fp16, and
what lies beside them that nobody should fetch (a safety checker, whole checkpoints in one file, a second VAE).
Sharded, as large models are: SDXL's UNet and the image encoder of Kandinsky's prior.
"""

from __future__ import annotations

import functools
import io
import json
from pathlib import Path

import safetensors.torch
import torch
import transformers

from tests.hub.server import Data, Hub
from tests.support.tiny import RECIPES
from tests.support.tiny_models import builders

ROOT = Path(__file__).resolve().parents[2]
REAL = {"sd": 512, "sdxl": 1024, "kandinsky22": 768, "upscale-x2": 512, "upscale-x4": 128, "controlnet": 512}
# None of these is its family's size in the mini edition, so a chapter that counts on 128 pixels is found out.
SMALL = {"sd": 96, "sdxl": 256, "kandinsky22": 192, "upscale-x2": 96, "upscale-x4": 24, "controlnet": 96}

SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
SD15_INPAINT = "stable-diffusion-v1-5/stable-diffusion-inpainting"
SDXL_INPAINT = "diffusers/stable-diffusion-xl-1.0-inpainting-0.1"
SDXL_REFINER = "stabilityai/stable-diffusion-xl-refiner-1.0"
KANDINSKY = "kandinsky-community/kandinsky-2-2-decoder"
KANDINSKY_INPAINT = "kandinsky-community/kandinsky-2-2-decoder-inpaint"
KANDINSKY_PRIOR = "kandinsky-community/kandinsky-2-2-prior"
COMIC, PIXEL_ART, ELDEN_RING = (
    "ogkalu/Comic-Diffusion", "kohbanye/pixel-art-style", "nitrosocke/elden-ring-diffusion",
)  # fmt: skip
UPSCALE_X2, UPSCALE_X4 = "stabilityai/sd-x2-latent-upscaler", "stabilityai/stable-diffusion-x4-upscaler"
CONTROL_INPAINT, CONTROL_DEPTH = "lllyasviel/control_v11p_sd15_inpaint", "lllyasviel/control_v11f1p_sd15_depth"
DEPTH = "depth-anything/Depth-Anything-V2-Small-hf"
LCM_LORA = "latent-consistency/lcm-lora-sdv1-5"
SEGMENTER = "facebook/sam-vit-base"
PICTURES, MORE_PICTURES = "huggingface/documentation-images", "YiYiXu/testing-images"

# The forms in which a model's weights are published.
SAFE, SAFE16, PICKLE, PICKLE16 = "safetensors", "fp16.safetensors", "bin", "fp16.bin"
SHARDS, SHARDS16 = "shards", "fp16.shards"

WORDS = 563  # entries of the tokenizer, which is the miniatures' own
STEPS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
NOT_TO_BE_FETCHED = b"nobody should fetch this\n" * 400


def serve(hub: Hub, sizes: dict[str, int] = REAL) -> None:
    """Push every repository of the course to `hub`, and keep them as what hub.reset() comes back to."""
    for repo, files in repositories(sizes).items():
        hub.push(repo, files)
    for repo, pictures in _PICTURES.items():
        drawn = {path: functools.partial(_picture, name) for path, name in pictures.items()}
        hub.push(repo, drawn, kind="datasets")
    hub.keep()


def repositories(sizes: dict[str, int]) -> dict[str, dict[str, Data]]:
    """Hub id -> path -> bytes, or what makes them."""
    sd, sdxl, kandinsky = sizes["sd"] // 8, sizes["sdxl"] // 8, sizes["kandinsky22"] // 8
    text = _text("text_encoder")
    whole = {f"{name}.{kind}": NOT_TO_BE_FETCHED for name in ("v1-5-pruned", "v1-5-pruned-emaonly")
             for kind in ("ckpt", "safetensors")}  # fmt: skip
    every, half_only = (SAFE, SAFE16, PICKLE, PICKLE16), (SAFE16, PICKLE, PICKLE16)
    no_half, pickled = (SAFE, PICKLE), (PICKLE,)
    xl, xl_unet = (SAFE, SAFE16), (SHARDS, SHARDS16)
    return {
        SD15: _sd(sd, every, checker=every) | whole,
        SD15_INPAINT: _sd(sd, half_only, text_forms=every, checker=half_only, unet="unet-sd15-inpaint",
                          kind="StableDiffusionInpaintPipeline") | {"sd-v1-5-inpainting.ckpt": NOT_TO_BE_FETCHED},
        COMIC: _sd(sd, no_half, checker=no_half) | {"comic-diffusion-V2.ckpt": NOT_TO_BE_FETCHED},
        PIXEL_ART: _sd(sd, pickled, checker=pickled) | {"pixel-art-style.ckpt": NOT_TO_BE_FETCHED},
        ELDEN_RING: _sd(sd, pickled, checker=pickled) | {"eldenRing-v3-pruned.ckpt": NOT_TO_BE_FETCHED},
        SDXL_INPAINT: {
            **_index("StableDiffusionXLInpaintPipeline", _SDXL, force_zeros_for_empty_prompt=True,
                     requires_aesthetics_score=False),
            **text, **_text("text_encoder_2"), **_scheduler("EulerDiscreteScheduler"),
            **_model("vae", "vae-sdxl", forms=xl, size=sdxl * 8),
            **_model("unet", "unet-sdxl-inpaint", forms=xl_unet, size=sdxl),
        },
        SDXL_REFINER: {
            **_index("StableDiffusionXLImg2ImgPipeline", _REFINER, force_zeros_for_empty_prompt=False,
                     requires_aesthetics_score=True),
            **_text("text_encoder_2"), **_scheduler("EulerDiscreteScheduler"),
            **_model("vae", "vae-sdxl", forms=xl, size=sdxl * 8),
            **_model("unet", "unet-sdxl-refiner", forms=xl, size=sdxl),
            **_never("vae_1_0", "diffusion_pytorch_model", xl),
            "sd_xl_refiner_1.0.safetensors": NOT_TO_BE_FETCHED,
        },
        KANDINSKY: _decoder("KandinskyV22Pipeline", "unet-kandinsky22", kandinsky),
        KANDINSKY_INPAINT: _decoder("KandinskyV22InpaintPipeline", "unet-kandinsky22-inpaint", kandinsky),
        KANDINSKY_PRIOR: {
            **_index("KandinskyV22PriorPipeline", _PRIOR),
            **_model("prior", "prior", forms=(SAFE,)), **_text("text_encoder", (SAFE,)),
            **_model("image_encoder", "image_encoder", forms=(SHARDS,)), **_processor("image_processor"),
            **_scheduler("UnCLIPScheduler", variance_type="fixed_small_log", prediction_type="sample",
                         num_train_timesteps=1000, clip_sample_range=5.0),
        },
        UPSCALE_X2: {
            **_index("StableDiffusionLatentUpscalePipeline", _UPSCALE_X2), **_text("text_encoder", no_half),
            **_model("vae", "vae", forms=no_half, size=sizes["upscale-x2"]),
            **_model("unet", "unet-upscale-x2", forms=no_half, size=sizes["upscale-x2"] // 8),
            **_scheduler("EulerDiscreteScheduler", **STEPS),
        },
        UPSCALE_X4: {
            **_index("StableDiffusionUpscalePipeline", _UPSCALE_X4, max_noise_level=350),
            **_text("text_encoder", no_half), **_scheduler("DDIMScheduler", **STEPS),
            **_scheduler("DDPMScheduler", folder="low_res_scheduler", **STEPS),
            **_model("vae", "vae-upscale-x4", forms=no_half, size=sizes["upscale-x4"] * 4),
            **_model("unet", "unet-upscale-x4", forms=no_half, size=sizes["upscale-x4"]),
            "x4-upscaler-ema.ckpt": NOT_TO_BE_FETCHED,
        },
        CONTROL_INPAINT: _card() | _model("", "controlnet", forms=every),
        CONTROL_DEPTH: _card() | _model("", "controlnet", forms=every),
        DEPTH: {
            **_card(), **_model("", "depth", forms=(SAFE,)),
            "preprocessor_config.json": _json({
                "do_normalize": True, "do_rescale": True, "do_resize": True, "do_pad": False, "ensure_multiple_of": 14,
                "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "keep_aspect_ratio": True,
                "image_processor_type": "DPTImageProcessor", "resample": 3, "rescale_factor": 1 / 255,
                "size": {"height": 518, "width": 518}, "size_divisor": None,
            }),
        },
        LCM_LORA: {**_card(), "pytorch_lora_weights.safetensors": _lora},
        SEGMENTER: {
            **_card(), **_model("", "segmenter", forms=no_half), "tf_model.h5": NOT_TO_BE_FETCHED,
            "preprocessor_config.json": _json({
                "do_convert_rgb": True, "do_normalize": True, "do_pad": True, "do_rescale": True, "do_resize": True,
                "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
                "image_processor_type": "SamImageProcessor", "pad_size": {"height": 1024, "width": 1024},
                "processor_class": "SamProcessor", "resample": 2, "rescale_factor": 1 / 255,
                "size": {"longest_edge": 1024},
            }),
        },
    }  # fmt: skip


def _components(name: str, **others: list) -> dict[str, list]:
    """The components of a pipeline, as model_index.json names them: the miniature's, and `others`."""
    return {part: entry[:2] for part, entry in RECIPES[name]["components"].items()} | others


_SD = _components(
    "sd15",
    feature_extractor=["transformers", "CLIPFeatureExtractor"],  # as these files still say; the class is gone
    safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
)
_SDXL = _components("sdxl-inpaint", scheduler=["diffusers", "EulerDiscreteScheduler"])
_REFINER = _SDXL | {"text_encoder": [None, None], "tokenizer": [None, None]}
_UPSCALE_X2 = _components("upscale-x2")
_UPSCALE_X4 = _components("upscale-x4", scheduler=["diffusers", "DDIMScheduler"], watermarker=[None, None])
_DECODER = {part: _components("kandinsky22")[part] for part in ("movq", "scheduler", "unet")}
_PRIOR = {part[6:]: entry for part, entry in _components("kandinsky22").items() if part.startswith("prior_")}


def _sd(size: int, forms: tuple, *, checker: tuple, text_forms: tuple = (), unet: str = "unet-sd15",
        kind: str = "StableDiffusionPipeline") -> dict[str, Data]:  # fmt: skip
    return {
        **_index(kind, _SD),
        **_text("text_encoder", text_forms or forms),
        **_model("vae", "vae", forms=forms, size=size * 8),
        **_model("unet", unet, forms=forms, size=size),
        **_scheduler("PNDMScheduler", **STEPS, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False),
        **_processor("feature_extractor"),
        **_never("safety_checker", "model", checker),
    }


def _decoder(kind: str, unet: str, size: int) -> dict[str, Data]:
    return {
        **_index(kind, _DECODER, prior=KANDINSKY_PRIOR),
        **_model("unet", unet, forms=(SAFE,), size=size),
        **_model("movq", "movq", forms=(SAFE,), size=size * 8),
        **_scheduler("DDPMScheduler", **STEPS | {"beta_schedule": "linear", "beta_end": 0.012}),
    }


def _index(kind: str, components: dict[str, list], *, prior: str = "", **config: object) -> dict[str, Data]:
    return _card(prior) | {
        "model_index.json": _json({"_class_name": kind, "_diffusers_version": "0.20.0", **config, **components})
    }


def _card(prior: str = "") -> dict[str, Data]:
    """The card; a decoder names its prior's repository in it, and diffusers reads it there."""
    named = f"prior:\n- {prior}\n" if prior else ""
    text = f"---\nlicense: other\n{named}---\n# A tiny checkpoint with random weights\n"
    return {"README.md": text.encode(), ".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}


def _text(folder: str, forms: tuple = (SAFE, SAFE16)) -> dict[str, Data]:
    """A text encoder and its tokenizer, in the format of two files that these checkpoints were published in."""
    tokens = folder.replace("text_encoder", "tokenizer")
    model = json.loads((ROOT / "data/miniatures/tokenizer/tokenizer.json").read_text(encoding="utf-8"))["model"]
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in model["merges"]), ""])
    start, end = "<|startoftext|>", "<|endoftext|>"
    special = {"bos_token": start, "eos_token": end, "pad_token": "!" if folder[-1] == "2" else end, "unk_token": end}
    return {
        f"{tokens}/vocab.json": _json(model["vocab"]),
        f"{tokens}/merges.txt": merges.encode(),
        f"{tokens}/special_tokens_map.json": _json(special),
        f"{tokens}/tokenizer_config.json": _json(
            special | {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
        ),
        **_model(folder, folder, forms=forms),
    }


def _processor(folder: str) -> dict[str, Data]:
    settings = {"crop_size": 224, "size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True,
                "feature_extractor_type": "CLIPFeatureExtractor", "resample": 3,
                "image_mean": [0.48145466, 0.4578275, 0.40821073],
                "image_std": [0.26862954, 0.26130258, 0.27577711]}  # fmt: skip
    return {f"{folder}/preprocessor_config.json": _json(settings)}


def _scheduler(kind: str, *, folder: str = "scheduler", **settings: object) -> dict[str, Data]:
    settings = {"_class_name": kind, "_diffusers_version": "0.20.0"} | (settings or STEPS)
    return {f"{folder}/scheduler_config.json": _json(settings)}


def _never(folder: str, stem: str, forms: tuple) -> dict[str, Data]:
    """A folder that no pipeline of the course needs."""
    names = [_stem(stem, form) + "." + form for form in forms if "shards" not in form]
    return {f"{folder}/{name}": NOT_TO_BE_FETCHED for name in names} | {f"{folder}/config.json": b"{}"}


def _model(folder: str, name: str, *, forms: tuple, size: int = 0) -> dict[str, Data]:
    """A model's config and its weights in all its published forms."""
    prefix = f"{folder}/" if folder else ""
    stem = "model" if name in _TRANSFORMERS else "diffusion_pytorch_model"
    files: dict[str, Data] = {f"{prefix}config.json": functools.partial(_config, name, size)}
    for form in forms:
        half = form.startswith("fp16.")
        if form.endswith("shards"):
            dotted = ".fp16" if half else ""
            shards = [f"{stem}{dotted}-0000{n}-of-00002.safetensors" for n in (1, 2)]
            for n, file in enumerate(shards):
                files[prefix + file] = functools.partial(_shard, name, size, n, half=half)
            index = f"{stem}.safetensors.index{dotted}.json"
            files[prefix + index] = functools.partial(_shards, name, size, shards, half=half)
        else:
            files[f"{prefix}{_stem(stem, form)}.{form}"] = functools.partial(_weights, name, size, form)
    return files


def _config(name: str, size: int) -> bytes:
    model = _built(name, size)
    return (model.config if name in _TRANSFORMERS else model).to_json_string().encode()


def _stem(stem: str, form: str) -> str:
    return "pytorch_model" if stem == "model" and form.endswith("bin") else stem


def _weights(name: str, size: int, form: str) -> bytes:
    state = _state(name, size, half=form.startswith("fp16"))
    if form.endswith("bin"):
        file = io.BytesIO()
        torch.save(state, file)
        return file.getvalue()
    return safetensors.torch.save(state, {"format": "pt"})


def _lora() -> bytes:
    """A LoRA for one layer of sd15's UNet, named and scaled by an alpha as the publisher's file does it."""
    torch.manual_seed(5)
    layer = "lora_unet_down_blocks_2_attentions_0_transformer_blocks_0_attn1_to_q"
    weights = {"lora_down.weight": torch.randn(2, 32), "lora_up.weight": torch.randn(32, 2), "alpha": torch.tensor(1.0)}
    return safetensors.torch.save({f"{layer}.{key}": value.half() for key, value in weights.items()}, {"format": "pt"})


def _shard(name: str, size: int, number: int, *, half: bool) -> bytes:
    return safetensors.torch.save(_halves(_state(name, size, half=half))[number], {"format": "pt"})


def _shards(name: str, size: int, files: list[str], *, half: bool) -> bytes:
    halves = _halves(_state(name, size, half=half))
    total = sum(weight.nbytes for part in halves for weight in part.values())
    where = {key: file for file, part in zip(files, halves, strict=True) for key in part}
    return _json({"metadata": {"total_size": total}, "weight_map": where})


def _halves(state: dict) -> list[dict]:
    keys = sorted(state)
    return [{key: state[key] for key in part} for part in (keys[: len(keys) // 2], keys[len(keys) // 2 :])]


def _state(name: str, size: int, *, half: bool) -> dict[str, torch.Tensor]:
    model = _built(name, size)
    tied = getattr(model, "_tied_weights_keys", None) or ()  # published once
    state = {key: value.contiguous() for key, value in model.state_dict().items() if key not in tied}
    return {key: value.half() if half and value.is_floating_point() else value for key, value in state.items()}


@functools.cache
def _built(name: str, size: int) -> torch.nn.Module:
    """The model, its weights the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sum(name.encode()))
        model = _BUILDERS[name](**{"sample_size": size} if size else {})
    if name in _TRANSFORMERS:
        model.config.dtype = "float32"  # as the publishers' configs say, whatever the files hold
    return model


def _depth() -> torch.nn.Module:
    stages = [f"stage{number}" for number in (1, 2, 3, 4)]
    backbone = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, mlp_ratio=2, image_size=518, patch_size=14,
        out_features=stages, reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    return transformers.DepthAnythingForDepthEstimation(transformers.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, neck_hidden_sizes=[8] * 4, fusion_hidden_size=8,
        head_hidden_size=8,
    ))  # fmt: skip


def _segmenter() -> torch.nn.Module:
    vision = transformers.SamVisionConfig(
        hidden_size=16, output_channels=16, num_hidden_layers=1, num_attention_heads=2, mlp_dim=32,
        global_attn_indexes=[], num_pos_feats=8,
    )  # fmt: skip
    model = transformers.SamModel(transformers.SamConfig(
        vision_config=vision, prompt_encoder_config=transformers.SamPromptEncoderConfig(hidden_size=16),
        mask_decoder_config=transformers.SamMaskDecoderConfig(
            hidden_size=16, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16,
        ),
    ))  # fmt: skip
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.2)  # so that no mask is empty, and none full
    return model


_TRANSFORMERS = ("text_encoder", "text_encoder_2", "image_encoder", "depth", "segmenter")
# Attention on a sixteenth of the latents only, so that images of the real size take no minutes.
_BUILDERS = builders(
    words=WORDS,
    blocks={
        "block_out_channels": (16, 16, 32), "down_block_types": ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    },
    vae={"mid_block_add_attention": False},
    movq={"up_block_types": ("UpDecoderBlock2D",) * 4, "mid_block_add_attention": False},
    vision={"image_size": 224, "patch_size": 56},
) | {"depth": _depth, "segmenter": _segmenter}  # fmt: skip


# The pictures of the diffusers guides by their paths in the data sets; drawn ones stand in for them.
_PICTURES = {
    PICTURES: {
        "diffusers/inpaint.png": "castle", "diffusers/inpaint_mask.png": "castle_mask",
        "diffusers/road-mask.png": "road_mask", "diffusers/cat.png": "bench",
        "diffusers/img2img-init.png": "meadow", "diffusers/img2img-sdxl-init.png": "lighthouse",
    },
    MORE_PICTURES: {"seashore.png": "seashore", "seashore_mask.png": "seashore_mask"},
}  # fmt: skip


def _picture(name: str) -> bytes:
    return (ROOT / "data" / "pictures" / f"{name}.png").read_bytes()


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
