"""The table of cards, and the stored figures that stand beside it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from helpers.analysis.gpu_results import COMMAND, Stored, read, stored, write
from helpers.catalog import checkpoints, devices
from helpers.catalog.checkpoints import CATALOG
from helpers.catalog.devices import GB
from helpers.catalog.memory_plan import CARDS, NAMES, decisions, full_plan


def without_advice(plan):
    return dataclasses.replace(plan, advice="")  # it may name another checkpoint of the edition in use


def test_every_cell_is_the_plan_of_the_full_checkpoint_in_both_editions(monkeypatch):
    mini = str(decisions())
    monkeypatch.setattr(checkpoints, "_chosen", "full")
    assert str(decisions()) == mini
    for name in NAMES:
        for card in CARDS:
            asked = devices.plan(CATALOG[name], free=int(0.92 * card * GB), device="cuda", dtype="float16")
            assert without_advice(asked) == without_advice(full_plan(CATALOG[name], card))
            assert full_plan(CATALOG[name], card) == decisions().choice(name, card)


def test_a_larger_card_never_asks_for_a_slower_way():
    ways = ["none", "model", "sequential"]
    for plans in decisions(cards=range(2, 40)).plans.values():
        ranks = [ways.index(plan.offload) if plan.fits else 3 for plan in plans]
        assert ranks == sorted(ranks, reverse=True)


def test_the_table_names_the_calls_and_what_does_not_fit():
    text = decisions(cards=(2, 8, 24), names=("sdxl-inpaint",))._repr_html_()
    assert "<th>2 GB</th><th>8 GB</th><th>24 GB</th>" in text
    assert "does not fit (" in text and "enable_model_cpu_offload() (" in text and "as it is (" in text
    assert "planned, not measured" in text


@pytest.mark.parametrize("card", [0, -4, True, "8"])
def test_a_card_of_no_size_is_refused(card):
    with pytest.raises(ValueError, match=f"cards has {card!r}: expected sizes in GB, such as 8"):
        decisions(cards=(card,))


# Stored figures


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "DATA", tmp_path)
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
    file = checkpoints.DATA / "gpu_run.json"
    if file.is_file():
        assert all(isinstance(rows, list) for rows in read(file)["rows"].values())
        assert json.loads(file.read_text(encoding="utf-8"))["machine"]
