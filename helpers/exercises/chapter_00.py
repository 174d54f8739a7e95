"""The exercise of chapter 00: one question, to see how exercises work."""

from __future__ import annotations

from typing import Any

from helpers.exercises import describe, exercise


@exercise("00.1", right="White is repainted and black is kept, in every chapter and with every model of this course.")
def colour_that_is_repainted(answer: Any) -> str | None:
    if not isinstance(answer, str):
        return f'Expected a colour in quotes, such as "red", got {describe(answer)}.'
    colour = answer.strip().strip(".").lower()
    if colour == "white":
        return None
    if colour == "black":
        return "Black is the other one. Compare the mask with the result once more: what did the cat replace?"
    return f"A mask has two colours, black and white, got {describe(answer)}."
