"""Sweeps: order, exactness, resuming after a kill, failures in their place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import ImageOps

import helpers
from helpers.catalog import devices, memory_plan
from helpers.generation import calls, png_record, sweeps
from helpers.generation.records import Record
from helpers.images import as_json
from helpers.pipelines.loading import load
from tests.support.calls import arguments, half_mask, noise, same
from tests.support.tiny import SIZE, inpaint_pipeline, tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")
sweep = helpers.sweep


@pytest.fixture
def runs(monkeypatch) -> list:
    """The seeds of each call that runs."""
    seen = []
    run = calls.run

    def counted(pipe, seeds, call, **more):
        seen.append(list(seeds))
        return run(pipe, seeds, call, **more)

    monkeypatch.setattr(calls, "run", counted)
    return seen


def call(pipe, **more) -> dict:
    return arguments(pipe, "inpaint", num_inference_steps=4, **more) | {"progress": False}


def without(given: dict, *names: str) -> dict:
    return {name: value for name, value in given.items() if name not in names}


def test_every_combination_in_order_and_each_that_of_its_own_call(inpaint) -> None:
    given = without(call(inpaint), "strength", "guidance_scale")
    over = {"strength": [0.5, 1.0], "guidance_scale": [2.0, 5.0]}
    records = list(sweep(inpaint, over=over, **given))
    assert [(record.parameters["strength"], record.parameters["guidance_scale"]) for record in records] == [
        (0.5, 2.0), (0.5, 5.0), (1.0, 2.0), (1.0, 5.0),
    ]  # fmt: skip
    inpaint.set_progress_bar_config(disable=True)
    for record in records:
        values = {name: record.parameters[name] for name in over}
        plain = inpaint(**without(given, "progress"), **values, generator=torch.Generator("cpu").manual_seed(0))
        assert same(record, plain.images[0])
        assert record.exact and record.error is None and record.axes == ("strength", "guidance_scale")


def assert_near(exact: list[Record], batched: list[Record]) -> None:
    """Another order of the generators' numbers would differ by dozens."""
    for one, other in zip(exact, batched, strict=True):
        assert one.parameters.keys() == other.parameters.keys() and one.parameters["seed"] == other.parameters["seed"]
        assert np.abs(np.asarray(one.image).astype(int) - np.asarray(other.image)).max() <= 2


@pytest.mark.parametrize(("name", "strength"), [("sd15-inpaint", 0.6), ("sd15", 0.6), ("sd15-inpaint", 1.0)])
def test_a_batch_is_near_the_single_calls_and_says_it_is_inexact(name, strength, runs, monkeypatch) -> None:
    monkeypatch.setattr(sweeps, "BATCH", 2)
    pipe = load(name, task="inpaint")
    given = without(call(pipe) | {"strength": strength}, "guidance_scale")
    over = {"guidance_scale": [1.0, 3.0], "seed": range(3)}
    exact, batched = (list(sweep(pipe, over=over, batch=batch, **given)) for batch in (False, True))
    assert runs == [[0], [1], [2]] * 2 + [[0, 1], [2]] * 2
    assert [record.exact for record in batched] == [False, False, True] * 2
    assert_near(exact, batched)


OTHERS = [
    ("sd15", "text2image", {"prompt": ["a cat", "a boat on the sea"], "negative_prompt": ["", "red"]}),
    ("sd15", "image2image", {"image": [noise(1), noise(2)], "prompt": ["a cat", "a boat"]}),
    ("sd15", "inpaint", {"image": [noise(1), noise(2)], "mask_image": [half_mask(), ImageOps.invert(half_mask())]}),
    ("sd15-inpaint", "inpaint", {"mask_image": [half_mask(), ImageOps.invert(half_mask())], "seed": [1, 2]}),
    ("sdxl-inpaint", "inpaint", {"mask_image": [half_mask(), ImageOps.invert(half_mask())], "prompt": ["a cat", "x"]}),
    ("kandinsky22", "text2image", {"prompt": ["a cat", "a boat"], "seed": [1, 2]}),
    ("upscale-x4", "upscale", {"image": [noise(1), noise(2)], "prompt": ["a cat", "a boat"]}),
]


