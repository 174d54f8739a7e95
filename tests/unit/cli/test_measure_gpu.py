"""The stored figures of a GPU as tables, and the command that measures them."""

from __future__ import annotations

import json

import pytest
import torch

from helpers import gpu_measurements
from helpers.catalog import memory_plan
from helpers.catalog.checkpoints import CATALOG
from helpers.cli import measure_gpu
from helpers.cli.main import main
from helpers.common import paths


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "DATA", tmp_path)
    return tmp_path / "gpu_run.json"


def test_without_a_run_it_says_so_and_how_to_make_one(data):
    none = gpu_measurements("offload")
    said = f"Not measured yet (offload): it needs a CUDA GPU. On a machine with one, run: {measure_gpu.COMMAND}"
    assert len(none) == 0 and str(none) == said and measure_gpu.COMMAND in none._repr_html_()


def test_a_run_is_read_back_with_its_machine(data):
    rows = [{"variant": "whole", "seconds": 1.23456, "allocated": 3 * 2**30}, {"variant": "model", "needs": None}]
    data.write_text(json.dumps({"machine": "A GPU of 8 GB", "date": "2026-01-02", "rows": {"offload": rows}}))
    found = gpu_measurements("offload")
    assert list(found.columns) == ["variant", "seconds", "allocated, GiB", "planned for, GiB"]
    assert found.rows == [["whole", "1.23", "3.00", "–"], ["model", "–", "–", "–"]]
    assert found.note == "Measured on A GPU of 8 GB, 2026-01-02."
    assert "Not measured yet" in gpu_measurements("plan").note


def test_it_needs_a_gpu(data, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["measure-gpu"]) == 2 and not data.exists()
    assert "there is no CUDA GPU here" in capsys.readouterr().err


@pytest.mark.parametrize("name", measure_gpu.PLANNED)
def test_each_call_is_one_that_its_pipeline_takes_and_memory_may_run_out(tiny_course, monkeypatch, name):
    monkeypatch.setattr(torch.nn.Module, "to", lambda model, *_, **__: model)  # there is no GPU
    monkeypatch.setattr("diffusers.DiffusionPipeline.to", lambda pipe, device: pipe)
    found = measure_gpu.measured(name, dtype="float32")
    assert found["worked"] == "yes" and found["seconds"] > 0
    monkeypatch.setattr("helpers.measure", lambda *_, **__: torch.empty(2**60))
    assert measure_gpu.measured(name, dtype="float32") == {"seconds": None, "worked": "out of memory"}


def test_what_does_not_fit_is_not_tried():
    plan = memory_plan.full_plan(CATALOG["sdxl-inpaint"], 4)
    row = measure_gpu.planned("sdxl-inpaint", 4)
    assert (row["way"], row["worked"], row["needs"]) == ("does not fit", "not tried", plan.needs)
