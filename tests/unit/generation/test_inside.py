"""The steps of a call as `inside` records them: true to the scheduler and the UNet, and without a trace on either."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image

from helpers.generation import inside
from helpers.generation.records import make
from helpers.pipelines.inspection import models
from tests.support.calls import CALLS, arguments, half_mask, noise, same
from tests.support.tiny import SIZE, quiet, tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")
WATCHED = [one for one in CALLS if one[1] != "upscale"]


def hooks(pipe) -> int:
    parts = [part for model in models(pipe).values() for part in model.modules()]
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in parts)


@pytest.mark.parametrize(("name", "task", "controlnet", "kind"), WATCHED)
def test_the_image_is_the_plain_calls_and_nothing_stays_behind(name, task, controlnet, kind) -> None:
    pipe = quiet(name, task, controlnet=controlnet)
    call = arguments(pipe, task, num_inference_steps=4)
    seen = []
    plain = make(pipe, seed=5, watch=lambda inner, step, at, latents: seen.append(latents.ndim == 4), **call)
    before = hooks(pipe), str(vars(pipe.scheduler))
    record, steps, inner = inside.run(pipe, seed=5, **call)
    assert same(plain, record) and record.key() == plain.key()
    assert (hooks(pipe), str(vars(pipe.scheduler))) == before and "step" not in vars(inner.scheduler)
    assert len(steps) == sum(seen)  # a prior's steps have no latents
    assert all(step.after is not None and torch.isfinite(step.clean(step.guided)).all() for step in steps)
    assert same(plain, make(pipe, seed=5, **call))


def test_a_scheduler_may_be_chosen_for_the_call() -> None:
    pipe = quiet("sd15")
    call = {"prompt": "a cat", "num_inference_steps": 3, "scheduler": "DDIMScheduler"}
    plain, (record, steps, _) = make(pipe, seed=1, **call), inside.run(pipe, seed=1, **call)
    assert same(plain, record) and record.key() == plain.key() and len(steps) == 3


def test_a_steps_guidance_is_the_formula() -> None:
    _, steps, _ = inside.run(
        quiet("sd15"), prompt="a cat", negative_prompt="a dog", num_inference_steps=2, guidance_scale=5.0
    )
    for step in steps:
        expected = step.unprompted + 5.0 * (step.prompted - step.unprompted)
        assert torch.equal(step.guided, expected) and not torch.equal(step.prompted, step.unprompted)
    _, [step], _ = inside.run(quiet("sd15"), prompt="a cat", num_inference_steps=1, guidance_scale=1.0)
    assert step.unprompted is None and torch.equal(step.guided, step.prompted)


@pytest.mark.parametrize("scheduler", [DDIMScheduler, EulerDiscreteScheduler])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_clean_latents_are_those_that_the_scheduler_predicts(scheduler, kind) -> None:
    pipe = quiet("sd15")
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config, prediction_type=kind, clip_sample=False)
    predicted, plain = [], scheduler.step

    class Telling(scheduler):
        def step(self, *args, return_dict=True, **kwargs):
            made = plain(self, *args, **kwargs)
            predicted.append(made.pred_original_sample[0])
            return (made.prev_sample,)

    pipe.scheduler.__class__ = Telling
    with torch.no_grad():
        _, steps, _ = inside.run(pipe, prompt="a cat", num_inference_steps=4)
    assert len(predicted) == 4
    for step, clean in zip(steps, predicted, strict=True):
        assert torch.allclose(step.clean(step.guided), clean, rtol=1e-3, atol=1e-3)
        assert not torch.allclose(step.clean(step.unprompted), clean, rtol=1e-3, atol=1e-3)


def test_a_regular_checkpoint_puts_the_noised_original_back_outside_the_mask() -> None:
    pipe = quiet("sd15", "inpaint")
    _, steps, _ = inside.run(pipe, **arguments(pipe, "inpaint", num_inference_steps=3))
    for step, following in zip(steps, steps[1:], strict=False):
        latents, repaint = step.brought()
        assert torch.equal(latents, following.noised)
        columns = repaint.shape[1]
        assert repaint[:, : columns // 2].all() and not repaint[:, columns // 2 :].any()
        assert torch.equal(step.stepped[:, repaint], step.after[:, repaint])


@pytest.mark.parametrize("name", ["sd15-inpaint", "kandinsky22-inpaint"])
def test_an_inpainting_checkpoint_is_given_the_mask_and_the_masked_image(name) -> None:
    pipe = quiet(name, "inpaint")
    _, steps, _ = inside.run(pipe, **arguments(pipe, "inpaint"))
    latents, repaint = steps[0].brought()
    columns = repaint.shape[1]
    grown = int("kandinsky" in name)  # Kandinsky repaints one latent more
    assert repaint[:, : columns // 2].all() and not repaint[:, columns // 2 + grown :].any()
    assert latents.shape == steps[0].noised.shape and torch.equal(latents, steps[-1].brought()[0])


def test_no_mask_brings_nothing() -> None:
    _, steps, _ = inside.run(quiet("sd15"), prompt="a cat", num_inference_steps=2)
    assert {step.brought() for step in steps} == {None}


def test_attention_is_what_diffusers_own_processor_computes() -> None:
    pipe, layers = quiet("sd15"), []
    own = pipe.unet.attn_processors

    class Telling(AttnProcessor):
        def __call__(self, layer, hidden_states, encoder_hidden_states=None, **more):
            if encoder_hidden_states is not None:
                query, key = layer.to_q(hidden_states), layer.to_k(encoder_hidden_states)
                scores = layer.get_attention_scores(layer.head_to_batch_dim(query), layer.head_to_batch_dim(key))
                layers.append(scores.unflatten(0, (2, -1))[1].mean(0))  # with the prompt, over the heads
            return super().__call__(layer, hidden_states, encoder_hidden_states, **more)

    pipe.unet.set_attn_processor(Telling())
    try:
        _, [step], _ = inside.run(pipe, prompt="a cat", num_inference_steps=1)
    finally:
        pipe.unet.set_attn_processor(own)
    side = step.noised.shape[-1]
    sizes = [round(len(one) ** 0.5) for one in layers]
    grown = [
        torch.nn.functional.interpolate(one.T.reshape(1, -1, size, size), side, mode="bilinear")[0]
        for one, size in zip(layers, sizes, strict=True)
    ]
    assert torch.allclose(step.attention, torch.stack(grown).mean(0), atol=1e-5)
    assert torch.allclose(step.attention.sum(0), torch.ones(side, side), atol=1e-4)


@pytest.mark.parametrize("size", [(40, 24), (72, 48), (8, 8)])
def test_images_that_are_no_squares_have_attention_too(size) -> None:
    width, height = size
    _, [step], _ = inside.run(quiet("sd15"), prompt="a cat", num_inference_steps=1, width=width, height=height)
    assert step.attention.shape[1:] == (height // 8, width // 8) == step.noised.shape[1:]


def test_words_are_put_together_from_their_tokens() -> None:
    pipe = quiet("sd15")
    found = inside.words_of(pipe, "a red cat, then")
    assert [word for word, _ in found] == ["a", "red", "cat", "then"]
    places = [place for _, own in found for place in own]
    assert places == [*range(1, 8), *range(9, 13)]  # the tiny vocabulary has letters alone; 8 is the comma
    cut = inside.words_of(pipe, "word " * 100)
    assert cut[-1][1][-1] == pipe.tokenizer.model_max_length - 2


def test_a_call_in_another_thread_is_not_recorded() -> None:
    pipe = quiet("sd15")
    call, other = {"prompt": "a cat", "num_inference_steps": 2, "scheduler": "DDIMScheduler"}, []

    def meanwhile(*_):
        if threading.current_thread() is threading.main_thread() and not other:
            other.append(None)
            thread = threading.Thread(target=lambda: other.append(inside.run(pipe, seed=9, **call)))
            thread.start()
            thread.join(120)

    hook = pipe.unet.register_forward_pre_hook(meanwhile)
    try:
        record, steps, _ = inside.run(pipe, seed=1, **call)
    finally:
        hook.remove()
    assert same(make(pipe, seed=1, **call), record) and len(steps) == 2
    assert same(make(pipe, seed=9, **call), other[1][0]) and len(other[1][1]) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_cancelled_call_leaves_the_pipeline_as_it_was(error) -> None:
    pipe = quiet("sd15-inpaint")
    call = arguments(pipe, "inpaint", num_inference_steps=3)
    plain, calls = make(pipe, seed=2, **call), []

    def stop(*_):
        calls.append(None)
        if len(calls) == 2:
            raise error

    hook = pipe.unet.register_forward_pre_hook(stop)
    with pytest.raises(error):
        inside.run(pipe, seed=2, **call)
    hook.remove()
    assert hooks(pipe) == 0 and "step" not in vars(pipe.scheduler)
    assert same(plain, make(pipe, seed=2, **call)) and same(plain, inside.run(pipe, seed=2, **call)[0])


@pytest.mark.parametrize(
    ("name", "task", "call", "error", "message"),
    [
        ("upscale-x2", None, {}, ValueError, "'upscale-x2'.* has no callback_on_step_end, so its steps"),
        ("upscale-x4", None, {}, ValueError, "has no callback_on_step_end"),
        ("sd15", None, {"num_inference_steps": 0}, ValueError, "num_inference_steps=0: expected a whole number"),
        ("sd15", "image2image", {"strength": 0.1, "num_inference_steps": 5}, ValueError, "leaves no step to run"),
        ("sd15", None, {"guidance": 5}, TypeError, "guidance=.*does not take it. Did you mean 'guidance_scale'"),
        ("sd15", None, {"latents": torch.zeros(2, 4, 4, 4)}, ValueError, "latents is a batch of 2: the steps of one"),
        ("sd15", "image2image", {"image": None}, ValueError, "takes image, and the call has no image"),
        ("sd15", "image2image", {"image": [noise(1), noise(2)]}, ValueError, "image is a batch of 2"),
        ("sd15", "inpaint", {}, ValueError, "takes image and mask_image, and the call has no mask_image"),
        ("sd15-inpaint", None, {"image": None}, ValueError, "and the call has no image and no mask_image"),
        ("sd15", "inpaint", {"mask_image": Image.new("L", (16, 16), 255)}, ValueError, "mask is 16 x 16 pixels"),
        ("sd15-inpaint", None, {"mask_image": Image.new("L", (SIZE, SIZE))}, ValueError, "mask is all black"),
        ("kandinsky22-inpaint", None, {"mask_image": Image.new("L", (SIZE, SIZE), 9)}, ValueError, "never reaches"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_a_model_runs(name, task, call, error, message) -> None:
    pipe = quiet(name, task)
    image = {} if task is None and name == "sd15" else {"image": noise(1)}
    hook = pipe.unet.register_forward_pre_hook(lambda *_: pytest.fail("a model ran"))
    try:
        with pytest.raises(error, match=message):
            inside.run(pipe, **{"prompt": "a cat"} | image | call)
    finally:
        hook.remove()


def test_what_has_no_steps_of_an_image_is_refused() -> None:
    with pytest.raises(TypeError, match="pipe: expected a diffusers pipeline, as load.* got str"):
        inside.run("sd15", prompt="a cat")
    prior = quiet("kandinsky22").prior_pipe
    with pytest.raises(ValueError, match="KandinskyV22PriorPipeline has no unet and no VAE: there are no steps"):
        inside.run(prior, prompt="a cat")


def test_a_compiled_unet_is_refused() -> None:
    pipe = quiet("sd15")
    block = pipe.unet.mid_block
    block._compiled_call_impl = lambda *_: None  # as block.compile() leaves it
    try:
        with pytest.raises(ValueError, match="the UNet is compiled"):
            inside.run(pipe, prompt="a cat")
    finally:
        block._compiled_call_impl = None


def test_decoded_latents_are_the_pipelines_image() -> None:
    for name in ("sd15", "sdxl-refiner", "kandinsky22"):
        pipe = quiet(name, "image2image" if name == "sdxl-refiner" else None)
        task = "image2image" if name == "sdxl-refiner" else "text2image"
        record, steps, inner = inside.run(pipe, **arguments(pipe, task))
        assert same(record, inside.decode(inner, steps[-1].after[None])[0]), name


def test_a_mask_that_keeps_nothing_brings_nothing() -> None:
    pipe = quiet("sd15", "inpaint")
    call = arguments(pipe, "inpaint")
    _, steps, _ = inside.run(pipe, **call | {"mask_image": Image.new("L", half_mask().size, 255)})
    assert {step.brought() for step in steps} == {None}


def test_another_runtime_makes_its_own_image_and_is_left_to_it() -> None:
    pytest.importorskip("onnxruntime")
    pipe = quiet("sd15", runtime="onnxruntime")
    call = arguments(pipe, "text2image")
    plain = make(pipe, seed=3, **call)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it says so where it must leave a call to PyTorch
        record, steps, inner = inside.run(pipe, seed=3, **call)
    assert same(plain, record) and steps[0].prompted is not None and steps[0].attention is None
    assert "cannot be watched in onnxruntime" in inside.no_attention(inner)
