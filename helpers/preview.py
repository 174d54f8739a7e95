"""Previews: what a step's latents look like, from a linear map to red, green and blue instead of the VAE.

Each latent is a pixel; its colour is a weighted sum of its channels plus a constant. The weights are fitted once per
VAE by least squares, between pictures and their latents. The miniatures' lie beside their VAE as preview.json (made by
`python -m helpers.miniatures preview`); those of any other VAE are fitted in memory when they are first needed.
"""

from __future__ import annotations

import json
import math
import threading
import weakref
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers.images import load_image
from helpers.reading import course_pictures

FILE = "preview.json"
SIDE = 128  # pixels of the pictures that a map is fitted on in memory

_maps: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_fitting = threading.Lock()


@dataclass(frozen=True)
class Map:
    """From the latents of one VAE, as pipelines hand them on, to colours.

    weights: a row each for red, green and blue, with a column a channel. bias: their constants. Colours are -1..1.
    largest: the root mean square of the largest clean latents; noisier ones are scaled down to it. vae: the VAE's mark.
    """

    weights: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]
    largest: float
    vae: str

    def __call__(self, latents: np.ndarray) -> np.ndarray:
        """Latents (C, h, w) -> colours (h, w, 3), uint8."""
        loud = math.sqrt(float(np.mean(np.square(latents))))
        quiet = (
            latents * min(1.0, self.largest / loud) if loud else latents
        )  # some schedulers keep them 14 times larger
        colours = np.einsum("kc,chw->hwk", np.array(self.weights), quiet) + np.array(self.bias)
        return np.rint((colours.clip(-1, 1) + 1) * 127.5).astype(np.uint8)


def picture(pipe: Any, latents: Any) -> Image.Image | None:
    """Show the first of a step's latents, (B, C, h, w), as a picture of the size that the VAE would decode them to.

    Any dtype and device. It takes well under a millisecond a step; at most the first call for a VAE that brings no map
    takes longer. With padding_mask_crop it shows the crop. None where there is nothing to show: no VAE, latents of
    another shape than that VAE's, not finite, or no map to be had (its weights are not in memory).
    """
    vae = _vae(pipe)
    if vae is None or getattr(latents, "ndim", 0) != 4 or not len(latents):
        return None
    fitted = map_of(vae)
    if fitted is None or latents.shape[1] != len(fitted.weights[0]):
        return None
    values = latents[0].detach().float().cpu().numpy().astype(np.float64)  # (C, h, w)
    if not np.isfinite(values).all():
        return None
    small = Image.fromarray(fitted(values))
    scale = _scale(vae)
    return small.resize((small.width * scale, small.height * scale), Image.Resampling.BICUBIC)


def map_of(vae: Any) -> Map | None:
    """The map of this VAE: the one beside its weights, else one fitted now; remembered. None where neither can be."""
    with _fitting:
        if vae not in _maps:
            _maps[vae] = _shipped(vae) or _fitted_now(vae)
        return _maps[vae]


def fit(vae: Any, pictures: Iterable[Image.Image], *, batch: int = 8) -> Map:
    """Fit the map of a VAE on pictures of one size: least squares from their latents to their colours, pooled.

    The VAE's own random numbers are left out: a latent is the mean of its distribution. ValueError where there are
    fewer pictures than it takes, or where the VAE encodes to what is no number.
    """
    import torch

    scale, pictures = _scale(vae), list(pictures)
    if not pictures:
        raise ValueError("pictures: none; a map is fitted on at least one.")
    first = next(vae.parameters())
    latents, colours = [], []
    for start in range(0, len(pictures), batch):
        arrays = [np.asarray(one.convert("RGB"), np.float32) / 127.5 - 1 for one in pictures[start : start + batch]]
        pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)  # (B, 3, H, W)
        with torch.no_grad():
            encoded = vae.encode(pixels.to(first.device, first.dtype))
        latents.append(scaled(vae, encoded).float().cpu().permute(0, 2, 3, 1).flatten(0, 2).numpy())
        pooled = torch.nn.functional.avg_pool2d(pixels, scale)
        colours.append(pooled.permute(0, 2, 3, 1).flatten(0, 2).numpy())
    given, wanted = np.concatenate(latents).astype(np.float64), np.concatenate(colours).astype(np.float64)
    if not np.isfinite(given).all():
        raise ValueError(f"this VAE encodes to what is no number in {first.dtype}: fit its map in torch.float32.")
    if len(given) <= given.shape[1]:
        raise ValueError(
            f"pictures: {len(given)} latents are too few for {given.shape[1] + 1} unknowns; give larger ones."
        )
    solved = np.linalg.lstsq(np.c_[given, np.ones(len(given))], wanted, rcond=None)[0].T  # (3, C + 1)
    each = np.sqrt(np.square(given).reshape(len(pictures), -1).mean(1))
    rows = [tuple(round(float(value), 5) for value in row) for row in solved]
    return Map(tuple(row[:-1] for row in rows), tuple(row[-1] for row in rows), round(float(each.max()), 5), mark(vae))


