"""The plain script of a picture that the full edition made loads what load() loaded: pinned, or converted."""

from __future__ import annotations

import json

from tests.hub.checkpoints import CONTROL_DEPTH, PIXEL_ART, SD15

CODE = """
from PIL import Image

from helpers import load
from helpers.cli.main import main
from helpers.generation.records import make

assert main(["download", "pixel-art", "--pickles", "--yes"]) == 0
side = {"height": 64, "width": 64}
control = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
for pipe, call in ((load("pixel-art"), side), (load("sd15", controlnet="controlnet-depth"), {"image": control})):
    record = make(pipe, prompt="a cat", seed=3, num_inference_steps=2, **call)
    code, space = record.code("inputs"), {}
    print("script:" + code.replace("\\n", " "))
    exec(code, space)
    print("same:", space["image"].tobytes() == record.image.tobytes())
"""


def test_it_makes_the_picture_from_the_converted_copy_and_from_the_pinned_commits(machine, hub) -> None:
    pinned = {repo: hub.commit(repo) for repo in (SD15, CONTROL_DEPTH)}
    (machine.folder / "pins.json").write_text(json.dumps(pinned))
    hub.push(SD15, {"unet/config.json": b"what main has come to"})
    hub.push(CONTROL_DEPTH, {"config.json": b"what main has come to"})
    done = machine.python(CODE, COURSE_DATA=str(machine.folder))
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert [line for line in said if line.startswith("same:")] == ["same: True"] * 2
    converted, steered = (line for line in said if line.startswith("script:"))
    assert "cache/converted/pixel-art" in converted and PIXEL_ART not in converted and "revision" not in converted
    for repo, commit in pinned.items():
        assert repr(repo) in steered and f"revision={commit!r}" in steered
