"""`course run`: executing chapters, and keeping their outputs stable."""

from __future__ import annotations

import base64
import copy
import io
from pathlib import Path

import matplotlib.pyplot as plt
import nbclient
import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from helpers.catalog import editions
from helpers.cli import notebook_runner
from helpers.cli.main import main
from helpers.common.png import png_bytes


@pytest.fixture
def chapter(tmp_path: Path):
    """Write a notebook of these code cells, after one cell of text, and return its path."""

    def write(*cells: str, name: str = "01_basics") -> Path:
        path = tmp_path / f"{name}.ipynb"
        body = [new_markdown_cell("# A chapter"), *(new_code_cell(cell) for cell in cells)]
        path.write_text(nbformat.writes(new_notebook(cells=body)), encoding="utf-8")
        return path

    return write


def outputs(path: Path) -> list[str]:
    """What the notebook's code cells printed or returned, as the file says."""
    cells = [cell for cell in notebook_runner.read(path).cells if cell.cell_type == "code"]
    return [output.get("text") or output["data"]["text/plain"] for cell in cells for output in cell.outputs]


# Executing


def test_run_writes_outputs_back(chapter, capsys) -> None:
    path = chapter("import os\nos.environ['COURSE_EDITION']", "print(6 * 7)\nprint('and more')")
    assert main(["run", str(path)]) == 0
    assert outputs(path) == ["'mini'", "42\nand more\n"]
    assert "✓ 01_basics.ipynb, outputs written" in capsys.readouterr().out
    first = path.read_bytes()
    assert main(["run", str(path)]) == 0
    assert path.read_bytes() == first, "a second run changed the file"
    assert "outputs written" not in capsys.readouterr().out
    path = chapter("1 + 1")
    first = path.read_bytes()
    assert main(["run", "--check", str(path)]) == 0
    assert path.read_bytes() == first


def test_run_names_the_failing_cell_and_goes_on(chapter, capsys) -> None:
    bad = chapter("x = 1", "y = 2\nx / 0\n# never reached", "print('not run')", name="01_bad")
    good = chapter("print('fine')", name="02_good")
    before = bad.read_bytes()
    assert main(["run", str(bad), str(good)]) == 1
    error = capsys.readouterr().err
    assert "01_bad.ipynb, cell [2]:\n    y = 2\n    x / 0\n" in error
    assert "ZeroDivisionError: division by zero" in error
    assert "1 of 2 stopped; their files are as they were." in error
    assert bad.read_bytes() == before
    assert outputs(good) == ["fine\n"]


def test_a_failing_solution_is_told_from_its_chapter(tmp_path: Path) -> None:
    path = tmp_path / "solutions" / "01.ipynb"
    said = str(notebook_runner.ChapterError(path, cell=3, source="a\n" * 9, reason="E: e\nmore"))
    assert said == "solutions/01.ipynb, cell [3]:\n" + "    a\n" * 6 + "    …\nstopped with\n    E: e\n    more"


@pytest.mark.parametrize(
    ("cell", "timeout", "reason"),
    [
        ("import os\nos._exit(1)", 60, "the kernel died"),
        ("import time\ntime.sleep(60)", 1, "no answer within 1 seconds"),
    ],
)
def test_a_kernel_that_dies_or_hangs_is_named(chapter, cell: str, timeout: float, reason: str) -> None:
    with pytest.raises(notebook_runner.ChapterError, match=reason) as caught:
        notebook_runner.execute(chapter(cell), timeout=timeout)
    assert caught.value.cell == 1
    assert cell.splitlines()[0] in str(caught.value)


def test_a_kernel_that_cannot_start_is_started_once_more(chapter, monkeypatch) -> None:
    starts, execute = [], nbclient.NotebookClient.execute

    def first_in_vain(self, **options):
        starts.append(self)
        if len(starts) == 1:
            raise RuntimeError("Kernel died before replying to kernel_info")
        return execute(self, **options)

    monkeypatch.setattr(nbclient.NotebookClient, "execute", first_in_vain)
    executed = notebook_runner.execute(chapter("1 + 1"))
    assert len(starts) == 2 and executed.cells[1].outputs[0].data["text/plain"] == "2"


def test_a_wanted_error_is_let_pass(chapter) -> None:
    path = chapter("1", "raise ValueError('as shown in the chapter')", "2")
    notebook = notebook_runner.read(path)
    notebook.cells[2].metadata["tags"] = ["raises-exception"]
    notebook_runner.write(notebook, path)
    executed = notebook_runner.execute(path)
    assert [output.output_type for output in executed.cells[2].outputs] == ["error"]


