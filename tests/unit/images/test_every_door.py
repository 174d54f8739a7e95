"""A mask, and an array, mean the same at every door: here are all doors, and all ways to write the same mask down."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import Compare, MaskPainter
from helpers.analysis.image_metrics import change, seam, sharpness
from helpers.images import masks
from helpers.images.contact_sheet import show
from helpers.images.masks import (
    alpha_mask,
    as_mask,
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
from helpers.images.outpainting import outpaint
from helpers.images.reading import as_images, load_image
from helpers.pipelines.control_images import canny_edges, inpaint_condition
from tests.support.images import noise, saved

SIZE = (64, 48)
MASK = box_mask(SIZE, (10, 8, 40, 30))
WHITE = np.asarray(MASK) > 0  # (H, W)
PHOTO, OTHER = noise(SIZE), noise(SIZE, seed=1)


def holed(photo=PHOTO):
    image = photo.convert("RGBA")
    image.putalpha(Image.fromarray(np.uint8(255) - np.asarray(MASK)))
    return image


def strokes(under=(0, 0, 0, 0)):
    layer = Image.new("RGBA", SIZE, under)
    layer.paste((255, 255, 255, 255), mask=MASK)
    return layer


def dtypes():
    for dtype in (
        np.uint8,
        np.int8,
        np.int16,
        np.int32,
        np.int64,
        np.uint16,
        np.uint32,
        np.float16,
        np.float32,
        np.float64,
    ):
        yield f"{dtype.__name__} 0..1", WHITE.astype(dtype)
    for dtype in (np.uint8, np.int16, np.int64, np.uint16, np.uint32):
        yield f"{dtype.__name__} 0..255", WHITE.astype(dtype) * dtype(255)
    yield "bool", WHITE
    yield "uint16 0..65535", WHITE.astype(np.uint16) * np.uint16(65535)
    yield "floats -1..1", WHITE * 2.0 - 1
    yield "big-endian", WHITE.astype(">i4")
    yield "read-only", np.asarray(MASK)
    yield "Fortran", np.asfortranarray(WHITE)
    yield "strided", np.repeat(WHITE, 2, axis=1)[:, ::2]
    for dtype in (torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64):
        yield f"{dtype} 0..1", torch.from_numpy(WHITE).to(dtype)
    yield "torch uint8 0..255", torch.from_numpy(WHITE.astype(np.uint8) * 255)
    yield "with a gradient", torch.from_numpy(WHITE).float().requires_grad_()


def shapes():
    for name, values in (
        ("numpy", WHITE),
        ("numpy ints", WHITE.astype(int)),
        ("torch", torch.from_numpy(WHITE).float()),
    ):
        h, w = WHITE.shape
        for shape in ((h, w, 1), (1, h, w), (1, h, w, 1), (1, 1, h, w)):
            yield f"{name} {shape}", values.reshape(shape)
        rgb = np.stack([WHITE] * 3, -1).astype(int) if name != "torch" else torch.stack([values] * 3)
        yield f"{name} of three channels", rgb
        yield f"{name} of three channels, a batch of one", rgb[None]


def files():
    for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "RGBX", "RGBa", "La"):
        between = {"HSV": "RGB", "LAB": "RGB", "RGBa": "RGBA", "La": "LA", "PA": "P"}.get(mode, "L")
        if mode == "LAB":
            from PIL import ImageCms

            srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
            yield mode, ImageCms.profileToProfile(MASK.convert("RGB"), srgb, lab, outputMode="LAB")
            continue
        yield mode, MASK.convert(between).convert(mode)
    for mode in ("I;16", "I;16B", "I"):
        deep = WHITE.astype({"I;16": "<u2", "I;16B": ">u2", "I": "i4"}[mode]) * 65535
        yield (
            mode,
            Image.frombytes(mode, SIZE, deep.tobytes()) if mode != "I" else Image.fromarray(deep.astype(np.int32)),
        )
    yield "a palette", MASK.convert("RGB").quantize(2)
    yield "strokes", strokes()
    yield "strokes under white", strokes((255, 255, 255, 0))
    yield "strokes in LA", strokes().convert("LA")
    transparent = MASK.convert("RGB").quantize(2)
    transparent.info["transparency"] = transparent.getpixel((0, 0))
    yield "strokes in a palette", transparent
    lying = MASK.transpose(Image.Transpose.ROTATE_90)
    tags = Image.Exif()
    tags[0x0112] = 6
    yield "lying", Image.open(io.BytesIO(saved(lying, exif=tags)))


HOLED = {"a hole": holed(), "a hole in LA": holed().convert("LA"), "a hole, premultiplied": holed().convert("RGBa")}
FORMS = dict([*dtypes(), *shapes(), *files()])
COUNT = WHITE.mean()


@pytest.mark.parametrize("form", [*FORMS, *HOLED])
@pytest.mark.filterwarnings("ignore:mask was read from the image's alpha")
def test_one_mask_however_it_is_written_is_one_mask_at_every_door(form):
    mask = (FORMS | HOLED)[form]
    assert np.array_equal(np.asarray(as_mask(mask)) >= 128, WHITE)
    assert share(mask) == COUNT
    for read in (load_mask, check_mask, threshold):
        assert threshold(read(mask)).tobytes() == MASK.tobytes()
    assert threshold(load_mask(mask, image=PHOTO)).tobytes() == MASK.tobytes()
    assert threshold(invert(mask)).tobytes() == invert(MASK).tobytes()
    for turn in (grow, shrink, blur):
        close = np.abs(np.asarray(turn(mask, 3), int) - np.asarray(turn(MASK, 3), int))
        assert close.max() <= (1 if form == "LAB" else 0)
    assert MaskPainter(PHOTO, mask).mask.tobytes() == MASK.tobytes()
    if form != "LAB":  # whose white is 254
        assert keep_unmasked(PHOTO, OTHER, mask).tobytes() == keep_unmasked(PHOTO, OTHER, MASK).tobytes()
    assert change(PHOTO, OTHER, mask) == change(PHOTO, OTHER, MASK)
    assert seam(PHOTO, mask) == seam(PHOTO, MASK)
    assert torch.equal(inpaint_condition(PHOTO, mask), inpaint_condition(PHOTO, MASK))
    if form not in HOLED and "three" not in form:
        assert threshold(fit(mask, PHOTO)).tobytes() == MASK.tobytes()


@pytest.mark.parametrize("form", HOLED)
def test_a_hole_is_repainted_at_every_door_and_says_so_at_the_readers_line(form):
    for read in (
        share,
        load_mask,
        grow,
        lambda mask: MaskPainter(PHOTO, mask),
        lambda mask: change(PHOTO, OTHER, mask),
    ):
        with pytest.warns(UserWarning, match="read from the image's alpha channel") as caught:
            read(HOLED[form])
        assert [one.filename for one in caught] == [__file__]


def test_alpha_that_is_nearly_full_says_nothing():
    mask = MASK.convert("RGBA")
    mask.putpixel((0, 0), (0, 0, 0, 254))
    assert share(mask) == COUNT


@pytest.mark.parametrize(
    "mask, message",
    [
        (Image.fromarray(WHITE.astype(np.uint8)), "brightest pixel is 1.*multiply its values by 255"),
        (WHITE * 255.0, r"float64 values 0.0..255.0: expected .*floats 0..1.*Pass array / 255"),
        (np.where(WHITE, np.nan, 0), "values nan..nan"),
        (np.where(WHITE, np.inf, 0), "values 0.0..inf"),
        (WHITE * 1000, "int64 values 0..1000"),
        (-WHITE.astype(int), "int64 values -1..0"),
        (np.where(WHITE, 1.0, -0.02), "Pass array.clip"),
        (WHITE.astype(complex), "values of complex128: expected bool"),
        (WHITE.astype(object), "values of object: expected"),
        (WHITE.astype(str), "values of <U5: expected"),
        (np.stack([WHITE] * 2), r"has shape \(2, 48, 64\)"),
        (np.stack([WHITE] * 5)[:, None], "expected one image, got 5"),
        (np.zeros((0, 8)), r"has shape \(0, 8\)"),
        (WHITE[0], r"has shape \(64,\)"),
        (np.broadcast_to(WHITE[:1, :1], (100_000, 100_000)), "100000 x 100000 pixels: at most 64 million"),
    ],
)
def test_what_is_no_mask_is_refused_at_every_door(mask, message):
    doors = (share, load_mask, grow, invert, blur, lambda mask: keep_unmasked(PHOTO, OTHER, mask))
    doors += (lambda mask: MaskPainter(PHOTO, mask), lambda mask: inpaint_condition(PHOTO, mask))
    doors += (lambda mask: change(PHOTO, OTHER, mask), lambda mask: seam(PHOTO, mask))
    for door in doors:
        with pytest.raises(ValueError, match=f"^mask.*{message}"):
            door(mask)


@pytest.mark.parametrize("mask", [np.zeros((48, 64), int), np.zeros((48, 64), np.uint16), torch.zeros(48, 64)])
def test_an_empty_mask_is_empty(mask):
    assert share(mask) == 0 and math.isnan(change(PHOTO, OTHER, mask).inside)
    with pytest.raises(ValueError, match="mask is all black"):
        load_mask(mask)


# Masks that were saved as JPEG, or whose black is not black


@pytest.mark.parametrize("size", [(128, 128), (320, 200)])
@pytest.mark.parametrize("draw", [box_mask, ellipse_mask])
def test_a_black_that_is_not_black_is_told(size, draw):
    mask = draw(size, (20, 20, 60, 60))
    for black in (1, 3, 15):
        dirty = np.maximum(np.asarray(mask), black)
        with pytest.warns(UserWarning, match=r"mask has \d{4,} stray pixels .* padding_mask_crop would crop around"):
            read = load_mask(Image.fromarray(dirty))
        assert threshold(read).tobytes() == mask.tobytes()
    thin = np.maximum(np.asarray(draw(size, (20, 20, 100, 22))), 1)
    with pytest.warns(UserWarning, match="stray pixels"):
        load_mask(thin)


def test_a_jpeg_of_low_quality_is_told_as_far_as_it_spoils_the_crop():
    mask = polygon_mask(256, [(60, 50), (150, 80), (90, 170)])
    told = 0
    for quality in (20, 40, 60):
        read = Image.open(io.BytesIO(saved(mask, "JPEG", quality=quality)))
        spoiled = masks.stray_pixels(read.convert("L")) > 0
        with pytest.warns(UserWarning, match="stray pixel|soft") if spoiled else pytest.MonkeyPatch.context():
            load_mask(read)
        told += spoiled
    assert told or read.convert("L").getbbox() != (0, 0, 256, 256)


# Images


RGB = np.asarray(PHOTO)  # (H, W, 3)


def image_forms():
    first = np.moveaxis(RGB, -1, 0)
    yield "uint8", RGB
    yield "uint8, channels first", first
    yield "uint8, a batch of one", RGB[None]
    yield "uint16", RGB.astype(np.uint16) * np.uint16(257)
    for dtype in (np.int16, np.int32, np.int64, np.uint32):
        yield dtype.__name__, RGB.astype(dtype)
    for dtype in (np.float16, np.float32, np.float64):
        yield dtype.__name__, (RGB / 255).astype(dtype)
    yield "-1..1", RGB / 127.5 - 1
    yield "torch uint8", torch.from_numpy(first.copy())
    yield "torch uint8, channels last", torch.from_numpy(RGB.copy())
    yield "torch, a batch of one", torch.from_numpy(first / 255)[None]
    yield "torch half", torch.from_numpy(first / 255).half()
    yield "torch with a gradient", torch.from_numpy(first / 255).requires_grad_()


IMAGES = dict(image_forms())


@pytest.mark.parametrize("form", IMAGES)
def test_one_image_however_it_is_written_is_one_image_at_every_door(form):
    array = IMAGES[form]
    for read in (load_image, fit, show, sharpness, canny_edges, lambda image: outpaint(image, left=8)[0]):
        wanted, found = read(PHOTO), read(array)
        assert found == wanted if isinstance(wanted, float) else found.tobytes() == wanted.tobytes()
    assert change(PHOTO, array) == change(PHOTO, PHOTO)
    assert keep_unmasked(PHOTO, array, MASK).tobytes() == PHOTO.tobytes()
    assert fit(MASK, array).tobytes() == MASK.tobytes() and box_mask(array, (10, 8, 40, 30)).tobytes() == MASK.tobytes()
    assert MaskPainter(array).image.tobytes() == PHOTO.tobytes()
    assert Compare(array, PHOTO)._pictures[0] == Compare(PHOTO, array)._pictures[0]
    assert torch.equal(inpaint_condition(array, MASK), inpaint_condition(PHOTO, MASK))


def test_where_both_ends_may_be_channels_the_library_decides():
    thin = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    assert np.array_equal(np.asarray(as_images(thin)[0]), thin)
    assert np.array_equal(np.asarray(as_images(torch.from_numpy(thin))[0]), np.moveaxis(thin, 0, -1))


def test_an_alpha_channel_in_an_array_is_read_as_in_a_file():
    array = np.asarray(holed())
    assert alpha_mask(array).tobytes() == MASK.tobytes()
    assert load_image(array).tobytes() == load_image(holed()).tobytes()


def test_a_dark_image_of_integers_stays_dark():
    dark = np.full((16, 16, 3), 1, np.uint8)
    assert load_image(dark).getpixel((0, 0)) == (1, 1, 1)
    assert load_image(dark[..., 0]).getpixel((0, 0)) == (1, 1, 1)
    assert show(WHITE.astype(int)).tobytes() == show(MASK).tobytes()


# Fractions


FRACTIONS = [
    (0.25, 0.25, 0.75, 0.75), (0, 0, 1, 1), (0.0, 0.0, 1.0, 1.0), (0, 0.5, 1, 1), (-0.1, -0.1, 1.1, 1.1),
    (0.9, 0.9, 0.99, 0.99), np.array([0.2, 0.2, 0.6, 0.9]), [np.float32(0.1), 0, 1, np.int64(1)],
]  # fmt: skip


@pytest.mark.parametrize("box", FRACTIONS, ids=str)
@pytest.mark.parametrize("draw", [box_mask, ellipse_mask])
def test_a_box_in_fractions_is_refused_with_its_pixels(draw, box):
    pixels = ", ".join(str(round(float(edge) * side)) for edge, side in zip(box, SIZE * 2, strict=True))
    with pytest.raises(ValueError, match=rf"box=.*not fractions, such as \({pixels}\)"):
        draw(SIZE, box)
    with pytest.raises(ValueError, match=r"look like fractions of the image: give pixels, such as \[\(16, 12\)"):
        polygon_mask(SIZE, [(0.25, 0.25), (0.75, 0.25), (0.5, 1.0)])


def test_pixels_may_be_broken_and_small():
    assert share(box_mask(SIZE, (0.4, 0.4, 10.6, 2.6))) == 11 * 3 / (64 * 48)
    assert box_mask(SIZE, (0, 0, 2, 1)).getbbox() == (0, 0, 2, 1)
    assert box_mask(SIZE, (5, 0, 6, 1)).getbbox() == (5, 0, 6, 1)
    assert share(box_mask(1, (0, 0, 1, 1))) == 1


# Sizes


@pytest.mark.parametrize("size", [100_000, (100_000, 100_000), (8_000_000, 16), np.int64(16_384)])
def test_no_door_makes_an_image_that_would_take_all_memory(size):
    for make in (
        lambda: load_image(PHOTO, size=size), lambda: load_mask(MASK, size=size), lambda: fit(PHOTO, size),
        lambda: box_mask(size, (0, 0, 9, 9)), lambda: ellipse_mask(size, (0, 0, 9, 9)),
        lambda: polygon_mask(size, [(0, 0), (9, 9), (0, 9)]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="million pixels: at most 64 million"):
            make()


def test_numpys_integers_are_whole_numbers_at_every_door():
    eight = np.int64(8)
    assert load_image(PHOTO, size=np.int32(48)).size == (48, 48) and fit(PHOTO, (eight, eight)).size == (8, 8)
    assert grow(MASK, eight).tobytes() == grow(MASK, 8).tobytes()
    assert outpaint(PHOTO, left=eight)[0].size == (72, 48)
    painter = MaskPainter(PHOTO, brush_size=np.int64(16), opacity=np.float32(0.5))
    assert painter.brush_size == 16 and type(painter.brush_size) is int and type(painter.opacity) is float
    painter.brush_size = np.int16(5)
    assert painter.brush_size == 5 and type(painter.brush_size) is int
    assert Compare(PHOTO, OTHER, left=np.int64(1), right=np.uint8(0)).left == 1
    assert share(box_mask((np.int64(64), np.uint16(48)), np.array([10, 8, 40, 30]))) == COUNT
