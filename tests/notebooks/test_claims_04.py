"""What chapter 04 claims, on the miniatures: its own cells are run here, their images measured over several seeds."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops

from helpers import (
    CATALOG,
    adherence,
    change,
    grow,
    keep_unmasked,
    load,
    load_image,
    load_mask,
    seam,
    sweep,
    threshold,
)
from helpers.cli import notebook_runner
from tests.notebooks.running import mean, prose, visited

CHAPTER = notebook_runner.NOTEBOOKS / "04_regular_checkpoints.ipynb"
SOLUTIONS = notebook_runner.NOTEBOOKS / "solutions" / "04_regular_checkpoints.ipynb"
REGULAR, SPECIAL = "sd15", "sd15-inpaint"


@pytest.fixture(scope="module")
def chapter():
    """What its cells made."""
    return visited(CHAPTER)


def spread(chapter, name):
    """Every picture of one checkpoint, with its scene's own picture and mask."""
    for records in chapter.painted[name].values():
        for record in records:
            yield record.parameters["image"], record.image, record.parameters["mask_image"]


# One call, two checkpoints


def test_both_are_one_class_with_different_unets(chapter):
    assert type(chapter.regular) is type(chapter.special)
    latents = chapter.special.vae.config.latent_channels
    assert chapter.regular.unet.config.in_channels == latents
    assert chapter.special.unet.config.in_channels == latents + 1 + latents == 9


def test_the_hole_lies_on_whole_cells(chapter):
    for name in chapter.scenes.values():
        mask = np.asarray(chapter.hole(load_image(name)))
        assert np.array_equal(mask, mask[::8, ::8].repeat(8, axis=0).repeat(8, axis=1))


def by_each(chapter, quantity, prompt):
    """A quantity of the records of both checkpoints, the regular one first."""
    return [[quantity(record) for record in chapter.painted[name][prompt]] for name in (REGULAR, SPECIAL)]


SNOWY, FAIR = ("a red boat in the snow", "a red house in the snow"), "a red boat"


def test_the_regular_checkpoint_leaves_more_of_an_outline_nearly_every_time(chapter):
    assert list(chapter.scenes) == [*SNOWY, FAIR]
    pairs = [pair for prompt in chapter.scenes for pair in zip(*by_each(chapter, chapter.outline, prompt), strict=True)]
    assert len(pairs) == 24 and chapter.larger == sum(one > other for one, other in pairs) >= 20


def snow(chapter, record):
    return chapter.snow(record.image, record.parameters["mask_image"])


def test_the_special_checkpoint_hides_the_outline_by_painting_no_snow(chapter):
    found = {}
    for prompt in SNOWY:
        outlines = by_each(chapter, chapter.outline, prompt)
        assert mean(outlines[0]) > mean(outlines[1]) + 5
        found[prompt] = by_each(chapter, lambda record: snow(chapter, record), prompt)
        assert max(found[prompt][1]) < 0.12, "none of the snow"
        for name in (REGULAR, SPECIAL):
            images = [record.image for record in chapter.painted[name][prompt]]
            assert mean(adherence(images, prompt.removesuffix(" in the snow"))) > 0.75
            assert min(adherence(images, prompt.split()[2])) > 0.75, "a boat or a house in each"
            assert max(adherence(images, "snow")) < 0.1, "asked about the whole image, the judge sees none"
    under_boats, round_houses = (found[prompt][0] for prompt in SNOWY)
    assert min(under_boats) > 0.4, "under every boat"
    assert sum(value > 0.08 for value in round_houses) >= 5 and max(round_houses) < 0.7, "in patches, round most houses"
    assert chapter.snow(chapter.sea, chapter.mask) == 0, "the beach is no snow"
    assert chapter.snow(load_image("meadow"), chapter.mask) == 0


def test_where_nothing_pulls_apart_the_outlines_come_close(chapter):
    outlines = by_each(chapter, chapter.outline, FAIR)
    assert 1 < mean(outlines[0]) - mean(outlines[1]) < 6
    assert min(outlines[0]) < 1, "some seeds have none"
    for name in (REGULAR, SPECIAL):
        boats = adherence([record.image for record in chapter.painted[name][FAIR]], FAIR)
        assert np.sum(np.array(boats) > 0.8) >= 6 and mean(boats) > 0.8
        assert max(snow(chapter, record) for record in chapter.painted[name][FAIR]) < 0.12


