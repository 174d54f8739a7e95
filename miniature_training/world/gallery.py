"""The course's own images, their masks and their depth in data/pictures: `python -m miniature_training images`."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

from helpers.common.paths import DATA
from miniature_training.world.scenes import Drawing, Scene, draw

FOLDER = DATA / "pictures"
SIZE = 512  # load_image brings them to the size of the edition's checkpoints

# name -> scene, and what its mask covers: "subject", or an ellipse (left, top, right, bottom) in shares of the image
IMAGES: dict[str, tuple[Scene, str | tuple[float, float, float, float]]] = {
    "castle": (Scene(4, "castle", "white", "meadow", x=0.52, foot=0.86, size=1.05), "subject"),
    "meadow": (Scene(11, None, "white", "meadow", horizon=0.55), (0.27, 0.36, 0.73, 0.95)),
    "seashore": (Scene(21, None, "white", "sea shore", horizon=0.52), (0.26, 0.33, 0.74, 0.95)),
    "road": (Scene(32, "rock", "brown", "road", x=0.50, foot=0.84, size=1.05), "subject"),
    "empty_road": (Scene(32, None, "brown", "road"), (0.29, 0.48, 0.71, 0.86)),  # the truth behind the rock
    "bench": (Scene(43, "cat", "black", "park", on_bench=True, x=0.50, foot=0.92, size=0.95, horizon=0.58), "subject"),
    "jungle": (Scene(51, "astronaut", "white", "jungle", x=0.50, foot=0.92, size=1.10), "subject"),
    "lighthouse": (Scene(64, "lighthouse", "red", "sea shore", "sunset", x=0.42, foot=0.88, size=0.98), "subject"),
    "winter": (Scene(72, "house", "red", "snow", "night", x=0.52, foot=0.86, size=1.05), "subject"),
}


def mask_of(drawing: Drawing, cover: str | tuple[float, float, float, float]) -> Image.Image:
    """The image's mask: its subject with a margin of a fortieth of the height, or an ellipse."""
    width, height = drawing.image.size
    if cover == "subject":
        margin = 2 * (height // 40) + 1
        closed = drawing.mask.filter(ImageFilter.MaxFilter(margin)).filter(ImageFilter.MaxFilter(margin))
        return closed.filter(ImageFilter.MinFilter(margin))  # no holes between a tail and its cat
    mask = Image.new("L", (width, height))
    left, top, right, bottom = cover
    ImageDraw.Draw(mask).ellipse((left * width, top * height, right * width, bottom * height), fill=255)
    return mask


def draw_all(folder: Path = FOLDER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (scene, cover) in IMAGES.items():
        drawing = draw(scene, SIZE)
        drawing.image.save(folder / f"{name}.png", optimize=True)
        mask_of(drawing, cover).save(folder / f"{name}_mask.png", optimize=True)
        drawing.depth.save(folder / f"{name}_depth.png", optimize=True)
