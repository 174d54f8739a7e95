"""The course as pages: copies of its notebooks and texts, an API reference, and Sphinx, which makes HTML of them."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import helpers

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TEXTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "docs/*.md")
TEXTS += ("data/miniatures/MODEL_CARD.md", "data/hero.png", "docs/*.jpg", "data/drawings/*.svg", "tests/README.md")
LONGEST = 240  # characters of an alternative text


def build_course(folder: Path) -> None:
    """Write the pages into `folder`; subprocess.CalledProcessError where Sphinx finds a fault, which it prints."""
    with tempfile.TemporaryDirectory() as drafts:
        source = Path(drafts) / "source"
        prepare(source)
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", f"{drafts}/doctrees"]
        subprocess.run([*command, str(source), str(folder)], check=True)
    for page in folder.glob("notebooks/solutions/*.html"):  # a label that hides from screen readers what the fold says
        page.write_text(page.read_text("utf-8").replace(' aria-label="Toggle hidden content"', ""), "utf-8")


def prepare(source: Path) -> None:
    """Copy what is read to `source`, laid out as in the repository, so that its links lead on."""
    for pattern in TEXTS:
        for file in sorted(ROOT.glob(pattern)):
            target = source / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    readme = source / "README.md"  # a folder is no page
    readme.write_text(re.sub(r"\]\(notebooks(/solutions)?\)", "](index.md)", readme.read_text("utf-8")), "utf-8")
    names: dict[str, list[str]] = {"CHAPTERS": [], "SOLUTIONS": []}
    for file in sorted((ROOT / "notebooks").glob("*.ipynb")) + sorted((ROOT / "notebooks/solutions").glob("*.ipynb")):
        place, solution = file.relative_to(ROOT), file.parent.name == "solutions"
        notebook = json.loads(file.read_text(encoding="utf-8"))
        dress(notebook, folded=solution)
        (source / place).parent.mkdir(parents=True, exist_ok=True)
        (source / place).write_text(json.dumps(notebook), encoding="utf-8")
        names["SOLUTIONS" if solution else "CHAPTERS"].append(place.with_suffix("").as_posix())
    home = (HERE / "index.md").read_text(encoding="utf-8").replace("../../", "")
    for kind, places in names.items():
        home = home.replace(kind, "\n".join(places))
    (source / "index.md").write_text(home, encoding="utf-8")
    (source / "api.md").write_text(reference(), encoding="utf-8")
    for name in ("conf.py", "icon.svg"):
        shutil.copy(HERE / name, source)
    (source / "static").mkdir()
    shutil.copy(HERE / "course.css", source / "static")


def dress(notebook: dict[str, Any], *, folded: bool) -> None:
    """Give the images of each cell an alternative text, and fold a solution's code and results."""
    heading, said = "", ""
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            if found := re.findall(r"^#+ (.+)$", text, re.MULTILINE):
                heading = plain(found[-1])
            paragraphs = [
                part for part in text.split("\n\n") if part.strip() and not part.lstrip().startswith(("#", "|", "```"))
            ]
            said = plain(paragraphs[-1]) if paragraphs else ""
        elif cell["cell_type"] == "code":
            alternative = ": ".join(filter(None, (heading, titles(cell) or said)))
            if len(alternative) > LONGEST:
                alternative = alternative[:LONGEST].rsplit(" ", 1)[0] + " …"
            cell["metadata"].setdefault("mystnb", {})["image"] = {"alt": alternative or "The result of this cell"}
            if folded:
                cell["metadata"].setdefault("tags", []).append("hide-cell")


def titles(cell: dict[str, Any]) -> str:
    """What the images of a cell are called in their outputs' metadata, as `show` and the charts write it."""
    told = [kind for output in cell.get("outputs", []) for kind in output.get("metadata", {}).values()]
    return "; ".join(kind["alt"] for kind in told if isinstance(kind, dict) and kind.get("alt"))


def plain(text: str) -> str:
    """Markdown as one line of text."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"[*`_]+|<[^>]+>", "", re.sub(r"\s+", " ", text)).strip()


def reference() -> str:
    """The public names of the package, with their signatures and docstrings, as one page of Markdown."""
    lines = ["# API reference", "", "Everything that a notebook imports from `helpers`, in alphabetical order.", ""]
    for name in sorted(helpers.__all__, key=str.lower):
        thing = getattr(helpers, name)
        lines += [f"## {name}", ""]
        if callable(thing):
            lines += ["```python", f"{name}{signature(thing)}", "```", ""]
        own = inspect.getdoc(thing) if callable(thing) else inspect.getdoc(type(thing))
        lines += [described(own or ""), ""]
    return "\n".join(lines)


def signature(thing: Any) -> str:
    """Names and defaults of its parameters; the docstring says what they are."""
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return "(…)"
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in found.parameters.values()]
    text = str(found.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def described(docstring: str) -> str:
    """A docstring as Markdown: arguments, `name: what it is`, become a list."""
    made = []
    for block in docstring.split("\n\n"):
        lines = block.splitlines()
        if any(re.match(r"\w+(, \w+)*: ", line) for line in lines) and not lines[0].startswith(" "):
            items: list[str] = []
            for line in lines:
                starts = re.match(r"(\w+(?:, \w+)*): (.*)", line)
                if starts:
                    items.append(f"- **{starts[1]}**: {escaped(starts[2])}")
                elif items and line.startswith(" "):
                    items[-1] += f" {escaped(line.strip())}"
                else:
                    items.append(escaped(line))
            made.append("\n".join(items))
        else:
            made.append(block if lines and lines[0].startswith("    ") else escaped(block))
    return "\n\n".join(made)


def escaped(text: str) -> str:
    """What Markdown would read as markup, outside code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_<\[\]$])", r"\\\1", part) for part in parts)
