"""Fit the linear map from the latents of a VAE to colours that the course's previews use, and write it to a file.

The weights are fitted by least squares to what the VAE decodes. See `helpers.pipelines.latent_preview`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers.pipelines.latent_preview import FILE, WINDOW, LatentMap, windows


def fit(vae: Any, images: Iterable[Image.Image], *, batch: int = 8) -> LatentMap:
    """Fit the map of a VAE by least squares, from latents to the colours that they decode to, pooled.

    The latents are those of the images (all of one size), as they are, with noise, and louder: what early steps and
    guidance make of them. ValueError where there are too few, or where the VAE's output is not finite.
    """
    import torch

    images, model = list(images), next(vae.parameters())
    if not images:
        raise ValueError("images: none; a map is fitted on at least one.")
    noise = torch.Generator("cpu").manual_seed(0)
    rows, colours, loudest = [], [], 0.0
    for start in range(0, len(images), batch):
        arrays = [np.asarray(one.convert("RGB"), np.float32) / 127.5 - 1 for one in images[start : start + batch]]
        pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)  # (B, 3, H, W)
        with torch.no_grad():
            clean = to_latents(vae, vae.encode(pixels.to(model.device, model.dtype)))
            drawn = torch.randn(clean.shape, generator=noise).to(clean)
            loudest = max(loudest, float(clean.float().square().mean((1, 2, 3)).sqrt().max()))
            for latents in (clean, clean + 0.5 * clean.std() * drawn, 1.4 * clean):
                decoded = _decode(vae, latents).float().clamp(-1, 1).cpu()
                pooled = torch.nn.functional.adaptive_avg_pool2d(decoded, latents.shape[2:])
                rows.append(windows(latents.double().cpu().numpy()).reshape(-1, WINDOW**2 * latents.shape[1]))
                colours.append(pooled.double().permute(0, 2, 3, 1).reshape(-1, 3).numpy())
    given, wanted = np.concatenate(rows), np.concatenate(colours)
    if not (np.isfinite(given).all() and np.isfinite(wanted).all()):
        raise ValueError(f"the output of this VAE is not finite in {model.dtype}: fit its map in torch.float32.")
    if len(given) <= given.shape[1]:
        raise ValueError(f"images: {len(given)} latents are too few for {given.shape[1] + 1} unknowns; give more.")
    solved = np.linalg.lstsq(np.c_[given, np.ones(len(given))], wanted, rcond=None)[0].T  # (3, 9 C + 1)
    weights = [tuple(round(float(value), 4) for value in row) for row in solved]
    bias = tuple(row[-1] for row in weights)
    return LatentMap(tuple(row[:-1] for row in weights), bias, round(1.5 * loudest, 4))


def write(folder: Path, fitted: LatentMap, vae: Any) -> Path:
    """Write the map and the mark of its VAE beside the VAE's configuration; returns the file."""
    target = folder / FILE
    target.write_text(json.dumps(asdict(fitted) | {"vae": mark(vae)}).replace("], [", "],\n[") + "\n", encoding="utf-8")
    return target


def mark(vae: Any) -> str:
    """A short mark of the VAE's weights, the same for every dtype they are read in: an outdated map has another."""
    import torch

    parts = [getattr(vae, name, None) for name in ("encoder", "quant_conv", "post_quant_conv", "decoder")]
    kernels = [[p for p in part.parameters() if p.ndim == 4] for part in parts if part is not None]
    found = []
    for kernel in (kernel for each in kernels for kernel in {id(one): one for one in (each[0], each[-1])}.values()):
        values = kernel.detach().float().flatten().cpu()
        waves = torch.cos(torch.arange(len(values), dtype=torch.float32))  # so that their order counts
        found.append(f"{float((values * waves).sum() / values.norm()):.2f}")
    return " ".join(found)


def to_latents(vae: Any, encoded: Any) -> Any:
    """What a pipeline makes of what its VAE encoded, without the random part."""
    if not hasattr(encoded, "latent_dist"):
        return encoded.latents  # Kandinsky's, which nothing is multiplied with
    shift, factor = _scaling(vae, encoded.latent_dist.mode())
    return (encoded.latent_dist.mode() - shift) * factor


def _decode(vae: Any, latents: Any) -> Any:
    if type(vae).__name__ == "VQModel":
        return vae.decode(latents, force_not_quantize=True)[0]
    shift, factor = _scaling(vae, latents)
    return vae.decode(latents / factor + shift)[0]


def _scaling(vae: Any, latents: Any) -> tuple[Any, Any]:
    import torch

    mean, std = (vae.config.get(name) for name in ("latents_mean", "latents_std"))
    if mean is None or std is None:
        return vae.config.get("shift_factor") or 0.0, vae.config.scaling_factor
    mean, std = (torch.tensor(values).view(1, -1, 1, 1).to(latents) for values in (mean, std))
    return mean, vae.config.scaling_factor / std
