"""One call: which arguments are refused, which images are unusable, and what stays untouched."""

from __future__ import annotations

import threading

import diffusers
import numpy as np
import pytest
import torch

from helpers.generation import calls
from helpers.generation.records import make
from helpers.generation.sweeps import sweep
from helpers.pipelines import inspection
from tests.support.calls import arguments, noise, same
from tests.support.tiny import inpaint_pipeline, quiet, tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"guidance": 3}, TypeError, r"guidance=.*InpaintPipeline does not take it\. Did you mean 'guidance_scale'"),
        ({"seeed": 3}, TypeError, "Did you mean 'seed'"),
        ({"generator": torch.Generator()}, TypeError, "generator: pass seed="),
        ({"num_images_per_prompt": 2}, TypeError, "num_images_per_prompt: a record is one image"),
        ({"callback_on_step_end": print}, TypeError, "callback_on_step_end: pass watch="),
        ({"output_type": "latent"}, TypeError, "output_type='latent': a record holds a PIL image"),
        ({"prompt": ["a", "b"]}, TypeError, "prompt is a list: a record is one image"),
        ({"seed": "1"}, TypeError, "seed='1': expected a whole number"),
        ({"seed": True}, TypeError, "seed=True: expected a whole number"),
        ({"seed": -1}, ValueError, "seed=-1: expected a whole number"),
        ({"image": "castle.png"}, TypeError, "image: expected .* got str; open it with load_image"),
        ({"cross_attention_kwargs": {"f": print}}, TypeError, r"cross_attention_kwargs\['f'\]="),
        ({"strength": NAN}, ValueError, "strength=nan: expected a number from 0 to 1"),
        ({"prompt": "a cat \ud83d"}, ValueError, r"prompt: '\\ud83d' at position 7 is half a character"),
        ({"cross_attention_kwargs": {"\udc00": 1}}, ValueError, "cross_attention_kwargs: .* is half a character"),
        ({"scheduler": "DDIMSheduler"}, ValueError, "diffusers has no such scheduler. Did you mean 'DDIMScheduler'"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_before_the_model_runs(inpaint, monkeypatch, wrong, error, message) -> None:
    monkeypatch.setattr(inpaint.unet, "forward", lambda *_, **__: pytest.fail("the model ran"))
    with pytest.raises(error, match=message):
        make(inpaint, **arguments(inpaint, "inpaint") | wrong)


WRONG = {  # by argument: what no pipeline can use, by its type (TypeError) and by its size (ValueError)
    "seed": ([None, "7", 1.5, True, np.float64(2), [1]], [-1, 2**64, 10**30, -(10**5000)]),
    "strength": ([None, "0.5", True, np.True_, [0.5]], [-0.1, 1.1, 3.0, NAN, INF, -INF, np.float32(2), 10**400]),
    "guidance_scale": ([None, "7", True, 1j], [-1, -0.5, NAN, INF, np.float64("nan"), 10**400]),
    "num_inference_steps": ([None, "25", 25.0, True, np.float32(4)], [0, -1, 1001, 10**9, np.int64(-3), 10**5000]),
    "padding_mask_crop": (["8", True, 8.0, NAN, [16], np.float32(16)], [-1, -5, -200, np.int64(-8)]),
    "eta": ([None, "0", False], [-0.1, 1.5, NAN]),
    "clip_skip": (["1", 1.0, True], [-1]),
    "blur_factor": (["4", True], [-1, NAN, INF]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_numbers_are_checked_by_type_and_range_before_the_model_runs(inpaint, monkeypatch, name) -> None:
    monkeypatch.setattr(inpaint.unet, "forward", lambda *_, **__: pytest.fail("the model ran"))
    monkeypatch.setattr(inpaint.text_encoder, "forward", lambda *_, **__: pytest.fail("the model ran"))
    given = {key: value for key, value in arguments(inpaint, "inpaint").items() if key != name}
    for kind, values in zip((TypeError, ValueError), WRONG[name], strict=True):
        for value in values:
            if name != "seed" or value is not None:  # make draws one
                with pytest.raises(kind, match=rf"{name}=.*expected a (whole )?number"):
                    make(inpaint, **given | {name: value})
            with pytest.raises(kind, match=rf"{name}(=|'\] has None).*expected (a )?(whole )?number"):
                next(sweep(inpaint, over={name: [value]}, progress=False, **given))


def test_numbers_of_numpy_and_torch_count_and_become_plain(inpaint) -> None:
    given = {
        "seed": np.uint64(2**64 - 1), "strength": np.float32(1), "guidance_scale": torch.tensor(2.0),
        "num_inference_steps": np.int64(2), "padding_mask_crop": np.int64(16), "eta": np.float64(0),
    }  # fmt: skip
    kept = calls.check(inpaint, arguments(inpaint, "inpaint") | given)
    assert {name: (type(kept[name]), kept[name]) for name in given} == {
        "seed": (int, 2**64 - 1), "strength": (float, 1.0), "guidance_scale": (float, 2.0),
        "num_inference_steps": (int, 2), "padding_mask_crop": (int, 16), "eta": (float, 0.0),
    }  # fmt: skip
    assert "padding_mask_crop" not in calls.check(inpaint, {"padding_mask_crop": None})


def test_several_control_nets_have_a_number_each() -> None:
    pipe = quiet("sd15", controlnet="controlnet-depth")
    assert calls.check(pipe, {"control_guidance_end": [1, np.float32(0.5)]}) == {"control_guidance_end": [1, 0.5]}
    with pytest.raises(TypeError, match="controlnet_conditioning_scale='1'"):
        calls.check(pipe, {"controlnet_conditioning_scale": [1.0, "1"]})
    with pytest.raises(ValueError, match="control_guidance_start=2"):
        calls.check(pipe, {"control_guidance_start": (2.0,)})


MANY = {"num_inference_steps": 1000}


@pytest.mark.parametrize(
    ("name", "task", "more", "message"),
    [
        ("sd15", "image2image", {"strength": 0.2, "num_inference_steps": 4}, "strength=0.2 with num_inference_steps=4"),
        ("sd15", "image2image", {"strength": 0, "num_inference_steps": 50}, "strength=0 with num_inference_steps=50"),
        ("sd15", "image2image", {"strength": 5e-324}, "strength=5e-324 with .*: raise strength"),
        ("sd15", "image2image", {"strength": None, "num_inference_steps": 1}, "strength=0.8 with .*=1 leaves"),
        ("sdxl-refiner", "image2image", {"strength": None, "num_inference_steps": 3}, "strength=0.3 with .*=3 leaves"),
        ("sdxl-inpaint", "inpaint", {"strength": None, "num_inference_steps": 1}, "strength=0.9999 with .*=1 leaves"),
        ("sdxl-inpaint", "inpaint", {"denoising_start": 0.9995, "num_inference_steps": 4}, "=0.9995: .*no step"),
        ("kandinsky22", "image2image", {"strength": 0.01, "num_inference_steps": 9}, "strength=0.01 with"),
        ("kandinsky22", "text2image", {"prior_num_inference_steps": 1}, "prior_num_inference_steps=1: UnCLIPScheduler"),
        ("sd15", "text2image", {"scheduler": "UniPCMultistepScheduler"} | MANY, "=1000: .* fails .*Use"),
        ("sd15", "inpaint", {"scheduler": "DEISMultistepScheduler"} | MANY, "=1000: .* fails .*Use"),
        ("upscale-x4", "upscale", {"scheduler": "UniPCMultistepScheduler"} | MANY, "=1000: .* fails .*Use"),
    ],
)  # fmt: skip
def test_pairs_that_leave_nothing_to_run_are_refused(monkeypatch, name, task, more, message) -> None:
    pipe = quiet(name, task=None if task == "upscale" else task)
    for model in inspection.models(pipe).values():
        monkeypatch.setattr(model, "forward", lambda *_, **__: pytest.fail("a model ran"))
    given = arguments(pipe, task) | more
    given = {key: value for key, value in given.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        make(pipe, **given)
    with pytest.raises(ValueError, match=message):
        sweep(pipe, over={"seed": [1]}, **given)


def test_another_scheduler_is_used_for_one_call_alone(inpaint) -> None:
    own, config = inpaint.scheduler, dict(inpaint.config)
    call = arguments(inpaint, "inpaint", num_inference_steps=3)
    record = make(inpaint, seed=1, scheduler=diffusers.DDIMScheduler, **call)
    assert inpaint.scheduler is own and dict(inpaint.config) == config
    assert record.parameters["scheduler"] == "DDIMScheduler"
    assert not same(record, make(inpaint, seed=1, **call))
    inpaint.scheduler = diffusers.DDIMScheduler.from_config(own.config)
    assert same(record, inpaint(**call, generator=torch.Generator("cpu").manual_seed(1)).images[0])


def test_watching_changes_nothing_and_may_end_the_call(inpaint) -> None:
    call = arguments(inpaint, "inpaint", num_inference_steps=3)
    seen = []
    record = make(inpaint, seed=1, watch=lambda _, step, timestep, latents: seen.append((step, latents.shape)), **call)
    assert [step for step, _ in seen] == list(range(len(seen))) and len(seen) >= 3
    assert same(record, make(inpaint, seed=1, **call))

    def stop(*_):
        raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        make(inpaint, seed=1, watch=stop, **call)
    assert same(record, make(inpaint, seed=1, **call))


# Images that are unusable


def fill(layer: torch.nn.Module, value: float) -> None:
    """Let a layer answer with this value, whatever its input."""
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(value)


@pytest.mark.parametrize("crop", [None, 2])  # with a crop, the black square is pasted into the original
def test_nan_is_named_where_it_arose(inpaint, crop) -> None:
    call = arguments(inpaint, "inpaint", padding_mask_crop=crop)
    assert make(inpaint, seed=1, **call).error is None
    fill(inpaint.vae.decoder.conv_out, NAN)
    assert make(inpaint, seed=1, **call).error.startswith("NaN: the VAE decoded the latents to NaN")
    fill(inpaint.unet.conv_out, NAN)
    assert make(inpaint, seed=1, **call).error.startswith("NaN: the latents became NaN or Inf")


@pytest.mark.parametrize(("name", "part"), [("kandinsky22", "movq"), ("upscale-x2", "vae"), ("upscale-x4", "vae")])
def test_nan_is_named_for_other_families(name, part) -> None:
    pipe = quiet(name)
    call = arguments(pipe, "text2image" if part == "movq" else "upscale")
    fill(getattr(pipe, part).decoder.conv_out, NAN)
    assert make(pipe, seed=1, **call).error.startswith("NaN: the VAE decoded")


def test_an_image_that_is_truly_black_is_no_error(inpaint) -> None:
    fill(inpaint.vae.decoder.conv_out, -1)
    record = make(inpaint, seed=1, **arguments(inpaint, "inpaint"))
    assert record.image.getbbox() is None and record.error is None


def test_what_the_safety_checker_blackened_is_named(inpaint, monkeypatch) -> None:
    monkeypatch.setattr(inpaint, "run_safety_checker", lambda image, *_: (torch.zeros_like(image), [True]))
    assert make(inpaint, seed=1, **arguments(inpaint, "inpaint")).error.startswith("black: the safety checker")


def test_what_another_thread_decodes_with_the_same_vae_is_not_this_calls(inpaint) -> None:
    """As a cell does that calls another pipeline of the checkpoint while a widget draws."""
    latents = torch.full((1, 4, 4, 4), NAN)

    def decode_elsewhere(*_) -> None:
        thread = threading.Thread(target=inpaint.vae.decode, args=(latents,))
        thread.start()
        thread.join()

    record = make(inpaint, seed=1, watch=decode_elsewhere, **arguments(inpaint, "inpaint", image=noise(1)))
    assert record.error is None
