"""The small Hub is a Hub to huggingface_hub, and misbehaves exactly as it was asked to."""

from __future__ import annotations

import hashlib
import json
import time
import urllib.error
import urllib.request
from http.client import IncompleteRead

import pytest

from helpers.catalog.checkpoints import CATALOG
from tests.hub import checkpoints
from tests.hub.conftest import Machine
from tests.hub.server import LARGE, Hub

MODEL = checkpoints.SD15
WEIGHTS = "unet/diffusion_pytorch_model.fp16.safetensors"
CONFIG = "unet/config.json"


def ask(hub: Hub, path: str, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body, without following redirects; an error's status is an answer too."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    address = path if path.startswith("http") else f"{hub.url}/{path}"
    request = urllib.request.Request(address, method=method, headers=headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay).open(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def bytes_of(hub: Hub, file: str, **headers: str) -> tuple[int, bytes]:
    """A file of MODEL as a client gets it, one redirect followed."""
    status, answer, body = ask(hub, f"{MODEL}/resolve/main/{file}", **headers)
    if status == 302:
        status, _, body = ask(hub, answer["Location"], **headers)
    return status, body


def test_every_repository_of_the_catalogue_is_served(hub: Hub) -> None:
    assert {checkpoint.hub_id for checkpoint in CATALOG.values()} <= set(hub.repos)


def test_a_small_file_comes_with_gits_hash_and_the_commit(hub: Hub) -> None:
    status, headers, body = ask(hub, f"{MODEL}/resolve/main/{CONFIG}")
    blob = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
    assert (status, headers["ETag"], headers["X-Repo-Commit"]) == (200, f'"{blob}"', hub.commit(MODEL))
    assert json.loads(body)["sample_size"] == 64


def test_a_large_file_is_sent_from_another_server(hub: Hub) -> None:
    status, headers, _ = ask(hub, f"{MODEL}/resolve/main/{WEIGHTS}", method="HEAD")
    _, data = bytes_of(hub, WEIGHTS)
    assert status == 302 and not headers["Location"].startswith(hub.url)
    assert headers["X-Linked-ETag"] == f'"{hashlib.sha256(data).hexdigest()}"'
    assert headers["X-Linked-Size"] == str(len(data))


def test_a_range_is_honoured(hub: Hub) -> None:
    _, whole = bytes_of(hub, WEIGHTS)
    assert bytes_of(hub, WEIGHTS, Range="bytes=1000-") == (206, whole[1000:])
    assert bytes_of(hub, WEIGHTS, Range="bytes=10-19") == (206, whole[10:20])
    assert bytes_of(hub, WEIGHTS, Range=f"bytes={len(whole)}-")[0] == 416


def test_an_older_commit_stays_when_main_moves_on(hub: Hub) -> None:
    first = hub.commit(MODEL)
    second = hub.push(MODEL, {CONFIG: b"{}"})
    assert ask(hub, f"{MODEL}/resolve/main/{CONFIG}")[2] == ask(hub, f"{MODEL}/resolve/{second}/{CONFIG}")[2] == b"{}"
    assert ask(hub, f"{MODEL}/resolve/{first}/{CONFIG}")[2] != b"{}"
    hub.reset()
    assert hub.commit(MODEL) == first
    assert ask(hub, f"{MODEL}/resolve/{second}/{CONFIG}")[0] == 404


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("gone", 401, "RepoNotFound"), ("gated", 401, "GatedRepo"), ("forbidden", 403, None),
        ("missing", 404, "EntryNotFound"), ("no-revision", 404, "RevisionNotFound"), ("busy", 429, None),
        ("broken", 500, None),
    ],
)  # fmt: skip
def test_a_refusal_has_its_status_and_its_code(hub: Hub, kind: str, status: int, code: str | None) -> None:
    hub.misbehave(kind, times=1)
    answer = ask(hub, f"{MODEL}/resolve/main/{CONFIG}", method="HEAD")
    assert (answer[0], answer[1].get("X-Error-Code")) == (status, code)
    assert ask(hub, f"{MODEL}/resolve/main/{CONFIG}", method="HEAD")[0] == 200  # once only


def test_what_is_gated_opens_to_a_token_that_has_access(hub: Hub) -> None:
    hub.misbehave("gated", repo=MODEL)
    path = f"{MODEL}/resolve/main/{CONFIG}"
    assert ask(hub, path)[0] == 401
    assert ask(hub, path, Authorization="Bearer hf_stranger")[0] == 403
    assert ask(hub, path, Authorization="Bearer hf_friend")[0] == 200
    assert json.loads(ask(hub, f"api/models/{MODEL}")[2])["gated"] == "auto"


