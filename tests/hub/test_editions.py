"""Every checkpoint of the catalogue loads in the full edition from the small Hub, and makes an image of its real size.

One process loads them all, as a reader would, and says what it saw; the tests look at that. Two repositories have lost
their fp16 files, so that what load() does then is seen too.
"""

from __future__ import annotations

import json

import pytest

from helpers.catalog.checkpoints import CATALOG
from tests.hub import checkpoints as served
from tests.hub.conftest import Machine
from tests.hub.server import Hub

SCRIPT = """
import hashlib, json, logging, sys

import torch
from PIL import Image

from helpers import CATALOG, load, unload
from helpers.cli.main import main
from helpers.pipelines.control_images import depth_map, inpaint_condition

said = []
logging.getLogger("helpers").addHandler(type("Kept", (logging.Handler,), {
    "emit": lambda self, record: said.append(record.getMessage())})())


def run(name):
    checkpoint = CATALOG[name]
    side = checkpoint.size
    image, mask = Image.linear_gradient("L").resize((side, side)).convert("RGB"), Image.new("L", (side, side), 0)
    mask.paste(255, (0, 0, side // 2, side // 2))
    call = {"num_inference_steps": 2, "generator": torch.Generator("cpu").manual_seed(0)}
    if checkpoint.family == "depth":
        return None, depth_map(image, estimate=True)
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
    said.clear()
    told = {"name": name}
    try:
        if CATALOG[name].pickled:
            try:
                load(name)
            except ValueError as error:
                told["refused"] = str(error)
                told["converted"] = main(["download", name, "--pickles", "--yes"])
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
    print("told:" + json.dumps(told | {"said": list(said)}), flush=True)
"""

WITHOUT_FP16 = (served.SDXL_REFINER, served.CONTROL_DEPTH)
MODELS = {  # pipeline class and its models
    "sd15": ("StableDiffusionPipeline", ["text_encoder", "unet", "vae"]),
    "sd15-inpaint": ("StableDiffusionInpaintPipeline", ["text_encoder", "unet", "vae"]),
    "sdxl-inpaint": ("StableDiffusionXLInpaintPipeline", ["text_encoder", "text_encoder_2", "unet", "vae"]),
    "sdxl-refiner": ("StableDiffusionXLImg2ImgPipeline", ["text_encoder_2", "unet", "vae"]),
    "kandinsky22": ("KandinskyV22CombinedPipeline",
                    ["movq", "prior_image_encoder", "prior_prior", "prior_text_encoder", "unet"]),
    "kandinsky22-inpaint": ("KandinskyV22InpaintCombinedPipeline",
                            ["movq", "prior_image_encoder", "prior_prior", "prior_text_encoder", "unet"]),
    "comic": ("StableDiffusionPipeline", ["text_encoder", "unet", "vae"]),
    "pixel-art": ("StableDiffusionPipeline", ["text_encoder", "unet", "vae"]),
    "elden-ring": ("StableDiffusionPipeline", ["text_encoder", "unet", "vae"]),
    "upscale-x2": ("StableDiffusionLatentUpscalePipeline", ["text_encoder", "unet", "vae"]),
    "upscale-x4": ("StableDiffusionUpscalePipeline", ["text_encoder", "unet", "vae"]),
    "controlnet-inpaint": ("StableDiffusionControlNetInpaintPipeline", ["controlnet", "text_encoder", "unet", "vae"]),
    "controlnet-depth": ("StableDiffusionControlNetInpaintPipeline", ["controlnet", "text_encoder", "unet", "vae"]),
}  # fmt: skip
SIZES = {"sdxl-inpaint": 1024, "sdxl-refiner": 1024, "kandinsky22": 768, "kandinsky22-inpaint": 768,
         "upscale-x2": 1024, "depth-estimator": 518}  # fmt: skip


def names(form: str, *folders: str, text: tuple[str, ...] = ("text_encoder",)) -> list[str]:
    """The files of weights of some models, in one form: "safetensors", "fp16.safetensors" or "bin"."""
    stem = "pytorch_model" if form == "bin" else "model"
    return [f"{folder}/diffusion_pytorch_model.{form}" for folder in folders] + [f"{one}/{stem}.{form}" for one in text]


