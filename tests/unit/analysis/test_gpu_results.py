"""The stored run of a GPU."""

from __future__ import annotations

import json

import pytest

from helpers import gpu_measurements
from helpers.analysis.gpu_results import COMMAND
from helpers.common import paths


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "DATA", tmp_path)
    return tmp_path / "gpu_run.json"


def test_without_a_run_it_says_so_and_how_to_make_one(data):
    none = gpu_measurements("offload")
    assert len(none) == 0 and str(none).startswith("Not measured yet (offload)") and COMMAND in none._repr_html_()


def test_a_run_is_read_back_with_its_machine(data):
    rows = [{"variant": "whole", "seconds": 1.23456, "allocated": 3 * 2**30}, {"variant": "model", "needs": None}]
    data.write_text(json.dumps({"machine": "A GPU of 8 GB", "date": "2026-01-02", "rows": {"offload": rows}}))
    found = gpu_measurements("offload")
    assert list(found.columns) == ["variant", "seconds", "allocated, GiB", "planned for, GiB"]
    assert found.rows == [["whole", "1.23", "3.00", "–"], ["model", "–", "–", "–"]]
    assert found.note == "Measured on A GPU of 8 GB, 2026-01-02."
    assert "Not measured yet" in gpu_measurements("plan").note
