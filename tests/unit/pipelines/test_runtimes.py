"""ONNX Runtime beside PyTorch: within 1 of 255, in PyTorch what the graph does not cover, and nothing half made."""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor

from helpers import load
from helpers.common import paths
from helpers.generation import provenance
from helpers.pipelines import runtimes
from helpers.pipelines.twins import twin
from tests.support.calls import CALLS, arguments
from tests.support.tiny import quiet, tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")
ONNX = "onnxruntime"
COVERED = [case for case in CALLS if "upscale" not in case[0] and case[2] is None]
CONTROLLED = [case for case in CALLS if case[2]][:1] + [case for case in CALLS if case[0] == "upscale-x4"]


def image(pipe, call: dict) -> np.ndarray:
    pipe.set_progress_bar_config(disable=True)
    made = pipe(**call, generator=torch.Generator("cpu").manual_seed(3)).images[0]
    return np.asarray(made).astype(int)


def told(pipe, call: dict) -> tuple[np.ndarray, list[str]]:
    """The image, and what the runtime says that it left to PyTorch."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = image(pipe, call)
    return made, [str(one.message) for one in caught if "runs in PyTorch" in str(one.message)]


@pytest.mark.parametrize(("name", "task", "controlnet", "kind"), COVERED)
def test_the_image_is_that_of_pytorch(name, task, controlnet, kind) -> None:
    plain, fast = quiet(name, task), load(name, task=task, runtime=ONNX)
    assert type(fast) is type(plain)
    call = arguments(plain, task, num_inference_steps=4)
    made, left = told(fast, call)
    assert np.abs(made - image(plain, call)).max() <= 1 and not left
    graph = fast.unet._graph
    assert len(graph.sessions) == 1, "the graph ran"
    assert np.array_equal(image(twin(fast), call), made), "a twin runs it too"
    assert not hasattr(plain.unet, "_graph"), "the plain pipeline stays in PyTorch"
    assert plain.unet.conv_in is fast.unet.conv_in, "one set of weights"


@pytest.mark.parametrize(("name", "task", "controlnet", "kind"), CONTROLLED)
def test_what_the_graph_does_not_cover_runs_in_pytorch_and_is_said(name, task, controlnet, kind) -> None:
    plain, fast = (load(name, task=task, controlnet=controlnet, runtime=one) for one in (None, ONNX))
    call = arguments(plain, task)
    made, left = told(fast, call)
    assert np.array_equal(made, image(plain, call))
    assert not controlnet or provenance.describe(fast)["runtime"] == "torch"
    assert len(left) == 1 and "this call has" in left[0]
    assert not told(fast, call)[1], "it is said once"


def wrap(unet) -> None:  # as peft does
    block = unet.mid_block.resnets[0]
    block.conv1 = torch.nn.Sequential(block.conv1, torch.nn.Tanh())


def listen(unet) -> None:
    unet.mid_block.register_forward_hook(lambda *_: None)


def retrain(unet) -> None:
    with torch.no_grad():
        unet.conv_in.weight.mul_(1.5)


CHANGES = [
    (wrap, "LoRA"),
    (listen, "hook"),
    (retrain, "weights were changed"),
    (lambda unet: unet.set_attn_processor(AttnProcessor()), "attention"),
    (lambda unet: unet.enable_freeu(0.9, 0.2, 1.2, 1.4), "FreeU"),
]


@pytest.mark.parametrize(("change", "word"), CHANGES, ids=[word for _, word in CHANGES])
def test_a_unet_that_was_changed_after_the_export_runs_in_pytorch(change, word, monkeypatch) -> None:
    fast = load("sd15", runtime=ONNX)
    call = arguments(fast, "text2image")
    before = image(fast, call)
    change(fast.unet)  # its layers are those of every pipeline of this checkpoint
    made, left = told(fast, call)
    assert word in left[0] and provenance.describe(fast)["runtime"] == "torch"
    plain = load("sd15")
    if word == "FreeU":  # its settings are on the layers, and diffusers switches it on in the UNet
        assert not np.array_equal(made, before)
    assert np.array_equal(made, image(plain, call))


def test_other_sizes_and_batches_need_no_other_graph_and_odd_ones_run_in_pytorch() -> None:
    plain, fast = load("sd15"), load("sd15", runtime=ONNX)
    for more in ({"height": 64, "width": 96}, {"prompt": "a cat, " * 60}, {"guidance_scale": 1.0}):
        call = arguments(plain, "text2image") | more
        assert np.abs(image(plain, call) - image(fast, call)).max() <= 1
    assert len(fast.unet._graph.sessions) == 1
    odd = fast.unet.config["sample_size"] * 8 + 8
    call = arguments(plain, "text2image") | {"height": odd, "width": odd}
    made, left = told(fast, call)
    assert np.array_equal(made, image(plain, call)) and "multiples" in left[0]


def test_a_graph_is_exported_once_and_again_when_its_file_is_damaged(monkeypatch) -> None:
    exported = []
    export = runtimes.export
    monkeypatch.setattr(runtimes, "export", lambda *arguments: exported.append(arguments) or export(*arguments))
    fast = load("sd15", runtime=ONNX)
    call = arguments(fast, "text2image")
    made = image(fast, call)
    files = list((paths.cache_folder() / "onnx").glob("*"))
    for damaged, exports in ((False, 0), (True, 1)):
        exported.clear()
        runtimes._graphs.clear()
        if damaged:
            for file in files:
                file.write_bytes(file.read_bytes()[:-1000])
        assert np.array_equal(image(load("sd15", runtime=ONNX), call), made)
        assert len(exported) == exports


def test_an_export_that_is_cut_off_leaves_no_file(monkeypatch, tmp_path) -> None:
    def cut_off(*arguments, **more):
        with open(arguments[2], "wb") as file:
            file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.onnx, "export", cut_off)
    with pytest.raises(KeyboardInterrupt):
        runtimes.export(load("sd15").unet, {"sample": torch.zeros(1, 4, 4, 4)}, tmp_path / "onnx" / "unet.onnx")
    assert not list((tmp_path / "onnx").iterdir())


def test_the_record_says_which_runtime(monkeypatch) -> None:
    plain, fast = (provenance.describe(load("sd15", runtime=one)) for one in (None, ONNX))
    assert plain["runtime"] == "torch" and fast["runtime"].startswith("onnxruntime 1")
    [difference] = provenance.differences(plain, fast)
    assert difference.startswith("runtime was torch and is now onnxruntime")
    assert provenance.check(fast) == fast
    earlier = {name: value for name, value in plain.items() if name != "runtime"}
    assert provenance.check(earlier) == plain, "a record from before there was a choice"


def test_a_wrong_runtime_is_refused_before_anything_is_loaded(monkeypatch) -> None:
    monkeypatch.setattr("helpers.pipelines.loading._hold", None)
    with pytest.raises(ValueError, match="runtime='onnx': expected 'torch' or 'onnxruntime'"):
        load("sd15", runtime="onnx")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"needs onnx and onnxruntime. Run pip install .*\[runtime\]"):
        load("sd15", runtime=ONNX)


def test_half_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="float32 on a CPU; this UNet is bfloat16 on cpu"):
        load("sd15", dtype="bfloat16", runtime=ONNX)
