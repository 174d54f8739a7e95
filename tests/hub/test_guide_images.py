"""In the full edition a course name means the guide's image; where that is unavailable, the drawn one, said once."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants
from PIL import Image

from helpers import depth_map, load_image, load_mask
from helpers.catalog import editions, revisions
from helpers.common.png import png_bytes
from helpers.hub import guide_images
from helpers.images.reading import course_images, open_image

DRAWN = Path(__file__).resolve().parents[2] / "data" / "pictures"


def png(colour: str) -> bytes:
    return png_bytes(Image.new("RGB", (512, 512), colour))


@pytest.fixture
def guides(desk):
    """The Hub with images that are not the drawn ones: all red, and masks with a white left half."""
    mask = Image.new("L", (512, 512))
    mask.paste(255, (0, 0, 256, 512))
    for repo, picture, masked in guide_images.GUIDES.values():
        desk.push(repo.removeprefix("datasets/"), {picture: png("red"), masked: png_bytes(mask)}, kind="datasets")
    return desk


def is_drawn(name: str) -> bool:
    return open_image(name).tobytes() == Image.open(DRAWN / f"{name}.png").tobytes()


@pytest.mark.parametrize("name", guide_images.GUIDES)
def test_a_course_name_means_the_guides_image_and_mask(guides, name):
    image, mask = load_image(name), load_mask(name, image=name)
    assert image.size == mask.size == (512, 512)
    assert image.getpixel((9, 9)) == (255, 0, 0) and mask.getbbox() == (0, 0, 256, 512)


def test_the_mini_edition_and_other_names_ask_nothing(guides, monkeypatch):
    assert all(is_drawn(name) for name in course_images() if name not in guide_images.GUIDES)
    monkeypatch.setattr(editions, "_chosen", "mini")
    assert is_drawn("castle") and is_drawn("castle_mask")
    assert guides.requests == []


def test_the_depth_of_a_drawn_image_needs_no_estimator(desk):
    assert depth_map(load_image("jungle", size=64)).size == (64, 64) and desk.requests == []


def test_an_image_is_fetched_once_and_needs_no_network_afterwards(guides, no_network, caplog):
    load_image("castle")
    assert sorted(guides.fetched()) == ["diffusers/inpaint.png", "diffusers/inpaint_mask.png"]
    guides.requests.clear()
    load_mask("castle", image="castle")
    no_network()
    assert load_image("castle").getpixel((9, 9)) == (255, 0, 0)
    assert guides.requests == [] and caplog.text == ""


def test_without_a_network_the_drawn_ones_stand_in_and_it_is_said_once(guides, no_network, caplog):
    no_network()
    assert (
        is_drawn("castle") and is_drawn("castle_mask") and is_drawn("road") and load_image("castle").size == (512,) * 2
    )
    [said] = [record.getMessage() for record in caplog.records if record.name.startswith("helpers")]
    assert "Using the course's drawn images" in said and "cannot be reached" in said
    assert "course download pictures" in said


def test_offline_the_drawn_ones_stand_in(guides, monkeypatch, caplog):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert is_drawn("castle") and is_drawn("seashore")
    assert "HF_HUB_OFFLINE=1 is set. Unset it, then: course download pictures" in caplog.text
    assert guides.requests == []


@pytest.mark.parametrize("gone", ["diffusers/inpaint.png", "diffusers/inpaint_mask.png"])
def test_a_pair_is_never_half_drawn(guides, gone, caplog):
    guides.push("huggingface/documentation-images", {gone: None}, kind="datasets")
    assert is_drawn("castle") and is_drawn("castle_mask")
    assert "has lost a file" in caplog.text
    assert not is_drawn("seashore")  # another data set


@pytest.mark.parametrize("kind", ["gone", "broken", "busy", "altered", "short"])
def test_whatever_the_hub_does_there_is_an_image(guides, kind, caplog):
    guides.misbehave(kind, repo="huggingface/documentation-images")
    assert is_drawn("castle")
    assert "drawn images" in caplog.text


def test_a_pinned_data_set_stays_as_it_was(guides):
    old = guides.commit("huggingface/documentation-images")
    guides.push("huggingface/documentation-images", {"diffusers/inpaint.png": png("blue")}, kind="datasets")
    revisions.write({"datasets/huggingface/documentation-images": old})
    assert load_image("castle").getpixel((9, 9)) == (255, 0, 0)
    revisions.write({})
    assert load_image("castle").getpixel((9, 9)) == (0, 0, 255)
