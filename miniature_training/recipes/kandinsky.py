"""Kandinsky 2.2's decoders: UNets that paint what a CLIP image embedding says, `kandinsky22` and its inpainting."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel

from miniature_training.models.denoising import EARLY, SCHEDULE, epsilon_loss, half_outside, signal
from miniature_training.models.factors import delta_training, factorise, merged
from miniature_training.models.loop import Training, constant, cosine, decay, device, halved, leader_first
from miniature_training.models.repainting import MASKS, Callers, masks
from miniature_training.models.store import add_checkpoint, load_component, save_component, save_delta, shipped
from miniature_training.recipes import clip, movq, prior
from miniature_training.recipes.kandinsky_checkpoints import DELTA, NAME, entry
from miniature_training.recipes.unet import NARROW
from miniature_training.world.scenes import sample

BATCH = {"cpu": 24, "cuda": 256}
COUNT = {"cpu": 12_000, "cuda": 32_000}  # images
LR = {"cpu": 7e-4, "cuda": 1.5e-3}
RANK = 7  # of the inpainting delta
NOTHING = 0.10  # this share of the embeddings is that of no image in particular, which guidance compares with
UNSURE = 0.25  # noise on the embeddings of images, in their standard deviations
IMAGINED = 2  # of one in so many images the decoder is told what the prior makes of a caption, as the pipelines tell it
WHOLE = 0.2  # this share of the images is repainted whole
RANGE = 5.0  # clean latents are no larger
VARIANCE = 0.002  # weight of the loss of the variance


def build(in_channels: int = 4, widths: tuple[int, ...] = NARROW) -> UNet2DConditionModel:
    """sd15's UNet without its middle and its lowest attention; twice four channels out: the noise and its variance."""
    return UNet2DConditionModel(
        sample_size=16, in_channels=in_channels, out_channels=8, layers_per_block=1, block_out_channels=widths,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"), mid_block_type=None,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=4, norm_num_groups=8,
        cross_attention_dim=32, encoder_hid_dim=clip.WIDTH, encoder_hid_dim_type="image_proj",
        addition_embed_type="image",
    )  # fmt: skip


@torch.no_grad()
def start(sd15: UNet2DConditionModel) -> UNet2DConditionModel:
    """sd15's weights where there is a place for them, turned to MoVQ's latents; what reads the embedding is new."""
    unet = build(widths=sd15.config.block_out_channels)
    given, turn = sd15.state_dict(), movq.rotation()
    given["conv_in.weight"] = torch.einsum("ochw,nc->onhw", given["conv_in.weight"], turn)
    for key in ("conv_out.weight", "conv_out.bias"):
        noise = torch.einsum("nc,c...->n...", turn, given[key])
        given[key] = torch.cat([noise, torch.zeros_like(noise)])  # a variance half way between its bounds
    state = unet.state_dict()
    fitting = {key: given[key] for key in state if key in given and given[key].shape == state[key].shape}
    unet.load_state_dict(state | fitting)
    unet.add_embedding.image_norm.weight.mul_(0.1)  # it disturbs the sense of time until it has learnt
    return unet


