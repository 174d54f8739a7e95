"""The decoder of the VAE, or of MoVQ, trained further: sharp, and tolerant of latents that a UNet left imprecise.

The encoder stays as it is, so that all UNets stay valid.

What decides alone on squared errors paints the mean of what may have been, which is blur. So a critic of patches has a
say beside the errors. The latents are those that sd15's two UNets give back after some noise: white noise instead would
teach a decoder that makes a sun square where a UNet was a little off.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, VQModel
from torch import nn

from miniature_training.evaluation.ruler import named, ruler
from miniature_training.models.critic import Critic, losses
from miniature_training.models.dataset import drawn_images, scene, styled_images
from miniature_training.models.denoising import Denoising
from miniature_training.models.latents import encode
from miniature_training.models.loop import Training, constant, decay, device, leader_first
from miniature_training.models.pixels import round_trip, tensor
from miniature_training.models.store import load_component, save_component
from miniature_training.recipes import movq
from miniature_training.recipes.vae import STYLED, Picked, gradients, psnr
from miniature_training.world.captions import caption
from miniature_training.world.looks import LOOKS
from miniature_training.world.scenes import draw

BATCH = {"cpu": 2, "cuda": 24}  # whole images: crops would have edges of their own
COUNT = {"cpu": 12_000, "cuda": 48_000}  # images
ALONE = 300  # steps in which only the critic learns: one that has seen nothing yet would teach blur
LATEST = 400  # timestep: more noise leaves too little of the drawing to be compared with
MAPS, VERDICT = 0.5, 0.03  # how much the critic's maps and its verdict count beside the errors


class Imprecision:
    """Latents as the UNets of `sd15` and `sd15-inpaint` give them back, from the noise of a random early timestep."""

    def __init__(self, scaling_factor: float) -> None:
        self.denoising, self.scale = Denoising(), scaling_factor
        names = ("unet-sd15", "unet-sd15-inpaint")
        unets = [load_component(name, UNet2DConditionModel).eval().requires_grad_(False) for name in names]
        self.unets = [unet.to(device()) for unet in unets]

    @torch.no_grad()
    def __call__(self, z: torch.Tensor, captions: list[str], generator: torch.Generator) -> torch.Tensor:
        """Latents (B, 4, h, w), unscaled, and what they show -> a third as they are, the rest imprecise."""
        kind = int(torch.randint(0, 1 + len(self.unets), (), generator=generator))
        if not kind:
            return z
        t = torch.randint(1, LATEST, (len(z),), generator=generator).to(z.device)
        alpha = self.denoising.alphas[t].view(-1, 1, 1, 1)
        clean = z * self.scale
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * torch.randn(z.shape, generator=generator).to(z)
        unet = self.unets[kind - 1]
        more = [] if unet.config["in_channels"] == 4 else [torch.zeros_like(z[:, :1]), clean]  # nothing is masked
        states = self.denoising.states(captions)
        noise = unet(torch.cat([noisy, *more], 1), t, encoder_hidden_states=states).sample
        return (noisy - (1 - alpha).sqrt() * noise) / alpha.sqrt() / self.scale


def apart(made: torch.Tensor, drawn: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """L1 of pixels and edges, (B, 3, H, W) in -1..1; no squares, which would rather blur an edge than misplace it."""
    edges = sum((a - b).abs().mean() for a, b in zip(gradients(made), gradients(drawn), strict=True))
    return ((made - drawn) * weight).abs().mean() + 0.5 * edges


@dataclass
class Task:
    """A model whose decoder is trained; its images, the masks of their subjects, their latents as sd15's VAE has them.

    decode takes such latents (B, 4, h, w), unscaled, to images (B, 3, H, W) in -1..1.
    """

    name: str
    model: nn.Module
    drawn: list[tuple[np.ndarray, np.ndarray]]  # plain ones first, then those in a style
    latents: list[torch.Tensor]
    decode: Callable[[torch.Tensor], torch.Tensor]


def of_vae(count: int) -> Task:
    """The VAE of sd15; its styles are decoded by it too."""
    vae = load_component("vae", AutoencoderKL)
    rgb, mask = drawn_images(count)
    drawn = [(rgb, mask), *((styled_images(style, count // 12), mask) for style in LOOKS)]
    latents = [torch.from_numpy(encode(images, vae)) / vae.config["scaling_factor"] for images, _ in drawn]
    return Task("vae", vae, drawn, latents, lambda z: vae.decode(z).sample)


def of_movq(count: int) -> Task:
    """Kandinsky's MoVQ, whose latents are the VAE's, turned."""
    model, factor = load_component("movq", VQModel), load_component("vae", AutoencoderKL).config["scaling_factor"]
    turn = movq.rotation()
    latents = torch.einsum("ji,njhw->nihw", turn, movq.latents(count).float()) / factor

    def decode(z: torch.Tensor) -> torch.Tensor:
        return model.decode(movq.turned(z * factor), force_not_quantize=True).sample

    return Task("movq", model, [drawn_images(count)], [latents], decode)


TASKS = {"vae": of_vae, "movq": of_movq}


def figures(model: nn.Module | None = None, count: int = 120) -> dict[str, float]:
    """PSNR of the round trip (dB), and the ruler's figures of what comes back; by itself, of the shipped VAE."""
    model = model or load_component("vae", AutoencoderKL)
    drawings = [draw(scene, truth=False).image for _, scene in named(count)]
    return {"psnr_db": psnr(model, 300)} | ruler()(round_trip(model, drawings))


