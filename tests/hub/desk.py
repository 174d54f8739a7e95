"""The full edition inside the test's own process, with a Hub of small made-up repositories: quick, and no torch.

`desk` is that Hub, a server.Hub. The weights are random bytes: what is fetched, checked and kept does not depend on
what is in them.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_api

from helpers.catalog import editions
from helpers.catalog.checkpoints import CATALOG
from helpers.common import paths
from helpers.hub import client, download, guide_images
from tests.hub.server import Hub

SD = CATALOG["sd15"].hub_id
UNET = "unet/diffusion_pytorch_model.fp16.safetensors"
BIG = 60_000  # bytes of a file of weights
CHOSEN = {  # what from_pretrained reads of SD
    "model_index.json", "README.md", "scheduler/scheduler_config.json", "tokenizer/vocab.json", "unet/config.json",
    UNET, "vae/config.json", "vae/diffusion_pytorch_model.fp16.safetensors",
}  # fmt: skip


def fetch(name: str = "sd15") -> download.Snapshot | None:
    """Download a checkpoint; what the cache then holds of it."""
    download.fetch(download.plan(CATALOG[name]))
    return download.find(CATALOG[name].hub_id, CATALOG[name])


def weights(seed: str, size: int = BIG) -> bytes:
    return random.Random(seed).randbytes(size)


def repository(*forms: str, seed: str = "") -> dict[str, bytes]:
    """A pipeline of a UNet, a VAE, a tokenizer and a safety checker, its weights in these forms."""
    parts = {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
             "tokenizer": ["transformers", "CLIPTokenizer"], "scheduler": ["diffusers", "PNDMScheduler"],
             "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
             "text_encoder": [None, None]}  # fmt: skip
    files = {
        "model_index.json": json.dumps({"_class_name": "StableDiffusionPipeline", **parts}).encode(),
        "README.md": b"# A made-up checkpoint\n",
        "scheduler/scheduler_config.json": b"{}",
        "tokenizer/vocab.json": b'{"a": 0}',
        "tokenizer/code.py": b"raise SystemExit\n",
        "pipeline.py": b"raise SystemExit\n",
        "whole.safetensors": weights("whole"),
    }
    for folder in ("unet", "vae", "safety_checker"):
        stem = "model" if folder == "safety_checker" else "diffusion_pytorch_model"
        files[f"{folder}/config.json"] = json.dumps({"made": folder}).encode()
        files |= {f"{folder}/{stem}.{form}": weights(f"{seed}{folder}{form}") for form in forms}
    return files


@pytest.fixture(scope="session")
def _desk() -> Iterator[Hub]:
    with Hub() as served:
        served.push(SD, repository("safetensors", "fp16.safetensors", "bin", "fp16.bin"))
        served.push(CATALOG["upscale-x4"].hub_id, repository("safetensors", "bin"))
        served.push(CATALOG["pixel-art"].hub_id, repository("bin"))
        drawn = Path(__file__).resolve().parents[2] / "data" / "pictures"
        for name, (repo, *paths) in guide_images.GUIDES.items():
            files = {path: (drawn / f"{name}{end}.png").read_bytes()
                     for path, end in zip(paths, ("", "_mask"), strict=True)}  # fmt: skip
            served.push(repo.removeprefix("datasets/"), files, kind="datasets")
        served.keep()
        yield served


@pytest.fixture
def desk(_desk: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The Hub; this process is in the full edition, with an empty cache, no pins, and short waits."""
    _desk.reset()
    (tmp_path / "data").mkdir()
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))
    monkeypatch.setattr(constants, "ENDPOINT", _desk.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", _desk.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(hf_api.api, "endpoint", _desk.url)  # made when huggingface_hub was imported
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(editions, "_chosen", "full")
    monkeypatch.setattr(paths, "DATA", tmp_path / "data")
    client.warn_once.cache_clear()
    monkeypatch.setattr(guide_images, "_failed", {})
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "course"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield _desk
    _desk.reset()


@pytest.fixture
def no_network(desk: Hub, monkeypatch: pytest.MonkeyPatch):
    """Call it to close the Hub's port to this process."""

    def close() -> None:
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setattr(hf_api.api, "endpoint", "http://127.0.0.1:9")
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
        )

    return close
