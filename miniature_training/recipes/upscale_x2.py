"""The UNet of `upscale-x2`: latents of a 128-pixel image to those of the same image at 256, in sd15's own space.

StableDiffusionLatentUpscalePipeline feeds it, and decides what it must learn:
- the noisy latents over sqrt(sigma^2 + 1), and beside them the small latents, doubled by repeating: 8 channels;
- log(sigma) / 4 as the time; a condition of 64 ones, 64 zeros (the cosines and sines of noise level 0: it adds no noise
  to the small latents, ever) and the pooled prompt; the prompt's states *before* the encoder's final norm;
- five channels come out, and the fifth is thrown away. The rest is preconditioned (https://arxiv.org/abs/2206.00364,
  table 1, with data of unit variance), so the UNet predicts (sigma x0 - noise) / sqrt(sigma^2 + 1).

No layer of sd15's has its shapes and its meaning (its time is another), so it starts from nothing.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from PIL import Image

from miniature_training.models import store, upscaling
from miniature_training.models.dataset import drawn_images
from miniature_training.models.denoising import SCHEDULE
from miniature_training.models.latents import encode
from miniature_training.models.loop import Training, device, leader_first
from miniature_training.models.pixels import psnr
from miniature_training.models.store import add_checkpoint, load_component, save_component
from miniature_training.models.upscaling import SIDE, Case
from miniature_training.recipes import text

NAME, SCHEDULER = "unet-upscale-x2", "scheduler-upscale-x2"
BATCH = {"cpu": 16, "cuda": 256}
LEVEL = 128  # of the condition: how noisy the small latents are
EMPTY = 0.15  # this share of the prompts is left empty
# The pipeline's small latents are clean or a sample of the posterior, sd15's are nearly so. Up to this much noise, in
# this share of them, and the UNet does not take every speck for a detail.
ROUGH, ROUGH_SHARE = 0.15, 0.3
STEPS = 10  # of the figures and of the sheet

ENTRY = {
    "pipeline": "StableDiffusionLatentUpscalePipeline",
    "size": 128,
    "components": {
        "vae": ["diffusers", "AutoencoderKL", "vae"],
        "text_encoder": ["transformers", "CLIPTextModel", "text_encoder"],
        "tokenizer": ["transformers", "CLIPTokenizer", "tokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel", NAME],
        "scheduler": ["diffusers", "EulerDiscreteScheduler", SCHEDULER],
    },
}


def build() -> UNet2DConditionModel:
    unet = UNet2DConditionModel(
        sample_size=32,
        in_channels=8,
        out_channels=5,
        layers_per_block=1,
        block_out_channels=(48, 64),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),  # the prompt enters in the middle
        cross_attention_dim=text.WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
        time_embedding_type="fourier",
        time_embedding_dim=128,
        time_cond_proj_dim=LEVEL + text.WIDTH,
    )
    with torch.no_grad():
        # Fixed, not learnt: equal in every process that trains, and what float16 keeps of them.
        waves = unet.time_proj.weight
        waves.copy_(torch.randn(waves.shape, generator=torch.Generator().manual_seed(0)).half())
        unet.conv_out.weight.zero_()
    return unet


def scheduler() -> EulerDiscreteScheduler:
    """sd15's noise, from sigma 14.6 to 0.03; the pipeline's own preconditioning hands it the clean latents."""
    return EulerDiscreteScheduler(**SCHEDULE, prediction_type="sample", timestep_spacing="linspace")


def condition(pooled: torch.Tensor) -> torch.Tensor:
    """What goes in as timestep_cond (B, 128 + width): noise level 0 and the pooled prompts (B, width)."""
    half = (len(pooled), LEVEL // 2)
    return torch.cat([pooled.new_ones(half), pooled.new_zeros(half), pooled], 1)


def predicted(
    unet: UNet2DConditionModel,
    noisy: torch.Tensor,
    sigma: torch.Tensor,
    *,
    low: torch.Tensor,
    states: torch.Tensor,
    pooled: torch.Tensor,
) -> torch.Tensor:
    """The UNet's raw four channels (B, 4, 2h, 2w) for x0 + sigma noise, small latents (B, 4, h, w) and sigma (B,)."""
    inputs = noisy / (sigma.view(-1, 1, 1, 1) ** 2 + 1).sqrt()
    inputs = torch.cat([inputs, F.interpolate(low, scale_factor=2, mode="nearest")], 1)
    time = sigma.log() * 0.25
    return unet(inputs, time, encoder_hidden_states=states, timestep_cond=condition(pooled)).sample[:, :-1]


