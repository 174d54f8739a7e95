"""What the last page claims: what newer pipelines take, and where a record survives."""

from __future__ import annotations

import re

import diffusers
import pytest

from helpers import CATALOG, models
from helpers.cli import notebook_runner
from tests.notebooks.running import prose, visited

CHAPTER = notebook_runner.NOTEBOOKS / "10_where_next.ipynb"


@pytest.fixture(scope="module")
def chapter():
    """What its cells made."""
    return visited(CHAPTER)


def test_most_arguments_are_still_there(chapter):
    kept = {"image", "guidance_scale", "num_inference_steps", "generator", "callback_on_step_end"}
    assert all(kept <= set(known) for known in chapter.taken.values())
    with_mask = [known for key, known in chapter.taken.items() if key != "Qwen edit"]
    assert all({"mask_image", "strength"} <= set(known) for known in with_mask)


def test_what_changed_is_what_the_table_says(chapter):
    taken = chapter.taken
    assert "mask_image" not in taken["Qwen edit"] and "negative_prompt" not in taken["Flux Fill"]
    assert taken["Flux Fill"]["guidance_scale"].default == 30
    assert "true_cfg_scale" in taken["Kontext"] and "true_cfg_scale" in taken["Qwen edit"]
    assert "true_cfg_scale" not in taken["SD 1.5"]
    assert hasattr(diffusers, "ModularPipeline")
    rows = chapter.said_by["signatures"].splitlines()
    assert len(rows) == 1 + len(chapter.asked) and re.search(r"guidance_scale +7\.5 +30\.0 +3\.5", rows[7])


def test_a_record_survives_its_own_file_and_no_other(chapter):
    assert chapter.again.parameters["prompt"] == "a red boat" == chapter.record.parameters["prompt"]
    assert "only PNG files written by Record.save do" in chapter.said_by["provenance"]
    assert not chapter.file.exists()


def test_licences_are_named_as_it_says():
    assert {checkpoint.licence for checkpoint in CATALOG.values()} >= {"creativeml-openrail-m", "openrail++"}
    assert "creativeml-openrail-m" in str(models("sd15"))
    assert "`models()` names every licence" in prose(CHAPTER)
