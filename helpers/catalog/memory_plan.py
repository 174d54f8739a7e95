"""Decisions: how each full checkpoint would run on a card of so many gigabytes, by the course's own memory plan."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from helpers.catalog import devices
from helpers.catalog.checkpoints import CATALOG, Checkpoint

CARDS = (4, 6, 8, 12, 16, 24)  # GB, as they are sold
FREE = 0.92  # of them a program finds free: the driver, the desktop and torch's own libraries take the rest
NAMES = ("sd15", "sd15-inpaint", "sdxl-inpaint", "sdxl-refiner", "kandinsky22", "upscale-x4")
WAYS = {
    "none": "as it is",
    "model": "enable_model_cpu_offload()",
    "sequential": "enable_sequential_cpu_offload()",
}


@dataclass(frozen=True)
class Decisions:
    """What to do, by checkpoint and card. A notebook shows it as a table; `choice` is one cell of it."""

    cards: tuple[int, ...]
    plans: dict[str, list[devices.Plan]]

    def choice(self, name: str, card: int) -> devices.Plan:
        """The plan of one checkpoint on one card, in GB."""
        return self.plans[name][self.cards.index(card)]

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{card} GB</th>" for card in self.cards)
        rows = "".join(
            f'<tr><td style="text-align:left">{html.escape(name)}</td>'
            + "".join(f"<td>{html.escape(text(plan))}</td>" for plan in plans)
            + "</tr>"
            for name, plans in self.plans.items()
        )
        note = "float16, one picture of the checkpoint's own size; planned, not measured."
        return f"<table><tr><th>My card has</th>{head}</tr>{rows}</table><p><em>{note}</em></p>"

    def __str__(self) -> str:
        lines = []
        for name, plans in self.plans.items():
            cells = [f"{card} GB {text(plan)}" for card, plan in zip(self.cards, plans, strict=True)]
            lines.append(f"{name}: {', '.join(cells)}")
        return "\n".join(lines)


def decisions(cards: Sequence[int] = CARDS, names: Sequence[str] = NAMES) -> Decisions:
    """How the full checkpoints run on cards of so many GB; ValueError for a card of no size, or an unknown name."""
    if wrong := [card for card in cards if isinstance(card, bool) or not isinstance(card, (int, float)) or card <= 0]:
        raise ValueError(f"cards has {wrong[0]!r}: expected sizes in GB, such as 8.")
    return Decisions(tuple(cards), {name: [full_plan(CATALOG[name], card) for card in cards] for name in names})


def full_plan(checkpoint: Checkpoint, card: float) -> devices.Plan:
    """The memory plan of the full checkpoint, whatever the edition in use, on a CUDA card of `card` GB."""
    weights = {model: millions * 1_000_000 for model, millions in checkpoint.parameters.items()}
    full = SimpleNamespace(
        name=checkpoint.name, family=checkpoint.family, size=checkpoint.full_size, weights=weights, mini=False
    )
    return devices.plan(full, free=int(card * FREE * devices.GB), device="cuda", dtype="float16")


def text(plan: Any) -> str:
    """A plan in a few words."""
    if not plan.fits:
        return f"does not fit ({plan.needs / devices.GB:.1f} GB)"
    return f"{WAYS[plan.offload]} ({plan.needs / devices.GB:.1f} GB)"