@torch.no_grad()
def nine_channels(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """A copy that also takes the kept latents and their mask, which have no effect yet."""
    result, state = build(9, unet.config.block_out_channels), unet.state_dict()
    state["conv_in.weight"] = F.pad(state["conv_in.weight"], (0, 0, 0, 0, 0, 5))
    result.load_state_dict(state)
    return result


def scheduler() -> DDPMScheduler:
    """As the full checkpoint's, with the variance learnt; the last steps count in full, so that 25 are enough."""
    return DDPMScheduler(
        **SCHEDULE, variance_type="learned_range", clip_sample=True, clip_sample_range=RANGE,
        timestep_spacing="trailing",
    )  # fmt: skip


def variance_loss(spread: torch.Tensor, error: torch.Tensor, *, here: torch.Tensor, there: torch.Tensor):
    """KL divergence of a step from signal share `here` to `there`, whose variance the UNet says, from the true step.

    spread: -1..1 between the two bounds of the variance's logarithm; error: of the predicted clean latents. Only the
    variance learns from it (https://arxiv.org/abs/2102.09672).
    """
    beta = 1 - here / there
    true = ((1 - there) / (1 - here) * beta).clamp(min=1e-20)
    share = (spread + 1) / 2
    log = share * beta.log() + (1 - share) * true.log()
    off = there.sqrt() * beta / (1 - here) * error.detach()
    return 0.5 * (log - true.log() - 1 + (true + off.square()) / log.exp()).mean()


def train(
    *,
    minutes: float,
    steps: int | None = None,
    resume: bool = False,
    last: bool = False,
    inpaint: bool = False,
    count: int | None = None,
) -> None:
    """Train the decoder, from sd15; or its inpainting, as a delta of low rank. Then the checkpoint joins the course.

    The decoder learns in runs at a constant rate that go on from one another, and a last one; the delta in one.
    """
    count = count or COUNT[device().type]
    with leader_first():
        z, seen, guessed = movq.latents(count), clip.embeddings(count), prior.embeddings(count // IMAGINED)
        keep, hides = (torch.from_numpy(part) for part in masks(count)) if inpaint else (None, None)
    nothing = clip.nothing(clip.load()[1])[0]
    torch.manual_seed(0)
    if inpaint:
        unet = factorise(nine_channels(load_component(NAME, UNet2DConditionModel)), rank=RANK, whole=("conv_in.",))
        training, rate = delta_training(DELTA, unet, lr=1e-3, resume=resume), cosine
    else:
        if resume and shipped(NAME):
            unet = load_component(NAME, UNet2DConditionModel)
        else:
            unet = start(load_component("unet-sd15", UNet2DConditionModel))
        training = Training(NAME, {"unet": unet}, lr=LR[device().type], ema_decay=0.999, muon=True)
        rate = decay if last else constant
        if resume:
            training.resume()
    unet.train().to(memory_format=torch.channels_last)
    roughness = (UNSURE * seen.std(0)).repeat(count, 1)
    roughness[: len(guessed)] = 0  # these are what the prior gives
    seen = torch.cat([guessed, seen[len(guessed) :]])
    z, seen, roughness, nothing = (part.to(device()) for part in (z, seen, roughness, nothing))
    callers = Callers([sample(seed) for seed in range(count)])
    alphas = signal()
    size = BATCH[device().type]

    def told(index: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The embeddings (B, WIDTH) that call for these images: the prior's, or roughly their own; at times none."""
        rough = torch.rand((size, 1), generator=generator) * torch.randn((size, clip.WIDTH), generator=generator)
        silent = (torch.rand((size, 1), generator=generator) < NOTHING).to(device())
        index = index.to(device())
        return torch.where(silent, nothing, seen[index] + roughness[index] * rough.to(device()))

    def repainted(index: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Which images' embeddings call for what is hidden of these, and what is kept of them (B, 1, 16, 16)."""
        which = torch.randint(0, MASKS, (size,), generator=generator)
        whole = torch.rand((size,), generator=generator) < WHOLE
        rng = random.Random(int(torch.randint(0, 2**40, (), generator=generator)))
        hidden = hides[index, which].tolist()
        called = [
            i if all_of_it else callers.pick(i, rng, hidden=h)
            for i, h, all_of_it in zip(index.tolist(), hidden, whole.tolist(), strict=True)
        ]
        return torch.tensor(called), keep[index, which][:, None] * ~whole.view(-1, 1, 1, 1)

    def loss(generator: torch.Generator) -> torch.Tensor:
        index = torch.randint(0, count, (size,), generator=generator)
        clean = z[index.to(device())].float()
        noise = torch.randn(clean.shape, generator=generator).to(device())
        t = torch.randint(1, 1000, (size,), generator=generator).to(device())
        before = (t - torch.randint(10, 41, (size,), generator=generator).to(device())).clamp(min=0)  # 25-100 steps
        here, there = (alphas[step].view(-1, 1, 1, 1) for step in (t, before))
        noisy = here.sqrt() * clean + (1 - here).sqrt() * noise
        called, inputs, counts = index, noisy, None
        if inpaint:
            called, left = repainted(index, generator)
            left = left.to(device())
            inputs, counts = torch.cat([noisy, clean * left, left], 1), half_outside(1 - left)
        added = {"image_embeds": told(called, generator)}
        with halved():
            said = unet(inputs, t, encoder_hidden_states=None, added_cond_kwargs=added).sample
        predicted, spread = said.float().chunk(2, 1)
        error = ((noisy - (1 - here).sqrt() * predicted) / here.sqrt()).clamp(-RANGE, RANGE) - clean
        value = epsilon_loss(predicted, noise, (here / (1 - here)).flatten(), counts, early=EARLY)
        return value + VARIANCE * variance_loss(spread, error, here=here, there=there)

    def export() -> None:
        [average] = training.average.values()
        save_delta(DELTA, NAME, merged(average), rank=RANK) if inpaint else save_component(NAME, average, eight=True)

    training.run(loss, minutes=minutes, steps=steps, rate=rate, on_checkpoint=export)
    export()
    save_component("kandinsky-scheduler", scheduler())
    add_checkpoint("kandinsky22-inpaint" if inpaint else "kandinsky22", entry(inpaint=inpaint))
