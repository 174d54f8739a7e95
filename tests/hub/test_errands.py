# ruff: noqa: F811  (a fixture)
"""`course download` and `course pin`: what they list, ask, do, and what they end with."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from huggingface_hub import constants
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from helpers import download, errands, notebooks, pictures, pins
from helpers.catalog import CATALOG
from helpers.cli import main
from tests.hub.desk import CHOSEN, SD, _desk, desk, no_network, weights  # noqa: F401

UNET = "unet/diffusion_pytorch_model.fp16.safetensors"


@pytest.fixture
def said(capsys):
    """Run the command; its exit status, and what it printed to each stream."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(arguments)
        return status, *capsys.readouterr()

    return run


def answer(monkeypatch, text: str | None) -> list[str]:
    asked = []

    def reply(question: str) -> str:
        asked.append(question)
        if text is None:
            raise EOFError
        return text

    monkeypatch.setattr("builtins.input", reply)
    return asked


def test_it_lists_asks_fetches_and_says_what_comes_next(desk, said, monkeypatch):
    asked = answer(monkeypatch, "y")
    status, out, _ = said("download", "sd15", "pictures")
    assert status == 0 and asked == ["Fetch it? [y/N] "]
    assert desk.url in out and re.search(rf"sd15 +0.1 MB to fetch +{SD}", out)
    assert re.search(r"MB to fetch into .*/hub; [\d.]+ GB are free there", out)
    assert "✓ sd15\n✓ pictures" in out and out.endswith("Next: COURSE_EDITION=full make lab\n")
    assert set(desk.fetched(SD)) == CHOSEN
    assert {path for _, *paths in pictures.GUIDES.values() for path in paths} <= set(desk.fetched())
    status, out, _ = said("download", "sd15", "pictures")
    assert status == 0 and len(asked) == 1 and re.search(r"sd15 +here", out)


@pytest.mark.parametrize("reply", ["n", "", None])
def test_without_a_yes_nothing_is_fetched(desk, said, monkeypatch, reply):
    answer(monkeypatch, reply)
    status, _, err = said("download", "sd15")
    assert status == 1 and "Nothing was fetched. To fetch without being asked: course download --yes" in err
    assert desk.fetched(SD) == ["model_index.json"]


def test_yes_asks_nothing(desk, said, monkeypatch):
    asked = answer(monkeypatch, "n")
    assert said("download", "sd15", "--yes")[0] == 0 and asked == []


def test_one_that_cannot_be_had_does_not_keep_back_the_rest(desk, said):
    status, out, err = said("download", "sd15", "comic", "--yes")
    assert status == 1 and "✓ sd15" in out and "comic: ogkalu/Comic-Diffusion is gone from" in err
    assert re.search(r"comic +about 4.3 GB", out)


def test_a_variant_that_is_not_there_is_said(desk, said, caplog):
    desk.push(SD, {path: None for path in desk.files(SD) if "fp16" in path})
    assert said("download", "sd15", "--yes")[0] == 0
    assert caplog.text.count("has no fp16 files") == 1


def test_too_little_room_ends_it(desk, said, monkeypatch):
    monkeypatch.setattr(download, "free_space", lambda: 10)
    status, _, err = said("download", "sd15", "--yes")
    assert status == 1 and "GB free. Free some space, or set HF_HOME" in err


def test_without_a_network_it_says_what_is_here_and_asks_once(desk, said, no_network):
    said("download", "sd15", "--yes")
    no_network()
    desk.requests.clear()
    assert said("download", "sd15")[0] == 0
    status, out, err = said("download", "sd15", "sdxl-inpaint", "sdxl-refiner", "--yes")
    assert status == 1 and re.search("sd15 +here", out) and re.search("sdxl-inpaint +about 6.9 GB", out)
    assert err.count("cannot be reached") == 1


