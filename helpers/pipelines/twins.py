"""Twins: pipelines that share models and nothing else, so that two threads can call them at the same time."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, TypeVar

from helpers.common import lock
from helpers.common.tensors import ordinary_tensors
from helpers.pipelines.inspection import autoencoder, offload_mode
from helpers.pipelines.prompt_reading import copied, hush

T = TypeVar("T")


def twin(pipe: Any, *, quiet: bool = True) -> Any:
    """Return a pipeline of the same class on the same models, with schedulers and tokenizers of its own.

    A call writes to the pipeline's scheduler, its tokenizers and itself, so a pipeline serves one thread at a time. A
    twin called in another thread gives the pixels that it gives alone, and nothing that is set on it reaches `pipe`.
    (Kandinsky's combined pipelines hold two pipelines: those are twins as well.) The models are not copied: LoRA,
    attention slicing or offload switched on for one is switched on for both.

    quiet: no progress bar, and no warnings of characters that a miniature cannot read; False keeps them as in `pipe`.
    """
    made = _twin(pipe, {})
    if quiet:
        made.set_progress_bar_config(disable=True)
        for part in made.components.values():
            hush(part)
    return made


def original(pipe: Any) -> Any:
    """The pipeline that this is a twin of, or else the pipeline itself."""
    while "_original" in vars(pipe):
        pipe = pipe._original
    return pipe


def set_components(pipe: Any, components: dict[str, Any]) -> None:
    """Assign components by name, such as schedulers, also in the pipelines that a combined pipeline holds."""
    inner = [getattr(pipe, name) for name in ("prior_pipe", "decoder_pipe") if hasattr(pipe, name)]
    for name, new in components.items():
        old = getattr(pipe, name)
        for holder in (pipe, *inner):
            for place in [place for place, part in vars(holder).items() if part is old]:
                setattr(holder, place, new)


def exclusively(pipe: Any, action: Callable[[], T]) -> T:
    """Return `action()`, which calls the pipeline; while others wait, if the call moves the models that twins share.

    It does with offload, and where SDXL's VAE is cast from half precision to float32 and back.
    """
    vae = autoencoder(pipe)
    casts = vae is not None and vae.dtype.itemsize < 4 and vae.config.get("force_upcast", False)
    return lock.alone(action) if casts or offload_mode(pipe) != "none" else action()


@functools.cache
def serialized(kind: type) -> type:
    """A subclass of a pipeline class, of the same name, whose plain calls run `exclusively` as well.

    load() builds pipelines of it on a GPU, so that a cell and a widget do not move one model in opposite directions.
    """

    @functools.wraps(kind.__call__)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        return exclusively(self, lambda: kind.__call__(self, *args, **kwargs))

    body = {"__call__": __call__, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), body)


def _twin(pipe: Any, copies: dict[int, Any]) -> Any:
    """The twin of one pipeline; `copies`: what is copied already, by id, since one part may have several names."""
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline
    from diffusers.schedulers.scheduling_utils import SchedulerMixin
    from transformers import PreTrainedTokenizerBase

    made = copy.copy(pipe)
    made._original = pipe  # keeps the original alive, whose end would release the models
    for name, part in vars(pipe).items():
        if name == "_original":
            continue
        if id(part) not in copies:
            if isinstance(part, SchedulerMixin):  # a new one, not a copy: a call may be using it
                copies[id(part)] = _renewed(part)
            elif isinstance(part, PreTrainedTokenizerBase):
                copies[id(part)] = copied(part)
            elif isinstance(part, DiffusionPipeline):
                copies[id(part)] = _twin(part, copies)
            else:
                continue
        setattr(made, name, copies[id(part)])
    return made


@ordinary_tensors
def _renewed(scheduler: Any) -> Any:
    return type(scheduler).from_config(scheduler.config)
