"""The ten subjects of the drawn world: one function each, in a frame of height 1 with its foot at (0, 0)."""

from __future__ import annotations

import random

from miniature_training.world.canvas import Colour, Pen, mix, scale

COLOURS: dict[str, Colour] = {
    "red": (208, 42, 42),
    "orange": (240, 128, 28),
    "yellow": (247, 214, 48),
    "green": (58, 160, 66),
    "blue": (45, 98, 214),
    "purple": (128, 58, 178),
    "pink": (246, 142, 188),
    "brown": (134, 82, 40),
    "black": (38, 38, 46),
    "white": (242, 242, 238),
}
WINDOW: Colour = (255, 214, 110)
DARK: Colour = (46, 42, 52)
STONE: Colour = (128, 124, 124)


def shades(colour: Colour) -> tuple[Colour, Colour, Colour]:
    """Base, lit side and shaded side of a colour; black gets a visible lit side and white a visible shade."""
    return colour, mix(colour, (255, 255, 255), 0.24), scale(colour, 0.74)


def _windows(pen: Pen, spots, half: float, tall: float) -> None:
    lit = pen.light.lit
    for x, y in spots:
        pen.box(x - half, y, x + half, y + tall, mix((52, 60, 92), WINDOW, lit), glow=lit)
    if lit > 0.5:
        for x, y in spots:
            pen.halo(x, y + tall / 2, 0.10, WINDOW, 0.30)


def castle(pen: Pen, rng: random.Random, colour: Colour, attribute: str | None) -> None:
    base, lit, dark = shades(colour)
    roof = mix(scale(colour, 0.45), (70, 60, 110), 0.45)
    elven = attribute == "elven"
    slim = 0.085 if elven else 0.13
    top = 0.66 if elven else 0.60
    keep = 0.80 if elven else 0.70
    pen.box(-0.15, 0, 0.15, keep, dark)  # the keep behind
    pen.polygon([(-0.18, keep), (0.18, keep), (0, keep + 0.28)], roof)
    _windows(pen, [(-0.07, keep - 0.15), (0.07, keep - 0.15)], 0.030, 0.085)
    pen.box(-0.36, 0, 0.36, 0.36, base)  # the wall
    for i in range(6):
        x = -0.36 + i * 0.132
        pen.box(x, 0.36, x + 0.066, 0.42, base)
    for side in (-1, 1):
        x = side * 0.40
        pen.box(x - slim, 0, x + slim, top, lit if side == pen.light.side * pen.flip else base)
        pen.box(x - slim, 0, x - slim * 0.35, top, dark) if side != pen.light.side * pen.flip else None
        pen.polygon([(x - slim - 0.035, top), (x + slim + 0.035, top), (x, top + (0.34 if elven else 0.24))], roof)
    _windows(pen, [(-0.40, top - 0.20), (0.40, top - 0.20)], 0.032, 0.10)
    pen.box(-0.085, 0, 0.085, 0.15, DARK)
    pen.arc(0, 0.15, 0.085, 0.085, start=0, stop=180, colour=DARK)


def house(pen: Pen, rng: random.Random, colour: Colour, attribute: str | None) -> None:
    base, lit, dark = shades(colour)
    roof = (112, 66, 60) if sum(colour) > 300 else (150, 140, 140)
    pen.box(0.20, 0.60, 0.31, 0.98, scale(roof, 0.8))  # chimney
    pen.box(-0.45, 0, 0.45, 0.55, base)
    pen.box(0.12, 0, 0.45, 0.55, dark)
    pen.polygon([(-0.56, 0.53), (0.56, 0.53), (0.30, 0.95), (-0.30, 0.95)], roof)
    pen.polygon([(-0.56, 0.53), (0.12, 0.53), (-0.16, 0.95), (-0.30, 0.95)], scale(roof, 1.22))
    pen.box(-0.07, 0, 0.09, 0.34, (92, 58, 40) if sum(colour) > 330 else (190, 150, 110))
    _windows(pen, [(-0.27, 0.20), (0.28, 0.20)], 0.085, 0.19)


def cat(pen: Pen, rng: random.Random, colour: Colour, attribute: str | None) -> None:
    base, lit, dark = shades(colour)
    eye = (120, 220, 90) if attribute != "glowing eyes" else (255, 236, 60)
    glow = 1.0 if attribute == "glowing eyes" else 0.25
    inner = mix(colour, (240, 160, 160), 0.55)
    pen.line([(0.20, 0.08), (0.42, 0.12), (0.44, 0.32), (0.34, 0.44)], 0.085, dark)  # tail
    pen.ellipse(0, 0.24, 0.27, 0.26, base)
    pen.ellipse(0, 0.22, 0.15, 0.20, lit)
    for side in (-1, 1):
        pen.ellipse(side * 0.12, 0.04, 0.09, 0.05, lit)
    _cat_head(pen.at(0, 0.40, 0.60), base, lit, dark, inner, eye, glow)