def write(folder: Path, fitted: Map) -> Path:
    """Write the map beside a VAE's configuration, where `picture` finds it; returns the file."""
    target = folder / FILE
    target.write_text(json.dumps(asdict(fitted), indent=2) + "\n", encoding="utf-8")
    return target


def read(folder: Path) -> Map | None:
    """The map that lies in a folder; None where there is none that can be used."""
    try:
        kept = json.loads((folder / FILE).read_text(encoding="utf-8"))
        weights = tuple(tuple(float(value) for value in row) for row in kept["weights"])
        return Map(weights, tuple(float(value) for value in kept["bias"]), float(kept["largest"]), str(kept["vae"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def mark(vae: Any) -> str:
    """A short mark of the encoder's weights, the same for every dtype they are read in: an outdated map has another."""
    kernels = [tensor for tensor in vae.encoder.parameters() if tensor.ndim == 4]
    return " ".join(f"{float(kernel.detach().float().norm()):.4g}" for kernel in (kernels[0], kernels[-1]))


def _vae(pipe: Any) -> Any:
    return next((part for name in ("vae", "movq") if (part := getattr(pipe, name, None)) is not None), None)


def _scale(vae: Any) -> int:
    """Pixels a latent, along one side."""
    config = vae.config
    return 2 ** (len(config.get("block_out_channels") or config.get("down_block_out_channels") or [0]) - 1)


def scaled(vae: Any, encoded: Any) -> Any:
    """What a pipeline makes of what its VAE encoded."""
    import torch

    if not hasattr(encoded, "latent_dist"):
        return encoded.latents  # Kandinsky's, which nothing is multiplied with
    latents, config = encoded.latent_dist.mode(), vae.config
    mean, std = (config.get(name) for name in ("latents_mean", "latents_std"))
    if mean is not None and std is not None:
        mean, std = (torch.tensor(values).view(1, -1, 1, 1).to(latents) for values in (mean, std))
        return (latents - mean) * config.scaling_factor / std
    return (latents - (config.get("shift_factor") or 0)) * config.scaling_factor


def _shipped(vae: Any) -> Map | None:
    folder = Path(str(vae.config.get("_name_or_path") or ""))
    if not folder.is_absolute():  # an id on the Hub
        return None
    found = read(folder) or read(folder / "vae")
    return found if found and found.vae == mark(vae) else None


def _fitted_now(vae: Any) -> Map | None:
    """Fitted on the course's pictures, with a float32 copy of the VAE that shares what is float32 already."""
    import torch

    state = vae.state_dict()
    if any(tensor.is_meta for tensor in state.values()):  # sequential offload keeps them elsewhere
        return None
    try:
        with torch.device("meta"):
            copy = type(vae).from_config(vae.config)
        copy.load_state_dict({name: tensor.detach().float() for name, tensor in state.items()}, assign=True)
        pictures = [load_image(name, size=SIDE) for name in course_pictures()]
        return fit(copy.eval().requires_grad_(False), pictures)
    except (ValueError, RuntimeError):  # no pictures, no numbers, or no memory: then there is no preview
        return None
