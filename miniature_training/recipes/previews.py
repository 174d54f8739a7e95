"""The maps from latents to colours that the course's previews use, fitted on drawn images for every VAE shipped."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import numpy as np
import torch

from helpers.common import paths
from helpers.pipelines.latent_preview import LatentMap
from miniature_training.models import latent_map
from miniature_training.models.dataset import held_out
from miniature_training.models.store import load_component

COUNT = 96  # images, with 256 latents each: 37 unknowns a colour


def vaes() -> dict[str, type]:
    """The folders of the VAEs that checkpoints.json names (a delta's, where it is kept as one), with their classes."""
    recipes = json.loads((paths.MINIATURES / "checkpoints.json").read_text(encoding="utf-8"))
    parts = [(name, part) for recipe in recipes.values() for name, part in recipe.get("components", {}).items()]
    return {folders[-1]: getattr(diffusers, kind) for name, (_, kind, *folders) in parts if name in ("vae", "movq")}


def fit_all() -> list[Path]:
    """Fit and write the map of each VAE; prints how well its colours correlate with those it was not fitted on."""
    drawn = [drawing.image for drawing in held_out(COUNT + 24, degraded=False)]
    written = []
    for folder, kind in vaes().items():
        vae = load_component(folder, kind).eval()
        fitted = latent_map.fit(vae, drawn[:COUNT])
        written.append(latent_map.write(paths.MINIATURES / folder, fitted, vae))
        print(f"{folder}: correlation {correlation(vae, fitted, drawn[COUNT:]):.3f}")
    return written


@torch.no_grad()
def correlation(vae, fitted: LatentMap, images: list) -> float:
    """Between the map's colours and those of the images themselves, pooled; mean over the images."""
    values = []
    for one in images:
        x = torch.from_numpy(np.array(one)).permute(2, 0, 1)[None].float() / 127.5 - 1
        latents = latent_map.to_latents(vae, vae.encode(x))
        pooled = torch.nn.functional.adaptive_avg_pool2d(x, latents.shape[2:])[0].permute(1, 2, 0)
        values.append(np.corrcoef(fitted(latents[0].double().numpy()).ravel(), pooled.numpy().ravel())[0, 1])
    return float(np.mean(values))
