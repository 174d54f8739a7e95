"""What can be measured of an image: change, seam, sharpness, adherence to the prompt, agreement with a depth map.

Differences are in grey levels, 0..255, averaged over red, green and blue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from helpers.common.validation import whole
from helpers.images.masks import THRESHOLD, as_mask, by, check_equal_sizes, check_same_size
from helpers.images.reading import as_image, as_images, to_grey, to_rgb


@dataclass(frozen=True)
class Change:
    """Mean absolute difference inside and outside the mask, in grey levels; NaN where the mask leaves no pixel."""

    inside: float
    outside: float


def change(before: Any, after: Any, mask: Any = None) -> Change:
    """Return how much `after` differs from `before` inside and outside the mask (from 128 up is inside).

    Without a mask, the whole image is inside. Different sizes raise ValueError.
    """
    before, after, mask = check_same_size(before, after, mask)
    difference = np.abs(_pixels(after) - _pixels(before)).mean(axis=-1)  # (H, W)
    inside = np.asarray(mask) >= THRESHOLD
    inner, outer = difference[inside], difference[~inside]
    return Change(float(inner.mean()) if inner.size else np.nan, float(outer.mean()) if outer.size else np.nan)


def seam(image: Any, mask: Any, *, reach: int = 2) -> float:
    """Return how many grey levels the step across the mask's edge exceeds the steps beside it; about 0 is no seam.

    Wherever the edge crosses a row or column, four neighbouring means of `reach` pixels are taken along that line,
    a, b inside the mask and c, d outside: |b - c| - (|a - b| + |c - d|) / 2. The result is their mean over the edge.
    A smooth slope gives 0, a pasted patch its contrast. An edge that the scene itself has there counts as well, so
    compare images with one mask. A mask without an edge, or thinner than 2 x `reach` pixels, raises ValueError.
    """
    whole("reach", reach, least=1)
    image, mask = as_image(image), as_mask(mask)
    check_equal_sizes("mask", mask.size, "image", image.size)
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
            f"mask has no edge to measure at reach={reach}: it needs white and black areas at least {2 * reach} pixels "
            "thick that touch each other."
        )
    return float(found.mean())


def sharpness(image: Any) -> float:
    """Return the variance of the Laplacian of the grey image: less is blurrier. Compare images of one size only."""
    grey = np.asarray(to_grey(to_rgb(as_image(image)))).astype(np.float64)
    if min(grey.shape) < 3:
        raise ValueError(f"image is {by(grey.shape[::-1])} pixels: at least 3 x 3 are needed.")
    centre = grey[1:-1, 1:-1]
    return float((grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * centre).var())


def adherence(image: Any, prompt: str) -> Any:
    """Return how confident the course's classifier is to see what the prompt names, 0..1; a list for several images.

    It is the mean probability over those of subject, colour, place and hour that the prompt names. The classifier knows
    the drawn world only: RuntimeError in the full edition, ValueError if the prompt names nothing of that world.
    """
    from helpers.catalog.editions import edition

    if edition() != "mini":
        raise RuntimeError(
            "adherence needs the drawn world, which only the mini edition paints: its classifier knows no "
            'images of the full models. Switch with use("mini") before the first load, or look at the images.'
        )
    from helpers.analysis import scene_classifier

    if not isinstance(prompt, str):
        raise TypeError(f"prompt={prompt!r}: expected one text.")
    named = scene_classifier.words(prompt)
    if not named:
        raise ValueError(
            f"prompt={prompt!r} names nothing that the classifier knows: name a subject, a colour, a place or an hour "
            'of the drawn world, such as "a red boat at night".'
        )
    images = [to_rgb(one) for one in as_images(image)]
    if not images:
        raise ValueError("image: nothing to look at; pass at least one image.")
    seen = scene_classifier.read(images)
    scores = [sum(one[head][name] for head, name in named.items()) / len(named) for one in seen]
    return scores if isinstance(image, (list, tuple)) or len(scores) > 1 else scores[0]


def depth_agreement(image: Any, depth: Any) -> float:
    """Return how well an image keeps a depth map's order of near and far: 1 all of it, 0 none, -1 the reverse.

    It is Spearman's rank correlation of the image's estimated depth with `depth`, a control image of the same size;
    0 where one of them is flat. Another size raises ValueError.
    """
    from helpers.pipelines.control_images import depth_map

    image, wanted = to_rgb(as_image(image)), to_grey(as_image(depth))
    check_equal_sizes("depth", wanted.size, "image", image.size, remedy="Use depth = fit(depth, image).")
    return rank_correlation(np.asarray(depth_map(image, estimate=True))[..., 0], np.asarray(wanted))


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's, of two maps of one size; equal values share their mean rank, and a flat map agrees with none: 0."""
    ranks = []
    for values in (one, other):
        _, group, sizes = np.unique(values.ravel(), return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(sizes) - (sizes + 1) / 2)[group])
    return float(np.corrcoef(*ranks)[0, 1]) if min(np.ptp(rank) for rank in ranks) else 0.0


def _pixels(image: Any) -> np.ndarray:
    return np.asarray(to_rgb(image)).astype(np.float32)  # (H, W, 3), 0..255


def _four_means(values: np.ndarray, reach: int) -> list[np.ndarray]:
    """Means of `reach` values along axis 1, at four places in a row, for every start."""
    sums = np.cumsum(np.pad(values, ((0, 0), (1, 0), (0, 0))), axis=1, dtype=np.float64)
    means = (sums[:, reach:] - sums[:, :-reach]) / reach  # (H, W - reach + 1, C)
    count = values.shape[1] - 4 * reach + 1
    return [means[:, place * reach : place * reach + count] for place in range(4)]
