"""The classifier of the drawn world: a small network that says what an image shows, and what a prompt names."""

from __future__ import annotations

import json
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

from helpers.common import paths
from helpers.common.tensors import ordinary_tensors

SIZE = 64  # pixels; every image is scaled to this size
# a prompt's words -> class, where they differ from the class's own name
# fmt: off
ALIASES = {
    "kitten": "cat", "stone": "rock", "sailing boat": "boat", "beach": "sea shore", "seashore": "sea shore",
    "sea": "sea shore", "ocean": "sea shore", "sand dunes": "desert", "snowy": "snow", "winter": "snow",
    "street": "road", "rainforest": "jungle", "grass": "meadow", "grey sky": "cloudy", "overcast": "cloudy",
    "moon": "night", "starry sky": "night", "dusk": "sunset", "evening": "sunset", "sunny": "day",
    "daylight": "day", "blue sky": "day",
}
# fmt: on


def build(heads: dict[str, list[str]], *, width: int = 32):
    """A convolutional network (B, 3, 64, 64) in -1..1 -> {head: logits (B, classes)}."""
    from torch import nn

    class SceneClassifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers, channels = [], (3, width, 2 * width, 3 * width, 4 * width)
            for before, after in pairwise(channels):
                layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.ReLU()]
                if before > 3:
                    layers += [nn.Conv2d(after, after, 3, padding=1), nn.GroupNorm(8, after), nn.ReLU()]
            self.trunk = nn.Sequential(
                *layers, nn.Flatten(), nn.Dropout(0.1), nn.Linear(16 * channels[-1], 8 * width), nn.ReLU()
            )
            self.heads = nn.ModuleDict({head: nn.Linear(8 * width, len(classes)) for head, classes in heads.items()})

        def forward(self, x):
            features = self.trunk(x)
            return {head: layer(features) for head, layer in self.heads.items()}

    return SceneClassifier()


def to_input(images: list[Image.Image]):
    """Images of any size -> (B, 3, 64, 64) float32 in -1..1."""
    import numpy as np
    import torch
    from PIL import Image

    small = [np.asarray(i.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float32) for i in images]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2) / 127.5 - 1


def folder() -> Path:
    """Where the classifier's weights and its config.json are."""
    return paths.MINIATURES / "classifier"


@lru_cache(maxsize=1)
@ordinary_tensors
def load(folder: Path):
    """The network in a folder and its heads' classes; kept, for the folder of the last call."""
    from safetensors.torch import load_file

    if not (folder / "model.safetensors").exists():
        raise FileNotFoundError(
            "The classifier's weights are missing; train them with: python -m miniature_training train classifier"
        )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model = build(config["heads"], width=config["width"])
    model.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    return model.eval(), config["heads"]


def read(images: list[Image.Image]) -> list[dict[str, dict[str, float]]]:
    """What each image shows: for "subject", "colour", "place" and "hour", the probability of each class."""
    import torch

    model, heads = load(folder())
    with torch.inference_mode():
        logits = model(to_input(images))
    shares = {head: value.softmax(1).tolist() for head, value in logits.items()}
    return [
        {head: dict(zip(classes, shares[head][number], strict=True)) for head, classes in heads.items()}
        for number in range(len(images))
    ]


def words(prompt: str) -> dict[str, str]:
    """The classes that a prompt names: "a black cat on the beach" -> subject cat, colour black, place sea shore."""
    heads = json.loads((folder() / "config.json").read_text(encoding="utf-8"))["heads"]
    padded = " " + "".join(c if c.isalnum() else " " for c in prompt.lower()) + " "
    padded = " " + " ".join(padded.split()) + " "
    padded = padded.replace(" green meadow ", " meadow ").replace(" blue sky ", " sunny ")  # no subject's colour
    found: dict[str, tuple[int, str]] = {}
    names = [(name, name) for classes in heads.values() for name in classes] + list(ALIASES.items())
    for spoken, name in names:
        position = padded.find(f" {spoken} ")
        head = next((h for h, classes in heads.items() if name in classes), None)
        if position >= 0 and head and (head not in found or position < found[head][0]):
            found[head] = (position, name)
    if "subject" in found and found["subject"][1] == "bench" and " cat " in padded:
        found["subject"] = (0, "cat")
    return {head: name for head, (_, name) in found.items()}
