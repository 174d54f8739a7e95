"""What chapter 08 claims, on the miniatures: its own cells are run here once, and measured over all their seeds."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import torch

from helpers import adherence, change, check, load, load_image, load_mask, measured, seam, sweep
from helpers.analysis.image_metrics import depth_agreement
from helpers.cli import notebook_runner
from helpers.exercises import chapter_08
from helpers.pipelines.control_images import control_argument, depth_map
from tests.notebooks.running import cells, mean, visited

CHAPTER = notebook_runner.NOTEBOOKS / "08_controlnet.ipynb"
SOLUTIONS = notebook_runner.NOTEBOOKS / "solutions" / "08_controlnet.ipynb"


@pytest.fixture(scope="module")
def chapter():
    """What its cells made, but for the Explorer's."""
    return visited(CHAPTER)


def means(records, quantity, over: str) -> dict:
    """The mean of the seeds for each value of an argument."""
    values = dict.fromkeys(record.parameters.get(over) for record in records)
    found = list(zip(records, measured(records, quantity), strict=True))
    return {value: mean(number for record, number in found if record.parameters.get(over) == value) for value in values}


def missing(agreement: float) -> float:
    """What is missing to full agreement."""
    return 1 - agreement


def test_every_sweep_made_all_its_pictures(chapter):
    sweeps = [value for value in vars(chapter).values() if isinstance(value, list) and hasattr(value[0], "parameters")]
    assert len(sweeps) >= 9
    assert [record.error for records in sweeps for record in records if record.error] == []


# The condition


def test_the_condition_by_hand_is_the_same_and_the_guides_check_misses_the_width(chapter):
    assert "by hand it is the same: True" in chapter.printed
    assert "the guides' check lets it pass: True" in chapter.printed
    assert re.search(r"ours says: mask is (\d+) x (\d+) pixels, the image", chapter.printed)
    small, share = re.search(r"-1 is ([\d.]+)% of it, and the mask is white in ([\d.]+)%", chapter.printed).groups()
    assert small == share


def test_the_inpainting_checkpoint_hardly_needs_the_net(chapter):
    """It knows what lies around the hole; the net touches up, far less than another seed would."""
    alone, elven = (
        mean(seam(one.image, chapter.mask) for one in records) for records in (chapter.alone, chapter.elven)
    )
    assert max(alone, elven) < 5, "faint, and it stays faint"
    by_net = mean(
        change(one.image, other.image, chapter.mask).inside
        for one, other in zip(chapter.alone, chapter.elven, strict=True)
    )
    by_seed = mean(
        change(one.image, other.image, chapter.mask).inside for one, other in itertools.combinations(chapter.alone, 2)
    )
    assert 3 < by_net < by_seed / 2


def test_outside_the_mask_the_checkpoint_preserves_without_the_net_and_inside_neither_does(chapter):
    moved = {
        name: [change(chapter.castle, one.image, chapter.mask) for one in getattr(chapter, name)]
        for name in ("alone", "elven")
    }
    outside = {name: mean(one.outside for one in found) for name, found in moved.items()}
    inside = {name: mean(one.inside for one in found) for name, found in moved.items()}
    assert max(outside.values()) < 8 and abs(outside["alone"] - outside["elven"]) < 2
    assert min(inside.values()) > 4 * max(outside.values()) and abs(inside["alone"] - inside["elven"]) < 12


def test_a_regular_checkpoint_learns_what_lies_around(chapter):
    blind, told = chapter.outlines
    assert blind > 8 and told < blind / 2
    better = [
        chapter.outline(after) < chapter.outline(before)
        for before, after in zip(chapter.blind, chapter.told, strict=True)
    ]
    assert all(better)


