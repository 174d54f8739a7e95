"""Running out of memory, injected where it happens: what is tried, in which order, and what stays."""

from __future__ import annotations

import contextlib
import gc
import warnings
import weakref

import numpy as np
import pytest
import torch

from helpers import rescue
from helpers.catalog import devices
from helpers.generation import job_queue
from helpers.generation.oom import retry_on_oom
from helpers.pipelines.twins import twin
from tests.support.calls import arguments
from tests.support.queue import LONG, job_queue_of_its_own  # noqa: F401
from tests.support.tiny import quiet, tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")
CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
MPS = RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB)")


@pytest.fixture
def pipe():
    return quiet("sd15")


def call(pipe, **more):
    given = {"prompt": "a boat", "num_inference_steps": 2, "output_type": "np"} | more
    return given | {"generator": torch.Generator().manual_seed(3)}


@contextlib.contextmanager
def failing(model, method: str, when, error=CUDA):
    """`model.method` raises while `when(its first argument)` holds; yields the number of failures."""
    plain, seen = getattr(model, method), []

    def fail_or_run(*args, **kwargs):
        if when(args[0] if args else kwargs["sample"]):
            seen.append(1)
            raise type(error)(*error.args)
        return plain(*args, **kwargs)

    object.__setattr__(model, method, fail_or_run)
    try:
        yield seen
    finally:
        object.__delattr__(model, method)


def first(count: int):
    """True for the first `count` calls."""
    left = [count]

    def when(_) -> bool:
        left[0] -= 1
        return left[0] >= 0

    return when


def rescued(pipe, **given):
    """The pictures, and what the warning said."""
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        output = rescue(pipe, **given)
    return output.images, " ".join(str(note.message) for note in noted if "Memory" in str(note.message))


def is_whole(pipe) -> bool:
    return "Sliced" not in type(next(iter(pipe.unet.attn_processors.values()))).__name__


def test_a_call_that_fits_is_the_plain_call(pipe):
    plain = pipe(**call(pipe)).images
    images, said = rescued(pipe, **call(pipe))
    assert np.array_equal(images, plain) and said == ""


@pytest.mark.parametrize("error", [CUDA, MPS, MemoryError()], ids=["cuda", "mps", "python"])
def test_after_one_failure_the_image_is_the_same(pipe, error):
    plain = pipe(**call(pipe)).images
    with failing(pipe.unet, "forward", first(1), error) as failures:
        images, said = rescued(pipe, **call(pipe))
    assert len(failures) == 1 and np.array_equal(images, plain)
    assert said == "Memory ran out; the call was made again with: unused checkpoints released."


def test_numbers_that_a_failed_attempt_drew_are_drawn_again():
    pipe = quiet("sd15-inpaint")
    given = arguments(pipe, "inpaint", num_inference_steps=3) | {"output_type": "np"}
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    plain = pipe(**given, generator=generators[0]).images
    with failing(pipe.vae, "decode", first(1)):  # at the very end: all numbers are drawn
        images, _ = rescued(pipe, **given, generator=generators[1])
    assert np.array_equal(images, plain)


def test_what_the_failed_frames_held_is_gone_before_the_next_attempt(pipe):
    held, alive = [], []

    def when(_) -> bool:
        alive.append([one() is not None for one in held])
        if len(held) == 2:
            return False
        block = torch.ones(1000)  # a local of the failing frame
        held.append(weakref.ref(block))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    gc.disable()
    try:
        with failing(pipe.unet, "forward", when):
            rescued(pipe, **call(pipe))
    finally:
        gc.enable()
    assert alive[:3] == [[], [False], [False, False]]


@pytest.mark.parametrize("kind", ["np", "pt", "pil"])
def test_a_batch_is_made_one_by_one(pipe, kind):
    given = {"prompt": ["a boat", "a house"], "negative_prompt": ["x", "y"], "output_type": kind}
    plain = np.stack([np.asarray(one) for one in pipe(**call(pipe, **given)).images])
    with failing(pipe.unet, "forward", lambda sample: sample.shape[0] > 2):  # two: with guidance
        images, said = rescued(pipe, **call(pipe, **given))
    assert said.endswith("unused checkpoints released, one image at a time.")
    images = np.stack([np.asarray(one) for one in images])
    assert images.shape == plain.shape and np.abs(images.astype(float) - plain).max() <= (1 if kind == "pil" else 1e-3)


