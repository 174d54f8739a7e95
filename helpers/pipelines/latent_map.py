"""The map from the latents of one VAE to colours: fitted, kept as a small file, and told from an outdated one.

A latent's colour is a weighted sum of its own channels and of its eight neighbours', plus a constant. The weights are
fitted by least squares to what the VAE decodes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FILE = "preview.json"
WINDOW = 3  # latents a side


@dataclass(frozen=True)
class Map:
    """From the latents of one VAE, as pipelines hand them on, to colours.

    weights: a row each for red, green and blue, with a column for every channel of every latent in a 3 x 3 window.
    bias: their constants. Colours are -1..1. loudest: the root mean square to which larger latents are scaled down.
    vae: the mark of the VAE.
    """

    weights: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]
    loudest: float
    vae: str

    @property
    def channels(self) -> int:
        return len(self.weights[0]) // WINDOW**2

    def __call__(self, latents: np.ndarray) -> np.ndarray:
        """Latents (C, h, w) -> colours (h, w, 3), uint8."""
        size = math.sqrt(float(np.mean(np.square(latents))))
        quiet = (
            latents * min(1.0, self.loudest / size) if size else latents
        )  # some schedulers' noise is 14 times larger
        colours = _windows(quiet[None])[0] @ np.array(self.weights).T + np.array(self.bias)
        return np.rint((colours.clip(-1, 1) + 1) * 127.5).astype(np.uint8)


def fit(vae: Any, pictures: Iterable[Image.Image], *, batch: int = 8) -> Map:
    """Fit the map of a VAE by least squares, from latents to the colours that they decode to, pooled.

    The latents are those of the pictures (all of one size), as they are, with noise, and louder: what early steps and
    guidance make of them. ValueError where there are too few, or where the VAE makes what is no number.
    """
    import torch

    pictures, model = list(pictures), next(vae.parameters())
    if not pictures:
        raise ValueError("pictures: none; a map is fitted on at least one.")
    noise = torch.Generator("cpu").manual_seed(0)
    rows, colours, loudest = [], [], 0.0
    for start in range(0, len(pictures), batch):
        arrays = [np.asarray(one.convert("RGB"), np.float32) / 127.5 - 1 for one in pictures[start : start + batch]]
        pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)  # (B, 3, H, W)
        with torch.no_grad():
            clean = to_latents(vae, vae.encode(pixels.to(model.device, model.dtype)))
            drawn = torch.randn(clean.shape, generator=noise).to(clean)
            loudest = max(loudest, float(clean.float().square().mean((1, 2, 3)).sqrt().max()))
            for latents in (clean, clean + 0.5 * clean.std() * drawn, 1.4 * clean):
                decoded = _decode(vae, latents).float().clamp(-1, 1).cpu()
                pooled = torch.nn.functional.adaptive_avg_pool2d(decoded, latents.shape[2:])
                rows.append(_windows(latents.double().cpu().numpy()).reshape(-1, WINDOW**2 * latents.shape[1]))
                colours.append(pooled.double().permute(0, 2, 3, 1).reshape(-1, 3).numpy())
    given, wanted = np.concatenate(rows), np.concatenate(colours)
    if not (np.isfinite(given).all() and np.isfinite(wanted).all()):
        raise ValueError(f"this VAE makes what is no number in {model.dtype}: fit its map in torch.float32.")
    if len(given) <= given.shape[1]:
        raise ValueError(f"pictures: {len(given)} latents are too few for {given.shape[1] + 1} unknowns; give more.")
    solved = np.linalg.lstsq(np.c_[given, np.ones(len(given))], wanted, rcond=None)[0].T  # (3, 9 C + 1)
    weights = [tuple(round(float(value), 4) for value in row) for row in solved]
    return Map(
        tuple(row[:-1] for row in weights), tuple(row[-1] for row in weights), round(1.5 * loudest, 4), mark(vae)
    )


def write(folder: Path, fitted: Map) -> Path:
    """Write the map beside a VAE's configuration, where `picture` finds it; returns the file."""
    target = folder / FILE
    target.write_text(json.dumps(asdict(fitted)).replace("], [", "],\n[") + "\n", encoding="utf-8")
    return target


def read(folder: Path) -> Map | None:
    """The map that lies in a folder; None where there is none that can be used."""
    try:
        kept = json.loads((folder / FILE).read_text(encoding="utf-8"))
        weights = tuple(tuple(float(value) for value in row) for row in kept["weights"])
        return Map(weights, tuple(float(value) for value in kept["bias"]), float(kept["loudest"]), str(kept["vae"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


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


def _windows(latents: np.ndarray) -> np.ndarray:
    """(B, C, h, w) -> (B, h, w, 9 C): each latent with its neighbours; those at the rim have themselves for some."""
    padded = np.pad(latents, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    seen = np.lib.stride_tricks.sliding_window_view(padded, (WINDOW, WINDOW), axis=(2, 3))  # (B, C, h, w, 3, 3)
    return seen.transpose(0, 2, 3, 1, 4, 5).reshape(*latents.shape[:1], *latents.shape[2:], -1)


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
