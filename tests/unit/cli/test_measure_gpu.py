"""The shapes that `course measure-gpu` builds are the catalogue's, and the command runs on the miniatures."""

from __future__ import annotations

import json

import pytest
import torch

from helpers.catalog.checkpoints import CATALOG
from helpers.cli import full_size, measure_gpu
from helpers.cli.main import main
from tests.support.tiny import tiny_course  # noqa: F401


@pytest.mark.parametrize("name", ["sd15", "sd15-inpaint", "sdxl-inpaint", "kandinsky22"])
def test_the_catalogue_counts_parameters_right(name):
    with torch.device("meta"):
        models = full_size.models(name)
    counted = {
        part: round(sum(tensor.numel() for tensor in model.parameters()) / 1e6) for part, model in models.items()
    }
    assert counted == pytest.approx(dict(CATALOG[name].parameters), rel=0.002)
    components = full_size.pipeline(name, models).components
    assert all(components[part] is model for part, model in models.items())


def test_it_needs_a_gpu_and_can_be_tried_out_without_one(tiny_course, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["measure-gpu"]) == 2
    assert "there is no CUDA GPU here. --quick tries the command out" in capsys.readouterr().err
    out = tmp_path / "run.json"
    assert main(["measure-gpu", "--quick", "--out", str(out)]) == 0
    run = json.loads(out.read_text())
    rows = run["rows"]
    assert {"machine", "date"} <= run.keys()
    assert [row["variant"] for row in rows["dtype"]] == ["float32", "float16", "bfloat16"]
    assert {row["checkpoint"] for row in rows["plan"]} == set(measure_gpu.PLANNED)
    assert {row["worked"] for row in rows["plan"]} == {"yes"}
