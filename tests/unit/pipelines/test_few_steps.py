"""Images in four steps: who can make them, that they are the plain call's, and that the pipeline stays as it was."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import torch
from diffusers import LCMScheduler

from helpers.catalog.checkpoints import CATALOG
from helpers.generation.records import make
from helpers.pipelines import few_steps, inspection
from tests.support.calls import half_mask, noise
from tests.support.few_steps import lora  # noqa: F401
from tests.support.tiny import SIZE, inpaint_pipeline, quiet, tiny_course  # noqa: F401
from tests.support.widgets import same

pytestmark = pytest.mark.usefixtures("lora")
CALL = {"prompt": "a cat", "seed": 5, "num_inference_steps": 3}


def inputs(name: str) -> dict:
    return {"image": noise(1), "mask_image": half_mask()} if name == "sd15-inpaint" else {}


@pytest.mark.parametrize("name", ["sd15", "sd15-inpaint"])
def test_it_is_the_image_of_the_plain_call_with_the_lora_fused(name) -> None:
    pipe = quiet(name)
    call = few_steps.arguments(CALL | inputs(name))
    live = make(few_steps.fused(pipe), **call)

    plain = quiet(name)
    plain.unet = few_steps._copied(plain.unet)  # load() shares it with `pipe`
    plain.load_lora_weights(CATALOG["lcm"].source)
    plain.fuse_lora()
    plain.unload_lora_weights()
    plain.unet.to(memory_format=torch.channels_last)
    plain.scheduler = LCMScheduler.from_config(plain.scheduler.config)
    size = {"height": SIZE, "width": SIZE}
    image = plain(
        "a cat", **inputs(name), **size, num_inference_steps=4, guidance_scale=1.0,
        generator=torch.Generator("cpu").manual_seed(5),
    ).images[0]  # fmt: skip
    assert same(live.image, image)
    assert live.parameters["scheduler"] == "LCMScheduler" and live.origin["schedulers"]["scheduler"]["class"] == (
        "LCMScheduler"
    )


def test_the_pipeline_keeps_its_pixels_its_scheduler_and_its_layers(inpaint) -> None:
    call = CALL | inputs("sd15-inpaint")
    before, scheduler, unet = make(inpaint, **call), inpaint.scheduler, inpaint.unet
    names = [name for name, _ in unet.named_modules()]
    live = make(few_steps.fused(inpaint), **few_steps.arguments(call))
    after = make(inpaint, **call)
    assert same(before.image, after.image) and before.key() == after.key() and not same(live.image, after.image)
    assert (inpaint.scheduler, inpaint.unet) == (scheduler, unet) and [n for n, _ in unet.named_modules()] == names
    assert after.origin["adapters"] == {} and list(live.origin["adapters"]["unet"].values()) == [1.0]
    assert "has a LoRA already" in few_steps.lacking(few_steps.fused(inpaint))


def test_the_second_unet_is_made_once_and_again_when_the_first_has_changed(inpaint) -> None:
    first = few_steps.fused(inpaint).unet
    assert few_steps.fused(inpaint).unet is first is not inpaint.unet
    with torch.no_grad():
        next(inpaint.unet.parameters()).mul_(1.5)
    second = few_steps.fused(inpaint).unet
    assert second is not first and few_steps.fused(inpaint).unet is second


def test_the_script_of_a_live_image_makes_it_again(inpaint, tmp_path) -> None:
    live = make(few_steps.fused(inpaint), **few_steps.arguments(CALL | inputs("sd15-inpaint")))
    script, space = live.code(tmp_path), {}
    assert f"pipe.load_lora_weights({CATALOG['lcm'].source!r})" in script and "Load them as well" not in script
    exec(script, space)  # noqa: S102
    assert same(space["image"], live.image)


@pytest.mark.parametrize(("strength", "asked", "run"), [(1.0, 4, 4), (0.6, 7, 4), (0.5, 8, 4), (0.05, 50, 2)])
def test_four_steps_are_run_at_every_strength(strength, asked, run) -> None:
    pipe = quiet("sd15-inpaint")
    call = few_steps.arguments(CALL | inputs("sd15-inpaint") | {"strength": strength})
    assert (call["num_inference_steps"], call["guidance_scale"], call["seed"]) == (asked, 1.0, 5)
    steps = []
    make(few_steps.fused(pipe), **call, watch=lambda pipe, step, *_: steps.append(step))
    assert len(steps) == run


def test_a_pipeline_that_makes_no_live_images_says_why(lora, inpaint, monkeypatch) -> None:  # noqa: F811
    assert few_steps.lacking(inpaint) == ""
    assert few_steps.lacking(quiet("sd15-inpaint", controlnet="controlnet-inpaint")) == ""
    assert "trained for sd15, sd15-inpaint, comic" in (said := few_steps.lacking(quiet("sdxl-inpaint")))
    assert "does not fit StableDiffusionXLInpaintPipeline ('sdxl-inpaint')" in said
    with pytest.raises(ValueError, match="no image in four steps: the few-step LoRA 'lcm' was trained for sd15"):
        few_steps.fused(quiet("sdxl-inpaint"))

    inpaint.unet.peft_config, layer = {"own": None}, inpaint.unet.conv_in
    layer.lora_A, layer.scaling, layer.active_adapters, layer.disable_adapters = {}, {"own": 1.0}, ["own"], False
    assert inspection.adapters(inpaint.unet) == {"own": 1.0} and "unload_lora_weights()" in few_steps.lacking(inpaint)
    del inpaint.unet.peft_config

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else found(name))
    assert "pip install -c constraints.txt peft" in few_steps.lacking(inpaint)
    monkeypatch.undo()


def test_where_no_lora_is_shipped_there_are_no_live_images(lora, inpaint) -> None:  # noqa: F811
    table = lora / "checkpoints.json"
    table.write_text(json.dumps({k: v for k, v in json.loads(table.read_text()).items() if k != "lcm"}))
    assert "does not ship the LoRA 'lcm' yet" in few_steps.lacking(inpaint)


def test_a_lora_for_another_unet_is_an_error_in_words_and_changes_nothing(lora) -> None:  # noqa: F811
    from safetensors.torch import load_file, save_file

    file = lora / "lcm" / "pytorch_lora_weights.safetensors"
    save_file({name: torch.cat([value, value], 1) for name, value in load_file(file).items()}, file)
    pipe = quiet("sd15")
    with pytest.raises(ValueError, match=r"the few-step LoRA 'lcm' does not fit the UNet of .* \('sd15'\): "):
        few_steps.fused(pipe)
    assert not hasattr(pipe.unet, "peft_config") and make(pipe, **CALL).image is not None


@pytest.mark.parametrize("guidance", [7.5, 4.5])
def test_guidance_on_top_of_the_lora_is_refused_before_a_model_runs(inpaint, guidance) -> None:
    call = few_steps.arguments(CALL | inputs("sd15-inpaint")) | {"num_inference_steps": 1, "guidance_scale": guidance}
    twin = few_steps.fused(inpaint)
    twin.unet.register_forward_pre_hook(lambda *_: pytest.fail("the UNet ran"))
    with pytest.raises(ValueError, match=rf"guidance_scale={guidance} with LCMScheduler: .* Use guidance_scale=1 to 2"):
        make(twin, **call)
    call.pop("guidance_scale")
    with pytest.raises(ValueError, match=r"guidance_scale=7.5 with LCMScheduler"):  # the pipelines' default
        make(twin, **call)


def test_the_catalogues_lora_is_what_plain_diffusers_loads_and_load_says_what_it_is() -> None:
    pipe = quiet("sd15")
    pipe.unet = few_steps._copied(pipe.unet)
    pipe.load_lora_weights(CATALOG["lcm"].source, adapter_name="lcm")
    assert inspection.adapters(pipe.unet) == {"lcm": 1.0}
    pipe.unload_lora_weights()
    assert inspection.adapters(pipe.unet) == {}
    with pytest.raises(ValueError, match=r"'lcm' is a LoRA and makes no images alone. .*load_lora_weights\(CATALOG"):
        quiet("lcm")


def test_the_runtime_of_the_pipeline_runs_its_live_images_too() -> None:
    pipe, plain = quiet("sd15", runtime="onnxruntime"), quiet("sd15")
    call = few_steps.arguments(CALL)
    fast, slow = (make(few_steps.fused(one), **call) for one in (pipe, plain))
    assert fast.origin["runtime"].startswith("onnxruntime ") and slow.origin["runtime"] == "torch"
    assert fast.origin["adapters"] == slow.origin["adapters"] != {}
    assert np.abs(np.asarray(fast.image, int) - np.asarray(slow.image, int)).max() <= 1
