"""An orientation that Pillow can read is found, whatever surrounds it."""

import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from helpers.common.orientation import orientation
from helpers.images.masks import box_mask, fit
from helpers.images.reading import as_images, load_image
from tests.support.images import saved, scene

UPRIGHT = scene(48, 32).transpose(Image.Transpose.ROTATE_270)  # of one that lies, 6


def block(entries, order="<", prefix=b"", after=b""):
    """An EXIF block of (tag, type, count, value's four bytes)."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    body = b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3] for entry in entries)
    return prefix + start + struct.pack(f"{order}IH", 8, len(entries)) + body + bytes(4) + after


def six(order="<", kind=3):
    return (0x0112, kind, 1, struct.pack(f"{order}{'H2x' if kind == 3 else 'I'}", 6))


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
SPOILED = {
    "ASCII resolution": block([six(), (0x011A, 2, 3, b"72\0\0"), (0x011B, 2, 3, b"72\0\0")]),
    "no end": block([six()])[:-4],
    "a broken directory of the camera": block([six(), (0x8769, 4, 1, struct.pack("<I", 2**31))]),
    "big-endian as 32 bits": block([six(">", 4)], ">"),
    "the prefix twice": block([six()], prefix=b"Exif\0\0"),
}


def files(exif):
    for format, options in (("PNG", {}), ("JPEG", {"quality": 100}), ("WEBP", {"lossless": True})):
        yield format, saved(scene(48, 32), format, exif=b"Exif\0\0" + exif, **options)


@pytest.mark.parametrize("name", SPOILED)
def test_a_readable_tag_is_honoured_whatever_else_the_block_holds(name):
    for format, data in files(SPOILED[name]):
        image = load_image(data)
        assert image.size == (32, 48), format
        assert np.abs(np.asarray(image, int) - np.asarray(UPRIGHT, int)).mean() < 8
    lying = scene(48, 32)
    lying.info["exif"] = b"Exif\0\0" + SPOILED[name]
    assert orientation(lying) == 6 and as_images(lying)[0].tobytes() == UPRIGHT.tobytes()
    assert fit(lying).size == box_mask(lying, (0, 0, 9, 9)).size == (32, 48)
    assert as_images(as_images(lying))[0].tobytes() == UPRIGHT.tobytes()  # turned once


@pytest.mark.parametrize("exif", [None, b"Exif\0\0" + block([(0x010F, 2, 900, bytes(4))])])
def test_xmp_says_it_where_exif_does_not(exif):
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP.decode() + " " * 2_000_000, zip=True)
    more = {} if exif is None else {"exif": exif}
    for data in (
        saved(scene(48, 32), "PNG", pnginfo=info, **more),
        saved(scene(48, 32), "WEBP", lossless=True, xmp=XMP, **more),
        saved(scene(48, 32), "JPEG", quality=100, xmp=XMP.replace(b'="6"', b">6<"), **more),
    ):
        assert load_image(data).size == (32, 48)


def test_a_raw_profile_of_imagemagick():
    tags = block([six()], prefix=b"Exif\0\0")
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(tags):8}\n{tags.hex()}\n", zip=True)
    assert load_image(saved(scene(48, 32), pnginfo=info)).tobytes() == UPRIGHT.tobytes()


@pytest.mark.parametrize("value", [0, 1, 9, 255])
def test_what_is_no_orientation_turns_nothing(value):
    tag = (0x0112, 3, 1, struct.pack("<HH", value, 0))
    for format, data in files(block([tag])):
        assert load_image(data).size == (48, 32), format
    assert load_image(saved(scene(), exif=b"Exif\0\0II*\0")).tobytes() == scene().tobytes()
    assert orientation(Image.new("L", (3, 4))) == 1


def test_a_tag_set_by_hand_counts():
    image = scene(48, 32)
    image.getexif()[0x0112] = 6
    assert load_image(image).tobytes() == UPRIGHT.tobytes()
