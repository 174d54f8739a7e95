"""Masks are drawn, loaded, changed and applied as documented; scikit-image and diffusers are the oracles."""

import warnings

import numpy as np
import pytest
from diffusers.image_processor import VaeImageProcessor
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw
from skimage import morphology

from helpers.catalog.checkpoints import CATALOG
from helpers.images import reading
from helpers.images.masks import (
    alpha_mask,
    blur,
    box_mask,
    check_mask,
    ellipse_mask,
    fit,
    grow,
    invert,
    keep_unmasked,
    load_mask,
    polygon_mask,
    share,
    shrink,
    threshold,
)
from helpers.images.reading import load_image
from tests.support.images import course, noise, saved, scene  # noqa: F401

SIZE = (40, 24)  # not square, so that a swapped axis shows


def grey(values):
    return arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=values)


HARD = grey(st.sampled_from([0, 0, 0, 255])).map(Image.fromarray)
MASKS = st.one_of(HARD, grey(st.integers(0, 255)).map(Image.fromarray)).filter(lambda mask: mask.getextrema()[1] != 1)


def blobs(seed=0):
    """A hard mask of random specks."""
    return Image.fromarray((np.random.default_rng(seed).random((24, 40)) > 0.97).astype(np.uint8) * 255)


# Drawn


@pytest.mark.parametrize("size", [SIZE, list(SIZE), noise(SIZE)])
def test_box_mask_is_white_inside_and_excludes_right_and_bottom(size):
    mask = box_mask(size, (5, 3, 20, 10))
    assert mask.mode == "L" and mask.size == SIZE and mask.getbbox() == (5, 3, 20, 10)
    assert share(mask) == 15 * 7 / (40 * 24) and mask.crop((5, 3, 20, 10)).getextrema() == (255, 255)
    assert box_mask(SIZE, (-10, -10, 5, 5)).getbbox() == (0, 0, 5, 5)
    assert share(box_mask(SIZE, (-1, -1, 99, 99))) == 1


def test_ellipse_mask_fills_its_box_symmetrically():
    mask = np.asarray(ellipse_mask(SIZE, (4, 2, 36, 22)))
    assert Image.fromarray(mask).getbbox() == (4, 2, 36, 22) and set(np.unique(mask)) == {0, 255}
    assert np.array_equal(mask, mask[:, ::-1]) and np.array_equal(mask, mask[::-1])
    assert share(ellipse_mask(400, (0, 0, 400, 200))) == pytest.approx(np.pi / 8, abs=1e-3)


def test_polygon_mask_agrees_with_the_box():
    polygon = polygon_mask(SIZE, [(5, 3), (19, 3), (19, 9), (5, 9)])
    assert polygon.tobytes() == box_mask(SIZE, (5, 3, 20, 10)).tobytes()
    triangle = np.asarray(polygon_mask(100, [(0, 0), (99, 0), (0, 99)]))
    assert triangle[10, 10] == 255 and triangle[90, 90] == 0


@pytest.mark.parametrize("draw", [box_mask, ellipse_mask])
@pytest.mark.parametrize(
    "box, message",
    [
        ((20, 3, 5, 10), "expected left < right and top < bottom"),
        ((50, 0, 60, 10), "lies outside the image of 40 x 24 pixels"),
        ((1, 2, 3), "expected four numbers"),
        ("1234", "expected four numbers"),
        ((0, 0, float("nan"), 3), "expected four numbers"),
    ],
)
def test_bad_boxes(draw, box, message):
    with pytest.raises(ValueError, match=rf"box=.*{message}"):
        draw(SIZE, box)


@pytest.mark.parametrize(
    "points, message",
    [
        ([(0, 0), (5, 5)], "needs at least 3 points"),
        ([(0, 0), (5, 5), (3,)], r"holds \(3,\): expected \(x, y\)"),
        ([(50, 50), (60, 50), (60, 60)], "covers no pixel"),
    ],
)
def test_bad_polygons(points, message):
    with pytest.raises(ValueError, match=f"points.*{message}"):
        polygon_mask(SIZE, points)


