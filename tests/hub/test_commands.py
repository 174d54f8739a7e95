"""`course download`, `course pin` and the doctor: what they list, ask, do, and what they end with."""

from __future__ import annotations

import json
import re

import pytest
from huggingface_hub import constants

from helpers.catalog import checkpoints, revisions
from helpers.catalog.checkpoints import CATALOG
from helpers.cli import doctor, download
from helpers.cli.main import main
from helpers.hub import guide_images
from tests.hub.desk import CHOSEN, SD, UNET, fetch, weights


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
    assert {path for _, *paths in guide_images.GUIDES.values() for path in paths} <= set(desk.fetched())
    status, out, _ = said("download", "sd15", "pictures")
    assert status == 0 and len(asked) == 1 and re.search(r"sd15 +here", out)


@pytest.mark.parametrize("reply", ["n", "", None])
def test_without_a_yes_nothing_is_fetched(desk, said, monkeypatch, reply):
    answer(monkeypatch, reply)
    status, _, err = said("download", "sd15")
    assert status == 1 and "Nothing was fetched. To fetch without being asked: course download --yes" in err
    assert desk.fetched(SD) == ["model_index.json"]


def test_yes_asks_nothing_and_what_cannot_be_had_does_not_keep_back_the_rest(desk, said, monkeypatch, caplog):
    desk.push(SD, {path: None for path in desk.files(SD) if "fp16" in path})
    asked = answer(monkeypatch, "n")
    status, out, err = said("download", "sd15", "comic", "--yes")
    assert status == 1 and asked == [] and "✓ sd15" in out
    assert "comic: ogkalu/Comic-Diffusion is gone from" in err and re.search(r"comic +about 4.3 GB", out)
    assert caplog.text.count("has no fp16 files") == 1


def test_without_a_network_it_says_what_is_here_and_asks_once(desk, said, no_network, monkeypatch):
    said("download", "sd15", "--yes")
    no_network()
    assert said("download", "sd15")[0] == 0
    status, out, err = said("download", "sd15", "sdxl-inpaint", "sdxl-refiner", "--yes")
    assert status == 1 and re.search("sd15 +here", out) and re.search("sdxl-inpaint +about 6.9 GB", out)
    assert err.count("cannot be reached") == 1
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    status, out, err = said("download", "sd15", "pictures", "--yes")
    assert status == 1 and "HF_HUB_OFFLINE=1: nothing can be fetched" in out and "Unset it" in err


def test_a_token_is_never_printed(desk, said, monkeypatch):
    assert "none, and none is needed" in said("doctor")[1]
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    for arguments in (["download", "sd15", "--yes"], ["pin", "sd15"], ["doctor"]):
        assert "hf_secret" not in "".join(map(str, said(*arguments)))
    assert re.search("token +yes", said("doctor")[1])


@pytest.mark.parametrize(
    "names, expected",
    [
        (["sd15", "pictures"], ["sd15", "pictures"]),
        (["01b"], ["sd15", "sd15-inpaint", "pictures"]),
        (["09", "comic"], ["sd15", "sd15-inpaint", "sdxl-inpaint", "comic", "lcm", "pictures"]),
        (["3", "solutions/03"], ["sd15-inpaint", "sdxl-inpaint", "sdxl-refiner", "kandinsky22-inpaint", "pictures"]),
        ([], [*CATALOG, "pictures"]),
    ],
)
def test_names_and_chapters_are_understood(names, expected):
    assert download.resolve_names(names) == expected


@pytest.mark.parametrize("name, meant", [("sd16", "'sd15'"), ("01_basic", "'01_basics'"), ("picture", "'pictures'")])
def test_an_unknown_name_gets_a_suggestion(said, name, meant):
    status, _, err = said("download", name)
    assert status == 2 and f"{name!r} is no checkpoint and no chapter. Did you mean {meant}" in err


# Pins


def test_pin_writes_the_commits_that_the_hub_names_and_no_other(desk, said):
    status, out, err = said("pin")
    served = {repo for repo in checkpoints.repositories() if repo in desk.repos} | set(guide_images.REPOSITORIES)
    expected = {repo: desk.commit(repo.removeprefix("datasets/")) for repo in served}
    assert revisions.read() == expected == json.loads(revisions.file().read_text())
    assert status == 1 and err.count("is gone from") == len(checkpoints.repositories()) - len(served) + 2
    assert f"{SD} " in out and desk.commit(SD)[:12] in out and "Next: course download" in out
    assert list(json.loads(revisions.file().read_text())) == sorted(expected)


