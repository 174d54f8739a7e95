"""Images and masks reach a pipeline as they were meant, in whatever form; what cannot is told before a model runs."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.generation import input_images
from helpers.generation.records import Record, make
from helpers.generation.sweeps import sweep
from helpers.images.masks import blur, box_mask
from helpers.images.reading import load_image
from helpers.pipelines.control_images import inpaint_condition
from tests.support.calls import arguments, half_mask, noise, same
from tests.support.profiles import ADOBE_RGB, rgb_profile
from tests.support.tiny import SIZE, inpaint_pipeline, quiet, tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")

PHOTO, MASK = noise(1), half_mask()
RGB, WHITE = np.asarray(PHOTO), np.asarray(MASK) > 0
FIRST = np.moveaxis(RGB, -1, 0).copy()


def coloured(image):
    image = image.copy()
    image.info["icc_profile"] = rgb_profile(ADOBE_RGB)
    return image


def lying(image):
    tags = Image.Exif()
    tags[0x0112] = 6
    turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.info["exif"] = tags.tobytes()
    return turned


SAME_IMAGE = {
    "uint8": RGB, "uint8, first": FIRST, "a batch of one": RGB[None], "int64": RGB.astype(int),
    "uint16": RGB.astype(np.uint16) * np.uint16(257), "torch uint8": torch.from_numpy(FIRST),
    "torch uint8, last": torch.from_numpy(RGB.copy())[None], "floats": np.float32(RGB / 255),
    "floats, first": np.float32(FIRST / 255), "floats, a batch": np.float32(RGB / 255)[None],
    "torch floats": torch.from_numpy(FIRST / 255).float(), "torch floats, last": torch.from_numpy(RGB / 255).float(),
    "with a gradient": torch.from_numpy(FIRST / 255).float().requires_grad_(), "-1..1": np.float32(RGB / 127.5 - 1),
    "RGBA": PHOTO.convert("RGBA"), "lying": lying(PHOTO), "a list": [PHOTO],
}  # fmt: skip
SAME_MASK = {
    "bool": WHITE, "0..1": WHITE.astype(int), "uint8": WHITE * np.uint8(255), "floats": WHITE.astype(float),
    "float16": WHITE.astype(np.float16), "torch bool": torch.from_numpy(WHITE), "(1, H, W)": WHITE[None],
    "(1, 1, H, W)": torch.from_numpy(WHITE).float()[None, None], "bfloat16": torch.from_numpy(WHITE).bfloat16(),
    "1": MASK.convert("1"), "RGB": MASK.convert("RGB"), "P": MASK.convert("P"), "LA": MASK.convert("LA"),
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(inpaint_once):
    return make(inpaint_once, seed=1, **arguments(inpaint_once, "inpaint"))


@pytest.fixture(scope="module")
def inpaint_once():
    return quiet("sd15-inpaint")


@pytest.mark.parametrize("form", SAME_IMAGE)
def test_one_image_in_any_form_makes_one_result(inpaint_once, plain, form) -> None:
    record = make(inpaint_once, seed=1, **arguments(inpaint_once, "inpaint", image=SAME_IMAGE[form]))
    if "float" in form or "gradient" in form or "1..1" in form:  # not rounded to 8 bits, but by the arithmetic
        assert np.abs(np.asarray(record.image, int) - np.asarray(plain.image, int)).max() <= 1
    else:
        assert same(record, plain)


@pytest.mark.parametrize("form", SAME_MASK)
def test_one_mask_in_any_form_makes_one_result(inpaint_once, plain, form) -> None:
    call = arguments(inpaint_once, "inpaint", mask_image=SAME_MASK[form])
    record = make(inpaint_once, seed=1, **call)
    assert same(record, plain) and record.parameters["mask_image"].mode == "L"
    (swept,) = sweep(inpaint_once, over={"seed": [1]}, progress=False, **call)
    assert same(swept, plain)


def test_colours_of_a_profile_reach_the_pipeline(inpaint_once) -> None:
    call = arguments(inpaint_once, "inpaint")
    wanted = make(inpaint_once, seed=1, **call | {"image": load_image(coloured(PHOTO))})
    assert same(make(inpaint_once, seed=1, **call | {"image": coloured(PHOTO)}), wanted)
    assert not same(make(inpaint_once, seed=1, **call), wanted)


def test_a_record_of_any_form_comes_back_and_is_repeated(inpaint_once, tmp_path) -> None:
    for image, mask in ((RGB, WHITE), (coloured(PHOTO), WHITE.astype(int)), (torch.from_numpy(FIRST / 255), MASK)):
        record = make(inpaint_once, seed=1, **arguments(inpaint_once, "inpaint", image=image, mask_image=mask))
        again = Record.load(record.save(tmp_path / "a.png"))
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            assert same(again.repeat(inpaint_once), record)


def test_floats_and_latents_are_passed_on_as_they_are() -> None:
    for value in (torch.rand(1, 3, 8, 8), np.random.default_rng(0).random((8, 8, 3)), torch.randn(1, 4, 4, 4),
                  torch.randn(1, 9, 8, 8), inpaint_condition(PHOTO, MASK)):  # fmt: skip
        assert input_images.check_value("image", value) is value


def test_a_soft_mask_stays_soft(inpaint_once) -> None:
    soft = blur(MASK, 4)
    record = make(inpaint_once, seed=1, keep_unmasked=True, **arguments(inpaint_once, "inpaint", mask_image=soft))
    assert record.parameters["mask_image"].tobytes() == soft.tobytes()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"height": 100_000, "width": 100_000}, "million pixels: at most 64 million"),
        ({"height": np.int64(64_000), "width": 64_000}, "million pixels"),
        ({"height": True}, "height=True"), ({"width": 64.0}, "width=64.0"), ({"height": -8}, "height=-8"),
        ({"width": "64"}, "width='64'"), ({"height": 0}, "height=0"),
        ({"image": RGB * 1.0}, "image has float64 values .*Pass array / 255"),
        ({"image": np.where(WHITE, np.nan, 0.0)}, "image has float64 values nan"),
        ({"image": torch.rand(2, 3, SIZE, SIZE)}, "is 2 images: a record is one"),
        ({"image": 3}, "image: expected a PIL image"), ({"mask_image": 3}, "mask: expected a PIL image"),
        ({"mask_image": WHITE * 255.0}, "mask has float64 values"),
        ({"mask_image": np.full((SIZE, SIZE), np.nan)}, "mask has float64 values nan"),
        ({"mask_image": MASK.resize((64, 64)), "padding_mask_crop": 2}, "mask_image is 64 x 64 pixels, image 32 x 32"),
        ({"mask_image": Image.new("L", MASK.size), "padding_mask_crop": 2}, "mask_image has no white in it"),
        ({"image": torch.rand(1, 3, SIZE, SIZE), "padding_mask_crop": 2}, "PIL images alone, and image is Tensor"),
    ],
)  # fmt: skip
def test_wrong_images_and_sizes_are_refused_before_the_model_runs(inpaint_once, monkeypatch, wrong, message) -> None:
    monkeypatch.setattr(inpaint_once.unet, "forward", lambda *_, **__: pytest.fail("the model ran"))
    call = arguments(inpaint_once, "inpaint") | wrong
    for run in (lambda: make(inpaint_once, seed=1, **call), lambda: sweep(inpaint_once, over={"seed": [1, 2]}, **call)):
        with pytest.raises((TypeError, ValueError), match=message):
            run()


@pytest.mark.parametrize("value", [np.int64(2), np.uint8(2), np.int32(2)])
def test_numpys_integers_are_whole_numbers(inpaint_once, value) -> None:
    call = arguments(inpaint_once, "inpaint")
    wanted = make(inpaint_once, seed=1, padding_mask_crop=2, **call)
    more = {"height": np.int64(SIZE), "width": np.int32(SIZE), "num_inference_steps": value, "padding_mask_crop": value}
    assert same(make(inpaint_once, seed=np.int64(1), **call | more), wanted)
    (swept,) = sweep(inpaint_once, over={"padding_mask_crop": np.array([2])}, progress=False, **call | {"seed": 1})
    assert same(swept, wanted)


def test_numpys_values_of_compositing_are_saved(inpaint_once, tmp_path) -> None:
    for blur_factor in (np.int64(3), np.float32(3), np.float64(3)):
        more = {"blur_factor": blur_factor, "keep_unmasked": np.True_}
        record = make(inpaint_once, seed=1, **arguments(inpaint_once, "inpaint", **more))
        again = Record.load(record.save(tmp_path / "a.png"))
        assert again.parameters["blur_factor"] == 3 and again.parameters["keep_unmasked"] is True


def test_a_crop_around_what_is_not_black_is_told(inpaint_once) -> None:
    mask = box_mask(SIZE, (2, 2, 10, 10))
    call = arguments(inpaint_once, "inpaint", padding_mask_crop=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        make(inpaint_once, seed=1, **call | {"mask_image": mask})
    for black in (1, 3):
        dirty = np.maximum(np.asarray(mask), black)
        with pytest.warns(UserWarning, match=r"crops around all that is not black, .* \d+ such pixels") as caught:
            make(inpaint_once, seed=1, **call | {"mask_image": dirty})
        assert __file__ in [one.filename for one in caught]
