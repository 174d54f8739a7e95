"""Control images: against the guides' own arithmetic, cv2, the drawn world's depth and transformers' pipeline."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from helpers import box_mask, canny_edges, depth_map, inpaint_condition, load_image, load_mask
from helpers.catalog.checkpoints import CATALOG
from helpers.images import reading
from helpers.pipelines import control_images
from helpers.pipelines.loading import load
from miniature_training.recipes.controls import inpaint_condition as trained_on
from miniature_training.world import gallery
from miniature_training.world.scenes import draw
from tests.support.calls import half_mask, noise
from tests.support.tiny import SIZE, tiny_course  # noqa: F401


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


# ---- inpaint_condition


def test_masked_pixels_are_minus_one_and_the_rest_is_the_image():
    image, mask = load_image("castle"), load_mask("castle")
    made = inpaint_condition(image, mask)
    assert made.shape == (1, 3, image.height, image.width) and made.dtype == torch.float32 and made.is_contiguous()
    plain = np.array(image.convert("RGB")).astype(np.float32) / 255.0  # as the guides do it
    plain[np.array(mask.convert("L")).astype(np.float32) / 255.0 > 0.5] = -1.0
    assert torch.equal(made, torch.from_numpy(np.expand_dims(plain, 0).transpose(0, 3, 1, 2)))
    assert (made == -1).any() and made[made != -1].min() >= 0 and made.max() <= 1
    rgb, white = (torch.from_numpy(np.array(one))[None] for one in (image, mask))
    assert torch.equal(made, trained_on(rgb, white))
    assert torch.equal(inpaint_condition("castle", mask), made)
    assert torch.equal(inpaint_condition(np.asarray(image), np.asarray(mask)), made)


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (noise(1), Image.new("L", (SIZE, SIZE)), "mask is all black"),
        (noise(1, size=36), box_mask(36, (0, 0, 9, 9)), "image=36 x 36: width and height must be multiples of 8"),
        ("castel", half_mask(), "castle"),
    ],
)
def test_what_makes_no_condition_is_refused(image, mask, message):
    with pytest.raises(ValueError, match=message):
        inpaint_condition(image, mask)


# ---- depth_map


@pytest.mark.parametrize("name", gallery.IMAGES)
def test_the_depth_of_the_courses_images_is_the_drawn_one(name, monkeypatch):
    monkeypatch.setattr(control_images, "_estimate", None)
    scene, _ = gallery.IMAGES[name]
    for size in (gallery.SIZE, 128, (160, 96)):
        found = depth_map(load_image(name, size=size))
        assert found.mode == "RGB" and found.size == load_image(name, size=size).size
        grey = pixels(found)
        assert (grey == grey[..., :1]).all() and (grey.min(), grey.max()) == (0, 255)
    drawn = pixels(draw(scene, gallery.SIZE).depth)
    expected = (drawn - drawn.min()) / (drawn.max() - drawn.min()) * 255
    assert np.abs(pixels(depth_map(load_image(name, size=gallery.SIZE)))[..., 0] - expected).max() <= 0.5
    assert depth_map(name).size == load_image(name).size


def test_a_changed_image_is_estimated(tiny_course, monkeypatch):  # noqa: F811
    asked = []
    monkeypatch.setattr(control_images, "_estimate", lambda image: asked.append(image.size) or np.eye(8))
    castle = load_image("castle", size=64)
    depth_map(castle)
    assert asked == []
    changed = castle.copy()
    changed.putpixel((3, 3), (1, 2, 3))
    assert pixels(depth_map(changed)).max() == 255
    depth_map(castle, estimate=True)
    assert asked == [(64, 64)] * 2


@pytest.mark.parametrize("size", [(32, 32), (64, 32), (72, 40)])
def test_the_estimate_is_that_of_the_plain_pipeline(tiny_course, size):  # noqa: F811
    import transformers

    image = noise(1, size=96).resize(size)
    plain = transformers.pipeline("depth-estimation", model=CATALOG["depth-estimator"].source, device="cpu")(image)
    found = depth_map(image)
    assert found.mode == "RGB" and found.size == plain["depth"].size == size
    assert np.abs(pixels(found)[..., 0] - pixels(plain["depth"])).max() <= 1  # it cuts where we round
    assert pixels(found).max() == 255 and pixels(found).min() == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 64), (64, 1), (2, 3), (15, 40), (700, 8)])
def test_an_image_of_any_size_has_a_depth(tiny_course, size):  # noqa: F811
    for image in (Image.new("RGB", size, "grey"), noise(1).resize(size)):
        depth = depth_map(image)
        assert depth.size == size and depth.mode == "RGB" and depth.getextrema()[0][0] == 0
    assert depth_map(np.zeros((1, 1), bool)).tobytes() == bytes(3)


def test_without_an_estimator_it_says_what_to_do(tiny_course):  # noqa: F811
    (tiny_course / "checkpoints.json").write_text("{}")
    assert not [name for name in reading.course_images() if "depth" in name]
    with pytest.raises(FileNotFoundError, match="does not ship the miniature 'depth-estimator' yet. Train it"):
        depth_map(noise(1))


# ---- canny_edges


@pytest.mark.parametrize("size", [(128, 128), (72, 40), (100, 97)])
def test_edges_are_those_of_opencv_in_the_images_size(size):
    image = load_image("castle").resize(size)
    found = canny_edges(image)
    assert found.mode == "RGB" and found.size == size
    expected = cv2.Canny(np.asarray(image), 100, 200)
    grey = pixels(found)
    assert (grey == grey[..., :1]).all() and set(np.unique(grey)) == {0, 255}
    assert pixels(canny_edges(image, low_threshold=300, high_threshold=600)).mean() < grey.mean()
    assert (grey[1:-1, 1:-1, 0] == expected[1:-1, 1:-1]).mean() > 0.998  # but for what the frame's end continues


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"high_threshold": "200"}, "high_threshold='200': expected a number"),
        ({"low_threshold": 250}, "low_threshold=250 is above high_threshold=200: swap them"),
    ],
)
def test_thresholds_that_cannot_be_are_refused(more, message):
    with pytest.raises((TypeError, ValueError), match=message):
        canny_edges("castle", **more)


# ---- Where it goes


@pytest.mark.parametrize(
    ("name", "task", "net", "argument"),
    [
        ("sd15", "text2image", "controlnet-depth", "image"),
        ("sd15", "image2image", "controlnet-depth", "control_image"),
        ("sd15", "inpaint", "controlnet-inpaint", "control_image"),
        ("sd15-inpaint", "inpaint", "controlnet-inpaint", "control_image"),
        ("sd15", "inpaint", None, None),
    ],
)
def test_the_pipeline_says_which_argument_takes_it_and_the_control_steers(tiny_course, name, task, net, argument):  # noqa: F811
    pipe = load(name, task=task, controlnet=net)
    assert control_images.control_argument(pipe) == argument
    if net is None:
        return
    pipe.set_progress_bar_config(disable=True)
    image, mask = noise(1), half_mask()
    controls = [inpaint_condition(image, one) for one in (mask, mask.rotate(90))]
    if net == "controlnet-depth":
        controls = [depth_map(one) for one in (image, noise(2))]
    call = {"image": image} if task != "text2image" else {}
    call |= {"mask_image": mask} if task == "inpaint" else {}
    made = [
        pipe("a cat", **call | {argument: control}, num_inference_steps=2, controlnet_conditioning_scale=scale,
             generator=torch.Generator().manual_seed(0)).images[0]
        for control, scale in ((controls[0], 1.0), (controls[1], 1.0), (controls[0], 0.0), (controls[1], 0.0))
    ]  # fmt: skip
    assert all(one.size == image.size for one in made)
    assert made[0].tobytes() != made[1].tobytes() and made[2].tobytes() == made[3].tobytes()
