"""What every recipe keeps: two steps make a small component that plain diffusers loads and calls, and two more go on.

Its figures and its sheet are made as well. The recipes' own arithmetic is tested beside this file.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from helpers.catalog import miniatures
from helpers.catalog.checkpoints import CATALOG
from helpers.pipelines import loading
from miniature_training import registry
from miniature_training.evaluation import scores, sheets
from tests.support.workshop import mebibytes, move

R = "miniature_training.recipes"


@dataclass
class Moment:
    """A training of a moment: its recipe's arguments, what it writes and how large that may be, what is made less."""

    writes: tuple[str, ...]
    limit: float  # MiB, of all that it writes
    more: dict[str, Any] = field(default_factory=dict)
    less: dict[str, Any] = field(default_factory=dict)  # "module.name" -> value
    resumes: bool = True
    only: str = ""  # what the second round may move, as a pattern of names


def batch(module: str, size: int = 2) -> dict[str, Any]:
    return {f"{R}.{module}.BATCH": {"cpu": size, "cuda": size}}


SHARD = {"miniature_training.models.latent_pool.SHARD": 6} | batch("joint")
LCM = batch("lcm") | {f"{R}.lcm.TURN": 1, f"{R}.lcm.ALONE": 1}
STEERS = "(?!.*time_emb)"
XL = {f"{R}.sdxl.LR": {"cpu": 0.2, "cuda": 0.2}, f"{R}.refiner.LR": {"cpu": 0.2, "cuda": 0.2}}
MOMENTS = {
    "vae": Moment(("vae",), 2.0, {"count": 12}, {f"{R}.vae.BATCH": 2}),
    "vae-decoder": Moment(("vae",), 2.0, {"count": 12}, {f"{R}.decoder.figures": id, f"{R}.decoder.ALONE": 1}),
    "movq-decoder": Moment(("movq",), 1.1, {"count": 8}, {f"{R}.decoder.figures": id, f"{R}.decoder.ALONE": 1}),
    "text_encoder": Moment(("text_encoder",), 1.5, {}, {f"{R}.text.train_tokenizer": lambda: load_tokenizer()}),
    "text_encoder_2": Moment(("text_encoder_2",), 0.3, {}, batch("text_encoder_2")),
    "classifier": Moment(("classifier",), 2.0, {"count": 12}, {f"{R}.classifier.figures": dict}),
    "sd15-inpaint": Moment(("unet-sd15-inpaint",), 16, {"least": 1}, SHARD),
    "sd15": Moment(("unet-sd15",), 16, {"least": 1}, SHARD),
    "style-tokens": Moment(("text_encoder",), 1.5, {}, {f"{R}.style_tokens.BATCH": 8}, resumes=False),
    "pixel-art": Moment(("delta-pixel-art",), 1.1, {"count": 4}, batch("styles")),
    "lcm": Moment(("lcm",), 1.5, {"least": 1}, SHARD | LCM),
    "depth-estimator": Moment(("depth-estimator",), 0.6, {"count": 12}, batch("depth")),
    "controlnet-depth": Moment(("delta-controlnet-depth",), 1.0, {"count": 4}, batch("controls"), only=STEERS),
    "controlnet-inpaint": Moment(("delta-controlnet-inpaint",), 1.0, {"count": 4}, batch("controls"), only=STEERS),
    "upscale-x2": Moment(("unet-upscale-x2",), 1.8, {"count": 3}, batch("upscale_x2")),
    "vae-upscale-x4": Moment(("vae-upscale-x4",), 0.45, {"count": 4}, batch("vae_x4")),
    "upscale-x4": Moment(("unet-upscale-x4",), 0.9, {"count": 4}, batch("upscale_x4", 4)),
    "clip": Moment(("clip-text", "clip-image"), 1.8, {"count": 8}, batch("clip", 8)),
    "kandinsky-prior": Moment(("prior",), 0.6, {"count": 8}, batch("prior")),
    "movq": Moment(
        ("movq",),
        1.1,
        {"count": 8},
        batch("movq", 1) | {f"{R}.movq.psnr": lambda model, count: 0.0},
        only="decoder|post_quant_conv",
    ),
    "kandinsky22": Moment(("unet-kandinsky22",), 6.5, {"count": 8}, batch("kandinsky")),
    "kandinsky22-inpaint": Moment(("delta-kandinsky22-inpaint",), 0.9, {"count": 8}, batch("kandinsky")),
    "sdxl-inpaint": Moment(("unet-sdxl-inpaint",), 7.0, {"count": 8}, batch("sdxl") | XL),
    "sdxl-refiner": Moment(("unet-sdxl-refiner",), 5.0, {"count": 8}, batch("refiner") | XL),
}
ALIKE = {"comic": "pixel-art", "elden-ring": "pixel-art"}  # the same functions with another style


