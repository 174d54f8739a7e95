"""Charts: numbers against hand-made pictures, what is drawn, what is left out, and what is refused."""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
import pytest
from PIL import Image

from helpers import chart, measured
from helpers.analysis.image_metrics import adherence, change, seam, sharpness
from helpers.generation.records import Record

SIZE = (32, 24)


def flat(level: int, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.new("RGB", size, (level,) * 3)


def half() -> Image.Image:
    mask = Image.new("L", SIZE, 0)
    mask.paste(255, (0, 0, 16, 24))
    return mask


def record(level: int | None = 100, *, error: str | None = None, axes: tuple[str, ...] = (), **parameters) -> Record:
    """A record whose picture is flat, made from a flat grey of 50 with its left half masked."""
    inputs = {"prompt": "a red boat", "image": flat(50), "mask_image": half(), "seed": 0}
    picture = None if level is None else flat(level)
    return Record(picture, inputs | parameters, 0.25, {"checkpoint": "sd15"}, error=error, axes=axes)


def grid_of(*, seeds: int = 1, **values) -> list[Record]:
    """Records over every combination; the level of each is 100, plus 10 a step of the first argument, plus its seed."""
    found = []
    for places in itertools.product(*(range(len(each)) for each in values.values())):
        chosen = {name: each[place] for (name, each), place in zip(values.items(), places, strict=True)}
        found += [record(100 + 10 * places[0] + seed, seed=seed, **chosen) for seed in range(seeds)]
    return found


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_labels_below_the_axes_never_touch() -> None:
    """Those of a heat map have less room, since its bar takes some."""
    places = [f"{what} in the snow" for what in ("a red boat", "a red house", "an astronaut")]
    short, long = ["day", "night", "dusk"], ["EulerAncestralDiscreteScheduler", "UniPCMultistepScheduler"]
    turned = {}
    for values in (short, places, [*places, "a cat on a park bench"], long, list("abcdefghij")):
        for over in ({"prompt": values}, {"prompt": values, "guidance_scale": [2.5, 7.5]}):
            figure = chart(grid_of(**over), "sharpness")
            labels = figure.axes[0].get_xticklabels()
            turned[len(values), values[0], len(over)] = labels[0].get_rotation() > 0
            if not labels[0].get_rotation():
                figure.draw_without_rendering()
                edges = [(box.x0, box.x1) for box in (label.get_window_extent() for label in labels)]
                assert all(left[1] < right[0] for left, right in itertools.pairwise(edges)), values
    assert not turned[3, "day", 2] and not turned[3, "a red boat in the snow", 1]
    assert turned[3, "a red boat in the snow", 2]


def test_each_quantity_is_that_of_measure():
    one = record(100)
    changed = change(flat(50), one.image, half())
    expected = {
        "change": 50.0, "change inside": changed.inside, "change outside": changed.outside,
        "seam": seam(one.image, half()), "adherence": adherence(one.image, "a red boat"),
        "sharpness": sharpness(one.image), "seconds": 0.25,
    }  # fmt: skip
    for quantity, value in expected.items():
        assert measured([one], quantity) == [pytest.approx(value)], quantity


def test_inside_and_outside_are_told_apart():
    one = record(100)
    one.image.paste((80, 80, 80), (16, 0, 32, 24))
    assert measured([one], "change inside") == [50.0] and measured([one], "change outside") == [30.0]


def test_an_input_of_another_size_is_fitted_to_the_picture():
    larger = record(100, image=flat(50, (64, 48)), mask_image=half().resize((64, 48)))
    assert measured([larger], "change inside") == [50.0]


def test_any_function_measures():
    def redness(one: Record) -> float:
        return np.asarray(one.image)[..., 0].mean()

    assert measured(iter([record(3), record(7)]), redness) == [3.0, 7.0]
    assert chart([record(3)], redness).axes[0].get_ylabel() == "redness"


def test_a_failed_record_measures_as_nan_and_is_not_passed_on():
    records = [record(None, error="ValueError: no"), record(0, error="NaN: black"), record(60)]
    assert [math.isnan(value) for value in measured(records, lambda one: one.image.width)] == [True, True, False]


def test_seeds_are_repetitions_and_the_rest_is_the_axis():
    records = grid_of(strength=[0.8, 0.4], seeds=3)
    rows = chart(records, "change").numbers
    assert rows == [
        {"strength": 0.8, "mean": 51.0, "lowest": 50.0, "highest": 52.0, "images": 3},
        {"strength": 0.4, "mean": 61.0, "lowest": 60.0, "highest": 62.0, "images": 3},
    ]
    figure = chart(records, "change")
    assert figure.numbers == rows
    axes = figure.axes[0]
    x, y = axes.lines[0].get_data()
    assert list(x) == [0.4, 0.8] and list(y) == [61.0, 51.0]  # along the axis, whatever their order
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == 50 and band.max() == 62
    assert axes.get_xlabel() == "strength (0 to 1)" and axes.get_ylabel() == "change (grey levels)"
    assert figure.get_supxlabel() == "Line: mean; band: lowest to highest of 3 seeds."


def test_two_arguments_are_a_heat_map_with_the_means_in_it():
    records = grid_of(strength=[0.4, 0.8], guidance_scale=[2.5, 7.5, 12.5], seeds=2)
    figure = chart(records, "change", title="how far")
    axes = figure.axes[0]
    assert axes.images[0].get_array().tolist() == [[50.5, 60.5]] * 3
    assert texts(figure)[:6] == ["50.5", "60.5"] * 3
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.4", "0.8"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["2.5", "7.5", "12.5"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("strength (0 to 1)", "guidance_scale")
    assert figure.axes[1].get_ylabel() == "change (grey levels)" and figure.get_suptitle() == "how far"
    turned = chart(records, "change", over=["guidance_scale", "strength"]).axes[0].images[0].get_array()
    assert turned.tolist() == [[50.5] * 3, [60.5] * 3]


def test_what_is_no_number_stands_beside_each_other_in_its_order():
    records = grid_of(negative_prompt=["jungle", None, ""], seeds=2)
    axes = chart(records, "change").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["jungle", "None", "(empty)"]
    assert axes.lines[0].get_linestyle() == "None"
    schedulers = grid_of(scheduler=["DDIMScheduler", "UniPCMultistepScheduler"])
    labels = chart(schedulers, "change").axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == ["DDIM", "UniPCMultistep"]


def test_checkpoints_can_be_compared():
    records = [record(60, seed=seed) for seed in range(2)] + [record(90, seed=seed) for seed in range(2)]
    for one in records[2:]:
        one.origin = {"checkpoint": "sd15-inpaint"}
    rows = chart(records, "change").numbers
    assert [(row["checkpoint"], row["mean"]) for row in rows] == [("sd15", 10.0), ("sd15-inpaint", 40.0)]
    with pytest.raises(ValueError, match="also differ in checkpoint"):
        chart(records, "change", over="prompt")


def test_seeds_alone_are_the_axis():
    figure = chart([record(100 + seed, seed=seed) for seed in (5, 3)], "change")
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["3", "5"]
    assert figure.axes[0].lines[0].get_linestyle() == "None"
    assert figure.get_supxlabel() == ""


def test_a_swept_argument_with_one_value_is_still_the_axis():
    records = [record(100, strength=0.5, axes=("strength", "seed"))]
    assert chart(records, "change").axes[0].get_xlabel() == "strength (0 to 1)"


def test_failed_cells_are_left_out_and_said():
    records = grid_of(strength=[0.4, 0.8], guidance_scale=[2.5, 7.5])
    records[0] = record(None, error="ValueError: no", strength=0.4, guidance_scale=2.5)
    figure = chart(records, "change")
    assert texts(figure)[:4] == ["–", "60", "50", "60"]
    assert figure.get_supxlabel() == "1 of 4 images could not be measured and is left out."
    line = chart([*grid_of(strength=[0.4, 0.8], seeds=2)[1:], record(None, error="x", strength=0.4)], "change")
    assert list(line.axes[0].lines[0].get_ydata()) == [51.0, 60.5]
    assert line.numbers[0]["images"] == 1
    assert line.get_supxlabel().endswith("of 2 seeds.\n1 of 4 images could not be measured and is left out.")


def test_a_combination_that_is_missing_stays_empty():
    records = grid_of(strength=[0.4, 0.8], guidance_scale=[2.5, 7.5])[:3]
    assert texts(chart(records, "change"))[:4] == ["50", "60", "50", "–"]


def test_writing_is_told_apart_from_its_cell():
    figure = chart(grid_of(strength=[0.2, 1.0], guidance_scale=[1, 2]), "change")
    drawn = figure.axes[0].images[0]
    for text, value in zip(figure.axes[0].texts[:2], (50.0, 60.0), strict=True):
        red, green, blue, _ = drawn.cmap(drawn.norm(value))
        light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        assert text.get_color() == ("black" if light > 0.5 else "white")


LONG = "bad architecture, unstable, poor details, blurry, deformed, low resolution, " * 2


def length_of_the_road_from_the_castle_to_the_lighthouse(one: Record) -> float:
    return float(one.parameters["seed"])


@pytest.mark.parametrize(
    "values",
    [
        {"negative_prompt": ["", LONG]},
        {"prompt": [f"a {colour} {LONG}" for colour in ("red", "blue", "green", "white", "black", "grey")]},
        {"negative_prompt": ["", LONG], "prompt": ["a cat", LONG]},
        {"strength": [0.4, 0.8]},
    ],
)
@pytest.mark.parametrize("quantity", ["sharpness", length_of_the_road_from_the_castle_to_the_lighthouse])
def test_no_writing_is_cut_off_and_the_axes_keep_their_room(values, quantity):
    figure = chart(grid_of(seeds=2, **values), quantity, title="A title")
    figure.draw_without_rendering()
    page, axes = figure.bbox.padded(1), figure.axes[0]
    labels = [side.label for each in figure.axes for side in (each.xaxis, each.yaxis)]
    written = [text for text in (*figure.texts, *axes.get_xticklabels(), *labels) if text.get_text()]
    assert len(written) >= 2 + len(next(iter(values.values())))
    for text in written:
        box = text.get_window_extent()
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1, text
    label = axes.yaxis.label.get_window_extent()
    assert axes.get_window_extent().height / figure.dpi > 2.5 > label.height / figure.dpi
    assert figure.get_figheight() >= 4.2


def test_long_texts_are_shortened_where_they_stay_apart():
    def written(*prompts: str) -> list[str]:
        return [text.get_text() for text in chart(grid_of(prompt=list(prompts)), "sharpness").axes[0].get_xticklabels()]

    short = written(f"a red {LONG}", f"a blue {LONG}")
    assert all(text.endswith(" …") and text.count("\n") == 2 for text in short) and short[0] != short[1]
    whole = written(f"{LONG} red", f"{LONG} blue")
    assert [text.split()[-1] for text in whole] == ["red", "blue"]


@pytest.mark.parametrize("values", [{"strength": [0.4, 0.8]}, {"strength": [0.4, 0.8], "guidance_scale": [2.5, 7.5]}])
def test_a_notebook_shows_it_as_the_same_png_each_time(values):
    first, second = (chart(grid_of(seeds=2, **values), "change")._repr_png_() for _ in range(2))
    picture = Image.open(io.BytesIO(first[0]))
    assert picture.format == "PNG" and picture.width >= 600
    assert first == second
    assert "change" in first[1]["alt"].lower() and "strength" in first[1]["alt"], "what its title and axes say"


def test_charts_leave_pyplot_alone():
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    chart(grid_of(strength=[0.4, 0.8]), "change")
    assert pyplot.get_fignums() == before


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: measured([], "change"), ValueError, "records: there are none"),
        (lambda: measured(record(), "change"), TypeError, "records is one Record: pass a list"),
        (lambda: measured([3], "change"), TypeError, "records contains a int: expected Records"),
        (lambda: measured([record()], "chang inside"), ValueError, "Did you mean 'change inside'"),
        (lambda: measured([record()], 3), TypeError, "quantity=3: expected a name or a function"),
        (lambda: measured([record()], lambda one: "much"), TypeError, "returned 'much'; expected one number"),
        (lambda: measured([record()], lambda one: None), TypeError, "returned 'None'; expected one number"),
        (lambda: measured([record(mask_image=None)], "seam"), ValueError, "'seam' needs mask_image, and a record"),
        (lambda: measured([record(image=[flat(1)])], "change"), ValueError, "as a PIL image, and a record has a list"),
        (lambda: chart([record(None, error="ValueError: no")], "change"), ValueError, "none of the 1 .*ValueError: no"),
        (lambda: chart([record()], lambda one: math.nan), ValueError, "can be measured .the quantity is NaN for all"),
        (lambda: chart([record()], "change", over="eta"), ValueError, "over: no record has 'eta'; they have"),
        (lambda: chart([record()], "change", over=[]), ValueError, r"over=\[\]: expected 1 to 2 names of arguments"),
        (
            lambda: chart(grid_of(strength=[0.1, 1], eta=[0, 1], guidance_scale=[1, 2]), "change"),
            ValueError,
            "over: strength, eta, guidance_scale: expected 1 to 2 arguments",
        ),
        (
            lambda: chart(grid_of(strength=[0.1, 1], eta=[0, 1]), "change", over="strength"),
            ValueError,
            "records with strength=0.1 also differ in eta: name that",
        ),
        (lambda: chart([record(), record()], "change"), ValueError, "and the same seed; pass each image once"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
