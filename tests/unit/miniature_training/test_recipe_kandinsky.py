"""Kandinsky's recipes: decoders that start from sd15, masks as in the pipeline, checkpoints that load anywhere."""

from __future__ import annotations

import random

import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers.pipelines.kandinsky2_2.pipeline_kandinsky2_2_inpainting import prepare_mask
from PIL import Image
from transformers import CLIPTokenizer

from helpers.catalog.checkpoints import CATALOG
from miniature_training import registry
from miniature_training.models import repainting, store
from miniature_training.recipes import clip, kandinsky, kandinsky_checkpoints, movq, prior
from miniature_training.recipes.unet import build as build_sd15
from miniature_training.world.scenes import sample
from miniature_training.world.strokes import training_mask
from tests.support.workshop import workshop  # noqa: F401


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_decoder_fits_into_its_share_and_reads_an_image_embedding():
    unet = kandinsky.build()
    assert sum(p.numel() for p in unet.parameters()) * 2 <= 4.5 * 2**20
    assert (unet.config.encoder_hid_dim_type, unet.config.addition_embed_type) == ("image_proj", "image")
    assert unet.config.out_channels == 8 and unet.config.encoder_hid_dim == clip.WIDTH


@torch.no_grad()
def test_it_starts_as_sd15_does_in_turned_latents():
    torch.manual_seed(0)
    sd15 = build_sd15()
    unet, z = kandinsky.start(sd15), noise(2, 4, 16, 16)
    assert torch.allclose(unet.conv_in(movq.turned(z)), sd15.conv_in(z), atol=1e-5)
    features = noise(1, 32, 16, 16)
    predicted, spread = unet.conv_out(features).chunk(2, 1)
    assert torch.allclose(predicted, movq.turned(sd15.conv_out(features)), atol=1e-5)
    assert not spread.any(), "half way between the bounds of the variance"
    state, given = unet.state_dict(), sd15.state_dict()
    fresh = [key for key in state if key not in given or state[key].shape != given[key].shape]
    assert {key.split(".")[0] for key in fresh} <= {"encoder_hid_proj", "add_embedding", "down_blocks", "up_blocks"} | {
        "conv_out"
    }
    assert all("attn2" in key for key in fresh if "blocks" in key), "what read words reads an embedding now"
    same = [key for key in state if key not in fresh and not key.startswith(("conv_in", "conv_out"))]
    assert all(torch.equal(state[key], given[key]) for key in same)


@torch.no_grad()
def test_inpainting_starts_as_the_decoder():
    torch.manual_seed(0)
    four = kandinsky.build().eval()
    nine = kandinsky.nine_channels(four).eval()
    x, more, added = noise(1, 4, 16, 16), noise(1, 5, 16, 16, seed=1), {"image_embeds": noise(1, clip.WIDTH)}
    plain = four(x, 500, encoder_hidden_states=None, added_cond_kwargs=added).sample
    wide = nine(torch.cat([x, more], 1), 500, encoder_hidden_states=None, added_cond_kwargs=added).sample
    assert torch.allclose(plain, wide, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_masks_are_those_that_the_pipeline_makes(seed):
    subject = np.zeros((128, 128), dtype=np.uint8)
    subject[40:110, 50:90] = 255
    repaint = training_mask(subject, random.Random(seed))
    keep = torch.from_numpy(1 - repaint.astype(np.float32))[None, None]
    wanted = prepare_mask(F.interpolate(keep, (16, 16), mode="nearest"))
    assert np.array_equal(repainting.kept(repaint[None, None]), wanted.numpy())
    assert repainting.kept(np.zeros((128, 128), dtype=bool)).all() and not repainting.kept(np.ones((128, 128))).any()


def test_what_is_hidden_is_called_for_by_its_like_and_nothing_by_an_empty_place():
    scenes = [sample(seed) for seed in range(1500)]
    callers, rng = repainting.Callers(scenes), random.Random(0)
    castles = [i for i, scene in enumerate(scenes) if scene.subject == "castle"][:20]
    picks = [callers.pick(i, rng, hidden=True) for i in castles for _ in range(20)]
    for i, j in zip([i for i in castles for _ in range(20)], picks, strict=True):
        assert (scenes[j].subject, scenes[j].colour) == ("castle", scenes[i].colour)
    elsewhere = sum(scenes[i].place != scenes[j].place for i, j in zip(np.repeat(castles, 20), picks, strict=True))
    assert 0.1 < elsewhere / len(picks) < 0.7, "often in another place, which the surroundings have to tell"
    for i in castles:
        empty = scenes[callers.pick(i, rng, hidden=False)]
        assert (empty.subject, empty.place) == (None, scenes[i].place)
    assert repainting.Callers(scenes[:1]).pick(0, rng, hidden=False) == 0, "no empty place to be had"


def test_the_variance_learns_what_the_error_asks_for_and_nothing_else_does():
    alphas = diffusers.DDPMScheduler(**kandinsky.SCHEDULE).alphas_cumprod
    here, there = alphas[500].view(1, 1, 1, 1), alphas[460].view(1, 1, 1, 1)

    def loss(spread: float, error: float) -> float:
        values = (torch.full((1, 4, 2, 2), value) for value in (spread, error))
        return kandinsky.variance_loss(*values, here=here, there=there).item()

    assert loss(-1, 0) == pytest.approx(0, abs=1e-6), "a perfect guess needs the lower bound"
    assert loss(1, 0) > 1e-4
    spreads = np.linspace(-1, 1, 101)
    best = spreads[np.argmin([loss(float(spread), 0.5) for spread in spreads])]
    beta = 1 - here / there
    true = (1 - there) / (1 - here) * beta
    wanted = true + (0.5 * there.sqrt() * beta / (1 - here)).square()  # of the true step, and of the guess about it
    share = ((wanted.log() - true.log()) / (beta.log() - true.log())).item()
    assert best == pytest.approx(2 * share - 1, abs=0.05)
    error = torch.ones(1, 4, 2, 2, requires_grad=True)
    spread = torch.zeros(1, 4, 2, 2, requires_grad=True)
    kandinsky.variance_loss(spread, error, here=here, there=there).backward()
    assert spread.grad.any() and error.grad is None


@pytest.fixture
def parts(workshop, monkeypatch):  # noqa: F811
    """What the decoders stand on, untrained."""
    torch.manual_seed(0)
    words, image = clip.build(store.load_component("tokenizer", CLIPTokenizer))
    for name, part in (
        ("clip-text", words), ("clip-image", image), ("clip-processor", clip.image_processor()),
        ("prior", prior.build()), ("prior-scheduler", prior.scheduler()), ("movq", movq.build()),
    ):  # fmt: skip
        store.save_component(name, part)
    monkeypatch.setattr(kandinsky, "BATCH", {"cpu": 2, "cuda": 2})
    return workshop


def weights(pipe) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in pipe.unet.state_dict().items()}


