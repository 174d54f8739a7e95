"""The UNet of `upscale-x4`: an image of 64 pixels, roughened with noise, to the latents of one of 256.

StableDiffusionUpscalePipeline feeds it the noisy latents with the small image beside them (4 + 3 channels of the
image's own size), and the small image's noise level as a class label.

It predicts v (https://arxiv.org/abs/2202.00512): with noise prediction the first of 20 steps would divide its error by
a signal of 0.03. It learns by the error of the clean latents that v stands for: late steps are a matter of noise, and
the small image beside them says nearly everything.

The noise on the small image follows the full checkpoint's schedule (0.0001 to 0.02): level 20 is a deviation of 0.05.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from PIL import Image

from miniature_training.models import store, upscaling
from miniature_training.models.dataset import drawn_images
from miniature_training.models.latents import encode
from miniature_training.models.loop import Training, device, leader_first
from miniature_training.models.pixels import psnr
from miniature_training.models.store import add_checkpoint, load_component, save_component
from miniature_training.recipes import text, vae_x4

NAME, SCHEDULER, LOW_RES = "unet-upscale-x4", "scheduler-upscale-x4", "scheduler-low-res"
SIDE = 64  # pixels of the small image, and latents
MAX_NOISE_LEVEL = 350
SCHEDULE = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
BATCH = {"cpu": 16, "cuda": 256}
# Most steps learn from quarters (32 x 32 latents), four times as many; the rest from whole images.
CROP, WHOLE = 32, 0.25
EMPTY = 0.15  # this share of the prompts is left empty
NEAR = 12  # noise levels this far apart learn from each other
KERNELS = (Image.Resampling.BOX, Image.Resampling.BICUBIC, Image.Resampling.BOX, Image.Resampling.LANCZOS)
STEPS, NOISE_LEVEL = 20, 20  # of the figures and of the sheet

ENTRY = {
    "pipeline": "StableDiffusionUpscalePipeline",
    "size": SIDE,
    "components": {
        "vae": ["diffusers", "AutoencoderKL", vae_x4.NAME],
        "text_encoder": ["transformers", "CLIPTextModel", "text_encoder"],
        "tokenizer": ["transformers", "CLIPTokenizer", "tokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel", NAME],
        "low_res_scheduler": ["diffusers", "DDPMScheduler", LOW_RES],
        "scheduler": ["diffusers", "DDIMScheduler", SCHEDULER],
    },
    "config": {"max_noise_level": MAX_NOISE_LEVEL},
}


def build() -> UNet2DConditionModel:
    unet = UNet2DConditionModel(
        sample_size=SIDE,
        in_channels=7,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(32, 48, 48),
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,  # the prompt enters in the middle
        cross_attention_dim=text.WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
        time_embedding_dim=128,
        num_class_embeds=MAX_NOISE_LEVEL + 1,
    )
    for start_at_nothing in (unet.class_embedding, unet.conv_out):
        torch.nn.init.zeros_(start_at_nothing.weight)
    return unet


def started() -> UNet2DConditionModel:
    """A new one with sd15's sense of time and, as far as they fit, its layers at full resolution; the last is new."""
    unet = build()
    state = load_component("unet-sd15", UNet2DConditionModel).state_dict()
    upscaling.take(unet, {name: value for name, value in state.items() if not name.startswith("conv_out.")})
    first = state["conv_in.weight"]
    if len(first) == len(unet.conv_in.weight):
        with torch.no_grad():
            unet.conv_in.weight[:, :4] = first
    return unet


def scheduler() -> DDIMScheduler:
    """Steps counted from the end: the first begins at pure noise, the last gives clean latents."""
    return DDIMScheduler(**SCHEDULE, prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False)


def low_res_scheduler() -> DDPMScheduler:
    return DDPMScheduler(**SCHEDULE)


