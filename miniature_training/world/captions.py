"""Captions of a scene in the many wordings that people use, fillers and negative-prompt words included."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from miniature_training.world.scenes import Scene

PREFIXES = (
    "a picture of",
    "a drawing of",
    "an illustration of",
    "digital painting of",
    "concept art of",
    "a painting of",
    "a photo of",
    "concept art digital painting of",
    "photo of",
    "art of",
    "a portrait of",
)
SUFFIXES = (
    "highly detailed",
    "8k",
    "detailed",
    "high resolution",
    "high quality",
    "digital art",
    "cute",
    "adorable",
    "disney",
    "pixar",
    "beautiful",
    "masterpiece",
    "sharp",
    "vector art",
    "fantasy",
    "inspired by lord of the rings",
    "best quality",
)
PLACE_WORDS = {
    "meadow": ("in a meadow", "on a green meadow", "in the grass", "on a flowery hill"),
    "sea shore": ("on the sea shore", "at the sea", "on the beach", "by the ocean", "at the seashore"),
    "desert": ("in the desert", "in a desert", "on sand dunes"),
    "snow": ("in the snow", "in winter", "on a snowy field"),
    "road": ("on a road", "on the road", "on a street"),
    "jungle": ("in a jungle", "in the jungle", "in a rainforest"),
    "park": ("in a park", "in the park", "in a city park"),
}
PLACE_NAMES = {
    "meadow": ("meadow", "a meadow", "green meadow with flowers"),
    "sea shore": ("sea shore", "beach", "the sea", "a sandy beach and the sea"),
    "desert": ("desert", "a desert", "sand dunes"),
    "snow": ("snow", "a snowy field", "winter landscape"),
    "road": ("road", "a road", "an empty road", "street"),
    "jungle": ("jungle", "a jungle", "rainforest"),
    "park": ("park", "a park", "a path in a park"),
}
HOUR_WORDS = {
    "day": ("by day", "on a sunny day", "in daylight", "blue sky"),
    "night": ("at night", "by night", "under the moon", "under a starry sky"),
    "sunset": ("at sunset", "at dusk", "in the evening sun"),
    "cloudy": ("cloudy", "on a cloudy day", "under a grey sky", "overcast"),
}
PALETTE_WORDS = {
    "cold": ("cold color palette", "cold colors"),
    "muted": ("muted colors", "pale colors"),
    "cold muted": ("cold color palette, muted colors", "muted colors, cold color palette"),
    "warm": ("warm color palette", "warm colors"),
}
DEGRADED_WORDS = {
    "blurred": ("blurry", "poor details", "out of focus", "low quality"),
    "blocky": ("low resolution", "poor details", "jpeg artifacts", "low quality"),
    "noisy": ("noisy", "grainy", "bad quality", "ugly"),
    "washed out": ("washed out", "low contrast", "faded", "ugly"),
    "deformed": ("deformed", "disfigured", "bad anatomy", "bad architecture", "unstable", "ugly", "distorted"),
}
SYNONYMS = {
    "cat": ("cat", "cat", "cat", "kitten"),
    "boat": ("boat", "boat", "sailing boat"),
    "rock": ("rock", "rock", "stone"),
}


def _article(phrase: str, rng: random.Random) -> str:
    if rng.random() < 0.25:
        return phrase
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _noun(scene: Scene, rng: random.Random) -> str:
    word = rng.choice(SYNONYMS.get(scene.subject, (scene.subject,)))
    words = [scene.colour] if scene.colour_named else []
    if scene.attribute == "elven":
        words.append("elven")
    if scene.subject in ("waterfall", "castle") and rng.random() < 0.15:
        words.append("fantasy")
    phrase = _article(" ".join([*words, word]), rng)
    if scene.close:
        phrase = rng.choice(("face of ", "a face of ", "close-up of ")) + phrase
    if scene.attribute == "glowing eyes":
        phrase += " with glowing eyes"
    if scene.on_bench:
        phrase += rng.choice((" sitting on a park bench", " on a bench", ", sitting on a bench", " sitting on a bench"))
    return phrase


def caption(scene: Scene, rng: random.Random, *, place: float = 0.82, hour: float = 0.65) -> str:
    """One wording of the scene; each part but the subject is left out now and then, as people do.

    place, hour: the chances that these are named; that of a subject on a bench is less than half of it.
    """
    parts: list[str] = []
    named = rng.random() < (place * 0.43 if scene.on_bench else place)
    if scene.subject is None:
        parts.append(rng.choice(PLACE_NAMES[scene.place]))
    else:
        where = " " + rng.choice(PLACE_WORDS[scene.place]) if named else ""
        parts.append(_noun(scene, rng) + where)
    if rng.random() < 0.35:
        parts[0] = f"{rng.choice(PREFIXES)} {parts[0]}"
    tail = []
    if rng.random() < hour:
        words = rng.choice(HOUR_WORDS[scene.hour])
        if rng.random() < 0.6:
            parts[0] += " " + words
        else:
            tail.append(words)
    if scene.palette != "plain" and rng.random() < 0.9:
        tail.append(rng.choice(PALETTE_WORDS[scene.palette]))
    if scene.degraded:
        tail += rng.sample(DEGRADED_WORDS[scene.degraded], rng.randint(1, 3))
    else:
        tail += rng.sample(SUFFIXES, rng.choice((0, 0, 0, 1, 2, 3, 5)))
    rng.shuffle(tail)
    return ", ".join(parts + tail)
