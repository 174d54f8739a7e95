"""Grounds of the drawn world: seven places, each recognisable on its own."""

from __future__ import annotations

import math
import random

from miniature_training.world.canvas import Canvas, Colour, Light, Pen, mix, scale
from miniature_training.world.skies import haze, sky_foot


def _hill(
    canvas: Canvas, rng: random.Random, *, base: float, height: float, colour: Colour, waves: float = 1.5
) -> None:
    """A rolling ridge: everything below its edge is filled."""
    phase, second = rng.uniform(0, 6.3), rng.uniform(0, 6.3)
    points = []
    for i in range(41):
        t = i / 40
        lift = 0.6 * math.sin(phase + t * waves * 6.3) + 0.4 * math.sin(second + t * waves * 12.6)
        points.append((t * canvas.aspect, base - height * (0.5 + 0.5 * lift)))
    canvas.polygon([*points, (canvas.aspect, 1.0), (0, 1.0)], colour)


def _peaks(canvas: Canvas, rng: random.Random, *, horizon: float, colour: Colour, cap: Colour | None) -> None:
    x = -0.1
    while x < canvas.aspect + 0.1:
        wide, tall = rng.uniform(0.18, 0.32), rng.uniform(0.08, 0.19)
        canvas.polygon([(x - wide, horizon + 0.02), (x, horizon - tall), (x + wide, horizon + 0.02)], colour)
        if cap:
            foot = horizon - tall * 0.68
            canvas.polygon([(x - wide * 0.34, foot), (x, horizon - tall), (x + wide * 0.34, foot)], cap)
        x += rng.uniform(0.22, 0.36)


def _ground(canvas: Canvas, top: Colour, bottom: Colour, *, tint: Colour, horizon: float) -> None:
    canvas.gradient(
        tuple(c * t for c, t in zip(top, tint, strict=False)),
        tuple(c * t for c, t in zip(bottom, tint, strict=False)),
        horizon,
        1.0,
    )


def _meadow(canvas, rng, *, hour, horizon, light):
    _hill(canvas, rng, base=horizon + 0.02, height=0.12, colour=haze(hour, (92, 150, 104), light.tint, 0.40))
    _ground(canvas, (138, 200, 84), (74, 152, 62), tint=light.tint, horizon=horizon)
    _hill(
        canvas,
        rng,
        base=horizon + 0.16,
        height=0.08,
        colour=tuple(c * t for c, t in zip((112, 184, 74), light.tint, strict=False)),
        waves=1.0,
    )
    petals = rng.sample([(250, 232, 90), (250, 250, 250), (240, 120, 150), (232, 70, 64)], 2)
    for _ in range(rng.randint(10, 16)):
        y = rng.uniform(horizon + 0.18, 0.98)
        r = 0.006 + 0.013 * (y - horizon)
        colour = tuple(c * t for c, t in zip(rng.choice(petals), light.tint, strict=False))
        canvas.ellipse(rng.uniform(0, canvas.aspect), y, r * 1.3, r, colour)


def _seashore(canvas, rng, *, hour, horizon, light):
    shore = horizon + rng.uniform(0.20, 0.28)
    sea = haze(hour, (40, 132, 190), light.tint, 0.15)
    canvas.gradient(mix(sea, sky_foot(hour), 0.30), scale(sea, 0.86), horizon, shore + 0.06)
    for _ in range(6):
        x, y = rng.uniform(0, canvas.aspect), rng.uniform(horizon + 0.03, shore - 0.02)
        w = rng.uniform(0.05, 0.14)
        canvas.line([(x - w, y), (x + w, y)], 0.010, mix(sea, (255, 255, 255), 0.38))
    sand = tuple(c * t for c, t in zip((240, 214, 150), light.tint, strict=False))
    _hill(
        canvas, rng, base=shore + 0.035, height=0.05, colour=mix(sand, (255, 255, 255), 0.62 * light.tint[2]), waves=0.8
    )
    state = rng.getstate()
    _hill(canvas, rng, base=shore + 0.065, height=0.05, colour=sand, waves=0.8)
    rng.setstate(state)
    for _ in range(4):
        x, y = rng.uniform(0, canvas.aspect), rng.uniform(shore + 0.14, 0.96)
        canvas.ellipse(x, y, rng.uniform(0.05, 0.12), 0.009, scale(sand, 0.91))


