"""Twins: pipelines that share models and nothing else, so that two threads can call them at the same time."""

from __future__ import annotations

import copy
from typing import Any


def twin(pipe: Any, *, quiet: bool = True, **schedulers: Any) -> Any:
    """Return a pipeline of the same class on the same models, with schedulers and tokenizers of its own.

    A call writes to the scheduler, the tokenizers and the pipeline itself: one pipeline serves one thread at a time.
    A twin called in another thread gives the pixels that it gives alone, and nothing that is set on it (a scheduler,
    the progress bar) reaches `pipe`. Kandinsky's combined pipelines hold two pipelines: those are twins as well.

    quiet: without progress bars; False keeps the settings of `pipe`. schedulers: by component name, used in place of a
        copy of the present one.

    What is done to the models themselves (LoRA, attention slicing, offload) is done for both.
    """
    made = _twin(pipe, {id(getattr(pipe, name)): new for name, new in schedulers.items()})
    if quiet:
        made.set_progress_bar_config(disable=True)
    return made


def _twin(pipe: Any, copies: dict[int, Any]) -> Any:
    """The twin of one pipeline; `copies` has what was copied already, by id, for a part may stand in several places."""
    from diffusers import DiffusionPipeline, SchedulerMixin
    from transformers import PreTrainedTokenizerBase

    made = copy.copy(pipe)
    for name, part in vars(pipe).items():
        if id(part) not in copies:
            if isinstance(part, SchedulerMixin):  # a new one: a copy would stand where a running call has taken it
                copies[id(part)] = type(part).from_config(part.config)
            elif isinstance(part, PreTrainedTokenizerBase):
                copies[id(part)] = copy.deepcopy(part)
            elif isinstance(part, DiffusionPipeline):
                copies[id(part)] = _twin(part, copies)
            else:
                continue
        setattr(made, name, copies[id(part)])
    return made
