"""Every kind of picture is converted as documented or refused with a message that helps."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image, ImageFile

from helpers.catalog import editions
from helpers.catalog.checkpoints import CATALOG
from helpers.common import paths
from helpers.images import reading
from helpers.images.contact_sheet import GAP, MARGIN, SMALLEST, show
from helpers.images.loading import check_mask, load_image, load_mask
from helpers.images.masks import box_mask, share


def scene(width=48, height=32):
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 5, y * 7, (x + y) * 3], axis=-1).astype(np.uint8))


def saved(picture, format="PNG", **options):
    file = io.BytesIO()
    picture.save(file, format=format, **options)
    return file.getvalue()


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A folder of course pictures with one castle, 64 x 64, and its mask."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    scene(64, 64).save(folder / "castle.png")
    box_mask(64, (16, 16, 48, 48)).save(folder / "castle_mask.png")
    scene(64, 64).save(folder / "seashore.png")
    monkeypatch.setattr(reading, "PICTURES", folder)
    monkeypatch.chdir(tmp_path)
    return folder


# What is read


@pytest.mark.parametrize("format, options", [("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 95})])
def test_reads_paths_strings_bytes_and_pil_alike(tmp_path, format, options):
    path = tmp_path / f"scene.{format.lower()}"
    path.write_bytes(saved(scene(), format, **options))
    pictures = [load_image(what) for what in (path, str(path), path.read_bytes(), Image.open(path))]
    for picture in pictures:
        assert picture.mode == "RGB" and picture.size == (48, 32)
        assert picture.tobytes() == pictures[0].tobytes()
    assert np.abs(np.asarray(pictures[0], int) - np.asarray(scene(), int)).mean() < (8 if format == "JPEG" else 1e-9)


def test_reads_course_names(course):
    assert reading.course_pictures() == ["castle", "seashore"]
    assert load_image("castle", size=64).tobytes() == scene(64, 64).tobytes()
    assert load_mask("castle", size=64).getbbox() == load_mask("castle_mask", size=64).getbbox() == (16, 16, 48, 48)


@pytest.mark.parametrize("edition, side", [("mini", 128), ("full", 512)])
def test_course_pictures_come_in_the_editions_size(course, monkeypatch, edition, side):
    monkeypatch.setattr(editions, "_chosen", edition)
    monkeypatch.setattr(paths, "MINIATURES", course)  # no recipe there: the catalogue's own sizes
    assert load_image("castle").size == (side, side) == (CATALOG["sd15"].size,) * 2
    expected = scene(64, 64).resize((side, side), Image.Resampling.LANCZOS)
    assert load_image("castle").tobytes() == expected.tobytes()
    for name in ("castle", "castle_mask"):
        mask = silent(name, image="castle")
        assert mask.size == (side, side) and set(mask.tobytes()) == {0, 255}
        assert share(mask) == pytest.approx(1 / 4, rel=0.05)
    assert silent("castle", image="castle", size=32).size == (32, 32)
    with pytest.raises(ValueError, match=f"mask is 32 x 32 pixels, the image {side} x {side}"):
        load_mask("castle", image=load_image("castle"), size=32)


def test_what_is_not_named_keeps_its_own_size(course):
    path = course / "castle.png"
    for what in (path, str(path), path.read_bytes(), Image.open(path)):
        assert load_image(what).size == (64, 64)
        assert load_mask(box_mask(64, (8, 8, 24, 24)), image=what).size == (64, 64)


def test_a_loaded_picture_is_a_copy():
    original = scene()
    load_image(original).putpixel((0, 0), (255, 255, 255))
    assert original.tobytes() == scene().tobytes()


def test_size_resizes_and_keeps_a_hard_mask_hard(course):
    assert load_image("castle", size=128).size == (128, 128)
    assert load_image("castle", size=(32, 48)).size == (32, 48)
    mask = load_mask("castle", size=40)
    assert mask.size == (40, 40) and set(mask.tobytes()) == {0, 255}
    assert mask.getbbox() == (10, 10, 30, 30)


def test_size_must_suit_a_pipeline(course):
    for load in (load_image, load_mask):
        with pytest.raises(ValueError, match="size=100 x 100.*multiples of 8.*96 x 96"):
            load("castle", size=100)


# What is converted


def test_transparency_is_laid_on_white():
    rgba = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    rgba.putpixel((1, 1), (10, 20, 30, 255))
    rgba.putpixel((2, 2), (0, 0, 0, 51))
    for picture in (rgba, saved(rgba)):
        rgb = load_image(picture)
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
    mask = load_mask(Image.fromarray(np.pad(np.full((8, 8), 65535, np.uint16), 8)))
    assert set(mask.tobytes()) == {0, 255} and mask.getbbox() == (8, 8, 16, 16)


def test_float_pictures_are_refused():
    with pytest.raises(ValueError, match="float pixels.*0..255"):
        load_image(Image.new("F", (8, 8)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    data = saved(scene(48, 32), exif=tags)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    upright = scene(48, 32) if orientation == 1 else scene(48, 32).transpose(undo[orientation])
    assert load_image(data).tobytes() == upright.tobytes()
    assert load_image(data).size == ((32, 48) if orientation > 4 else (48, 32))
    assert "exif" not in load_image(data).info


def test_broken_exif_does_not_spoil_a_picture():
    assert load_image(saved(scene(), exif=b"Exif\0\0nonsense")).tobytes() == scene().tobytes()


def test_a_phones_two_picture_jpeg_gives_the_first(tmp_path):
    path = tmp_path / "phone.jpg"
    scene().save(path, format="MPO", save_all=True, append_images=[Image.new("RGB", (48, 32), "red")], quality=95)
    assert Image.open(path).n_frames == 2
    assert np.abs(np.asarray(load_image(path), int) - np.asarray(scene(), int)).mean() < 8


# What is refused


def refused(message, what, load=load_image):
    with pytest.raises(ValueError, match=message):
        load(what)


def test_not_a_picture(tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("not a picture at all")
    refused(r"image='.*notes.png' is not a picture that can be read: expected PNG, JPEG or WebP", path)
    refused("mask='.*notes.png' is not a picture", path, load_mask)
    refused("is empty", b"")
    refused("is a web page", b"<!DOCTYPE html><html></html>")
    refused("is a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0")
    refused("is a BMP.*Save it as PNG", saved(scene(), "BMP"))
    refused("is a TIFF", saved(scene(), "TIFF"))


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
            assert any(word in str(error) for word in ("broken or cut off", "not a picture"))
    assert refusals > 0.8 * len(range(1, len(data), 7))
    refused("broken or cut off", data[: len(data) * 3 // 4])


def test_a_lazily_opened_truncated_picture_is_refused():
    refused("broken or cut off", Image.open(io.BytesIO(saved(scene())[:-60])))


def test_truncation_is_refused_even_where_pillow_was_told_to_tolerate_it(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = saved(scene(400, 400), "JPEG", quality=95)
    cut = data[: len(data) * 3 // 4]
    Image.open(io.BytesIO(cut)).load()
    refused(r"broken or cut off \(", cut)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_huge_pictures(monkeypatch):
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
    refused("is a GIF, animated or not: expected PNG", saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    for format in ("PNG", "WEBP"):
        data = saved(frames[0], format, save_all=True, append_images=frames[1:])
        refused(r"is animated \(2 frames\): save one frame as PNG", data)
        refused(r"is animated \(2 frames\)", Image.open(io.BytesIO(data)))


def test_urls_are_not_fetched():
    for url in ("https://example.com/cat.png", "http://example.com", "file:///tmp/cat.png", "data:image/png;base64,AA"):
        refused("is a URL: pictures are not fetched from the web. Download the file yourself", url)


def test_unknown_names(course):
    refused("image='castel' is no picture of the course, and no such file is here. Did you mean 'castle'?", "castel")
    refused("Known: castle, seashore", "zzzzzz")
    refused("mask='castel'.*Did you mean 'castle'", "castel", load_mask)
    refused("image='castle_msk.png': no such file", "castle_msk.png")
    refused("no such file.*Did you mean 'castle.png'", "pictures/castel.png")
    refused("no such file", "nowhere/castle.png")
    refused("is a folder: pass the path of one picture", course)
    refused("no picture of the course|no such file", "x" * 5000)
    refused("mask='seashore_mask' is no picture of the course", "seashore", load_mask)  # it has no mask


@pytest.mark.parametrize(
    "what, message",
    [
        (None, "expected a course name, a path, bytes or a PIL picture, got None"),
        (np.zeros((8, 8, 3), np.uint8), "got numpy.ndarray. If it is an array, pass Image.fromarray"),
        (io.BytesIO(), r"got _io.BytesIO. Pass image.read\(\)"),
        (3, "got int"),
    ],
)
def test_other_types(what, message):
    with pytest.raises(TypeError, match=f"^image: .*{message}"):
        load_image(what)


# Masks


def warned(message, *args, **kwargs):
    with pytest.warns(UserWarning, match=message) as caught:
        mask = load_mask(*args, **kwargs)
    assert len(caught) == 1 and caught[0].filename == __file__  # one message, at the reader's own line
    return mask


def silent(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_mask(*args, **kwargs)


def test_a_good_mask_says_nothing(course):
    assert silent("castle", image="castle").mode == "L"
    assert silent("castle", image=load_image("castle", size=128), size=128).size == (128, 128)
    mask = box_mask(128, (30, 40, 90, 95))
    silent(saved(mask, "JPEG", quality=75))
    silent(mask.resize((96, 96), Image.Resampling.BILINEAR))  # a smoothed edge is no soft mask


def test_mask_of_another_size():
    mask = box_mask((48, 40), (8, 8, 24, 24))
    for image in (scene(), saved(scene())):
        with pytest.raises(ValueError, match=r"mask is 48 x 40 pixels, the image 48 x 32.*fit\(mask, image\)"):
            load_mask(mask, image=image)
    with pytest.raises(ValueError, match="mask is 48 x 40"):
        check_mask(mask, scene())


def test_all_black_mask():
    refused("mask is all black, so nothing would be repainted: paint white", Image.new("L", (16, 16)), load_mask)
    refused(r"never reaches 128 \(its brightest pixel is 90\)", Image.new("L", (16, 16), 90), load_mask)
    refused("brightest pixel is 1.*multiply its values by 255", Image.new("L", (16, 16), 1), load_mask)


def test_all_white_mask():
    warned("mask is all white: the whole picture will be repainted", Image.new("L", (16, 16), 255))


def test_wrong_polarity_is_suspected_with_the_share():
    mask = box_mask(20, (0, 0, 20, 15))
    warned(r"mask is 75% white, and white means repaint.*invert\(mask\)", mask)
    silent(box_mask(20, (0, 0, 20, 12)))


def test_soft_mask_stays_soft():
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


def test_mask_in_the_transparency():
    holed = scene(64, 64).convert("RGBA")
    holed.paste((0, 0, 0, 0), (10, 10, 30, 30))
    mask = warned("read from the picture's transparency: what is transparent is repainted", holed)
    assert mask.getbbox() == (10, 10, 30, 30) and set(mask.tobytes()) == {0, 255}
    strokes = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    strokes.paste((255, 255, 255, 255), (10, 10, 30, 30))
    assert silent(strokes).getbbox() == (10, 10, 30, 30)
    opaque = box_mask(64, (10, 10, 30, 30)).convert("RGBA")
    assert silent(opaque).getbbox() == (10, 10, 30, 30)


def test_palette_and_colour_masks_are_read_as_grey():
    mask = box_mask(64, (10, 10, 30, 30))
    for other in (mask.convert("1"), mask.convert("RGB"), mask.convert("RGB").quantize(2), mask.convert("LA")):
        assert silent(saved(other)).tobytes() == mask.tobytes()


# Sheets


def test_show_lays_out_rows_and_keeps_the_pixels():
    sheet = show([scene(256, 256), scene(256, 256)], Image.new("L", (300, 256), 7), columns=2)
    assert sheet.mode == "RGB"
    assert sheet.size == (2 * MARGIN + 300 + GAP + 256, 2 * MARGIN + 2 * 256 + GAP)
    assert sheet.getpixel((0, 0)) == (255, 255, 255)
    assert sheet.crop((MARGIN + 22, MARGIN, MARGIN + 278, MARGIN + 256)).tobytes() == scene(256, 256).tobytes()
    assert sheet.getpixel((MARGIN + 5, MARGIN + 256 + GAP + 5)) == (7, 7, 7)


def test_show_enlarges_small_pictures_and_keeps_masks_hard():
    sheet = show(box_mask(128, (32, 32, 64, 64)), scene(64, 32), scene(1024, 512))
    assert sheet.size == (2 * MARGIN + 2 * GAP + 2 * SMALLEST + 512, 2 * MARGIN + 256)
    mask = np.asarray(sheet)[MARGIN : MARGIN + 256, MARGIN : MARGIN + 256]
    assert set(np.unique(mask)) == {0, 255}
    assert (mask == 255).mean() == pytest.approx(1 / 16)


def test_show_puts_titles_under_the_pictures():
    plain, titled = show(scene(256, 64)), show(scene(256, 64), titles="a black cat")
    assert titled.width == plain.width and titled.height > plain.height
    assert titled.crop((0, 0, *plain.size)).tobytes()[:3000] == plain.tobytes()[:3000]
    under = np.asarray(titled.convert("L"))[MARGIN + 64 + 2 :]
    columns = np.nonzero(under.min(axis=0) < 120)[0]
    assert abs((columns[0] + columns[-1]) / 2 - titled.width / 2) < 3  # centred
    wrapped = show(scene(256, 64), titles=["a black cat with glowing eyes, cute, adorable, disney, pixar " + "x" * 80])
    assert wrapped.height > titled.height and wrapped.width == titled.width


def test_show_reads_arrays_and_outputs():
    import torch

    pixels = np.array(scene(256, 256))
    expected = show(scene(256, 256)).tobytes()
    floats = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    for same in (pixels, floats, floats[None], floats * 2 - 1, floats.numpy(), floats.double()):
        assert show(same).tobytes() == expected
    output = type("Output", (), {"images": [scene(256, 256)]})()
    assert show(output).tobytes() == expected
    assert show(np.ones((2, 8, 8), bool)[0]).getpixel((MARGIN, MARGIN)) == (255, 255, 255)
    assert show(torch.rand(3, 3, 8, 8).bfloat16()).width == 2 * MARGIN + 3 * 256 + 2 * GAP


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: show(), ValueError, "nothing to show"),
        (lambda: show(scene(), titles=["a", "b"]), ValueError, "titles has 2 texts for 1 pictures"),
        (lambda: show(scene(), columns=0), ValueError, "columns=0"),
        (lambda: show("castle"), TypeError, "got str; open it with load_image first"),
        (lambda: show(None), TypeError, "got None"),
        (lambda: show(np.zeros((4, 16, 16), np.float32)), ValueError, "looks like latents"),
        (lambda: show(np.full((8, 8, 3), np.nan)), ValueError, "values nan"),
        (lambda: show(np.full((8, 8, 3), 3.0)), ValueError, "float64 values 3.0..3.0"),
        (lambda: show(np.zeros((8, 8, 2))), ValueError, r"shape \(8, 8, 2\)"),
        (lambda: show(np.zeros(8)), ValueError, r"shape \(8,\)"),
    ],
)
def test_show_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()


# The course's own pictures


def test_every_picture_of_the_course_has_a_good_mask():
    names = reading.course_pictures()
    assert {"castle", "seashore", "road", "bench", "jungle"} <= set(names)
    for name in names:
        image = load_image(name)
        assert image.mode == "RGB" and image.size == (CATALOG["sd15"].size,) * 2
        mask = silent(name, image=image)
        assert set(mask.tobytes()) == {0, 255}
