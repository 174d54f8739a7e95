"""The measures find what was put into constructed pictures, and nothing where nothing is."""

import math

import numpy as np
import pytest
from PIL import Image, ImageFilter

from helpers.analysis import scene_classifier
from helpers.analysis.image_metrics import Change, adherence, change, depth_agreement, seam, sharpness
from helpers.catalog import editions
from helpers.images.masks import box_mask, ellipse_mask, keep_unmasked
from helpers.pipelines import control_images

SIZE = (60, 40)
MASK = box_mask(SIZE, (10, 10, 40, 30))


def ramp(slope=3):
    """A smooth slope from left to right, in every channel."""
    return Image.fromarray(np.broadcast_to((np.arange(60) * slope)[None, :, None], (40, 60, 3)).astype(np.uint8))


def noise(seed=0, spread=40):
    values = np.random.default_rng(seed).integers(128 - spread, 128 + spread, (40, 60, 3))
    return Image.fromarray(values.astype(np.uint8))


def brighter(picture, levels):
    return Image.fromarray((np.asarray(picture).astype(int) + levels).clip(0, 255).astype(np.uint8))


# change


def test_change_separates_inside_from_outside():
    before = ramp()
    after = keep_unmasked(brighter(before, 5), brighter(before, 20), MASK)
    assert change(before, after, MASK) == Change(inside=20, outside=5)
    assert change(before, before, MASK) == Change(0, 0)


def test_change_does_not_cancel_and_averages_the_channels():
    before = np.full((40, 60, 3), 100, np.uint8)
    after = before.copy()
    after[::2, :, 0] += 30
    after[1::2, :, 0] -= 30
    assert change(before, after, MASK) == Change(10, 10)


def test_change_of_empty_and_full_masks():
    before, after = ramp(), brighter(ramp(), 7)
    nothing = change(before, after, Image.new("L", SIZE, 0))
    assert math.isnan(nothing.inside) and nothing.outside == 7
    for everything in (change(before, after), change(before, after, Image.new("L", SIZE, 255))):
        assert everything.inside == 7 and math.isnan(everything.outside)


def test_change_refuses_other_sizes():
    with pytest.raises(ValueError, match=r"after is 30 x 40 pixels, before is 60 x 40.*fit\(after, before\)"):
        change(ramp(), ramp().resize((30, 40)), MASK)
    with pytest.raises(ValueError, match="mask is 60 x 20 pixels"):
        change(ramp(), ramp(), MASK.resize((60, 20)))


# seam


@pytest.mark.parametrize("reach", [1, 2, 4])
def test_no_seam_in_a_flat_or_sloping_picture(reach):
    assert seam(Image.new("RGB", SIZE, "teal"), MASK, reach=reach) == 0
    assert seam(ramp(), MASK, reach=reach) == pytest.approx(0, abs=1e-6)
    turned = [picture.transpose(Image.Transpose.TRANSPOSE) for picture in (ramp(), MASK)]
    assert seam(*turned, reach=reach) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("mask", [MASK, ellipse_mask(SIZE, (10, 5, 50, 35))], ids=["box", "ellipse"])
@pytest.mark.parametrize("levels", [6, 25])
def test_a_pasted_patch_has_the_seam_of_its_contrast(mask, levels):
    before = Image.new("RGB", SIZE, (100, 100, 100))
    assert seam(keep_unmasked(before, brighter(before, levels), mask), mask) == pytest.approx(levels)
    assert seam(keep_unmasked(before, brighter(before, -levels), mask), mask) == pytest.approx(levels)


def test_texture_alone_is_no_seam_and_a_patch_in_it_is():
    plain = [seam(noise(seed), MASK) for seed in range(5)]
    patched = [seam(keep_unmasked(noise(seed), brighter(noise(seed), 40), MASK), MASK) for seed in range(5)]
    assert abs(np.mean(plain)) < 3
    assert min(patched) > max(plain) + 10


def test_a_softened_seam_is_smaller():
    before = ramp()
    hard = keep_unmasked(before, brighter(before, 40), MASK)
    soft = keep_unmasked(before, brighter(before, 40), MASK.filter(ImageFilter.GaussianBlur(4)))
    assert 0 < seam(soft, MASK) < 0.5 * seam(hard, MASK)


@pytest.mark.parametrize("side", [slice(None, 25), slice(25, None)])
def test_every_side_of_the_rim_counts(side):
    picture = np.full((40, 60, 3), 100, np.uint8)
    mask = np.asarray(box_mask(SIZE, (10, 0, 40, 40))) > 0  # two upright rims
    inside = mask.copy()
    picture[inside] = 130
    picture[:, side][~inside[:, side]] = 130  # one of them has no step
    assert seam(picture, mask) == pytest.approx(15)


def test_seam_looks_along_the_rim_only():
    picture = np.array(Image.new("RGB", SIZE, (100, 100, 100)))
    picture[0:4] = 255  # an edge far outside the mask
    picture[18:22, 22:26] = 0  # and one deep inside
    assert seam(picture, MASK) == 0