def test_a_second_pin_says_what_has_moved(desk, said):
    assert said("pin", "sd15")[0] == 0
    old = desk.commit(SD)
    _, out, _ = said("pin", "sd15")
    assert "as before" in out and "Next" not in out
    desk.push(SD, {UNET: weights("new")})
    assert f"was {old[:12]}" in said("pin", "sd15")[1] and revisions.read() == {SD: desk.commit(SD)}
    assert said("pin", "sd15", "--remove")[0] == 0 and revisions.read() == {}


def test_what_cannot_be_asked_keeps_its_pin(desk, said, no_network):
    before = {SD: "a" * 40, "ogkalu/Comic-Diffusion": "b" * 40}
    revisions.write(before)
    assert said("pin", "sd15", "comic")[0] == 1
    assert revisions.read() == before | {SD: desk.commit(SD)}
    no_network()
    status, _, err = said("pin")
    assert status == 1 and err.count("cannot be reached") == 1
    assert revisions.read() == before | {SD: desk.commit(SD)}


# The doctor


@pytest.fixture
def with_gpu(monkeypatch):
    monkeypatch.setattr("helpers.catalog.devices.device", lambda: "cuda")


def row(found: doctor.Checkup, label: str) -> tuple[str, str]:
    [row] = [row for row in found.rows if row.label == label]
    return row.value, row.state


def test_the_doctor_sends_for_what_the_chapters_lack(desk, with_gpu, monkeypatch):
    found = doctor.doctor()
    assert row(found, "address") == (f"{desk.url} answers", "ok")
    assert "not here, about 2.1 GB" in row(found, "sd15")[0] and SD in row(found, "sd15")[0]
    assert row(found, "pixel-art")[0].endswith("course download pixel-art --pickles converts them")
    assert row(found, "pins")[0].startswith("none") and "nothing yet" in row(found, "cache")[0]
    assert [item.label for item in found.sections["Checkpoints"]] == [*CATALOG, "pictures"]
    assert found.next == "course download"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE=1" in row(doctor.doctor(), "address")[0]
    assert doctor.doctor().next == "unset HF_HUB_OFFLINE && course download"


def test_the_doctor_tells_whole_from_partial_and_says_pins(desk, with_gpu, no_network, monkeypatch):
    revisions.write({SD: desk.commit(SD)})
    main(["download", "sd15", "pictures", "--yes"])
    weight = fetch("upscale-x4").folder / "unet/diffusion_pytorch_model.safetensors"
    weight.write_bytes(weight.read_bytes()[:100])
    found = doctor.doctor()
    assert row(found, "sd15") == (f"here, 0.1 MB, pinned to {desk.commit(SD)[:12]}", "ok")
    assert row(found, "upscale-x4") == ("0.1 MB of about 3.5 GB here", "note")
    assert row(found, "pins")[0] == f"1 of {len(checkpoints.repositories()) + 2}"
    assert row(found, "pictures") == ("the guides' own are here", "ok")
    monkeypatch.setattr(download, "resolve_names", lambda names: ["sd15", "pictures"])
    assert "lab" in doctor.doctor().next
    monkeypatch.setattr(download, "resolve_names", lambda names: ["sd15", "comic"])
    no_network()
    found = doctor.doctor()
    assert "cannot be reached" in row(found, "address")[0] and found.next == "connect, then: course download"
    assert row(found, "sd15")[1] == "ok"


@pytest.mark.parametrize("text, message", [("{", "JSON"), ("[]", "expected"), ('{"a": "main"}', "pin of a is 'main'")])
def test_a_file_of_pins_that_is_no_good_is_named(desk, text, message):
    revisions.file().write_text(text)
    with pytest.raises(ValueError, match=message):
        revisions.read()
    found = doctor.doctor()
    value, state = row(found, "pins")
    assert state == "bad" and message in value and not found.well


def test_no_file_of_pins_and_the_shipped_one_pin_nothing(desk, repository):
    assert revisions.read() == {}
    assert json.loads((repository / "data" / "pins.json").read_text()) == {}
