"""select(): a mask from a box around an object, or from a click on it."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from helpers.catalog.checkpoints import CATALOG, SEGMENTER
from helpers.common.validation import number
from helpers.images.digest import digest_of
from helpers.images.masks import box_mask, by, fit, threshold
from helpers.images.reading import as_image, to_rgb
from helpers.pipelines.loading import image_reader

if TYPE_CHECKING:
    import torch

WORKING_SIDE = 256  # pixels: larger images are looked at in this size
ROUNDS = 5  # of learning the colours of both sides, and cutting anew
WIDE, HIGH = 0.18, 0.24  # how far from a click an object is looked for, as a share of the image's longer side

# What the segmenter saw in the image it was last asked about: a second click on it costs next to nothing.
_seen: weakref.WeakKeyDictionary[Any, tuple[str, torch.Tensor]] = weakref.WeakKeyDictionary()


def select(image: Any, *, box: Sequence[float] | None = None, point: Sequence[float] | None = None) -> Image.Image:
    """Return a mask, "L", white on the object inside `box` or under `point`, 0 or 255, of the image's size.

    box: (left, top, right, bottom) in pixels, all around the object. What lies outside it is background.
    point: (x, y) in pixels, on the object. A click does not say how large the object is: the mini edition looks for
        one up to about half as wide as the image. Give both, and the object is the one at the point, within the box.

    The mini edition tells the colours inside and outside apart by `cv2.grabCut` (Rother et al. 2004,
    https://doi.org/10.1145/1015706.1015720), always with the same seed. The full edition asks `CATALOG["segmenter"]`,
    a Segment Anything model (Kirillov et al. 2023, https://arxiv.org/abs/2304.02643), and takes the best of its three
    answers to a click; it is fetched as `load` fetches, and in memory until `unload()`.

    ValueError, before a model is loaded, for neither box nor point, a point outside the image or the box, and a box
    that leaves no background; also where nothing stands out. HubError where the full edition cannot fetch the model.
    """
    image = to_rgb(as_image(image))
    if box is None and point is None:
        raise ValueError("select needs box=(left, top, right, bottom) around the object, or point=(x, y) on it.")
    inside = None if box is None else np.asarray(box_mask(image, box)) > 0
    at = None if point is None else _pixel(point, image.size)
    around, on = _written("box", box), _written("point", point)
    if inside is not None:
        if inside.all():
            raise ValueError(
                f"{around} holds the whole image of {by(image.size)} pixels: "
                "leave some background outside it to compare with."
            )
        if at is not None and not inside[at[1], at[0]]:
            raise ValueError(f"{on} lies outside {around}.")
    found = _cut_out(image, inside, at) if CATALOG[SEGMENTER].mini else _segmented(image, inside, at)
    if not found.any():
        raise ValueError(
            f"nothing stands out from its surroundings at {around or on}: draw the box closer around the object, or "
            "paint the mask by hand."
        )
    return threshold(fit(Image.fromarray(found * np.uint8(255)), image))


def _pixel(point: Sequence[float], size: tuple[int, int]) -> tuple[int, int]:
    """The pixel under a point, checked."""
    if not isinstance(point, (tuple, list, np.ndarray)) or len(point) != 2:
        raise ValueError(f"point={point!r}: expected two numbers (x, y) in pixels.")
    x, y = (number("point", value) for value in point)
    if not (0 <= x < size[0] and 0 <= y < size[1]):
        raise ValueError(f"{_written('point', point)} lies outside the image of {by(size)} pixels.")
    if 0 < x < 1 and 0 < y < 1:
        pixel = int(x * size[0]), int(y * size[1])
        raise ValueError(f"{_written('point', point)} looks like fractions of the image: give pixels, such as {pixel}.")
    return int(x), int(y)


def _written(name: str, numbers: Sequence[float] | None) -> str:
    """An argument as it was given, NumPy's numbers included."""
    return "" if numbers is None else f"{name}=({', '.join(f'{value:g}' for value in numbers)})"


def _segmented(image: Image.Image, inside: np.ndarray | None, at: tuple[int, int] | None) -> np.ndarray:
    """The object as bool (h, w), as the segmenter sees it."""
    import torch

    reader = image_reader(SEGMENTER)
    model, processor = reader["model"], reader["processor"]
    asked: dict[str, Any] = {}
    if at is not None:
        asked |= {"input_points": [[list(at)]], "input_labels": [[1]]}
    if inside is not None:
        asked["input_boxes"] = [[list(Image.fromarray(inside).getbbox() or ())]]
    inputs = processor(images=image, return_tensors="pt", **asked)
    pixels, sizes = inputs.pop("pixel_values"), (inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes"))
    prompts = {name: value.to(model.device, torch.float32) for name, value in inputs.items() if name in asked}
    digest = digest_of(image)
    with torch.inference_mode():
        seen = _seen.get(model, ("", None))
        if seen[0] != digest:
            seen = _seen[model] = digest, model.get_image_embeddings(pixels.to(model.device, model.dtype))
        # A box says how large the object is. A click does not: three answers, such as a button, a shirt, a person.
        answer = model(image_embeddings=seen[1], multimask_output=inside is None, **prompts)
    best = int(answer.iou_scores[0, 0].argmax())
    [masks] = processor.post_process_masks(answer.pred_masks.float().cpu(), *sizes)  # [(1, answers, h, w)]
    found = masks[0, best].numpy()
    return found if inside is None else found & inside


def _cut_out(image: Image.Image, inside: np.ndarray | None, at: tuple[int, int] | None) -> np.ndarray:
    """The object as bool (h, w), in the image's size or, of a large image, smaller."""
    import cv2

    scale = min(1.0, WORKING_SIDE / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BOX) if scale < 1 else image)
    sides = np.full((height, width), cv2.GC_PR_FGD, np.uint8)
    if at is not None:
        x, y = (min(int(value * scale), side - 1) for value, side in zip(at, (width, height), strict=True))
        rows, columns = np.ogrid[:height, :width]
        longer = max(width, height)
        away = np.hypot((columns - x) / (WIDE * longer), (rows - y) / (HIGH * longer))
        if inside is None:
            sides[away >= 1], sides[away > 2] = cv2.GC_PR_BGD, cv2.GC_BGD
        sides[away < 0.15] = cv2.GC_FGD
        sides[y, x] = cv2.GC_FGD
    if inside is not None:
        within = cv2.resize(inside.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
        sides[~within] = cv2.GC_BGD
    if not _both_sides(sides):
        return np.zeros((height, width), bool)
    cv2.setRNGSeed(0)  # it starts from k-means
    cv2.grabCut(pixels, sides, None, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    found = (sides == cv2.GC_FGD) | (sides == cv2.GC_PR_FGD)
    if at is not None:  # the one piece that was clicked on
        pieces = cv2.connectedComponents(found.astype(np.uint8), connectivity=8)[1]
        found &= pieces == pieces[y, x]
    return found


def _both_sides(sides: np.ndarray) -> bool:
    """Whether there is something to learn on either side: grabCut fails without."""
    foreground = sides & 1 > 0  # GC_FGD is 1, GC_PR_FGD 3
    return bool(foreground.any() and (~foreground).any())
