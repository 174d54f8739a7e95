"""The small Hub is a Hub to huggingface_hub, and misbehaves exactly as it was asked to."""

from __future__ import annotations

import json

import httpx2
import pytest

from tests.hub import checkpoints
from tests.hub.conftest import Machine
from tests.hub.server import LARGE, Hub

MODEL = checkpoints.SD15
WEIGHTS, CONFIG = "unet/diffusion_pytorch_model.fp16.safetensors", "unet/config.json"


def ask(hub: Hub, file: str, *, method: str = "GET", **how) -> httpx2.Response:
    return httpx2.request(method, f"{hub.url}/{MODEL}/resolve/main/{file}", trust_env=False, timeout=30, **how)


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("gone", 401, "RepoNotFound"), ("gated", 401, "GatedRepo"), ("forbidden", 403, None),
        ("missing", 404, "EntryNotFound"), ("busy", 429, None), ("broken", 500, None),
    ],
)  # fmt: skip
def test_a_refusal_has_its_status_and_its_code(hub: Hub, kind: str, status: int, code: str | None) -> None:
    hub.misbehave(kind, file="unet/*", times=1)
    assert ask(hub, "vae/config.json").status_code == 200
    answer = ask(hub, CONFIG, method="HEAD")
    assert (answer.status_code, answer.headers.get("X-Error-Code")) == (status, code)
    assert ask(hub, CONFIG, method="HEAD").status_code == 200  # once only


def test_what_is_gated_opens_to_a_token_that_has_access(hub: Hub) -> None:
    hub.misbehave("gated", repo=MODEL)
    for token, status in {"hf_stranger": 403, "hf_friend": 200}.items():
        assert ask(hub, CONFIG, headers={"Authorization": f"Bearer {token}"}).status_code == status


def test_bytes_are_cut_shortened_or_altered(hub: Hub) -> None:
    whole = ask(hub, WEIGHTS, follow_redirects=True).content
    hub.misbehave("cut", times=1)
    with pytest.raises(httpx2.RemoteProtocolError):
        ask(hub, WEIGHTS, follow_redirects=True)
    hub.misbehave("short", times=1)
    assert ask(hub, WEIGHTS, follow_redirects=True).content == whole[: len(whole) // 2]
    hub.misbehave("altered", times=1)
    altered = ask(hub, WEIGHTS, follow_redirects=True).content
    assert len(altered) == len(whole) and sum(a != b for a, b in zip(altered, whole, strict=True)) == 1
    assert ask(hub, WEIGHTS, follow_redirects=True).content == whole


CLIENT = """
import json, sys
from pathlib import Path
from huggingface_hub import HfApi, hf_hub_download, snapshot_download

model, pictures, large = sys.argv[1:]
api, said = HfApi(), {}
said["sha"] = api.model_info(model).sha
tree = [one for one in api.list_repo_tree(model, recursive=True) if hasattr(one, "blob_id")]
said["tree"] = {one.path: [one.size, one.lfs.sha256 if one.lfs else one.blob_id] for one in tree}
said["picture"] = Path(hf_hub_download(pictures, "diffusers/inpaint.png", repo_type="dataset")).read_bytes()[:4].hex()
said["large"] = Path(hf_hub_download(large, "model.bin")).stat().st_size
said["folder"] = sorted(path.name for path in Path(snapshot_download(model, allow_patterns="unet/*16*")).rglob("*.*"))
print(json.dumps(said))
"""


def test_huggingface_hub_takes_it_for_the_hub(hub: Hub, machine: Machine) -> None:
    hub.push("someone/large", {"model.bin": bytes(24_000_000)})  # the client reads ten mebibytes at a time
    hub.misbehave("cut", repo="someone/large", times=1)
    run = machine.python(CLIENT, MODEL, checkpoints.PICTURES, "someone/large")
    assert run.returncode == 0, run.stderr
    said, files = json.loads(run.stdout), hub.files(MODEL)
    hashes = {path: file.sha256 if path.endswith(LARGE) else file.blob for path, file in files.items()}
    assert said["tree"] == {path: [len(file.bytes), hashes[path]] for path, file in files.items()}  # on several pages
    assert said["sha"] == hub.commit(MODEL) and said["picture"] == b"\x89PNG".hex()
    assert said["folder"] == ["diffusion_pytorch_model.fp16.bin", "diffusion_pytorch_model.fp16.safetensors"]
    assert said["large"] == 24_000_000
    parts = [(one.start, one.status) for one in hub.requests if one.file == "model.bin" and one.sent]
    assert parts == [(0, 200), (10 * 2**20, 206)]  # the client went on where the connection had ended


def test_the_machine_reaches_nothing_but_the_hub(machine: Machine, hub: Hub) -> None:
    reach = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5); print('reached')"
    port = hub.url.rpartition(":")[2]
    assert machine.python(reach, "127.0.0.1", port).stdout == "reached\n"
    assert "it has no network" in machine.python(reach, "192.0.2.1", "80").stderr
    machine.offline()
    assert "it has no network" in machine.python(reach, "127.0.0.1", port).stderr