@pytest.mark.parametrize(("name", "task", "over"), OTHERS)
def test_whatever_may_differ_in_one_call_is_batched(name, task, over, runs) -> None:
    pipe = load(name, task=task if task != "upscale" else None)
    given = without(arguments(pipe, task), *over)
    exact, batched = (list(sweep(pipe, over=over, batch=batch, progress=False, **given)) for batch in (False, True))
    assert len(runs) == 4 + 1 and len(runs[-1]) == 4, "four calls, then one"
    assert not any(record.exact or record.error for record in batched)
    for one, other in zip(exact, batched, strict=True):
        assert all(
            as_json.identity(one.parameters[axis]) == as_json.identity(other.parameters[axis]) for axis in over
        ), "the order is kept"
    assert_near(exact, batched)


def test_what_cannot_differ_in_one_call_parts_the_batches(inpaint, runs) -> None:
    over = {"prompt": ["a", "b"], "strength": [0.5, 1.0]}
    given = without(call(inpaint), *over)
    exact, batched = (list(sweep(inpaint, over=over, batch=batch, **given)) for batch in (False, True))
    assert [len(run) for run in runs] == [1, 1, 1, 1, 2, 2]
    assert [record.parameters["strength"] for record in batched] == [0.5, 1.0, 0.5, 1.0]
    assert_near(exact, batched)


def test_a_batch_is_no_larger_than_the_memory(inpaint, runs, monkeypatch) -> None:
    monkeypatch.setattr(devices, "free_memory", lambda device: 3 * memory_plan.WORKING * SIZE * SIZE * 2)
    list(sweep(inpaint, over={"seed": range(5)}, batch=True, **call(inpaint)))
    assert runs == [[0, 1, 2], [3, 4]]
    runs.clear()
    given = without(call(inpaint), "height")
    list(sweep(inpaint, over={"height": [SIZE, 3 * SIZE], "seed": range(2)}, batch=True, **given))
    assert [len(run) for run in runs] == [1] * 4, "the largest decides"


def test_a_batch_shares_the_embeddings_of_one_prompt(runs) -> None:
    pipe = load("sd15")
    names = ("prompt_embeds", "negative_prompt_embeds")
    given = dict(zip(names, pipe.encode_prompt("a cat", "cpu", 1, True), strict=True))
    given |= {"num_inference_steps": 4, "guidance_scale": 3.0, "progress": False}
    exact, batched = (list(sweep(pipe, over={"seed": range(3)}, batch=batch, **given)) for batch in (False, True))
    assert runs == [[0], [1], [2], [0, 1, 2]]
    assert_near(exact, batched)


def test_a_batch_that_is_too_large_is_halved(inpaint, runs, monkeypatch) -> None:
    forward = inpaint.unet.forward

    def small(sample, *args, **kwargs):
        if len(sample) > 4:
            raise MemoryError("too large")
        return forward(sample, *args, **kwargs)

    monkeypatch.setattr(inpaint.unet, "forward", small)
    with pytest.warns(UserWarning, match="3 images at once failed .MemoryError: too large.; now 2 at a time"):
        records = list(sweep(inpaint, over={"seed": range(3)}, batch=True, **call(inpaint)))
    assert runs == [[0, 1, 2], [0, 1], [2]]
    assert all(record.error is None for record in records)
    assert [record.exact for record in records] == [False, False, True]


def test_one_that_fails_keeps_its_place(inpaint, tmp_path) -> None:
    given = without(call(inpaint), "strength", "num_inference_steps")
    over = {"strength": [0.1, 1.0], "num_inference_steps": [2, 10]}
    records = list(sweep(inpaint, over=over, folder=tmp_path / "kept", **given))
    assert [record.error is None for record in records] == [False, True, True, True]
    assert records[0].image is None and records[0].error.startswith("ValueError: strength=0.1 with")
    assert records[0].parameters["strength"] == 0.1
    assert len(list((tmp_path / "kept").glob("*.png"))) == 3


