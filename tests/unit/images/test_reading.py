"""Every kind of image is converted as documented or refused with a message that helps."""

import io
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from helpers.catalog import editions
from helpers.catalog.checkpoints import CATALOG
from helpers.common import paths
from helpers.images import reading
from helpers.images.masks import load_mask, share
from helpers.images.reading import as_images, load_image
from tests.support.images import course, saved, scene  # noqa: F401

# What is read


@pytest.mark.parametrize("format, options", [("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 95})])
def test_reads_paths_strings_bytes_and_pil_alike(tmp_path, format, options):
    path = tmp_path / f"scene.{format.lower()}"
    path.write_bytes(saved(scene(), format, **options))
    images = [load_image(what) for what in (path, str(path), path.read_bytes(), Image.open(path))]
    for image in images:
        assert image.mode == "RGB" and image.size == (48, 32)
        assert image.tobytes() == images[0].tobytes()
    assert np.abs(np.asarray(images[0], int) - np.asarray(scene(), int)).mean() < (8 if format == "JPEG" else 1e-9)


@pytest.mark.parametrize("edition, side", [("mini", 128), ("full", 512)])
def test_course_images_come_in_the_editions_size(course, monkeypatch, edition, side):  # noqa: F811
    monkeypatch.setattr(editions, "_chosen", edition)
    monkeypatch.setattr(paths, "MINIATURES", course)  # no recipe there: the catalogue's own sizes
    assert load_image("castle").size == (side, side) == (CATALOG["sd15"].size,) * 2
    expected = scene(64, 64).resize((side, side), Image.Resampling.LANCZOS)
    assert load_image("castle").tobytes() == expected.tobytes()
    for name in ("castle", "castle_mask"):
        mask = load_mask(name, image="castle")
        assert mask.size == (side, side) and set(mask.tobytes()) == {0, 255}
        assert share(mask) == pytest.approx(1 / 4, rel=0.05)
    with pytest.raises(ValueError, match=f"mask is 32 x 32 pixels, the image {side} x {side}"):
        load_mask("castle", image=load_image("castle"), size=32)


def test_size_must_suit_a_pipeline(course):  # noqa: F811
    for load in (load_image, load_mask):
        with pytest.raises(ValueError, match="size=100 x 100.*multiples of 8.*96 x 96"):
            load("castle", size=100)


# What is converted


def test_transparency_is_laid_on_white():
    rgba = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    rgba.putpixel((1, 1), (10, 20, 30, 255))
    rgba.putpixel((2, 2), (0, 0, 0, 51))
    for image in (rgba, saved(rgba)):
        rgb = load_image(image)
        assert rgb.getpixel((0, 0)) == (255, 255, 255)
        assert rgb.getpixel((1, 1)) == (10, 20, 30)
        assert rgb.getpixel((2, 2)) == (204, 204, 204)
    palette = scene().quantize(4)
    assert load_image(saved(palette, transparency=palette.getpixel((0, 0)))).getpixel((0, 0)) == (255, 255, 255)


def test_grey_and_palette_become_rgb():
    grey = scene().convert("L")
    assert load_image(saved(grey)).tobytes() == grey.convert("RGB").tobytes()
    palette = scene().quantize(16)
    assert load_image(saved(palette)).tobytes() == palette.convert("RGB").tobytes()
    one_bit = scene().convert("1")
    assert load_image(saved(one_bit)).tobytes() == one_bit.convert("RGB").tobytes()
    assert load_image(saved(scene().convert("CMYK"), "JPEG")).mode == "RGB"


def test_16_bits_are_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 1024).astype(np.uint16).reshape(32, 32)
    data = saved(Image.fromarray(ramp))
    assert Image.open(io.BytesIO(data)).mode == "I;16"
    expected = np.round(ramp / 257)
    assert np.array_equal(np.asarray(load_image(data))[..., 1], expected)
    assert np.array_equal(np.asarray(load_image(Image.fromarray(ramp.astype(np.int32))))[..., 0], expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    data = saved(scene(48, 32), exif=tags)
    undo = "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_270 TRANSVERSE ROTATE_90".split()
    upright = scene(48, 32)
    if orientation > 1:
        upright = upright.transpose(Image.Transpose[undo[orientation - 2]])
    assert load_image(data).tobytes() == upright.tobytes()
    assert load_image(data).size == ((32, 48) if orientation > 4 else (48, 32))
    assert "exif" not in load_image(data).info


def test_a_phones_two_image_jpeg_gives_the_first(tmp_path):
    path = tmp_path / "phone.jpg"
    scene().save(path, format="MPO", save_all=True, append_images=[Image.new("RGB", (48, 32), "red")], quality=95)
    assert Image.open(path).n_frames == 2
    assert np.abs(np.asarray(load_image(path), int) - np.asarray(scene(), int)).mean() < 8


# What is refused


def refused(message, what, load=load_image):
    with pytest.raises(ValueError, match=message):
        load(what)


def test_not_an_image(tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("not a image at all")
    refused(r"image='.*notes.png' is not an image that can be read: expected PNG, JPEG or WebP", path)
    refused("mask='.*notes.png' is not an image", path, load_mask)
    refused("is empty", b"")
    for other in (b"<!DOCTYPE html><html></html>", *(saved(scene(), kind) for kind in ("BMP", "TIFF", "GIF"))):
        refused(r"image=<\d+ bytes> is not an image that can be read: expected PNG, JPEG or WebP", other)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_file_is_refused_or_whole(format):
    data = saved(scene(), format)
    whole = load_image(data).tobytes()
    refusals = 0
    for length in range(1, len(data), 7):
        try:
            assert load_image(data[:length]).tobytes() == whole  # only what follows the pixels was cut
        except ValueError as error:
            refusals += 1
            assert any(word in str(error) for word in ("broken or cut off", "not an image"))
    assert refusals > 0.8 * len(range(1, len(data), 7))
    refused("broken or cut off", data[: len(data) * 3 // 4])


def test_huge_images(monkeypatch):
    refused(r"16000 x 5000 pixels: at most 64 million are read. Save a smaller copy", Image.new("1", (16000, 5000)))
    refused("16000 x 16000 has|16000 x 16000 pixels|far too many pixels", saved(Image.new("1", (16000, 16000))))
    monkeypatch.setattr(reading, "MAX_BYTES", 1000)
    refused("larger than", saved(scene()) + bytes(1000))


def test_a_decompression_bomb_warns_of_nothing_and_is_refused():
    data = saved(Image.new("1", (10000, 10000)))  # over Pillow's warning, under its error
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        refused("10000 x 10000 pixels", data)
    assert not caught


def test_animations():
    frames = [scene(), scene().transpose(Image.Transpose.ROTATE_180)]
    for format in ("PNG", "WEBP"):
        data = saved(frames[0], format, save_all=True, append_images=frames[1:])
        refused(r"is animated \(2 frames\): save one frame as PNG", data)
        refused(r"is animated \(2 frames\)", Image.open(io.BytesIO(data)))


def test_urls_are_not_fetched():
    for url in ("https://example.com/cat.png", "http://example.com", "file:///tmp/cat.png", "data:image/png;base64,AA"):
        refused("is a URL: images are not fetched from the web. Download the file yourself", url)


def test_unknown_names(course):  # noqa: F811
    refused(
        "image='castel' is neither an image of the course nor a file in this folder. Did you mean 'castle'?", "castel"
    )
    refused("Known: castle, seashore", "zzzzzz")
    refused("mask='castel'.*Did you mean 'castle'", "castel", load_mask)
    refused("image='castle_msk.png': no such file", "castle_msk.png")
    refused("no such file", "nowhere/castle.png")
    refused("is a folder: pass the path of one image", course)
    refused("neither an image of the course|no such file", "x" * 5000)


@pytest.mark.parametrize(
    "what, message",
    [
        (None, "expected a course name, a path, bytes, a PIL image or an array, got None"),
        (io.BytesIO(), "got _io.BytesIO"),
        (3, "got int"),
    ],
)
def test_other_types(what, message):
    with pytest.raises(TypeError, match=f"^image: .*{message}"):
        load_image(what)


# Arrays


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(np.uint8, st.tuples(*[st.integers(5, 9)] * 2, st.sampled_from([1, 3, 4]))),
    st.sampled_from(["uint8", "int64", "float32", "float64", "torch", "bfloat16"]),
    st.booleans(),
    st.booleans(),
)
def test_arrays_become_the_image_that_they_hold(pixels, kind, first, batch):
    import torch

    values = pixels / 255 if "float" in kind or kind == "torch" else pixels
    channels_first = first and not (pixels.shape[2] == 4 and values.dtype.kind == "f")  # those are latents
    values = np.moveaxis(values, 2, 0) if channels_first else values
    values = np.stack([values, values]) if batch else values
    values = torch.tensor(values) if kind == "torch" else values if kind == "bfloat16" else values.astype(kind)
    if kind == "bfloat16":
        values = torch.tensor(values).bfloat16()
    found = as_images(values)
    assert len(found) == 1 + batch
    expected = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    for image in found:
        difference = np.abs(np.asarray(image, int) - expected)
        assert difference.max() <= (1 if kind == "bfloat16" else 0)


def test_float_arrays_may_hold_minus_one_to_one_and_bools_black_and_white():
    ramp = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    assert np.array_equal(np.asarray(as_images(ramp)[0]), ((ramp + 1) / 2 * 255).round())
    assert set(as_images(ramp > 0)[0].tobytes()) == {0, 255}
    output = type("Output", (), {"images": [scene(), scene()]})()
    assert [image.tobytes() for image in as_images([output, scene()])] == [scene().tobytes()] * 3


@pytest.mark.parametrize(
    "what, error, message",
    [
        ("castle", TypeError, "got str; open it with load_image first"),
        (None, TypeError, "got None"),
        (np.zeros((4, 16, 16), np.float32), ValueError, "looks like latents"),
        (np.full((8, 8), 256), ValueError, "int64 values 256..256"),
        (np.zeros((8, 8, 2)), ValueError, r"shape \(8, 8, 2\)"),
        (np.zeros(8), ValueError, r"shape \(8,\)"),
    ],
)
def test_arrays_that_are_no_image(what, error, message):
    with pytest.raises(error, match=message):
        as_images(what)
