"""One call: which arguments are refused, which images are unusable, and what stays untouched."""

from __future__ import annotations

import threading

import diffusers
import pytest
import torch

from helpers.generation.records import make
from tests.support.calls import arguments, noise, same
from tests.support.tiny import inpaint_pipeline, quiet, tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")
NAN = float("nan")


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
        ({"strength": NAN}, TypeError, "strength='?nan"),
        ({"scheduler": "DDIMSheduler"}, ValueError, "diffusers has no such scheduler. Did you mean 'DDIMScheduler'"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_before_the_model_runs(inpaint, monkeypatch, wrong, error, message) -> None:
    monkeypatch.setattr(inpaint.unet, "forward", lambda *_, **__: pytest.fail("the model ran"))
    with pytest.raises(error, match=message):
        make(inpaint, **arguments(inpaint, "inpaint") | wrong)


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
