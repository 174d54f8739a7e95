"""A slider for each word of a prompt, in the notebook: how much it counts, and what that does to the image."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import traitlets

from helpers.generation import calls
from helpers.pipelines.prompt_syntax import escape, parse_prompt
from helpers.pipelines.prompt_weighting import weigh
from helpers.widgets.assets import css, esm
from helpers.widgets.rendering import RenderSession, RenderWidget

MOST = 2.0  # the sliders' upper end; 1 is in the middle
_PARTS = re.compile(r"[^\s,.;:!?]+(?:[.:][^\s,.;:!?]+)*|[,.;:!?]+")

_SPACED_SIGN = re.compile(r"(?<![,.;:!?]) (?=[,.;:!?])")


class TokenWeights(RenderWidget):
    """Shows the words of a prompt, each with a slider from 0 to 2; the image follows while one is dragged.

    pipe: a pipeline that `weigh` takes, such as load("sd15-inpaint").
    prompt: plain words, or with weights, "a (red)1.3 castle", which the sliders then start from; no blends.
    call: the arguments of the call under diffusers' names, `image` and `mask_image` among them; seed (0).

    weights: a number for each of `words`; set in Python, sliders and image follow. plain: True shows the image
    without weights, the sliders staying where they are. weighted: the prompt as `weigh` reads it. record, image: the
    image on the screen. ValueError or TypeError for what cannot be weighed or called, before any model runs.
    """

    _esm = esm("token_weights")
    _css = css("token_weights")

    _parts = traitlets.List(help="the prompt's words and signs, each with the number of its slider or None").tag(
        sync=True
    )
    weights = traitlets.List(traitlets.Float()).tag(sync=True)
    plain = traitlets.Bool(False).tag(sync=True)
    _weighted = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        pipe: Any,
        prompt: str,
        negative_prompt: str | None = None,
        *,
        layout: Any = None,
        **call: Any,
    ) -> None:
        if taken := sorted({"prompt_embeds", "negative_prompt_embeds"} & call.keys()):
            raise TypeError(f"{taken[0]}: the sliders make it; leave it out.")
        parts, weights = _read(prompt)
        self.words = [text for text, number in parts if number is not None]
        self._negative = negative_prompt
        self._call = calls.check(pipe, {"seed": 0} | call)
        calls.check_together(pipe, self._call)
        weigh(pipe, _written(parts, weights), negative_prompt)  # raises where this cannot be weighed
        super().__init__(
            RenderSession(pipe, on_change=self._follow),
            layout,
            _parts=[list(part) for part in parts],
            weights=weights,
            _weighted=_written(parts, weights),
        )
        self.observe(lambda change: self._go(), ["weights", "plain"])
        self._go()

    @property
    def weighted(self) -> str:
        """The prompt with its weights: `pipe(**weigh(pipe, widget.weighted), ...)` makes the same image."""
        return self._weighted

    def __repr__(self) -> str:
        return f"TokenWeights({type(self._session.pipe).__name__}, {self._weighted!r})"

    def _caption(self) -> str:
        return self._weighted

    @traitlets.validate("weights")
    def _check_weights(self, proposal: traitlets.Bunch) -> list[float]:
        values = [round(float(value), 2) for value in proposal.value]
        if len(values) != len(self.words):
            raise ValueError(f"weights has {len(values)} numbers for {len(self.words)} words: {', '.join(self.words)}.")
        for word, value in zip(self.words, values, strict=True):
            _check_weight(word, value)
        return values

    def _receive(self, _: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        """A slider moved, or was let go: perhaps where it was, when only drafts were made since."""
        try:
            weights = self._check_weights(traitlets.Bunch(value=content["weights"]))
            if content["moving"] or weights == self.weights:
                self._go(weights, interactive=content["moving"])
            else:
                self.weights = weights
        except Exception as error:  # whatever it is, it belongs on the screen, not in a log
            self._session.refuse(error, phase="failed")

    def _go(self, weights: list[float] | None = None, *, interactive: bool = False) -> None:
        """Make the image of these weights, else of the present ones."""
        weights = list(self.weights if weights is None else weights)
        self._weighted = _written(self._parts, weights)
        shown = _written(self._parts, [1.0] * len(weights)) if self.plain and not interactive else self._weighted
        prepare = partial(weigh, prompt=shown, negative_prompt=self._negative)
        self._session.render(self._call, interactive=interactive, prepare=prepare)


def _read(prompt: Any) -> tuple[list[tuple[str, int | None]], list[float]]:
    """The prompt's words and signs, each word with its number, and a weight for each word."""
    read = parse_prompt(prompt)
    if len(read.prompts) != 1 or hasattr(read.prompts[0], "prompts"):
        raise ValueError(f"prompt={prompt!r}: .blend() and .and() have no single words to weigh; give one prompt.")
    parts, weights = [], []
    for fragment in read.prompts[0].children:
        for text in _PARTS.findall(fragment.text):
            word = any(letter.isalnum() for letter in text)
            parts.append((text, len(weights) if word else None))
            if word:
                weights.append(_check_weight(text, round(fragment.weight, 2)))
    if not weights:
        raise ValueError(f"prompt={prompt!r} has no words to weigh.")
    return parts, weights


def _check_weight(word: str, weight: float) -> float:
    if not 0 <= weight <= MOST:  # catches NaN too
        raise ValueError(f"the weight of {word!r} is {weight:g}: the sliders go from 0 to {MOST:g}.")
    return weight


def _written(parts: Any, weights: list[float]) -> str:
    """The prompt in Compel's notation, neighbours of one weight in one pair of brackets."""
    runs: list[tuple[float, list[str]]] = []
    for text, number in parts:
        weight = 1.0 if number is None else weights[number]
        if not runs or runs[-1][0] != weight:
            runs.append((weight, []))
        runs[-1][1].append(text)
    texts = [(weight, escape(re.sub(_SPACED_SIGN, "", " ".join(words)))) for weight, words in runs]
    found = " ".join(text if weight == 1 else f"({text}){weight:g}" for weight, text in texts)
    return re.sub(_SPACED_SIGN, "", found)
