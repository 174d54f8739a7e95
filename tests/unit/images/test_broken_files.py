"""What cannot be read is refused with its own cause; what is sound is read, however much stands beside the pixels."""

import io
import struct
import zlib

import pytest
from PIL import Image, PngImagePlugin

from helpers.analysis.image_metrics import sharpness
from helpers.common import png
from helpers.images.contact_sheet import show
from helpers.images.masks import box_mask, fit, grow, load_mask, share
from helpers.images.reading import load_image
from tests.support.images import saved, scene

MIB = 2**20


def with_text(length, *, zip, count=1, key="parameters", itxt=True):
    info = PngImagePlugin.PngInfo()
    for place in range(count):
        (info.add_itxt if itxt else info.add_text)(f"{key}{place}", "x" * length, zip=zip)
    return info


@pytest.mark.parametrize("length, count", [(2 * MIB, 1), (MIB - 9, 80)])
@pytest.mark.parametrize("itxt", [True, False])
@pytest.mark.parametrize("zip", [True, False])
def test_a_png_with_megabytes_of_text_is_read(length, count, itxt, zip):
    if not zip and length * count > 64 * MIB:
        count = 1
    data = saved(scene(), pnginfo=with_text(length, zip=zip, count=count, itxt=itxt))
    assert load_image(data).tobytes() == scene().tobytes()
    mask = box_mask(48, (4, 4, 20, 20))
    assert load_mask(saved(mask, pnginfo=with_text(length, zip=zip, itxt=itxt))).tobytes() == mask.tobytes()


def test_text_behind_the_pixels_is_no_matter():
    data = saved(scene())
    content = b"key\0\0" + zlib.compress(b"x" * 3 * MIB)
    chunk = struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))
    assert load_image(data[:-12] + chunk + data[-12:]).tobytes() == scene().tobytes()
    damaged = b"key\0\0" + b"no zlib at all"
    chunk = struct.pack(">I", len(damaged)) + b"zTXt" + damaged + bytes(4)
    assert load_image(data[:-12] + chunk + data[-12:]).tobytes() == scene().tobytes()


def test_texts_are_found_by_their_key_in_every_kind_of_chunk():
    for itxt in (True, False):
        for zip in (True, False):
            data = saved(scene(), pnginfo=with_text(3 * MIB, zip=zip, itxt=itxt))
            assert png.texts(data, most=4 * MIB) == {"parameters0": "x" * 3 * MIB}
            assert png.texts(data, most=2 * MIB) == {}


def refused(data, *words):
    with pytest.raises(ValueError) as caught:
        load_image(data)
    assert all(word in str(caught.value) for word in words), caught.value


def test_every_cause_has_its_own_message():
    data = saved(scene())
    refused(data[:-40], "broken or cut off (the file ends inside its IDAT chunk)")
    refused(data[:33], "broken or cut off (the file has no end)")
    refused(data[:8] + data[8:20].replace(b"\0\0\0\x30", b"\0\0\1\x30") + data[20:], "checksum of its IHDR chunk")
    at = data.index(b"IDAT") + 20
    refused(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :], "checksum of its IDAT chunk is wrong")
    refused(saved(scene(), "JPEG")[:-80], "its end is missing")
    jpeg = saved(scene(), "JPEG")
    at = jpeg.index(b"\xff\xc0")
    refused(jpeg[: at + 4] + b"\x0c" + jpeg[at + 5 :], "a JPEG of 12 bits, which cannot be read", "save it as")
    refused(jpeg[: at + 1] + b"\xc3" + jpeg[at + 2 :], "a JPEG without loss, which cannot be read")


@pytest.mark.parametrize(
    "start, kind",
    [
        (b"GIF89a", "a GIF"), (b"BM\x36\0", "a BMP"), (b"II*\0", "a TIFF"), (b"MM\0*", "a TIFF"),
        (b"%PDF-1.7", "a PDF"),
        (b"\0\0\0\x18ftypheic", "HEIC"), (b"\0\0\0\x18ftypavif", "AVIF"), (b"\0\0\0\x0cJXL \r\n", "JPEG XL"),
        (b"8BPS\0\1", "PSD"), (b"PK\x03\x04", "ZIP"), (b"<!DOCTYPE html>", "a web page"), (b"\n <html>", "a web page"),
        (b"<svg xmlns", "SVG"), (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "a sound or video"), (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"),
    ],
)  # fmt: skip
def test_other_kinds_of_files_are_named(start, kind):
    refused(start + bytes(200), "is not an image that can be read: expected PNG, JPEG or WebP, got", kind)


def test_too_little_memory_is_not_called_a_broken_file(monkeypatch):
    def fails(*_):
        raise MemoryError

    image = Image.open(io.BytesIO(saved(scene())))
    monkeypatch.setattr(type(image), "load", fails)
    with pytest.raises(MemoryError):
        load_image(saved(scene()))


@pytest.mark.parametrize(
    "door", [load_image, load_mask, show, share, fit, sharpness, grow], ids=lambda door: door.__name__
)
def test_an_opened_file_that_is_broken_is_refused_at_every_door(door):
    for data in (saved(scene())[:-40], saved(scene(), "JPEG")[:-80]):
        with pytest.raises(ValueError, match="broken or cut off"):
            door(Image.open(io.BytesIO(data)))
    animated = saved(scene(), save_all=True, append_images=[scene().transpose(Image.Transpose.ROTATE_180)])
    with pytest.raises(ValueError, match="is animated"):
        door(Image.open(io.BytesIO(animated)))


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, lambda data: memoryview(data)[::1]])
def test_bytes_of_every_kind(wrap):
    assert load_image(wrap(saved(scene()))).tobytes() == scene().tobytes()
    assert load_mask(wrap(saved(box_mask(48, (4, 4, 20, 20))))).getbbox() == (4, 4, 20, 20)
    with pytest.raises(TypeError, match="open it with load_image first"):
        share(wrap(saved(scene())))