HALF, WHOLE = "fp16.safetensors", "safetensors"
XL = ("text_encoder", "text_encoder_2")
WEIGHTS = {  # every file of weights that is fetched, and no other
    served.SD15: names(HALF, "unet", "vae"),
    served.SD15_INPAINT: names(HALF, "unet", "vae"),
    served.SDXL_INPAINT: names(HALF, "vae", text=XL)
    + [f"unet/diffusion_pytorch_model.fp16-0000{n}-of-00002.safetensors" for n in (1, 2)],
    served.SDXL_REFINER: names(WHOLE, "unet", "vae", text=("text_encoder_2",)),
    served.KANDINSKY: names(WHOLE, "unet", "movq", text=()),
    served.KANDINSKY_INPAINT: names(WHOLE, "unet", "movq", text=()),
    served.KANDINSKY_PRIOR: names(WHOLE, "prior")
    + [f"image_encoder/model-0000{n}-of-00002.safetensors" for n in (1, 2)],
    served.COMIC: names(WHOLE, "unet", "vae"),
    served.PIXEL_ART: names("bin", "unet", "vae"),
    served.ELDEN_RING: names("bin", "unet", "vae"),
    served.UPSCALE_X2: names(WHOLE, "unet", "vae"),
    served.UPSCALE_X4: names(WHOLE, "unet", "vae"),
    served.CONTROL_INPAINT: ["diffusion_pytorch_model.fp16.safetensors"],
    served.CONTROL_DEPTH: ["diffusion_pytorch_model.safetensors"],
    served.DEPTH: ["model.safetensors"],
}
OFFLINE = ("sd15", "sdxl-inpaint", "kandinsky22-inpaint", "pixel-art", "controlnet-depth", "depth-estimator")


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


def test_the_whole_catalogue_is_looked_at(first) -> None:
    assert set(first[0]) == set(CATALOG) == {*MODELS, "depth-estimator"}
    assert {repo for checkpoint in CATALOG.values() for repo in checkpoint.repositories} == set(WEIGHTS)


@pytest.mark.parametrize("name", CATALOG)
def test_it_loads_and_makes_an_image_of_the_real_size(first, name: str) -> None:
    told = first[0][name]
    assert "error" not in told, told["error"]
    assert told["size"] == [SIZES.get(name, 512)] * 2
    if name in MODELS:
        assert (told["class"], told["models"]) == MODELS[name]
        assert told["dtypes"] == ["torch.float32"]  # from float16 files too: this machine has no GPU


@pytest.mark.parametrize("repo", WEIGHTS)
def test_of_the_weights_only_what_is_read_is_fetched_and_once(first, repo: str) -> None:
    fetched = [file for file in first[1][repo] if file.endswith((".safetensors", ".bin", ".ckpt"))]
    assert fetched == sorted(WEIGHTS[repo])
    assert [file for file in first[1][repo] if file.startswith("safety_checker/")] == []


@pytest.mark.parametrize("name", CATALOG)
def test_a_lacking_variant_is_said_once_and_nothing_else(first, name: str) -> None:
    said = [text for text in first[0][name]["said"] if "fp16" in text]
    lacks = CATALOG[name].hub_id in WITHOUT_FP16
    assert len(said) == lacks
    assert all(CATALOG[name].hub_id in text for text in said)


@pytest.mark.parametrize("name", [name for name, checkpoint in CATALOG.items() if checkpoint.pickled])
def test_pickles_are_refused_until_they_are_converted_on_request(first, name: str) -> None:
    told = first[0][name]
    assert f"course download {name} --pickles" in told["refused"]
    assert told["converted"] == 0


def test_without_a_network_the_same_images_come_again(first) -> None:
    told, _, machine = first
    machine.offline()
    again = tell(machine, *OFFLINE)
    assert {name: one.get("error") for name, one in again.items()} == dict.fromkeys(OFFLINE)
    assert {name: one["digest"] for name, one in again.items()} == {name: told[name]["digest"] for name in OFFLINE}
