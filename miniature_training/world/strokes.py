"""Masks to train inpainting on: boxes, ellipses, strokes, odd shapes, subjects with a margin, the whole image."""

from __future__ import annotations

import math
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def _box_of(subject: np.ndarray, rng: random.Random) -> tuple[float, float, float, float]:
    """The subject's box with a random margin, or a random box where there is no subject (pixels)."""
    height, width = subject.shape
    rows, columns = np.flatnonzero(subject.any(1)), np.flatnonzero(subject.any(0))
    if len(rows) == 0 or rng.random() < 0.2:
        w, h = rng.uniform(0.2, 0.7) * width, rng.uniform(0.2, 0.7) * height
        left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
        return left, top, left + w, top + h
    # tight, or with room: another subject than the one it was drawn for has to find its place in it
    widest = rng.choice((0.12, 0.3))
    margin = [rng.uniform(0, widest) * height for _ in range(4)]
    return columns[0] - margin[0], rows[0] - margin[1], columns[-1] + margin[2], rows[-1] + margin[3]


def _strokes(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], size: int, rng: random.Random) -> None:
    """A few wandering brush strokes inside a box."""
    left, top, right, bottom = box
    for _ in range(rng.randint(2, 5)):
        x, y, angle = rng.uniform(left, right), rng.uniform(top, bottom), rng.uniform(0, 6.3)
        wide, points = rng.uniform(0.08, 0.22) * size, []
        for _ in range(rng.randint(4, 9)):
            points.append((x, y))
            angle += rng.uniform(-1.0, 1.0)
            step = rng.uniform(0.05, 0.14) * size
            x, y = min(max(x + step * math.cos(angle), left), right), min(max(y + step * math.sin(angle), top), bottom)
        draw.line(points, fill=255, width=round(wide), joint="curve")
        for px, py in points:
            draw.ellipse((px - wide / 2, py - wide / 2, px + wide / 2, py + wide / 2), fill=255)


def _odd(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], rng: random.Random) -> None:
    """A ragged star round the middle of a box, or a few boxes and ellipses that overlap there."""
    left, top, right, bottom = box
    cx, cy, rx, ry = (left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2
    if rng.random() < 0.5:
        corners = rng.randint(5, 11)
        turns = sorted(rng.uniform(0, 2 * math.pi) for _ in range(corners))
        reach = [rng.uniform(0.7, 1.5) for _ in range(corners)]
        draw.polygon(
            [(cx + r * rx * math.cos(a), cy + r * ry * math.sin(a)) for a, r in zip(turns, reach, strict=True)],
            fill=255,
        )
        draw.ellipse((cx - 0.7 * rx, cy - 0.7 * ry, cx + 0.7 * rx, cy + 0.7 * ry), fill=255)
        return
    for _ in range(rng.randint(2, 4)):
        w, h = rng.uniform(0.4, 0.8) * rx, rng.uniform(0.4, 0.8) * ry
        x, y = rng.uniform(left + w, right - w), rng.uniform(top + h, bottom - h)
        rng.choice((draw.rectangle, draw.ellipse))((x - w, y - h, x + w, y + h), fill=255)


def training_mask(subject: np.ndarray, rng: random.Random) -> np.ndarray:
    """A mask (H, W) bool, True where the image is repainted, for an image whose subject mask is `subject` (H, W)."""
    height, width = subject.shape
    kind = rng.choices(("box", "ellipse", "strokes", "subject", "odd", "all"), weights=(32, 18, 16, 12, 14, 8))[0]
    if kind == "all":
        return np.ones((height, width), dtype=bool)
    if kind == "subject" and subject.any():
        grown = Image.fromarray((subject > 0).astype(np.uint8) * 255).filter(
            ImageFilter.MaxFilter(2 * rng.randint(1, 6) + 1)
        )
        return np.asarray(grown) > 127
    mask = Image.new("L", (width, height))
    draw, box = ImageDraw.Draw(mask), _box_of(subject, rng)
    if kind == "ellipse":
        cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        rx, ry = (box[2] - box[0]) * 0.62, (box[3] - box[1]) * 0.62
        draw.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), fill=255)
    elif kind == "strokes":
        _strokes(draw, box, height, rng)
    elif kind == "odd":
        _odd(draw, box, rng)
    else:
        draw.rectangle(box, fill=255)
    return np.asarray(mask) > 127
