"""Sweeps: order, exactness, going on after a kill, failures in their place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import helpers
from helpers.common import paths
from helpers.generation import calls
from helpers.generation.records import Record
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


def test_records_come_one_by_one(inpaint, runs) -> None:
    records = sweep(inpaint, over={"seed": range(50)}, **call(inpaint))
    next(records), next(records)
    assert runs == [[0], [1]]
    records.close()


def test_seeds_and_schedulers_and_pictures_can_be_varied(inpaint) -> None:
    own = inpaint.scheduler
    over = {"scheduler": ["DDIMScheduler", "EulerDiscreteScheduler"], "mask_image": [half_mask(), noise(4, "L")]}
    records = list(sweep(inpaint, over=over, **without(call(inpaint), "mask_image")))
    assert inpaint.scheduler is own
    assert len({record.image.tobytes() for record in records}) == 4
    assert [record.origin["schedulers"]["scheduler"]["class"] for record in records[::2]] == over["scheduler"]


@pytest.mark.parametrize(("name", "strength"), [("sd15-inpaint", 0.6), ("sd15", 0.6), ("sd15-inpaint", 1.0)])
def test_a_batch_is_near_the_single_calls_and_says_it_is_inexact(name, strength, runs) -> None:
    pipe = load(name, task="inpaint")
    given = call(pipe) | {"strength": strength}
    exact = list(sweep(pipe, over={"guidance_scale": [1.0, 3.0], "seed": range(3)}, **without(given, "guidance_scale")))
    assert runs == [[0], [1], [2]] * 2
    runs.clear()
    over = {"guidance_scale": [1.0, 3.0], "seed": range(3)}
    batched = list(sweep(pipe, over=over, batch=2, **without(given, "guidance_scale")))
    assert runs == [[0, 1], [2]] * 2
    assert [record.exact for record in batched] == [False, False, True] * 2
    for one, other in zip(exact, batched, strict=True):
        assert {**one.parameters} == {**other.parameters}
        difference = np.abs(np.asarray(one.image).astype(int) - np.asarray(other.image))
        assert difference.max() <= 2  # another generator order differs by dozens


def test_a_batch_shares_one_pictures_embeddings(runs) -> None:
    pipe = load("sd15")
    said = dict(
        zip(("prompt_embeds", "negative_prompt_embeds"), pipe.encode_prompt("a cat", "cpu", 1, True), strict=True)
    )
    given = said | {"num_inference_steps": 4, "guidance_scale": 3.0, "progress": False}
    exact, batched = (list(sweep(pipe, over={"seed": range(3)}, batch=batch, **given)) for batch in (False, True))
    assert runs == [[0], [1], [2], [0, 1, 2]]
    for one, other in zip(exact, batched, strict=True):
        assert np.abs(np.asarray(one.image).astype(int) - np.asarray(other.image)).max() <= 2


def test_a_batch_that_fails_is_made_one_by_one(inpaint, runs, monkeypatch) -> None:
    forward = inpaint.unet.forward

    def small(sample, *args, **kwargs):
        if len(sample) > 2:
            raise MemoryError("too large")
        return forward(sample, *args, **kwargs)

    monkeypatch.setattr(inpaint.unet, "forward", small)
    with pytest.warns(UserWarning, match="batch: 3 pictures at once failed .too large.; they are made one by one"):
        records = list(sweep(inpaint, over={"seed": range(3)}, batch=True, **call(inpaint)))
    assert runs == [[0, 1, 2], [0], [1], [2]]
    assert all(record.exact and record.error is None for record in records)


def test_one_that_fails_keeps_its_place(inpaint, tmp_path) -> None:
    given = without(call(inpaint), "strength", "num_inference_steps")
    over = {"strength": [0.1, 1.0], "num_inference_steps": [2, 10]}
    records = list(sweep(inpaint, over=over, folder=tmp_path / "kept", **given))
    assert [record.error is None for record in records] == [False, True, True, True]
    assert records[0].image is None and records[0].error.startswith("ValueError: After adjusting")
    assert records[0].parameters["strength"] == 0.1
    assert len(list((tmp_path / "kept").glob("*.png"))) == 3


def test_a_sweep_goes_on_where_it_was_and_makes_nothing_twice(inpaint, runs, tmp_path) -> None:
    folder = tmp_path / "sweep"
    given = call(inpaint)
    first = sweep(inpaint, over={"seed": [5, 6, 7]}, folder=folder, **given)
    started = [next(first), next(first)]
    first.close()
    rest = list(sweep(load("sd15-inpaint"), over={"seed": [5, 6, 7]}, folder=folder, **given))
    assert runs == [[5], [6], [7]]
    assert same(rest[0], started[0]) and same(rest[1], started[1])
    assert [record.parameters["seed"] for record in rest] == [5, 6, 7]
    more = list(sweep(inpaint, over={"seed": [4, 5, 6, 7]}, folder=folder, **given))
    assert runs[3:] == [[4]] and same(more[1], rest[0])
    names = sorted(path.name for path in folder.iterdir())
    assert [name.split(" ")[:2] for name in names] == [[f"000{place}", f"seed={place + 4}"] for place in range(4)]


def test_another_picture_weight_or_scheduler_is_made_anew(inpaint, runs, tmp_path) -> None:
    folder = tmp_path / "sweep"
    given = call(inpaint)
    list(sweep(inpaint, over={"seed": [1]}, folder=folder, **given))
    list(sweep(inpaint, over={"seed": [1]}, folder=folder, **given | {"image": noise(8)}))
    list(sweep(inpaint, over={"seed": [1]}, folder=folder, scheduler="DDIMScheduler", **given))
    with torch.no_grad():
        inpaint.unet.conv_in.weight.mul_(1.1)
    list(sweep(inpaint, over={"seed": [1]}, folder=folder, **given))
    assert len(runs) == 4 and len(list(folder.iterdir())) == 4


def test_an_exact_sweep_does_not_take_pictures_of_a_batch(inpaint, runs, tmp_path) -> None:
    folder = tmp_path / "sweep"
    given = call(inpaint) | {"over": {"seed": [1, 2]}, "folder": folder}
    assert not any(record.exact for record in sweep(inpaint, batch=True, **given))
    assert all(record.exact for record in sweep(inpaint, **given))
    assert all(record.exact for record in sweep(inpaint, batch=True, **given))  # takes the better ones
    assert runs == [[1, 2], [1], [2]]


def test_a_broken_file_is_made_again(inpaint, runs, tmp_path) -> None:
    folder = tmp_path / "sweep"
    given = call(inpaint) | {"over": {"seed": [1]}, "folder": folder}
    record = next(sweep(inpaint, **given))
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:200])
    with pytest.warns(UserWarning, match="is made again: .*broken or cut off"):
        assert same(next(sweep(inpaint, **given)), record)
    assert len(runs) == 2


def test_a_killed_sweep_leaves_only_whole_pictures(tmp_path) -> None:
    folder = tmp_path / "sweep"
    code = textwrap.dedent(f"""
        import helpers, torch
        from pathlib import Path
        from helpers.common import paths
        paths.MINIATURES = Path({str(paths.MINIATURES)!r})
        from tests.unit.generation.test_sweeps import call
        pipe = helpers.load("sd15-inpaint")
        for record in helpers.sweep(pipe, over={{"seed": range(10000)}}, folder={str(folder)!r}, **call(pipe)):
            pass
    """)
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[3])
    deadline = time.monotonic() + 240
    while len(list(folder.glob("*.png")) if folder.is_dir() else []) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    process.wait()
    files = sorted(folder.glob("*.png"))
    records = [Record.load(file) for file in files]
    assert [record.parameters["seed"] for record in records] == list(range(len(files)))


def test_the_pipelines_own_bars_come_back(inpaint, capfd) -> None:
    inpaint.set_progress_bar_config(desc="mine")
    records = sweep(inpaint, over={"seed": [1, 2]}, **call(inpaint) | {"progress": True})
    next(records)
    assert inpaint._progress_bar_config == {"disable": True}
    records.close()
    assert inpaint._progress_bar_config == {"desc": "mine"}
    shown = capfd.readouterr().err
    assert "1/2" in shown and "picture" in shown


@pytest.mark.parametrize(
    ("more", "kind", "message"),
    [
        ({"over": {"strenth": [0.5]}}, TypeError, "strenth=.*does not take it. Did you mean 'strength'"),
        ({"over": {"seed": [1]}, "guidance": 3}, TypeError, "Did you mean 'guidance_scale'"),
        ({"over": {"seed": []}}, ValueError, r"over\['seed'\] has no values"),
        ({"over": {}}, ValueError, "over names 0 arguments; expected 1 to 3"),
        ({"over": {"seed": [1], "eta": [0], "width": [32], "height": [32]}}, ValueError, "over names 4 arguments"),
        ({"over": [1, 2]}, TypeError, r"over=\[1, 2\]: expected a dict"),
        ({"over": {"prompt": "a cat"}}, TypeError, r"over\['prompt'\]='a cat': expected a list of values"),
        ({"over": {"seed": 3}}, TypeError, r"over\['seed'\]=3: expected a list of values"),
        ({"over": {"seed": [1, 2, 1]}}, ValueError, r"over\['seed'\] has 1 twice"),
        ({"over": {"seed": [1]}, "seed": 2}, ValueError, "seed is in over and in the call as well"),
        ({"over": {"strength": [0.5, 1.5]}}, ValueError, "strength=1.5: expected a number from 0"),
        ({"over": {"num_inference_steps": [4, 0]}}, ValueError, "num_inference_steps=0: expected a whole number"),
        ({"over": {"strength": [0, 0.5]}}, ValueError, "strength=0 with num_inference_steps=4 .*strength to .* 0.25"),
        ({"over": {"strength": [0.5, 0.2]}}, ValueError, "strength=0.2 with num_inference_steps=4 .*steps to .* 5, or"),
        ({"over": {"seed": [1]}, "strength": 0.2}, ValueError, "strength=0.2 with num_inference_steps=4 leaves no"),
        ({"over": {"num_inference_steps": [2, 4]}, "strength": 0.2}, ValueError, "strength=0.2 with .*steps=4 "),
        ({"over": {"strength": [0, 1], "num_inference_steps": [2, 9]}}, ValueError, "strength=0 with .*steps=9 leaves"),
        ({"over": {"strength": [0.2, 0.4], "num_inference_steps": [2, 9]}}, ValueError, "strength=0.4 with .*steps=2 "),
        ({"over": {"height": [32, 33]}}, ValueError, "height=33 x 33: width and height must be multiples of 8"),
        ({"over": {"scheduler": ["DDIM"]}}, ValueError, "diffusers has no such scheduler"),
        ({"over": {"guidance_scale": [1, 2]}, "batch": True}, ValueError, "name 'seed' last in over"),
        ({"over": {"seed": [1, 2], "eta": [0.0]}, "batch": True}, ValueError, "name 'seed' last in over"),
        ({"over": {"seed": [1, 2]}, "batch": -1}, ValueError, "batch=-1: expected True, False or how many"),
        ({"over": {"seed": [1, 2]}, "batch": True, "padding_mask_crop": 4}, ValueError, "one picture at a time"),
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


def test_a_folder_that_cannot_be_is_refused(inpaint, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="folder=.* cannot be made"):
        sweep(inpaint, over={"seed": [1]}, folder=tmp_path / "file", **call(inpaint))


def test_silence_ends_with_the_last_of_those_who_asked_for_it() -> None:
    pipe = load("sd15")
    pipe.set_progress_bar_config(leave=False)
    one, other = calls.silent(pipe), calls.silent(pipe)
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert pipe._progress_bar_config == {"disable": True}
    other.__exit__(None, None, None)
    assert pipe._progress_bar_config == {"leave": False}
