"""Pickles are read as numbers only, once, on an explicit yes; a malicious one does nothing."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from huggingface_hub import snapshot_download

from helpers.catalog import revisions
from helpers.catalog.checkpoints import CATALOG
from helpers.cli.main import main
from helpers.hub import convert_pickles, download

PIXEL = CATALOG["pixel-art"]
UNET, VAE = "unet/diffusion_pytorch_model.bin", "vae/diffusion_pytorch_model.bin"


class Bomb:
    """Unpickled, it makes a file: what any code could do."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def saved(state: object) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def convert() -> int:
    return main(["download", "pixel-art", "--yes", "--pickles"])


@pytest.fixture
def published(desk):
    """The Hub with pickles that hold weights; the states by path."""
    shared = torch.arange(6.0)
    states = {
        UNET: {"a": torch.ones(2, 3), "b": shared[:3], "c": shared.view(2, 3).T, "n": torch.tensor(7)},
        VAE: {"state_dict": {"w": torch.zeros(4, dtype=torch.float16)}},
    }
    desk.push(PIXEL.hub_id, {path: saved(state) for path, state in states.items()})
    return states


def test_without_the_yes_they_are_left_out(published, desk, capsys):
    assert main(["download", "pixel-art", "--yes"]) == 0
    out = capsys.readouterr().out
    assert "left out" in out and "course download --pickles converts them" in out
    assert [path for path in desk.fetched(PIXEL.hub_id)] == []
    with pytest.raises(ValueError, match="as pickles only, .* course download pixel-art --pickles.* Or load the mini"):
        download.folders(PIXEL)


def test_with_the_yes_they_become_the_same_tensors_as_safetensors(published, desk, capsys):
    assert main(["download", "pixel-art", "--yes", "--pickles"]) == 0
    folder, prior, variant = download.folders(PIXEL)
    assert prior is variant is None
    files = {path: desk.files(PIXEL.hub_id)[path].bytes for path in ("model_index.json", "unet/config.json")}
    for path, data in files.items():
        assert (convert_pickles.folder(PIXEL) / path).read_bytes() == data
    expected = {UNET: published[UNET], VAE: published[VAE]["state_dict"]}
    for path, state in expected.items():
        found = safetensors.torch.load_file(f"{folder}/{path.removesuffix('.bin')}.safetensors")
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], state[key]) and found[key].dtype == state[key].dtype for key in state)
    assert not list(convert_pickles.folder(PIXEL).rglob("*.bin"))
    assert (convert_pickles.folder(PIXEL) / convert_pickles.NOTE).read_text() == desk.commit(PIXEL.hub_id)
    assert "✓ pixel-art" in capsys.readouterr().out


def test_a_second_time_nothing_is_fetched(published, desk):
    assert convert() == 0
    desk.requests.clear()
    assert convert() == 0
    assert desk.fetched() == []


@pytest.mark.parametrize("own", ["*", "*.json", "unet/*"])
def test_what_the_user_had_of_that_commit_stays(published, desk, own):
    folder = Path(snapshot_download(PIXEL.hub_id, allow_patterns=own))
    before = {path for path in folder.rglob("*") if path.is_file()}
    assert convert() == 0
    after = {path for path in folder.rglob("*") if path.is_file()}
    assert before and before <= after


@pytest.mark.parametrize("hidden", [lambda bomb: bomb, lambda bomb: {"a": torch.ones(1), "b": bomb}])
@pytest.mark.parametrize("save", [saved, pickle.dumps])
def test_a_malicious_pickle_does_nothing_and_is_named(desk, tmp_path, capsys, save, hidden):
    desk.push(PIXEL.hub_id, {UNET: save(hidden(Bomb(tmp_path / "owned")))})
    assert main(["download", "pixel-art", "--yes", "--pickles"]) == 1
    assert not (tmp_path / "owned").exists()
    said = capsys.readouterr().err
    assert f"{UNET} was not read: it holds more than weights" in said and "use the mini edition" in said
    assert convert_pickles.converted(PIXEL) is None
    assert not list((tmp_path / "course" / "converted").iterdir())
    pickle.loads(pickle.dumps(Bomb(tmp_path / "owned")))  # it would have
    assert (tmp_path / "owned").exists()


@pytest.mark.parametrize("state, message", [([torch.ones(1)], "no list of weights"), ({"a": "text"}, "no list of")])
def test_what_holds_no_weights_is_refused(tmp_path, state, message):
    (tmp_path / "x.bin").write_bytes(saved(state))
    with pytest.raises(ValueError, match=message):
        convert_pickles.read(tmp_path / "x.bin")


@pytest.mark.parametrize("data", [b"", b"not a pickle", saved({"a": torch.ones(9)})[:-50]])
def test_a_damaged_pickle_is_named(tmp_path, data):
    (tmp_path / "x.bin").write_bytes(data)
    with pytest.raises(ValueError, match="x.bin was not read: it holds more than weights, or is damaged"):
        convert_pickles.read(tmp_path / "x.bin")


def test_a_copy_of_another_commit_than_the_pin_is_none(published, desk):
    convert()
    revisions.write({PIXEL.hub_id: desk.commit(PIXEL.hub_id)})
    assert convert_pickles.converted(PIXEL)
    revisions.write({PIXEL.hub_id: "0" * 40})
    assert convert_pickles.converted(PIXEL) is None
