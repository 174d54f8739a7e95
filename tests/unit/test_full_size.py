"""The full checkpoints' true shapes: counted without memory, and saved and loaded where that is asked for."""

from __future__ import annotations

import dataclasses
import os
import shutil

import pytest

from helpers.catalog import devices, editions
from helpers.catalog.checkpoints import CATALOG
from helpers.pipelines import loading
from tests.gpu import fullsize, memory_plan

asked = pytest.mark.skipif(
    not os.environ.get("COURSE_FULL_SIZE"), reason="COURSE_FULL_SIZE=1 writes and loads up to 10 GB of random weights"
)


@pytest.fixture
def full(monkeypatch):
    monkeypatch.setattr(editions, "_chosen", "full")
    loading.unload()
    yield monkeypatch
    loading.unload()


@pytest.mark.parametrize("name", ["sd15-inpaint", "sdxl-inpaint", "sdxl-refiner", "kandinsky22"])
def test_the_catalogue_counts_parameters_right(name):
    counted = {
        part: sum(tensor.numel() for tensor in model.parameters()) / 1e6
        for part, model in fullsize.models(name).items()
    }
    assert counted.keys() == CATALOG[name].parameters.keys()
    assert {part: round(number) for part, number in counted.items()} == pytest.approx(
        dict(CATALOG[name].parameters), rel=0.002
    )


@asked
@pytest.mark.parametrize(
    ("name", "task", "side"),
    [("sd15", "image2image", 64), ("sdxl-inpaint", "inpaint", 128), ("kandinsky22", "image2image", 64)],
)
def test_a_full_size_checkpoint_is_saved_and_loaded_and_shared(name, task, side, full, tmp_path):
    folder = fullsize.save(name, tmp_path / name)
    full.setitem(CATALOG, name, dataclasses.replace(CATALOG[name], hub_id=str(folder), variant="fp16"))
    full.setattr(devices, "_device", lambda: "cpu")
    pipe = loading.load(name, dtype="float16")
    parts = CATALOG[name].parameters
    counted = {part: sum(tensor.numel() for tensor in pipe.components[part].parameters()) / 1e6 for part in parts}
    assert {part: round(number) for part, number in counted.items()} == pytest.approx(dict(parts), rel=0.002)
    assert {str(pipe.components[part].dtype) for part in parts} == {"torch.float16"}
    assert pipe.unet.config.sample_size == side
    other = loading.load(name, task=task, dtype="float16")
    assert all(other.components[part] is pipe.components[part] for part in parts)
    shutil.rmtree(folder)


def test_the_measuring_command_runs_on_tiny_models(capsys, tmp_path, monkeypatch):
    from helpers.analysis import gpu_results

    monkeypatch.setattr(editions, "_chosen", "full")
    loading.unload()
    out = tmp_path / "run.json"
    memory_plan.main(["--quick", "--out", str(out)])
    rows = gpu_results.read(out)["rows"]
    assert [row["variant"] for row in rows["dtype"]] == ["float32", "float16", "bfloat16"]
    assert {row["checkpoint"] for row in rows["plan"]} == set(memory_plan.PLANNED)
    assert all(row["worked"] in ("yes", "not tried") for row in rows["plan"])
    assert {len(rows[what]) for what in ("vae", "batch")} == {4}