def load_tokenizer():
    from miniature_training.recipes import text

    return text.load()[0]


def test_every_recipe_has_a_moment():
    assert registry.RECIPES.keys() == {*MOMENTS, *ALIKE}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """One workshop for all of them: what one recipe writes, the next one starts from."""
    patch = pytest.MonkeyPatch()
    loading.unload()
    yield move(patch, tmp_path_factory.mktemp("workshop"))
    loading.unload()
    patch.undo()


def weights(folder) -> dict[str, torch.Tensor]:
    return {key: value for file in folder.glob("*.safetensors") for key, value in load_file(file).items()}


@pytest.mark.parametrize("name", MOMENTS)
def test_a_moment_of_training_makes_what_plain_diffusers_calls_and_another_goes_on(shop, monkeypatch, name):
    moment, train = MOMENTS[name], registry.RECIPES[name]
    for where, value in moment.less.items():
        module, _, attribute = where.rpartition(".")
        monkeypatch.setattr(import_module(module), attribute, value)
    folders = [shop / folder for folder in moment.writes]
    before = [weights(folder) for folder in folders]
    for rounds in (1, 2):
        train(minutes=1, steps=2, **moment.more, **({"resume": True} if rounds == 2 else {}))
        after = [weights(folder) for folder in folders]
        for old, new in zip(before, after, strict=True):
            same = {key for key in old.keys() & new.keys() if old[key].shape == new[key].shape}
            moved = {key for key in same if not torch.equal(old[key], new[key])}
            assert (moved or not old) and (rounds == 1 or all(re.match(moment.only, key) for key in moved))
            kinds = {value.dtype for key, value in new.items() if not key.endswith(".scale")}
            assert kinds <= {torch.float16, torch.int8, torch.int64}
        before = after
        if rounds == 2 and moment.resumes:
            noted = json.loads((shop / "training.json").read_text())
            assert ", 4 steps" in (noted.get(name) or noted[moment.writes[0]])
    assert sum(map(mebibytes, folders)) <= moment.limit
    call(name)


