"""What chapter 05 claims, on the miniatures: its own cells are run here once, and measured over all their seeds."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
import torch

from helpers import adherence, change, check, fit, load_image, measured
from helpers.analysis import scene_classifier
from helpers.analysis.image_metrics import sharpness
from helpers.cli import notebook_runner
from helpers.exercises import chapter_05
from miniature_training.world.scenes import draw, sample
from tests.notebooks.running import cells, mean, visited

CHAPTER = notebook_runner.NOTEBOOKS / "05_parameters.ipynb"
SOLUTIONS = notebook_runner.NOTEBOOKS / "solutions" / "05_parameters.ipynb"


@pytest.fixture(scope="module")
def chapter():
    """What its cells made, but for the Explorer's."""
    return visited(CHAPTER)


def seen(images, head: str, of: str) -> np.ndarray:
    """How surely the classifier sees a class in each image."""
    return np.array([one[head][of] for one in scene_classifier.read(list(images))])


def at(records, **values) -> list:
    """The images of the records that have these arguments."""
    return [record.image for record in records if values.items() <= record.parameters.items()]


def means(records, quantity, over: str) -> dict:
    """The mean of the seeds for each value of an argument."""
    values = dict.fromkeys(record.parameters.get(over) for record in records)
    found = list(zip(records, measured(records, quantity), strict=True))
    return {value: mean(number for record, number in found if record.parameters.get(over) == value) for value in values}


def test_every_sweep_made_all_its_pictures(chapter):
    sweeps = [value for value in vars(chapter).values() if isinstance(value, list) and hasattr(value[0], "parameters")]
    assert len(sweeps) >= 12
    assert [record.error for records in sweeps for record in records if record.error] == []


# Strength


def test_more_strength_changes_more(chapter):
    inside = means(chapter.by_strength, "change inside", "strength")
    assert list(inside) == [0.6, 0.8, 1.0]
    assert inside[0.8] > 1.05 * inside[0.6] and inside[1.0] > 1.2 * inside[0.8]
    whole = list(means(chapter.away, "change", "strength").values())
    assert whole == sorted(whole) and whole[-1] > 1.2 * whole[0]


def test_seeds_part_most_at_full_strength(chapter):
    spread = np.ptp(chapter.values, axis=1)
    assert spread[2] > 1.5 * spread[0]
    assert (chapter.values[2] > chapter.values[0]).all()


def test_a_boat_needs_noise_to_appear(chapter):
    least, little, much, most = (
        seen(at(chapter.away, strength=one), "subject", "boat") for one in (0.4, 0.6, 0.8, 1.0)
    )
    assert least.max() < 0.3 and min(*much, *most) > 0.7
    assert little.min() < 0.3 and little.max() > 0.9, "in part: not in every image"


def test_image_to_image_at_full_strength_starts_with_a_tenth_of_the_image(chapter):
    found = re.findall(r"strength ([\d.]+): starts at t = +(\d+), where +([\d.]+)%", chapter.said_by["strength-left"])
    assert [strength for strength, *_ in found] == ["0.4", "0.6", "0.8", "1.0"]
    assert (found[-1][1], found[-1][2]) == ("941", "9.5")
    left = [float(share) for *_, share in found]
    assert left == sorted(left, reverse=True) and left[0] > 60
    # the first step is really there, and what goes in depends on the image
    asked, apart = [], []
    for number in chapter.seeds:
        made = []
        for image in (chapter.sea, load_image("winter")):
            call = {"prompt": "a red boat on the sea shore", "image": image, "strength": 1.0, **chapter.still}
            note = lambda pipe, step, t, tensors: asked.append(int(t)) or tensors  # noqa: E731
            generator = torch.Generator().manual_seed(number)
            made.append(chapter.img2img(**call, generator=generator, callback_on_step_end=note).images[0])
        apart.append(change(*made).inside)
    assert max(asked) == 941 and mean(apart) > 8


def test_strength_sets_the_steps_that_run(chapter):
    counted = re.findall(r"strength ([\d.]+): int\(20 \* [\d.]+\) = (\d+), ran (\d+)", chapter.printed)
    assert counted == [("0.6", "12", "12"), ("0.8", "16", "16"), ("1.0", "20", "20")] * 2