def test_a_fault_of_one_file_spares_the_others(hub: Hub) -> None:
    hub.misbehave("broken", file="unet/*")
    assert ask(hub, f"{MODEL}/resolve/main/{CONFIG}")[0] == 500
    assert ask(hub, f"{MODEL}/resolve/main/vae/config.json")[0] == 200
    assert ask(hub, f"api/models/{MODEL}")[0] == 200


def test_bytes_are_cut_shortened_altered_or_slow(hub: Hub) -> None:
    _, whole = bytes_of(hub, WEIGHTS)
    hub.misbehave("cut", times=1)
    with pytest.raises(IncompleteRead) as caught:
        bytes_of(hub, WEIGHTS)
    assert whole.startswith(caught.value.partial) and caught.value.expected > 0
    hub.misbehave("short", times=1)
    assert bytes_of(hub, WEIGHTS) == (200, whole[: len(whole) // 2])
    hub.misbehave("altered", times=1)
    _, altered = bytes_of(hub, WEIGHTS)
    assert len(altered) == len(whole) and sum(a != b for a, b in zip(altered, whole, strict=True)) == 1
    hub.misbehave("slow", times=1, seconds=0.02)
    start = time.monotonic()
    assert bytes_of(hub, WEIGHTS) == (200, whole)
    assert time.monotonic() - start >= 0.02 * (len(whole) // 2**14)


def test_an_unknown_fault_is_refused(hub: Hub) -> None:
    with pytest.raises(ValueError, match="kind='sleepy': expected one of gone, gated"):
        hub.misbehave("sleepy")


def test_nothing_real_is_served_in_place_of_what_nobody_should_fetch(hub: Hub) -> None:
    files = hub.files(MODEL)
    assert files["v1-5-pruned.ckpt"].bytes == files["safety_checker/model.safetensors"].bytes
    assert files["v1-5-pruned.ckpt"].bytes == checkpoints.NOT_TO_BE_FETCHED


CLIENT = """
import json, sys
from pathlib import Path
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

model, config, pictures, large = sys.argv[1:]
api, said = HfApi(), {}
info = api.model_info(model, files_metadata=True)
said["siblings"] = {one.rfilename: [one.size, one.lfs.sha256 if one.lfs else one.blob_id] for one in info.siblings}
said["sha"], said["whoami"] = info.sha, api.whoami(token="hf_friend")["name"]
said["tree"] = sorted(one.path for one in api.list_repo_tree(model, recursive=True) if hasattr(one, "blob_id"))
said["paths"] = [one.path for one in api.get_paths_info(model, [config, "nothing.txt"])]
said["picture"] = Path(hf_hub_download(pictures, "diffusers/inpaint.png", repo_type="dataset")).read_bytes()[:4].hex()
said["large"] = Path(hf_hub_download(large, "model.bin")).stat().st_size
said["folder"] = sorted(path.name for path in Path(snapshot_download(model, allow_patterns="unet/*16*")).rglob("*.*"))

def refused(file, **how):
    try:
        hf_hub_download(model, file, **how)
    except (HfHubHTTPError, OSError) as error:
        return type(error).__name__

said["errors"] = [refused("nothing.txt"), refused(config, revision="f" * 40)]
print(json.dumps(said))
"""


def test_huggingface_hub_takes_it_for_the_hub(hub: Hub, machine: Machine) -> None:
    hub.push("someone/large", {"model.bin": bytes(24_000_000)})  # the client reads ten mebibytes at a time
    hub.misbehave("cut", repo="someone/large", times=1)
    run = machine.python(CLIENT, MODEL, CONFIG, checkpoints.PICTURES, "someone/large")
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    files = hub.files(MODEL)
    hashes = {path: file.sha256 if path.endswith(LARGE) else file.blob for path, file in files.items()}
    assert said["siblings"] == {path: [len(file.bytes), hashes[path]] for path, file in files.items()}
    assert (said["sha"], said["whoami"]) == (hub.commit(MODEL), "friend")
    assert said["tree"] == sorted(files)  # on several pages
    assert said["paths"] == [CONFIG]
    assert said["picture"] == b"\x89PNG".hex()
    assert said["folder"] == ["diffusion_pytorch_model.fp16.bin", "diffusion_pytorch_model.fp16.safetensors"]
    assert said["errors"] == ["RemoteEntryNotFoundError", "RevisionNotFoundError"]
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


def test_a_full_disk_is_full_for_downloads_alone(machine: Machine) -> None:
    code = """
import pathlib, shutil
print(shutil.disk_usage(".").free)
part = pathlib.Path("a.incomplete")
with part.open("wb") as file:
    file.write(bytes(600))
    print(shutil.disk_usage(".").free)
    try:
        file.write(bytes(600))
    except OSError as error:
        print(error.strerror)
print(pathlib.Path("notes.txt").write_bytes(bytes(5000)))
"""
    said = machine.python(code, COURSE_TEST_DISK="1000").stdout.splitlines()
    assert said == ["1000", "400", "No space left on device", "5000"]
