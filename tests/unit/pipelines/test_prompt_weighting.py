"""weigh(): equal to the plain call without weights, what weights do to embeddings, long texts, and every refusal."""

from __future__ import annotations

import re

import pytest
import torch
from transformers import tokenization_utils_base

from helpers import weigh
from helpers.pipelines import prompt_syntax
from helpers.pipelines.inspection import models
from helpers.pipelines.loading import load
from tests.support.calls import CALLS, arguments
from tests.support.tiny import tiny_course  # noqa: F401
from tests.support.tiny_models import WIDTH

pytestmark = pytest.mark.usefixtures("tiny_course")

LENGTH = 77
LONG = ", ".join(["a red castle at night"] * 30)  # more than two times 77 tokens
SD = [call for call in CALLS if call[0].startswith("sd15")]
XL = [call for call in CALLS if call[0].startswith("sdxl")]
NAMES = {"prompt_embeds", "negative_prompt_embeds"}
POOLED = {"pooled_prompt_embeds", "negative_pooled_prompt_embeds"}


def pipeline(name: str, task: str | None = None, controlnet: str | None = None):
    pipe = load(name, task=None if task == "upscale" else task, controlnet=controlnet)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def sd():
    return pipeline("sd15")


@pytest.fixture
def sdxl():
    return pipeline("sdxl-inpaint")


def plain(pipe, prompt: str, negative: str | None = None) -> dict:
    """What the pipeline itself makes of a text."""
    made = pipe.encode_prompt(
        prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True, negative_prompt=negative
    )
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    return dict(zip(names, made, strict=False))


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def rows(pipe, prompt: str) -> list[bool]:
    """Which of the 77 positions differ from those of the same prompt without weights."""
    unweighted = prompt_syntax.texts(prompt_syntax.parse_prompt(prompt))[0][0]
    apart = weigh(pipe, prompt)["prompt_embeds"] - weigh(pipe, unweighted)["prompt_embeds"]
    return (apart.abs().amax(-1)[0] > 1e-6).tolist()


def places(pipe, before: str, word: str) -> list[int]:
    """Where a word's tokens stand after these words."""
    start, end = (len(pipe.tokenizer(text).input_ids) - 1 for text in (before, f"{before} {word}"))
    return list(range(start, end))


# Without weights


@pytest.mark.parametrize(("name", "task", "controlnet", "kind"), [*SD, *XL])
def test_without_weights_the_image_is_that_of_the_plain_call(name, task, controlnet, kind) -> None:
    pipe = pipeline(name, task, controlnet)
    call = arguments(pipe, task)
    del call["prompt"]
    words = {"prompt": "a cat, 8k", "negative_prompt": "blurry"}
    weighed = weigh(pipe, *words.values())
    assert weighed.keys() == (NAMES | POOLED if name.startswith("sdxl") else NAMES)
    images = [
        pipe(**call, **said, generator=torch.Generator("cpu").manual_seed(0)).images[0] for said in (words, weighed)
    ]
    assert images[0].tobytes() == images[1].tobytes()


@pytest.mark.parametrize("negative", [None, "", "blurry, poor details"])
@pytest.mark.parametrize("name", ["sd15", "sdxl-inpaint", "sdxl-refiner", "upscale-x4"])
@pytest.mark.parametrize("prompt", ["a red castle, highly detailed ...", "", "sci-fi -- 1.5, cat's eye; a.b,c\nd"])
def test_without_weights_the_embeddings_are_the_pipelines_own(name, prompt, negative) -> None:
    pipe = pipeline(name)
    assert equal(weigh(pipe, prompt, negative), plain(pipe, prompt, negative))
    escaped = re.sub(r'([()"+\-])', r"\\\1", f'({prompt}) 5" ++')  # a backslash makes a sign of syntax
    assert equal(weigh(pipe, escaped, negative), plain(pipe, f'({prompt}) 5" ++', negative))


def test_several_prompts_are_one_image_each(sd) -> None:
    both = weigh(sd, ["a cat", "a (red)1.4 dog"], "blurry")
    assert {tuple(value.shape) for value in both.values()} == {(2, LENGTH, WIDTH)}
    for number, prompt in enumerate(["a cat", "a (red)1.4 dog"]):
        one = weigh(sd, prompt, "blurry")
        assert all(torch.equal(both[name][number], one[name][0]) for name in both)
    each = weigh(sd, ["a cat", "a dog"], ["blurry", "ugly"])
    assert torch.equal(each["negative_prompt_embeds"][1], weigh(sd, "a dog", "ugly")["negative_prompt_embeds"][0])


# With weights


