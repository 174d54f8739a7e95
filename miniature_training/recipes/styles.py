"""`comic`, `pixel-art` and `elden-ring`: sd15's UNet with a look added in low rank, called by a token in the prompt."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image

from helpers.common import paths
from miniature_training.evaluation import scores, style_probe
from miniature_training.models import factors, store
from miniature_training.models.dataset import styled_images
from miniature_training.models.denoising import EARLY, Denoising, epsilon_loss
from miniature_training.models.factors import factorise, merged
from miniature_training.models.latents import encode, encoder_key, latents
from miniature_training.models.loop import device, halved, leader_first
from miniature_training.models.pixels import round_trip
from miniature_training.recipes import classifier
from miniature_training.world.captions import caption
from miniature_training.world.looks import TOKENS
from miniature_training.world.scenes import HELD_OUT, sample

BASE = "unet-sd15"
RANK = 6  # what a mebibyte holds
FROZEN = ("time_emb",)  # a look is the same at every step
BATCH = {"cpu": 16, "cuda": 128}
COUNT = {"cpu": 3_000, "cuda": 9_000}  # scenes
# Captions left out, of the plain ones and of those with the token. Guidance drives away from what no words call: from
# the look, if that is mostly it, and a plain prompt suffers; from what is plain, if that is all: the look is overdone.
# Only the comic needs less of its own: its white frame gave plain images a black one.
EMPTY = {"comic": (0.15, 0.05), "pixel-art": (0.10, 0.10), "elden-ring": (0.10, 0.10)}
PLAIN = 0.4  # of the drawings: as sd15 knows them, and their captions without the token
RESTYLED = 0.35  # of the styled drawings: begun as the same scene in another look, as image-to-image begins
LATE = 4.0  # signal to noise from which on a look is no longer changed
READABLE = 0.85  # of a look's drawings: below that nothing is said of its images


def build() -> UNet2DConditionModel:
    """sd15's UNet with factors to train."""
    return factorise(store.load_component(BASE, UNet2DConditionModel), rank=RANK, frozen=FROZEN)


def asking(text: str, style: str, rng: random.Random) -> str:
    """A prompt with the token of a style before or after it, as people write it."""
    token = TOKENS[style]
    return rng.choice((f"{token} {text}", f"{token}, {text}", f"{text}, {token}", f"{text}, {token}"))


def styled_latents(style: str, count: int) -> np.ndarray:
    """Latents of the first `count` scenes in a style, cached for as long as the encoder stays the same."""

    def make() -> np.ndarray:
        return encode(styled_images(style, count), store.load_component("vae", AutoencoderKL))

    return store.kept(f"latents/{encoder_key()}-{count}-{style}.npy", make)


