"""The checks of chapter 07: right answers pass, and each wrong one gets the hint that helps."""

from __future__ import annotations

import pytest
import torch

from helpers import check
from helpers.exercises import chapter_07
from tests.support.answers import hint


def test_the_fewest_signs_are_right_and_the_rest_is_told_apart():
    assert check("07.1", 4)
    assert check("07.1", "++++")
    assert "3 of them make 1.1 ** 3 = 1.33, less than 1.4" in hint("07.1", 3)
    assert "5 of them make 1.61: enough, but fewer are enough as well" in hint("07.1", 5)
    assert "are no weight at all" in hint("07.1", 0)
    assert "Expected a number of signs" in hint("07.1", 1.4)
    assert "Expected a number of signs" in hint("07.1", "four")


@pytest.mark.parametrize(
    "answer",
    [
        r"a castle \(ruined\) at (night)1.3",
        r"A castle \(ruined\)  at (night)1.30",
        r'a castle \(ruined\) at "night"1.3',
    ],
)
def test_brackets_of_the_text_are_accepted(answer):
    assert check("07.2", answer)


def test_other_prompts_are_told_apart():
    assert "The brackets are gone: it says 'a castle ruined at night'" in hint(
        "07.2", "a castle (ruined) at (night)1.3"
    )
    assert "Nothing in it has a weight" in hint("07.2", r"a castle \(ruined\) at night")
    assert "Its weights are {'night': 1.21}" in hint("07.2", r"a castle \(ruined\) at night++")
    assert "expected {'night': 1.3} alone" in hint("07.2", r"a castle \(ruined\) (at night)1.3")
    assert "It says 'a house at night'" in hint("07.2", "a house at (night)1.3")
    assert "')' at position 18 " in hint("07.2", r"a castle \(ruined) at (night)1.3")
    assert "Expected a prompt, a text in quotes, got 3" in hint("07.2", 3)
    assert "without .blend() and .and()" in hint("07.2", '("a castle", "night").blend(1, 1)')


def more(embeds, empty, place, weight):
    found = embeds.clone()
    found[:, place] = empty[:, place] + weight * (embeds[:, place] - empty[:, place])
    return found


def test_the_formula_is_right_and_the_rest_is_told_apart():
    assert check("07.3", more)
    assert check("07.3", lambda e, o, p, w: torch.where(torch.arange(e.shape[1])[:, None] == p, o + w * (e - o), e))

    def from_zero(embeds, empty, place, weight):
        found = embeds.clone()
        found[:, place] *= weight
        return found

    def in_place(embeds, empty, place, weight):
        embeds[:, place] = more(embeds, empty, place, weight)[:, place]
        return embeds

    assert "stretches the row from zero" in hint("07.3", from_zero)
    assert "It changed the embeddings that it was given" in hint("07.3", in_place)
    assert "77 rows changed, expected row 4 alone" in hint("07.3", lambda e, o, p, w: o + w * (e - o))
    assert "is not 1.5 times as far" in hint("07.3", lambda e, o, p, w: e)
    assert "expected shape" not in hint("07.3", lambda e, o, p, w: e[0])
    assert "a tensor of shape (1, 77, 8), got (77, 8)" in hint("07.3", lambda e, o, p, w: e[0])
    assert "It should return a tensor, got None" in hint("07.3", lambda e, o, p, w: None)
    assert "It raised TypeError" in hint("07.3", lambda e: e)
    assert "Expected a function" in hint("07.3", 1.5)


@pytest.fixture
def painted(monkeypatch):
    """Night or day by the prompt's own weight, without painting."""
    asked = []

    def night(prompt, seed):
        asked.append((prompt, seed))
        return 0.9 if "1.5" in prompt or seed == 0 else 0.1

    monkeypatch.setattr(chapter_07, "_night", night)
    return asked


def test_a_prompt_that_makes_night_is_right_and_the_rest_is_told_apart(painted):
    answer = "a castle at (night)1.5 on a (sunny day)0.5"
    assert check("07.4", answer)
    assert painted == [(answer, seed) for seed in (0, 1, 2)]
    painted.clear()
    weak = "a castle at (night)1.1 on a sunny day"
    assert "With seed 1 the classifier gives night only 0.10, expected at least 0.5" in hint("07.4", weak)
    assert "It has no weights" in hint("07.4", chapter_07.WISH)
    assert "A weight of 3 is above 1.6" in hint("07.4", "a castle at (night)3 on a sunny day")
    assert "only weights may be added" in hint("07.4", "a castle at (night)1.5")
    assert "Expected a prompt" in hint("07.4", ["a castle"])
    assert painted == [(weak, seed) for seed in (0, 1)]


def test_the_full_edition_paints_nothing(monkeypatch, painted):
    monkeypatch.setattr(chapter_07, "edition", lambda: "full")
    assert check("07.4", "a castle at (night)1.1 on a sunny day") and painted == []


def embeddings(**texts):
    from helpers import load, weigh

    long = ", ".join(["a red castle at night"] * 20)
    return weigh(load("sd15"), **{"prompt": long, "negative_prompt": "blurry"} | texts)


def test_a_long_prompt_read_to_its_end_is_right_and_the_rest_is_told_apart():
    assert check("07.5", embeddings())
    assert check("07.5", embeddings(prompt="a cat", negative_prompt=", ".join(["blurry"] * 90)))
    assert "prompt_embeds has 77 rows" in hint("07.5", embeddings(prompt="a cat"))
    assert "negative_prompt_embeds says nothing" in hint("07.5", embeddings(negative_prompt=None))
    assert "prompt_embeds says nothing" in hint(
        "07.5",
        embeddings(prompt="")
        | {
            "prompt_embeds": torch.cat([embeddings(prompt="")["prompt_embeds"]] * 2, 1),
            "negative_prompt_embeds": torch.zeros(1, 154, 128),
        },
    )
    uneven = embeddings() | {"negative_prompt_embeds": embeddings(prompt="a cat")["negative_prompt_embeds"]}
    assert "guidance needs one shape" in hint("07.5", uneven)
    assert "This is the text" in hint("07.5", "a red castle")
    assert "Expected the dict that weigh returns" in hint("07.5", {"prompt": "a"})
    narrow = {name: torch.randn(1, 154, 16) for name in ("prompt_embeds", "negative_prompt_embeds")}
    assert "has a width of 16, and sd15 reads 128" in hint("07.5", narrow)
