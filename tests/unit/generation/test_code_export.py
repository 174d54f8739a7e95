"""The plain script of a record: it needs nothing of the course, and loads what load() loaded."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from helpers.catalog.checkpoints import CATALOG
from helpers.generation.records import make
from helpers.hub import convert_pickles
from tests.support.calls import arguments, same
from tests.support.records import check_script, record
from tests.support.tiny import inpaint_pipeline, quiet, tiny_course  # noqa: F401

NET = CATALOG["controlnet-depth"].hub_id


def made_by(name: str, **origin) -> dict:
    """The origin of an image that the full edition made with this checkpoint."""
    return {"checkpoint": name, "source": CATALOG[name].hub_id, "adapters": {}, "revisions": {}} | origin


def test_the_script_needs_nothing_of_the_course(tiny_course, inpaint, tmp_path) -> None:  # noqa: F811
    made = make(inpaint, seed=1, **arguments(inpaint, "inpaint", strength=0.9, blur_factor=4, keep_unmasked=True))
    code = made.code(tmp_path)
    assert "blur(mask, blur_factor=4)" in code and "apply_overlay(mask, original, image)" in code
    check = 'import sys\nassert not any(name.startswith("helpers") for name in sys.modules)\nimage.save("made.png")\n'
    (tmp_path / "script.py").write_text(code + check)
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, check=True, capture_output=True)
    assert same(made, Image.open(tmp_path / "made.png"))


def test_a_checkpoint_of_pickles_is_loaded_from_its_converted_copy(tiny_course) -> None:  # noqa: F811
    made = make(quiet("sd15"), seed=1, **arguments(quiet("sd15"), "text2image"))
    shutil.copytree(CATALOG["sd15"].source, convert_pickles.place_of(CATALOG["pixel-art"]))
    made.origin |= made_by("pixel-art", edition="full", revisions={CATALOG["pixel-art"].hub_id: "a" * 40})
    code = made.code()
    assert code.startswith("# Published as pickles only; this copy was made by: course download pixel-art --pickles\n")
    assert CATALOG["pixel-art"].hub_id not in code and "revision" not in code
    space: dict = {}
    exec(code, space)  # noqa: S102
    assert same(made, space["image"])


def test_commits_and_variants_are_those_of_their_repositories() -> None:
    origin = made_by("sd15", controlnet=NET, revisions={NET: "b" * 40, CATALOG["sd15"].hub_id: "c" * 40})
    net, pipe = record(origin).code().split("pipe = ")[:2]
    assert f"revision='{'b' * 40}'" in net and f"revision='{'c' * 40}'" in pipe
    assert net.count("variant='fp16'") == 1 == pipe.count("variant='fp16'")
    code = record(origin | {"controlnet": "someone/a-controlnet", "revisions": {}}).code()
    assert "revision" not in code and code.count("variant='fp16'") == 1


@pytest.mark.parametrize(
    ("origin", "note"),
    [
        (made_by("kandinsky22", revisions={CATALOG["kandinsky22"].prior: "a" * 40}), "The course pins this and its"),
        (made_by("sd15", adapters={"unet": {"detail": 0.8}}), "LoRA adapters were active, .*'detail': 0.8"),
        (made_by("sd15", source="my-model"), "'my-model' was a folder on the machine that made this image"),
        (made_by("sd15", source="sd15-0123456789ab"), "Made with the weights of 'sd15-0123456789ab'; this"),
    ],
)  # fmt: skip
def test_what_a_script_cannot_do_stands_above_it(tiny_course, origin, note) -> None:  # noqa: F811
    import re

    code = record(origin).code()
    assert re.match(f"# {note}", code)
    check_script(code)
    assert "#" not in record(made_by("sd15")).code()


def test_inputs_are_opened_where_they_were_written(tmp_path) -> None:
    code = record().code(tmp_path / "inputs")
    files = sorted(file.as_posix() for file in (tmp_path / "inputs").iterdir())
    assert len(files) == 5 and all(repr(file) in code for file in files)
    assert "'/" not in record().code() and all(Path(file).name in record().code() for file in files)


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
@pytest.mark.parametrize("offload", ["none", "model", "sequential"])
def test_the_device_and_offload_are_set_as_they_were(device, offload) -> None:
    code = record({"device": device, "offload": offload}).code()
    assert ("torch.set_num_threads(2)" in code) == (device == "cpu")
    assert (f"pipe.to({device!r})" in code) == (device != "cpu" and offload == "none")
    assert (f"pipe.enable_{offload}_cpu_offload()" in code) == (offload != "none")


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ({"source": None}, "was not loaded from a checkpoint"),
        (
            {"schedulers": {"scheduler": {"class": "DDIMScheduler", "config": {"beta_end": float("inf")}}}},
            "beta_end=inf",
        ),
    ],
)
def test_what_no_script_can_make(origin, message) -> None:
    with pytest.raises(ValueError, match=message):
        record(origin).code()
    bare = record()
    del bare.parameters["mask_image"]
    with pytest.raises(ValueError, match="need mask_image, and the record has none"):
        bare.code()
