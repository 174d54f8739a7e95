"""What the classifier learns to doubt: spoiled drawings, how much is left of them, and what it should answer."""

import random
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from miniature_training.models import spoiling
from miniature_training.recipes import classifier
from miniature_training.world.scenes import draw, sample

SCENES = [
    sample(seed, degraded=False, subject=subject) for seed, subject in enumerate(("cat", "house", "tree", "boat"))
]


def parts(scene):
    """A scene's image (H, W, 3), what is seen of its subject (H, W) in 0..1, and the place without it."""
    drawing, empty = draw(scene), draw(replace(scene, subject=None, attribute=None, close=False))
    image, seen = np.asarray(drawing.image, np.float32), np.asarray(drawing.mask, np.float32) / 255
    return image, seen, np.asarray(empty.image, np.float32)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.subject)
def test_a_drawing_is_whole_and_the_empty_place_has_nothing_of_it(scene):
    image, seen, empty = parts(scene)
    assert spoiling.likeness(image, image, seen) == 1
    assert spoiling.likeness(empty, image, seen) < 0.2


@pytest.mark.parametrize("details", [True, False])
def test_the_fainter_a_ghost_the_less_is_left(details):
    for scene in SCENES:
        image, seen, empty = parts(scene)
        shares = (0.9, 0.6, 0.4, 0.2)
        left = [spoiling.likeness(s * image + (1 - s) * empty, image, seen, details=details) for s in shares]
        assert left == sorted(left, reverse=True) and (left[0] > left[-1] + 0.3 or not details)


@pytest.mark.parametrize("kind", spoiling.KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_spoils_the_subject_and_little_else(kind):
    left = []
    for number, scene in enumerate(SCENES * 3):
        image, seen, empty = parts(scene)
        result = kind(image, seen, empty, random.Random(number))
        changed = np.abs(result - image).mean(axis=-1)
        near = cv2.dilate(seen, np.ones((81, 81))) > 0.5
        assert result.shape == image.shape and np.isfinite(result).all()
        assert changed[near].mean() > 3 * changed[~near].sum() / near.sum()
        left.append(spoiling.likeness(result, image, seen))
    assert min(left) < 0.8 and np.std(left) > 0.05, "now a little, now a lot"


def test_the_same_seed_spoils_alike():
    one, other = (spoiling.spoiled(SCENES[0], random.Random("a")) for _ in range(2))
    assert np.array_equal(one[0], other[0]) and one[1] == other[1]


def test_doubt_is_what_is_missing():
    scenes = [replace(SCENES[0], colour="red"), sample(3, subject=None)]
    answers = dict(zip(classifier.HEADS, classifier.targets(scenes, torch.tensor([0.3, 1.0])), strict=True))
    cat, nothing = (classifier.HEADS["subject"].index(name) for name in ("cat", "nothing"))
    assert answers["subject"][0, [cat, nothing]].tolist() == pytest.approx([0.3, 0.7])
    assert answers["subject"][1, nothing] == 1
    colours = len(classifier.HEADS["colour"])
    assert answers["colour"][0].max() == pytest.approx(0.3 + 0.7 / colours) and answers["colour"][
        0
    ].sum() == pytest.approx(1)
    assert not answers["colour"][1].any(), "an empty place has no colour that could be asked for"
    unsure = classifier.targets(scenes, torch.ones(2), around=False)
    assert answers["place"].sum() == 2 and not any(answer.any() for answer in unsure[2:])
