"""A slider for each word of a prompt, in the notebook: how much it counts, and what that does to the picture."""

from __future__ import annotations

import base64
import io
import re
import threading
from collections import OrderedDict
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from PIL import Image

from helpers.common.lock import turn
from helpers.common.validation import check_strength
from helpers.generation import calls, drafts
from helpers.generation.records import Record
from helpers.images.contact_sheet import show
from helpers.pipelines import inspection, prompt_syntax
from helpers.pipelines.prompt_weighting import weigh

MOST = 2.0  # the sliders' upper end; 1 is in the middle
STILL_WAIT = 8.0  # seconds that showing the widget waits for its first picture, which stays in the notebook as a still
REMEMBERED = 64  # prompts whose embeddings are kept
_PARTS = re.compile(r"[^\s,.;:!?]+(?:[.:][^\s,.;:!?]+)*|[,.;:!?]+")


class TokenWeights(anywidget.AnyWidget):
    """Shows the words of a prompt, each with a slider from 0 to 2; the picture follows while one is dragged.

    pipe: a pipeline that `weigh` takes, such as load("sd15-inpaint").
    prompt: plain words, or with weights, "a (red)1.3 castle", which the sliders then start from; no blends.
    call: the arguments of the call under diffusers' names, `image` and `mask_image` among them; seed (0).

    weights: a number for each of `words`; set in Python, sliders and picture follow. plain: True shows the picture
    without weights, the sliders staying where they are. weighted: the prompt as `weigh` reads it. record, image: the
    picture on the screen. ValueError or TypeError for what cannot be weighed or called, before any model runs.
    """

    _esm = Path(__file__).with_suffix(".js")
    _css = Path(__file__).with_suffix(".css")

    _parts = traitlets.List(help="the prompt's words and signs, each with the number of its slider or None").tag(
        sync=True
    )
    weights = traitlets.List(traitlets.Float()).tag(sync=True)
    plain = traitlets.Bool(False).tag(sync=True)
    _weighted = traitlets.Unicode().tag(sync=True)
    _state = traitlets.Dict().tag(sync=True)
    _picture = traitlets.Bytes(help="what is shown, a PNG").tag(sync=True)

    def __init__(
        self,
        pipe: Any,
        prompt: str,
        negative_prompt: str | None = None,
        *,
        draft_steps: int = drafts.STEPS,
        layout: Any = None,
        **call: Any,
    ) -> None:
        self._runs: drafts.Runs | None = None
        if taken := sorted({"prompt_embeds", "negative_prompt_embeds"} & call.keys()):
            raise TypeError(f"{taken[0]}: the sliders make it; leave it out.")
        parts, weights = _read(prompt)
        self.words = [text for text, number in parts if number is not None]
        self._pipe, self._negative = pipe, negative_prompt
        self._made: OrderedDict[str, dict[str, Any]] = OrderedDict()  # prompt: its embeddings
        self._fixed = calls.check(pipe, {"seed": 0} | call)
        if "strength" in self._fixed and "num_inference_steps" in self._fixed:
            check_strength(self._fixed["strength"], self._fixed["num_inference_steps"])
        self._record: Record | None = None
        self._lock = threading.RLock()
        self._embed(_written(parts, weights))  # raises where this cannot be weighed
        self._runs = drafts.Runs(pipe, on_step=self._stepped, on_end=self._ended, lock=self._lock, steps=draft_steps)
        super().__init__(
            _parts=[list(part) for part in parts],
            weights=weights,
            _weighted=_written(parts, weights),
            _state={"phase": "running", "draft": False, "text": ""},
            **({} if layout is None else {"layout": layout}),
        )
        self.on_msg(self._receive)
        self.observe(lambda change: self._go(), ["weights", "plain"])
        self._go()

    @property
    def weighted(self) -> str:
        """The prompt with its weights: `pipe(**weigh(pipe, widget.weighted), ...)` makes the same picture."""
        return self._weighted

    @property
    def record(self) -> Record | None:
        """The picture on the screen with all that made it; None before the first."""
        return self._record

    @property
    def image(self) -> Image.Image | None:
        """The picture on the screen."""
        return None if self._record is None else self._record.image.copy()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is running; False when `timeout` seconds were not enough."""
        return self._runs.wait(timeout)

    def close(self) -> None:
        """Stop what runs, and close the widget."""
        if self._runs is not None:  # None where the constructor refused its arguments
            self._runs.drop()
        super().close()

    def __repr__(self) -> str:
        return f"TokenWeights({type(self._pipe).__name__}, {self._weighted!r})"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        """Adds a still of the picture and its prompt, all that GitHub or a notebook without a kernel can show."""
        if self._record is None:
            self.wait(STILL_WAIT)
        data, metadata = super()._repr_mimebundle_(**kwargs)
        if (record := self._record) is not None:
            data["image/png"] = base64.b64encode(_png(show(record.image, titles=self._weighted))).decode()
        return data, metadata

    @traitlets.validate("weights")
    def _check_weights(self, proposal: traitlets.Bunch) -> list[float]:
        values = [round(float(value), 2) for value in proposal.value]
        if len(values) != len(self.words):
            raise ValueError(f"weights has {len(values)} numbers for {len(self.words)} words: {', '.join(self.words)}.")
        for word, value in zip(self.words, values, strict=True):
            _check_weight(word, value)
        return values

    # ---- What the browser asks for

    def _receive(self, _: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        """A slider moved. The answer lets the browser send the next value, so that none pile up."""
        try:
            if content["kind"] == "change":
                if content["moving"]:
                    self._go(self._check_weights(traitlets.Bunch(value=content["weights"])), moving=True)
                else:
                    before = self.weights
                    self.weights = content["weights"]
                    if self.weights == before:  # back where it was, and only drafts were made since
                        self._go()
        except Exception as error:  # whatever it is, it belongs on the screen, not in a log
            self._tell(phase="failed", text=str(error))
        finally:
            self.send({"kind": "heard"})

    def _go(self, weights: list[float] | None = None, *, moving: bool = False) -> None:
        """Make the picture of these weights, else of the present ones."""
        weights = self.weights if weights is None else weights
        self._weighted = _written(self._parts, weights)
        shown = _written(self._parts, [1.0] * len(weights)) if self.plain and not moving else self._weighted
        try:
            # Not under the lock: this may wait for its turn, and whose turn it is takes the lock at each step.
            call = self._embed(shown) | self._fixed
            with self._lock:
                self._runs.start(call, moving=moving)
                self._tell(phase="running", text="")
        except (TypeError, ValueError, RuntimeError) as error:
            with self._lock:
                self._runs.drop()
                self._tell(phase="failed", text=str(error))

    def _embed(self, prompt: str) -> dict[str, Any]:
        if prompt not in self._made:
            # Where models move between devices, two threads must not ask one at once.
            moves = hasattr(self._pipe, "components") and any(
                getattr(model, "_hf_hook", None) for model in inspection.models(self._pipe).values()
            )
            with turn() if moves else nullcontext():
                self._made[prompt] = weigh(self._pipe, prompt, self._negative)
            while len(self._made) > REMEMBERED:
                self._made.popitem(last=False)
        return self._made[prompt]

    # ---- What the browser is told: from the worker thread

    def _stepped(self, run: drafts.Run, latents: Any) -> None:
        """Pictures come fast enough; single steps are not shown."""

    def _ended(self, run: drafts.Run) -> None:
        job, phase = run.job, "running" if self._runs.now else "done"
        if job.state == "done":
            self._record = job.record
            with self.hold_sync():
                self._picture = _png(job.record.image)
                self._tell(phase=phase, draft=run.draft, text="")
        elif job.error is not None:
            self._tell(phase="failed", text=f"{type(job.error).__name__}: {job.error}")
        else:
            self._tell(phase=phase)

    def _tell(self, **changes: Any) -> None:
        self._state = self._state | changes


def _read(prompt: Any) -> tuple[list[tuple[str, int | None]], list[float]]:
    """The prompt's words and signs, each word with its number, and a weight for each word."""
    if not isinstance(prompt, str):
        raise TypeError(f"prompt: expected a text, got {type(prompt).__name__} {prompt!r:.60}.")
    read = prompt_syntax.parse_prompt(prompt)
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
        runs[-1][1].append(re.sub(r'[()"]|[+\-](?=[+\-]*$)', r"\\\g<0>", text))
    texts = [(weight, re.sub(r" (?=[,.;:!?])", "", " ".join(words))) for weight, words in runs]
    found = " ".join(text if weight == 1 else f"({text}){weight:g}" for weight, text in texts)
    return re.sub(r" (?=[,;:!?])", "", found)


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=3)
    return file.getvalue()
