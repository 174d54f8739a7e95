"""What chapter 07 claims, on the miniatures: its own cells are run here once, and measured over all their seeds."""

from __future__ import annotations

import re

import numpy as np
import pytest

from helpers import adherence, change, check, parse_prompt
from helpers.cli import notebook_runner
from tests.notebooks.running import cells, visited

CHAPTER = notebook_runner.NOTEBOOKS / "07_prompt_weighting.ipynb"
SOLUTIONS = notebook_runner.NOTEBOOKS / "solutions" / "07_prompt_weighting.ipynb"


@pytest.fixture(scope="module")
def chapter():
    """What its cells made, but for the widget's."""
    return visited(CHAPTER)


def sees(word: str, records) -> float:
    return float(np.mean([adherence(record.image, word) for record in records]))


def light(records) -> float:
    return float(np.mean([np.asarray(record.image.convert("L")) for record in records]))


# Two wishes


def test_a_weight_turns_day_into_night(chapter):
    assert light(chapter.night) < light(chapter.day) - 30
    assert all(adherence(record.image, "night") > 0.5 for record in chapter.night)
    assert all(adherence(record.image, "night") < 0.5 for record in chapter.day)


def test_without_weights_the_call_is_the_plain_one(chapter):
    assert "without weights, the plain call's image: True" in chapter.printed
    assert "equal to Compel's: True" in chapter.printed


# As others write it


def test_the_notation_of_others_is_refused_and_converts(chapter):
    with pytest.raises(ValueError, match="behind a colon, as other programs do"):
        parse_prompt(chapter.found)
    for theirs, ours in (
        ("a (red castle:1.3) at night", "a (red castle)1.3 at night"),
        ("[cloudy], a (cat:0.7) and a (tree:2)", "(cloudy)0.91, a (cat)0.7 and a (tree)2"),
        ("a castle at night", "a castle at night"),
    ):
        assert chapter.from_colons(theirs) == ours
        (flat,) = parse_prompt(ours).prompts
        assert "".join(part.text for part in flat.children).replace(" ", "") == re.sub(r"[\d.()\s]", "", ours)
    (flat,) = parse_prompt(chapter.converted).prompts
    assert [part.weight for part in flat.children] == [1, 1.5, 1, 0.91]


def test_compel_moves_away_from_the_empty_prompt(chapter):
    empty, plain, heavy = (
        chapter.weigh(chapter.text2img, text)["prompt_embeds"][0] for text in ("", "castle", "(castle)1.5")
    )
    word = 1  # behind the start token
    assert np.allclose((heavy - empty)[word].cpu(), 1.5 * (plain - empty)[word].cpu(), atol=1e-3)


# Rows


def test_more_moves_one_row_and_less_all_that_follow(chapter):
    for weight, moved in zip(chapter.row_weights, chapter.moved, strict=True):
        rows = np.flatnonzero(moved.cpu().numpy() > 1e-4).tolist()
        after = list(range(chapter.place, len(moved)))
        assert rows == ([chapter.place] if weight > 1 else after), weight


def test_both_can_be_done_by_hand(chapter):
    apart = re.findall(r"by hand and by weigh differ by ([\d.]+) at most", chapter.printed)
    assert len(apart) == 2 and max(map(float, apart)) < 1e-3


def test_less_moves_more_than_more(chapter):
    total = {weight: float(moved.norm()) for weight, moved in zip(chapter.row_weights, chapter.moved, strict=True)}
    assert total[0.8] > 1.5 * total[1.2] and total[0.5] > 1.5 * total[1.5]


# The effect


def test_night_grows_with_its_weight(chapter):
    found = {weight: light(records) for weight, records in chapter.by_weight.items()}
    assert list(found) == sorted(found)
    assert found[0.5] > found[0.75] > found[1.0] + 5 and found[0.5] > found[1.5] + 20
    assert found[0.5] - found[1.0] > 1.5 * (found[1.0] - found[1.5])  # steep below 1
    seen = [int(of_16) for of_16 in re.findall(r"the judge sees night in +(\d+) of 16", chapter.said_by["effect"])]
    assert len(seen) == 5 and seen == sorted(seen) and seen[0] < 8 < seen[1] < 13 < seen[2] and seen[-2:] == [16, 16]


def test_red_grows_with_its_weight(chapter):
    found = {weight: float(chapter.redness(records).mean()) for weight, records in chapter.by_colour.items()}
    assert found[0.5] < found[1.0] - 3
    assert found[1.5] > found[0.5] + 3
    assert found[1.0] - found[0.5] > 1.5 * (found[1.5] - found[1.0])  # steep below 1


# Inpainting and image-to-image


