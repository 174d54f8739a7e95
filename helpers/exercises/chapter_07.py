"""The exercises of chapter 07: signs, brackets as text, a weight by hand, night against day, a long prompt."""

from __future__ import annotations

import re
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np

from helpers.analysis.image_metrics import adherence
from helpers.catalog.editions import edition
from helpers.exercises import describe, exercise
from helpers.exercises.kit import Hint
from helpers.generation.records import make
from helpers.pipelines import prompt_syntax
from helpers.pipelines.loading import load
from helpers.pipelines.prompt_weighting import weigh

SIGNS, WANTED = 4, 1.4  # of exercise 07.1
SAID = [("a castle (ruined) at", 1.0), ("night", 1.3)]  # what the prompt of exercise 07.2 says
WISH, MOST, SEEDS = "a castle at night on a sunny day", 1.6, (0, 1, 2)  # of exercise 07.4
NIGHT = 0.5  # adherence at least
TOKENS = 77  # of which exercise 07.5 has more


@exercise("07.1", right="1.1 to the power of 4 is 1.46; three signs give 1.33. A number says it more plainly.")
def enough_signs(answer: Any) -> str | None:
    if isinstance(answer, str) and set(answer) == {"+"}:
        answer = len(answer)
    if isinstance(answer, bool) or not isinstance(answer, Real) or not float(answer).is_integer():
        return f"Expected a number of signs, such as 2, got {describe(answer)}."
    answer = float(answer)
    if answer < 1:
        return f"Each plus is a factor of 1.1; {answer:g} of them are no weight at all."
    weight = 1.1**answer
    if weight < WANTED:
        return f"{answer:g} of them make 1.1 ** {answer:g} = {weight:.2f}, less than {WANTED}."
    return None if answer == SIGNS else f"{answer:g} of them make {weight:.2f}: enough, but fewer are enough as well."


@exercise("07.2", right="With a backslash a bracket is part of the text; without one it belongs to the notation.")
def brackets_as_text(answer: Any) -> str | None:
    said = _said(answer)
    text, wanted = " ".join(part for part, _ in said), " ".join(part for part, _ in SAID)
    if text == wanted.replace("(", "").replace(")", ""):
        return f"The brackets are gone: it says {text!r}. Brackets in the text need a backslash before them."
    if _words(text) != _words(wanted):
        return f"It says {text!r}, expected {wanted!r}."
    weights = {part: weight for part, weight in said if weight != 1}
    if weights == {"night": 1.3}:
        return None
    if not weights:
        return "Nothing in it has a weight. A weight follows a pair of brackets, with no space between: (words)1.3."
    return f"Its weights are {weights}, expected {{'night': 1.3}} alone."


@exercise("07.3", right="That is all a weight above 1 does: it moves the word's own row away from the empty prompt's.")
def more_by_hand(answer: Any) -> str | None:
    if not isinstance(answer, Callable):
        return f"Expected a function of embeds, empty, place and weight, got {describe(answer)}."
    import torch

    generator = torch.Generator().manual_seed(7)
    embeds, empty = torch.randn((2, 1, TOKENS, 8), generator=generator)
    before = embeds.clone()
    try:
        found = answer(embeds, empty, 4, 1.5)
    except Exception as error:
        return f"It raised {type(error).__name__}: {error}"
    if not isinstance(found, torch.Tensor):
        return f"It should return a tensor, got {describe(found)}."
    if not torch.equal(embeds, before):
        return "It changed the embeddings that it was given: work on a copy, embeds.clone()."
    if found.shape != embeds.shape:
        return f"It should return a tensor of shape {tuple(embeds.shape)}, got {tuple(found.shape)}."
    moved = (found - embeds).abs().amax((0, 2)) > 1e-6
    if moved.sum() > 1:
        return f"{int(moved.sum())} rows changed, expected row {4} alone: found[:, place]."
    wanted = empty[:, 4] + 1.5 * (embeds[:, 4] - empty[:, 4])
    if torch.allclose(found[:, 4], wanted, atol=1e-5):
        return None
    if torch.allclose(found[:, 4], 1.5 * embeds[:, 4], atol=1e-5):
        return "That stretches the row from zero. The empty prompt's row is where nothing is said: stretch from there."
    return "Row 4 is not 1.5 times as far from the empty prompt's row as it was."


@exercise("07.4", right="It is night with every seed, with a little more of one and less of the other.")
def night_wins(answer: Any) -> str | None:
    said = _said(answer)
    if _words(" ".join(part for part, _ in said)) != _words(WISH):
        return f"Its words should be those of {WISH!r}: only weights may be added."
    if all(weight == 1 for _, weight in said):
        return "It has no weights: (night)1.3 makes night count more, (sunny day)0.7 the day less."
    if heavy := [weight for _, weight in said if weight > MOST]:
        return f"A weight of {max(heavy):g} is above {MOST}: where more of one is not enough, take less of the other."
    if edition() != "mini":
        return None
    for seed in SEEDS:
        if (seen := _night(answer, seed)) < NIGHT:
            return (
                f"With seed {seed} the classifier gives night only {seen:.2f}, expected at least {NIGHT}. Push "
                "harder, on both sides."
            )
    return None


@exercise("07.5", right="Both are as long as the longer one, so guidance can compare them row by row.")
def read_to_its_end(answer: Any) -> str | None:
    if isinstance(answer, str):
        return "This is the text. Hand in what weigh makes of it."
    names = ("prompt_embeds", "negative_prompt_embeds")
    if not isinstance(answer, dict) or any(not hasattr(answer.get(name), "shape") for name in names):
        return f"Expected the dict that weigh returns, with {' and '.join(names)}, got {describe(answer)}."
    positive, negative = (tuple(answer[name].shape) for name in names)
    if positive[1] <= TOKENS:
        return f"prompt_embeds has {positive[1]} rows: that prompt is not longer than {TOKENS} tokens, or was cut off."
    if positive != negative:
        return f"prompt_embeds is {positive} and negative_prompt_embeds {negative}: guidance needs one shape."
    pipe = load("sd15")
    for name in names:
        given, plain = answer[name], weigh(pipe, "")["prompt_embeds"]
        if given.shape[-1] != plain.shape[-1]:
            return f"{name} has a width of {given.shape[-1]}, and sd15 reads {plain.shape[-1]}: call weigh with sd15."
        if np.allclose(given[:, :TOKENS].cpu(), plain.cpu(), atol=1e-5):
            return f"{name} says nothing: it is the empty text's. A negative prompt was asked for as well."
    return None


def _said(answer: Any) -> list[tuple[str, float]]:
    """What one prompt says, as texts with their weights."""
    if not isinstance(answer, str):
        raise Hint(f"Expected a prompt, a text in quotes, got {describe(answer)}.")
    try:
        (flat,) = prompt_syntax.parse_prompt(answer, name="answer").prompts
    except ValueError as error:
        raise Hint(str(error)) from error
    if not hasattr(flat, "children"):
        raise Hint("Expected one prompt with weights, without .blend() and .and().")
    return [(fragment.text.strip(), round(fragment.weight, 4)) for fragment in flat.children]


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))


def _night(prompt: str, seed: int) -> float:
    """How surely the classifier sees night in what sd15 paints."""
    call = {"num_inference_steps": 8, "guidance_scale": 4.0, "scheduler": "UniPCMultistepScheduler"}
    pipe = load("sd15")
    return adherence(make(pipe, seed=seed, **weigh(pipe, prompt), **call).image, "night")