def test_the_first_pair_shows_the_same(chapter):
    by_regular, by_special = (chapter.snow(one, chapter.mask) for one in (chapter.by_regular, chapter.by_special))
    assert by_regular > 0.5 > 0.1 > by_special
    assert f"snow on {by_regular:4.0%}" in chapter.said_by["first"]
    boats = [float(value) for value in re.findall(r"a red boat: ([\d.]+)", chapter.said_by["first"])]
    assert len(boats) == 2 and min(boats) > 0.9


def test_the_chart_shows_those_means(chapter):
    numbers = {(row["prompt"], row["checkpoint"]): row["mean"] for row in chapter.displayed["outline-chart"].numbers}
    assert len(numbers) == 2 * len(chapter.scenes)
    for (prompt, name), value in numbers.items():
        assert value == pytest.approx(mean(map(chapter.outline, chapter.painted[name][prompt])))


# The trick


def test_mixing_by_hand_is_what_the_pipeline_does(chapter):
    assert change(chapter.by_regular, chapter.by_hand).inside < 0.5
    without = chapter.text2image(chapter.wish, latents=chapter.noise, num_inference_steps=20, **chapter.size).images[0]
    assert change(chapter.by_regular, without, chapter.mask).outside > 10


def test_around_the_hole_is_the_noised_original_after_every_step(chapter):
    apart = []

    def look(pipe, step, timestep, tensors):
        following = pipe.scheduler.timesteps[step + 1 : step + 2]
        original = chapter.clean
        if len(following):
            original = pipe.scheduler.add_noise(chapter.clean, chapter.noise, following)
        apart.append((tensors["latents"] - original)[chapter.kept].abs().max().item())
        return tensors

    call = chapter.call | {"num_inference_steps": 6, "generator": chapter.seed(0), "callback_on_step_end": look}
    for pipe in (chapter.regular, chapter.special):
        pipe(chapter.wish, **call)
    half = len(apart) // 2
    assert max(apart[:half]) < 1e-4
    assert min(apart[half:]) > 1e-2


def test_the_film_shows_both_at_the_same_steps(chapter):
    assert len(chapter.frames[0]) == len(chapter.frames[1]) == 4
    assert change(chapter.frames[0][-1], chapter.by_regular).inside < 1
    assert change(chapter.frames[1][-1], chapter.by_special).inside < 1


# Unmasked pixels


def test_the_regular_checkpoint_ends_with_the_originals_latents(chapter):
    apart = {
        name: ((chapter.final[name] - chapter.clean)[chapter.kept].abs().mean() / chapter.clean.std()).item()
        for name in (REGULAR, SPECIAL)
    }
    assert apart[REGULAR] < 1e-4
    assert apart[SPECIAL] > 0.01


def test_the_vae_alone_changes_least_outside_and_the_special_checkpoint_most(chapter):
    alone = mean(
        chapter.outside(image, [chapter.round_trip(image)]) for image in map(load_image, chapter.scenes.values())
    )
    outside = {
        name: mean(change(image, made, grow(mask, 8)).outside for image, made, mask in spread(chapter, name))
        for name in (REGULAR, SPECIAL)
    }
    assert 0.2 < alone < outside[REGULAR]
    assert outside[SPECIAL] > 1.1 * outside[REGULAR]