@pytest.mark.parametrize("mask", [Image.new("L", SIZE), Image.new("L", SIZE, 255), box_mask(SIZE, (10, 10, 12, 12))])
def test_seam_without_a_rim(mask):
    with pytest.raises(ValueError, match="mask has no edge to measure at reach=2.*at least 4 pixels thick"):
        seam(ramp(), mask)


def test_seam_refuses():
    with pytest.raises(ValueError, match="mask is 60 x 40 pixels, image 30 x 40"):
        seam(ramp().resize((30, 40)), MASK)
    with pytest.raises(ValueError, match="reach=0"):
        seam(ramp(), MASK, reach=0)


# sharpness


def test_sharpness_is_the_variance_of_opencvs_laplacian():
    cv2 = pytest.importorskip("cv2")
    grey = np.asarray(noise().convert("L"))
    laplacian = cv2.Laplacian(grey, cv2.CV_64F)[1:-1, 1:-1]
    assert sharpness(noise()) == pytest.approx(laplacian.var())


def test_blur_lowers_sharpness():
    values = [sharpness(noise().filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 0.5, 1, 2, 4)]
    assert values == sorted(values, reverse=True) and values[-1] < 0.01 * values[0]
    assert sharpness(Image.new("RGB", SIZE, "teal")) == 0
    with pytest.raises(ValueError, match="2 x 9 pixels: at least 3 x 3"):
        sharpness(Image.new("RGB", (2, 9)))


# depth_agreement


@pytest.fixture
def estimate(monkeypatch):
    """Let the depth estimator see these depths in any image."""
    return lambda depth: monkeypatch.setattr(control_images, "_estimate", lambda image: depth)


@pytest.mark.parametrize(("change", "expected"), [(lambda v: v, 1.0), (lambda v: v**0.5, 1.0), (lambda v: 1 - v, -1.0)])
def test_agreement_is_of_the_order_of_near_and_far(estimate, change, expected):
    depth = np.random.default_rng(0).random((40, 60))
    estimate(change(depth))
    wanted = Image.fromarray((depth * 255).astype(np.uint8)).convert("RGB")
    assert depth_agreement(noise(1), wanted) == pytest.approx(expected, abs=0.005)  # there are 256 grey levels
    assert depth_agreement(noise(1), np.asarray(wanted)[..., 0]) == pytest.approx(expected, abs=0.005)


def test_agreement_is_spearmans_and_a_flat_image_agrees_with_nothing(estimate):
    scipy = pytest.importorskip("scipy.stats")
    depth, other = np.random.default_rng(0).random((2, 40, 60))
    other = np.round((other + depth) * 3)  # with many equal values
    estimate(depth)
    grey = np.asarray(control_images.depth_map(noise(1)))[..., 0]
    expected = scipy.spearmanr(grey.ravel(), other.ravel())[0]
    assert depth_agreement(noise(1), (other * 20).astype(np.uint8)) == pytest.approx(expected) and 0.3 < expected < 0.9
    estimate(np.zeros((40, 60)))
    assert depth_agreement(noise(1), noise(2)) == 0.0


def test_agreement_of_two_sizes_is_refused():
    with pytest.raises(ValueError, match="depth is 64 x 64 pixels, image 60 x 40"):
        depth_agreement(noise(1), Image.new("L", (64, 64)))


# adherence


@pytest.fixture
def classifier(monkeypatch):
    """A classifier that sees a black cat and is unsure of the place."""
    seen = {"subject": {"cat": 0.9, "boat": 0.1}, "colour": {"red": 0.2}, "place": {"meadow": 0.4}}
    monkeypatch.setattr(scene_classifier, "read", lambda images: [seen for _ in images])
    monkeypatch.setattr(editions, "edition", lambda: "mini")


def test_adherence_is_the_mean_over_what_the_prompt_names(classifier):
    assert adherence(ramp(), "a cat") == pytest.approx(0.9)
    assert adherence(ramp(), "a red cat in a meadow") == pytest.approx((0.9 + 0.2 + 0.4) / 3)
    assert adherence([ramp(), ramp()], "a boat") == pytest.approx([0.1, 0.1])
    assert adherence([ramp()], "a boat") == pytest.approx([0.1])


@pytest.mark.parametrize("nothing", [[], (), [[]]])
def test_adherence_of_no_image_is_refused(classifier, nothing):
    with pytest.raises(ValueError, match="image: nothing to look at; pass at least one image"):
        adherence(nothing, "a cat")


def test_adherence_needs_the_drawn_world(classifier, monkeypatch):
    with pytest.raises(ValueError, match="prompt='a quarterly report' names nothing"):
        adherence(ramp(), "a quarterly report")
    with pytest.raises(TypeError, match="prompt=None: expected one text"):
        adherence(ramp(), None)
    monkeypatch.setattr(editions, "edition", lambda: "full")
    with pytest.raises(RuntimeError, match="adherence needs the drawn world, which only the mini edition paints"):
        adherence(ramp(), "a cat")