def _desert(canvas, rng, *, hour, horizon, light):
    _hill(canvas, rng, base=horizon + 0.02, height=0.10, colour=haze(hour, (206, 132, 82), light.tint, 0.30))
    _ground(canvas, (240, 186, 104), (222, 146, 70), tint=light.tint, horizon=horizon)
    for i, shade in enumerate((0.93, 1.03, 0.90)):
        tone = tuple(c * t * shade for c, t in zip((234, 168, 88), light.tint, strict=False))
        _hill(canvas, rng, base=horizon + 0.10 + 0.15 * i, height=0.09, colour=tone, waves=0.7)
    for side in (-1, 1):
        if rng.random() < 0.75:
            x = canvas.aspect * (0.5 + side * rng.uniform(0.34, 0.46))
            y, h = horizon + rng.uniform(0.08, 0.20), rng.uniform(0.16, 0.24)
            tone = tuple(c * t for c, t in zip((64, 132, 78), light.tint, strict=False))
            canvas.line([(x, y), (x, y - h)], 0.040, tone)
            canvas.line([(x, y - h * 0.45), (x + 0.055, y - h * 0.45), (x + 0.055, y - h * 0.78)], 0.026, tone)
            canvas.line([(x, y - h * 0.35), (x - 0.055, y - h * 0.35), (x - 0.055, y - h * 0.65)], 0.026, tone)


def _pine(pen: Pen, snow: bool) -> None:
    pen.box(-0.05, 0, 0.05, 0.2, (92, 66, 48))
    for y, half, top in ((0.12, 0.34, 0.55), (0.36, 0.27, 0.78), (0.60, 0.19, 1.0)):
        pen.polygon([(-half, y), (half, y), (0, top)], (48, 98, 84))
        if snow:
            pen.polygon(
                [(-half * 0.45, y + (top - y) * 0.55), (half * 0.45, y + (top - y) * 0.55), (0, top)], (236, 242, 250)
            )


def _snow(canvas, rng, *, hour, horizon, light):
    _peaks(
        canvas,
        rng,
        horizon=horizon,
        colour=haze(hour, (128, 150, 184), light.tint, 0.25),
        cap=haze(hour, (240, 246, 255), light.tint, 0.2),
    )
    _ground(canvas, (226, 236, 248), (246, 250, 255), tint=light.tint, horizon=horizon)
    _hill(
        canvas,
        rng,
        base=horizon + 0.18,
        height=0.09,
        colour=tuple(c * t for c, t in zip((236, 243, 252), light.tint, strict=False)),
        waves=0.8,
    )
    for side in (-1, 1):
        for _ in range(rng.randint(1, 2)):
            x = canvas.aspect * (0.5 + side * rng.uniform(0.28, 0.50))
            _pine(
                Pen(canvas, x, horizon + rng.uniform(0.04, 0.16), rng.uniform(0.18, 0.28), light, subject=False), True
            )
    if hour in ("cloudy", "night"):
        for _ in range(26):
            r = rng.uniform(0.007, 0.013)
            canvas.ellipse(
                rng.uniform(0, canvas.aspect),
                rng.uniform(0, 0.95),
                r,
                r,
                scale((244, 248, 255), 0.75 + 0.25 * light.tint[0]),
            )


def _road(canvas, rng, *, hour, horizon, light):
    _peaks(canvas, rng, horizon=horizon, colour=haze(hour, (108, 122, 142), light.tint, 0.35), cap=None)
    _ground(canvas, (164, 172, 100), (130, 142, 76), tint=light.tint, horizon=horizon)
    x, bend = canvas.aspect / 2 + rng.uniform(-0.06, 0.06), canvas.aspect / 2 + rng.uniform(-0.05, 0.05)
    grey = tuple(c * t for c, t in zip((96, 98, 106), light.tint, strict=False))
    canvas.polygon([(x - 0.03, horizon), (x + 0.03, horizon), (bend + 0.52, 1.0), (bend - 0.52, 1.0)], scale(grey, 1.7))
    canvas.polygon([(x - 0.022, horizon), (x + 0.022, horizon), (bend + 0.47, 1.0), (bend - 0.47, 1.0)], grey)
    paint = tuple(c * t for c, t in zip((248, 236, 170), light.tint, strict=False))
    for near in (0.08, 0.24, 0.48, 0.80):
        far = near + 0.05 + 0.12 * near

        def at(t: float) -> tuple[float, float, float]:
            return x + (bend - x) * t, horizon + (1 - horizon) * t, 0.004 + 0.022 * t

        (x0, y0, w0), (x1, y1, w1) = at(near), at(min(1.0, far))
        canvas.polygon([(x0 - w0, y0), (x0 + w0, y0), (x1 + w1, y1), (x1 - w1, y1)], paint)


