"""The stored run of a GPU."""

from __future__ import annotations

import json

import pytest

from helpers.analysis.gpu_results import COMMAND, Stored, read, stored, write
from helpers.common import paths


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "DATA", tmp_path)
    return tmp_path / "gpu_run.json"


def test_without_a_run_it_says_so_and_how_to_make_one(data):
    none = stored("offload")
    assert not none.measured and "Not measured yet (offload)" in str(none) and COMMAND in str(none)
    assert "<table>" not in none._repr_html_() and COMMAND in none._repr_html_()


def test_a_run_is_read_back_with_its_machine(data):
    rows = [
        {"variant": "whole <card>", "seconds": 1.23456, "allocated": 3 * 2**30},
        {"variant": "model", "needs": None},
    ]
    write(data, machine="A card of 8 GB", date="2026-01-02", versions={"torch": "2"}, rows={"offload": rows})
    found = stored("offload")
    assert found == Stored("offload", "A card of 8 GB", "2026-01-02", rows)
    text = found._repr_html_()
    assert "whole &lt;card&gt;" in text and "<td>1.23</td>" in text and "<td>3.00</td>" in text
    assert "Stored run: A card of 8 GB, 2026-01-02." in text
    assert "measured on A card of 8 GB, 2026-01-02" in str(found) and "allocated 3.00" in str(found)
    assert not stored("compile").measured


@pytest.mark.parametrize("content", ["{", "[]", '{"rows": {}}', '{"rows": [], "machine": "x", "date": "y"}'])
def test_another_file_is_refused(data, content):
    data.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="make it again: python -m tests.gpu.memory_plan"):
        stored("offload")


def test_the_shipped_run_can_be_read():
    file = paths.DATA / "gpu_run.json"
    if file.is_file():
        assert all(isinstance(rows, list) for rows in read(file)["rows"].values())
        assert json.loads(file.read_text(encoding="utf-8"))["machine"]
