"""`sdxl-refiner`: a small UNet for the last steps, in SDXL's latent space, that sharpens what it is given.

It reads the second text encoder alone and an aesthetic score. Noise is all that a denoiser takes away; this one learns
to take softness for noise as well. A soft image z + d with noise n of size s is z with noise n + d / s, and of that
size it stays on the straight line to z that Euler's steps follow. How much of d may stay, the score decides.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from PIL import Image, ImageFilter
from tqdm import tqdm

from miniature_training.models import latent_space, store
from miniature_training.models.dataset import held_out
from miniature_training.models.denoising import epsilon_loss, signal
from miniature_training.models.loop import Training, constant, decay, device, halved, leader_first
from miniature_training.models.originals import SHAPES, SIZE, enlarged, latents, original
from miniature_training.models.pixels import psnr
from miniature_training.models.store import add_checkpoint, load_component, save_component
from miniature_training.recipes import sdxl, text_encoder_2
from miniature_training.recipes.unet import NARROW
from miniature_training.world.captions import caption
from miniature_training.world.scenes import HELD_OUT, sample

NAME = "unet-sdxl-refiner"
BATCH = {"cpu": 16, "cuda": 128}
COUNT = {"cpu": 8_000, "cuda": 24_000}  # images; on a CPU to encode one takes as long as to train on two
LR = {"cpu": 7e-4, "cuda": 1.5e-3}
STEPS = 300  # of 1000: it has never seen more noise
FINE = 6.0  # the pipeline's default score; from here up nothing soft is left
EMPTY = 0.10  # of the captions; the refiner is asked with "", not with zeros, where there is no negative prompt
IDS = 8  # channels for each of the five time ids


def build(widths: tuple[int, ...] = NARROW[:2]) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIZE // 8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=widths,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4, norm_num_groups=8, cross_attention_dim=text_encoder_2.WIDTH,
        addition_embed_type="text_time", addition_time_embed_dim=IDS,
        projection_class_embeddings_input_dim=text_encoder_2.WIDTH + 5 * IDS,
    )  # fmt: skip


def upper(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The two finest of sd15's three levels, under the names that they have in `build()`.

    Where its coarsest level came in, the middle does now; it starts without effect, as do the middle's own layers.
    """
    result = {}
    for name, value in state.items():
        parts = name.split(".")
        if parts[0] == "up_blocks":
            name = ".".join(["up_blocks", str(int(parts[1]) - 1), *parts[2:]])
        if parts[0] != "mid_block" and parts[:2] not in (["up_blocks", "0"], ["down_blocks", "2"]):
            result[name] = value
    joint = "up_blocks.0.resnets.0"  # of 128 (or more) channels from below and 64 from beside; now 64 and 64
    width, wide = result[f"{joint}.conv1.weight"].shape[:2]
    for part, first in (("norm1.weight", torch.ones(width)), ("norm1.bias", torch.zeros(width))):
        result[f"{joint}.{part}"] = torch.cat([first, result[f"{joint}.{part}"][wide - width :]])
    for part in ("conv1.weight", "conv_shortcut.weight"):
        beside = result[f"{joint}.{part}"][:, wide - width :]
        result[f"{joint}.{part}"] = torch.cat([torch.zeros_like(beside), beside], 1)
    for name, value in build((len(state["conv_in.weight"]), width)).mid_block.state_dict().items():
        last = name.startswith(("resnets.0.conv2", "resnets.1.conv2", "attentions.0.proj_out"))
        result[f"mid_block.{name}"] = torch.zeros_like(value) if last else value
    return result


def kept(score: torch.Tensor) -> torch.Tensor:
    """The share of its softness that an image may keep at a score: none at `FINE`, 0.09 at 2.5, 0.3 at 1.

    Guidance from 2.5 to 6, the pipeline's defaults, multiplies that 0.09 by its scale: more would overshoot.
    """
    return 0.3 * ((FINE - score) / 5).clamp(0, 1).pow(3.3)


