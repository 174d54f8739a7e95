"""The doctor: what it finds of this machine, the packages and the miniatures, and what it sends the reader for."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from helpers.catalog import editions, miniatures
from helpers.cli import doctor
from helpers.cli.main import main
from helpers.common import paths


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch) -> Path:
    """A folder of miniatures with one checkpoint of one component."""
    monkeypatch.setattr(paths, "MINIATURES", tmp_path)
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text("{}")
    components = {"vae": ["diffusers", "AutoencoderKL", "vae"]}
    entry = {"pipeline": "StableDiffusionPipeline", "size": 128, "components": components}
    (tmp_path / miniatures.RECIPES).write_text(json.dumps({"sd15": entry}))
    return tmp_path


def rows(found: doctor.Checkup) -> dict[str, doctor.Row]:
    return {row.label: row for row in found.rows}


def test_the_doctor_finds_this_machine_well(shipped: Path, monkeypatch, capsys) -> None:
    installed = {name: metadata.version(name) for name in doctor.needed()}
    monkeypatch.setattr(doctor, "pins", lambda: installed)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    at = [out.index(f" {title}\n") for title in ("Machine", "Edition", "Packages", "Checkpoints")]
    assert at == sorted(at)
    assert ["✓", "torch", installed["torch"]] in [line.split() for line in out.splitlines()]
    assert out.splitlines()[-1].startswith("Next: ") and " lab" in out.splitlines()[-1]


def test_the_doctor_tells_another_version_from_a_missing_package(shipped: Path, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "needed", lambda: ["numpy", "no-such-package"])
    monkeypatch.setattr(doctor, "pins", lambda: {"numpy": "0.1", "no-such-package": "2.0"})
    found = doctor.doctor()
    assert (rows(found)["numpy"].state, rows(found)["no-such-package"].state) == ("note", "bad")
    assert "(tested with 0.1)" in rows(found)["numpy"].value
    assert not found.well
    assert found.next == "python -m pip install -c constraints.txt -e ."


def test_the_doctor_sends_for_missing_miniatures(shipped: Path) -> None:
    assert rows(doctor.doctor())["sd15"].state == "ok"
    (shipped / "vae" / "config.json").unlink()
    found = doctor.doctor()
    assert rows(found)["sd15"].state == "bad"
    assert found.next == "git checkout -- data/miniatures"


def test_the_doctor_reads_a_wrong_edition_and_a_wrong_device(shipped: Path, monkeypatch) -> None:
    monkeypatch.setattr(editions, "_chosen", None)
    monkeypatch.setenv("COURSE_EDITION", "huge")
    found = doctor.doctor()
    assert "COURSE_EDITION is 'huge'" in rows(found)["in use"].value
    assert found.next == "unset COURSE_EDITION"
    monkeypatch.setenv("COURSE_EDITION", "mini")
    monkeypatch.setenv("COURSE_DEVICE", "abacus")
    found = doctor.doctor()
    assert "'abacus'" in rows(found)["device"].value
    assert found.next.startswith("mend what is marked ✗")


def test_the_doctor_shows_itself_in_a_notebook() -> None:
    found = doctor.Checkup({"Machine": [doctor.Row("system", "<b>", "ok")]}, "make lab")
    assert "&lt;b&gt;" in found._repr_html_() and "Next: make lab" in found._repr_html_()
    assert str(found) == "   Machine\n✓  system   <b>\nNext: make lab"
