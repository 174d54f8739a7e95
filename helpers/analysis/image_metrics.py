"""Measure pictures: what the chapters plot instead of claiming it. (The cost of a call is measured in `costs`.)

Differences are in grey levels, 0..255, averaged over red, green and blue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from helpers.images.masks import THRESHOLD, as_mask, by, check_same_size
from helpers.images.reading import as_picture, as_pictures, to_grey, to_rgb


@dataclass(frozen=True)
class Change:
    """Mean absolute difference inside and outside the mask, in grey levels; NaN where the mask leaves no pixel."""

    inside: float
    outside: float


def change(before: Any, after: Any, mask: Any = None) -> Change:
    """Return how much `after` differs from `before` inside and outside the mask (from 128 up is inside).

    Without a mask, all of the picture is inside. Different sizes raise ValueError.
    """
    before, after, mask = check_same_size(before, after, mask)
    difference = np.abs(_pixels(after) - _pixels(before)).mean(axis=-1)  # (H, W)
    inside = np.asarray(mask) >= THRESHOLD
    inner, outer = difference[inside], difference[~inside]
    return Change(float(inner.mean()) if inner.size else np.nan, float(outer.mean()) if outer.size else np.nan)


def seam(image: Any, mask: Any, *, reach: int = 2) -> float:
    """Return how many grey levels the step across the mask's rim exceeds the steps beside it; about 0 is no seam.

    At every place where the rim crosses a row or column, four neighbouring means of `reach` pixels are taken along
    it, a, b inside the mask and c, d outside: |b - c| - (|a - b| + |c - d|) / 2. The result is the mean over the rim.
    A smooth slope gives 0, a pasted patch its contrast. An edge that the scene itself has at the rim counts as well,
    so compare pictures with one mask. A mask with no rim, or thinner than 2 x `reach` pixels, raises ValueError.
    """
    if isinstance(reach, bool) or not isinstance(reach, int) or reach < 1:
        raise ValueError(f"reach={reach!r}: expected a whole number of pixels, 1 or more.")
    image, mask = as_picture(image), as_mask(mask)
    if mask.size != image.size:
        raise ValueError(f"mask is {by(mask.size)} pixels, image {by(image.size)}: use mask = fit(mask, image).")
    pixels, inside = _pixels(image), (np.asarray(mask) >= THRESHOLD).astype(np.float32)[..., None]
    excess = []
    for flip in (False, True):  # along rows, then along columns
        values, sides = (pixels, inside) if not flip else (pixels.swapaxes(0, 1), inside.swapaxes(0, 1))
        if values.shape[1] < 4 * reach:
            continue
        a, b, c, d = _four_means(values, reach)
        where = [means[..., 0] for means in _four_means(sides, reach)]
        leaving = (where[0] == 1) & (where[1] == 1) & (where[2] == 0) & (where[3] == 0)
        entering = (where[0] == 0) & (where[1] == 0) & (where[2] == 1) & (where[3] == 1)
        step = np.abs(b - c) - (np.abs(a - b) + np.abs(c - d)) / 2
        excess.append(step[leaving | entering].mean(axis=-1))
    found = np.concatenate(excess) if excess else np.empty(0)
    if not found.size:
        raise ValueError(
            f"mask has no rim to measure at reach={reach}: it must hold white and black areas at least {2 * reach} "
            "pixels thick that touch each other."
        )
    return float(found.mean())


def sharpness(image: Any) -> float:
    """Return the variance of the Laplacian of the grey picture: less is blurrier. Compare pictures of one size only."""
    grey = np.asarray(to_grey(to_rgb(as_picture(image)))).astype(np.float64)
    if min(grey.shape) < 3:
        raise ValueError(f"image is {by(grey.shape[::-1])} pixels: at least 3 x 3 are needed.")
    centre = grey[1:-1, 1:-1]
    return float((grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * centre).var())


def adherence(image: Any, prompt: str) -> float | list[float]:
    """Return how surely the course's classifier sees what the prompt names, 0..1; a list for a list of pictures.

    It is the mean, over what the prompt names of subject, colour, place and hour, of the probability it is given. The
    classifier knows the drawn world alone: RuntimeError in the full edition, ValueError if the prompt names nothing
    of that world.
    """
    from helpers.catalog.editions import edition

    if edition() != "mini":
        raise RuntimeError(
            "adherence needs the drawn world, which only the mini edition paints: its classifier cannot judge pictures "
            'of the full models. Switch with use("mini") before the first load, or look at the pictures.'
        )
    from helpers.analysis import scene_classifier

    if not isinstance(prompt, str):
        raise TypeError(f"prompt={prompt!r}: expected one text.")
    named = {
        head: [name] if isinstance(name, str) else list(name) for head, name in scene_classifier.words(prompt).items()
    }
    named = {head: names for head, names in named.items() if names}
    if not named:
        raise ValueError(
            f"prompt={prompt!r} names nothing that the classifier knows: name a subject, a colour, a place or an hour "
            'of the drawn world, such as "a red boat at night".'
        )
    pictures = [to_rgb(picture) for picture in as_pictures(image)]
    scores = [
        sum(float(np.mean([seen[head][name] for name in names])) for head, names in named.items()) / len(named)
        for seen in scene_classifier.read(pictures)
    ]
    return scores if isinstance(image, (list, tuple)) or len(scores) > 1 else scores[0]


def _pixels(picture: Any) -> np.ndarray:
    return np.asarray(to_rgb(picture)).astype(np.float32)  # (H, W, 3), 0..255


def _four_means(values: np.ndarray, reach: int) -> list[np.ndarray]:
    """Means of `reach` values along axis 1, at four places in a row, for every start."""
    sums = np.cumsum(np.pad(values, ((0, 0), (1, 0), (0, 0))), axis=1, dtype=np.float64)
    means = (sums[:, reach:] - sums[:, :-reach]) / reach  # (H, W - reach + 1, C)
    count = values.shape[1] - 4 * reach + 1
    return [means[:, place * reach : place * reach + count] for place in range(4)]
