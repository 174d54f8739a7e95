"""Kandinsky's prior: a diffusion model that turns a prompt into the CLIP embedding of an image of it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import PriorTransformer, UnCLIPScheduler
from PIL import Image
from transformers import CLIPImageProcessor, CLIPTokenizer

from miniature_training.models.dataset import held_out
from miniature_training.models.latents import weights_key
from miniature_training.models.loop import Training, device, leader_first
from miniature_training.models.store import kept, load_component, save_component, shipped
from miniature_training.recipes import clip
from miniature_training.recipes.text import LENGTH, tokens
from miniature_training.world.scenes import sample

if TYPE_CHECKING:
    from diffusers import KandinskyV22PriorPipeline

BATCH = {"cpu": 96, "cuda": 1024}
SILENT = 0.10  # this share of the captions is left empty: what guidance compares with where there is no negative prompt


def build() -> PriorTransformer:
    return PriorTransformer(
        num_attention_heads=6, attention_head_dim=16, num_layers=4,
        embedding_dim=clip.WIDTH, num_embeddings=LENGTH, additional_embeddings=4,
    )  # fmt: skip


def scheduler() -> UnCLIPScheduler:
    """The settings of the full checkpoint: the clean embedding is predicted, not the noise."""
    return UnCLIPScheduler(
        num_train_timesteps=1000, prediction_type="sample", variance_type="fixed_small_log", clip_sample_range=5.0
    )


def spoken(ids: torch.Tensor, end: int) -> torch.Tensor:
    """The tokenizer's attention mask (B, 77) of padded ids: True up to the first `end`, which pads as well."""
    place = (ids == end).int().argmax(1, keepdim=True)
    return torch.arange(ids.shape[1], device=ids.device) <= place


def train(*, minutes: float, steps: int | None = None, resume: bool = False, count: int = 12_000) -> None:
    """Train on the embeddings of drawings and their captions; writes prior and prior-scheduler."""
    tokenizer = load_component("tokenizer", CLIPTokenizer)
    with leader_first():
        seen = clip.embeddings(count).to(device())
    ids = clip.lines(count, tokenizer)[0].to(device())
    silence = tokens(tokenizer, [""])[0].to(device(), ids.dtype)
    words = clip.load()[0].to(device()).requires_grad_(False)
    torch.manual_seed(0)
    prior = load_component("prior", PriorTransformer) if resume and shipped("prior") else build()
    for name, value in (("clip_mean", seen.mean(0)), ("clip_std", seen.std(0))):  # the pipeline undoes them at the end
        getattr(prior, name).requires_grad_(False).copy_(value)
    training = Training("prior", {"prior": prior}, lr=1e-3, ema_decay=0.999)
    if resume:
        training.resume()
    prior.train()
    clean = (seen - seen.mean(0)) / seen.std(0)
    alphas = scheduler().alphas_cumprod.to(device())

    def loss(generator: torch.Generator) -> torch.Tensor:
        size = BATCH[device().type]
        index, line = (torch.randint(0, n, (size,), generator=generator).to(device()) for n in (count, clip.WORDINGS))
        silent = (torch.rand((size, 1), generator=generator) < SILENT).to(device())
        said = torch.where(silent, silence, ids[index, line]).long()
        with torch.no_grad():
            read = words(said)
        noise = torch.randn((size, clip.WIDTH), generator=generator).to(device())
        t = torch.randint(0, 1000, (size,), generator=generator).to(device())
        alpha = alphas[t][:, None]
        predicted = prior(
            alpha.sqrt() * clean[index] + (1 - alpha).sqrt() * noise,
            t,
            proj_embedding=read.text_embeds,
            encoder_hidden_states=read.last_hidden_state,
            attention_mask=spoken(said, tokenizer.eos_token_id),
        ).predicted_image_embedding
        return F.mse_loss(predicted, clean[index])

    def export() -> None:
        save_component("prior", training.average["prior"], eight=True)
        save_component("prior-scheduler", scheduler())

    training.run(loss, minutes=minutes, steps=steps, on_checkpoint=export)
    export()


def pipeline() -> KandinskyV22PriorPipeline:
    """The prior with CLIP, as diffusers runs it."""
    from diffusers import KandinskyV22PriorPipeline

    words, image = clip.load()
    pipe = KandinskyV22PriorPipeline(
        prior=load_component("prior", PriorTransformer).eval(),
        image_encoder=image,
        text_encoder=words,
        tokenizer=load_component("tokenizer", CLIPTokenizer),
        scheduler=load_component("prior-scheduler", UnCLIPScheduler),
        image_processor=load_component("clip-processor", CLIPImageProcessor),
    ).to(device())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def imagined(pipe: KandinskyV22PriorPipeline, prompts: list[str], *, batch: int = 50) -> torch.Tensor:
    """The prior's embedding (N, WIDTH) of each prompt, 25 steps; on the CPU."""
    parts = []
    for i in range(0, len(prompts), batch):
        generators = [torch.Generator().manual_seed(i + k) for k in range(len(prompts[i : i + batch]))]
        parts.append(pipe(prompts[i : i + batch], num_inference_steps=25, generator=generators).image_embeds.cpu())
    return torch.cat(parts)


def embeddings(count: int) -> torch.Tensor:
    """The prior's embeddings (count, WIDTH) of one caption of each training image; kept while the prior is the same."""
    pipe = pipeline()

    def make() -> np.ndarray:
        told = [clip.wording(sample(seed), random.Random(seed))[0] for seed in range(count)]
        return imagined(pipe, told, batch=200).numpy()

    return torch.from_numpy(kept(f"imagined/{weights_key(pipe.prior)}-{count}.npy", make))


def figures(count: int = 500) -> dict[str, float]:
    """How often a caption's embedding lies nearer to its image's than to those of 15 it is wrong about."""
    pipe, drawings = pipeline(), held_out(count, degraded=False)
    told = [clip.wording(drawing.scene, random.Random(i)) for i, drawing in enumerate(drawings)]
    meant = F.normalize(imagined(pipe, [line for line, _ in told]))
    seen = F.normalize(clip.embed(np.stack([np.asarray(d.image) for d in drawings]), pipe.image_encoder))
    asked = clip.choices(count, lambda i, j: clip.wrong(drawings[j].scene, told[i][1]))
    hits = [int((seen[options] @ meant[i]).argmax()) == 0 for i, options in enumerate(asked)]
    return {"right_picture": float(np.mean(hits))}


def sheet() -> Image.Image:
    """For each of the guides' prompts the seven held-out images that lie nearest to what the prior makes of it."""
    from helpers.images.contact_sheet import show
    from miniature_training.evaluation.sheets import PROMPTS

    pipe, drawings = pipeline(), held_out(600)
    seen = F.normalize(clip.embed(np.stack([np.asarray(d.image) for d in drawings]), pipe.image_encoder))
    nearest = (F.normalize(imagined(pipe, list(PROMPTS))) @ seen.T).topk(7).indices.tolist()
    titles = [title for prompt in PROMPTS for title in [prompt, *[""] * 6]]
    return show([drawings[j].image for row in nearest for j in row], titles=titles, columns=7)