def train(
    *,
    minutes: float,
    steps: int | None = None,
    resume: bool = False,
    of: str = "vae",
    count: int | None = None,
    last: bool = False,
) -> None:
    """Train the decoder of the shipped VAE, or of MoVQ, further."""
    with leader_first():
        task = TASKS[of](count or COUNT[device().type])
    model, critic = task.model, Critic()
    model.requires_grad_(False)
    for part in (model.decoder, model.post_quant_conv):
        part.requires_grad_(True)
    for module in (model, critic):
        module.to(memory_format=torch.channels_last)
    imprecise = Imprecision(load_component("vae", AutoencoderKL).config["scaling_factor"])
    modules = {of: model, "critic": critic}
    training = Training(f"{of}-decoder", modules, lr=4e-4, weight_decay=0.0, betas=(0.5, 0.99), ema_decay=0.9985)
    if resume:
        training.resume()
    parts: dict[str, torch.Tensor] = {}

    def pick(generator: torch.Generator) -> tuple[Picked, torch.Tensor, str]:
        kind, i = torch.randint(0, 1 << 20, (2,), generator=generator).tolist()
        restyled = torch.rand((), generator=generator).item() < STYLED and len(task.drawn) > 1
        k = 1 + kind % len(LOOKS) if restyled else 0
        i %= len(task.latents[k])
        return (*task.drawn[k], i), task.latents[k][i], caption(scene(i), random.Random(i))

    def loss(generator: torch.Generator) -> torch.Tensor:
        chosen, z, captions = zip(*(pick(generator) for _ in range(BATCH[device().type])), strict=True)
        x = tensor([images[i] for images, _, i in chosen])
        weight = 1 + 0.5 * torch.from_numpy(np.stack([masks[i] for _, masks, i in chosen]))[:, None].to(x) / 255
        alone = training.step < ALONE
        with torch.set_grad_enabled(not alone):
            made = task.decode(imprecise(torch.stack(z).to(x), list(captions), generator))
        errors = apart(made, x, weight)
        own, maps, verdict = losses(critic, made, x)
        for key, value in {"errors": errors, "critic": own, "maps": maps, "verdict": verdict}.items():
            parts[key] = parts.get(key, value.detach()).lerp(value.detach(), 0.02)
        return own if alone else own + errors + MAPS * maps + VERDICT * verdict

    def export() -> None:
        eight = of == "movq"  # the VAE is everybody's: in eight bits, all images would change a little
        save_component(of, training.average[of], eight=eight)  # the latents stay, so it may be used already
        told = {key: round(value.item(), 3) for key, value in parts.items()}
        print(f"\nstep {training.step}, {training.seconds / 60:.0f} minutes: {told}", flush=True)

    rate = decay if last else constant
    training.run(loss, minutes=minutes, steps=steps, rate=rate, on_checkpoint=export)
    export()
    print(figures(training.average[of]))
