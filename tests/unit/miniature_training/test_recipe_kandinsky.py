"""Kandinsky's recipes: decoders that start from sd15, masks as in the pipeline, checkpoints that load anywhere."""

from __future__ import annotations

import random

import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.pipelines.kandinsky2_2.pipeline_kandinsky2_2_inpainting import prepare_mask

from helpers.catalog.checkpoints import CATALOG
from miniature_training.models import repainting
from miniature_training.recipes import clip, kandinsky, movq, prior
from miniature_training.recipes.unet import NARROW, WIDTHS
from miniature_training.recipes.unet import build as build_sd15
from miniature_training.world.scenes import sample
from miniature_training.world.strokes import training_mask


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
@pytest.mark.parametrize("widths", [NARROW, WIDTHS])
def test_it_starts_as_sd15_does_in_turned_latents(widths):
    torch.manual_seed(0)
    sd15 = build_sd15(4, widths)
    unet, z = kandinsky.start(sd15), noise(2, 4, 16, 16)
    assert torch.allclose(unet.conv_in(movq.turned(z)), sd15.conv_in(z), atol=1e-5)
    features = noise(1, widths[0], 16, 16)
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


def test_every_second_image_is_told_by_what_the_prior_made_of_its_caption(workshop, monkeypatch):
    asked, told, forward = [], [], UNet2DConditionModel.forward

    def note(unet, *args, **kwargs):
        told.append(kwargs["added_cond_kwargs"]["image_embeds"])
        return forward(unet, *args, **kwargs)

    monkeypatch.setattr(prior, "embeddings", lambda count: asked.append(count) or torch.full((count, clip.WIDTH), 7.0))
    monkeypatch.setattr(UNet2DConditionModel, "forward", note)
    monkeypatch.setattr(kandinsky, "BATCH", {"cpu": 64, "cuda": 64})
    kandinsky.train(minutes=1, steps=1, count=8)
    assert asked == [4]
    share = (told[0] == 7).all(1).float().mean()
    assert 0.25 < share < 0.65, "half, less what is told nothing, as it is and not roughened"


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


def test_the_checkpoints_load_from_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    source, nine = CATALOG["kandinsky22"].source, CATALOG["kandinsky22-inpaint"].source
    pipes = [
        diffusers.AutoPipelineForText2Image.from_pretrained(source),
        diffusers.AutoPipelineForImage2Image.from_pretrained(source),
        diffusers.AutoPipelineForInpainting.from_pretrained(nine),
    ]
    kinds = ["", "Img2Img", "Inpaint"]
    assert [type(pipe).__name__ for pipe in pipes] == [f"KandinskyV22{kind}CombinedPipeline" for kind in kinds]
    assert {pipe.scheduler.config.variance_type for pipe in pipes} == {"learned_range"}
    before, after = (pipe.unet.state_dict() for pipe in (pipes[0], pipes[2]))
    assert after["conv_in.weight"].shape[1] == 9
    changed = [key for key in before if key != "conv_in.weight" and not torch.equal(before[key], after[key])]
    assert len(changed) > 0.5 * len(before), "the delta reaches most of the weights"