# Which chapters


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "solutions").mkdir()
    for name in ("00_welcome", "01_basics", "01b_inside", "10_more", "solutions/01_basics"):
        (tmp_path / f"{name}.ipynb").write_text("{}", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], ["00_welcome", "01_basics", "01b_inside", "10_more"]),
        (["1"], ["01_basics"]),
        (["01"], ["01_basics"]),
        (["01b"], ["01b_inside"]),
        (["1b"], ["01b_inside"]),
        (["0", "10_more.ipynb", "00"], ["00_welcome", "10_more"]),
        (["notebooks/01_basics.ipynb"], ["01_basics"]),
        (["solutions"], ["solutions/01_basics"]),
        (["solutions/01", "solutions/01_basics"], ["solutions/01_basics"]),
        (["all"], ["00_welcome", "01_basics", "01b_inside", "10_more", "solutions/01_basics"]),
    ],
)
def test_chapters_are_found_by_number_name_and_path(
    folder: Path, names: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)  # away from the course's own notebooks
    found = notebook_runner.chapters(names, folder=folder)
    assert [str(path.relative_to(folder).with_suffix("")) for path in found] == expected


def test_an_unknown_chapter_gets_a_suggestion_and_ends_the_command(folder: Path, capsys) -> None:
    with pytest.raises(ValueError, match="chapter='01_basic': .* Did you mean '01_basics'"):
        notebook_runner.chapters(["01_basic"], folder=folder)
    with pytest.raises(ValueError, match="chapter='7'"):
        notebook_runner.chapters(["7"], folder=folder)
    assert main(["run", "no_such_chapter"]) == 2
    assert capsys.readouterr().err.startswith("course run: chapter='no_such_chapter': ")


@pytest.mark.parametrize("text", ["not json", "[]", '{"cells": 1}', ""])
def test_what_is_no_notebook_is_refused(tmp_path: Path, text: str, capsys) -> None:
    path = tmp_path / "x.ipynb"
    path.write_text(text, encoding="utf-8")
    assert main(["run", str(path)]) == 2
    assert "not a Jupyter notebook" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-5", "nan", "inf", "604801"])
def test_a_timeout_is_a_number_above_zero(chapter, capsys, text) -> None:
    assert main(["run", str(chapter("1")), f"--timeout={text}"]) == 2
    assert f"course run: --timeout={text}: expected seconds above 0." in capsys.readouterr().err


def test_a_timeout_may_have_a_fraction(chapter) -> None:
    assert main(["run", "--check", str(chapter("1")), "--timeout", "90.5"]) == 0
    with pytest.raises(notebook_runner.ChapterError, match="no answer within 0.5 seconds"):
        notebook_runner.execute(chapter("import time\ntime.sleep(60)"), timeout=0.5)


def test_a_folder_that_cannot_be_written_to_is_found_before_anything_runs(chapter, monkeypatch, capsys) -> None:
    def refused(_) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(notebook_runner, "try_writing", refused)
    monkeypatch.setattr(notebook_runner, "execute", lambda *_, **__: pytest.fail("executed"))
    assert main(["run", str(chapter("1"))]) == 1
    assert "cannot be written to: Read-only file system. To execute without writing: --check" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "asked", "runs"),
    [("full", (), None), ("full", ("--edition", "mini"), "mini"), ("mini", ("--edition", "full"), "full"),
     ("", (), "mini")],
)  # fmt: skip
def test_the_edition_is_the_one_that_is_asked_for(chapter, monkeypatch, capsys, environment, asked, runs) -> None:
    monkeypatch.setattr(editions, "_chosen", None)
    monkeypatch.setenv("COURSE_EDITION", environment)
    path, editions_run = chapter("1"), []
    monkeypatch.setattr(
        notebook_runner,
        "execute",
        lambda path, **how: editions_run.append(how["edition"]) or notebook_runner.read(path),
    )
    assert main(["run", *asked, str(path)]) == (0 if runs else 2)
    assert editions_run == ([runs] if runs else [])
    if not runs:
        error = capsys.readouterr().err
        assert "course run: COURSE_EDITION=full is set" in error and "--edition mini, or --edition full." in error