@pytest.mark.parametrize(("asked", "enough"), [(33, False), (34, True)])
def test_thirty_four_steps_are_enough(chapter, asked, enough):
    from diffusers import EulerDiscreteScheduler

    own = chapter.pipe.scheduler
    chapter.pipe.scheduler = EulerDiscreteScheduler.from_config(own.config)
    try:
        call = {"prompt": "a castle", "image": chapter.castle, "mask_image": chapter.mask, "guidance_scale": 1.0}
        ran = chapter.count(chapter.pipe, num_inference_steps=asked, strength=chapter_05.STRENGTH, **call)
    finally:
        chapter.pipe.scheduler = own
    assert (ran >= chapter_05.WANTED) is enough
    assert bool(check("05.1", asked)) is enough


# Guidance


@pytest.mark.parametrize("task", ["inpainting", "text-to-image"])
def test_guidance_helps_until_it_burns(chapter, task):
    records = {"inpainting": chapter.by_guidance, "text-to-image": chapter.from_words}[task]
    follows = means(records, "adherence", "guidance_scale")
    burns = means(records, chapter.burnt, "guidance_scale")
    off, least, *between, most = follows
    assert (off, most) == (1.0, 30.0)
    assert follows[least] > follows[off] + 0.03  # it helps; by how much of text-to-image is counted below,
    assert max(follows[one] for one in (*between, most)) < follows[least] + 0.1  # has soon given all,
    assert burns[least] < 0.01 and burns[most] > burns[least] + 0.02  # and burns
    assert burns[most] > 2 * max(burns[one] for one in between)


def test_from_words_nothing_burns_until_the_boats_are_lost(chapter):
    burns = means(chapter.from_words, chapter.burnt, "guidance_scale")
    follows = means(chapter.from_words, "adherence", "guidance_scale")
    assert max(burns[scale] for scale in (1.0, 3.5, 5.0, 10.0)) < 0.005
    assert min(follows[scale] for scale in (3.5, 5.0, 10.0)) > 0.95, "flat up to 10"
    boats = seen(at(chapter.from_words, guidance_scale=30.0), "subject", "boat")
    assert burns[30.0] > 0.03 and boats.min() < 0.3


def test_without_guidance_two_of_the_four_from_words_pull_the_mean_down(chapter):
    follows = np.reshape(measured(chapter.from_words, "adherence"), (-1, len(chapter.seeds)))
    assert np.sum(follows[0] < 0.8) == 2 and np.sum(follows[0] > 0.9) == 2
    assert (follows[1:-1] > 0.9).all()


def test_the_guides_castle_burns_more_and_more(chapter):
    burns = [chapter.burnt(record) for record in chapter.of_castle]
    assert [record.parameters["guidance_scale"] for record in chapter.of_castle] == [2.5, 7.5, 12.5]
    assert burns[1] > 1.3 * burns[0] and burns[2] > 1.1 * burns[1] and 2.4 < burns[2] / burns[0] < 4
    hole = np.asarray(chapter.mask.convert("L")) >= 128
    contrast = [np.asarray(record.image, float)[hole].std() for record in chapter.of_castle]
    assert np.diff(contrast).min() > 1
    assert min(adherence(record.image, "a castle") for record in chapter.of_castle) > 0.9


def test_without_guidance_something_is_missing_in_more_than_half(chapter):
    off, on = np.reshape(measured(chapter.rate, "adherence"), (2, 16))
    assert 4 <= np.sum(off > 0.9) <= 7 and np.sum(on > 0.9) == 16
    images = at(chapter.rate, guidance_scale=1.0)
    dusk, shore = seen(images, "hour", "sunset") > 0.5, seen(images, "place", "sea shore") > 0.5
    assert 6 <= np.sum(dusk) <= 10 and off[dusk].max() < 0.8, "about half, and it costs them the night"
    assert np.sum(~shore) == 1 and off[~shore].max() < 0.8
    assert off[~dusk & shore].min() > 0.8, "nothing else is lost"