def test_the_regular_checkpoint_differs_most_near_the_hole(chapter):
    near, far = [], []
    for image, made, mask in spread(chapter, REGULAR):
        belt = grow(mask, image.width // 16)
        far.append(change(image, made, belt).outside)
        near.append(change(image, made, ImageChops.subtract(belt, mask)).inside)
    assert mean(near) > 1.3 * mean(far)


def test_putting_back_is_exact_and_makes_a_step_that_a_blur_takes_away(chapter):
    assert chapter.overlaid.tobytes() == chapter.pasted[1].tobytes()
    for name in (REGULAR, SPECIAL):
        for image, made, mask in spread(chapter, name):
            assert change(image, keep_unmasked(image, made, mask), mask).outside == 0
        records = [record for records in chapter.painted[name].values() for record in records]
        plain, hard, soft = chapter.edges(records)
        assert hard > 2 * max(plain, 0) + 5
        assert soft < hard / 2


def test_the_guides_yellow_cat_keeps_its_park_and_gets_a_seam(chapter):
    words = "a yellow cat, high resolution, sitting on a park bench"
    assert chapter.names_after["guide-cat"].prompt == words
    call = {"prompt": words, "image": chapter.bench, "mask_image": chapter.cat, **chapter.size}
    call |= {"num_inference_steps": 20, "progress": False}
    more = [record.image for record in sweep(chapter.special, over={"seed": range(1, 4)}, batch=True, **call)]
    images = [chapter.repainted, *more]
    assert mean(adherence(images, "a yellow cat")) > 0.9
    back = [chapter.special.image_processor.apply_overlay(chapter.cat, chapter.bench, one) for one in images]
    assert back[0].tobytes() == chapter.unchanged.tobytes()
    for one, kept in zip(images, back, strict=True):
        assert change(chapter.bench, one, chapter.cat).outside > 3
        assert change(chapter.bench, kept, chapter.cat).outside == 0
        assert seam(one, chapter.cat) < 0, "hidden before"
        assert 1 < seam(kept, chapter.cat) < 9, "a step of a few grey levels"


# The rock


def test_the_true_road_stands_out_too_and_a_smear_does_least(chapter):
    road, rock, empty = chapter.road, chapter.rock, chapter.empty
    assert change(road, empty, rock).outside < 0.01 and change(road, empty, rock).inside > 30
    floor = chapter.stands_out(empty)
    assert f"true road stands out by about {floor:.0f} grey levels" in prose(CHAPTER)
    assert chapter.stands_out(chapter.known["a smear"]) < 0.7 * floor < floor < 0.7 * chapter.stands_out(road)
    for records in chapter.erased.values():
        assert chapter.stands_out(chapter.known["a smear"]) < mean(chapter.stands_out(one.image) for one in records)


def test_measured_from_the_truth_both_checkpoints_erase_the_rock_and_the_special_one_better(chapter):
    off = {name: [chapter.from_the_truth(record) for record in records] for name, records in chapter.erased.items()}
    assert [len(values) for values in off.values()] == [16, 16]
    truth = {name: change(chapter.empty, image, chapter.rock).inside for name, image in chapter.known.items()}
    assert round(truth["the truth through the VAE"]) == 3
    for values in off.values():
        assert mean(values) < 0.75 * truth["a smear"] < truth["a smear"] < 0.75 * truth["the rock"]
        assert max(values) < truth["a smear"]
    assert mean(off[SPECIAL]) < mean(off[REGULAR]) - 2, "a good deal nearer"
    assert sum(one < other for one, other in zip(off[SPECIAL], off[REGULAR], strict=True)) >= 12


def test_the_special_checkpoint_is_nearer_above_all_at_the_edges_of_the_road(chapter):
    truth = np.asarray(chapter.empty, float)
    steps = np.hypot(*np.gradient(truth.mean(2)))
    edges = np.asarray(grow(Image.fromarray((255 * (steps > 15)).astype("uint8")), 2)) > 127
    inside = np.asarray(chapter.rock) > 127
    assert 0.1 < edges[inside].mean() < 0.5

    def off(name, where):
        return mean(
            np.abs(np.asarray(r.image, float) - truth).mean(2)[inside & where].mean() for r in chapter.erased[name]
        )

    gained = [off(REGULAR, where) - off(SPECIAL, where) for where in (edges, ~edges)]
    assert gained[0] > 3 and gained[0] > 2 * gained[1]


def test_no_seed_leaves_a_rock(chapter):
    assert adherence(chapter.road, "a rock") > 0.8
    for records in chapter.erased.values():
        assert max(adherence([record.image for record in records], "a rock")) < 0.5


def test_what_stands_out_is_measured_beside_the_mask(chapter):
    road, rock = chapter.road, load_mask("road")
    flat = Image.new("RGB", road.size, "#808080")
    assert chapter.stands_out(flat) == 0
    assert chapter.stands_out(keep_unmasked(flat, Image.new("RGB", road.size, "#8a8a8a"), rock)) == pytest.approx(10)


# When a regular one is right


def test_one_of_the_family_was_made_for_inpainting():
    family = [checkpoint for checkpoint in CATALOG.values() if checkpoint.family == "sd"]
    assert [checkpoint.name for checkpoint in family if checkpoint.tasks == ("inpaint",)] == [SPECIAL]
    assert len(family) >= 5 and all("inpaint" in checkpoint.tasks for checkpoint in family)


def test_less_strength_leaves_less_outline_and_changes_less(chapter):
    rows = {row["strength"]: row for row in chapter.displayed["strength-chart"].numbers}
    assert sorted(rows) == [0.6, 0.8, 1.0] and rows[0.6]["images"] == 4
    assert rows[0.6]["mean"] < 0.85 * rows[1.0]["mean"]
    inside = {
        strength: mean(
            change(record.parameters["image"], record.image, record.parameters["mask_image"]).inside
            for record in chapter.by_strength
            if record.parameters["strength"] == strength
        )
        for strength in rows
    }
    assert inside[0.6] < inside[1.0]
    weakest, strongest = (
        [record for record in chapter.by_strength if record.parameters["strength"] == strength]
        for strength in (0.6, 1.0)
    )
    assert mean(snow(chapter, record) for record in weakest) < mean(snow(chapter, record) for record in strongest) / 2
    assert mean(adherence([record.image for record in weakest], "a red house")) > 0.8, "least of all the snow"


# A soft hole


def test_the_cut_is_an_option_of_the_mask_processor(chapter):
    cut, uncut = (np.asarray(chapter.as_cells(pipe)) for pipe in (chapter.regular, chapter.grey_pipes[REGULAR]))
    assert set(np.unique(cut)) == {0, 255}
    assert len(np.unique(uncut)) > 10
    assert np.array_equal(cut, np.asarray(threshold(chapter.soft))[::8, ::8])
    assert np.abs(uncut.astype(int) - np.asarray(chapter.soft)[::8, ::8]).max() <= 1


def test_a_grey_mask_softens_the_rim_of_the_regular_checkpoint_alone(chapter):
    def measured(records):
        steps = [chapter.seam(r.image, chapter.box, reach=chapter.reach) for r in records]
        own = chapter.seam(chapter.meadow, chapter.box, reach=chapter.reach)
        return mean(steps) - own, np.array([change(chapter.meadow, r.image, chapter.box).inside for r in records])

    outline, inside = {}, {}
    for way, records in chapter.ways.items():
        outline[way], inside[way] = measured(records)
    assert outline[f"{REGULAR}, grey"] < outline[f"{REGULAR}, hard"] / 2
    less = {name: inside[f"{name}, hard"] - inside[f"{name}, grey"] for name in (REGULAR, SPECIAL)}
    assert all(less[REGULAR] > 0.5) and mean(less[REGULAR]) > 1.5, "less changes, for every seed"
    assert mean(less[SPECIAL]) < 0.15 * mean(inside[f"{SPECIAL}, hard"])


def test_the_special_unet_gets_the_grey_as_its_fifth_channel(chapter):
    pipe, got = chapter.grey_pipes[SPECIAL], []
    hook = pipe.unet.register_forward_pre_hook(
        lambda module, given, named: got.append(given[0] if given else named["sample"]), with_kwargs=True
    )
    try:
        call = {"image": chapter.meadow, "mask_image": chapter.soft, "num_inference_steps": 1, **chapter.size}
        pipe(chapter.house, **call, generator=chapter.seed(0))
    finally:
        hook.remove()
    expected = pipe.mask_processor.preprocess(chapter.soft)[..., ::8, ::8]
    assert torch.equal(got[0][:1, 4:5].float().cpu(), expected)


# A second pass over the mask's edge


def test_a_second_pass_takes_the_outline_where_there_is_one(chapter):
    before = {name: mean(chapter.edge(record.image, record) for record in chapter.some[name]) for name in chapter.some}
    after = {
        name: mean(chapter.edge(picture, record) for picture, record in zip(made, chapter.some[name], strict=True))
        for name, made in chapter.retouched.items()
    }
    assert before[REGULAR] > after[REGULAR] + 5
    for record, again in list(zip(chapter.some[REGULAR], chapter.retouched[REGULAR], strict=True))[:2]:
        left = chapter.snow(again, record.parameters["mask_image"])
        assert left < snow(chapter, record) / 2, "the snow along the edge goes too"
    assert abs(before[SPECIAL] - after[SPECIAL]) < 5 and before[SPECIAL] < before[REGULAR] / 2


def test_far_from_the_edge_the_second_pass_changes_nothing_outside(chapter):
    for record, picture in zip(chapter.some[REGULAR], chapter.retouched[REGULAR], strict=True):
        image, mask = record.parameters["image"], record.parameters["mask_image"]
        assert change(image, picture, grow(mask, image.width // 8)).outside == 0


# Removal


def test_describing_the_place_removes_and_an_order_does_not(chapter):
    nothing, order, place = (chapter.things_seen(records) for records in chapter.by_prompt.values())
    assert all(len(records) == 16 for records in chapter.by_prompt.values())
    assert min(nothing, order) >= 10 and place <= 3


def test_a_box_takes_the_bench_away_and_a_close_mask_leaves_it(chapter):
    left = {name: sum(np.array(adherence(made, "bench")) > 0.5) for name, made in chapter.benches.items()}
    assert [len(made) for made in chapter.benches.values()] == [16, 16]
    assert left["follows the cat"] >= 12 and left["box"] <= 4


# What is in the hole before the first step


def test_the_edge_of_a_fill_is_painted_over_by_both_but_for_a_faint_outline(chapter):
    def step(name, how):
        return mean(seam(record.image, chapter.around, reach=4) for record in chapter.filled[name, how])

    starts = {how: seam(start, chapter.around, reach=4) for how, start in chapter.starts.items()}
    assert min(starts["mean"], starts["noise"]) > 20 > 3 > starts["telea"]
    for name in (REGULAR, SPECIAL):
        assert all(3 < step(name, how) < 7.5 for how in ("mean", "noise")), name
        assert step(name, "telea") < min(step(name, how) for how in ("mean", "noise")), name


def test_the_original_shines_through_and_no_fill_does(chapter):
    for name in (REGULAR, SPECIAL):
        moved = {
            how: mean(
                change(chapter.winter, record.image, chapter.around).inside for record in chapter.filled[name, how]
            )
            for how in chapter.starts
        }
        assert moved["original"] < 0.8 * min(moved[how] for how in ("mean", "noise", "telea"))


# A change map


def by_eighths(chapter, picture):
    moved = np.abs(np.asarray(picture, float) - np.asarray(chapter.meadow, float)).mean((0, 2))
    return np.array([part.mean() for part in np.array_split(moved, 8)])


def test_a_grey_mask_switches_in_the_middle_and_a_map_sets_in_gradually(chapter):
    for name in (REGULAR, SPECIAL):
        plain = by_eighths(chapter, chapter.mapped[f"{name}, grey mask"])
        by_map = by_eighths(chapter, chapter.mapped[f"{name}, {'change map' if name == REGULAR else 'map'}"])
        assert plain[1:4].mean() < plain[5:].mean() / 3
        assert by_map[0] < 10 and by_map[5:].mean() > 30
        assert by_map[2:4].mean() > 2 * plain[2:4].mean()
        assert by_map[1:3].mean() < by_map[5:].mean()


def test_the_special_unet_must_be_shown_what_is_kept(chapter):
    alone = by_eighths(chapter, chapter.mapped["sd15-inpaint, map, mask alone"])
    assert alone[0] > 3 * by_eighths(chapter, chapter.mapped["sd15-inpaint, map"])[0]


def test_a_black_map_keeps_the_picture_and_a_white_one_is_the_plain_call(chapter):
    def painted(grey, **call):
        call = call or chapter.white | chapter.follow(grey, chapter.meadow)
        return chapter.regular(**chapter.map_call, **call, generator=chapter.seed(0)).images[0]

    black = painted(Image.new("L", chapter.meadow.size))
    kept = change(chapter.meadow, chapter.round_trip(chapter.meadow)).inside
    assert change(chapter.meadow, black).inside < kept + 2
    white = painted(Image.new("L", chapter.meadow.size, 255))
    assert white.tobytes() == painted(None, **chapter.white).tobytes()


def test_the_upscalers_take_no_callback():
    for name in ("upscale-x2", "upscale-x4"):
        assert "callback_on_step_end" not in inspect.signature(load(name).__call__).parameters


# The words, and the exercises


def test_the_numbers_in_the_text_are_the_miniatures(chapter):
    text = prose(CHAPTER)
    assert f"of 512 pixels instead of {chapter.road.width}" in text
    assert f"cells of {chapter.regular.vae_scale_factor} x {chapter.regular.vae_scale_factor} pixels" in text
