"""Grids: axes, labels, failures in their place, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageColor

from helpers import grid
from helpers.generation.records import Record


def record(color: str, *, error: str | None = None, exact: bool = True, axes: tuple = (), **parameters) -> Record:
    image = None if error else Image.new("RGB", (64, 64), color)
    return Record(image, {"prompt": "a cat", **parameters}, 0.1, {}, exact=exact, error=error, axes=axes)


def centres(sheet: Image.Image, color: str) -> np.ndarray:
    """The middle of the area of that colour."""
    y, x = np.nonzero((np.asarray(sheet) == ImageColor.getrgb(color)).all(axis=-1))
    return np.array([x.mean(), y.mean()])


def red(sheet: Image.Image) -> int:
    pixels = np.asarray(sheet).astype(int)
    return int((pixels[..., 0] - pixels[..., 1] > 60).sum())


def ink(sheet: Image.Image) -> int:
    return int((np.asarray(sheet.convert("L")) < 128).sum())


def test_a_grid_has_the_first_axis_across_and_the_second_down() -> None:
    colors = {(1, 5): "red", (2, 5): "lime", (1, 9): "blue", (2, 9): "fuchsia"}
    records = [record(color, strength=a, guidance_scale=b) for (a, b), color in colors.items()]
    sheet = grid(records, size=100)
    at = {color: centres(sheet, color) for color in colors.values()}
    assert at["red"][1] == at["lime"][1] < at["blue"][1] == at["fuchsia"][1]
    assert at["red"][0] == at["blue"][0] < at["lime"][0] == at["fuchsia"][0]
    assert np.allclose(at["lime"] - at["red"], at["fuchsia"] - at["blue"])
    turned = grid(records, size=100, over=["guidance_scale", "strength"])
    assert centres(turned, "lime")[1] > centres(turned, "red")[1]


def test_a_missing_record_leaves_an_empty_field() -> None:
    sheet = grid([record("red", seed=1, eta=1), record("lime", seed=2, eta=2)], size=80)
    assert (np.asarray(sheet) == (238, 238, 238)).all(axis=-1).sum() > 2 * 75 * 75


def test_models_are_an_axis_and_images_are_numbered() -> None:
    records = [record(color, seed=1, image=Image.new("RGB", (8, 8), color)) for color in ("red", "lime")]
    across = grid(records, over="image", size=80)
    for one, name in zip(records, ("sd15", "sd15-inpaint"), strict=True):
        one.origin = {"checkpoint": name}
        one.parameters = {"seed": 1}
    models = grid(records, size=80)
    assert across.width == models.width and centres(models, "red")[0] < centres(models, "lime")[0]


def test_labels_errors_titles_and_batches_are_written() -> None:
    records = [record("white", seed=1), record("white", seed=2)]
    plain = grid(records, size=120)
    assert ink(plain) > 20
    assert grid(records, size=120, title="Two seeds").height > plain.height
    failed = grid([records[0], record("", error="ValueError: no steps left", seed=2)], size=120)
    assert red(failed) > 20 and red(plain) == 0
    marked = grid([record("white", seed=1, exact=False), records[1]], size=120)
    assert marked.height > plain.height and red(marked) > 0
    noted = grid([record("white", seed=seed, exact=False) for seed in (1, 2)], size=120)
    assert noted.height == marked.height and red(noted) == 0, "where all are, a star in each tells nothing"
    assert ink(grid([record("white", seed=1), record("white", seed=22222)], size=120)) > ink(plain)


def test_a_large_grid_stays_of_a_size_to_look_at() -> None:
    records = [record("red", seed=seed) for seed in range(60)]
    assert max(grid(records).size) < 4096 + 60 * 14 + 200


@pytest.mark.parametrize(("count", "size", "across"), [
    (16, None, 16), (17, None, 5), (100, None, 10), (1000, None, 32), (12, 1000, 3), (100, 64, 10),
])  # fmt: skip
def test_a_long_row_is_wrapped(count, size, across) -> None:
    """Ten by ten for a hundred seeds, each once, in order, under its label."""
    records = [record("lime" if seed in (0, count - 1) else "red", seed=seed) for seed in range(count)]
    sheet = grid(records, size=size)
    assert sheet.width < 4096 + 600 and sheet.height < 2 * sheet.width + 600
    pixels = (np.asarray(sheet) == (0, 255, 0)).all(axis=-1)
    rows, columns = np.nonzero(pixels.any(axis=1))[0], np.nonzero(pixels.any(axis=0))[0]
    starts = 1 + np.count_nonzero(
        np.diff(np.nonzero((np.asarray(sheet) == (255, 0, 0)).all(axis=-1).any(axis=0))[0]) > 1
    )
    assert starts >= min(across, count - 2) - 1 and columns[0] < 60 and (count == across or rows[-1] - rows[0] > 60)


def test_two_arguments_are_wrapped_with_their_row_labels() -> None:
    records = [record("red", seed=seed, eta=eta) for seed in range(40) for eta in (0, 1)]
    sheet = grid(records, size=64)
    assert sheet.width < 1000 and sheet.height > 6 * 2 * 64


@pytest.mark.parametrize("over", [[], (), "", [""], ["seed", "seed"], [3], [None]])
def test_arguments_to_show_are_named(over) -> None:
    with pytest.raises(ValueError, match="^over=.* expected 1 to 2 names of arguments, each once.*leave it out"):
        grid([record("red", seed=1)], over=over)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: grid([]), ValueError, "records: there are none"),
        (lambda: grid([1]), TypeError, "records contains a int: expected Records"),
        (lambda: grid([record("red", seed=1)], over="sed"), ValueError, "no record has 'sed'; they have .*, seed"),
        (lambda: grid([record("red", seed=1)], size=3), ValueError, "size=3: expected the longer side"),
        (lambda: grid([record("red", seed=1)] * 2, over="seed"), ValueError, "two have seed=1; pass each image once"),
        (
            lambda: grid([record("red", seed=1, eta=eta) for eta in (0, 1)], over=["seed"]),
            ValueError,
            "records with seed=1 also differ in eta: name that in over",
        ),
        (
            lambda: grid([record("red", seed=n, eta=n, width=n) for n in (1, 2)]),
            ValueError,
            "over: seed, eta, width: expected 1 to 2 arguments",
        ),
    ],
)  # fmt: skip
def test_records_that_do_not_fit_a_grid_are_refused(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()