def cat_face(pen: Pen, rng: random.Random, colour: Colour, attribute: str | None) -> None:
    base, lit, dark = shades(colour)
    eye = (120, 220, 90) if attribute != "glowing eyes" else (255, 236, 60)
    glow = 1.0 if attribute == "glowing eyes" else 0.25
    pen.ellipse(0, 0.05, 0.42, 0.20, dark)  # shoulders
    _cat_head(pen, base, lit, dark, mix(colour, (240, 160, 160), 0.55), eye, glow)


def _cat_head(pen: Pen, base: Colour, lit: Colour, dark: Colour, inner: Colour, eye: Colour, glow: float) -> None:
    for s in (-1, 1):
        pen.polygon([(s * 0.42, 0.50), (s * 0.40, 1.0), (s * 0.08, 0.76)], base)
        pen.polygon([(s * 0.36, 0.60), (s * 0.36, 0.88), (s * 0.17, 0.74)], inner)
    pen.ellipse(0, 0.46, 0.46, 0.38, base)
    pen.ellipse(0, 0.28, 0.22, 0.15, lit)  # muzzle
    for s in (-1, 1):
        if glow == 1.0:
            pen.halo(s * 0.19, 0.51, 0.22, eye, 0.55)
        pen.ellipse(s * 0.19, 0.51, 0.125, 0.125, eye, glow)
        pen.ellipse(s * 0.19, 0.51, 0.045, 0.105, (18, 18, 24))
    pen.polygon([(-0.065, 0.36), (0.065, 0.36), (0, 0.28)], (225, 110, 120))


def boat(pen: Pen, rng: random.Random, colour: Colour, attribute: str | None) -> None:
    base, lit, dark = shades(colour)
    pen.box(-0.02, 0.20, 0.02, 1.0, (110, 78, 50))
    pen.polygon([(0.04, 0.30), (0.04, 0.98), (0.46, 0.32)], (246, 243, 230))
    pen.polygon([(-0.05, 0.32), (-0.05, 0.86), (-0.34, 0.34)], (222, 216, 204))
    pen.polygon([(-0.52, 0.24), (0.56, 0.24), (0.36, 0), (-0.36, 0)], base)
    pen.polygon([(-0.52, 0.24), (0.56, 0.24), (0.52, 0.19), (-0.485, 0.19)], lit)
    pen.polygon([(-0.415, 0.07), (0.42, 0.07), (0.36, 0), (-0.36, 0)], dark)


def tree(pen: Pen, rng: random.Random, colour: Colour, attribute: str | None) -> None:
    base, lit, dark = shades(colour)
    pen.polygon([(-0.09, 0), (0.09, 0), (0.05, 0.48), (-0.05, 0.48)], (108, 72, 44))
    pen.polygon([(0.02, 0), (0.09, 0), (0.05, 0.48), (0.02, 0.48)], (82, 54, 34))
    blobs = [
        (-0.20, 0.52, 0.20),
        (0.20, 0.50, 0.20),
        (0, 0.60, 0.25),
        (-0.12, 0.74, 0.18),
        (0.13, 0.74, 0.18),
        (0, 0.82, 0.17),
    ]
    for x, y, r in blobs:
        pen.ellipse(x + 0.02, y - 0.03, r, r, dark)
    for x, y, r in blobs:
        pen.ellipse(x, y, r * 0.93, r * 0.93, base)
    for x, y, r in blobs[2:]:
        pen.ellipse(x - 0.05, y + 0.05, r * 0.52, r * 0.52, lit)


def rock(pen: Pen, rng: random.Random, colour: Colour, attribute: str | None) -> None:
    base, lit, dark = shades(colour)
    peak = rng.uniform(-0.15, 0.15)
    left, right = rng.uniform(0.45, 0.65), rng.uniform(0.50, 0.70)
    pen.polygon(
        [
            (-0.62, 0),
            (-0.54, left * 0.7),
            (-0.30, left + 0.22),
            (peak, 1.0),
            (0.36, right + 0.12),
            (0.58, right * 0.6),
            (0.64, 0),
        ],
        base,
    )
    pen.polygon([(peak, 1.0), (0.36, right + 0.12), (0.58, right * 0.6), (0.64, 0), (0.16, 0), (0.08, 0.52)], dark)
    pen.polygon([(-0.30, left + 0.22), (peak, 1.0), (0.08, 0.52), (-0.18, 0.50)], lit)


def astronaut(pen: Pen, rng: random.Random, colour: Colour, attribute: str | None) -> None:
    base, lit, dark = shades(colour)
    pen.box(-0.24, 0.32, 0.24, 0.66, mix(STONE, (70, 70, 80), 0.4))  # backpack
    for s in (-1, 1):
        pen.box(s * 0.11 - 0.085, 0.05, s * 0.11 + 0.085, 0.38, dark if s > 0 else base)
        pen.ellipse(s * 0.13, 0.05, 0.12, 0.055, (70, 70, 80))
        pen.line([(s * 0.18, 0.60), (s * 0.30, 0.44), (s * 0.28, 0.30)], 0.13, dark if s > 0 else base)
        pen.ellipse(s * 0.28, 0.29, 0.07, 0.07, (70, 70, 80))
    pen.box(-0.19, 0.30, 0.19, 0.66, base)
    pen.box(-0.19, 0.30, -0.03, 0.66, lit)
    pen.box(-0.09, 0.42, 0.09, 0.54, (205, 205, 212))
    pen.box(-0.06, 0.45, 0.0, 0.51, (220, 60, 50))
    pen.ellipse(0, 0.80, 0.225, 0.215, base)
    pen.ellipse(0, 0.80, 0.165, 0.150, (36, 48, 92))
    pen.ellipse(-0.06, 0.855, 0.06, 0.045, (170, 205, 245))


