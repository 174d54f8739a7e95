"""The drawn world: a seed makes a scene, a scene makes an image, its captions, its exact mask, boxes and depth."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from miniature_training.world.canvas import Canvas, Light, Pen
from miniature_training.world.captions import caption
from miniature_training.world.places import PLACES, draw_place
from miniature_training.world.skies import HOURS, draw_sky, light_of
from miniature_training.world.subjects import COLOURS, SUBJECTS, bench, cat_face

PALETTES = ("plain", "cold", "muted", "cold muted", "warm")
ATTRIBUTES = ("glowing eyes", "elven")
DEGRADATIONS = ("blurred", "blocky", "noisy", "washed out", "deformed")
HELD_OUT = 1_000_000_000  # seeds from here on are never trained on


@dataclass(frozen=True)
class Scene:
    """Everything that decides an image; the same scene draws the same at any size."""

    seed: int
    subject: str | None  # a key of SUBJECTS, or None for an empty place
    colour: str  # a key of COLOURS
    place: str  # a key of PLACES
    hour: str = "day"
    palette: str = "plain"
    attribute: str | None = None  # "glowing eyes" (cat), "elven" (castle)
    degraded: str | None = None
    colour_named: bool = True  # does the caption say the colour?
    on_bench: bool = False
    close: bool = False  # a cat's face, close up
    x: float = 0.5  # subject's foot, share of the width
    foot: float = 0.88  # subject's foot, share of the height
    size: float = 1.0  # times the subject's natural height
    flip: bool = False
    horizon: float = 0.56
    bush: bool = False  # something in front of the subject

    def __post_init__(self) -> None:
        for field, value, allowed in (
            ("subject", self.subject, (None, *SUBJECTS)),
            ("colour", self.colour, COLOURS),
            ("place", self.place, PLACES),
            ("hour", self.hour, HOURS),
            ("palette", self.palette, PALETTES),
            ("attribute", self.attribute, (None, *ATTRIBUTES)),
            ("degraded", self.degraded, (None, *DEGRADATIONS)),
        ):
            if value not in allowed:
                raise ValueError(f"{field} is {value!r}; expected one of {', '.join(map(str, allowed))}")


@dataclass(frozen=True)
class Drawing:
    """A drawn scene: image, exact subject mask, boxes in pixels and depth (0 far .. 255 near)."""

    scene: Scene
    image: Image.Image  # RGB
    mask: Image.Image | None  # L, 255 where the subject is seen
    depth: Image.Image | None  # L
    boxes: dict[str, tuple[int, int, int, int]]  # name -> (left, top, right, bottom)

    def caption(self, seed: int = 0) -> str:
        return caption(self.scene, random.Random(f"{self.scene.seed}/{seed}"))


def sample(seed: int, *, degraded: bool | None = None, **fixed) -> Scene:
    """A scene drawn at random from `seed`; keyword arguments fix fields; a tenth is degraded unless told."""
    rng = random.Random(seed)
    subject = fixed.get("subject", rng.choice(list(SUBJECTS)) if rng.random() > 0.12 else None)
    natural = SUBJECTS[subject][2] if subject in SUBJECTS else ("white",)
    named = rng.random() < 0.75
    colour = rng.choice(list(COLOURS)) if named or rng.random() < 0.25 else rng.choice(natural)
    attribute = None
    if subject == "cat" and rng.random() < 0.35:
        attribute = "glowing eyes"
    elif subject == "castle" and rng.random() < 0.35:
        attribute = "elven"
    on_bench = subject == "cat" and rng.random() < 0.28
    close = subject == "cat" and rng.random() < 0.22
    place = rng.choice(list(PLACES))
    if on_bench and rng.random() < 0.7:
        place = "park"
    spoil = rng.random() < 0.10 if degraded is None else degraded
    scene = Scene(
        seed=seed, subject=subject, colour=colour, place=place, hour=rng.choice(HOURS),
        palette=rng.choice(PALETTES[1:]) if rng.random() < 0.22 else "plain",
        attribute=attribute, degraded=rng.choice(DEGRADATIONS) if spoil else None,
        colour_named=named and subject is not None, on_bench=on_bench, close=close,
        x=rng.uniform(0.32, 0.68), foot=rng.uniform(0.80, 0.94), size=rng.uniform(0.82, 1.12), flip=rng.random() < 0.5,
        horizon=rng.uniform(0.50, 0.62), bush=rng.random() < 0.15,
    )  # fmt: skip
    return replace(scene, **fixed)


def _subject(canvas: Canvas, rng: random.Random, scene: Scene, light: Light) -> None:
    drawing, height, _ = SUBJECTS[scene.subject]
    size = height * scene.size
    x, foot = scene.x * canvas.aspect, scene.foot
    if scene.close:
        drawing, size, foot = cat_face, 0.78 * scene.size, max(foot, 0.90)
    canvas.near = min(1.0, max(0.1, (foot - scene.horizon) / (1 - scene.horizon)))
    if scene.on_bench:
        seat = Pen(canvas, x, foot, 0.34 * (1.35 if scene.close else scene.size), light)
        bench(seat, rng, (140, 92, 54), None)
        foot -= 0.36 * seat.size
        size *= 0.92
    elif not scene.close:
        ground = Pen(canvas, x, foot, size, light, subject=False)
        wide = {"bench": 1.1, "boat": 0.55, "tree": 0.36, "lighthouse": 0.3, "astronaut": 0.34, "cat": 0.40}.get(
            scene.subject, 0.64
        )
        ground.ellipse(
            0.03,
            0,
            wide,
            0.05,
            {"snow": (178, 196, 224), "desert": (176, 116, 62), "sea shore": (188, 162, 112)}.get(
                scene.place, (46, 74, 42)
            ),
        )
    canvas.is_subject = True
    drawing(
        Pen(canvas, x, foot, size, light, flip=-1 if scene.flip else 1), rng, COLOURS[scene.colour], scene.attribute
    )
    canvas.is_subject = False


def _bush(canvas: Canvas, rng: random.Random, scene: Scene, light: Light) -> None:
    pen = Pen(
        canvas,
        scene.x * canvas.aspect + rng.choice((-1, 1)) * rng.uniform(0.14, 0.24),
        min(1.0, scene.foot + 0.06),
        0.15,
        light,
        subject=False,
    )
    canvas.near = min(1.0, canvas.near + 0.1)
    tone = {"snow": (206, 220, 240), "desert": (150, 150, 84), "sea shore": (150, 160, 100)}.get(
        scene.place, (44, 118, 56)
    )
    for x, r in ((-0.5, 0.42), (0.5, 0.40), (0.0, 0.60)):
        pen.ellipse(x, 0.28 + 0.1 * r, r, r, tone)
    pen.ellipse(-0.15, 0.48, 0.26, 0.24, tuple(min(255, c * 1.25) for c in tone))


def _colour_grade(pixels: np.ndarray, palette: str) -> np.ndarray:
    if "muted" in palette:
        grey = pixels.mean(axis=2, keepdims=True)
        pixels = grey + (pixels - grey) * 0.55 + 12
    if "cold" in palette:
        pixels = pixels * np.array([0.80, 0.95, 1.06], dtype=np.float32) + np.array([0, 4, 16], dtype=np.float32)
    if palette == "warm":
        pixels = pixels * np.array([1.05, 0.97, 0.80], dtype=np.float32) + np.array([14, 4, 0], dtype=np.float32)
    return pixels


def _degrade(image: Image.Image, kind: str, rng: random.Random) -> Image.Image:
    width, height = image.size
    if kind == "blurred":
        return image.filter(ImageFilter.GaussianBlur(height * rng.uniform(0.016, 0.030)))
    if kind == "blocky":
        share = rng.uniform(0.09, 0.14)
        small = image.resize((max(4, round(width * share)), max(4, round(height * share))), Image.Resampling.BOX)
        return small.resize(image.size, Image.Resampling.NEAREST)
    if kind == "noisy":
        grain = np.random.default_rng(rng.randrange(2**32)).normal(0, rng.uniform(22, 38), (height, width, 1))
        return Image.fromarray(np.clip(np.asarray(image, dtype=np.float32) + grain, 0, 255).astype(np.uint8))
    if kind == "washed out":
        pixels = np.asarray(image, dtype=np.float32)
        grey = pixels.mean(axis=2, keepdims=True)
        return Image.fromarray(np.clip((grey + (pixels - grey) * 0.45 - 128) * 0.42 + 176, 0, 255).astype(np.uint8))
    yy, xx = np.mgrid[0:height, 0:width] / height
    a, b, amp = rng.uniform(0, 6.3), rng.uniform(0, 6.3), rng.uniform(0.035, 0.055)
    sx = np.clip((xx + amp * np.sin(yy * 16 + a)) * height, 0, width - 1).astype(int)
    sy = np.clip((yy + amp * np.sin(xx * 14 + b)) * height, 0, height - 1).astype(int)
    return Image.fromarray(np.asarray(image)[sy, sx])


def draw(
    scene: Scene, size: int | tuple[int, int] = 128, *, truth: bool = True, supersample: int | None = None
) -> Drawing:
    """Draw a scene at `size` pixels, an int or (width, height); `truth=False` leaves mask and depth out."""
    width, height = (size, size) if isinstance(size, int) else size
    if min(width, height) < 16:
        raise ValueError(f"size is {width} x {height}; expected at least 16 pixels a side")
    canvas = Canvas(width, height, supersample=supersample or (3 if height <= 256 else 2), truth=truth)
    rng = random.Random(f"{scene.seed}/drawing")
    light = light_of(scene.hour, rng)
    draw_sky(canvas, rng, hour=scene.hour, horizon=scene.horizon, side=light.side)
    draw_place(canvas, rng, place=scene.place, hour=scene.hour, horizon=scene.horizon, light=light)
    canvas.ground_depth(scene.horizon)
    if scene.subject:
        _subject(canvas, random.Random(f"{scene.seed}/subject"), scene, light)
        if scene.bush and not scene.close:
            _bush(canvas, random.Random(f"{scene.seed}/bush"), scene, light)
    pixels, mask, depth = canvas.finish()
    image = Image.fromarray(np.clip(_colour_grade(pixels, scene.palette), 0, 255).astype(np.uint8))
    if scene.degraded:
        image = _degrade(image, scene.degraded, random.Random(f"{scene.seed}/degraded"))
    if not truth:
        return Drawing(scene, image, None, None, {})
    boxes = {}
    if mask.any():
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        boxes[scene.subject] = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return Drawing(scene, image, Image.fromarray(mask.astype(np.uint8) * 255), Image.fromarray(depth), boxes)
