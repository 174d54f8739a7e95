"""Masks are drawn, changed and applied as documented; scipy and diffusers are the oracles."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from helpers.images.contact_sheet import show
from helpers.images.loading import load_image, load_mask
from helpers.images.masks import (
    alpha_mask,
    as_mask,
    blur,
    box_mask,
    ellipse_mask,
    fit,
    grow,
    invert,
    keep_unmasked,
    polygon_mask,
    share,
    shrink,
    threshold,
)
from helpers.images.outpainting import outpaint

SIZE = (40, 24)  # not square, so that a swapped axis shows


def noise(size=SIZE, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8))


def blobs(seed=0):
    """A hard mask of random specks."""
    return Image.fromarray((np.random.default_rng(seed).random((24, 40)) > 0.97).astype(np.uint8) * 255)


# Drawn


@pytest.mark.parametrize("size", [SIZE, list(SIZE), noise()])
def test_box_mask_is_white_inside_and_excludes_right_and_bottom(size):
    mask = box_mask(size, (5, 3, 20, 10))
    assert mask.mode == "L" and mask.size == SIZE
    assert mask.getbbox() == (5, 3, 20, 10)
    assert share(mask) == 15 * 7 / (40 * 24)
    assert mask.crop((5, 3, 20, 10)).getextrema() == (255, 255)


def test_boxes_are_cut_at_the_picture():
    assert box_mask(SIZE, (-10, -10, 5, 5)).getbbox() == (0, 0, 5, 5)
    assert share(box_mask(SIZE, (-1, -1, 99, 99))) == 1


def test_ellipse_mask_fills_its_box_symmetrically():
    mask = np.asarray(ellipse_mask(SIZE, (4, 2, 36, 22)))
    assert Image.fromarray(mask).getbbox() == (4, 2, 36, 22)
    assert np.array_equal(mask, mask[:, ::-1]) and np.array_equal(mask, mask[::-1])
    assert share(ellipse_mask(400, (0, 0, 400, 200))) == pytest.approx(np.pi / 8, abs=1e-3)
    assert set(np.unique(mask)) == {0, 255}


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
        ((5, 10, 20, 10), "expected left < right and top < bottom"),
        ((50, 0, 60, 10), "lies outside the picture of 40 x 24 pixels"),
        ((-20, -20, -5, -5), "lies outside the picture of 40 x 24 pixels"),
        ((0.1, 0.1, 0.3, 0.3), "covers no pixel of the 40 x 24 picture: give pixels, not fractions"),
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
        ([(0.1, 0.1), (0.9, 0.1), (0.5, 0.9)], "look like fractions"),
        ([(50, 50), (60, 50), (60, 60)], "covers no pixel"),
    ],
)
def test_bad_polygons(points, message):
    with pytest.raises(ValueError, match=f"points.*{message}"):
        polygon_mask(SIZE, points)


def test_alpha_mask_repaints_what_is_transparent(tmp_path):
    picture = noise().convert("RGBA")
    picture.paste((0, 0, 0, 0), (5, 3, 20, 10))
    picture.putpixel((30, 20), (9, 9, 9, 155))
    path = tmp_path / "holes.png"
    picture.save(path)
    for mask in (alpha_mask(picture), alpha_mask(path)):
        assert mask.getpixel((30, 20)) == 100
        mask.putpixel((30, 20), 0)
        assert mask.tobytes() == box_mask(SIZE, (5, 3, 20, 10)).tobytes()


@pytest.mark.parametrize("picture", [noise(), noise().convert("RGBA"), noise().convert("L")])
def test_alpha_mask_without_transparency(picture):
    with pytest.raises(ValueError, match="no transparent pixel: erase what should be repainted"):
        alpha_mask(picture)


# Changed


@pytest.mark.parametrize("pixels", [0, 1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("mask", [blobs(), noise().convert("L")], ids=["hard", "soft"])
def test_grow_and_shrink_are_dilation_and_erosion_by_a_disc(mask, pixels):
    ndimage = pytest.importorskip("scipy.ndimage")
    y, x = np.ogrid[-pixels : pixels + 1, -pixels : pixels + 1]
    disc = x * x + y * y <= pixels * pixels
    dilated = ndimage.grey_dilation(np.asarray(mask), footprint=disc, mode="constant", cval=0)
    eroded = ndimage.grey_erosion(np.asarray(mask), footprint=disc, mode="constant", cval=255)
    assert np.array_equal(np.asarray(grow(mask, pixels)), dilated)
    assert np.array_equal(np.asarray(shrink(mask, pixels)), eroded)


def test_grow_reaches_beyond_the_picture_and_shrink_leaves_its_border():
    assert share(grow(box_mask(16, (7, 7, 9, 9)), 50)) == 1
    assert share(shrink(box_mask(16, (0, 0, 16, 16)), 5)) == 1
    assert share(shrink(box_mask(16, (4, 4, 12, 12)), 4)) == 0


@pytest.mark.parametrize("pixels", [-1, 2.5, "3", True, None])
def test_grow_refuses_what_is_no_count(pixels):
    with pytest.raises(ValueError, match="pixels=.*whole number of pixels, 0 or more"):
        grow(blobs(), pixels)


def test_invert_twice_is_the_mask():
    assert share(invert(blobs())) == pytest.approx(1 - share(blobs()))
    assert invert(invert(noise().convert("L"))).tobytes() == noise().convert("L").tobytes()


@pytest.mark.parametrize("blur_factor", [0, 1, 4, 33])
def test_blur_is_diffusers_blur(blur_factor):
    from diffusers.image_processor import VaeImageProcessor

    assert blur(blobs(), blur_factor).tobytes() == VaeImageProcessor.blur(blobs(), blur_factor).tobytes()


@pytest.mark.parametrize("blur_factor", [-1, "4", float("inf")])
def test_blur_refuses(blur_factor):
    with pytest.raises(ValueError, match="blur_factor=.*radius in pixels"):
        blur(blobs(), blur_factor)


def test_threshold_and_share_cut_where_the_pipelines_do():
    from diffusers.image_processor import VaeImageProcessor

    processor = VaeImageProcessor(do_normalize=False, do_binarize=True, do_convert_grayscale=True)
    ramp = Image.linear_gradient("L")
    cut = processor.preprocess(ramp)[0, 0].numpy()
    assert np.array_equal(np.asarray(threshold(ramp)) / 255, cut)
    assert share(ramp) == cut.mean()
    assert threshold(ramp, 1).histogram()[0] == ramp.histogram()[0]
    for at in (0, 256, 1.5, None):
        with pytest.raises(ValueError, match="at=.*1 to 255"):
            threshold(ramp, at)


def test_fit_makes_a_pair_that_suits_a_pipeline():
    image = fit(noise((70, 45)))
    assert image.mode == "RGB" and image.size == (64, 40)
    mask = fit(box_mask((140, 90), (14, 9, 70, 45)), image)
    assert mask.size == image.size and set(mask.tobytes()) == {0, 255}
    assert share(mask) == pytest.approx(0.4 * 0.4, abs=0.02)
    assert fit(noise((130, 200)), multiple=64).size == (128, 192)
    assert fit(noise((5, 9))).size == (8, 8)
    assert fit(noise((64, 40))).tobytes() == noise((64, 40)).tobytes()


def test_fit_keeps_a_soft_mask_soft_and_refuses_nonsense():
    soft = fit(blur(box_mask(64, (16, 16, 48, 48)), 8), 32)
    assert sum(soft.histogram()[1:255]) > 100
    with pytest.raises(ValueError, match="multiple=0"):
        fit(noise(), multiple=0)
    with pytest.raises(TypeError, match="picture: expected a PIL picture"):
        fit("castle")


@pytest.mark.parametrize("under", [(0, 0, 0, 0), (255, 255, 255, 0)])
def test_fit_reads_white_strokes_on_a_transparent_layer_as_load_mask_does(under):
    layer = Image.new("RGBA", SIZE, under)
    layer.paste((255, 255, 255, 255), (10, 6, 30, 18))
    assert fit(layer, SIZE).mode == "L" and fit(layer, SIZE).tobytes() == load_mask(layer).tobytes()
    mask = fit(layer, noise((80, 48)))
    assert mask.mode == "L" and set(mask.tobytes()) == {0, 255} and mask.getbbox() == (20, 12, 60, 36)
    holed = noise().convert("RGBA")
    holed.paste((0, 0, 0, 0), (10, 6, 30, 18))
    assert fit(holed, SIZE).mode == "RGB" and fit(holed, SIZE).getpixel((12, 8)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "RGB", "RGBA", "LA", "P"])
def test_fit_keeps_a_black_and_white_mask_so_in_any_mode(mode):
    mask = ellipse_mask((70, 45), (10, 5, 60, 40))
    fitted = fit(mask.convert(mode), noise((64, 40)))
    assert fitted.mode == "L" and fitted.tobytes() == fit(mask, (64, 40)).tobytes()
    assert set(fitted.tobytes()) == {0, 255}


def test_fit_leaves_a_drawing_a_picture():
    drawing = ellipse_mask((70, 45), (10, 5, 60, 40)).convert("RGB")
    expected = drawing.resize((64, 40), Image.Resampling.LANCZOS).tobytes()
    assert fit(drawing).mode == "RGB" and fit(drawing).tobytes() == expected
    assert load_image(drawing, size=(64, 40)).tobytes() == expected
    assert fit(Image.new("RGB", SIZE), (64, 40)).mode == "RGB"  # an empty canvas
    coloured = Image.merge("RGB", [drawing.getchannel(0), Image.new("L", (70, 45)), Image.new("L", (70, 45))])
    assert fit(coloured, (64, 40)).mode == "RGB"


def test_a_photograph_that_lies_on_its_side_is_turned_everywhere():
    tags, file = Image.Exif(), io.BytesIO()
    tags[0x0112] = 6
    noise((48, 32)).save(file, "PNG", exif=tags)
    photo, upright = Image.open(file), noise((48, 32)).transpose(Image.Transpose.ROTATE_270)
    assert load_image(file.getvalue()).tobytes() == upright.tobytes()
    assert fit(photo).tobytes() == upright.tobytes() and "exif" not in fit(photo).info
    mask = fit(box_mask((64, 96), (16, 24, 48, 72)), photo)
    assert mask.size == upright.size == box_mask(photo, (8, 8, 24, 40)).size
    other = noise(upright.size, seed=1)
    assert keep_unmasked(photo, other, mask).tobytes() == keep_unmasked(upright, other, mask).tobytes()
    assert show(photo).tobytes() == show(upright).tobytes()
    assert outpaint(photo, left=8)[0].tobytes() == outpaint(upright, left=8)[0].tobytes()


# Applied


@pytest.mark.parametrize("mask", [blobs(), box_mask(SIZE, (5, 3, 20, 10)), Image.new("L", SIZE, 0)])
def test_keep_unmasked_is_diffusers_overlay_for_hard_masks(mask):
    from diffusers.image_processor import VaeImageProcessor

    before, after = noise(seed=1), noise(seed=2)
    oracle = VaeImageProcessor().apply_overlay(mask, before, after)
    result = keep_unmasked(before, after, mask)
    assert result.tobytes() == oracle.tobytes()
    inside = np.asarray(mask) > 0
    assert np.array_equal(np.asarray(result)[~inside], np.asarray(before)[~inside])
    assert np.array_equal(np.asarray(result)[inside], np.asarray(after)[inside])


def test_keep_unmasked_is_diffusers_overlay_for_soft_masks_within_rounding():
    from diffusers.image_processor import VaeImageProcessor

    mask = noise(seed=3).convert("L")
    before, after = noise(seed=1), noise(seed=2)
    oracle = VaeImageProcessor().apply_overlay(mask, before, after)
    difference = np.abs(np.asarray(keep_unmasked(before, after, mask), int) - np.asarray(oracle, int))
    assert difference.max() <= 2  # apply_overlay rounds twice


@pytest.mark.parametrize("name", ["after", "mask"])
def test_keep_unmasked_refuses_other_sizes(name):
    pictures = {"before": noise(), "after": noise(), "mask": blobs(), name: Image.new("L", (32, 24), 255)}
    with pytest.raises(ValueError, match=rf"{name} is 32 x 24 pixels, before is 40 x 24.*fit\({name}, before\)"):
        keep_unmasked(pictures["before"], pictures["after"], pictures["mask"])


@pytest.mark.parametrize(
    "convert", [np.asarray, lambda mask: np.asarray(mask) > 0, lambda mask: np.asarray(mask) / 255]
)
def test_masks_may_be_arrays(convert):
    assert as_mask(convert(blobs())).tobytes() == blobs().tobytes()
    assert grow(convert(blobs()), 2).tobytes() == grow(blobs(), 2).tobytes()


def test_as_mask_refuses_what_is_no_picture():
    with pytest.raises(TypeError, match="mask: expected a PIL picture or an array, got str"):
        share("castle")
    with pytest.raises(ValueError, match="mask: expected one picture, got 2"):
        share([blobs(), blobs()])


def test_white_is_what_a_pipeline_repaints():
    """White means repaint: the latent mask is 1 there, and the masked picture that the UNet sees is empty there."""
    from diffusers.image_processor import VaeImageProcessor

    mask = box_mask(64, (16, 16, 48, 48))
    processor = VaeImageProcessor(do_normalize=False, do_binarize=True, do_convert_grayscale=True)
    latent_mask = processor.preprocess(mask)[0, 0]
    drawn = Image.new("L", (64, 64))
    ImageDraw.Draw(drawn).rectangle((16, 16, 47, 47), fill=255)
    assert (latent_mask.numpy() == np.asarray(drawn) / 255).all()