def _leaf(canvas: Canvas, x: float, y: float, angle: float, size: float, colour: Colour) -> None:
    c, s = math.cos(angle), math.sin(angle)
    outline = [(0, 0), (0.25, 0.20), (0.6, 0.22), (1, 0), (0.6, -0.22), (0.25, -0.20)]
    canvas.polygon([(x + (px * c - py * s) * size, y + (px * s + py * c) * size) for px, py in outline], colour)
    canvas.line([(x, y), (x + c * size * 0.9, y + s * size * 0.9)], 0.008, scale(colour, 1.28))


def _jungle(canvas, rng, *, hour, horizon, light):
    canvas.gradient(
        haze(hour, (62, 118, 74), light.tint, 0.22), haze(hour, (40, 96, 60), light.tint, 0.05), horizon - 0.30, 1.0
    )
    for i in range(9):
        x = canvas.aspect * (i + rng.uniform(0.1, 0.9)) / 9
        canvas.ellipse(
            x,
            horizon - rng.uniform(0.14, 0.30),
            rng.uniform(0.12, 0.18),
            0.16,
            haze(hour, (46, 104, 66), light.tint, rng.uniform(0.05, 0.28)),
        )
    for _ in range(3):
        x = rng.uniform(0, canvas.aspect)
        canvas.line(
            [(x, 0), (x + rng.uniform(-0.05, 0.05), horizon + 0.05)],
            rng.uniform(0.025, 0.05),
            haze(hour, (72, 66, 48), light.tint, 0.1),
        )
    _ground(canvas, (58, 112, 52), (36, 78, 40), tint=light.tint, horizon=horizon + 0.06)
    for i in range(12):
        left = i % 2 == 0
        x = rng.uniform(-0.06, 0.10) if left else canvas.aspect - rng.uniform(-0.06, 0.10)
        angle = rng.uniform(-1.0, 0.5) if left else math.pi - rng.uniform(-1.0, 0.5)
        tone = tuple(
            c * t
            for c, t in zip(
                rng.choice([(46, 142, 66), (88, 172, 72), (30, 112, 70), (120, 186, 70)]), light.tint, strict=False
            )
        )
        _leaf(canvas, x, rng.uniform(0.0, 0.98), angle, rng.uniform(0.20, 0.34), tone)


def _park(canvas, rng, *, hour, horizon, light):
    for i in range(7):
        x = canvas.aspect * (i + rng.uniform(0.2, 0.8)) / 7
        r = rng.uniform(0.09, 0.14)
        tone = haze(hour, rng.choice([(86, 156, 76), (110, 170, 70), (70, 140, 84)]), light.tint, 0.16)
        canvas.line([(x, horizon + 0.04), (x, horizon - r)], 0.026, haze(hour, (104, 76, 56), light.tint, 0.15))
        canvas.ellipse(x, horizon - r * 1.2, r, r * 1.15, tone)
    _ground(canvas, (130, 190, 92), (92, 160, 70), tint=light.tint, horizon=horizon)
    sand = tuple(c * t for c, t in zip((226, 204, 164), light.tint, strict=False))
    x0, side = canvas.aspect * rng.uniform(0.35, 0.65), rng.choice((-1, 1))
    points = [
        (x0, horizon),
        (x0 + 0.10 * side, horizon + 0.10),
        (x0 - 0.12 * side, horizon + 0.24),
        (x0 - 0.10 * side, 1.0),
    ]
    widths = (0.015, 0.035, 0.08, 0.17)
    canvas.polygon(
        [(x - w, y) for (x, y), w in zip(points, widths, strict=False)]
        + [(x + w, y) for (x, y), w in zip(points[::-1], widths[::-1], strict=False)],
        sand,
    )
    lamp = canvas.aspect * (0.10 if side > 0 else 0.90)
    canvas.line([(lamp, horizon + 0.20), (lamp, horizon - 0.20)], 0.020, scale((60, 64, 72), light.tint[0] * 0.6 + 0.4))
    canvas.ellipse(lamp, horizon - 0.22, 0.034, 0.034, mix((220, 222, 214), (255, 226, 130), light.lit))
    if light.lit > 0.5:
        canvas.glow(lamp, horizon - 0.22, 0.12, (255, 226, 130), 0.55)


PLACES = {
    "meadow": _meadow,
    "sea shore": _seashore,
    "desert": _desert,
    "snow": _snow,
    "road": _road,
    "jungle": _jungle,
    "park": _park,
}


def draw_place(canvas: Canvas, rng: random.Random, *, place: str, hour: str, horizon: float, light: Light) -> None:
    PLACES[place](canvas, rng, hour=hour, horizon=horizon, light=light)