def call(name: str) -> None:
    """Load the checkpoint as anybody would, in float32, and let it make an image."""
    if name not in CATALOG:
        return
    entry, source = miniatures.recipes()[name], CATALOG[name].source
    if "model" in entry:
        library, kind, *_ = entry["model"]
        if library == "peft":
            return call_with_lora(source)
        models = [getattr(import_module(library), kind).from_pretrained(source)]
    else:
        pipe = getattr(diffusers, entry["pipeline"]).from_pretrained(source)
        models = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
        side = CATALOG[name].size
        image, mask = Image.new("RGB", (side, side), "teal"), Image.new("L", (side, side))
        mask.paste(255, (side // 4, side // 4, side // 2, side // 2))
        told = {"num_inference_steps": 10 if name == "sdxl-refiner" else 2, "output_type": "np"}
        if "inpaint" in name:
            told |= {"image": image, "mask_image": mask}
        elif name.startswith("upscale"):
            told |= {"image": image.resize((side // 2, side))}
        elif name == "sdxl-refiner":
            told |= {"image": image, "strength": 0.3}
        if name.startswith("kandinsky"):
            told |= {"prior_num_inference_steps": 2, "height": side, "width": side}
        pipe.set_progress_bar_config(disable=True)
        made = pipe("a red cat", generator=torch.Generator().manual_seed(0), **told).images
        factor = {"upscale-x2": 2, "upscale-x4": 4}.get(name, 1)
        wide = side // 2 if name.startswith("upscale") else side
        assert made.shape == (1, factor * side, factor * wide, 3) and np.isfinite(made).all()
    assert {parameter.dtype for model in models for parameter in model.parameters()} == {torch.float32}
    means = [value for model in models for key, value in model.named_buffers() if key.endswith("running_mean")]
    assert all(value.abs().max() > 0 for value in means), "what is stored has seen the statistics of its batches"


def call_with_lora(source: str) -> None:
    """Both bases make images of the LoRA's own with the standard calls, and are what they were without it."""
    image, mask = Image.new("RGB", (128, 128), "teal"), Image.new("L", (128, 128), 255)
    for base in ("sd15", "sd15-inpaint"):
        pipe = loading.load(base)
        pipe.set_progress_bar_config(disable=True)
        pipe.scheduler = diffusers.LCMScheduler.from_config(pipe.scheduler.config)
        told = {"image": image, "mask_image": mask} if base == "sd15-inpaint" else {}
        told |= {"num_inference_steps": 4, "guidance_scale": 1.0, "output_type": "np"}

        def made(pipe=pipe, told=told) -> np.ndarray:
            return pipe("a red cat", generator=torch.Generator().manual_seed(0), **told).images

        plain = made()
        pipe.load_lora_weights(source, adapter_name="lcm")
        loaded = made()
        assert pipe.get_active_adapters() == ["lcm"] and np.isfinite(loaded).all() and np.abs(loaded - plain).max() > 0
        pipe.fuse_lora()
        assert np.abs(made() - loaded).max() < 0.02
        pipe.unfuse_lora()
        pipe.unload_lora_weights()
        assert np.abs(made() - plain).max() < 0.02
    loading.unload()


HEADS = {"subject", "colour", "place"}
DEPTH = {"depth_correlation", "subject_depth_correlation", "inpaint_subject_depth_correlation"}
FIGURES: dict[str, tuple[dict[str, Any], set[str]]] = {  # arguments for the least of work, and figures that come
    "vae": ({"count": 2}, {"psnr_db"}),
    "classifier": ({"count": 12}, {*HEADS, "hour", "calibration_error"}),
    "sd15": ({"count": 2, "steps": 1}, HEADS),
    "sd15-inpaint": ({"count": 2, "steps": 1}, {"subject", "colour"}),
    "pixel-art": ({"count": 2, "steps": 1}, {"style_with_token", "style_without_token", "style_told_of_drawings"}),
    "lcm": ({"count": 2, "guided_steps": 1}, {"structure", "guided_structure", *HEADS, "inpaint_subject"}),
    "depth-estimator": ({"count": 2}, {"depth_correlation", "error"}),
    "controlnet-depth": ({"count": 2, "steps": 1}, {*DEPTH, *HEADS, "without_depth_correlation"}),
    "controlnet-inpaint": ({"count": 2, "steps": 1}, {"outside_db", "inpaint_seam_levels", "without_outside_db"}),
    "upscale-x2": ({"count": 1, "steps": 1}, {"psnr_db", "bicubic_psnr_db", "guided_psnr_db", "sharpness"}),
    "vae-upscale-x4": ({"count": 1}, {"psnr_db", "close_psnr_db"}),
    "upscale-x4": ({"count": 1, "steps": 1}, {"psnr_db", "bicubic_psnr_db", "close_psnr_db", "guided_psnr_db"}),
    "clip": ({"count": 40}, {"right_caption"}),
    "kandinsky-prior": ({"count": 40}, {"right_picture"}),
    "movq": ({"count": 2}, {"psnr_db"}),
    "kandinsky22": ({"count": 2, "steps": 1}, HEADS),
    "kandinsky22-inpaint": ({"count": 2, "steps": 1}, HEADS),
    "sdxl-inpaint": (
        {"count": 2, "num_inference_steps": 2},
        {"subject", "text_place"},
    ),
    "sdxl-refiner": ({"count": 1}, {"psnr_db", "before_psnr_db", "at_a_low_score_sharpness"}),
}


def test_every_miniature_is_measured():
    assert scores.EVALUATIONS.keys() == {*FIGURES, *ALIKE}


@pytest.mark.parametrize("name", FIGURES)
def test_its_figures_are_finite_and_named(shop, monkeypatch, name):
    if name in ("vae", "pixel-art", "lcm"):  # the ruler and the probe are fitted on hundreds of drawings
        monkeypatch.setattr(f"{R}.decoder.ruler", lambda: lambda images: {})
        monkeypatch.setattr(f"{R}.lcm.ruler", lambda: lambda images: {"structure": 10.0})
        monkeypatch.setattr(f"{R}.decoder.psnr", lambda vae, count: 30.0)
        monkeypatch.setattr("miniature_training.evaluation.style_probe.FITTED_ON", 12)
        monkeypatch.setattr("miniature_training.evaluation.style_probe.CHECKED_ON", 2)
        monkeypatch.setattr(f"{R}.styles.readable", lambda style: dict.fromkeys(HEADS, 0.5))
    arguments, expected = FIGURES[name]
    figures = scores.EVALUATIONS[name](**arguments)
    assert figures.keys() >= expected and all(np.isfinite(value) for value in figures.values())
    shares = [value for key, value in figures.items() if key.split("_")[-1] in HEADS]
    assert all(0 <= share <= 1 for share in shares)


SHEETS = {  # with arguments for the least of work
    "pixel-art": {"seeds": 1, "steps": 1},
    "lcm": {"seeds": 1, "guided_steps": 1},
    "depth-estimator": {},
    "controlnet-depth": {"count": 1, "steps": 1},
    "controlnet-inpaint": {"count": 1, "steps": 1},
    "upscale-x2": {"count": 1, "steps": 1},
    "vae-upscale-x4": {"count": 2},
    "upscale-x4": {"count": 2, "steps": 1},
    "movq": {},
    "vae": {},
}


@pytest.mark.parametrize("name", SHEETS)
def test_its_sheet_is_drawn(shop, name):
    sheet = sheets.SHEETS[name](**SHEETS[name])
    assert sheet.width > 2 * 128 and sheet.height > 128