@pytest.mark.parametrize("argv", [[], ["dance"], ["run", "--edition", "tiny"], ["run", "--timeout", "a"]])
def test_a_wrong_command_shows_the_usage(argv: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    assert "usage: course" in capsys.readouterr().err


# Normalising


def settled(*given, **cell) -> list:
    """The outputs of one code cell after normalising."""
    notebook = new_notebook(cells=[new_code_cell("x", outputs=list(given), **cell)])
    return notebook_runner.normalise(notebook).cells[0].outputs


def test_a_widget_leaves_its_still() -> None:
    view = {notebook_runner.WIDGET_VIEW: {"model_id": "abc"}, "text/plain": "Painter()"}
    still = new_output("display_data", data=view | {"image/png": "iVBORw0KGgo="})
    assert [set(output.data) for output in settled(still)] == [{"text/plain", "image/png"}]
    assert settled(new_output("display_data", data=view)) == []


def test_progress_bars_go_and_what_was_printed_stays() -> None:
    bar = "\r  0%|          | 0/25 [00:00<?, ?it/s]\r100%|██████████| 25/25 [00:01<00:00, 20.1it/s]"
    assert settled(new_output("stream", name="stderr", text=bar + "\n")) == []
    said = settled(new_output("stream", name="stdout", text=f"before\n{bar}\nover\rafter\n\nend\n"))
    assert [output.text for output in said] == ["before\nafter\n\nend\n"]


def test_addresses_and_folders_of_this_machine_go() -> None:
    text = f"<Thing at 0x7f12ab34cd56> {notebook_runner.ROOT}/data {Path.home()}/.cache"
    result, printed = new_output("execute_result", data={"text/plain": text}), new_output("stream", text=text)
    said = settled(result, printed)
    assert said[0].data["text/plain"] == said[1].text == "<Thing at 0x…> ./data ~/.cache"


def test_an_image_is_kept_once() -> None:
    both = new_output("execute_result", data={"image/png": "p", "image/jpeg": "j", "text/plain": "<PIL>"})
    alone = new_output("display_data", data={"image/jpeg": "j"})
    assert [set(output.data) for output in settled(both, alone)] == [{"image/png", "text/plain"}, {"image/jpeg"}]


def as_png(picture: Image.Image) -> str:
    return base64.b64encode(png_bytes(picture)).decode()


def test_a_large_image_is_kept_as_a_smaller_jpeg_of_the_same_look() -> None:
    grain = np.random.default_rng(0).normal(0, 6, (400, 400, 3))
    pixels = (np.linspace(40, 200, 400)[:, None, None] + grain).clip(0, 255).astype(np.uint8)
    before = as_png(Image.fromarray(pixels))
    output = new_output("display_data", data={"image/png": before}, metadata={"image/png": {"width": 200}})
    [light] = settled(output)
    assert set(light.data) == {"image/jpeg"} and light.metadata == {"image/jpeg": {"width": 200}}
    assert len(light.data["image/jpeg"]) < len(before) / 2
    after = np.asarray(Image.open(io.BytesIO(base64.b64decode(light.data["image/jpeg"]))), np.int16)
    assert np.abs(after - pixels).mean() < 6
    assert settled(copy.deepcopy(light)) == [light]


def test_a_chart_is_kept_in_256_colours() -> None:
    figure, axes = plt.subplots(figsize=(5, 3))
    axes.imshow(np.linspace(0, 1, 600).reshape(20, 30))
    axes.plot([0, 29], [0, 19], label="a line")
    axes.legend()
    file = io.BytesIO()
    figure.savefig(file)  # RGBA, as a notebook gets it
    plt.close(figure)
    before = base64.b64encode(file.getvalue()).decode()
    [light] = settled(new_output("display_data", data={"image/png": before}))
    assert set(light.data) == {"image/png"} and len(light.data["image/png"]) < 0.6 * len(before)
    after = np.asarray(Image.open(io.BytesIO(base64.b64decode(light.data["image/png"]))).convert("RGB"), int)
    assert np.abs(after - np.asarray(Image.open(file).convert("RGB"), int)).mean() < 1
    assert settled(copy.deepcopy(light)) == [light]


def test_small_or_transparent_images_and_drawings_of_few_colours_stay_png() -> None:
    clear = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 4), np.uint8))
    drawing = Image.fromarray(np.random.default_rng(0).integers(0, 2, (700, 700, 1), np.uint8).repeat(3, 2) * 255)
    pictures = [clear, drawing, Image.new("RGB", (9, 9))]
    kept = settled(*(new_output("display_data", data={"image/png": as_png(picture)}) for picture in pictures))
    assert [set(output.data) for output in kept] == [{"image/png"}] * 3


def test_metadata_is_reduced_and_normalising_twice_changes_nothing() -> None:
    cells = [new_code_cell("1"), new_code_cell("2"), new_markdown_cell("text")]
    cells[0].metadata.update({"execution": {"iopub.execute_input": "now"}, "tags": ["keep"], "scrolled": True})
    notebook = new_notebook(cells=cells)
    notebook.cells[1].id = notebook.cells[0].id
    notebook.metadata.update({"widgets": {}, "kernelspec": {"name": "mine"}, "language_info": {"version": "9"}})
    once = notebook_runner.normalise(notebook)
    assert once.metadata == {"kernelspec": notebook_runner.KERNEL, "language_info": {"name": "python"}}
    assert once.cells[0].metadata == {"tags": ["keep"]}
    assert len({cell.id for cell in once.cells}) == 3
    nbformat.validate(once)
    before = nbformat.writes(once)
    assert nbformat.writes(notebook_runner.normalise(once)) == before
