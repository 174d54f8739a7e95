"""The command on consoles that are not UTF-8: what they cannot show is named, and nothing dies of it."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from helpers.cli import doctor, download, notebook_runner
from helpers.cli.main import main

ENCODINGS = ("ascii", "cp1252", "gbk")


class Console(io.TextIOWrapper):
    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)


@pytest.fixture(params=ENCODINGS)
def consoles(request, monkeypatch):
    """Puts consoles of this encoding in place: stdout and stderr."""

    def consoles() -> tuple[Console, Console]:
        out, err = Console(request.param), Console(request.param)
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        return out, err

    return consoles


def test_every_sign_is_shown_somehow(consoles, monkeypatch) -> None:
    out, _ = consoles()
    found = doctor.Checkup({"Über uns – 机器 🏰": [doctor.Row(state, "a…b", state) for state in doctor.SIGNS]}, "„x“")
    monkeypatch.setattr(doctor, "doctor", lambda: found)
    assert main(["doctor"]) == 1
    assert all(row.label in out.text() for row in found.rows) and "ber uns" in out.text()
    if out.encoding == "ascii":
        assert r"\N{CHECK MARK}" in out.text() and r"\N{BALLOT X}" in out.text()


@pytest.mark.parametrize("command", ["models", "doctor"])
def test_the_commands_themselves_print(consoles, command, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "_packages", list)
    out, _ = consoles()
    assert main([command]) in (0, 1)
    assert "sd15-inpaint" in out.text()


def test_help_errors_and_signs_on_the_way_print(consoles, monkeypatch) -> None:
    out, err = consoles()
    for arguments in (["-h"], ["download", "--help"], ["run", "--help"], ["pin", "-h"], ["—"]):
        with pytest.raises(SystemExit):
            main(arguments)
    assert main(["run", "第一章.ipynb"]) == 2 and "Known" in err.text()
    assert main(["run", "\udcff"]) == 2
    monkeypatch.setattr(download.client, "offline", lambda: True)
    assert main(["download", "sd15"]) == 1
    assert len(err.text()) > 200 and "HF_HUB_OFFLINE" in out.text()


def test_a_chapter_that_ran_is_ticked_off(consoles, monkeypatch, tmp_path) -> None:
    def fails(path, **_):
        raise notebook_runner.ChapterError(path, cell=1, source="1\n" * 9, reason="é – 中")

    path = tmp_path / "a.ipynb"
    path.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    monkeypatch.setattr(notebook_runner, "execute", fails)
    out, err = consoles()
    assert main(["run", str(path)]) == 1
    assert "a.ipynb, cell [1]" in out.text() and "1 of 1 stopped" in err.text()


def test_a_process_on_such_a_console_ends_well(repository) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0", "PYTHONPATH": str(repository)}
    run = [sys.executable, "-m", "helpers", "run", "ünbekannt ✓ 章"]
    done = subprocess.run(run, env=environment, capture_output=True)
    assert done.returncode == 2 and b"Traceback" not in done.stderr and b"\xfcnbekannt \\N{CHECK MARK}" in done.stderr