def test_a_sweep_is_resumed_from_its_folder(inpaint, runs, tmp_path) -> None:
    given = call(inpaint) | {"folder": tmp_path / "sweep"}
    first = sweep(inpaint, over={"seed": [5, 6, 7]}, **given)
    started = [next(first), next(first)]
    first.close()
    rest = list(sweep(load("sd15-inpaint"), over={"seed": [5, 6, 7]}, **given))
    assert runs == [[5], [6], [7]]
    assert same(rest[0], started[0]) and same(rest[1], started[1])
    assert [record.parameters["seed"] for record in rest] == [5, 6, 7]
    assert len(list(sweep(inpaint, over={"seed": [4, 5, 6, 7]}, **given))) == 4 and runs[3:] == [[4]]
    files = sorted(given["folder"].iterdir())
    assert [file.name.split(" ")[0] for file in files] == [f"seed={seed}" for seed in (4, 5, 6, 7)]
    files[0].write_bytes(files[0].read_bytes()[:200])
    with pytest.warns(UserWarning, match="is made again: .*broken or cut off"):
        next(sweep(inpaint, over={"seed": [4]}, **given))
    assert runs[4:] == [[4]]


@pytest.mark.parametrize("change", ["image", "argument", "scheduler", "batch", "pipeline"])
def test_what_was_made_otherwise_is_not_taken_from_the_folder(inpaint, runs, tmp_path, change) -> None:
    folder = tmp_path / "sweep"
    given = call(inpaint) | {"over": {"seed": [1, 2]}, "folder": folder}
    changed = {
        "image": {"image": noise(8)}, "argument": {"strength": 0.9}, "scheduler": {"scheduler": "DDIMScheduler"},
        "batch": {"batch": True}, "pipeline": {},
    }[change]  # fmt: skip
    list(sweep(inpaint, **given))
    other = load("sd15", task="inpaint") if change == "pipeline" else inpaint
    made = list(sweep(other, **given | changed))
    assert runs == [[1], [2]] + ([[1, 2]] if change == "batch" else [[1], [2]])
    assert len(list(folder.iterdir())) == 4 and all(record.exact is (change != "batch") for record in made)
    list(sweep(inpaint, **given))
    list(sweep(other, **given | changed))
    assert len(runs) == (3 if change == "batch" else 4)


def test_the_pipeline_stays_as_it_is_while_a_sweep_runs(inpaint, capfd) -> None:
    inpaint.set_progress_bar_config(desc="mine")
    own, config = inpaint.scheduler, dict(inpaint.config)
    given = call(inpaint) | {"progress": True}
    records = sweep(inpaint, over={"scheduler": ["DDIMScheduler", "EulerDiscreteScheduler"]}, **given)
    next(records)
    assert inpaint.scheduler is own and dict(inpaint.config) == config
    next(records), next(records, None)
    shown = capfd.readouterr().err
    assert "2/2" in shown and "image" in shown and "mine" not in shown
    inpaint(**without(given, "progress"), generator=torch.Generator("cpu").manual_seed(0))
    assert "mine" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("more", "kind", "message"),
    [
        ({"over": {"strenth": [0.5]}}, TypeError, "strenth=.*does not take it. Did you mean 'strength'"),
        ({"over": {"seed": []}}, ValueError, r"over\['seed'\] has no values"),
        ({"over": {"seed": [1], "eta": [0], "width": [32], "height": [32]}}, ValueError, "over names 4 arguments"),
        ({"over": [1, 2]}, TypeError, r"over=\[1, 2\]: expected a dict"),
        ({"over": {"prompt": "a cat"}}, TypeError, r"over\['prompt'\]='a cat': expected a list of values"),
        ({"over": {"seed": [1, 2, 1]}}, ValueError, r"over\['seed'\] has 1 twice"),
        ({"over": {"seed": [1]}, "seed": 2}, ValueError, "seed is in over and in the call as well"),
        ({"over": {"strength": [0.5, 1.5]}}, ValueError, "strength=1.5: expected a number from 0"),
        ({"over": {"num_inference_steps": [4, 0]}}, ValueError, "num_inference_steps=0: expected a whole number"),
        ({"over": {"strength": [0.5, 0.2]}}, ValueError, "strength=0.2 with num_inference_steps=4 .*steps to .* 5, or"),
        ({"over": {"seed": [1]}, "strength": 0.2}, ValueError, "strength=0.2 with num_inference_steps=4 leaves no"),
        ({"over": {"num_inference_steps": [2, 4]}, "strength": 0.2}, ValueError, "strength=0.2 with .*steps=4 "),
        ({"over": {"strength": [0, 1], "num_inference_steps": [2, 9]}}, ValueError, "strength=0 with .*steps=9 leaves"),
        ({"over": {"height": [32, 33]}}, ValueError, "height=33 x 33: width and height must be multiples of 8"),
        ({"over": {"seed": [1, 2]}, "batch": True, "padding_mask_crop": 4}, ValueError, "one image at a time"),
    ],
)
def test_bad_input_is_refused_at_once(inpaint, runs, more, kind, message) -> None:
    given = without(call(inpaint), *more.get("over", {}))
    if "prompt" not in more["over"]:
        given["prompt"] = "a cat"
    with pytest.raises(kind, match=message):
        sweep(inpaint, **given | more)  # not even started
    assert runs == []


