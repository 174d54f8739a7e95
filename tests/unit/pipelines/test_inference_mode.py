"""What is loaded inside torch.inference_mode() is as good as any other, for whoever uses it later."""

from __future__ import annotations

import pytest
import torch
from diffusers import DiffusionPipeline

from helpers import sweep
from helpers.analysis import scene_classifier
from helpers.catalog.checkpoints import CATALOG
from helpers.generation.records import make
from helpers.pipelines import control_images, inspection, loading
from helpers.pipelines.switching import switch
from helpers.pipelines.twins import twin
from tests.support.calls import CALLS, arguments, noise, quietly, same
from tests.support.tiny import quiet, tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")
NAMES = sorted({(name, controlnet) for name, _, controlnet, _ in CALLS}, key=str)


def kept_tensors(pipe):
    """Of its models and schedulers."""
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            yield from part.parameters()
            yield from part.buffers()
        elif hasattr(part, "set_timesteps"):
            yield from (value for value in vars(part).values() if isinstance(value, torch.Tensor))


@pytest.mark.parametrize(("name", "controlnet"), NAMES)
def test_models_and_schedulers_are_ordinary(name, controlnet) -> None:
    with torch.inference_mode():
        pipe = loading.load(name, controlnet=controlnet)
        pipes = [pipe, twin(pipe)]
        if name == "sd15" and not controlnet:
            pipes.append(switch(pipe, "inpaint"))
    for one in pipes:
        found = list(kept_tensors(one))
        assert found and not any(tensor.is_inference() for tensor in found)
    for model in inspection.models(pipe).values():
        assert all(weight.requires_grad for weight in model.parameters() if weight.is_floating_point())


def test_the_kernel_goes_on_as_if_nothing_had_been(tmp_path) -> None:
    plain = make(quiet("sd15-inpaint"), seed=1, **arguments(quiet("sd15-inpaint"), "inpaint"))
    loading.unload()
    with torch.inference_mode():
        inside = quiet("sd15-inpaint")
        call = arguments(inside, "inpaint")
        assert same(make(inside, seed=1, scheduler=type(inside.scheduler), **call), plain)
        [record] = sweep(inside, over={"seed": [1]}, progress=False, folder=tmp_path, **call)
        assert same(record, plain) and same(quietly(record, inside), plain)
    outside = quiet("sd15", task="inpaint")  # shares its VAE and text encoder
    for pipe in (inside, outside):
        made = make(pipe, seed=1, **arguments(pipe, "inpaint"))
        assert made.error is None and same(quietly(made, pipe), made)
    loss = inside.unet(torch.zeros(1, 9, 4, 4), 1, torch.zeros(1, 77, 16)).sample.sum()
    loss.backward()  # as a training does
    with torch.no_grad():
        inside.unet.conv_in.weight.mul_(1.5)
    with torch.inference_mode():
        loading.unload()
    assert not any(tensor.is_inference() for tensor in kept_tensors(inside))


def test_a_pipeline_that_the_caller_loaded_there_serves_as_well() -> None:
    with torch.inference_mode():
        pipe = DiffusionPipeline.from_pretrained(CATALOG["sd15-inpaint"].source)
    pipe.set_progress_bar_config(disable=True)
    call = arguments(pipe, "inpaint")
    record = make(pipe, seed=1, **call)
    assert same(quietly(record, pipe), record) and record.key() and record.code()
    assert same(next(sweep(pipe, over={"seed": [1]}, progress=False, **call)), record)


def test_small_models_that_are_kept_are_ordinary(monkeypatch) -> None:
    loading.unload("depth-estimator")
    with torch.inference_mode():
        control_images.depth_map(noise(1), estimate=True)
    estimator = loading.image_reader("depth-estimator")["model"]
    assert not any(weight.is_inference() for weight in estimator.parameters())


def test_the_classifier_is_ordinary(repository) -> None:
    folder = repository / "data" / "miniatures" / "classifier"
    scene_classifier.load.cache_clear()
    with torch.inference_mode():
        model, _ = scene_classifier.load(folder)
    assert not any(weight.is_inference() for weight in model.parameters())
    sum(head.sum() for head in model(torch.zeros(1, 3, 64, 64)).values()).backward()


@pytest.mark.parametrize("how", ["module", "in place"])
def test_a_compiled_unet_repeats_without_a_word(how) -> None:
    pipe = quiet("sd15-inpaint")
    record = make(pipe, seed=1, **arguments(pipe, "inpaint"))
    if how == "module":
        pipe.unet = torch.compile(pipe.unet, backend="eager")
    else:
        pipe.unet.compile(backend="eager")
    again = quietly(record, pipe)
    assert same(again, record) and again.key() == record.key()
    assert same(next(sweep(pipe, over={"seed": [1]}, progress=False, **arguments(pipe, "inpaint"))), record)
