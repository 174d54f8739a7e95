"""`course run`: execute chapters without a browser, and keep what git sees of them stable."""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from helpers.catalog import editions
from helpers.common.paths import ROOT, try_writing, write_whole
from helpers.common.validation import did_you_mean

if TYPE_CHECKING:
    from nbformat import NotebookNode

NOTEBOOKS = ROOT / "notebooks"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WEEK = 604_800  # seconds
LIGHT, HEAVY = 4_000, 50_000  # characters of an image's base64
# What a reader without a kernel can still look at.
STILLS = ("image/png", "image/jpeg", "image/svg+xml", "text/html", "text/markdown")
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,}")
_PROGRESS = re.compile(r"\d+%\|.*\||\d+(\.\d+)?(it/s|s/it)\b")


class ChapterError(RuntimeError):
    """A chapter stopped: `path`, the code `cell`'s number as in JupyterLab's [n], its `source`, and the `reason`."""

    def __init__(self, path: Path, *, cell: int, source: str, reason: str) -> None:
        self.path, self.cell, self.source, self.reason = path, cell, source, reason
        lines = source.strip().splitlines()
        shown = [f"    {line}" for line in lines[:6]] + (["    …"] if len(lines) > 6 else [])
        indented = [f"    {line}" for line in reason.strip().splitlines()]
        super().__init__("\n".join([f"{label(path)}, cell [{cell}]:", *shown, "stopped with", *indented]))


def register(commands) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("run", help="execute chapters without a browser and write their outputs back")
    names = "01, 01_basics, a path, or solutions; default: every chapter and solution"
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help=names)
    parser.add_argument("--check", action="store_true", help="execute only: write nothing back")
    parser.add_argument("--edition", choices=editions.EDITIONS, help="default: mini, as the committed outputs are")
    parser.add_argument("--timeout", type=float, default=900, metavar="SECONDS", help="for one cell (default: 900)")
    parser.set_defaults(act=_run)


def chapters(names: Iterable[str] = (), *, folder: Path = NOTEBOOKS) -> list[Path]:
    """List the notebooks that `names` mean, in order; no name means every chapter.

    A name is a number ("1", "01", "01b"), a file name with or without .ipynb, or a path; "solutions" means all of
    those, and "all" the chapters and the solutions, "solutions/05" one solution. An unknown one raises `ValueError`
    with the nearest known names.
    """
    known = {path.stem: path for path in sorted(folder.glob("*.ipynb"))}
    found: list[Path] = []
    for name in names:
        if name in ("all", "solutions"):
            found += [*known.values()] if name == "all" else []
            found += sorted((folder / "solutions").glob("*.ipynb"))
            continue
        path = Path(name)
        if path.suffix == ".ipynb" and path.is_file():
            found.append(path.resolve())
            continue
        stem = path.name.removesuffix(".ipynb")
        start = f"{int(number[1]):02d}{number[2]}_" if (number := re.fullmatch(r"(\d+)([a-z]?)", stem)) else None
        group = known
        if path.parent.name == "solutions":
            group = {file.stem: file for file in sorted((folder / "solutions").glob("*.ipynb"))}
        match = [group[key] for key in group if key == stem or (start and key.startswith(start))]
        if not match:
            raise ValueError(f"chapter={name!r}: {folder.name}/ has none called so. {did_you_mean(stem, known)}")
        found += match
    return list(dict.fromkeys(found)) if names else list(known.values())


def label(path: Path) -> str:
    """The notebook's name as the course calls it: a solution keeps its folder."""
    return f"solutions/{path.name}" if path.parent.name == "solutions" else path.name


def read(path: Path) -> NotebookNode:
    """Read a notebook as format 4; a file that is not one raises `ValueError`."""
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except OSError:
        raise
    except Exception as error:  # nbformat's converters raise whatever they trip over
        raise ValueError(f"path={str(path)!r}: not a Jupyter notebook ({type(error).__name__}).") from error


def write(notebook: NotebookNode, path: Path) -> bool:
    """Write the notebook whole or not at all; return whether the file changed."""
    import nbformat

    return write_whole(path, nbformat.writes(notebook) + "\n")


def execute(
    path: Path,
    *,
    cwd: Path | None = None,
    edition: str | None = None,
    timeout: float = 900,
) -> NotebookNode:
    """Run every cell in a fresh kernel and return the normalised result; the file itself is left as it is.

    `cwd` is where the kernel runs (default: the notebook's folder); `timeout` is seconds a cell. Raises
    `ChapterError` at the first cell that fails, hangs or kills the kernel.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = read(path)
    entered: list[int] = [0]

    client = partial(
        NotebookClient,
        notebook,
        timeout_func=lambda cell: timeout,  # `timeout` itself takes whole seconds alone
        kernel_name=KERNEL["name"],
        resources={"metadata": {"path": str(cwd or path.parent)}},
        coalesce_streams=True,
        record_timing=False,
        on_cell_start=lambda cell, cell_index: entered.append(cell_index),
    )
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | ({"COURSE_EDITION": edition} if edition else {})

    def stopped(reason: str) -> ChapterError:
        cells = notebook.cells[: entered[-1] + 1]
        number = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in cells)
        return ChapterError(path, cell=number, source=cells[-1].source if cells else "", reason=reason)

    try:
        try:
            client().execute(env=environment)
        except RuntimeError as error:  # its ports were free when they were chosen, and taken when it came to use them
            if "died before replying" not in str(error):
                raise
            client().execute(env=environment)
    except CellExecutionError as error:
        raise stopped(f"{error.ename}: {error.evalue}") from None
    except CellTimeoutError:
        raise stopped(f"no answer within {timeout:g} seconds") from None
    except DeadKernelError:
        raise stopped("the kernel died (out of memory, or a crash in a library)") from None
    return normalise(notebook)


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Drop, in place, what changes from run to run or from machine to machine, and return the notebook.

    Gone: execution times, widget state and views (their stills stay), progress bars, memory addresses, and the
    machine's own folders. Large images become JPEG; kernel and language, what every Python 3 answers to.
    """
    notebook.metadata = type(notebook.metadata)({"kernelspec": dict(KERNEL), "language_info": {"name": "python"}})
    taken: set[str] = set()
    for number, cell in enumerate(notebook.cells):
        if notebook.nbformat_minor >= 5 and (not cell.get("id") or cell.id in taken):
            cell["id"] = f"cell-{number:02d}"
        taken.add(cell.get("id", ""))
        for key in ("execution", "ExecuteTime", "scrolled", "collapsed", "jupyter"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_settle, cell.outputs) if output is not None]
    return notebook


