"""What chapter 02 claims, on the miniatures: its own cells are run here, and measured over several seeds."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageDraw

from helpers import (
    adherence,
    blur,
    box_mask,
    change,
    ellipse_mask,
    fit,
    grow,
    invert,
    keep_unmasked,
    load,
    load_image,
    load_mask,
    seam,
    share,
    threshold,
)
from helpers.cli import notebook_runner
from tests.notebooks.running import cells, mean, prose, run, visited

SEEDS = range(4)
CHAPTER = notebook_runner.NOTEBOOKS / "02_masks.ipynb"
SOLUTIONS = notebook_runner.NOTEBOOKS / "solutions" / "02_masks.ipynb"


@pytest.fixture(scope="module")
def chapter():
    """What its cells made."""
    return visited(CHAPTER)


@pytest.fixture(scope="module")
def paint():
    pipe = load("sd15-inpaint")
    pipe.set_progress_bar_config(disable=True)

    def paint(prompt, image, mask, number=0, *, steps=15, pipe=pipe):
        generator = torch.Generator("cpu").manual_seed(number)
        call = {"image": image, "mask_image": mask, "width": image.width, "height": image.height}
        return pipe(prompt, **call, num_inference_steps=steps, generator=generator).images[0]

    paint.pipe = pipe
    return paint


# Painter and shapes


def test_a_painter_without_a_browser_holds_the_mask_it_was_given(chapter):
    assert chapter.painter.mask.tobytes() == load_mask("castle").tobytes()
    assert chapter.house.size == chapter.castle.size
    assert adherence(chapter.house, "a red house") > 0.5


def test_an_ellipse_fills_pi_over_four_of_its_box():
    for side in (64, 128, 512):
        box = (side / 4, side * 3 / 8, side * 3 / 4, side * 7 / 8)
        filled = share(ellipse_mask(side, box)) / share(box_mask(side, box))
        assert filled == pytest.approx(np.pi / 4, abs=0.01)


def test_the_boat_fits_every_outline(chapter, paint):
    for name, mask in chapter.shapes.items():
        boats = [paint("a red boat", chapter.sea, mask, number) for number in SEEDS]
        assert mean(adherence(boats, "a red boat")) > 0.6, name
        moved = [change(chapter.sea, boat, mask) for boat in boats]
        assert mean(one.inside for one in moved) > 1.5 * mean(one.outside for one in moved), name


# From a click


def test_a_click_takes_the_bench_along_and_a_box_the_cat_alone(chapter):
    def on_the_cat(mask):
        return share(ImageChops.darker(mask, load_mask("bench"))) / share(mask)

    assert on_the_cat(chapter.boxed) > 0.85 > 0.7 > on_the_cat(chapter.clicked)
    assert share(chapter.clicked) > 1.3 * share(chapter.boxed)
    assert share(chapter.boxed) < share(load_mask("bench"))  # close to the outline: to be grown before it is painted


# Transparency


def test_diffusers_loads_the_erased_thing_and_the_course_a_hole(chapter):
    from diffusers.utils import load_image as diffusers_load_image

    rock = load_mask("road")
    assert diffusers_load_image(chapter.cut_out).tobytes() == chapter.road.tobytes()
    hole = np.asarray(load_image(chapter.cut_out))[np.asarray(rock) == 255]
    assert (hole == 255).all()


def test_an_erased_rock_gives_way_to_the_road(chapter, paint):
    rock, road = load_mask("road"), chapter.road
    assert adherence(road, "a rock") > 0.8
    cleared = [paint("road", road, rock, number) for number in SEEDS]
    assert mean(adherence(cleared, "a rock")) < 0.4
    assert min(change(road, one, rock).inside for one in cleared) > 10


# Grow, shrink, invert


def test_only_a_mask_that_is_too_tight_keeps_the_old_cat(chapter):
    kept = [(chapter.dark & (np.asarray(mask) < 128)).sum() / chapter.dark.sum() for mask in chapter.masks.values()]
    assert list(chapter.masks) == ["shrunk", "as it is", "grown"]
    assert kept[0] > 0.05 and max(kept[1:]) < 0.01


def test_the_old_cat_shows_where_the_mask_is_too_tight(chapter):
    shown = [(np.asarray(cat.convert("L")) < 45)[chapter.dark].mean() for cat in chapter.cats]
    assert shown[0] > shown[1] + 0.05 and shown[0] > shown[2] + 0.05


def test_closing_fills_gaps_and_takes_no_white_away(chapter):
    assert invert(invert(chapter.pair)) == chapter.pair
    pair, again = (np.asarray(mask) > 0 for mask in (chapter.pair, chapter.again))
    assert (again & ~pair).any() and not (pair & ~again).any()


# Polarity


def test_the_inverse_repaints_the_rest(chapter, paint):
    mask, castle = load_mask("castle"), chapter.castle
    for number in SEEDS:
        right = change(castle, paint(chapter.castle_prompt, castle, mask, number), mask)
        swapped = change(castle, paint(chapter.castle_prompt, castle, invert(mask), number), mask)
        assert right.inside > 1.3 * swapped.inside
        assert swapped.outside > 1.3 * right.outside


# Sizes and the grid


def test_a_pipeline_stretches_any_mask_silently(paint, recwarn):
    castle, small = load_image("castle"), ellipse_mask((96, 64), (32, 16, 64, 48))
    moved = change(castle, paint("a red boat", castle, small), fit(small, castle))
    assert moved.inside > 1.5 * moved.outside
    assert [str(one.message) for one in recwarn if "mask" in str(one.message)] == []


def test_the_unet_gets_the_first_pixel_of_each_cell(chapter, paint):
    """The mask that the chapter computes is the fifth channel of what the UNet is given."""
    got = []
    unet = paint.pipe.unet
    handle = unet.register_forward_pre_hook(lambda module, given, named: got.append(given or named), with_kwargs=True)
    try:
        paint("a red boat", chapter.castle, chapter.lines, steps=1)
    finally:
        handle.remove()
    sample = got[0][0] if isinstance(got[0], tuple) else got[0]["sample"]
    assert torch.equal(sample[0, 4].float().cpu(), chapter.cells)
    assert np.array_equal(np.asarray(chapter.lines)[::8, ::8] > 0, chapter.cells.numpy() > 0)


@pytest.mark.parametrize("width", [1, 4, 7, 8, 9])
def test_strokes_of_eight_pixels_are_always_seen(chapter, width):
    seen = []
    for start in range(16, 24):
        stroke = Image.new("L", (64, 64))
        ImageDraw.Draw(stroke).rectangle((8, start, 55, start + width - 1), fill=255)
        seen.append((np.asarray(stroke)[::8, ::8] > 0).any())
    assert all(seen) == (width >= 8)
    assert any(seen)


# Stray pixels


def test_a_stray_pixel_paints_nothing_but_blows_up_the_crop(chapter, paint):
    stray, jungle = chapter.stray, chapter.jungle
    assert stray.getpixel((0, 0)) == 1
    left, top, right, bottom = chapter.region(stray, *stray.size)
    clean = chapter.region(threshold(stray), *stray.size)
    assert (left, top) == (0, 0)
    assert (right - left) * (bottom - top) > 1.5 * (clean[2] - clean[0]) * (clean[3] - clean[1])
    one, other = (paint("a cat", jungle, mask, steps=4) for mask in (stray, threshold(stray)))
    assert one.tobytes() == other.tobytes()


# Blur


def test_the_chapters_blurred_mask_paints_what_its_cut_paints(chapter):
    assert chapter.with_blur.tobytes() == chapter.with_cut.tobytes()
    assert chapter.gaps[0].getbbox() is None
    assert 0.002 < chapter.moved < 0.1


@pytest.mark.parametrize("checkpoint", ["sd15-inpaint", "sd15"])
@pytest.mark.parametrize("name", ["castle", "jungle", "road"])
def test_a_blurred_mask_paints_what_its_cut_paints(paint, checkpoint, name):
    pipe = load(checkpoint, task="inpaint")
    pipe.set_progress_bar_config(disable=True)
    image, mask = load_image(name), load_mask(name)
    for number, radius in enumerate((2, 8.25)):
        soft = pipe.mask_processor.blur(mask, blur_factor=radius)
        assert soft == blur(mask, radius)
        images = [paint("a red boat", image, one, number, steps=4, pipe=pipe) for one in (soft, threshold(soft))]
        assert images[0].tobytes() == images[1].tobytes()


def test_a_soft_mask_hides_the_edge_where_images_are_composed(chapter, paint):
    evening = load_image("lighthouse")
    soft = blur(chapter.hard, evening.width // 16)
    for number in SEEDS:
        night = paint("a lighthouse on the sea shore at night", evening, Image.new("L", evening.size, 255), number)
        hard_seam = seam(keep_unmasked(evening, night, chapter.hard), chapter.hard)
        soft_seam = seam(keep_unmasked(evening, night, soft), chapter.hard)
        assert hard_seam > 10
        assert soft_seam < hard_seam / 4


def test_seam_and_ghost_are_printed_beside_their_floors(chapter):
    found = re.findall(r"(\S.*\S) +seam +(-?[\d.]+), ghost +([\d.]+)%", chapter.printed)
    assert [name for name, *_ in found] == ["as painted", "hard", "soft", "as painted", "with room"]
    (floor, none), (hard, _), (soft, shown), (floor_of_room, _), (roomy, hidden) = (
        (float(seam), float(ghost)) for _, seam, ghost in found
    )
    assert none == 0 and hard > floor + 10 and abs(soft - floor) < 3 and abs(roomy - floor_of_room) < 3
    assert shown > 3 and hidden < 0.5  # a helmet in the one, and none in the other


@pytest.mark.parametrize(
    ("name", "prompt"), [("jungle", "a red house in a jungle"), ("bench", "an orange cat"), ("road", "road")]
)
def test_a_soft_edge_brings_the_old_thing_back_unless_the_mask_has_room(paint, name, prompt):
    image, mask = load_image(name), load_mask(name)
    radius = image.width // 32
    roomy = grow(mask, 2 * radius)
    for number in SEEDS[:2]:
        ghosts = []
        for cut in (mask, roomy):
            painted = paint(prompt, image, cut, number)
            composed = keep_unmasked(image, painted, blur(cut, radius))
            ghosts.append(change(painted, composed, mask).inside / change(painted, image, mask).inside)
            assert seam(composed, cut) < seam(painted, cut) + 3
        assert ghosts[0] > 0.03 and ghosts[1] < ghosts[0] / 5


def test_composites_differ_along_the_edge_alone(chapter):
    apart = np.asarray(ImageChops.difference(chapter.pasted, chapter.blended)).any(axis=-1)
    mask, soft = load_mask("jungle"), np.asarray(chapter.soft)
    assert apart.any()
    assert not (apart & ((soft == 0) | (soft == 255))).any()
    assert change(chapter.jungle, chapter.pasted, mask).outside == 0
    assert chapter.same and chapter.largest <= 2
    assert seam(chapter.blended, mask) < seam(chapter.pasted, mask)


# The words


def test_every_number_of_pixels_in_the_text_is_what_the_miniature_has():
    size = load_image("castle").width
    text = prose(CHAPTER)
    assert f"of 512 pixels instead of {size}" in text
    assert f"a grid of {size // 8} x {size // 8} cells" in text


# Exercises


def test_the_broken_mask_is_the_same_in_chapter_and_solutions(chapter):
    names: dict = {}
    for id in ("exercise-2-work", "exercise-3-broken"):
        run("from helpers import load_image, load_mask, show\n" + cells(SOLUTIONS)[id], names)
    assert names["broken"].tobytes() == chapter.broken.tobytes()
    assert share(names["broken"]) > 0.6  # the wrong way round