def test_more_weight_takes_the_words_own_row_away_from_the_empty_prompt(sd) -> None:
    base, empty = (plain(sd, text)["prompt_embeds"] for text in ("a cat at night", ""))
    heavy = weigh(sd, "a (cat)1.5 at night")["prompt_embeds"]
    own = places(sd, "a", "cat")
    assert [place for place, moved in enumerate(rows(sd, "a (cat)1.5 at night")) if moved] == own
    assert torch.allclose(heavy[:, own], (empty + 1.5 * (base - empty))[:, own], atol=1e-5)


def test_a_blend_is_the_weighted_mean(sd) -> None:
    cat, dog = (plain(sd, text)["prompt_embeds"] for text in ("a cat", "a dog"))
    found = weigh(sd, '("a cat", "a dog").blend(0.6, 0.2)')["prompt_embeds"]
    assert torch.allclose(found, 0.75 * cat + 0.25 * dog, atol=1e-6)
    halves = weigh(sd, '("a cat", "a dog").blend()')["prompt_embeds"]
    assert torch.allclose(halves, 0.5 * cat + 0.5 * dog, atol=1e-6)
    raw = weigh(sd, '("a cat", "a dog").blend(1, 1, no_normalize)')["prompt_embeds"]
    assert torch.allclose(raw, cat + dog, atol=1e-5)


def test_and_sets_prompts_one_after_the_other(sd) -> None:
    found = weigh(sd, '("a cat", "a dog").and()', "blurry")
    cat, dog, negative, empty = (plain(sd, text)["prompt_embeds"] for text in ("a cat", "a dog", "blurry", ""))
    assert torch.equal(found["prompt_embeds"], torch.cat([cat, dog], 1))
    assert torch.equal(found["negative_prompt_embeds"], torch.cat([negative, empty], 1))
    less = weigh(sd, '("a cat", "a dog").and(1, 0.5)')["prompt_embeds"]
    assert torch.allclose(less, torch.cat([cat, empty + 0.5 * (dog - empty)], 1), atol=1e-6)


def test_a_long_prompt_is_read_to_its_end(sd) -> None:
    found = weigh(sd, LONG)
    count = len(sd.tokenizer(LONG).input_ids)
    assert found["prompt_embeds"].shape == found["negative_prompt_embeds"].shape
    assert found["prompt_embeds"].shape[1] % LENGTH == 0 and found["prompt_embeds"].shape[1] >= count
    other = weigh(sd, f"{LONG}, a dog")["prompt_embeds"]
    assert not torch.equal(other, found["prompt_embeds"])
    cut = plain(sd, LONG)["prompt_embeds"]
    assert torch.equal(cut, plain(sd, f"{LONG}, a dog")["prompt_embeds"])  # the pipeline itself cuts it off


def test_nobody_warns_of_a_long_prompt_that_is_read_to_its_end(sd, monkeypatch) -> None:
    said = []
    monkeypatch.setattr(tokenization_utils_base.logger, "warning", lambda text, *_: said.append(text))
    weigh(sd, LONG)
    assert said == []


@pytest.mark.parametrize("name", ["sd15", "sdxl-inpaint", "sdxl-refiner"])
@pytest.mark.parametrize(("prompt", "negative"), [(LONG, "blurry"), ("a cat", f"{LONG}, (dog)0.5"), (LONG, None)])
def test_prompt_and_negative_are_of_one_length_and_can_be_called(name, prompt, negative) -> None:
    pipe = pipeline(name)
    weighed = weigh(pipe, prompt, negative)
    assert weighed["prompt_embeds"].shape == weighed["negative_prompt_embeds"].shape
    assert weighed["prompt_embeds"].shape[1] > LENGTH
    task = {"sd15": "text2image", "sdxl-refiner": "image2image"}.get(name, "inpaint")
    call = {key: value for key, value in arguments(pipe, task).items() if key != "prompt"}
    assert pipe(**call, **weighed).images[0].size


# SDXL and its refiner


@pytest.mark.parametrize("name", ["sdxl-inpaint", "sdxl-refiner"])
def test_weights_reach_both_encoders_and_the_pooled_embedding_knows_the_plain_words(name) -> None:
    pipe = pipeline(name)
    one, other = weigh(pipe, "a red cat"), weigh(pipe, "a (red)1.4 cat")
    moved = (one["prompt_embeds"] - other["prompt_embeds"]).abs().amax((0, 1))
    assert all(half.max() > 1e-4 for half in moved.split(WIDTH))
    assert torch.equal(one["pooled_prompt_embeds"], other["pooled_prompt_embeds"])


