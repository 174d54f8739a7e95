"""`course copies`: a learner's work is never lost, and a newer course always arrives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from helpers.cli import copies, notebook_runner
from helpers.cli.main import main

NAMES = ["01_basics.ipynb", "02_masks.ipynb", "solutions/01_basics.ipynb"]


class Course:
    """A small course, as executed, and the copies of one learner."""

    def __init__(self, place: Path) -> None:
        self.source, self.mine = place / "notebooks", place / "my-notebooks"
        (self.source / "solutions").mkdir(parents=True)
        for name in NAMES:
            self.publish(name, "1 + 1")

    def publish(self, name: str, *sources: str) -> None:
        """A new version of a notebook."""
        shown = new_output("execute_result", {"text/plain": "2"}, execution_count=1)
        code = [new_code_cell(source, outputs=[shown], execution_count=1) for source in sources]
        notebook_runner.write(new_notebook(cells=[new_markdown_cell("# Text"), *code]), self.source / name)

    def update(self) -> list[str]:
        return copies.update(self.mine, source=self.source)

    def source_of(self, name: str) -> str:
        """What the last cell of a copy says."""
        return notebook_runner.read(self.mine / name).cells[-1].source

    def work(self, name: str, source: str = "1 + 1  # mine") -> bytes:
        """The learner changes a copy; its bytes."""
        notebook = notebook_runner.read(self.mine / name)
        notebook.cells[-1].source = source
        notebook_runner.write(notebook, self.mine / name)
        return (self.mine / name).read_bytes()


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return Course(tmp_path)


def test_copies_are_the_chapters_and_solutions_without_outputs(course: Course) -> None:
    assert course.update() == ["3 notebooks copied to my-notebooks, without their outputs."]
    assert sorted(path.relative_to(course.mine).as_posix() for path in course.mine.rglob("*.ipynb")) == NAMES
    for name in NAMES:
        text, code = notebook_runner.read(course.mine / name).cells
        assert (text.source, code.source, code.outputs, code.execution_count) == ("# Text", "1 + 1", [], None)
        assert notebook_runner.read(course.source / name).cells[-1].outputs, "the executed one was changed"
    assert course.update() == []


def test_an_untouched_copy_follows_the_course(course: Course) -> None:
    course.update()
    for version in ("2 + 2", "3 + 3", "1 + 1"):  # the last one was there before
        course.publish("02_masks.ipynb", version)
        assert course.update() == ["02_masks.ipynb: replaced by the course's newer version; you had not changed it."]
        assert course.source_of("02_masks.ipynb") == version
    assert not list(course.mine.glob("*.new*"))


def test_what_jupyterlab_writes_by_itself_does_not_count_as_a_change(course: Course) -> None:
    course.update()
    notebook = notebook_runner.read(course.mine / NAMES[0])
    notebook.metadata["language_info"] = {"name": "python", "version": "3.12.1"}
    notebook.cells[-1].metadata["editable"] = True
    notebook_runner.write(notebook, course.mine / NAMES[0])
    course.publish(NAMES[0], "2 + 2")
    assert "replaced" in course.update()[0] and course.source_of(NAMES[0]) == "2 + 2"


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_copy_is_kept_and_the_new_version_laid_beside_it_once(course: Course, name: str) -> None:
    course.update()
    mine = course.work(name)
    assert course.update() == [], "the course has nothing new"
    course.publish(name, "2 + 2")
    new = name.replace(".ipynb", ".new.ipynb")
    [said] = course.update()
    assert said == f"{name}: yours is kept; the course's newer version lies beside it as {Path(new).name}."
    assert (course.mine / name).read_bytes() == mine and course.source_of(new) == "2 + 2"
    (course.mine / new).unlink()  # seen, not wanted
    assert course.update() == [] and not (course.mine / new).exists()
    course.publish(name, "3 + 3")
    assert course.update() and (course.mine / name).read_bytes() == mine and course.source_of(new) == "3 + 3"
    course.publish(name, "4 + 4")
    assert course.update() and course.source_of(new) == "4 + 4", "an untouched new version is replaced"


def test_outputs_count_as_work(course: Course) -> None:
    course.update()
    notebook = notebook_runner.read(course.mine / NAMES[0])
    notebook.cells[-1].outputs = [new_output("stream", text="hours of it")]
    notebook_runner.write(notebook, course.mine / NAMES[0])
    course.publish(NAMES[0], "2 + 2")
    assert "yours is kept" in course.update()[0]
    assert notebook_runner.read(course.mine / NAMES[0]).cells[-1].outputs[0].text == "hours of it"


def test_work_in_a_new_version_is_kept_too(course: Course) -> None:
    course.update()
    course.work("01_basics.ipynb")
    course.publish("01_basics.ipynb", "2 + 2")
    course.update()
    second = course.work("01_basics.new.ipynb", "2 + 2  # mine as well")
    course.publish("01_basics.ipynb", "3 + 3")
    assert course.update()[0].endswith("lies beside it as 01_basics.new2.ipynb.")
    assert (course.mine / "01_basics.new.ipynb").read_bytes() == second
    assert course.source_of("01_basics.new2.ipynb") == "3 + 3"


def test_a_new_version_moved_into_place_is_followed_again(course: Course) -> None:
    course.update()
    course.work("01_basics.ipynb")
    course.publish("01_basics.ipynb", "2 + 2")
    course.update()
    (course.mine / "01_basics.new.ipynb").replace(course.mine / "01_basics.ipynb")
    assert course.update() == []
    course.publish("01_basics.ipynb", "3 + 3")
    assert "replaced" in course.update()[0] and course.source_of("01_basics.ipynb") == "3 + 3"


def test_a_deleted_copy_is_made_anew(course: Course) -> None:
    course.update()
    course.work("01_basics.ipynb")
    (course.mine / "01_basics.ipynb").unlink()
    assert course.update() == ["1 notebooks copied to my-notebooks, without their outputs."]
    assert course.source_of("01_basics.ipynb") == "1 + 1"


@pytest.mark.parametrize("broken", [None, "", "{", "[]", '{"01_basics.ipynb": 7}', "{}"])
def test_without_its_record_everything_that_differs_is_kept(course: Course, broken: str | None) -> None:
    course.update()
    mine = course.work("01_basics.ipynb")
    course.publish("01_basics.ipynb", "2 + 2")
    (course.mine / copies.RECORD).unlink()
    if broken is not None:
        (course.mine / copies.RECORD).write_text(broken)
    assert len(course.update()) == 1
    assert (course.mine / "01_basics.ipynb").read_bytes() == mine
    assert course.source_of("01_basics.new.ipynb") == "2 + 2"
    assert course.update() == []


def test_a_copy_that_is_no_notebook_is_kept(course: Course) -> None:
    course.update()
    (course.mine / "01_basics.ipynb").write_text("notes")
    course.publish("01_basics.ipynb", "2 + 2")
    assert "yours is kept" in course.update()[0]
    assert (course.mine / "01_basics.ipynb").read_text() == "notes"


def test_other_files_in_the_folder_stay(course: Course) -> None:
    course.mine.mkdir()
    (course.mine / "diary.ipynb").write_text("mine")
    course.update()
    assert (course.mine / "diary.ipynb").read_text() == "mine"


def test_the_command_says_what_it_did(course: Course, monkeypatch, capsys) -> None:
    monkeypatch.setattr(copies.update, "__defaults__", (course.mine,))
    monkeypatch.setattr(copies.update, "__kwdefaults__", {"source": course.source})
    assert main(["copies"]) == 0
    assert capsys.readouterr().out == "3 notebooks copied to my-notebooks, without their outputs.\n"
    assert main(["copies"]) == 0
    assert capsys.readouterr().out == "my-notebooks is up to date.\n"


def test_a_folder_that_is_a_file_is_an_error_in_words(course: Course, monkeypatch, capsys) -> None:
    course.mine.write_text("")
    monkeypatch.setattr(copies.update, "__defaults__", (course.mine,))
    assert main(["copies"]) == 1
    assert "my-notebooks" in capsys.readouterr().err


def test_every_link_leads_somewhere_from_a_copy_too() -> None:
    broken = []
    for page in notebook_runner.chapters(["all"]):
        name = page.relative_to(notebook_runner.NOTEBOOKS)
        text = "\n".join(cell.source for cell in notebook_runner.read(page).cells if cell.cell_type == "markdown")
        for link in re.findall(r"\]\(([^)\s#:]+)\)", text):
            there = (copies.FOLDER / name).parent / link  # where the notebooks are the same ones
            inside = Path(*there.parts).resolve().is_relative_to(copies.FOLDER.resolve())
            target = (page.parent / link) if inside else there
            if not target.resolve().exists():
                broken.append(f"{name}: {link}")
    assert broken == []
