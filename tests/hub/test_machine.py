"""The small Hub is a Hub to huggingface_hub; how it misbehaves, test_faults.py sees."""

from __future__ import annotations

import json

from tests.hub import checkpoints
from tests.hub.conftest import Machine
from tests.hub.server import LARGE, Hub

MODEL = checkpoints.SD15


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
    assert said["tree"] == {path: [len(file.bytes), hashes[path]] for path, file in files.items()}
    assert said["sha"] == hub.commit(MODEL) and said["picture"] == b"\x89PNG".hex()
    assert said["folder"] == ["diffusion_pytorch_model.fp16.bin", "diffusion_pytorch_model.fp16.safetensors"]
    assert said["large"] == 24_000_000
    sent = [one.sent for one in hub.requests if one.file == "model.bin" and one.sent]
    assert sent == [12_000_000, 24_000_000 - 10 * 2**20]  # the client went on where the connection had ended


def test_the_machine_reaches_nothing_but_the_hub(machine: Machine, hub: Hub) -> None:
    reach = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5); print('reached')"
    port = hub.url.rpartition(":")[2]
    assert machine.python(reach, "127.0.0.1", port).stdout == "reached\n"
    assert "it has no network" in machine.python(reach, "192.0.2.1", "80").stderr
    machine.offline()
    assert "it has no network" in machine.python(reach, "127.0.0.1", port).stderr
