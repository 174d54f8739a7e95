"""Which files of a repository are read: the same that diffusers itself fetches, for every layout of the catalogue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from helpers.catalog import revisions
from helpers.catalog.checkpoints import CATALOG
from helpers.hub import download, repo_files
from tests.hub import checkpoints
from tests.hub.desk import repository

PIPELINES = [name for name in CATALOG if CATALOG[name].tasks and not CATALOG[name].pickled]
# diffusers fetches, and offline asks for, the refiner's second VAE, which no pipeline reads; load() does without.
UNREAD = "vae_1_0/"


def contents(data) -> bytes:
    return data() if callable(data) else data


@pytest.fixture
def served(desk):
    """Every repository with its real layout; in each file stands its name, but in an index what belongs there."""
    for repo, files in checkpoints.repositories(checkpoints.SMALL).items():
        tree = {path: path.encode() * (1 + path.endswith("safetensors")) for path in files}
        real = {path: contents(files[path]) for path in ("model_index.json", "README.md") if path in files}
        desk.push(repo, {path: None for path in desk.files(repo)} if repo in desk.repos else {})
        desk.push(repo, tree | real)
    return desk


@pytest.mark.parametrize("name", PIPELINES)
def test_it_is_what_diffusers_fetches(served, name):
    import diffusers

    checkpoint = CATALOG[name]
    [chosen, *_] = download.plan(checkpoint)
    passed = {"safety_checker": None} if checkpoint.family == "sd" else {}
    folder = diffusers.DiffusionPipeline.download(
        checkpoint.hub_id, variant=checkpoint.variant, use_safetensors=True, load_connected_pipeline=True, **passed
    )
    fetched = {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}
    mine = set(chosen.snapshot.files)
    assert {path for path in fetched - mine if not path.startswith(UNREAD)} == set()
    assert not [path for path in mine - fetched if path.endswith(repo_files.WEIGHTS)]


@pytest.mark.parametrize("name", [name for name in PIPELINES if name != "sdxl-refiner"])
def test_diffusers_is_content_offline_with_what_was_fetched(served, monkeypatch, name):
    import diffusers

    checkpoint = CATALOG[name]
    download.fetch(download.plan(checkpoint))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    served.requests.clear()
    passed = {"safety_checker": None} if checkpoint.family == "sd" else {}
    kwargs = {"variant": checkpoint.variant, "use_safetensors": True, "load_connected_pipeline": True, **passed}
    assert Path(diffusers.DiffusionPipeline.download(checkpoint.hub_id, **kwargs)).is_dir()
    assert served.requests == []


def test_a_pinned_checkpoint_is_found_offline_by_diffusers(served, monkeypatch):
    import diffusers

    old = served.commit(CATALOG["sd15"].hub_id)
    served.push(CATALOG["sd15"].hub_id, {"unet/config.json": b"new"})
    revisions.write({CATALOG["sd15"].hub_id: old})
    download.fetch(download.plan(CATALOG["sd15"]))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    kwargs = {key: CATALOG["sd15"].load_kwargs[key] for key in ("revision", "variant", "use_safetensors")}
    folder = diffusers.DiffusionPipeline.download(CATALOG["sd15"].hub_id, safety_checker=None, **kwargs)
    assert Path(folder).name == old


# What is chosen, without a Hub


def choose(*forms: str, variant: str | None = None, **how: object) -> tuple[list[str], str | None]:
    """The weights, and their variant."""
    files = repository(*forms)
    chosen, found = repo_files.choose(files, json.loads(files["model_index.json"]), variant=variant, **how)
    assert not [path for path in chosen if path.startswith(("safety_checker", "whole")) or path.endswith(".py")]
    return [path for path in chosen if path.endswith(repo_files.WEIGHTS)], found


@pytest.mark.parametrize(
    "forms, variant, found, file",
    [
        (("safetensors", "fp16.safetensors"), "fp16", "fp16", "fp16.safetensors"),
        (("safetensors", "fp16.safetensors", "ckpt", "msgpack"), None, None, "safetensors"),
        (("safetensors", "bin", "fp16.bin"), "fp16", None, "safetensors"),
        (("fp16.safetensors", "bin", "fp16.bin"), "fp16", "fp16", "fp16.safetensors"),
        (("safetensors", "non_ema.safetensors"), "fp16", None, "safetensors"),
    ],
)
def test_the_variant_or_else_the_plain_files(forms, variant, found, file):
    expected = [f"{folder}/diffusion_pytorch_model.{file}" for folder in ("unet", "vae")]
    assert choose(*forms, variant=variant) == (expected, found)


def test_pickles_on_request_alone():
    expected = ["unet/diffusion_pytorch_model.bin", "vae/diffusion_pytorch_model.bin"]
    assert choose("safetensors", "bin", "ckpt", pickled=True) == (expected, None)


def test_shards_come_with_their_index():
    shards = {f"model.fp16-0000{n}-of-00002.safetensors" for n in (1, 2)} | {"model.safetensors.index.fp16.json"}
    plain = {f"model-0000{n}-of-00002.safetensors" for n in (1, 2)} | {"model.safetensors.index.json"}
    files = {"config.json", *shards, *plain}
    assert set(repo_files.choose(files, None, variant="fp16")[0]) == {"config.json", *shards}
    assert set(repo_files.choose(files, None)[0]) == {"config.json", *plain}


@pytest.mark.parametrize(
    "forms, how", [(("bin",), {}), (("fp16.safetensors",), {}), (("safetensors",), {"pickled": 1})]
)
def test_a_model_without_weights_that_are_read_is_named(forms, how):
    with pytest.raises(FileNotFoundError, match="no .* weights for unet, vae"):
        choose(*forms, **how)