def test_alpha_mask_repaints_what_is_transparent(tmp_path):
    image = noise(SIZE).convert("RGBA")
    image.paste((0, 0, 0, 0), (5, 3, 20, 10))
    image.putpixel((30, 20), (9, 9, 9, 155))
    path = tmp_path / "holes.png"
    image.save(path)
    for mask in (alpha_mask(image), alpha_mask(path)):
        assert mask.getpixel((30, 20)) == 100
        mask.putpixel((30, 20), 0)
        assert mask.tobytes() == box_mask(SIZE, (5, 3, 20, 10)).tobytes()
    for mode in ("RGB", "RGBA", "L"):
        with pytest.raises(ValueError, match="no transparent pixel: erase what should be repainted"):
            alpha_mask(noise(SIZE).convert(mode))


# Loaded and checked


def warned(message, *args, **kwargs):
    with pytest.warns(UserWarning, match=message) as caught:
        mask = load_mask(*args, **kwargs)
    assert len(caught) == 1 and caught[0].filename == __file__  # one message, at the reader's own line
    return mask


def silent(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_mask(*args, **kwargs)


def test_a_good_mask_says_nothing(course):  # noqa: F811
    assert silent("castle", image="castle").mode == "L"
    assert silent("castle", image=load_image("castle", size=128), size=128).size == (128, 128)
    assert silent("castle", image="castle", size=32).size == (32, 32)
    mask = box_mask(128, (30, 40, 90, 95))
    silent(saved(mask, "JPEG", quality=75))
    silent(mask.resize((96, 96), Image.Resampling.BILINEAR))  # a smoothed edge is no soft mask
    with pytest.raises(ValueError, match="mask='seashore_mask' is neither an image of the course nor a file"):
        load_mask("seashore")  # it has no mask


def test_a_mask_must_have_its_image_s_size():
    mask = box_mask((48, 40), (8, 8, 24, 24))
    for image in (scene(), saved(scene())):
        with pytest.raises(ValueError, match=r"mask is 48 x 40 pixels, the image 48 x 32.*fit\(mask, image\)"):
            load_mask(mask, image=image)
    with pytest.raises(ValueError, match="mask is 48 x 40"):
        check_mask(mask, scene())


@pytest.mark.parametrize(
    "value, message",
    [
        (0, "mask is all black, so nothing would be repainted: paint white"),
        (90, r"never reaches 128 \(its brightest pixel is 90\)"),
    ],
)
def test_a_mask_that_repaints_nothing(value, message):
    with pytest.raises(ValueError, match=message):
        load_mask(Image.new("L", (16, 16), value))


def test_odd_masks_warn():
    warned("mask is all white: the whole image will be repainted", Image.new("L", (16, 16), 255))
    warned(r"mask is 75% white, and white means repaint.*invert\(mask\)", box_mask(20, (0, 0, 20, 15)))
    silent(box_mask(20, (0, 0, 20, 12)))
    ramp = Image.linear_gradient("L")
    assert warned(r"mask is soft \(88% of its pixels are grey\).*threshold\(mask\)", ramp).tobytes() == ramp.tobytes()


def test_stray_pixels():
    mask = box_mask(128, (20, 20, 60, 60))
    for value in (1, 255):
        mask.putpixel((120, 120), value)
        warned(r"1 stray pixel \(value 1 or more\) far from its white area", mask)
    mask.putpixel((120, 2), 3)
    warned("2 stray pixels", mask)
    second_area = box_mask(128, (20, 20, 60, 60))
    second_area.paste(255, (100, 100, 120, 120))
    silent(second_area)
    silent(box_mask(128, (20, 20, 100, 21)))  # one thin line, and meant


def test_every_image_that_a_chapter_names_is_there_with_a_good_mask():
    assert {"castle", "seashore", "road", "bench", "jungle"} <= set(reading.course_images())
    for name in reading.course_images():
        image = load_image(name)
        assert image.mode == "RGB" and image.size == (CATALOG["sd15"].size,) * 2
        assert set(silent(name, image=image).tobytes()) == {0, 255}


# Changed


@settings(max_examples=40, deadline=None)
@given(MASKS, st.integers(0, 13))
def test_grow_is_dilation_by_a_disc_and_shrink_its_opposite(mask, pixels):
    disc = morphology.disk(pixels)
    padded = np.pad(np.asarray(mask), pixels)  # beyond the image there is no white
    inside = (slice(pixels, -pixels or None),) * 2
    assert np.array_equal(np.asarray(grow(mask, pixels)), morphology.dilation(padded, disc)[inside])
    assert shrink(mask, pixels).tobytes() == invert(grow(invert(mask), pixels)).tobytes()


@pytest.mark.parametrize("radius", [0, 1, 30, 64, 99])
def test_a_far_reach_is_the_same_disc(radius):
    drop = Image.new("L", (201, 201))
    drop.putpixel((100, 100), 255)
    assert np.array_equal(np.pad(morphology.disk(radius), 100 - radius) * 255, np.asarray(grow(drop, radius)))


@pytest.mark.parametrize("blur_factor", [0, 1, 4, 33])
def test_blur_is_diffusers_blur(blur_factor):
    assert blur(blobs(), blur_factor).tobytes() == VaeImageProcessor.blur(blobs(), blur_factor).tobytes()


@pytest.mark.parametrize(
    "change, value",
    [(grow, -1), (grow, 2.5), (grow, "3"), (grow, True), (grow, None), (blur, -1), (blur, "4"), (blur, float("inf"))]
    + [(threshold, 0), (threshold, 256), (threshold, 1.5), (threshold, None)],
)
def test_what_is_no_number_of_the_range_is_refused(change, value):
    with pytest.raises((TypeError, ValueError), match="=.*expected a (whole )?number"):
        change(blobs(), value)


def test_threshold_and_share_cut_where_the_pipelines_do():
    processor = VaeImageProcessor(do_normalize=False, do_binarize=True, do_convert_grayscale=True)
    ramp = Image.linear_gradient("L")
    cut = processor.preprocess(ramp)[0, 0].numpy()
    assert np.array_equal(np.asarray(threshold(ramp)) / 255, cut) and share(ramp) == cut.mean()
    assert threshold(ramp, 1).histogram()[0] == ramp.histogram()[0]
    drawn = Image.new("L", (64, 64))  # and white is what is repainted: 1 in the latent mask
    ImageDraw.Draw(drawn).rectangle((16, 16, 47, 47), fill=255)
    assert (processor.preprocess(box_mask(64, (16, 16, 48, 48)))[0, 0].numpy() == np.asarray(drawn) / 255).all()


# Fitted


@settings(max_examples=40, deadline=None)
@given(MASKS, st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 8, 64]))
def test_fit_is_idempotent_and_keeps_a_hard_mask_hard(mask, width, height, multiple):
    fitted = fit(mask, (width, height))
    assert fitted.mode == "L" and fitted.size == (width, height)
    assert fit(fitted, (width, height)).tobytes() == fitted.tobytes()
    assert not set(mask.tobytes()) <= {0, 255} or set(fitted.tobytes()) <= {0, 255}
    rounded = fit(mask.convert("RGB"), multiple=multiple)
    assert rounded.mode == "RGB" and rounded.size == tuple(max(multiple, s // multiple * multiple) for s in mask.size)
    assert fit(rounded, multiple=multiple).tobytes() == rounded.tobytes()


def test_a_dot_that_fades_away_in_a_smaller_mask_leaves_it_black():
    """Where its grey is exactly 1, too, which in a mask that somebody hands over is an error."""
    greys = set()
    for place in range(96):
        mask = Image.new("L", (12, 8))
        mask.putpixel((place % 12, place // 12), 255)
        greys |= set(mask.resize((1, 1), Image.Resampling.BILINEAR).tobytes())
        assert fit(mask, (1, 1)).tobytes() == b"\0"
    assert 1 in greys


def test_fit_makes_a_pair_that_suits_a_pipeline():
    image = fit(noise((70, 45)))
    assert image.mode == "RGB" and image.size == (64, 40)
    mask = fit(box_mask((140, 90), (14, 9, 70, 45)), image)
    assert mask.size == image.size and set(mask.tobytes()) == {0, 255}
    assert share(mask) == pytest.approx(0.4 * 0.4, abs=0.02)
    assert sum(fit(blur(box_mask(64, (16, 16, 48, 48)), 8), 32).histogram()[1:255]) > 100  # soft, and stays so
    with pytest.raises(ValueError, match="multiple=0"):
        fit(noise(), multiple=0)
    with pytest.raises(TypeError, match="expected a PIL image"):
        fit("castle")


@pytest.mark.parametrize("under", [(0, 0, 0, 0), (255, 255, 255, 0)])
def test_fit_reads_white_strokes_on_a_transparent_layer_as_load_mask_does(under):
    layer = Image.new("RGBA", SIZE, under)
    layer.paste((255, 255, 255, 255), (10, 6, 30, 18))
    assert fit(layer, SIZE).mode == "L" and fit(layer, SIZE).tobytes() == load_mask(layer).tobytes()
    mask = fit(layer, noise((80, 48)))
    assert mask.mode == "L" and set(mask.tobytes()) == {0, 255} and mask.getbbox() == (20, 12, 60, 36)
    holed = noise(SIZE).convert("RGBA")
    holed.paste((0, 0, 0, 0), (10, 6, 30, 18))
    assert fit(holed, SIZE).mode == "RGB" and fit(holed, SIZE).getpixel((12, 8)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "RGB", "RGBA", "LA", "P"])
def test_fit_keeps_a_black_and_white_mask_so_in_any_mode(mode):
    mask = ellipse_mask((70, 45), (10, 5, 60, 40))
    fitted = fit(mask.convert(mode), noise((64, 40)))
    assert fitted.mode == "L" and fitted.tobytes() == fit(mask, (64, 40)).tobytes()


def test_fit_leaves_a_drawing_an_image():
    drawing = ellipse_mask((70, 45), (10, 5, 60, 40)).convert("RGB")
    expected = drawing.resize((64, 40), Image.Resampling.LANCZOS).tobytes()
    assert fit(drawing).mode == "RGB" and fit(drawing).tobytes() == expected
    assert load_image(drawing, size=(64, 40)).tobytes() == expected
    assert fit(Image.new("RGB", SIZE), (64, 40)).mode == "RGB"  # an empty canvas
    coloured = Image.merge("RGB", [drawing.getchannel(0), Image.new("L", (70, 45)), Image.new("L", (70, 45))])
    assert fit(coloured, (64, 40)).mode == "RGB"


# Applied


@pytest.mark.parametrize("mask", [blobs(), Image.new("L", SIZE, 0)])
def test_keep_unmasked_is_diffusers_overlay_for_hard_masks(mask):
    before, after = noise(SIZE, seed=1), noise(SIZE, seed=2)
    result = keep_unmasked(before, after, mask)
    assert result.tobytes() == VaeImageProcessor().apply_overlay(mask, before, after).tobytes()
    inside = np.asarray(mask) > 0
    assert np.array_equal(np.asarray(result)[~inside], np.asarray(before)[~inside])
    assert np.array_equal(np.asarray(result)[inside], np.asarray(after)[inside])


def test_keep_unmasked_is_diffusers_overlay_for_soft_masks_within_rounding():
    mask, before, after = noise(SIZE, seed=3).convert("L"), noise(SIZE, seed=1), noise(SIZE, seed=2)
    oracle = VaeImageProcessor().apply_overlay(mask, before, after)
    difference = np.abs(np.asarray(keep_unmasked(before, after, mask), int) - np.asarray(oracle, int))
    assert difference.max() <= 2  # apply_overlay rounds twice


@pytest.mark.parametrize("name", ["after", "mask"])
def test_keep_unmasked_refuses_other_sizes(name):
    images = {"before": noise(SIZE), "after": noise(SIZE), "mask": blobs(), name: Image.new("L", (32, 24), 255)}
    with pytest.raises(ValueError, match=rf"{name} is 32 x 24 pixels, before is 40 x 24.*fit\({name}, before\)"):
        keep_unmasked(images["before"], images["after"], images["mask"])
