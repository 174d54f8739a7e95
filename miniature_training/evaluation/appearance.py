"""How a pipeline's images look: the ruler's figures of whole images, and of what is painted into a hole.

A pipeline comes as a function, so that all of them are measured alike. All figures are of scenes and seeds that no
training has seen; the ruler's are against drawings of what was asked for, so that less is better.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from tqdm import tqdm

from helpers.analysis import scene_classifier
from helpers.analysis.image_metrics import change, seam
from helpers.images.masks import load_mask
from helpers.images.reading import load_image
from miniature_training.evaluation.ruler import SIZE, Ruler, named, ruler, shares
from miniature_training.world.gallery import IMAGES
from miniature_training.world.scenes import HELD_OUT, Scene, draw, sample
from miniature_training.world.skies import HOURS
from miniature_training.world.subjects import COLOURS

Paint = Callable[[list[str], list[int]], list[Image.Image]]  # prompts and seeds -> images
Repaint = Callable[[Image.Image, Image.Image, str, int], Image.Image]  # image, mask, prompt and seed -> image
Trip = Callable[[Image.Image], Image.Image]  # what a pipeline's VAE makes of an image

COUNT, BATCH = 120, 20
OPEN = ("a white house in a meadow", "a red boat on the sea shore")  # name no hour
SUBJECT = "a black cat with glowing eyes"  # what is put into the meadow
INSIDE = ("cat", "boat", "castle", "house")
WHERE = {"cat": "meadow", "boat": "seashore", "castle": "castle", "house": "winter"}  # the course's images
MARGIN = 0.08  # round a hole, of the image's height


def _all(paint: Paint, prompts: Sequence[str], first: int) -> list[Image.Image]:
    images: list[Image.Image] = []
    for i in tqdm(range(0, len(prompts), BATCH), desc="images", mininterval=10):
        texts = list(prompts[i : i + BATCH])
        images += paint(texts, [first + i + k for k in range(len(texts))])
    return images


def of_prompts(paint: Paint, *, count: int = COUNT) -> dict[str, float]:
    """structure, everything and sharpness of images whose prompts name all that varies."""
    return ruler()(_all(paint, [text for text, _ in named(count)], HELD_OUT))


def hours(paint: Paint, *, count: int = 24) -> dict[str, float]:
    """The shares of the hours that are chosen where the prompt names none; of drawings, a quarter each."""
    images = _all(paint, [text for text in OPEN for _ in range(count)], HELD_OUT)
    told = [max(seen["hour"], key=seen["hour"].get) for seen in scene_classifier.read(images)]
    chosen = shares(told, str)
    return {f"hour_{hour}": chosen.get(hour, 0.0) for hour in HOURS}


def outside(repaint: Repaint, trip: Trip, *, seeds: int = 3) -> dict[str, float]:
    """What a cat in the meadow costs the rest: the change that is not the VAE's own, and the step at the mask's edge.

    Both in grey levels; the edge's against that of the original.
    """
    image, mask = load_image("meadow"), load_mask("meadow")
    own = change(image, trip(image), mask).outside
    made = [repaint(image, mask, SUBJECT, HELD_OUT + seed) for seed in range(seeds)]
    steps = [seam(after, mask) - seam(image, mask) for after in made]
    changed = [change(image, after, mask).outside - own for after in made]
    return {"outside_levels": float(np.mean(changed)), "seam_levels": float(np.mean(steps))}


def cut(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """A box of an image with a margin, at the ruler's size."""
    margin = MARGIN * image.height
    left, top, right, bottom = box
    wide = (max(0, left - margin), max(0, top - margin))
    whole = (*wide, min(image.width, right + margin), min(image.height, bottom + margin))
    return image.resize((SIZE, SIZE), Image.Resampling.LANCZOS, box=whole)


def _asked(count: int) -> list[tuple[str, str, str]]:
    """Subjects, the images that they are put into, and prompts."""
    rng, result = random.Random(HELD_OUT), []
    for i in range(count):
        subject, colour = INSIDE[i % len(INSIDE)], rng.choice(list(COLOURS))
        result.append((subject, WHERE[subject], f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {subject}"))
    return result


def _scene(i: int, subject: str) -> Scene:
    """A scene with the subject, in the place and at the hour of the image that it is put into."""
    rng, where = random.Random(HELD_OUT + i), IMAGES[WHERE[subject]][0]
    fixed = {"subject": subject, "colour": rng.choice(list(COLOURS)), "place": where.place, "hour": where.hour}
    fixed |= {"palette": "plain", "attribute": None, "on_bench": False, "close": False, "bush": False}
    return sample(HELD_OUT + 7_000_000 + i, degraded=False, **fixed)


def around(box: tuple[int, int, int, int], mask: Image.Image) -> tuple[int, int, int, int]:
    """A box as large as what `mask` covers, its middle that of `box`, moved into the image where it sticks out."""
    left, top, right, bottom = mask.getbbox()
    ends = zip(box[:2], box[2:], (right - left, bottom - top), mask.size, strict=True)
    starts = [min(max(0, (low + high - long) // 2), side - long) for low, high, long, side in ends]
    return (*starts, starts[0] + right - left, starts[1] + bottom - top)


def drawn_cuts(count: int = 300) -> list[Image.Image]:
    """What drawings of the same places show where a mask of that size would be."""
    cuts = []
    for i in range(count):
        subject = INSIDE[i % len(INSIDE)]
        drawing = draw(_scene(i, subject), SIZE)
        cuts.append(cut(drawing.image, around(drawing.boxes[subject], load_mask(WHERE[subject]))))
    return cuts


def inside(repaint: Repaint, *, count: int = 60) -> dict[str, float]:
    """structure and sharpness of what is painted into holes in the course's images, cut out as from drawings."""
    cuts = []
    for i, (_, where, prompt) in enumerate(tqdm(_asked(count), desc="inside", mininterval=10)):
        image, mask = load_image(where), load_mask(where)
        cuts.append(cut(repaint(image, mask, prompt, HELD_OUT + i), mask.getbbox()))
    figures = Ruler(drawn_cuts())(cuts)
    return {f"inside_{kind}": figures[kind] for kind in ("structure", "sharpness")}