def _settle(output: NotebookNode) -> NotebookNode | None:
    """Return the output without what is volatile in it, or None where nothing is left to see."""
    if output.output_type == "stream":
        # A carriage return writes over its line: only what is left standing counts, and a bar not at all.
        lines = [line.rpartition("\r")[2] for line in output.text.replace("\r\n", "\n").split("\n")]
        output.text = _portable("\n".join(line for line in lines if not _PROGRESS.search(line)))
        return output if output.text.strip() else None
    if output.output_type in ("display_data", "execute_result"):
        view = output.data.pop(WIDGET_VIEW, None)
        if view is not None and not any(kind in output.data for kind in STILLS):
            return None
        output.metadata.pop(WIDGET_VIEW, None)
        if "image/png" in output.data:
            output.data.pop("image/jpeg", None)  # Pillow sends each image twice
            _lighten(output)
        for kind in ("text/plain", "text/html", "text/markdown"):
            if isinstance(output.data.get(kind), str):
                output.data[kind] = _portable(output.data[kind])
    return output


def _lighten(output: NotebookNode) -> None:
    """Keep an opaque image in less: each commit holds every output anew.

    A large one as JPEG where that takes less than half; charts, and what JPEG does not make smaller, in 256 colours.
    """
    png = "".join(output.data["image/png"])
    if len(png) < LIGHT:
        return
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        chart = image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255)  # matplotlib's are
        if not chart and (image.mode != "RGB" or len(png) < HEAVY):
            return
        rgb = image.convert("RGB")
    jpeg, palette = io.BytesIO(), io.BytesIO()
    rgb.save(jpeg, "JPEG", quality=82, optimize=True, progressive=True)
    if not chart and 8 * jpeg.tell() < 3 * len(png):  # of base64, four characters are three bytes
        del output.data["image/png"]
        output.data["image/jpeg"] = base64.b64encode(jpeg.getvalue()).decode()
        if "image/png" in output.metadata:
            output.metadata["image/jpeg"] = output.metadata.pop("image/png")
        return
    rgb.quantize(256, dither=Image.Dither.NONE).save(palette, "PNG", optimize=True)
    if 4 * palette.tell() < 3 * len(png):
        output.data["image/png"] = base64.b64encode(palette.getvalue()).decode()


def _portable(text: str) -> str:
    for folder, name in ((str(ROOT), "."), (sys.prefix, ".venv"), (os.path.expanduser("~"), "~")):
        if len(folder) > 1:  # a home of "/" would eat every slash
            text = text.replace(folder, name)
    return _ADDRESS.sub("at 0x…", text)


def _run(arguments: argparse.Namespace) -> int:
    """Execute the notebooks under one progress bar; a failing one does not keep back the rest."""
    from tqdm import tqdm

    if not 0 < arguments.timeout <= WEEK:  # False for NaN
        raise ValueError(f"--timeout={arguments.timeout:g}: expected seconds above 0. At most a week, {WEEK}.")
    if not arguments.edition and (wanted := editions.edition()) != "mini":
        raise ValueError(
            f"COURSE_EDITION={wanted} is set, but unless told otherwise this runs the mini edition, as the committed "
            f"outputs are. Say which one you mean: course run --edition mini, or --edition {wanted}."
        )
    found = chapters(arguments.chapters or ["all"])
    if not found:
        raise FileNotFoundError(f"no chapters in {NOTEBOOKS}. Restore them: git checkout -- notebooks")
    for folder in () if arguments.check else dict.fromkeys(path.parent for path in found):
        try:
            try_writing(folder)
        except OSError as error:
            why = error.strerror or error
            raise OSError(f"{folder} cannot be written to: {why}. To execute without writing: --check") from error
    failures: list[ChapterError] = []
    with tqdm(found, unit="notebook", dynamic_ncols=True) as bar:
        for path in bar:
            bar.set_description(label(path))
            try:
                notebook = execute(path, edition=arguments.edition or "mini", timeout=arguments.timeout)
            except ChapterError as failure:
                failures.append(failure)
                bar.write(f"✗ {label(path)}, cell [{failure.cell}]")
            else:
                changed = not arguments.check and write(notebook, path)
                bar.write(f"✓ {label(path)}" + (", outputs written" if changed else ""))
    for failure in failures:
        print(f"\n{failure}", file=sys.stderr)
    if failures:
        print(f"\n{len(failures)} of {len(found)} stopped; their files are as they were.", file=sys.stderr)
    return 1 if failures else 0