def test_offline_it_says_so(desk, said, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    status, out, err = said("download", "sd15", "pictures", "--yes")
    assert status == 1 and "HF_HUB_OFFLINE=1: nothing can be fetched" in out and "Unset it" in err


def test_a_token_is_never_printed(desk, said, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    for arguments in (["download", "sd15", "--yes"], ["pin", "sd15"], ["doctor"]):
        assert "hf_secret" not in "".join(map(str, said(*arguments)))


# Which


def chapter(folder: Path, name: str, *cells: str) -> Path:
    path = folder / f"{name}.ipynb"
    cells = [new_markdown_cell("Not 'sdxl-refiner'."), *map(new_code_cell, cells)]
    path.write_text(nbformat.writes(new_notebook(cells=cells)), encoding="utf-8")
    return path


def test_a_chapters_checkpoints_are_read_from_its_code(tmp_path):
    path = chapter(
        tmp_path, "01", "%matplotlib inline\npipe = load('sd15', controlnet='controlnet-depth')  # and comic",
        "for name in ('upscale-x2', 'kandinsky22'):\n    load(name)\nprint('the sd15-inpaint one')",
    )  # fmt: skip
    assert errands.needed(path) == ["sd15", "kandinsky22", "upscale-x2", "controlnet-depth"]


def test_names_chapters_and_paths_are_understood(tmp_path):
    path = chapter(tmp_path, "09_mine", "load('comic')")
    assert errands.meant([str(path), "sd15"]) == ["sd15", "comic", "pictures"]
    assert errands.meant(["pictures"]) == ["pictures"]
    assert {"sd15", "sd15-inpaint", "pictures"} <= set(errands.meant(["01"])) <= set(errands.meant([]))


def test_every_chapter_says_what_it_needs():
    for path in notebooks.chapters(["all"]):
        assert set(errands.needed(path)) <= set(CATALOG)


@pytest.mark.parametrize("name, meant", [("sd16", "'sd15'"), ("01_basic", "'01_basics'"), ("picture", "'pictures'")])
def test_an_unknown_name_gets_a_suggestion(said, name, meant):
    status, _, err = said("download", name)
    assert status == 2 and f"{name!r} is no checkpoint and no chapter. Did you mean {meant}" in err


# Pins


def test_pin_writes_the_commits_that_the_hub_names_and_no_other(desk, said):
    status, out, err = said("pin")
    served = {repo for repo in pins.repositories() if repo in desk.repos} | set(pictures.REPOSITORIES)
    expected = {repo: desk.commit(repo.removeprefix("datasets/")) for repo in served}
    assert pins.read() == expected == json.loads(pins.file().read_text())
    assert status == 1 and err.count("is gone from") == len(pins.repositories()) - len(served) + 2
    assert f"{SD} " in out and desk.commit(SD)[:12] in out and "Next: course download" in out
    assert list(json.loads(pins.file().read_text())) == sorted(expected)


def test_a_second_pin_says_what_has_moved(desk, said):
    assert said("pin", "sd15")[0] == 0
    old = desk.commit(SD)
    status, out, _ = said("pin", "sd15")
    assert "as before" in out and "Next" not in out
    desk.push(SD, {UNET: weights("new")})
    assert f"was {old[:12]}" in said("pin", "sd15")[1] and pins.read() == {SD: desk.commit(SD)}
    assert said("pin", "sd15", "--remove")[0] == 0 and pins.read() == {}


def test_a_repository_that_cannot_be_asked_keeps_its_pin(desk, said):
    pins.write({SD: "a" * 40, "ogkalu/Comic-Diffusion": "b" * 40})
    assert said("pin", "sd15", "comic")[0] == 1
    assert pins.read() == {SD: desk.commit(SD), "ogkalu/Comic-Diffusion": "b" * 40}


def test_without_a_network_the_pins_stay(desk, said, no_network):
    pins.write({SD: "a" * 40})
    no_network()
    status, _, err = said("pin")
    assert status == 1 and err.count("cannot be reached") == 1 and pins.read() == {SD: "a" * 40}