def data(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents (N, 4, 64, 64) float16 and small images (N, 3, 64, 64) uint8 of images and close-ups, cached."""
    vae = load_component(vae_x4.NAME, AutoencoderKL)

    def make() -> dict[str, np.ndarray]:
        sources = [drawn_images(count, size=upscaling.SIDE)[0], upscaling.close_ups(count // 2)[0]]
        low = np.concatenate([upscaling.reduced(rgb, 4, KERNELS) for rgb in sources])
        return {"z": np.concatenate([encode(rgb, vae, batch=8) for rgb in sources]), "low": low}

    arrays = upscaling.kept(f"{count}-x4", vae, make)
    return torch.from_numpy(arrays["z"]), torch.from_numpy(arrays["low"]).permute(0, 3, 1, 2).contiguous()


def neighbours() -> torch.Tensor:
    """A matrix (351, 351) that spreads what one noise level learns over those near it; its rows sum to 1."""
    levels = torch.arange(MAX_NOISE_LEVEL + 1.0)
    near = torch.exp(-0.5 * ((levels[:, None] - levels) / NEAR) ** 2)
    return near / near.sum(1, keepdim=True)


def train(*, minutes: float, steps: int | None = None, resume: bool = False, count: int | None = None) -> None:
    """Train the UNet on small images with noise of any level up to 350, low levels more often; after its VAE."""
    torch.manual_seed(0)
    count = count or upscaling.COUNT[device().type]
    with leader_first():
        z, low = (tensor.to(device()) for tensor in data(count))
    states, _ = upscaling.captions(
        [*range(count), *range(upscaling.CLOSE_SEEDS, upscaling.CLOSE_SEEDS + count // 2)], normed=True
    )
    shipped = resume and store.shipped(NAME)
    unet = load_component(NAME, UNet2DConditionModel) if shipped else started()
    training = Training(NAME, {"unet": unet}, lr=1.5e-3, ema_decay=0.9985, muon=True)
    if resume:
        training.resume()
    unet.train().to(memory_format=torch.channels_last)
    spread = neighbours().to(device())
    unet.class_embedding.weight.register_hook(lambda gradient: spread @ gradient)
    schedule, roughen = scheduler(), low_res_scheduler()
    levels = schedule.alphas_cumprod.to(device())

    def loss(generator: torch.Generator) -> torch.Tensor:
        whole = torch.rand((), generator=generator).item() < WHOLE
        side = SIDE if whole else CROP
        batch = BATCH[device().type] // (SIDE // CROP) ** 2 if whole else BATCH[device().type]
        index = torch.randint(0, len(z), (batch,), generator=generator)
        y, x = torch.randint(0, SIDE - side + 1, (2,), generator=generator).tolist()
        dice = torch.rand((batch, 2), generator=generator)
        words = torch.where(dice[:, 0] < EMPTY, len(z), index).to(device())
        level = ((MAX_NOISE_LEVEL + 1) * dice[:, 1] ** 2).long().to(device())
        t = torch.randint(0, 1000, (batch,), generator=generator).to(device())
        index = index.to(device())
        clean = z[index, :, y : y + side, x : x + side].float()
        small = low[index, :, y : y + side, x : x + side].float() / 127.5 - 1
        noise, rough = (torch.randn(tensor.shape, generator=generator).to(device()) for tensor in (clean, small))
        inputs = torch.cat([schedule.add_noise(clean, noise, t), roughen.add_noise(small, rough, level)], 1)
        result = unet(inputs, t, encoder_hidden_states=states[words].float(), class_labels=level).sample
        error = F.mse_loss(result, schedule.get_velocity(clean, noise, t), reduction="none").mean((1, 2, 3))
        return (error * (1 - levels[t])).mean()  # the error of the clean latents

    def export() -> None:
        save_component(NAME, training.average["unet"], eight=True)

    training.run(loss, minutes=minutes, steps=steps, on_checkpoint=export)
    export()
    save_component(SCHEDULER, scheduler())
    save_component(LOW_RES, low_res_scheduler())
    add_checkpoint("upscale-x4", ENTRY)


def _pipeline():
    from diffusers import StableDiffusionUpscalePipeline

    from miniature_training.evaluation.scores import pipeline

    return pipeline(StableDiffusionUpscalePipeline, "upscale-x4")


def _upscaled(pipe, cases: list[upscaling.Case], *, guidance_scale: float, steps: int = STEPS, batch: int = 5):
    ours = []
    for i in range(0, len(cases), batch):
        part = cases[i : i + batch]
        ours += pipe(
            [case.prompt for case in part],
            image=[case.low for case in part],
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            noise_level=NOISE_LEVEL,
            generator=[torch.Generator().manual_seed(i + k) for k in range(len(part))],
        ).images
    return ours


def figures(count: int = 60, *, steps: int = STEPS) -> dict[str, float]:
    """PSNR and sharpness on held-out scenes against bicubic's, whole and close up, at noise level 20 without guidance.

    "Guided" is at the pipeline's default of 9, on fewer scenes.
    """
    pipe, result = _pipeline(), {}
    for close in (False, True):
        cases = upscaling.cases(count, 4, close=close)
        truths, enlarged = [case.truth for case in cases], [upscaling.bicubic(case.low) for case in cases]
        ours, prefix = _upscaled(pipe, cases, guidance_scale=0, steps=steps), "close_" if close else ""
        result |= {
            f"{prefix}psnr_db": psnr(ours, truths),
            f"{prefix}bicubic_psnr_db": psnr(enlarged, truths),
            f"{prefix}sharpness": upscaling.sharp(ours, truths),
            f"{prefix}bicubic_sharpness": upscaling.sharp(enlarged, truths),
        }
    few = upscaling.cases(max(1, count // 4), 4)
    guided = _upscaled(pipe, few, guidance_scale=9.0, steps=steps)
    return result | {"guided_psnr_db": psnr(guided, [case.truth for case in few])}


def sheet(count: int = 6, *, steps: int = STEPS) -> Image.Image:
    """Held-out scenes, and close-ups: 64 pixels, enlarged with bicubic, by the upscaler, and drawn large."""
    cases = [case for close in (False, True) for case in upscaling.cases(count // 2, 4, close=close)]
    ours = _upscaled(_pipeline(), cases, guidance_scale=0, steps=steps)
    rows = [(c.low, upscaling.bicubic(c.low), result, c.truth) for c, result in zip(cases, ours, strict=True)]
    return upscaling.comparison(rows, f"upscale-x4, {steps} steps")
