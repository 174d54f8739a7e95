"""The pen that draws the world: flat shapes in a local frame, painted, masked and depth-mapped in one stroke."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[float, float, float]


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` with `share` (0..1) of `second` in it."""
    return tuple(a + (b - a) * share for a, b in zip(first, second, strict=False))


def scale(colour: Colour, factor: float) -> Colour:
    """A darker (below 1) or lighter (above 1) colour, clipped to 0..255."""
    return tuple(min(255.0, c * factor) for c in colour)


@dataclass(frozen=True)
class Light:
    """What the hour does to a colour: a tint of the ground and a milder one of the subject."""

    tint: Colour
    subject_tint: Colour
    lit: float  # how bright windows and lamps are, 0..1
    side: int  # -1: light from the left, 1: from the right


class Canvas:
    """Supersampled drawing surfaces for image, subject mask and depth.

    Coordinates: y runs 0 (top) to 1 (bottom), x runs 0 to `aspect`; lengths are in image heights, so that a scene
    looks the same at any size.
    """

    def __init__(self, width: int, height: int, *, supersample: int = 3, truth: bool = True) -> None:
        self.width, self.height, self.ss = width, height, supersample
        self.aspect = width / height
        size = (width * supersample, height * supersample)
        self.unit = size[1]
        self.image = Image.new("RGB", size)
        self._rgb = ImageDraw.Draw(self.image)
        self.glows: list[tuple[float, float, float, Colour, float, bool]] = []
        self.tracks_truth = truth
        self.mask = Image.new("L", size)
        self.depth = Image.new("L", size) if truth else None
        self._mask = ImageDraw.Draw(self.mask)
        self._depth = ImageDraw.Draw(self.depth) if truth else None
        self.near = 0.0  # depth of the next shapes, 0 (far) .. 1 (near)
        self.is_subject = False

    def _draw(self, method: str, xy, fill: Colour, **more) -> None:
        getattr(self._rgb, method)(xy, fill=tuple(int(c) for c in fill), **more)
        getattr(self._mask, method)(xy, fill=255 if self.is_subject else 0, **more)
        if self.tracks_truth:
            getattr(self._depth, method)(xy, fill=int(255 * self.near), **more)

    def polygon(self, points, fill: Colour) -> None:
        self._draw("polygon", [(x * self.unit, y * self.unit) for x, y in points], fill)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        u = self.unit
        self._draw("ellipse", ((x - rx) * u, (y - ry) * u, (x + rx) * u, (y + ry) * u), fill)

    def line(self, points, width: float, fill: Colour) -> None:
        xy = [(x * self.unit, y * self.unit) for x, y in points]
        self._draw("line", xy, fill, width=max(1, round(width * self.unit)), joint="curve")

    def gradient(self, top: Colour, bottom: Colour, y0: float, y1: float) -> None:
        """Fill the band y0..y1 over the whole width with a vertical gradient (background: never the subject)."""
        a, b = round(y0 * self.unit), round(y1 * self.unit)
        steps = np.linspace(0, 1, max(1, b - a))[:, None]
        rows = np.asarray(top)[None] * (1 - steps) + np.asarray(bottom)[None] * steps
        strip = Image.fromarray(rows.astype(np.uint8)[:, None])
        self.image.paste(strip.resize((self.image.width, b - a), Image.Resampling.NEAREST), (0, a))

    def ground_depth(self, horizon: float) -> None:
        """Depth of an empty scene: 0 in the sky, rising from the horizon to the lower edge."""
        if self.tracks_truth:
            y = (np.arange(self.depth.height) / self.unit - horizon) / (1 - horizon)
            rows = np.where(y < 0, 0, 25 + 230 * np.clip(y, 0, 1)).astype(np.uint8)
            self.depth.paste(Image.fromarray(rows[:, None]).resize(self.depth.size, Image.Resampling.NEAREST))

    def glow(
        self, x: float, y: float, radius: float, colour: Colour, strength: float = 0.6, *, front: bool = False
    ) -> None:
        """Light added around a point in the end; the subject hides most of it unless it is in `front`."""
        self.glows.append((x, y, radius, colour, strength, front))

    def finish(self) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Image (H, W, 3) float32 0..255, subject mask (H, W) bool, depth (H, W) uint8, at the final size."""
        size = (self.width, self.height)
        pixels = np.asarray(self.image.reduce(self.ss), dtype=np.float32).copy()
        yy, xx = np.mgrid[0 : self.height, 0 : self.width].astype(np.float32) / self.height
        cover = np.asarray(self.mask.reduce(self.ss), dtype=np.float32) / 255
        for x, y, radius, colour, strength, front in self.glows:
            fall = np.exp(-(((xx - x) ** 2 + (yy - y) ** 2) / radius**2)) * strength
            if not front:
                fall *= 1 - 0.85 * cover
            pixels += fall[..., None] * (np.asarray(colour, dtype=np.float32) - pixels)
        if not self.tracks_truth:
            return pixels, None, None
        mask = cover >= 0.5
        depth = np.asarray(self.depth.resize(size, Image.Resampling.NEAREST))
        return pixels, mask, depth


@dataclass(frozen=True)
class Pen:
    """Draws in a local frame: (0, 0) is the middle of a thing's foot, y goes up, 1 is the thing's height."""

    canvas: Canvas
    x: float
    y: float
    size: float
    light: Light
    flip: int = 1
    subject: bool = True

    def at(self, x: float, y: float, size: float = 1.0) -> Pen:
        """A pen for a part: its foot at (x, y) of this frame, `size` as high."""
        px, py = self._place(x, y)
        return replace(self, x=px, y=py, size=self.size * size)

    def _place(self, x: float, y: float) -> tuple[float, float]:
        return self.x + self.flip * x * self.size, self.y - y * self.size

    def tone(self, colour: Colour, glow: float = 0.0) -> Colour:
        """The colour under this hour's light; `glow` of 1 is lit from inside."""
        tint = self.light.subject_tint if self.subject else self.light.tint
        return tuple(min(255.0, c * (t + (1 - t) * glow)) for c, t in zip(colour, tint, strict=False))

    def polygon(self, points, colour: Colour, glow: float = 0.0) -> None:
        self.canvas.polygon([self._place(*p) for p in points], self.tone(colour, glow))

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, glow: float = 0.0) -> None:
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour, glow)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour, glow: float = 0.0) -> None:
        px, py = self._place(x, y)
        self.canvas.ellipse(px, py, rx * self.size, ry * self.size, self.tone(colour, glow))

    def line(self, points, width: float, colour: Colour, glow: float = 0.0) -> None:
        self.canvas.line([self._place(*p) for p in points], width * self.size, self.tone(colour, glow))

    def arc(self, x: float, y: float, rx: float, ry: float, *, start: float, stop: float, colour: Colour) -> None:
        """A slice of an ellipse between two angles (degrees, 0 = right, counter-clockwise), closed by its chord."""
        angles = np.radians(np.linspace(start, stop, 20))
        self.polygon([(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles], colour)

    def halo(self, x: float, y: float, radius: float, colour: Colour, strength: float = 0.6) -> None:
        px, py = self._place(x, y)
        self.canvas.glow(px, py, radius * self.size, colour, strength, front=True)