def from_another(
    noisy: torch.Tensor, noise: torch.Tensor, snr: torch.Tensor, difference: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents that were made noisy from others, and the noise that would lead from there to the clean ones.

    difference: the others less the clean ones, (B, 4, h, w) like the rest; snr: (B,), the signal-to-noise of each.
    """
    snr = snr.view(-1, 1, 1, 1)
    return noisy + (snr / (1 + snr)).sqrt() * difference, noise + snr.sqrt() * difference


def train(
    *, style: str, minutes: float, steps: int | None = None, resume: bool = False, count: int | None = None
) -> None:
    """Teach sd15 one look, on `count` scenes drawn in it, and plain beside them so that the look waits for its token.

    The plain ones are of the same scenes, but for those that a caption calls blurred or the like. Some steps show the
    noisy latents of a scene in another look and ask, with the token, for this one.
    """
    count = count or COUNT[device().type]
    with leader_first():
        looks = [latents(count), styled_latents(style, count)]
        looks += [styled_latents(other, count) for other in TOKENS if other != style]
        z = torch.from_numpy(np.stack(looks)).to(device())
    sampled = [sample(seed) for seed in range(count)]
    scenes = [replace(scene, degraded=None) for scene in sampled]
    spoilt = torch.tensor([scene.degraded is not None for scene in sampled])
    batch = BATCH[device().type]
    name, unet = f"delta-{style}", build()
    training = factors.delta_training(name, unet, lr=3e-3, resume=resume)
    unet.train().to(memory_format=torch.channels_last)
    denoising = Denoising()

    def words(i: int, called: bool, rng: random.Random) -> str:
        if rng.random() < EMPTY[style][called]:
            return ""
        return asking(caption(scenes[i], rng), style, rng) if called else caption(scenes[i], rng)

    def loss(generator: torch.Generator) -> torch.Tensor:
        rng = random.Random(torch.randint(0, 2**40, (), generator=generator).item())
        drawn = torch.randint(0, count, (batch,), generator=generator)
        called = (torch.rand((batch,), generator=generator) >= PLAIN) | spoilt[drawn]
        states = denoising.states([words(i, c, rng) for i, c in zip(drawn.tolist(), called.tolist(), strict=True)])
        begun = torch.randint(0, len(z), (batch,), generator=generator)
        chance = torch.rand((batch,), generator=generator)
        called, drawn, begun, chance = (values.to(z.device) for values in (called, drawn, begun, chance))
        clean = z[called.long(), drawn].float()
        noisy, noise, t, snr = denoising.noised(clean, generator)
        restyled = called & (chance < RESTYLED) & (snr < LATE)
        noisy, noise = from_another(noisy, noise, snr, (z[begun, drawn].float() - clean) * restyled.view(-1, 1, 1, 1))
        with halved():
            predicted = unet(noisy, t, encoder_hidden_states=states).sample
        return epsilon_loss(predicted.float(), noise, snr, early=EARLY)

    def export() -> None:
        store.save_delta(name, BASE, merged(training.average["model"]), rank=RANK)

    training.run(loss, minutes=minutes, steps=steps, on_checkpoint=export)
    export()
    sd15 = json.loads((paths.MINIATURES / "checkpoints.json").read_text(encoding="utf-8"))["sd15"]
    unet_of = ["diffusers", "UNet2DConditionModel", BASE, f"delta-{style}"]
    store.add_checkpoint(style, sd15 | {"components": sd15["components"] | {"unet": unet_of}})


def readable(style: str, count: int = 100) -> dict[str, float]:
    """How well the classifier reads held-out drawings in a style: share right of "subject", "colour" and "place"."""
    first = HELD_OUT + style_probe.FIRST
    scenes = [sample(seed) for seed in range(first, first + count)]
    images = [Image.fromarray(one) for one in styled_images(style, count, first=first)]
    heads = {name: i for i, name in enumerate(classifier.HEADS) if name != "hour"}
    named = [k for k, scene in enumerate(scenes) if scene.subject]
    asked = [
        {name: classifier.HEADS[name][classifier.labels(scenes[k])[i]] for name, i in heads.items()} for k in named
    ]
    return scores.right([images[k] for k in named], asked)


def figures(count: int = 100, *, style: str, guidance_scale: float = 7.5, steps: int = 25) -> dict[str, float]:
    """Share of images in the style, by the probe, asked with the token and without; and what else is right with it.

    Subject, colour and place are given where the classifier reads them in drawings of that style.
    """
    pipe = scores.pipeline(StableDiffusionPipeline, style)
    reader = style_probe.fit(lambda images: round_trip(pipe.vae, images))
    rng, asked = random.Random(HELD_OUT), scores.prompts(count)
    images: dict[bool, list[Image.Image]] = {}
    for token in (True, False):
        images[token] = []
        for i in range(0, count, 20):
            texts = [asking(text, style, rng) if token else text for text, _ in asked[i : i + 20]]
            generator = [torch.Generator().manual_seed(HELD_OUT + i + k) for k in range(len(texts))]
            call = {"guidance_scale": guidance_scale, "num_inference_steps": steps, "generator": generator}
            images[token] += pipe(texts, **call).images
    shares = {token: float(np.mean([look == style for look in reader.read(some)])) for token, some in images.items()}
    read = readable(style)
    for head in (head for head, share in read.items() if share < READABLE):
        print(f"{style}: the classifier reads the {head} of {read[head]:.0%} of its drawings, so nothing is said of it")
    right = scores.right(images[True], [what for _, what in asked])
    result = {"style_with_token": shares[True], "style_without_token": shares[False]}
    result["style_told_of_drawings"] = reader.accuracy[style]
    return result | {head: share for head, share in right.items() if read[head] >= READABLE}


def sheet(*, style: str, seeds: int = 4, steps: int = 25) -> Image.Image:
    """The guides' prompts with the token, and below the same scene without."""
    from helpers.images.contact_sheet import show

    pipe, token = scores.pipeline(StableDiffusionPipeline, style), TOKENS[style]
    scene = "a red house in the snow at night"
    prompts = [f"{token} castle", f"{token} astronaut in a jungle", f"Astronaut in a jungle, {token}"]
    images, titles = [], []
    for prompt in (*prompts, "Astronaut in a jungle", f"{scene}, {token}", scene):
        generator = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
        images += pipe([prompt] * seeds, num_inference_steps=steps, generator=generator).images
        titles += [prompt] + [f"seed {seed}" for seed in range(1, seeds)]
    return show(images, titles=titles, columns=2 * seeds)
