"""One training loop for every miniature: seeded, time-boxed, resumable, with an exponential moving average.

Several processes may train one miniature together (`torchrun --nproc-per-node 2 -m miniature_training train NAME`):
each takes its own steps, and every few seconds they average their weights by the steps each has taken (local SGD,
https://arxiv.org/abs/1805.09767), so a process on a busy core slows nobody.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from tqdm import tqdm

from helpers.common import paths
from miniature_training.models.muon import Muon, suits
from miniature_training.models.store import scratch


def cosine(share: float) -> float:
    """The rate's share of its peak, after this share of a run: down to zero in one."""
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, share))


def constant(share: float) -> float:
    """The same rate over all runs, for a training that goes on from day to day: `average` is what to look at."""
    return 1.0


def decay(share: float) -> float:
    """The last run after constant ones: down to zero by the root (https://arxiv.org/abs/2405.18392)."""
    return 1.0 - min(1.0, share) ** 0.5


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def halved():
    """A context in which layers compute in bfloat16: a fifth faster on CPUs that have it, several times on a GPU."""
    return torch.autocast(device().type, torch.bfloat16)


def rank() -> int:
    """This process's number among those that train together; 0 leads, saves and reports."""
    return int(os.environ.get("RANK", 0))


def join() -> None:
    """Meet the other processes, if torchrun started this one; all but the leader are polite to other programs."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not dist.is_initialized():
        dist.init_process_group("gloo")
        if rank() and hasattr(os, "nice"):
            os.nice(17)


@contextmanager
def leader_first():
    """The leader runs the block first (and fills caches); the others wait for it."""
    if rank() and dist.is_initialized():
        dist.barrier()
    yield
    if not rank() and dist.is_initialized():
        dist.barrier()


@dataclass
class Training:
    """A set of modules trained together under one loss; `modules` are the raw ones, `average` holds their EMA."""

    name: str
    modules: dict[str, nn.Module]
    lr: float
    ema_decay: float = 0.999
    weight_decay: float = 0.01
    seed: int = 0
    step: int = 0
    seconds: float = 0.0
    begun: int = 0  # the step from which on the optimizers have been learning
    muon: bool = False
    betas: tuple[float, float] = (0.9, 0.99)
    average: dict[str, nn.Module] = field(default_factory=dict)
    optimizers: list[torch.optim.Optimizer] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)  # each group's highest learning rate, in this run

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        if device().type == "cuda":
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.benchmark = True
        for module in self.modules.values():
            module.to(device())
        self.average = {k: copy.deepcopy(m).eval().requires_grad_(False) for k, m in self.modules.items()}
        parts = [part for module in self.modules.values() for part in module.modules()]
        tables = {id(part.weight) for part in parts if isinstance(part, nn.Embedding)}
        hidden = [p for p in self.parameters() if self.muon and suits(p) and id(p) not in tables]
        chosen = {id(p) for p in hidden}
        rest = [p for p in self.parameters() if id(p) not in chosen]
        lr = min(self.lr, 1.5e-3) if self.muon else self.lr
        self.optimizers = [torch.optim.AdamW(rest, lr=lr, betas=self.betas, weight_decay=self.weight_decay)]
        if hidden:
            self.optimizers.append(Muon(hidden, lr=self.lr))
        self.peaks = [group["lr"] for group in self.groups()]

    def parameters(self) -> list[nn.Parameter]:
        return [p for m in self.modules.values() for p in m.parameters() if p.requires_grad]

    def groups(self) -> list[dict]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    @property
    def state_file(self) -> Path:
        return scratch() / self.name / "state.pt"

    def save(self) -> None:
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.state_file.with_suffix(".partial")
        if rank():
            return
        state = {
            "modules": {k: m.state_dict() for k, m in self.modules.items()},
            "average": {k: m.state_dict() for k, m in self.average.items()},
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, partial)
        partial.replace(self.state_file)

    def resume(self, *, optimizer: bool = True) -> bool:
        """Take up the last checkpoint of this name; False where there is none."""
        if not self.state_file.exists():
            return False
        state = torch.load(self.state_file, map_location=device(), weights_only=True)
        for kind, modules in (("modules", self.modules), ("average", self.average)):
            for key, module in modules.items():
                module.load_state_dict(state[kind][key])
        kept = state.get("optimizers", [])
        if optimizer and len(kept) == len(self.optimizers):  # else another optimizer took over: it starts afresh
            for ours, theirs in zip(self.optimizers, kept, strict=True):
                ours.load_state_dict(theirs)
        else:
            self.begun = state["step"]
        self.step, self.seconds = state["step"], state["seconds"]
        return True

    def _update_average(self) -> None:
        decay = min(self.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for key, module in self.modules.items():
                ours, theirs = list(self.average[key].parameters()), list(module.parameters())
                torch._foreach_lerp_(ours, theirs, 1 - decay)

    def _note(self) -> None:
        """Keep for the model card how long this took, and on what."""
        file = paths.MINIATURES / "training.json"
        notes = json.loads(file.read_text()) if file.exists() else {}
        where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
        notes[self.name] = f"{self.seconds / 60:.0f} minutes, {self.step:,} steps ({where})"
        if not rank():
            partial = file.with_name(f".{file.name}-{os.getpid()}")  # others may end and read at the same moment
            partial.write_text(json.dumps(notes, indent=2, sort_keys=True) + "\n")
            partial.replace(file)

    def _meet(self, steps: int, done: bool = False) -> bool:
        """Average the weights of all processes, each counting by its steps since they last met; is the leader done?"""
        parameters = self.parameters()
        with torch.no_grad():
            total = torch.tensor([float(steps), float(done and rank() == 0)])
            dist.all_reduce(total)
            flat = torch.cat([p.flatten() for p in parameters]).mul_(steps / max(1.0, total[0].item()))
            dist.all_reduce(flat)
            for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=False):
                p.copy_(part.view_as(p))
        return total[1].item() > 0

    def run(
        self,
        loss: Callable[[torch.Generator], torch.Tensor],
        *,
        minutes: float,
        steps: int | None = None,
        checkpoint_minutes: float = 3.0,
        meet_seconds: float = 12.0,
        warmup: int = 100,
        rate: Callable[[float], float] = cosine,
        on_checkpoint: Callable[[], None] | None = None,
    ) -> None:
        """Minimise `loss(generator)` for `minutes` (or `steps`); rate: the share done -> that of the peak rate.

        COURSE_TRAINING_ENDS, in seconds since the epoch, may end it sooner, however long it took to draw.
        """
        if ends := os.environ.get("COURSE_TRAINING_ENDS"):
            minutes = min(minutes, max(0.1, (float(ends) - time.time()) / 60))
        join()
        together = dist.is_initialized()
        generator = torch.Generator().manual_seed(self.seed + self.step + 1_000_003 * rank())
        if together:
            self._meet(1)
        begin = last = met = time.monotonic()
        met_step = self.step
        before, first = self.seconds, self.step
        trace, bar = None, tqdm(desc=self.name, unit="step", mininterval=10, disable=rank() > 0)
        while True:
            elapsed = time.monotonic() - begin
            share = (self.step - first) / steps if steps else elapsed / (60 * minutes)
            if share >= 1 and not together:
                break
            slope = min(1.0, (self.step - self.begun + 1) / warmup) * rate(share)
            for group, peak in zip(self.groups(), self.peaks, strict=True):
                group["lr"] = slope * peak
            value = loss(generator)
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(self.parameters(), 1.0)
            for optimizer in self.optimizers:
                optimizer.step()
            self.step += 1
            self._update_average()
            self.seconds = before + time.monotonic() - begin
            trace = value.detach() if trace is None else trace.lerp(value.detach(), 0.02)
            bar.update()
            if self.step % 20 == 0:  # a GPU has to be waited for before its loss can be read
                bar.set_postfix(loss=f"{trace.item():.4f}", done=f"{share:.0%}", refresh=False)
            if together and time.monotonic() - met > meet_seconds:
                if self._meet(self.step - met_step, done=share >= 1):
                    break
                met, met_step = time.monotonic(), self.step
            if rank() == 0 and time.monotonic() - last > 60 * checkpoint_minutes:
                self.save()
                if on_checkpoint:
                    on_checkpoint()
                last = time.monotonic()
        bar.close()
        self.save()
        self._note()
        if rank():
            raise SystemExit(0)  # the leader goes on to export
