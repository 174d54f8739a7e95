"""The ruler sees blur and broken shapes; the figures of a pipeline's images measure what they say."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from helpers.images.masks import load_mask
from helpers.images.reading import load_image
from miniature_training.evaluation import appearance
from miniature_training.evaluation.ruler import Ruler, named, shares
from miniature_training.world.scenes import draw
from miniature_training.world.skies import HOURS


@pytest.fixture(scope="module")
def drawings():
    return [draw(scene, 64, truth=False).image for _, scene in named(60)]


@pytest.fixture(scope="module")
def ruler(drawings):
    return Ruler(drawings[:30])


def test_captions_name_all_that_varies():
    for text, scene in named(40):
        assert scene.colour in text and scene.subject in text
        assert (scene.palette, scene.degraded, scene.attribute) == ("plain", None, None)
    assert {scene.hour for _, scene in named(40)} == set(HOURS)
    assert named(3)[2] == named(1, first=2)[0]


def test_drawings_are_near_each_other_and_blur_is_far(ruler, drawings):
    same, other = ruler(drawings[:30]), ruler(drawings[30:])
    blurred = ruler([image.filter(ImageFilter.GaussianBlur(2)) for image in drawings[30:]])
    assert same["structure"] == pytest.approx(0, abs=0.5) and same["sharpness"] == pytest.approx(1)
    assert blurred["structure"] > 5 * other["structure"]
    assert blurred["sharpness"] < 0.3 < other["sharpness"]


def test_wrong_colours_are_seen_as_well(ruler, drawings):
    swapped = [Image.fromarray(np.ascontiguousarray(np.asarray(image)[..., ::-1])) for image in drawings[30:]]
    assert ruler(swapped)["everything"] > 1.5 * ruler(drawings[30:])["everything"]


def test_shares_add_up():
    assert shares([1, 2, 3, 4], lambda image: "day" if image < 4 else "night") == {"day": 0.75, "night": 0.25}


def test_what_leaves_the_rest_alone_changes_nothing_outside():
    def kept(image, mask, prompt, seed):
        return Image.composite(Image.new("RGB", image.size), image, mask)

    figures = appearance.outside(kept, lambda image: image, seeds=1)
    assert figures["outside_levels"] == 0
    assert figures["seam_levels"] > 20, "a black hole has a hard edge"


def test_the_vae_s_own_change_does_not_count():
    def brighter(image, *rest):
        return image.point(lambda level: min(255, level + 5))

    assert appearance.outside(brighter, brighter, seeds=1)["outside_levels"] == 0


def test_a_cut_has_the_mask_s_place_and_a_margin():
    image, mask = load_image("meadow"), load_mask("meadow")
    marked = Image.composite(Image.new("RGB", image.size, "red"), Image.new("RGB", image.size), mask)
    part = appearance.cut(marked, mask.getbbox())
    assert part.size == (128, 128)
    assert part.getpixel((64, 64)) == (255, 0, 0) and part.getpixel((1, 1)) == (0, 0, 0)


def test_drawings_are_cut_as_the_masks_cut():
    """Else the ruler would measure how large a subject is in its hole, and which place is behind it."""
    mask = load_mask("meadow")
    left, top, right, bottom = mask.getbbox()
    assert appearance.around((60, 60, 64, 64), mask) == (32, 24, 32 + right - left, 24 + bottom - top)
    assert appearance.around((120, 0, 128, 8), mask) == (128 - (right - left), 0, 128, bottom - top)
    cuts = appearance.drawn_cuts(140)
    figures = Ruler(cuts[:80])(cuts[80:])
    assert figures["structure"] < 40 and 0.8 < figures["sharpness"] < 1.2


def test_images_are_asked_for_by_the_open_prompts(monkeypatch):
    asked = []
    seen = [{"hour": {"day": 0.1, "night": 0.9}}, {"hour": {"day": 0.6, "night": 0.4}}]
    monkeypatch.setattr(appearance.scene_classifier, "read", lambda images: seen)

    def paint(texts, seeds):
        asked.extend(zip(texts, seeds, strict=True))
        return [None] * len(texts)

    assert appearance.hours(paint, count=1) == {f"hour_{h}": {"day": 0.5, "night": 0.5}.get(h, 0.0) for h in HOURS}
    assert [text for text, _ in asked] == list(appearance.OPEN) and asked[0][1] != asked[1][1]
