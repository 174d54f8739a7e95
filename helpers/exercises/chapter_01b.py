"""The exercises of chapter 01b: points on a ring, and three loops whose images must be the pipeline's own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from helpers.catalog.checkpoints import CATALOG
from helpers.exercises import describe, exercise
from helpers.exercises.kit import Hint, expect_image
from helpers.images.as_json import identity
from helpers.images.masks import invert, load_mask
from helpers.images.reading import load_image
from helpers.pipelines.loading import load
from helpers.pipelines.twins import twin

KNOWN_Y = -0.6
LOOK_ALIKE = 2.0  # grey levels: so near are two runs of one loop on different hardware, and no two loops
_IMAGES: dict[str, Image.Image] = {}  # by checkpoint, task and call


@exercise(
    "01b.1",
    right="Most end near x = 0.8 or x = -0.8, the two answers on the ring; putting back is a good approximation.",
)
def known_y(answer: Any) -> str | None:
    try:
        points = np.asarray(answer, float)
    except (TypeError, ValueError):
        points = np.zeros(0)
    if points.shape != (300, 2):
        return f"Expected the 300 end points, a tensor of shape (300, 2), got {describe(answer)}. Take sample(...)[-1]."
    if np.allclose(points, _ring(lambda z, signal, noise, random: signal * KNOWN_Y + noise * random), atol=1e-3):
        return None
    y = points[:, 1]
    if np.allclose(points[:, 0], KNOWN_Y, atol=1e-3):
        return "You put x back. This time the second number, y, is the known one: keep z[:, 0] and replace z[:, 1]."
    if np.abs(y - KNOWN_Y).max() > 1e-3:
        return (
            f"y should be {KNOWN_Y} at the end, and it is between {y.min():.2f} and {y.max():.2f}. Put back "
            "`signal * known_y + noise * noise_of_y`; in the last step, signal is 1 and noise is 0."
        )
    if np.allclose(
        points, _ring(lambda z, signal, noise, random: z[:, 1] if noise else 0 * random + KNOWN_Y), atol=1e-3
    ):
        return "y was put back at the very end only, so x never heard of it. Put it back after every step."
    for known in (
        lambda z, signal, noise, random: signal * KNOWN_Y + 0 * random,
        lambda z, s, n, random: KNOWN_Y + 0 * random,
    ):
        if np.allclose(points, _ring(known), atol=1e-3):
            return "y was put back without its noise. Everything else is noised at that step, so y must be as well."
    return (
        "y is right at the end, and x is not what the chapter's `start` leads to. Call sample(start, put_back=keep_y)."
    )


@exercise("01b.2", right="It is the pipeline's own image. A negative prompt is nothing but the other answer.")
def text_to_image(answer: Any) -> str | None:
    call = {"prompt": "a cat", "negative_prompt": "white", "num_inference_steps": 12, "guidance_scale": 5.0, "seed": 7}
    return _compare(
        answer,
        (None, call),
        {
            "guidance is missing: this is the answer with the prompt alone": (None, call | {"guidance_scale": 1.0}),
            "the negative prompt is missing: the empty text took its place": (None, call | {"negative_prompt": None}),
            "the two answers are swapped: the cat should move away from white, so start from the negative answer and "
            "add the difference": (None, call | {"prompt": "white", "negative_prompt": "a cat"}),
            "the guidance scale is 7.5 instead of 5": (None, call | {"guidance_scale": 7.5}),
        },
    )


@exercise("01b.3", right="It is the pipeline's own image. Nothing but the start is different from text-to-image.")
def start_late(answer: Any) -> str | None:
    image = load_image("lighthouse")
    call = {"prompt": "a lighthouse at night", "image": image, "strength": 0.7, "num_inference_steps": 15, "seed": 3}
    text = {name: call[name] for name in ("prompt", "num_inference_steps", "seed")}
    return _compare(
        answer,
        ("image2image", call),
        {
            "all 15 steps ran: leave out the first 15 - int(15 * 0.7)": ("image2image", call | {"strength": 1.0}),
            "one step too many ran: int(15 * 0.7) is 10": ("image2image", call | {"strength": 0.74}),
            "only 5 steps ran: leave out the first 5, not the last": ("image2image", call | {"strength": 0.34}),
            "it began with noise alone: add the noise to the image's latents": (None, text),
        },
    )


@exercise(
    "01b.4", right="It is the pipeline's own image. One line made an inpainting pipeline of a regular checkpoint."
)
def put_back(answer: Any) -> str | None:
    image, mask = load_image("meadow"), load_mask("meadow")
    call = {"prompt": "a red house", "image": image, "mask_image": mask, "num_inference_steps": 15, "seed": 2}
    call |= {"height": image.height, "width": image.width}
    return _compare(
        answer,
        ("inpaint", call),
        {
            "the mask is the wrong way round: where it is 1, the loop's own latents stay": (
                "inpaint",
                call | {"mask_image": invert(mask)},
            ),
            "nothing was put back": ("inpaint", call | {"mask_image": Image.new("L", image.size, 255)}),
        },
    )


def _ring(known: Callable) -> np.ndarray:
    """Where the chapter's 300 points end, with y put back as `known(z, signal, noise, random)` says."""
    import torch

    angle = torch.linspace(0, 2 * torch.pi, 201)[:-1]
    ring = torch.stack([angle.cos(), angle.sin()], dim=1)
    noises = torch.linspace(0.995, 0.02, 40)
    levels = [((1 - noise**2).sqrt(), noise) for noise in noises] + [(torch.tensor(1.0), torch.tensor(0.0))]
    random = torch.randn(300, generator=torch.Generator().manual_seed(3))
    z = torch.randn((300, 2), generator=torch.Generator().manual_seed(1))
    for (signal, noise), (signal_next, noise_next) in itertools.pairwise(levels):
        weights = torch.softmax(-(torch.cdist(z, signal * ring) ** 2) / (2 * noise**2), dim=1)
        clean = weights @ ring
        z = signal_next * clean + noise_next * (z - signal * clean) / noise
        z = torch.stack([z[:, 0], known(z, signal_next, noise_next, random)], dim=1)
    return z.numpy()


