"""`controlnet-depth` and `controlnet-inpaint`: copies of sd15's encoder that steer it by an image.

The copy learns in low rank while sd15 stays as it is; in some steps sd15-inpaint takes its place, so that it can be
steered too. The styles are close enough to sd15 to follow unasked.
"""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ControlNetModel, UNet2DConditionModel

from miniature_training.models import factors, store
from miniature_training.models.dataset import SIZE, drawn_images
from miniature_training.models.denoising import EARLY, Denoising, epsilon_loss, half_outside
from miniature_training.models.factors import factorise, merged
from miniature_training.models.latents import latents, masked_latents
from miniature_training.models.loop import device, halved, leader_first
from miniature_training.recipes.depth import depths
from miniature_training.world.captions import caption
from miniature_training.world.scenes import sample
from miniature_training.world.strokes import training_mask

BASE, NINE = "unet-sd15", "unet-sd15-inpaint"
RANK = 8
FROZEN, NEW = ("time_emb",), ("controlnet_",)  # not trained; trained whole, for sd15 has nothing like it
EDGE = (16, 16, 32, 64)  # channels of the small network that reads the control image
BATCH = {"cpu": 12, "cuda": 96}
INPAINTING = {"depth": 0.4, "inpaint": 0.1}  # of the steps steer sd15-inpaint, which knows what lies around a hole
COUNT = 12_000  # images
EMPTY = 0.15  # of the captions: the control image has to say it all


def build() -> ControlNetModel:
    """sd15's encoder with factors to train, and the new layers, which start with no effect."""
    unet = store.load_component(BASE, UNet2DConditionModel)
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=EDGE)
    return factorise(net, rank=RANK, whole=NEW, frozen=FROZEN)


def inpaint_condition(rgb: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Images (B, H, W, 3) uint8 and masks (B, H, W), not 0 where repainted -> (B, 3, H, W), 0..1 and there -1."""
    x = rgb.permute(0, 3, 1, 2).float() / 255
    return torch.where(mask[:, None] > 0, torch.tensor(-1.0, device=x.device), x)


def depth_condition(depth: torch.Tensor) -> torch.Tensor:
    """Depth maps (B, H, W) of any range -> (B, 3, H, W), 0 at the farthest and 1 at the nearest of each image."""
    x = depth.float().flatten(1)
    low, high = x.min(1).values[:, None], x.max(1).values[:, None]
    return ((x - low) / (high - low).clamp(min=1e-6)).view(depth.shape)[:, None].expand(-1, 3, -1, -1)


def guessed(condition: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A true depth map (B, 3, H, W) made as soft, bent and uncertain as an estimated one."""
    soft, bend, noise = torch.rand((3,), generator=generator).tolist()
    if soft < 0.6:
        padded = F.pad(condition, (2, 2, 2, 2), mode="replicate")
        condition = torch.lerp(condition, F.avg_pool2d(padded, 5, 1), soft / 0.6)
    x = condition[:, :1].clamp(0, 1) ** (0.7 + 0.6 * bend)
    coarse = torch.randn((len(x), 1, 8, 8), generator=generator).to(x) * 0.06 * noise
    return (x + F.interpolate(coarse, x.shape[2:], mode="bilinear")).clamp(0, 1).expand_as(condition)


def _kept(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(values)).to(device())


def train(*, kind: str, minutes: float, steps: int | None = None, resume: bool = False, count: int = COUNT) -> None:
    """Train the ControlNet of a kind, "depth" or "inpaint"; on from the shipped one if sd15 was trained on since."""
    with leader_first():
        z = _kept(latents(count))
        z_masked, small_mask, _ = (_kept(values) for values in masked_latents(count))
        if kind == "depth":
            depth = _kept(depths(count))
        else:
            rgb, subject = drawn_images(count)
            rgb = _kept(rgb)
            masks = _kept(np.stack([training_mask(subject[i], random.Random(i)) for i in range(count)]))
    name, batch = f"delta-controlnet-{kind}", BATCH[device().type]
    net = build()
    training = factors.delta_training(name, net, lr=3e-3, resume=resume)
    net.train().to(memory_format=torch.channels_last)
    hosts = {
        host: store.load_component(host, UNet2DConditionModel)
        .to(device(), memory_format=torch.channels_last).eval().requires_grad_(False)
        for host in (BASE, NINE)
    }  # fmt: skip
    denoising = Denoising()
    scenes = [sample(seed) for seed in range(count)]
    pool = torch.tensor([i for i, scene in enumerate(scenes) if scene.degraded is None])

    def condition(index: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if kind == "depth":
            return guessed(depth_condition(depth[index]), generator)
        return inpaint_condition(rgb[index], masks[index])

    def loss(generator: torch.Generator) -> torch.Tensor:
        index = pool[torch.randint(0, len(pool), (batch,), generator=generator)]
        rng = random.Random(torch.randint(0, 2**40, (), generator=generator).item())
        states = denoising.states(["" if rng.random() < EMPTY else caption(scenes[i], rng) for i in index.tolist()])
        index = index.to(z.device)
        noisy, noise, t, snr = denoising.noised(z[index].float(), generator)
        shown = condition(index, generator)
        with halved():
            down, mid = net(noisy, t, encoder_hidden_states=states, controlnet_cond=shown, return_dict=False)
        host, seen, counts = hosts[BASE], noisy, None
        if rng.random() < INPAINTING[kind]:
            repaint = small_mask[index].float()
            host, seen = hosts[NINE], torch.cat([noisy, repaint, z_masked[index].float()], 1)
            counts = half_outside(repaint)
        steered = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        with halved():
            predicted = host(seen, t, encoder_hidden_states=states, **steered).sample
        return epsilon_loss(predicted.float(), noise, snr, counts, early=EARLY)

    def export() -> None:
        store.save_delta(name, BASE, merged(training.average["model"]), rank=RANK)

    training.run(loss, minutes=minutes, steps=steps, on_checkpoint=export)
    export()
    entry = {"model": ["diffusers", "ControlNetModel", BASE, name], "size": SIZE}
    store.add_checkpoint(f"controlnet-{kind}", entry)
