"""CLIP's recipe: two small towers that are asked the right questions; two steps, not a training."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from miniature_training.models import store
from miniature_training.recipes import clip, text
from miniature_training.world.captions import DEGRADED_WORDS
from miniature_training.world.scenes import draw, sample


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return store.load_component("tokenizer", CLIPTokenizer)


@pytest.fixture(scope="module")
def towers(tokenizer):
    torch.manual_seed(0)
    return [tower.eval() for tower in clip.build(tokenizer)]


def test_the_end_of_a_prompt_decides_its_embedding_and_padding_does_not(towers, tokenizer):
    ids = text.tokens(tokenizer, ["a red cat", "a blue boat on the sea shore"])
    longest = (ids == tokenizer.eos_token_id).int().argmax(1).max() + 1
    with torch.no_grad():
        whole, short = towers[0](ids).text_embeds, towers[0](ids[:, :longest]).text_embeds
    assert longest < 20
    assert torch.allclose(whole, short, atol=1e-5)
    assert not torch.allclose(whole[0], whole[1], atol=1e-2)


@pytest.mark.parametrize("size", [64, 128])
def test_images_are_prepared_as_the_image_processor_does(size):
    image = draw(sample(3), size).image
    wanted = clip.image_processor()(image, return_tensors="pt").pixel_values
    ours = clip.pixels(np.array(image)[None])
    assert ours.shape == wanted.shape == (1, 3, clip.SIDE, clip.SIDE)
    assert (ours - wanted).abs().max() < 2.5 / 127.5, "one or two of 255 levels, from rounding"


def test_a_bad_image_s_wording_may_name_its_flaws_alone():
    scene = replace(sample(1, subject="cat"), degraded="blurred")
    told = [clip.wording(scene, random.Random(i)) for i in range(60)]
    flaws = [line for line, named in told if not named["subject"]]
    assert 5 < len(flaws) < 35
    assert all(set(line.split(", ")) <= set(DEGRADED_WORDS["blurred"]) for line in flaws)
    assert all(named["degraded"] == text.HEADS["degraded"].index("blurred") for _, named in told)


def test_a_caption_is_wrong_where_it_contradicts_and_not_where_it_is_silent():
    scene = sample(5, degraded=None, subject="castle", colour="red", place="snow", hour="night")
    named = dict.fromkeys(text.HEADS, 0)

    def says(**values):
        return clip.wrong(scene, named | {head: text.HEADS[head].index(value) for head, value in values.items()})

    assert not says()
    assert not says(subject="castle", colour="red", place="snow", hour="night")
    assert says(subject="boat")
    assert says(subject="castle", colour="blue")
    assert says(place="desert")
    assert says(hour="day")
    empty = sample(5, subject=None, place="road")
    assert clip.wrong(empty, named | {"subject": 1}) and not clip.wrong(empty, named)


def test_a_choice_is_among_16_and_the_others_are_ruled_out():
    options = clip.choices(60, lambda i, j: (i + j) % 2 == 1)
    assert all(mine[0] == i and len(mine) == len(set(mine)) == clip.CHOICES for i, mine in enumerate(options))
    assert all((i + j) % 2 for i, mine in enumerate(options) for j in mine[1:])


@pytest.mark.parametrize(("sign", "share"), [(1.0, 1.0), (-1.0, 0.0)])
def test_the_figure_counts_images_that_agree_most_with_their_own_caption(monkeypatch, sign, share):
    count = 40

    class Said:
        text_embeds = torch.eye(count)

    monkeypatch.setattr(clip, "load", lambda: (lambda ids: Said, None))
    monkeypatch.setattr(clip, "embed", lambda images, tower: sign * torch.eye(count))
    assert clip.figures(count) == {"right_caption": share}