def test_the_muted_astronaut_burns_below_ten(chapter):
    burns = means(chapter.of_astronaut, chapter.burnt, "guidance_scale")
    assert burns[2.5] < 0.005 and burns[7.5] > 0.01 and burns[10.5] > 0.01
    assert means(chapter.from_words, chapter.burnt, "guidance_scale")[10.0] < 0.005, "where the boat does not"
    muted, _, bright = (np.ptp(np.asarray(record.image, int), axis=2).mean() for record in chapter.of_astronaut)
    assert bright > 1.3 * muted


def test_the_orange_that_is_pushed_too_far_turns_into_another_colour(chapter):
    def hull(scale, colour):
        return seen(at(chapter.by_guidance, guidance_scale=scale), "colour", colour)

    assert min(*hull(1.0, "orange"), *hull(2.5, "orange")) > 0.8
    assert np.sum(hull(7.5, "red") > 0.8) == 1 and np.sum(hull(7.5, "orange") > 0.8) == 3
    assert hull(30.0, "orange").max() < 0.3 and np.sum(hull(30.0, "yellow") > 0.7) >= 3
    follows = means(chapter.by_guidance, "adherence", "guidance_scale")
    assert follows[12.5] < follows[2.5] - 0.15 and follows[30.0] < follows[2.5] - 0.3, "it does harm"
    assert seen(at(chapter.by_guidance, guidance_scale=30.0), "subject", "boat").min() > 0.8, "it is a boat still"


def test_guidance_below_one_is_off(chapter):
    assert [record.parameters["guidance_scale"] for record in chapter.from_image[::2]] == [0.1, 1.0, 5.0, 10.0]
    off, one, five, _ = (record.image for record in chapter.from_image[::2])
    assert off.tobytes() == one.tobytes() != five.tobytes()
    assert "0.1 and 1.0 give the same image, bit for bit: True" in chapter.printed


# Negative prompts


def test_naming_flaws_sharpens_inpainting(chapter):
    found = np.reshape(measured(chapter.without_flaws, "sharpness"), (2, len(chapter.seeds)))
    assert 1.3 < found[1].mean() / found[0].mean() < 1.7, "about half as much again"
    assert (found[1] > 1.15 * found[0]).all()
    assert chapter.without_flaws[0].parameters["prompt"] == chapter.prompt


def test_naming_flaws_sharpens_what_the_refiner_makes(chapter):
    found = np.reshape(measured(chapter.refined, "sharpness"), (2, len(chapter.seeds)))
    assert (found[1] > found[0]).all()
    assert inspect.signature(chapter.refiner.__call__).parameters["strength"].default == 0.3


def test_naming_flaws_sharpens_image_to_image(chapter):
    found = means(chapter.rescued, "sharpness", "negative_prompt")
    assert found[chapter.flaws] > 1.2 * found[""]
    assert found[""] > 1.5 * sharpness(chapter.blurred)
    assert "blurry" not in chapter.flaws


def test_the_world_calls_a_blurred_picture_poor_in_details():
    from miniature_training.world.captions import DEGRADED_WORDS

    assert "poor details" in DEGRADED_WORDS["blurred"]


def test_the_jungle_is_there_without_the_word_and_the_astronaut_stays_with_it(chapter):
    for records in (chapter.no_jungle, chapter.still_jungle):
        assert means(records, chapter.sees_jungle, "negative_prompt")[""] > 0.4
        assert mean(adherence(record.image, "an astronaut") for record in records) > 0.8
    assert np.ptp(measured(chapter.still_jungle, chapter.sees_jungle)) > 0.5, "seeds differ"