def bent(noise: torch.Tensor, given: torch.Tensor, clean: torch.Tensor, *, sigma: torch.Tensor) -> torch.Tensor:
    """The noise that makes of `clean` what `noise` of size `sigma` makes of `given`; without it `clean` is left."""
    return noise + (given - clean) / sigma


def soften(pixels: np.ndarray, amount: float, rng: random.Random) -> np.ndarray:
    """An image (H, W, 3) blurred, or from a smaller original, by an amount of 0 to 1."""
    if rng.random() < 0.5:
        return enlarged(pixels, 0.55 * 0.22**amount)
    radius = len(pixels) * (0.004 + 0.018 * amount)
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def example(seed: int, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """What training knows of an image: itself, itself softened, and its time ids without a score."""
    image, rng = original(seed, shape, small=0.0, degraded=False), random.Random(f"{seed}/soft")
    told = np.array(image.ids[:4], dtype=np.float32)
    return {"z": image.pixels, "z_soft": soften(image.pixels, rng.random(), rng), "ids": told}


def train(
    *, minutes: float, steps: int | None = None, resume: bool = False, last: bool = False, count: int | None = None
) -> None:
    """Train sdxl-refiner, started from sd15; needs text_encoder_2."""
    count = count or COUNT[device().type]
    tokenizer, encoder = text_encoder_2.load()
    encoder.eval().requires_grad_(False)
    with leader_first():
        data = latents(example, count, shape=SHAPES[0], vae=latent_space.export_vae())
    data = {field: torch.from_numpy(values).to(device()) for field, values in data.items()}
    if resume and store.shipped(NAME):
        unet = load_component(NAME, UNet2DConditionModel)
    else:
        sd15 = load_component("unet-sd15", UNet2DConditionModel)
        unet = build(sd15.config.block_out_channels[:2])
        unet = sdxl.warm(unet, upper(sd15.state_dict()), text_encoder_2.translation(tokenizer, [encoder]))
    training = Training(NAME, {"unet": unet}, lr=LR[device().type], ema_decay=0.999, muon=True)
    if resume:
        training.resume()
    unet.train().to(memory_format=torch.channels_last)
    encoder.to(device())
    scenes = [sample(seed, degraded=False) for seed in range(count)]
    alphas = signal()
    sigmas = ((1 - alphas) / alphas).sqrt()

    def loss(generator: torch.Generator) -> torch.Tensor:
        batch = BATCH[device().type]
        index = torch.randint(0, count, (batch,), generator=generator)
        seeds = torch.randint(0, 2**40, (batch,), generator=generator).tolist()
        dice = torch.rand((5, batch), generator=generator)
        texts = [
            "" if empty < EMPTY else caption(scenes[i], random.Random(seed))
            for i, seed, empty in zip(index.tolist(), seeds, dice[0].tolist(), strict=True)
        ]
        states, pooled = text_encoder_2.states(tokenizer, [encoder], texts)
        index = index.to(device())
        sharp, soft = data["z"][index].float(), data["z_soft"][index].float()
        noise = torch.randn(sharp.shape, generator=generator).to(device())
        dice = dice.to(device())
        score = torch.where(dice[1] < 0.5, FINE + 1.5 * dice[2], 1 + (FINE - 1) * dice[2])
        given = (dice[3] * 1.5 - 0.5).clamp(min=0).view(-1, 1, 1, 1)  # a third comes sharp
        t = (dice[4] * STEPS).long()
        start = torch.maximum(t, torch.tensor(60, device=device()))
        start = start + (torch.rand((batch,), generator=generator).to(device()) * (STEPS - start)).long()
        clean = sharp + kept(score).view(-1, 1, 1, 1) * (soft - sharp)
        noise = bent(noise, sharp + given * (soft - sharp), clean, sigma=sigmas[start].view(-1, 1, 1, 1))
        alpha = alphas[t].view(-1, 1, 1, 1)
        ids = torch.cat([data["ids"][index], score[:, None]], 1)
        with halved():
            predicted = unet(
                alpha.sqrt() * clean + (1 - alpha).sqrt() * noise,
                t,
                encoder_hidden_states=states,
                added_cond_kwargs={"text_embeds": pooled, "time_ids": ids},
            ).sample
        return epsilon_loss(predicted.float(), noise, (alpha / (1 - alpha)).flatten())

    def export() -> None:
        save_component(NAME, training.average["unet"], eight=True)

    rate = decay if last else constant
    training.run(loss, minutes=minutes, steps=steps, rate=rate, on_checkpoint=export)
    export()
    save_component("scheduler-sdxl", sdxl.scheduler())
    add_checkpoint("sdxl-refiner", ENTRY)


ENTRY = {
    "pipeline": "StableDiffusionXLImg2ImgPipeline",
    "size": SIZE,
    "components": {
        "vae": sdxl.VAE,
        **sdxl.SECOND,
        "unet": ["diffusers", "UNet2DConditionModel", NAME],
        "scheduler": sdxl.SCHEDULER,
    },
    "config": {"force_zeros_for_empty_prompt": False, "requires_aesthetics_score": True},
}


def _softened(count: int) -> tuple[list[str], list[Image.Image], list[Image.Image]]:
    """Captions of held-out drawings, the drawings, and the drawings softened."""
    drawings, rng = held_out(count, size=SIZE, degraded=False), random.Random(HELD_OUT)
    soft = [Image.fromarray(soften(np.asarray(d.image), rng.uniform(0.6, 1.0), rng)) for d in drawings]
    return [d.caption() for d in drawings], [d.image for d in drawings], soft


def refined(pipe, prompts: list[str], images, *, batch: int = 20, **call) -> list[Image.Image]:
    """What the refiner makes of images (or latents): strength 0.3, twenty steps, the pipeline's own guidance."""
    result = []
    for i in tqdm(range(0, len(prompts), batch), desc="refining"):
        texts = prompts[i : i + batch]
        generators = [torch.Generator().manual_seed(HELD_OUT + i + k) for k in range(len(texts))]
        told = {"strength": 0.3, "num_inference_steps": 20, "generator": generators} | call
        result += pipe(texts, image=images[i : i + batch], **told).images
    return result


def _pipeline():
    from diffusers import StableDiffusionXLImg2ImgPipeline

    from miniature_training.evaluation.scores import pipeline

    return pipeline(StableDiffusionXLImg2ImgPipeline, "sdxl-refiner")


def figures(count: int = 100) -> dict[str, float]:
    """PSNR to the clean drawing and sharpness as a share of its own: of softened drawings, and of the refined ones."""
    from helpers.analysis.image_metrics import sharpness

    pipe, (prompts, clean, soft) = _pipeline(), _softened(count)
    after = {"": refined(pipe, prompts, soft), "at_a_low_score_": refined(pipe, prompts, soft, aesthetic_score=1.0)}
    result = {}
    for name, images in {"before_": soft, **after}.items():
        shares = [sharpness(after) / sharpness(before) for after, before in zip(images, clean, strict=True)]
        result |= {f"{name}psnr_db": psnr(images, clean), f"{name}sharpness": float(np.median(shares))}
    return result


def sheet() -> Image.Image:
    """Drawings softened, refined, and refined at a low score; and what sdxl-inpaint made, its latents refined."""
    from helpers.images.contact_sheet import show

    pipe, (prompts, clean, soft) = _pipeline(), _softened(6)
    rows = [clean, soft, refined(pipe, prompts, soft), refined(pipe, prompts, soft, aesthetic_score=1.0)]
    titles = ["drawn", "softened", "refined", "refined, aesthetic_score=1.0"]
    try:
        base = sdxl.pipeline()
    except FileNotFoundError:  # not trained yet
        return show(*rows, titles=[title for title in titles for _ in prompts], columns=len(prompts))
    rows.append(sdxl.repainted(base, prompts))
    rows.append(refined(pipe, prompts, sdxl.repainted(base, prompts, output_type="latent")))
    titles += ["sdxl-inpaint", "sdxl-inpaint, its latents refined"]
    return show(*rows, titles=[title for title in titles for _ in prompts], columns=len(prompts))