def test_the_house_comes_and_with_the_net_the_patches_of_snow_go(chapter):
    """Eight seeds, the chapter's four among them."""
    more = {"over": {"seed": range(4, 8)}, "batch": True, "progress": False, **chapter.names_after["regular"].call}
    blind = chapter.blind + list(sweep(chapter.without, **more))
    told = chapter.told + list(sweep(chapter.net, **more, **chapter.steer))
    for records in (blind, told):
        assert mean(adherence([record.image for record in records], "a red house")) > 0.85
    lay, lies = (list(map(chapter.snow, records)) for records in (blind, told))
    assert max(lies) < 0.03
    assert mean(lay) > 0.08 and max(lay[:4]) > 0.2 and 3 <= sum(value > 0.1 for value in lay) < 8, "round some houses"


def test_the_condition_alone_holds_the_shore(chapter):
    strays = means(chapter.held, chapter.strays, "controlnet_conditioning_scale")
    assert strays[1.0] < 0.3 * strays[0.0] and abs(strays[1.5] - strays[1.0]) < 0.1 * strays[0.0]
    assert strays[1.5] > 1  # no copy


# Depth


def test_the_astronaut_is_near_and_the_sky_far(chapter):
    grey = np.asarray(chapter.depth)[..., 0].astype(float)
    astronaut = np.asarray(load_mask("jungle")) > 0
    assert grey[astronaut].mean() > grey[: len(grey) // 8].mean() + 60
    assert grey[-len(grey) // 8 :].mean() > 200


def test_the_estimate_is_good_enough_to_measure_by(chapter):
    assert depth_agreement(chapter.jungle, chapter.depth) > 0.9
    assert 0.78 < chapter.floor < 0.88, "flat ground and sky agree in every scene"
    above = (chapter.names_after["estimate"].found - chapter.floor) / (1 - chapter.floor)
    assert 0.5 < above < 0.85, "about two thirds"
    others = [depth_agreement(load_image(name), depth_map(name)) for name in ("castle", "lighthouse", "winter", "road")]
    assert min(others) > 0.85


def test_strength_loses_the_depth_unless_the_net_holds_it(chapter):
    alone, held = (means(records, chapter.agrees, "strength") for records in (chapter.no_depth, chapter.by_depth))
    assert held[1.0] > alone[1.0] and missing(alone[1.0]) > 1.2 * missing(alone[0.4])


def test_of_sixteen_seeds_at_full_strength_many_stay_by_themselves_and_all_with_the_net(chapter):
    alone, held = (np.array([chapter.agrees(one) for one in records]) for records in chapter.many.values())
    assert len(alone) == len(held) == 16
    assert np.sum(alone > 0.5) >= 7, "the 9.5 % of the image's amplitude is enough for many"
    assert np.sum(alone < 0.4) >= 3, "and not for others"
    assert np.sum(held < 0.4) <= 1 and held.min() > alone.min() + 0.15
    assert held.std() < alone.std() / 1.5


def test_a_depth_net_makes_less_of_edges(chapter):
    depth, edges = (mean(map(chapter.agrees, chapter.read[name])) for name in ("depth", "edges"))
    assert missing(depth) < 0.6 * missing(edges)


def test_fewer_edges_with_higher_thresholds(chapter):
    found = [float(value) for value in re.findall(r"and +\d+: ([\d.]+)% of the pixels are edges", chapter.printed)]
    assert len(found) == 3 and found[0] > found[1] > found[2] > 0


# How strongly, and when


def test_the_default_scale_depends_on_the_class(chapter):
    found = re.findall(r"^(\w+) +takes (\w+) +scale ([\d.]+)$", chapter.printed, re.MULTILINE)
    assert [scale for _, _, scale in found] == ["1.0", "0.8", "0.5"]
    pipes = (chapter.depth_net, chapter.steered, chapter.special)
    assert [argument for _, argument, _ in found] == [control_argument(pipe) for pipe in pipes]


def test_the_tower_comes_with_the_scale_and_then_stays(chapter):
    found = means(chapter.by_scale, chapter.keeps_tower, "controlnet_conditioning_scale")
    assert list(found) == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    assert found[0.25] > found[0.0] + 0.2 and found[0.5] > found[0.0] + 0.4
    level = [value for scale, value in found.items() if scale >= 0.5]
    assert max(level) - min(level) < 0.06, "more adds nothing"
    placed = [
        chapter.keeps_tower(one) for one in chapter.by_scale if one.parameters["controlnet_conditioning_scale"] >= 0.5
    ]
    assert min(placed) > 0.8, "every tower stands where it was"


def test_adherence_loses_nothing_to_the_net(chapter):
    assert min(measured(chapter.by_scale, "adherence")) > 0.95


def test_scale_0_is_the_checkpoint_alone(chapter):
    assert chapter.printed.count("scale 0 is the plain image: True") == 2


def test_the_net_is_asked_at_every_step_and_heard_in_its_span(chapter):
    assert len(chapter.heard) == 20
    heard = [step for step, scale in enumerate(chapter.heard) if scale > 0]
    assert heard == chapter_08.steered_steps(20, 0.2, 0.6)
    assert check("08.1", len(heard))


def test_the_first_half_does_nearly_all_the_work_and_the_second_hardly_any(chapter):
    found = {name: mean(map(chapter.keeps_tower, records)) for name, records in chapter.by_span.items()}
    gained = {name: (value - found["none"]) / (found["all"] - found["none"]) for name, value in found.items()}
    assert found["all"] > found["none"] + 0.35
    assert gained["first half"] > 0.85 and gained["second half"] < 0.35
    shown = {name: chapter.keeps_tower(records[1]) for name, records in chapter.by_span.items()}
    assert max(shown["none"], shown["second half"]) < 0.3 < 0.8 < min(shown["first half"], shown["all"])
    ends = means(chapter.by_end, chapter.keeps_tower, "control_guidance_end")
    assert ends[0.5] > ends[1.0] - 0.06, "half of the steps is enough"
    assert found["none"] + 0.6 * (ends[1.0] - found["none"]) < ends[0.25] < ends[0.5] - 0.05, (
        "a quarter does most of it"
    )


# Elden Ring


def test_the_restyled_pictures_moved_and_kept_their_depth(chapter):
    assert (chapter.look["strength"], chapter.look["guidance_scale"]) == (0.45, 10.5)
    for old, new in zip(chapter.before.values(), chapter.after, strict=True):
        assert change(old, new).inside > 5
        assert depth_agreement(new, depth_map(old)) > 0.7
    lines = re.findall(r"own depth ([\d.]+), floor ([\d.]+)", chapter.said_by["style-measure"])
    assert len(lines) == 2
    assert max(float(kept) - float(floor) for kept, floor in lines) < 0, "the measure does not see what the eye sees"


def test_the_guides_castle_runs_at_the_default_strength(chapter):
    import inspect

    known = inspect.signature(chapter.style.__call__).parameters
    assert (known["strength"].default, known["guidance_scale"].default) == (0.8, 7.5)
    castle = chapter.before["castle"]
    assert change(castle, chapter.guides).inside > 40 and change(chapter.after[0], chapter.guides).inside > 5


def test_the_depth_net_joins_the_style_too():
    """With the net, other seeds change less: the forms stay where they are."""
    pipe = load("elden-ring", task="image2image", controlnet="controlnet-depth")
    pipe.set_progress_bar_config(disable=True)
    image, depth, count = load_image("jungle"), depth_map("jungle"), 8

    def apart(scale):
        made = pipe(
            ["elden ring style astronaut in a jungle"] * count, image=[image] * count, control_image=depth,
            strength=1.0, num_inference_steps=20, controlnet_conditioning_scale=scale,
            generator=[torch.Generator().manual_seed(seed) for seed in range(count)],
        ).images  # fmt: skip
        return mean(change(one, other).inside for one, other in itertools.combinations(made, 2))

    assert apart(1.0) < 0.85 * apart(0.0)


# The words, and the exercises


def test_the_full_edition_draws_no_chart_of_adherence():
    for source in cells(CHAPTER).values():
        for line in source.splitlines():
            if re.search(r'["\']adherence["\']', line):
                assert 'if edition() == "mini"' in line, line