def test_training_makes_checkpoints_that_load_and_paint_from_anywhere(parts, monkeypatch, tmp_path):
    registry.RECIPES["kandinsky22"](minutes=1, steps=2, count=8)
    assert sum(f.stat().st_size for f in (parts / "unet-kandinsky22").iterdir()) <= 4.5 * 2**20
    registry.RECIPES["kandinsky22-inpaint"](minutes=1, steps=2, count=8)
    assert sum(f.stat().st_size for f in (parts / "delta-kandinsky22-inpaint").iterdir()) <= 0.5 * 2**20
    monkeypatch.chdir(tmp_path)
    call = {"num_inference_steps": 2, "prior_num_inference_steps": 2, "height": 64, "width": 64}
    image, mask = Image.new("RGB", (64, 64), "teal"), Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))

    source = CATALOG["kandinsky22"].source
    text2image = diffusers.AutoPipelineForText2Image.from_pretrained(source)
    image2image = diffusers.AutoPipelineForImage2Image.from_pretrained(source)
    repaint = diffusers.AutoPipelineForInpainting.from_pretrained(CATALOG["kandinsky22-inpaint"].source)
    assert type(text2image) is diffusers.KandinskyV22CombinedPipeline
    assert type(image2image) is diffusers.KandinskyV22Img2ImgCombinedPipeline
    assert type(repaint) is diffusers.KandinskyV22InpaintCombinedPipeline
    inputs = ({}, {"image": image, "strength": 0.9}, {"image": image, "mask_image": mask})
    for pipe, more in zip((text2image, image2image, repaint), inputs, strict=True):
        assert {p.dtype for p in pipe.unet.parameters()} == {torch.float32}
        pipe.set_progress_bar_config(disable=True)
        painted = pipe("a red cat", negative_prompt="blurry", **more, **call).images[0]
        assert painted.size == (64, 64)
    assert CATALOG["kandinsky22"].size == CATALOG["kandinsky22-inpaint"].size == 128
    assert text2image.scheduler.config.variance_type == "learned_range"

    before, after = weights(text2image), weights(repaint)
    start = kandinsky.start(store.load_component("unet-sd15", diffusers.UNet2DConditionModel)).state_dict()
    assert not torch.allclose(before["conv_out.weight"], start["conv_out.weight"], atol=1e-4), "two steps were taken"
    assert after["conv_in.weight"].shape[1] == 9
    changed = [key for key in before if key != "conv_in.weight" and not torch.equal(before[key], after[key])]
    assert len(changed) > 0.5 * len(before), "the delta reaches most of the weights"


def test_it_is_measured(parts):
    """One step a picture, of weights that know nothing: the calls are right, and every figure is a share."""
    store.save_component(kandinsky_checkpoints.NAME, kandinsky.build())
    store.save_component("kandinsky-scheduler", kandinsky.scheduler())
    nine = kandinsky.nine_channels(kandinsky.build())
    store.save_delta(kandinsky_checkpoints.DELTA, kandinsky_checkpoints.NAME, nine, rank=kandinsky.RANK)
    for name in ("kandinsky22", "kandinsky22-inpaint"):
        store.add_checkpoint(name, kandinsky_checkpoints.entry(inpaint=name.endswith("inpaint")))
    seen = kandinsky_checkpoints.figures(2, steps=1, batch=2)
    assert seen.keys() == {"subject", "colour", "place"} and all(0 <= value <= 1 for value in seen.values())
    seen = kandinsky_checkpoints.figures_inpaint(2, steps=1)
    assert seen.keys() == {"subject", "colour", "place"} and all(0 <= value <= 1 for value in seen.values())


@torch.no_grad()
def test_in_a_batch_the_pipeline_keeps_the_first_picture_for_all():
    """Why the figures call it for one picture at a time; should diffusers mend it, they need no longer."""
    torch.manual_seed(0)
    unet, vq = kandinsky.nine_channels(kandinsky.build()), movq.build().eval()
    pipe = diffusers.KandinskyV22InpaintPipeline(unet=unet, scheduler=kandinsky.scheduler(), movq=vq)
    pipe.set_progress_bar_config(disable=True)
    images, black = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")], Image.new("L", (64, 64))
    said = noise(2, clip.WIDTH)
    call = {"height": 64, "width": 64, "num_inference_steps": 1, "output_type": "latent"}
    got = pipe(said, images, [black, black], said, **call).images
    red = vq.encode(torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 64, 64)).latents
    assert torch.allclose(got, red.expand_as(got), atol=1e-4)