def test_the_word_takes_the_jungle_where_it_is_painted_anew_and_nothing_asks_for_it(chapter):
    """Sixteen seeds each: it is a push, not a ban."""
    found = {
        name: np.sum(np.reshape(measured(records, chapter.sees_jungle), (2, 16)) > 0.5, axis=1)
        for name, records in chapter.sixteen.items()
    }
    inpainting, half, more, most = found.values()
    assert list(found) == ["inpainting", *(f"image-to-image {strength}" for strength in (0.5, 0.8, 0.9))]
    assert inpainting[0] == 16 and 11 <= inpainting[1] < 16, "in most of them it stays"
    assert half.min() == 16, "the old image holds it"
    assert more[0] < 16, "some leave the jungle by themselves"
    assert more[1] <= more[0] - 3 and 5 <= more[1] <= 11, "about half are a jungle still"
    assert most[0] >= 7 and most[1] <= 4, "hardly any"


# padding_mask_crop


def test_without_a_crop_the_pipeline_shrinks_the_picture(chapter):
    assert chapter.plain.image.size == (chapter.large.width // 4,) * 2
    assert chapter.cropped[0].image.size == chapter.large.size


def test_shrunk_there_is_no_boat_and_neither_is_there_with_a_wide_margin(chapter):
    def boat(record) -> float:
        """In the place of the mask, with a little of what is around it."""
        place = chapter.pipe.mask_processor.get_crop_region(chapter.small, *chapter.large.size, chapter.padding)
        return float(seen([fit(record.image, chapter.large).crop(place)], "subject", "boat")[0])

    hole = chapter.small.getbbox()
    factor = chapter.large.height / chapter.plain.image.height * chapter.pipe.vae_scale_factor
    assert 2 < (hole[3] - hole[1]) / factor < 3, "latents"
    assert boat(chapter.plain) < 0.3 < 0.7 < min(boat(record) for record in chapter.cropped)
    found = [
        [boat(one) for one in chapter.padded if one.parameters["padding_mask_crop"] == by] for by in chapter.paddings
    ]
    assert min(*found[0], *found[1]) > 0.7 and max(found[-1]) < 0.3


def test_a_crop_is_sharp_inside_and_exact_outside(chapter):
    for record in chapter.cropped:
        assert chapter.sharpness_inside(record) > 5 * chapter.sharpness_inside(chapter.plain)
        moved = change(chapter.large, record.image, chapter.small)
        assert moved.outside == 0 and moved.inside > 4


def test_the_guides_crop_is_nearly_the_whole_and_keeps_what_is_outside(chapter):
    left, top, right, bottom = chapter.regular.mask_processor.get_crop_region(chapter.sea_mask, *chapter.sea.size, 32)
    assert (right - left) * (bottom - top) > 0.9 * chapter.sea.width * chapter.sea.height
    without, cropped = (change(chapter.sea, boat, chapter.sea_mask) for boat in chapter.boats)
    assert cropped.outside == 0 and without.outside > 1
    subjects = [one["subject"] for one in scene_classifier.read(chapter.boats)]
    assert [max(seen, key=seen.get) for seen in subjects] == ["boat", "boat"]
    assert min(seen["boat"] for seen in subjects) > 3 * adherence(chapter.sea, "a boat")


def test_wide_padding_costs_sharpness(chapter):
    found = means(chapter.padded, chapter.sharpness_inside, "padding_mask_crop")
    small, *_, wide = found.values()
    assert list(found) == sorted(found) and small > 1.5 * wide


# Steps and schedulers


def test_two_steps_of_dpm_solver_and_unipc_settle_further(chapter):
    few = [record for record in chapter.by_steps if record.parameters["num_inference_steps"] == 2]
    ddim, ancestral, *others = means(few, chapter.still_to_go, "scheduler").values()
    assert len(others) == 2 and min(ddim, ancestral) > 1.15 * max(others)
    four = [record for record in chapter.by_steps if record.parameters["num_inference_steps"] == 4]
    ddim, _, *others = means(four, chapter.still_to_go, "scheduler").values()
    assert abs(ddim - mean(others)) < 0.25 * ddim, "from four steps on the difference is gone"


def test_it_is_where_they_step_and_not_that_they_look_back(chapter):
    """First order at DPM-Solver's levels does as well as DPM-Solver; at DDIM's, as badly as DDIM."""
    said = chapter.said_by["scheduler-where"]
    assert "DDIMScheduler                    steps at t = [501, 1]" in said
    assert "DPMSolverMultistepScheduler      steps at t = [667, 334]" in said
    assert "UniPCMultistepScheduler          steps at t = [667, 334]" in said
    found = {where: float(gap) for where, gap in re.findall(r"first order at t = (.*): ([\d.]+) grey", said)}
    few = [record for record in chapter.by_steps if record.parameters["num_inference_steps"] == 2]
    ddim, _, dpm, unipc = means(few, chapter.still_to_go, "scheduler").values()
    assert found["[667, 334]"] == pytest.approx(dpm, abs=0.5) == pytest.approx(unipc, abs=0.5)
    assert found["[501, 1]"] == pytest.approx(ddim, rel=0.1)


def test_more_steps_settle(chapter):
    unsettled = [record for record in chapter.by_steps if record.parameters["num_inference_steps"] < 24]
    to_go = list(means(unsettled, chapter.still_to_go, "num_inference_steps").values())
    assert len(to_go) == 3 and to_go == sorted(to_go, reverse=True) and to_go[0] > 2 * to_go[-1]


def test_with_many_steps_all_but_the_ancestral_one_agree(chapter):
    ddim, ancestral, *_, unipc = chapter.schedulers

    def apart(one: str) -> float:
        pairs = [(chapter.last[unipc, seed], chapter.last[one, seed]) for seed in chapter.seeds]
        return mean(change(*pair, chapter.sea_mask).inside for pair in pairs)

    agree = max(apart(one) for one in chapter.schedulers if one != ancestral)
    assert apart(ancestral) > 2.5 * agree


# Strength and guidance together


def test_change_grows_along_both_axes(chapter):
    by_strength = list(means(chapter.together, "change inside", "strength").values())
    by_guidance = list(means(chapter.together, "change inside", "guidance_scale").values())
    assert by_strength == sorted(by_strength) and by_strength[-1] > 1.2 * by_strength[0]
    assert by_guidance == sorted(by_guidance) and by_guidance[-1] > 1.1 * by_guidance[0]


def test_strength_gives_variety_and_guidance_takes_it(chapter):
    found = re.findall(r"^(.+?) +(\w+) +([\d.]+): the seeds are +([\d.]+)", chapter.said_by["freedom"], re.MULTILINE)
    tasks = dict.fromkeys(task for task, *_ in found)
    castle, boat, words = ([float(apart) for one, *_, apart in found if one == task] for task in tasks)
    assert castle[-1] > 1.5 * castle[0]
    assert words[1] < 0.7 * words[0], "a little guidance brings sixteen images from words together"
    off, least, usual, *_, most = boat
    assert max(abs(least - off), abs(usual - off)) < 6, "in a hole a few grey levels"
    assert most > off + 12, "until it burns"


def test_at_full_strength_a_little_guidance_is_enough(chapter):
    found = measured(chapter.together, "adherence")
    follows = {
        (record.parameters["strength"], record.parameters["guidance_scale"]): value
        for record, value in zip(chapter.together, found, strict=True)
    }
    assert follows[0.4, 2.5] < 0.4 and follows[0.4, 5.0] < 0.85 and follows[0.4, 7.5] > 0.88, "three times as much"
    assert follows[1.0, 2.5] > 0.95


# The words, and the exercises


def test_the_full_edition_draws_no_chart_of_adherence():
    """Every line that needs the classifier asks for the edition first."""
    for source in cells(CHAPTER).values():
        for line in source.splitlines():
            if "adherence(" in line:
                assert line.startswith("    return adherence("), line
            if re.search(r'["\']adherence["\']', line):
                assert 'if edition() == "mini"' in line, line


def test_the_meadow_of_the_last_exercise_is_the_one_that_is_checked(chapter):
    large, mask = chapter_05.large_meadow()
    assert (chapter.meadow.tobytes(), chapter.spot.tobytes()) == (large.tobytes(), mask.tobytes())


def test_the_word_that_05_4_takes_away_is_known_to_the_classifier():
    assert (
        adherence(draw(sample(1, hour="sunset"), 128).image, chapter_05.WORD)
        > 0.9
        > 0.1
        > adherence(load_image("castle"), chapter_05.WORD)
    )
