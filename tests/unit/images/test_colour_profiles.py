"""Colours come out as they were meant, whatever their file calls its numbers; the definitions of the spaces decide."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from helpers.analysis.image_metrics import change, sharpness
from helpers.images.contact_sheet import show
from helpers.images.masks import fit, keep_unmasked, load_mask
from helpers.images.outpainting import outpaint
from helpers.images.reading import load_image
from helpers.pipelines.control_images import canny_edges
from tests.support.images import noise, saved
from tests.support.profiles import (
    ADOBE_RGB,
    DISPLAY_P3,
    PROPHOTO,
    cmyk_profile,
    grey_profile,
    in_srgb,
    rgb_profile,
)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREEN = (136, 183, 83)  # of a photograph in Adobe RGB


def flat(mode="RGB", colour=GREEN, profile=None, size=(8, 8)):
    image = Image.new(mode, size, colour)
    if profile is not None:
        image.info["icc_profile"] = profile
    return image


def near(image, expected, within=1):
    return np.abs(np.asarray(image, float) - np.asarray(expected)).max() <= within


@pytest.mark.parametrize("space", [ADOBE_RGB, DISPLAY_P3, PROPHOTO], ids=["adobe", "p3", "prophoto"])
@pytest.mark.parametrize(
    "format, options", [("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 100}), (None, {})]
)
def test_rgb_profiles_of_every_kind_of_file(space, format, options):
    image = flat(profile=rgb_profile(space))
    what = saved(image, format, icc_profile=rgb_profile(space), **options) if format else image
    assert near(load_image(what), in_srgb(GREEN, space), 6 if format == "JPEG" else 1)
    assert not load_image(what).info


@pytest.mark.parametrize("mode", ["RGBA", "P", "PA", "YCbCr", "HSV", "RGBX"])
def test_modes_of_rgb_profiles(mode):
    image = flat("RGB").quantize(4) if mode == "P" else flat("RGB").convert("RGBA" if mode == "PA" else mode)
    image = image.convert(mode)
    image.info["icc_profile"] = rgb_profile(ADOBE_RGB)
    assert near(load_image(image), in_srgb(GREEN, ADOBE_RGB), 5)


def test_transparency_is_laid_on_white_after_the_conversion():
    image = flat("RGBA", (*GREEN, 255), rgb_profile(ADOBE_RGB))
    image.putpixel((0, 0), (*GREEN, 0))
    palette = flat("RGB").quantize(2)
    for what in (image, saved(image, icc_profile=rgb_profile(ADOBE_RGB))):
        assert load_image(what).getpixel((0, 0)) == (255, 255, 255)
        assert near(load_image(what).getpixel((5, 5)), in_srgb(GREEN, ADOBE_RGB))
    data = saved(palette, transparency=palette.getpixel((0, 0)), icc_profile=rgb_profile(ADOBE_RGB))
    assert load_image(data).getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize("mode, value", [("L", 128), ("LA", (128, 255)), ("I;16", 128 * 257)])
@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
def test_grey_profiles(mode, value, gamma):
    linear = (128 / 255) ** gamma
    expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    for what in (flat(mode, value, grey_profile(gamma)), saved(flat(mode, value), icc_profile=grey_profile(gamma))):
        assert near(load_image(what), expected) and load_image(what).mode == "RGB"


@pytest.mark.parametrize("inks", [(0, 0, 0, 0), (255, 0, 0, 0), (0, 0, 0, 255), (50, 100, 150, 20)])
def test_cmyk_profiles(inks):
    light = np.prod(1 - np.array([[*inks[:3]], [inks[3]] * 3]) / 255, axis=0)
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert near(load_image(flat("CMYK", inks, cmyk_profile())), expected, 6)  # the table has 8 bits and 5 points
    data = saved(flat("CMYK", inks), "JPEG", quality=100, icc_profile=cmyk_profile())
    assert near(load_image(data), expected, 8)


def test_an_image_in_srgb_keeps_every_pixel():
    for image in (noise(), noise().convert("L"), noise().convert("RGBA")):
        plain = load_image(image).tobytes()
        image.info["icc_profile"] = SRGB
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert load_image(image).tobytes() == load_image(saved(image, icc_profile=SRGB)).tobytes() == plain


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    "profile",
    [b"no profile at all", rgb_profile(ADOBE_RGB)[:200], b"\0" * 4000, cmyk_profile(), grey_profile(2.2)],
    ids=["text", "cut", "zeros", "cmyk", "grey"],
)
def test_a_broken_or_foreign_profile_is_a_warning_and_the_numbers_stay(format, profile):
    with pytest.warns(UserWarning, match="image: its colour profile cannot be used .*taken for sRGB") as caught:
        image = load_image(saved(flat(), format, icc_profile=profile))
    assert near(image, GREEN, 4) and [one.filename for one in caught] == [__file__]


def test_a_profile_that_cannot_be_unpacked_is_a_warning():
    data = saved(flat(), icc_profile=rgb_profile(ADOBE_RGB))
    at = data.index(b"iCCP")
    for place, value in ((at + 4 + len("ICC Profile") + 1, 9), (at + 30, data[at + 30] ^ 255)):  # method; packed bytes
        broken = data[:place] + bytes([value]) + data[place + 1 :]
        with pytest.warns(UserWarning, match="its colour profile cannot be used"):
            assert near(load_image(broken), GREEN, 0 if value == 9 else 255)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_profile_of_megabytes_is_used(format):
    large = rgb_profile(ADOBE_RGB, extra=3 * 2**20)
    assert near(load_image(saved(flat(), format, icc_profile=large)), in_srgb(GREEN, ADOBE_RGB), 4)


def test_every_door_sees_the_same_colours():
    image = noise((64, 64))
    image.info["icc_profile"] = rgb_profile(ADOBE_RGB)
    plain = load_image(image)
    assert plain.tobytes() != noise((64, 64)).tobytes()
    mask = Image.new("L", image.size, 255)
    assert show(image).tobytes() == show(plain).tobytes()
    assert fit(image).tobytes() == plain.tobytes() and outpaint(image, left=8)[0] == outpaint(plain, left=8)[0]
    assert keep_unmasked(plain, image, mask).tobytes() == keep_unmasked(image, plain, ImageOps.invert(mask)).tobytes()
    assert change(image, plain, mask).inside == 0 and sharpness(image) == sharpness(plain)
    assert canny_edges(image).tobytes() == canny_edges(plain).tobytes()
    grey = noise((64, 64)).convert("L")
    grey.info["icc_profile"] = grey_profile(1.0)
    assert load_image(grey).tobytes() != grey.convert("RGB").tobytes()


def test_a_masks_greys_are_numbers():
    ramp = Image.linear_gradient("L")
    ramp.info["icc_profile"] = grey_profile(1.0)
    for what in (ramp, saved(ramp, icc_profile=grey_profile(1.0))):
        with pytest.warns(UserWarning, match="mask is soft"):
            assert load_mask(what).tobytes() == ramp.tobytes()
    assert "icc_profile" in Image.open(io.BytesIO(saved(ramp))).info  # and it was there
