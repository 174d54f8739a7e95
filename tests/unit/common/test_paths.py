"""Paths: where the data and the cache lie, "~" only where it means a home folder, and what cannot be read in words."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.common import paths

pwd = pytest.importorskip("pwd", reason="another system")


@pytest.fixture
def site(repository, tmp_path) -> Path:
    """An installation of the package's beginnings, without the checkout."""
    site = tmp_path / "site-packages"
    for part in ("__init__.py", "common"):
        source = repository / "helpers" / part
        copy = shutil.copytree if source.is_dir() else shutil.copy
        (site / "helpers").mkdir(parents=True, exist_ok=True)
        copy(source, site / "helpers" / part)
    return site


@pytest.fixture
def homeless(monkeypatch) -> None:
    """A user whom the system does not know, with nothing set, as in a container."""
    for name in ("HOME", "COURSE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(*_):
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(pwd, "getpwnam", unknown)


def test_an_installation_without_the_checkout_says_what_to_do(site, tmp_path):
    run = [sys.executable, "-c", "from helpers.common.paths import DATA; print(DATA)"]
    lost = subprocess.run(run, cwd=tmp_path, env={"PYTHONPATH": str(site)}, capture_output=True, text=True)
    assert "ImportError: the course's data is not in" in lost.stderr and "`pip install -e .`" in lost.stderr
    told = {"PYTHONPATH": str(site), "COURSE_DATA": str(tmp_path)}
    found = subprocess.run(run, cwd=tmp_path, env=told, capture_output=True, text=True)
    assert found.stdout == f"{tmp_path}\n"


def test_relative_folders_count_from_where_python_started(site, tmp_path):
    """Also after a change of folder, and in the processes that this one starts."""
    names = ("COURSE_DATA", "COURSE_CACHE", "HF_HOME", "HF_HUB_CACHE", "COURSE_TRAINING")
    for name in names:
        (tmp_path / name).mkdir()
    code = (
        "import os, subprocess, sys; from helpers.common import paths; os.chdir('/')\n"
        "print(paths.DATA, paths.cache_folder(), *(os.environ[n] for n in sys.argv[2:]), sep='\\n')\n"
        "if sys.argv[1] == 'parent': subprocess.run([sys.executable, '-c', sys.stdin.read(), 'child', *sys.argv[2:]])"
    )
    env = {"PYTHONPATH": str(site), **{name: name for name in names}}
    run = [sys.executable, "-c", code, "parent", *names]
    found = subprocess.run(run, cwd=tmp_path, env=env, input=code, capture_output=True, text=True)
    wanted = [str(tmp_path / name) for name in ("COURSE_DATA", "COURSE_CACHE", *names)]
    assert found.stdout.splitlines() == wanted * 2, found.stderr


def test_a_cache_that_is_set_relative_later_counts_from_there_too(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_CACHE", "a/cache")
    before = paths.cache_folder()
    monkeypatch.chdir(tmp_path)
    assert paths.cache_folder() == before and before.is_absolute()


def test_a_tilde_means_a_home_folder_or_nothing(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert paths.expand("~") == tmp_path / "home" and paths.expand("~/a.png") == tmp_path / "home/a.png"
    for name in ("~mask.png", "~nobody-at-all/mask.png", "a~b.png", "./~/x", "x/~/y", "~~", ""):
        assert paths.expand(name) == Path(name)
    assert paths.expand("~root/x") == Path(pwd.getpwnam("root").pw_dir, "x")
    (tmp_path / "~root").mkdir()  # what is there is meant
    assert paths.expand("~root/x") == Path("~root/x")


def test_without_a_home_only_what_needs_one_is_refused(homeless, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert paths.expand("~mask.png") == Path("~mask.png") and paths.expand("~me/x") == Path("~me/x")
    for path in ("~", "~/a.png", Path("~/a.png")):
        with pytest.raises(ValueError, match=r"folder='~.*no home folder is known here\. Set HOME"):
            paths.expand(path, name="folder")
    with pytest.raises(ValueError, match="no home folder.* Set the environment's COURSE_CACHE"):
        paths.cache_folder()
    monkeypatch.setenv("COURSE_CACHE", "~/cache")
    with pytest.raises(ValueError, match="COURSE_CACHE='~/cache': no home folder"):
        paths.cache_folder()
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    assert paths.cache_folder() == tmp_path
    assert not list(tmp_path.iterdir())  # above all no folder of the name "~"


@pytest.mark.parametrize("name", ["a\0b", "\ud800.png", "~a\0b", "~\ud800/x"])
def test_what_can_be_no_name_of_a_file_is_refused(name):
    with pytest.raises(ValueError, match=r"path='~?(a\\x00b|\\ud800).* has .*no file's name can have"):
        paths.expand(name)


def locked(path: Path, monkeypatch) -> Path:
    """Let every look at this path be refused, as root's looks never are."""
    for owner, name in ((os, "stat"), (Path, "open")):
        look = getattr(owner, name)

        def refused(what, *rest, look=look, **more):
            if isinstance(what, (str, os.PathLike)) and os.fspath(what) == os.fspath(path):
                raise PermissionError(13, "Permission denied", os.fspath(what))
            return look(what, *rest, **more)

        monkeypatch.setattr(owner, name, refused)
    return path


def test_what_cannot_be_read_says_why(monkeypatch, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")  # a reader would wait for ever
    for name, message in {
        "none.png": rf"none\.png': no such file \(looked in {tmp_path}\)",
        "link": r"link' is a link to '.*gone', which is not there",
        "": "is a folder",
        "pipe": "neither a file nor a folder",
        "x" * 256: "cannot be read: File name too long",
        "文" * 100: "cannot be read: File name too long",
    }.items():
        with pytest.raises(ValueError, match=message):
            paths.read_bytes(tmp_path / name, most=9)
    (tmp_path / "file").write_bytes(b"0123456789abc")
    assert paths.read_bytes(tmp_path / "file", most=9) == b"0123456789"
    with pytest.raises(ValueError, match="cannot be read: Permission denied"):
        paths.read_bytes(locked(tmp_path / "file", monkeypatch), most=9)


def test_writing_is_tried_with_a_name_of_that_length(tmp_path):
    for name in ("", "a.png", "x" * 255, "文" * 85):
        paths.try_writing(tmp_path, name)
    assert not list(tmp_path.iterdir())
    for name in ("x" * 256, "文" * 86):
        with pytest.raises(OSError, match="File name too long"):
            paths.try_writing(tmp_path, name)
    with pytest.raises(OSError):
        paths.try_writing(tmp_path / "none")
