"""Every checkpoint of the catalogue loads in the full edition from the small Hub, and makes an image of its real size.

One process loads them all, as a reader would, and says what it saw; the tests look at that. Two repositories have lost
their fp16 files, so that what load() does then is seen too.
"""

from __future__ import annotations

import json

import pytest

from helpers.catalog.checkpoints import CATALOG, repositories
from helpers.catalog.tasks import class_name
from tests.hub import checkpoints as served
from tests.hub.conftest import Machine
from tests.hub.server import Hub

SCRIPT = """
import hashlib, json, sys

import torch
from PIL import Image

from helpers import CATALOG, load, select, unload
from helpers.cli.main import main
from helpers.generation.records import make
from helpers.pipelines import few_steps
from helpers.pipelines.control_images import depth_map, inpaint_condition


def run(name):
    checkpoint = CATALOG[name]
    side = checkpoint.size
    image, mask = Image.linear_gradient("L").resize((side, side)).convert("RGB"), Image.new("L", (side, side), 0)
    mask.paste(255, (0, 0, side // 2, side // 2))
    call = {"num_inference_steps": 2, "generator": torch.Generator("cpu").manual_seed(0)}
    if checkpoint.family == "depth":
        return None, depth_map(image, estimate=True)
    if checkpoint.family == "segmentation":
        return None, select(image, box=(side / 4, side / 4, side / 2, side / 2))
    if checkpoint.family == "lora":
        pipe = load("sd15")
        assert few_steps.lacking(pipe).endswith("is not on this machine: course download lcm")
        main(["download", name, "--yes"])
        return None, make(few_steps.fused(pipe), **few_steps.arguments({"prompt": "a cat", "seed": 0})).image
    if checkpoint.family == "controlnet":
        pipe = load("sd15-inpaint", controlnet=name)
        condition = inpaint_condition(image, mask) if name == "controlnet-inpaint" else image
        return pipe, pipe("a cat", image, mask, condition, **call).images[0]
    pipe = load(name)
    if checkpoint.family == "kandinsky22":
        call |= {"height": side, "width": side, "prior_num_inference_steps": 2}
    if checkpoint.tasks[0] == "inpaint":
        call |= {"image": image, "mask_image": mask}
    elif checkpoint.tasks[0] in ("image2image", "upscale"):
        call |= {"image": image}
    if checkpoint.tasks[0] == "image2image":
        call |= {"num_inference_steps": 8}
    return pipe, pipe("a cat", **call).images[0]


for name in sys.argv[1:]:
    told = {"name": name}
    try:
        if CATALOG[name].pickled:
            main(["download", name, "--pickles", "--yes"])
        pipe, picture = run(name)
        told |= {"size": picture.size, "digest": hashlib.sha256(picture.tobytes()).hexdigest()}
        if pipe is not None:
            models = {part: model for part, model in pipe.components.items() if isinstance(model, torch.nn.Module)}
            dtypes = {str(weight.dtype) for model in models.values() for weight in model.parameters()}
            told |= {"class": type(pipe).__name__, "models": sorted(models), "dtypes": sorted(dtypes)}
            unload()
            load("sd15-inpaint", controlnet=name) if CATALOG[name].family == "controlnet" else load(name)
    except Exception as error:
        told["error"] = f"{type(error).__name__}: {error}"
    unload()
    print("told:" + json.dumps(told), flush=True)
"""

WITHOUT_FP16 = (served.SDXL_REFINER, served.CONTROL_DEPTH)
SIZES = {"sdxl-inpaint": 1024, "sdxl-refiner": 1024, "kandinsky22": 768, "kandinsky22-inpaint": 768,
         "upscale-x2": 1024, "depth-estimator": 518, "segmenter": 1024}  # fmt: skip


OFFLINE = ("sd15", "kandinsky22-inpaint", "pixel-art", "controlnet-depth", "depth-estimator", "segmenter")


def tell(machine: Machine, *wanted: str) -> dict[str, dict]:
    run = machine.python(SCRIPT, *wanted, timeout=900)
    told = [json.loads(line.removeprefix("told:")) for line in run.stdout.splitlines() if line.startswith("told:")]
    assert run.returncode == 0, run.stderr
    return {one["name"]: one for one in told}


@pytest.fixture(scope="module")
def first(real_hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict], dict[str, list], Machine]:
    """What a process said of every checkpoint, what it fetched from each repository, and its machine."""
    real_hub.reset()
    for repo in WITHOUT_FP16:
        real_hub.push(repo, {path: None for path in real_hub.files(repo) if "fp16" in path})
    machine = Machine(tmp_path_factory.mktemp("editions"), real_hub)
    told = tell(machine, *CATALOG)
    fetched = {repo: sorted(real_hub.fetched(repo)) for repo in real_hub.repos}
    real_hub.reset()
    return told, fetched, machine


def test_the_whole_catalogue_is_looked_at_and_of_each_repository_only_what_is_read_is_fetched_and_once(first) -> None:
    (told, fetched, _), files = first, served.repositories(served.REAL)
    assert set(told) == set(CATALOG)
    for repo in repositories():
        assert fetched[repo] == sorted(set(fetched[repo])) != [], repo
        assert not [file for file in fetched[repo] if files[repo][file] == served.NOT_TO_BE_FETCHED], repo
        forms = {file.split(".", 1)[1] for file in fetched[repo] if file.endswith((".safetensors", ".bin"))}
        assert len({("fp16" in form, form.endswith("bin")) for form in forms}) == 1, repo  # one variant in one format


@pytest.mark.parametrize("name", CATALOG)
def test_it_loads_and_makes_an_image_of_the_real_size(first, name: str) -> None:
    told = first[0][name]
    assert "error" not in told, told["error"]
    assert told["size"] == [SIZES.get(name, 512)] * 2
    if name not in ("depth-estimator", "lcm", "segmenter"):
        base = CATALOG["sd15-inpaint"] if CATALOG[name].family == "controlnet" else CATALOG[name]
        assert told["class"] == class_name(base, controlnet=name if base.name != name else None)
        assert told["models"] == sorted({**base.parameters, **CATALOG[name].parameters})
        assert told["dtypes"] == ["torch.float32"]  # from float16 files too: this machine has no GPU


def test_without_a_network_the_same_images_come_again(first) -> None:
    told, _, machine = first
    machine.offline()
    again = tell(machine, *OFFLINE)
    assert {name: one.get("error") for name, one in again.items()} == dict.fromkeys(OFFLINE)
    assert {name: one["digest"] for name, one in again.items()} == {name: told[name]["digest"] for name in OFFLINE}