@pytest.mark.parametrize("name", ["sd15", "sdxl-inpaint", "kandinsky22"])
def test_attention_is_sliced(name):
    pipe = quiet(name)
    given = arguments(pipe, "inpaint" if "inpaint" in name else "text2image") | {"output_type": "np"}
    plain = pipe(**given, generator=torch.Generator().manual_seed(3)).images
    with failing(pipe.unet, "forward", lambda _: is_whole(pipe), MPS):
        images, said = rescued(pipe, **given, generator=torch.Generator().manual_seed(3))
    assert "attention in slices (pipe.disable_attention_slicing() ends it)" in said and "tiles" not in said
    assert not is_whole(pipe), "it stays so"
    assert np.abs(images - plain).max() < 1e-2


def test_the_vae_works_in_tiles_where_the_image_is_larger_than_one(pipe):
    with failing(pipe.vae.decoder, "forward", lambda z: z.shape[-1] > 4):  # 32 pixels, which is its tile
        images, said = rescued(pipe, **call(pipe, height=64, width=64))
    assert images.shape == (1, 64, 64, 3) and pipe.vae.use_tiling is True
    assert said.endswith("the VAE in tiles (pipe.vae.disable_tiling() ends it).")


def test_a_gpu_offloads_models_before_it_tiles_and_layers_last(pipe, monkeypatch):
    asked = []
    monkeypatch.setattr(type(pipe), "_execution_device", property(lambda self: torch.device("cuda")))
    monkeypatch.setattr(pipe, "enable_model_cpu_offload", lambda: asked.append("model"))
    monkeypatch.setattr(pipe, "enable_sequential_cpu_offload", lambda: asked.append("sequential"))
    monkeypatch.setattr(pipe.vae, "enable_tiling", lambda: asked.append("tiles"))

    def run():
        if len(asked) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return "made"

    result, changes = retry_on_oom(twin(pipe), run, call={"height": 64, "width": 64})  # as the queue calls it
    assert result == "made" and asked == ["model", "tiles", "sequential"]
    assert changes[1] == "model offload" and changes[-1] == "sequential offload"


def test_if_nothing_helps_the_error_says_what_was_tried_and_what_to_try(pipe, monkeypatch):
    monkeypatch.setattr(devices, "free_memory", lambda device: 1.5e9)
    with failing(pipe.unet, "forward", lambda _: True), pytest.raises(MemoryError) as caught:
        rescue(pipe, **call(pipe, height=1024, width=512))
    text = str(caught.value)
    assert "memory ran out for 512 x 1024 pixels, also with: unused checkpoints released, attention in slices" in text
    assert "1.5 GB are free. Try 256 x 512 pixels" in text
    assert caught.value.__context__ is None and caught.value.__cause__ is None


def test_another_error_is_passed_on_at_once(pipe):
    with failing(pipe.unet, "forward", lambda _: True, RuntimeError("mat1 and mat2 shapes")) as failures:
        with pytest.raises(RuntimeError, match="mat1 and mat2 shapes"):
            rescue(pipe, **call(pipe))
    assert len(failures) == 1


# The job queue


def test_a_job_survives_and_says_what_was_changed(pipe):
    def submit() -> job_queue.Job:
        job = job_queue.Job(pipe, {"prompt": "a boat", "num_inference_steps": 2, "seed": 3})
        job_queue.shared.submit(job)
        assert job.wait(LONG)
        return job

    with failing(pipe.unet, "forward", lambda _: is_whole(pipe)):
        job = submit()
    assert job.state == "done" and job.changes[-1].startswith("attention in slices") and job.record.image
    with failing(pipe.unet, "forward", lambda _: True):
        error = submit().error
    assert isinstance(error, MemoryError) and "memory ran out for 32 x 32 pixels" in str(error)
    assert submit().changes == [], "the worker lives on"