def test_a_strength_is_checked_against_the_pipelines_own_steps_where_the_call_names_none(inpaint, runs) -> None:
    given = without(call(inpaint), "strength", "num_inference_steps")
    with pytest.raises(ValueError, match="strength=0.01 with num_inference_steps=50 leaves no step to run"):
        sweep(inpaint, over={"strength": [0.01, 0.5]}, **given)
    sweep(inpaint, over={"strength": [0.02, 0.5]}, **given)
    with pytest.raises(TypeError, match="strength='0.5': expected a number from 0 to 1"):
        sweep(inpaint, over={"strength": ["0.5", 0.7]}, **given)
    assert runs == []


def test_a_folder_that_cannot_be_is_refused(inpaint, runs, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "gone" / "far")
    names = {"file": "it is a file", "link": "File exists|No such file", "x" * 300: "name too long", "a\0b": "NUL"}
    for name, message in names.items():
        with pytest.raises(ValueError, match=f"folder=.*({message})"):
            sweep(inpaint, over={"seed": [1]}, folder=tmp_path / name, **call(inpaint))  # not even started

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sweeps.paths.Path, "write_bytes", full)
    with pytest.raises(ValueError, match="cannot be written to: No space left on device"):
        sweep(inpaint, over={"seed": [1]}, folder=tmp_path / "new", **call(inpaint))
    assert runs == []


@pytest.mark.parametrize("text", ["中" * 300, "🏰" * 99, "é" * 80, "/etc/../" * 30, "a\nb\0c", "CON", "  ..", "\ud800"])
def test_any_prompt_gives_a_name_that_a_disk_takes(inpaint, tmp_path, text) -> None:
    over = {"prompt": [text, "b" + text], "negative_prompt": [text], "controlnet_conditioning_scale": [1.0]}
    names = [
        sweeps._file_name(
            {"prompt": one, "negative_prompt": one, "negative_pooled_prompt_embeds": one}, axes, "0" * 12, True
        )
        for one in over["prompt"]
        for axes in [("prompt", "negative_prompt", "negative_pooled_prompt_embeds")]
    ]
    for name in names:
        assert len(name.encode()) <= 255 and not set(name) & set('/\\:*?"<>|\0\n')
        (tmp_path / name).write_text("")


def test_a_disk_that_fills_up_meanwhile_ends_no_sweep(inpaint, runs, tmp_path, monkeypatch) -> None:
    records = sweep(inpaint, over={"seed": [1, 2]}, folder=tmp_path / "sweep", **call(inpaint))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(png_record.os, "replace", full)
    with pytest.warns(UserWarning, match="an image is not saved: .*No space left on device"):
        assert [record.error for record in records] == [None, None]
    assert not list((tmp_path / "sweep").iterdir())


def test_a_relative_folder_is_that_of_the_call(inpaint, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    records = sweep(inpaint, over={"seed": [1]}, folder="here", **call(inpaint))
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    next(records)
    assert len(list((tmp_path / "here").glob("*.png"))) == 1
