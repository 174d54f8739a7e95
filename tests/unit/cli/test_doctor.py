"""The doctor: what it finds of this machine, the packages and the miniatures, and what it sends the reader for."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from helpers.catalog import editions, miniatures
from helpers.cli import copies, doctor
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


def test_without_make_the_doctor_sends_to_copies_and_to_the_copy_of_chapter_00(shipped: Path, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "pins", lambda: {name: metadata.version(name) for name in doctor.needed()})
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    first, then = doctor.doctor().next.split(", then: ")
    assert first == "course copies" and then.endswith(f"/lab/tree/{copies.FOLDER.name}/00_welcome.ipynb")


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


@pytest.mark.parametrize("kind", ["under a file", "a file", "a dead link", "a full disk"])
@pytest.mark.parametrize("edition", ["mini", "full"])
def test_a_cache_that_cannot_be_written_to_is_not_well(shipped: Path, monkeypatch, tmp_path, kind, edition) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    places = {"under a file": "file/cache", "a file": "file", "a dead link": "link", "a full disk": "new/cache"}
    cache = tmp_path / places[kind]
    monkeypatch.setenv("COURSE_CACHE", str(cache))
    monkeypatch.setattr(doctor.client, "cache_folder", lambda: cache)
    if kind == "a full disk":

        def full(*_) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
    [row] = doctor._disk(edition)
    assert row.state == "bad" and f"{cache}" in row.value and "cannot be written to (" in row.value
    assert {"mini": "set COURSE_CACHE", "full": "set HF_HOME"}[edition] in row.value


def test_looking_at_the_cache_leaves_nothing(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "not" / "yet"))
    assert doctor._disk("mini")[0].state in ("ok", "note") and not list(tmp_path.iterdir())


def test_without_a_home_folder_the_doctor_says_what_to_set(shipped: Path, monkeypatch) -> None:
    pwd = pytest.importorskip("pwd")

    def unknown(_):
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "COURSE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    found = doctor.doctor()
    assert rows(found)["disk"].state == "bad" and "Set the environment's COURSE_CACHE" in rows(found)["disk"].value
    assert found.next.startswith("mend what is marked ✗")
