"""Twins: called at the same time as their original, equal to it alone, and without a trace on it."""

from __future__ import annotations

import gc
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, SchedulerMixin

from helpers.pipelines import loading
from helpers.pipelines.twins import original, serialized, twin
from tests.support.calls import CALLS, arguments
from tests.support.tiny import quiet, tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")
PROMPTS = ("a cat", "two dogs in a boat, " * 30)


def called(pipe, call: dict, prompt: str, started: threading.Barrier | None = None) -> bytes:
    if started is not None:
        started.wait(60)
    generator = torch.Generator("cpu").manual_seed(3)
    return pipe(**call | {"prompt": prompt}, generator=generator).images[0].tobytes()


def state(pipe) -> dict:
    """What a call or a change of a twin must leave alone: parts by identity, schedulers and configurations by value."""
    inner = [part for part in vars(pipe).values() if isinstance(part, DiffusionPipeline)]
    found = {name: id(part) for one in (pipe, *inner) for name, part in vars(one).items() if name[0] != "_"}
    schedulers = [part for part in pipe.components.values() if isinstance(part, SchedulerMixin)]
    found["schedulers"] = [str(vars(scheduler)) for scheduler in schedulers]
    found["configurations"] = [dict(one.config) for one in (pipe, *inner)]
    found["bars"] = [getattr(one, "_progress_bar_config", None) for one in (pipe, *inner)]
    return found


@pytest.mark.parametrize(("name", "task", "controlnet", "kind"), CALLS)
def test_two_at_once_give_the_pixels_that_each_gives_alone(name, task, controlnet, kind) -> None:
    pipe = quiet(name, task, controlnet=controlnet)
    call = arguments(pipe, task, num_inference_steps=4)
    alone = [called(pipe, call, prompt) for prompt in PROMPTS]
    other = twin(pipe)
    assert type(other) is type(pipe)
    started = threading.Barrier(2)
    with ThreadPoolExecutor(2) as threads:
        for _ in range(2):
            made = threads.map(called, (pipe, other), (call, call), PROMPTS, (started, started))
            assert list(made) == alone


STILL = [("sd15-inpaint", "inpaint"), ("kandinsky22", "text2image"), ("upscale-x4", "upscale")]


@pytest.mark.parametrize(("name", "task"), STILL)
def test_the_original_stays_as_it_was(name, task) -> None:
    pipe = quiet(name, task)
    pipe.set_progress_bar_config(leave=False)
    call = arguments(pipe, task)
    called(pipe, call, "a cat")
    before = state(pipe)
    other = twin(pipe)
    called(other, call, "a dog")
    other.scheduler = DDIMScheduler()
    other.set_progress_bar_config(desc="mine")
    assert state(pipe) == before
    assert other.config["scheduler"] == ("diffusers", "DDIMScheduler")
    models = {key: part for key, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    assert models and all(other.components[key] is part for key, part in models.items())


def test_only_a_twin_that_is_asked_to_be_quiet_is(capfd) -> None:
    pipe = loading.load("sd15")
    call = arguments(pipe, "text2image")
    called(twin(pipe), call, "a cat")
    assert capfd.readouterr().err == ""
    called(twin(pipe, quiet=False), call, "a cat")
    assert "2/2" in capfd.readouterr().err
    called(pipe, call, "a cat")
    assert "2/2" in capfd.readouterr().err


def test_models_stay_in_use_while_a_twin_lives() -> None:
    other = twin(twin(quiet("sd15")))
    gc.collect()
    loading.release_unused()
    assert quiet("sd15").unet is other.unet and original(other) is not other
    assert original(original(other)) is original(other)


# With offload, whose hooks move the models that both share


@pytest.fixture
def offloaded():
    """As load() builds a pipeline where there is a GPU; here the CPU plays it."""
    pipe = quiet("sd15")
    pipe = serialized(type(pipe))(**pipe.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    pipe.enable_model_cpu_offload(device="cpu")
    return pipe


def test_a_serialized_pipeline_is_the_same_pipeline(offloaded, tmp_path) -> None:
    plain = type(offloaded).__base__
    assert type(offloaded).__name__ == plain.__name__ and serialized(plain) is type(offloaded)
    assert inspect.signature(type(offloaded).__call__) == inspect.signature(plain.__call__)
    offloaded.save_pretrained(tmp_path)
    assert type(DiffusionPipeline.from_pretrained(tmp_path)) is plain


def test_calls_that_move_models_run_one_after_the_other(offloaded) -> None:
    call = arguments(offloaded, "text2image", num_inference_steps=3)
    other, order = twin(offloaded), []
    alone = [called(offloaded, call, prompt) for prompt in PROMPTS]
    offloaded.unet.register_forward_pre_hook(lambda *_: order.append(threading.get_ident()))
    started = threading.Barrier(2)
    with ThreadPoolExecutor(2) as threads:
        made = threads.map(called, (offloaded, other), (call, call), PROMPTS, (started, started))
        assert list(made) == alone
    half = len(order) // 2
    assert len(set(order[:half])) == len(set(order[half:])) == 1 and len(set(order)) == 2