def test_a_weight_acts_where_the_mask_is_white(chapter):
    first, *_, last = chapter.by_mask.values()
    assert light(first) > light(last) + 20
    assert sees("an astronaut", [*first, *last]) > 0.8  # whom the mask keeps
    moved = [change(chapter.jungle, record.image, chapter.around) for record in [*first, *last]]
    assert np.mean([one.outside for one in moved]) < 0.75 * np.mean([one.inside for one in moved])


def test_a_weight_acts_on_an_image_too(chapter):
    half, whole, more = (chapter.redness(records).mean() for records in chapter.by_image.values())
    assert whole > half + 15 and more > half + 15 and abs(more - whole) < whole - half  # not half as red: not red
    assert sees("red", chapter.by_image[0.5]) < 0.5 < sees("red", chapter.by_image[1.0])


def test_a_weight_acts_in_sdxl_but_not_on_its_pooled_embedding(chapter):
    first, *_, last = chapter.by_xl.values()
    assert chapter.redness(last).mean() > chapter.redness(first).mean() + 0.5
    moved = dict(re.findall(r"(\w+_embeds) +\([\d, ]+\) +moved by the weight: (\w+)", chapter.printed))
    assert moved == {
        "prompt_embeds": "True",
        "negative_prompt_embeds": "False",
        "pooled_prompt_embeds": "False",
        "negative_pooled_prompt_embeds": "False",
    }


def test_the_refiner_reads_one_encoder_and_bears_a_weight_lightly(chapter):
    assert 0 < chapter.weighing < chapter.refining
    said = chapter.names_after["refiner"].said
    assert said["prompt_embeds"].shape[-1] == said["pooled_prompt_embeds"].shape[-1] < 192


# Negative prompts, blends, two prompts, long ones


def test_a_weighed_negative_prompt_takes_more_away(chapter):
    said = re.findall(r"\(sunset\)([\d.]+) +the judge sees sunset in +(\d+) of 16", chapter.said_by["negative"])
    found = {float(weight): int(of_16) for weight, of_16 in said}
    assert found[0] > 8 and found[0] > found[0.5] > found[1] and found[1] <= found[0] - 5
    assert abs(found[2] - found[1]) <= 1 and found[2] > 0, "no more is won, and some seeds insist"
    assert adherence(chapter.without_sunset[2][3].image, "sunset") > 0.5  # the last of the four shown


def test_a_blend_goes_from_day_to_night_and_no_image_is_half_dark(chapter):
    night = [[adherence(record.image, "night") for record in records] for records in chapter.walk]
    assert all(not 0.1 < share < 0.9 for shares in night for share in shares)
    found = [float(np.mean(shares)) for shares in night]
    assert found[0] < 0.1 and 0.2 < found[2] < 0.8 and found[-1] > 0.9 and np.diff(found).min() > -0.1
    assert light(chapter.walk[0]) > light(chapter.walk[2]) + 15 > light(chapter.walk[-1]) + 30
    assert min(sees("a red castle", records) for records in chapter.walk) > 0.9


def test_a_second_prompt_counts_by_its_number(chapter):
    found = [light(records) for records in chapter.both]
    assert found[0] > found[-1] + 25
    assert min(sees("a castle", records) for records in chapter.both) > 0.8
    assert "shape: (1, 154, 128)" in chapter.printed


def test_what_is_cut_off_is_read_by_weigh(chapter):
    assert sees("night", chapter.cut) < 0.2 and sees("night", chapter.whole) > 0.8
    assert light(chapter.cut) > light(chapter.whole) + 30


# Slips, and what the cells say


def test_every_slip_is_refused(chapter):
    refused = chapter.printed[chapter.printed.index("Compel: [FlattenedPrompt") :]
    assert "Fragment:'a (red castle'@1.0" in refused  # what Compel makes of it
    assert refused.count("prompt") >= len(chapter.slips) == 9
    for said in ("at position 3", "as other programs do", "signs and a number", "Put each prompt in quotation marks"):
        assert said in refused


def test_the_notation_is_read_as_the_chapter_says(chapter):
    for said in ("'night' x 1.21", "'night' x 0.81", "'red castle' x 1.30", "'castle' x 1.80", "castle (ruined) at"):
        assert said in chapter.printed


def test_the_full_edition_needs_no_classifier():
    """Every line that needs the classifier asks for the edition first."""
    for source in cells(CHAPTER).values():
        for line in source.splitlines():
            if "adherence(" in line:
                assert 'if edition() == "mini" else None' in line, line
            if "sees(" in line and "def " not in line:
                assert line.startswith("        ") and 'if edition() == "mini":' in source, line


def test_the_last_but_one_exercise_is_not_solved_by_no_weights():
    assert not check("07.4", "a castle at night on a (sunny day)1.0")
    assert not check("07.4", "a castle at (night)0.9 on a sunny day")
