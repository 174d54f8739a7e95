"""A page's own code cells, run in this process, so that a test can measure what they made."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import helpers
from helpers.analysis import benchmark
from helpers.cli import notebook_runner


def cells(page: Path) -> dict[str, str]:
    """The source of each code cell, by the cell's id."""
    return {cell.id: cell.source for cell in notebook_runner.read(page).cells if cell.cell_type == "code"}


def prose(page: Path) -> str:
    """The text of all its other cells."""
    return "\n".join(cell.source for cell in notebook_runner.read(page).cells if cell.cell_type == "markdown")


def run(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; the value of its last expression, as a notebook shows it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names) if last else None


def visited(page: Path, names: dict[str, Any] | None = None, *, but: tuple[str, ...] = ()) -> SimpleNamespace:
    """A page's names after its cells have run in order, and by the cells' ids what each made of them.

    `displayed`: the value of its last expression. `said_by`: the lines that it printed; `printed`: those of all cells,
    as one text. `names_after`: the names as they were when it had run. names: run them in these. but: leave those out
    whose id begins so. Cells that compare times measure each variant once; what they save lands in a folder of its own.
    """
    names = {} if names is None else names
    names["display"] = lambda *values, **_: [_render(value) for value in values]
    displayed, said, after = {}, {}, {}
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(helpers, "measure_each", one_round)
        patch.chdir(folder)
        for id, source in cells(page).items():
            if not (but and id.startswith(but)):
                lines: list[str] = []
                names["print"] = lambda *what, sep=" ", lines=lines, **how: lines.append(sep.join(map(str, what)))
                displayed[id] = run(source, names)
                _render(displayed[id])
                said[id], after[id] = "\n".join(lines), SimpleNamespace(**names)
    seen = {"displayed": displayed, "said_by": said, "names_after": after, "printed": "\n".join(said.values())}
    return SimpleNamespace(**seen | names)


def _render(value: Any) -> None:
    """Make the HTML of a value that the helpers made, as a notebook does."""
    if type(value).__module__.startswith("helpers.") and hasattr(value, "_repr_html_"):
        value._repr_html_()


def exercises(page: Path) -> list[str]:
    """The ids of the cells that check an exercise."""
    return [id for id in cells(page) if re.fullmatch(r"exercise-\d", id)]


def checked(page: Path) -> list[str]:
    """The numbers under which a page checks its answers, in order."""
    return re.findall(r'check\("(\d\d[a-z]?\.\d)"', "\n".join(cells(page).values()))


def one_round(variants: Mapping[str, Callable], **_: Any) -> benchmark.Costs:
    """For `measure_each`: each once. Results and memory, which are claimed, need no more rounds."""
    return benchmark.measure_each(variants, repeats=1, warmup=0)


def mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
