"""Skies of the drawn world: four hours, their light, sun, moon and clouds."""

from __future__ import annotations

import random

from miniature_training.world.canvas import Canvas, Colour, Light, mix, scale

HOURS = ("day", "night", "sunset", "cloudy")
# top of the sky, its foot, tint of the ground, tint of the subject, how lit the windows are
_HOURS: dict[str, tuple[Colour, Colour, Colour, Colour, float]] = {
    "day": ((86, 158, 232), (206, 232, 248), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0.0),
    "night": ((14, 18, 52), (52, 62, 118), (0.42, 0.48, 0.72), (0.84, 0.86, 0.96), 1.0),
    "sunset": ((92, 62, 140), (255, 168, 92), (0.92, 0.74, 0.72), (1.0, 0.90, 0.86), 0.6),
    "cloudy": ((134, 142, 154), (198, 204, 208), (0.80, 0.83, 0.85), (0.90, 0.92, 0.93), 0.2),
}


def light_of(hour: str, rng: random.Random) -> Light:
    _, _, tint, subject_tint, lit = _HOURS[hour]
    return Light(tint=tint, subject_tint=subject_tint, lit=lit, side=rng.choice((-1, 1)))


def draw_sky(canvas: Canvas, rng: random.Random, *, hour: str, horizon: float, side: int) -> None:
    top, foot = _HOURS[hour][:2]
    canvas.gradient(top, foot, 0.0, horizon + 0.02)
    x = canvas.aspect * (0.5 + side * rng.uniform(0.22, 0.40))
    if hour == "day":
        y = rng.uniform(0.10, 0.20)
        canvas.glow(x, y, 0.22, (255, 250, 214), 0.55)
        canvas.ellipse(x, y, 0.060, 0.060, (255, 246, 190))
    elif hour == "night":
        for _ in range(rng.randint(9, 14)):
            r = rng.uniform(0.008, 0.013)
            canvas.ellipse(rng.uniform(0, canvas.aspect), rng.uniform(0.02, horizon * 0.85), r, r, (226, 230, 252))
        y = rng.uniform(0.12, 0.20)
        canvas.glow(x, y, 0.20, (150, 165, 225), 0.45)
        canvas.ellipse(x, y, 0.068, 0.068, (240, 240, 216))
        canvas.ellipse(x + 0.028 * side, y - 0.014, 0.058, 0.058, mix(top, foot, 0.28))
    elif hour == "sunset":
        y = horizon - rng.uniform(0.04, 0.12)
        canvas.glow(x, y, 0.34, (255, 206, 110), 0.75)
        canvas.ellipse(x, y, 0.085, 0.085, (255, 236, 170))
    _clouds(canvas, rng, hour=hour, horizon=horizon)


def _clouds(canvas: Canvas, rng: random.Random, *, hour: str, horizon: float) -> None:
    count = {
        "day": rng.randint(1, 3),
        "night": rng.randint(0, 1),
        "sunset": rng.randint(1, 3),
        "cloudy": rng.randint(5, 7),
    }[hour]
    body = {"day": (250, 252, 255), "night": (52, 60, 100), "sunset": (246, 150, 120), "cloudy": (172, 178, 186)}[hour]
    for _i in range(count):
        x, y = rng.uniform(-0.05, canvas.aspect + 0.05), rng.uniform(0.05, horizon * 0.72)
        r = rng.uniform(0.045, 0.075) * (1.45 if hour == "cloudy" else 1.0)
        tone = scale(body, 1.0 if hour != "cloudy" else rng.uniform(0.80, 1.18))
        for dx, dy, share in ((-1.5, 0.25, 0.65), (0, 0, 1.0), (1.4, 0.2, 0.75), (0.4, 0.42, 0.8), (-0.6, 0.40, 0.8)):
            canvas.ellipse(x + dx * r, y + dy * r, r * share * 1.25, r * share * 0.75, tone)


def haze(hour: str, colour: Colour, tint: Colour, share: float) -> Colour:
    """Far things take on the colour of the sky's foot."""
    return mix(tuple(c * t for c, t in zip(colour, tint, strict=False)), _HOURS[hour][1], share)


def sky_foot(hour: str) -> Colour:
    """The colour of the sky at the horizon."""
    return _HOURS[hour][1]