def _compare(answer: Any, right: tuple[str | None, dict], mistakes: dict[str, tuple[str | None, dict]]) -> str | None:
    """Compare with the image of a call; where it is another call's, say what that means."""
    expect_image(answer, more=" Hand in to_image(...) of the last latents.")  # before one is made to compare it with
    expected = _made(*right)
    expect_image(answer, expected.size, "as the pipeline's image has")
    apart = _apart(answer, expected)
    if apart == 0:
        return None
    for reason, call in mistakes.items():
        if _apart(answer, _made(*call)) < min(LOOK_ALIKE, apart):
            return f"Not yet: {reason}."
    if apart < LOOK_ALIKE:
        raise Hint(
            f"Very close: it differs from the pipeline's image by {apart:.2f} grey levels on average, expected 0. "
            "Is each random number drawn once, in the pipeline's order (first the VAE's, then the noise)?"
        )
    return (
        f"It differs from the pipeline's image by {apart:.1f} grey levels on average, expected 0. Check the seed, "
        "the number of steps, the prompt, the guidance scale, and that the generator is made anew."
    )


def _apart(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one.convert("RGB"), float) - np.asarray(other, float)).mean())


def _made(task: str | None, call: dict[str, Any]) -> Image.Image:
    """The image of a plain call of the regular checkpoint, made once."""
    import torch

    key = f"{CATALOG['sd15'].source} {task} {identity(call)}"
    if key not in _IMAGES:
        pipe = twin(load("sd15", task=task))
        given = {name: value for name, value in call.items() if name != "seed"}
        _IMAGES[key] = pipe(**given, generator=torch.Generator("cpu").manual_seed(call["seed"])).images[0]
    return _IMAGES[key]
