"""One 9-channel UNet that learns both tasks of sd15: to repaint what a mask hides, and to make whole images.

Half of its cases are masked whole: that is text-to-image, and `sd15` is folded from it (unet.four_channels) and
finished apart. It is wide, grown from a narrow one (growth.py), and trained for hours: runs at a constant rate that go
on from one another, then one in which the rate falls to zero (`--decay`). In between the weights' average counts.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel

from miniature_training.models import latent_pool
from miniature_training.models.dataset import EMPTY
from miniature_training.models.denoising import EARLY, Denoising, epsilon_loss
from miniature_training.models.latent_pool import Pool
from miniature_training.models.loop import Training, constant, decay, device, halved, leader_first
from miniature_training.models.store import load_component, save_component
from miniature_training.recipes.unet import four_channels, nothing, scheduler
from miniature_training.world.captions import PLACE_NAMES, caption

NAME, FOLDED = "unet-sd15-inpaint", "unet-sd15"
BATCH = {"cpu": 32, "cuda": 256}
LR = {"cpu": 7e-4, "cuda": 1.2e-3}
LEAST = {"cpu": 16, "cuda": 60}  # shards of a thousand images to begin with
WHOLE = 0.5  # this share of the cases is masked whole
OUTSIDE, RING = 0.7, 2.0  # how much the kept part counts, and a ring on both sides of the mask's edge; the hole: 1
CATS = 3  # they are drawn so many times as often: they sit, show their faces or take a bench


def counting(mask: torch.Tensor) -> torch.Tensor:
    """How much each latent's error counts, for masks (B, 1, h, w) of what is repainted; 1 on average.

    Halos and seams lie in the ring: two latents outside the mask's edge and one inside.
    """
    near = F.max_pool2d(mask, 5, 1, 2) + F.max_pool2d(1 - mask, 3, 1, 1) - 1
    share = torch.where(near > 0, RING, torch.where(mask > 0, 1.0, OUTSIDE))
    return share / share.mean((1, 2, 3), keepdim=True)


def words(pool: Pool, i: int, *, whole: bool, rng: random.Random) -> str:
    """What a prompt says of image `i`: of a hole it names what stood there, seldom the place or the hour around."""
    scene = pool.scene(i)
    if rng.random() < 0.10:
        return ""
    if whole:
        return caption(scene, rng)
    if not pool.touched[i] and rng.random() < 0.5:
        return rng.choice(PLACE_NAMES[scene.place])
    return caption(scene, rng, place=0.5, hour=0.3)


class Cases:
    """Batches from the pool, as it grows; `whole` is the share of text-to-image among them.

    least: shards to begin with. size: of a batch; by itself what suits the device.
    """

    def __init__(
        self, denoising: Denoising, *, whole: float = WHOLE, least: int | None = None, size: int | None = None
    ) -> None:
        self.denoising, self.whole = denoising, whole
        self.least, self.size = least or LEAST[device().type], size or BATCH[device().type]
        self.blank = nothing().to(device())
        self.pool: Pool | None = None
        self.look()

    def look(self) -> None:
        """Take up what has been made meanwhile."""
        if self.pool is None or latent_pool.there() > len(self.pool):
            self.pool = latent_pool.load(least=self.least)
            cats = torch.tensor([self.pool.scene(i).subject == "cat" for i in range(len(self.pool))])
            cats &= torch.from_numpy(self.pool.seed < EMPTY)  # there are enough of them among the guides'
            self.odds = torch.ones(len(cats)).masked_fill(cats, float(CATS))

    def batch(self, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Clean latents (B, 4, h, w), masks (B, 1, h, w), masked latents (B, 4, h, w), text states (B, 77, width)."""
        size = self.size
        index = torch.multinomial(self.odds, size, replacement=True, generator=generator)
        whole = torch.rand((size,), generator=generator) < self.whole
        dice = torch.randint(0, 1 << 40, (size,), generator=generator).tolist()
        chosen = zip(index.tolist(), whole.tolist(), dice, strict=True)
        texts = [words(self.pool, i, whole=w, rng=random.Random(d)) for i, w, d in chosen]
        rows = index.numpy()
        parts = (self.pool.z, self.pool.z_masked, self.pool.mask)
        clean, hidden, mask = (torch.from_numpy(part[rows]).to(device()).float() for part in parts)
        whole = whole.view(-1, 1, 1, 1).to(device())
        mask = mask.masked_fill(whole, 1.0)
        return clean, mask, torch.where(whole, self.blank, hidden), self.denoising.states(texts)


def fold() -> UNet2DConditionModel:
    """The 4-channel UNet that the shipped 9-channel one is where everything is masked."""
    return four_channels(load_component(NAME, UNet2DConditionModel), nothing().mean((0, 2, 3)))


def train(
    *,
    minutes: float,
    steps: int | None = None,
    resume: bool = False,
    last: bool = False,
    folded: bool = False,
    least: int | None = None,
) -> None:
    """Train the shipped UNet of sd15-inpaint further, for both tasks; or, folded, sd15's from what that has learnt.

    last: the run in which the rate falls to zero. least: as `Cases` has it.
    """
    with leader_first():
        cases = Cases(Denoising(), whole=1.0 if folded else WHOLE, least=least)
    name, unet = (FOLDED, fold()) if folded else (NAME, load_component(NAME, UNet2DConditionModel))
    training = Training(name, {"unet": unet}, lr=LR[device().type], ema_decay=0.9995, muon=True)
    if resume:
        training.resume()
    unet.train().to(memory_format=torch.channels_last)

    def loss(generator: torch.Generator) -> torch.Tensor:
        clean, mask, hidden, states = cases.batch(generator)
        noisy, noise, t, snr = cases.denoising.noised(clean, generator)
        seen = noisy if folded else torch.cat([noisy, mask, hidden], 1)
        with halved():
            predicted = unet(seen, t, encoder_hidden_states=states).sample
        return epsilon_loss(predicted.float(), noise, snr, counting(mask), early=EARLY)

    def export() -> None:
        save_component(name, training.average["unet"], eight=True)
        cases.look()
        print(f"\nstep {training.step}, {training.seconds / 60:.0f} minutes, {len(cases.pool):,} images", flush=True)

    rate = decay if last else constant
    training.run(loss, minutes=minutes, steps=steps, rate=rate, on_checkpoint=export)
    export()
    save_component("scheduler", scheduler())
