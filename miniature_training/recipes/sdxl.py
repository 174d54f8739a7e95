"""`sdxl-inpaint`: 192 pixels, two text encoders, a latent space of its own, and a UNet (9 channels) that knows sizes.

The UNet is sd15-inpaint's without its middle and the attentions that it has next to it; what is left keeps its weights,
turned into SDXL's latent space and to prompts read by two encoders, and goes on learning at 192 pixels.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from PIL import Image
from tqdm import tqdm

from miniature_training.models import latent_space, store
from miniature_training.models.denoising import EARLY, SCHEDULE, epsilon_loss, half_outside, noised, pool, signal
from miniature_training.models.latents import encode
from miniature_training.models.loop import Training, constant, decay, device, halved, leader_first
from miniature_training.models.originals import SHAPES, SIZE, latents, original
from miniature_training.models.store import add_checkpoint, load_component, save_component
from miniature_training.recipes import text, text_encoder_2
from miniature_training.recipes.unet import NARROW
from miniature_training.world.captions import PLACE_NAMES, caption
from miniature_training.world.scenes import HELD_OUT, sample
from miniature_training.world.strokes import training_mask

WHOLE = 0.35  # this share of the cases is masked whole: text-to-image
NAME = "unet-sdxl-inpaint"
BATCH = {"cpu": 16, "cuda": 128}
COUNT = {"cpu": 8_000, "cuda": 24_000}  # images; on a CPU to encode one takes as long as to train on two
LR = {"cpu": 7e-4, "cuda": 1.5e-3}
OTHER_SHAPES = 0.15  # share of the steps on wide or tall images
ZEROED, EMPTY = 0.09, 0.02  # of the captions: none, as the pipeline does without a negative prompt, and ""
IDS = 16  # channels for each of the six time ids


def build(widths: tuple[int, ...] = NARROW) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIZE // 8, in_channels=9, out_channels=4, layers_per_block=1, block_out_channels=widths,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"), mid_block_type=None,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=4, norm_num_groups=8,
        cross_attention_dim=text.WIDTH + text_encoder_2.WIDTH, addition_embed_type="text_time",
        addition_time_embed_dim=IDS, projection_class_embeddings_input_dim=text_encoder_2.WIDTH + 6 * IDS,
    )  # fmt: skip


def warm(unet: UNet2DConditionModel, known: dict[str, torch.Tensor], translation: torch.Tensor) -> UNet2DConditionModel:
    """Give `unet` every weight of `known` (of sd15's space and width) that fits; sizes and pooled prompts start mute.

    translation: `text_encoder_2.translation`, for the keys and values of the cross attentions.
    """
    known = latent_space.turned_unet(known)
    state = unet.state_dict()
    for name, value in state.items():
        if name in known and known[name].shape == value.shape:
            state[name] = known[name]
        elif name in known and name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")):
            state[name] = known[name] @ translation
        elif name.startswith("add_embedding.linear_2"):
            state[name] = torch.zeros_like(value)
    unet.load_state_dict(state)
    return unet


def scheduler() -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(**SCHEDULE, timestep_spacing="leading", steps_offset=1)


def example(seed: int, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """What training knows of an image: itself, with a hole, the hole's mask, does it touch the subject, time ids."""
    image, rng = original(seed, shape), random.Random(f"{seed}/mask")
    mask = training_mask(image.subject, rng)
    # asked for small originals, it meets sharp surroundings too
    around = image.pixels if rng.random() < 0.5 else image.sharp
    subject = image.subject > 0
    return {
        "z": image.pixels,
        "z_masked": np.where(mask[..., None], np.uint8(127), around),
        "mask": mask[None, ::8, ::8],
        "touched": np.array((mask & subject).sum() > 0.25 * max(1, subject.sum())),
        "ids": np.array(image.ids, dtype=np.float32),
    }


def _collection(count: int, shape: tuple[int, int], vae) -> dict[str, torch.Tensor]:
    """`example` for `count` scenes; "blank" are the latents (1, 4, h, w) of an image masked whole.

    All on the device but "touched", which decides on the captions.
    """
    width, height = shape
    blank = encode(np.full((1, height, width, 3), 127, dtype=np.uint8), vae)
    data = latents(example, count, shape=shape, vae=vae) | {"blank": blank}
    return {k: torch.from_numpy(v).to("cpu" if k == "touched" else device()) for k, v in data.items()}


def train(
    *, minutes: float, steps: int | None = None, resume: bool = False, last: bool = False, count: int | None = None
) -> None:
    """Train sdxl-inpaint, started from sd15-inpaint; needs text_encoder_2."""
    count = count or COUNT[device().type]
    tokenizer, second = text_encoder_2.load()
    encoders = [text.load()[1].eval().requires_grad_(False), second.eval().requires_grad_(False)]
    with leader_first():
        vae = latent_space.export_vae()
        bins = [_collection(count if shape == SHAPES[0] else -(-count // 8), shape, vae) for shape in SHAPES]
    if resume and store.shipped(NAME):
        unet = load_component(NAME, UNet2DConditionModel)
    else:
        sd15 = load_component("unet-sd15-inpaint", UNet2DConditionModel)
        translation = text_encoder_2.translation(tokenizer, encoders)
        unet = warm(build(sd15.config.block_out_channels), sd15.state_dict(), translation)
    training = Training(NAME, {"unet": unet}, lr=LR[device().type], ema_decay=0.999, muon=True)
    if resume:
        training.resume()
    unet.train().to(memory_format=torch.channels_last)
    for encoder in encoders:
        encoder.to(device())
    scenes = [sample(seed) for seed in range(count)]
    pools = [pool(scenes[: len(data["z"])]) for data in bins]
    alphas = signal()

    def words(i: int, named: bool, rng: random.Random) -> str:
        if rng.random() < EMPTY:
            return ""
        if not named and rng.random() < 0.5:
            return rng.choice(PLACE_NAMES[scenes[i].place])
        return caption(scenes[i], rng)

    def loss(generator: torch.Generator) -> torch.Tensor:
        batch, dice = BATCH[device().type], torch.rand((2,), generator=generator).tolist()
        turn = 0 if dice[0] >= OTHER_SHAPES else 1 + int(dice[1] * (len(bins) - 1))
        data = bins[turn]
        index = pools[turn][torch.randint(0, len(pools[turn]), (batch,), generator=generator)]
        whole, zeroed = torch.rand((2, batch), generator=generator)
        seeds = torch.randint(0, 2**40, (batch,), generator=generator).tolist()
        named = ((whole < WHOLE) | data["touched"][index]).tolist()
        texts = [words(*one) for one in zip(index.tolist(), named, map(random.Random, seeds), strict=True)]
        states, pooled = text_encoder_2.states(tokenizer, encoders, texts)
        told, index = (zeroed >= ZEROED).to(device()), index.to(device())
        whole = (whole < WHOLE).view(-1, 1, 1, 1).to(device())
        noisy, noise, t, snr = noised(data["z"][index].float(), alphas, generator)
        mask = data["mask"][index].float().masked_fill(whole, 1.0)
        around = torch.where(whole, data["blank"], data["z_masked"][index]).float()
        with halved():
            predicted = unet(
                torch.cat([noisy, mask, around], 1),
                t,
                encoder_hidden_states=states * told.view(-1, 1, 1),
                added_cond_kwargs={"text_embeds": pooled * told.view(-1, 1), "time_ids": data["ids"][index]},
            ).sample
        return epsilon_loss(predicted.float(), noise, snr, half_outside(mask), early=EARLY)

    def export() -> None:
        save_component(NAME, training.average["unet"], eight=True)

    rate = decay if last else constant
    training.run(loss, minutes=minutes, steps=steps, rate=rate, on_checkpoint=export)
    export()
    save_component("scheduler-sdxl", scheduler())
    add_checkpoint("sdxl-inpaint", ENTRY)


VAE = ["diffusers", "AutoencoderKL", "vae", latent_space.NAME]
SECOND = {
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection", text_encoder_2.NAME],
    "tokenizer_2": ["transformers", "CLIPTokenizer", "tokenizer"],
}
SCHEDULER = ["diffusers", "EulerDiscreteScheduler", "scheduler-sdxl"]
ENTRY = {
    "pipeline": "StableDiffusionXLInpaintPipeline",
    "size": SIZE,
    "components": {
        "vae": VAE,
        "text_encoder": ["transformers", "CLIPTextModel", "text_encoder"],
        "tokenizer": ["transformers", "CLIPTokenizer", "tokenizer"],
        **SECOND,
        "unet": ["diffusers", "UNet2DConditionModel", NAME],
        "scheduler": SCHEDULER,
    },
    "config": {"force_zeros_for_empty_prompt": True, "requires_aesthetics_score": False},
}


def pipeline():
    from diffusers import StableDiffusionXLInpaintPipeline

    from miniature_training.evaluation.scores import pipeline

    return pipeline(StableDiffusionXLInpaintPipeline, "sdxl-inpaint")


def repainted(pipe, prompts: list[str], images=None, masks=None, *, batch: int = 20, **call) -> list:
    """What `pipe` makes of the masked parts (or, without images, of the prompts alone), seed by seed."""
    told = {"strength": 0.99 if images else 1.0, "num_inference_steps": 25} | call
    images = images or [Image.new("RGB", (SIZE, SIZE), (127, 127, 127))] * len(prompts)
    masks, result = masks or [Image.new("L", (SIZE, SIZE), 255)] * len(prompts), []
    for i in tqdm(range(0, len(prompts), batch), desc="sdxl-inpaint"):
        part = slice(i, i + batch)
        generator = [torch.Generator().manual_seed(HELD_OUT + i + k) for k in range(len(prompts[part]))]
        result += pipe(prompts[part], image=images[part], mask_image=masks[part], generator=generator, **told).images
    return result


def figures(count: int = 240, **call) -> dict[str, float]:
    """Another subject in a held-out scene; prompts alone; and the sharpness that is left from a small original."""
    from helpers.analysis.image_metrics import sharpness
    from miniature_training.evaluation.scores import prompts, repainting, right

    pipe, (drawings, masks, texts, asked) = pipeline(), map(list, zip(*repainting(count, size=SIZE), strict=True))
    result = right(repainted(pipe, texts, [d.image for d in drawings], masks, **call), asked)
    texts, asked = map(list, zip(*prompts(count), strict=True))
    images = repainted(pipe, texts, **call)
    result |= {f"text_{head}": share for head, share in right(images, asked).items()}
    small = repainted(pipe, texts[:40], **call, original_size=(SIZE // 4, SIZE // 4))
    left = [sharpness(after) / sharpness(before) for after, before in zip(small, images, strict=False)]
    return result | {"sharpness_of_a_small_original": float(np.median(left))}


def sheet() -> Image.Image:
    """Held-out scenes with another subject; the guides' prompts; and one prompt with other sizes and corners."""
    from helpers.images.contact_sheet import show
    from miniature_training.evaluation.scores import repainting
    from miniature_training.evaluation.sheets import PROMPTS

    pipe, (drawings, masks, texts, _) = pipeline(), map(list, zip(*repainting(8, size=SIZE), strict=True))
    rows = [[d.image for d in drawings], masks, repainted(pipe, texts, [d.image for d in drawings], masks)]
    titles = ["drawn"] * 8 + ["mask"] * 8 + texts + list(PROMPTS)
    rows.append(repainted(pipe, list(PROMPTS)))
    told = [{"original_size": (side, side)} for side in (1024, SIZE, 96, 40)]
    for call in [*told, {"crops_coords_top_left": (0, 80)}, {"crops_coords_top_left": (80, 0)}]:
        rows.append(repainted(pipe, ["a red castle in a meadow"], **call))
        titles.append(" ".join(map(str, *call.items())))
    return show(*rows, titles=titles, columns=8)