def waterfall(pen: Pen, rng: random.Random, colour: Colour, attribute: str | None) -> None:
    base, lit, dark = shades(colour)
    cliff = (116, 106, 102)
    pen.polygon(
        [(-0.62, 0), (-0.56, 0.62), (-0.44, 0.94), (-0.16, 1.0), (0.18, 0.98), (0.46, 0.90), (0.58, 0.55), (0.64, 0)],
        cliff,
    )
    pen.polygon([(0.20, 0), (0.18, 0.98), (0.46, 0.90), (0.58, 0.55), (0.64, 0)], scale(cliff, 0.76))
    pen.polygon([(-0.62, 0), (-0.56, 0.62), (-0.44, 0.94), (-0.30, 0.60), (-0.40, 0)], scale(cliff, 1.2))
    pen.polygon([(-0.17, 1.0), (0.17, 0.98), (0.24, 0.05), (-0.24, 0.05)], base)
    for x in (-0.10, 0.06):
        pen.polygon(
            [(x, 0.99), (x + 0.05, 0.99), (x * 1.5 + 0.07, 0.08), (x * 1.5, 0.08)], mix(lit, (255, 255, 255), 0.35)
        )
    pen.ellipse(0, 0.03, 0.52, 0.075, base)
    pen.ellipse(0, 0.065, 0.29, 0.055, mix(lit, (255, 255, 255), 0.6))


def bench(pen: Pen, rng: random.Random, colour: Colour, attribute: str | None) -> None:
    base, lit, dark = shades(colour)
    for s in (-1, 1):
        pen.box(s * 0.66 - 0.05, 0, s * 0.66 + 0.05, 1.0, (62, 62, 70))
    for y in (0.56, 0.80):
        pen.box(-0.82, y, 0.82, y + 0.16, base)
        pen.box(-0.82, y + 0.11, 0.82, y + 0.16, lit)
    pen.polygon([(-0.86, 0.30), (0.86, 0.30), (0.80, 0.46), (-0.80, 0.46)], lit)
    pen.box(-0.86, 0.24, 0.86, 0.31, dark)
    for s in (-1, 1):
        pen.box(s * 0.72 - 0.05, 0, s * 0.72 + 0.05, 0.24, (50, 50, 58))


def lighthouse(pen: Pen, rng: random.Random, colour: Colour, attribute: str | None) -> None:
    base, lit, dark = shades(colour)
    other = (244, 242, 236) if min(colour) < 200 else (150, 158, 170)

    def half(y: float) -> float:
        return 0.19 - 0.10 * y

    for i in range(5):
        y0, y1 = i * 0.146, (i + 1) * 0.146
        tone = base if i % 2 == 0 else other
        pen.polygon([(-half(y0), y0), (half(y0), y0), (half(y1), y1), (-half(y1), y1)], tone)
        pen.polygon([(half(y0) * 0.35, y0), (half(y0), y0), (half(y1), y1), (half(y1) * 0.35, y1)], scale(tone, 0.80))
    pen.box(-0.165, 0.73, 0.165, 0.77, DARK)
    pen.box(-0.085, 0.77, 0.085, 0.88, WINDOW, glow=max(0.6, pen.light.lit))
    pen.polygon([(-0.13, 0.88), (0.13, 0.88), (0, 1.0)], scale(base, 0.85))
    if pen.light.lit > 0.5:
        pen.halo(0, 0.82, 0.30, WINDOW, 0.75)


# name -> (drawing, height in image heights, natural colours, where its foot may stand in the ground 0 (horizon) .. 1)
SUBJECTS = {
    "castle": (castle, 0.62, ("white", "brown", "pink", "yellow")),
    "house": (house, 0.46, ("white", "red", "yellow", "blue")),
    "cat": (cat, 0.50, ("black", "orange", "white", "brown")),
    "boat": (boat, 0.46, ("red", "blue", "white", "brown")),
    "tree": (tree, 0.60, ("green", "green", "green", "orange")),
    "rock": (rock, 0.32, ("brown", "black", "white", "purple")),
    "astronaut": (astronaut, 0.56, ("white", "white", "orange")),
    "waterfall": (waterfall, 0.62, ("blue", "blue", "white")),
    "bench": (bench, 0.30, ("brown", "brown", "red", "green")),
    "lighthouse": (lighthouse, 0.68, ("red", "red", "blue", "black")),
}