def test_sdxl_blends_and_joins_in_the_pooled_embedding_too(sdxl) -> None:
    cat, dog = (plain(sdxl, text)["pooled_prompt_embeds"] for text in ("a cat", "a dog"))
    blend = weigh(sdxl, '("a cat", "a dog").blend(0.6, 0.2)')
    assert torch.allclose(blend["pooled_prompt_embeds"], 0.75 * cat + 0.25 * dog, atol=1e-6)
    joined = weigh(sdxl, '("a cat", "a dog").and(1, 0.5)')  # Compel itself stumbles over this one
    assert torch.allclose(joined["pooled_prompt_embeds"], (cat + 0.5 * dog) / 1.5, atol=1e-6)
    assert joined["prompt_embeds"].shape == (1, 2 * LENGTH, 2 * WIDTH)
    assert joined["negative_prompt_embeds"].shape == (1, 2 * LENGTH, 2 * WIDTH)


def test_a_learnt_word_is_all_of_its_tokens(sd) -> None:
    sd.tokenizer.add_tokens(["<toy>", "<toy>_1"])
    sd.text_encoder.resize_token_embeddings(len(sd.tokenizer))
    ids = sd.tokenizer(sd.maybe_convert_prompt("a <toy> cat", sd.tokenizer)).input_ids
    assert len(ids) == len(sd.tokenizer("a <toy> cat").input_ids) + 1
    assert torch.allclose(
        weigh(sd, "a <toy> cat")["prompt_embeds"], plain(sd, "a <toy> cat")["prompt_embeds"], atol=1e-6
    )


# Refusals


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a (red castle", "'(' at position 3 (a »(«red castle) opens a bracket that is never closed"),
        ("(a cat:1.3)", 'as other programs do; here it follows them: "(words)1.3"'),
        ("(a castle, a cat).blend(0.7, 0.3)", "Put each prompt in quotation marks"),
        ('("a", "b").and(), at night', "ends .and(), and more text follows"),
        ("(" * 3000 + "a" + ")" * 3000, "is nested too deeply: 12 levels are the most"),
    ],
)
def test_a_slip_is_named_before_any_model_runs(sd, prompt, said) -> None:
    sd.text_encoder.register_forward_pre_hook(lambda *_: pytest.fail("a model ran"))
    with pytest.raises(ValueError) as caught:
        weigh(sd, prompt)
    assert said in str(caught.value) and str(caught.value).startswith("prompt")
    with pytest.raises(ValueError, match="^negative_prompt"):
        weigh(sd, "a cat", prompt)


@pytest.mark.parametrize(("given", "said"), [(3, "got int 3"), (["a", None], "got NoneType"), (None, "got NoneType")])
def test_what_is_no_text_is_refused(sd, given, said) -> None:
    with pytest.raises(TypeError, match=f"prompt: expected a string or a list of strings, {said}"):
        weigh(sd, given)


def test_lists_that_do_not_fit_are_refused(sd) -> None:
    with pytest.raises(ValueError, match="negative_prompt has 3 prompts and prompt 2"):
        weigh(sd, ["a", "b"], ["c", "d", "e"])
    with pytest.raises(ValueError, match="prompt is an empty list"):
        weigh(sd, [])


def test_pipelines_that_take_no_such_embeddings_are_refused() -> None:
    with pytest.raises(ValueError, match="pipe is a KandinskyV22.*its text goes through a prior"):
        weigh(pipeline("kandinsky22"), "a (red)1.3 cat")
    for pipe in (pipeline("upscale-x2"), object(), None):
        with pytest.raises(ValueError, match=f"pipe is a {type(pipe).__name__}: expected a Stable Diffusion"):
            weigh(pipe, "a cat")


# Where the models are


def test_half_precision_stays_half(sd) -> None:
    text = f"a (cat)1.5 at (night)0.5, {LONG}"
    full = weigh(sd, text)["prompt_embeds"]
    sd.text_encoder.to(torch.bfloat16)
    half = weigh(sd, text)["prompt_embeds"]
    assert half.dtype == torch.bfloat16 and half.shape == full.shape
    assert torch.allclose(half.float(), full, atol=0.1)


def test_a_text_encoder_that_is_offloaded_is_asked_where_it_runs(sd) -> None:
    from accelerate import cpu_offload

    text = "a (cat)1.5 at (night)0.5"
    before = weigh(sd, text, "blurry")
    for model in models(sd).values():  # what enable_sequential_cpu_offload does on a machine with a card
        cpu_offload(model, execution_device=torch.device("cpu"))
    assert all(tensor.is_meta for tensor in sd.text_encoder.parameters())
    assert equal(weigh(sd, text, "blurry"), before)