def denoised(raw: torch.Tensor, noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """The clean latents that the raw prediction stands for."""
    sigma = sigma.view(-1, 1, 1, 1)
    return noisy / (sigma**2 + 1) + sigma / (sigma**2 + 1).sqrt() * raw


def latents(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents of the first `count` images at 128 pixels (N, 4, 16, 16) and at 256 (N, 4, 32, 32), float16, cached."""
    vae = load_component("vae", AutoencoderKL)

    def make() -> dict[str, np.ndarray]:
        rgb = drawn_images(count, size=SIDE)[0]
        return {"low": encode(upscaling.reduced(rgb, 2, (Image.Resampling.BOX,)), vae), "high": encode(rgb, vae)}

    arrays = upscaling.kept(f"{count}-x2", vae, make)
    return torch.from_numpy(arrays["low"]), torch.from_numpy(arrays["high"])


def train(*, minutes: float, steps: int | None = None, resume: bool = False, count: int | None = None) -> None:
    """Train the UNet on pairs of latents, at the noise that the scheduler's steps see, for the error of the clean ones.

    With noise in even octaves and the raw prediction's error the first steps, which decide the image, count little.
    """
    torch.manual_seed(0)
    count = count or upscaling.COUNT[device().type]
    with leader_first():
        low, high = (z.to(device()) for z in latents(count))
    states, pooled = upscaling.captions(range(count), normed=False)
    shipped = resume and store.shipped(NAME)
    unet = load_component(NAME, UNet2DConditionModel) if shipped else build()
    unet.time_proj.requires_grad_(False)
    training = Training(NAME, {"unet": unet}, lr=1.5e-3, ema_decay=0.9985, muon=True)
    if resume:
        training.resume()
    unet.train().to(memory_format=torch.channels_last)
    sigmas = scheduler().sigmas[:-1].to(device())  # the last is 0
    batch = BATCH[device().type]

    def loss(generator: torch.Generator) -> torch.Tensor:
        index = torch.randint(0, count, (batch,), generator=generator)
        dice = torch.rand((batch, 4), generator=generator)
        words = torch.where(dice[:, 0] < EMPTY, count, index).to(device())
        index = index.to(device())
        clean, small = high[index].float(), low[index].float()
        roughness = ROUGH * dice[:, 1] * (dice[:, 2] < ROUGH_SHARE)
        noise, rough = (torch.randn(z.shape, generator=generator).to(device()) for z in (clean, small))
        small = small + roughness.view(-1, 1, 1, 1).to(device()) * rough
        sigma = sigmas[(len(sigmas) * dice[:, 3]).long().to(device())]
        wide = sigma.view(-1, 1, 1, 1)
        prompt = {"states": states[words].float(), "pooled": pooled[words].float()}
        result = predicted(unet, clean + wide * noise, sigma, low=small, **prompt)
        return F.mse_loss(denoised(result, clean + wide * noise, sigma), clean)

    def export() -> None:
        save_component(NAME, training.average["unet"], eight=True)

    training.run(loss, minutes=minutes, steps=steps, on_checkpoint=export)
    export()
    save_component(SCHEDULER, scheduler())
    add_checkpoint("upscale-x2", ENTRY)


@torch.no_grad()
def _upscaled(pipe, cases: list[Case], *, guidance_scale: float, steps: int = STEPS, batch: int = 10):
    """Three lists: the small images through the VAE and back, the upscaler's, the true ones through the VAE."""
    small, ours, best = [], [], []
    processor, scale = pipe.image_processor, pipe.vae.config.scaling_factor

    def encoded(images: list[Image.Image]) -> torch.Tensor:
        return pipe.vae.encode(processor.preprocess(images).to(pipe.device)).latent_dist.mode() * scale

    def decoded(z: torch.Tensor) -> list[Image.Image]:
        return processor.postprocess(pipe.vae.decode(z / scale).sample, output_type="pil")

    for i in range(0, len(cases), batch):
        part = cases[i : i + batch]
        low = encoded([case.low for case in part])
        small += decoded(low)
        best += decoded(encoded([case.truth for case in part]))
        ours += pipe(
            [case.prompt for case in part],
            image=low,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            generator=[torch.Generator().manual_seed(i + k) for k in range(len(part))],
        ).images
    return small, ours, best


def figures(count: int = 100, *, steps: int = STEPS) -> dict[str, float]:
    """PSNR and sharpness on held-out scenes: of the upscaler, of bicubic from the same latents, of the VAE alone.

    Guidance is off, as the diffusers guides call it; "guided" is at the pipeline's default of 9, on fewer scenes.
    """
    from diffusers import StableDiffusionLatentUpscalePipeline

    from miniature_training.evaluation.scores import pipeline

    pipe = pipeline(StableDiffusionLatentUpscalePipeline, "upscale-x2")
    cases = upscaling.cases(count, 2)
    truths, few = [case.truth for case in cases], max(1, count // 4)
    small, ours, best = _upscaled(pipe, cases, guidance_scale=0, steps=steps)
    guided = _upscaled(pipe, cases[:few], guidance_scale=9.0, steps=steps)[1]
    enlarged = [upscaling.bicubic(image) for image in small]
    return {
        "psnr_db": psnr(ours, truths),
        "bicubic_psnr_db": psnr(enlarged, truths),
        "guided_psnr_db": psnr(guided, truths[:few]),
        "ceiling_psnr_db": psnr(best, truths),
        "sharpness": upscaling.sharp(ours, truths),
        "bicubic_sharpness": upscaling.sharp(enlarged, truths),
    }


def sheet(count: int = 6, *, steps: int = STEPS) -> Image.Image:
    """Held-out scenes: the decoded small latents, enlarged with bicubic, by the upscaler, and drawn large."""
    from diffusers import StableDiffusionLatentUpscalePipeline

    from miniature_training.evaluation.scores import pipeline

    pipe = pipeline(StableDiffusionLatentUpscalePipeline, "upscale-x2")
    cases = upscaling.cases(count, 2)
    small, ours, _ = _upscaled(pipe, cases, guidance_scale=0, steps=steps)
    rows = [
        (low, upscaling.bicubic(low), result, case.truth) for low, result, case in zip(small, ours, cases, strict=True)
    ]
    return upscaling.comparison(rows, f"upscale-x2, {steps} steps")
