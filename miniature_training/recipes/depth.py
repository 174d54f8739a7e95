"""The depth estimator: a GLPN (https://arxiv.org/abs/2201.07436) that was shown the drawn world and its exact depth.

It loads as any of its class does, `transformers.pipeline("depth-estimation", model=folder)`, but says 1 where it is
near and 0 where it is far, as the maps of the ControlNet guides do.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import GLPNConfig, GLPNForDepthEstimation, GLPNImageProcessor

from helpers.analysis.image_metrics import rank_correlation
from miniature_training.models import store
from miniature_training.models.dataset import SIZE, drawn, drawn_images, styled_images
from miniature_training.models.loop import Training, device, leader_first
from miniature_training.world.looks import LOOKS
from miniature_training.world.scenes import HELD_OUT, draw, sample

NAME = "depth-estimator"
BATCH = {"cpu": 16, "cuda": 64}
STYLED = 0.2  # of the images, so that it reads the restyled ones too


def build() -> GLPNForDepthEstimation:
    return GLPNForDepthEstimation(
        GLPNConfig(
            depths=(1, 1, 1, 1), hidden_sizes=(16, 32, 48, 64), num_attention_heads=(1, 2, 3, 4), mlp_ratios=(2,) * 4,
            decoder_hidden_size=32, max_depth=1, drop_path_rate=0.0,
        )
    )  # fmt: skip


def _depth_some(seeds: range) -> tuple[np.ndarray]:
    scenes = (replace(sample(seed), degraded=None) for seed in seeds)
    return (np.stack([np.asarray(draw(scene, SIZE, supersample=2).depth) for scene in scenes]),)


def depths(count: int, *, first: int = 0) -> np.ndarray:
    """The depth maps (N, H, W), uint8, 255 is near, of the scenes of `dataset.images`."""
    return drawn([f"{first}-{count}-depth"], range(first, first + count), _depth_some, size=SIZE)[0]


def spoilt(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Images (B, 3, H, W) a little softer, darker and noisier, as a VAE and a sampler make them."""
    dice = torch.rand((3,), generator=generator).tolist()
    if dice[0] < 0.5:
        soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
        x = x + (soft - x) * dice[1]
    x = x * (0.85 + 0.3 * torch.rand((len(x), 1, 1, 1), generator=generator)).to(x)
    return (x + 0.05 * dice[2] * torch.randn(x.shape, generator=generator).to(x)).clamp(0, 1)


def difference(predicted: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """L1 of the depth (B, H, W), and of its steps from pixel to pixel, which keep the outlines sharp."""
    edges = sum((predicted.diff(dim=d) - truth.diff(dim=d)).abs().mean() for d in (1, 2))
    return (predicted - truth).abs().mean() + edges


def train(*, minutes: float, steps: int | None = None, resume: bool = False, count: int = 12_000) -> None:
    with leader_first():
        rgb, _ = drawn_images(count)
        looks = [styled_images(style, count // 12) for style in LOOKS]
        truth = depths(count)
    batch = BATCH[device().type]
    training = Training(NAME, {"model": build()}, lr=2e-3, ema_decay=0.998)
    if resume:
        training.resume()
    model = training.modules["model"].train()

    def loss(generator: torch.Generator) -> torch.Tensor:
        index = torch.randint(0, count, (batch,), generator=generator).numpy()
        chosen = []
        for k, dice in enumerate(torch.rand((batch,), generator=generator).tolist()):
            look = looks[int(dice / STYLED * len(looks))] if dice < STYLED else rgb
            index[k] %= len(look)
            chosen.append(look[index[k]])
        x = torch.from_numpy(np.stack(chosen)).to(device()).permute(0, 3, 1, 2).float() / 255
        y = torch.from_numpy(np.stack([truth[i] for i in index])).to(device()).float() / 255
        if torch.rand((), generator=generator) < 0.5:
            x, y = x.flip(3), y.flip(2)
        return difference(model(spoilt(x, generator)).predicted_depth, y)

    def export() -> None:
        average = training.average["model"]
        for ours, theirs in zip(average.buffers(), model.buffers(), strict=True):
            ours.copy_(theirs)  # the statistics of the batch norms have no average of their own
        GLPNImageProcessor().save_pretrained(store.save_component(NAME, average))

    training.run(loss, minutes=minutes, steps=steps, on_checkpoint=export)
    export()
    store.add_checkpoint(NAME, {"model": ["transformers", "GLPNForDepthEstimation", NAME], "size": SIZE})


def load() -> GLPNForDepthEstimation:
    return store.load_component(NAME, GLPNForDepthEstimation).eval().to(device())


@torch.inference_mode()
def estimate(model: GLPNForDepthEstimation, images: list[Image.Image]) -> np.ndarray:
    """Depth (N, H, W), 0 far to 1 near, of images of one size, a multiple of 32."""
    maps = []
    for start in range(0, len(images), 32):
        x = np.stack([np.asarray(image.convert("RGB")) for image in images[start : start + 32]])
        x = torch.from_numpy(x).to(model.device).permute(0, 3, 1, 2).float() / 255
        maps.append(model(x).predicted_depth.cpu().numpy())
    return np.concatenate(maps)


def figures(count: int = 300) -> dict[str, float]:
    """On held-out drawings: rank correlation with the true depth, and the mean error as a share of the whole range."""
    drawings = [draw(sample(seed, degraded=False), SIZE) for seed in range(HELD_OUT, HELD_OUT + count)]
    guess = estimate(load(), [drawing.image for drawing in drawings])
    truth = [np.asarray(drawing.depth) / 255 for drawing in drawings]
    pairs = list(zip(guess, truth, strict=True))
    correlations = [rank_correlation(*pair) for pair in pairs]
    return {"depth_correlation": float(np.mean(correlations)), "error": float(np.mean([abs(a - b) for a, b in pairs]))}


def as_image(depth: np.ndarray) -> Image.Image:
    """Depth (H, W) of any range -> a grey image, the nearest white and the farthest black, as pipelines show it."""
    low, high = float(depth.min()), float(depth.max())
    return Image.fromarray(((depth - low) / max(high - low, 1e-6) * 255).astype(np.uint8)).convert("RGB")


def sheet() -> Image.Image:
    """Held-out drawings, their true depth, and the estimate."""
    from helpers.images.contact_sheet import show

    drawings = [draw(sample(seed, degraded=False), SIZE) for seed in range(HELD_OUT, HELD_OUT + 8)]
    guesses = estimate(load(), [drawing.image for drawing in drawings])
    images, titles = [], []
    for drawing, guess in zip(drawings, guesses, strict=True):
        images += [drawing.image, drawing.depth.convert("RGB"), as_image(guess)]
        titles += ["drawn", "its depth", "estimated"]
    return show(images, titles=titles, columns=6)
