"""Other ways to install than make lab: what the container, Binder and Colab would run is what README and Makefile say.

No container is built here: the files that an image copies are laid out in a folder, and what needs no network runs
there.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CPU = re.findall(r"make lab TORCH_INDEX=(\S+)", README)[0]
TORCH = f"python -m pip install --no-deps -c constraints.txt --index-url {CPU} torch torchvision"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, in order: (RUN, the rest of its line)."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def given(kind: str) -> list[str]:
    return [rest for name, rest in instructions() if name == kind]


def copied() -> list[tuple[list[str], str]]:
    """What the Dockerfile copies: sources and target."""
    words = [[word for word in rest.split() if not word.startswith("--")] for rest in given("COPY")]
    return [(sources, target) for *sources, target in words]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The folder that the image has, laid out here."""
    for sources, target in copied():
        for source in sources:
            place = tmp_path / (target if target != "./" else source)
            if (ROOT / source).is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.png", ".ipynb_checkpoints")
                shutil.copytree(ROOT / source, place, ignore=ignored)
            else:
                shutil.copy(ROOT / source, place)
    return tmp_path


def dry_run(folder: Path, *words: str) -> str:
    """What make would give to the shell there."""
    told = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "VENV", "ARGS", "PORT", "IP", "EXTRAS", "TORCH_INDEX")
    environment = {name: value for name, value in os.environ.items() if name not in told}
    command = ["make", "-n", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_image_copies_what_is_there_and_what_git_tracks() -> None:
    sources = [source for found, _ in copied() for source in found]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert {"helpers", "notebooks", "data", "Makefile", "pyproject.toml", "constraints.txt"} <= set(sources)
    assert not {".", ".venv", "tests", "miniature_training"} & set(sources)


def test_the_image_runs_as_a_user_who_owns_the_course() -> None:
    kinds = [kind for kind, _ in instructions()]
    assert given("USER") == ["learner"] and kinds.index("USER") < kinds.index("COPY")
    assert all(rest.startswith("--chown=learner ") for rest in given("COPY"))
    before = [rest for kind, rest in instructions()[: kinds.index("USER")] if kind == "RUN"]
    assert any("install -d -o learner /course" in line for line in before)
    assert not any("pip" in line or "make setup" in line for line in before)


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize("index", [None, ""], ids=["cpu", "cuda"])
def test_the_image_installs_as_make_and_the_readme_do(image: Path, index: str | None) -> None:
    arguments = dict(rest.split("=", 1) for rest in given("ARG"))
    if index is not None:
        arguments["TORCH_INDEX"] = index  # docker build --build-arg TORCH_INDEX=
    [setup] = [rest for rest in given("RUN") if rest.startswith("make ")]
    words = shlex.split(re.sub(r"\$(\w+)", lambda found: arguments[found[1]], setup))
    shown = dry_run(image, *words[1:])
    assert (TORCH in shown) == (index is None) and ("--index-url" in shown) == (index is None)
    assert "-c constraints.txt -e '.[runtime]'" in shown
    assert "--build-arg TORCH_INDEX= " in README and "docker build " in README


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_the_image_starts_jupyterlab_where_a_browser_outside_reaches_it(image: Path) -> None:
    [words] = [json.loads(rest) for rest in given("CMD")]
    assert words[0] == "make"
    last = dry_run(image, *words[1:]).splitlines()[-1]
    assert "jupyter lab --ip=0.0.0.0 --port=8888 " in last and last.endswith("--no-browser")
    assert "--ip=127.0.0.1 " in dry_run(ROOT, "lab")  # anywhere else it stays on this machine
    assert given("EXPOSE") == ["8888"] and "-p 127.0.0.1:8888:8888 -v inpainting:/course/my-notebooks" in README


def test_a_learner_of_the_image_gets_their_copies(image: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(image), "COURSE_CACHE": str(image / "cache")}
    command = [sys.executable, "-m", "helpers", "copies"]
    subprocess.run(command, cwd=image, env=environment, capture_output=True, text=True, check=True)
    assert (image / "my-notebooks" / "00_welcome.ipynb").is_file()


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_a_dev_container_installs_as_make_does() -> None:
    told = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    setup, copies = told["postCreateCommand"].split(" && ")
    assert shlex.split(setup) == ["make", "setup", "EXTRAS=runtime", f"TORCH_INDEX={CPU}"]
    assert TORCH in dry_run(ROOT, "-B", *shlex.split(setup)[1:])
    assert copies == ".venv/bin/course copies" and told["forwardPorts"] == [8888]


def test_binder_installs_torchs_cpu_build_and_no_tools_for_developers() -> None:
    file = ROOT / ".binder" / "postBuild"
    text = file.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert os.name == "nt" or file.stat().st_mode & stat.S_IXUSR
    lines = [line for line in text.splitlines() if not line.startswith(("#", "set", "export"))]
    described = lines.pop(2)
    assert lines == [TORCH, "python -m pip install -c constraints.txt -e .", "course copies"]
    extension = re.fullmatch(r'ln -sfn "\$PWD/(\S+)" "\$\(.+\)/share/jupyter/labextensions/"', described)
    assert extension and (ROOT / extension[1] / "package.json").is_file()
    runtime = (ROOT / ".binder" / "runtime.txt").read_text(encoding="utf-8").strip()
    assert re.fullmatch(r"python-3\.1[1-9]", runtime)
    assert [path.name for path in sorted(file.parent.iterdir())] == ["postBuild", "runtime.txt"]


def test_the_pages_launch_what_can_start_a_chapter_as_it_is() -> None:
    tree = ast.parse((ROOT / "docs" / "site" / "conf.py").read_text(encoding="utf-8"))
    [options] = [
        ast.literal_eval(value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and key.value == "launch_buttons"
    ]
    assert options == {"binderhub_url": "https://mybinder.org", "notebook_interface": "jupyterlab"}
    assert f"{options['binderhub_url']}/v2/gh/OWNER/inpainting-course/" in README


def test_the_first_cell_for_colab_keeps_the_torch_that_is_there(tmp_path: Path, monkeypatch) -> None:
    [cell] = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "git clone" in block]
    lines = cell.splitlines()
    typed = [line for line in lines if line.startswith(("!", "%"))]
    assert typed == [
        "!git clone --depth 1 ADDRESS inpainting-course",
        "%cd inpainting-course",
        "%pip install --quiet -c kept.tmp -e .",
    ]
    monkeypatch.chdir(tmp_path)
    exec("\n".join(line for line in lines if line not in typed), {})
    kept = dict(line.split("==") for line in (tmp_path / "kept.tmp").read_text(encoding="utf-8").splitlines())
    assert kept == {"torch": version("torch"), "torchvision": version("torchvision")}
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "*.tmp" in ignored  # the file lies in the clone


def test_the_table_of_ways_says_of_each_whether_it_was_tried() -> None:
    table = re.findall(r"\| Way \| Needs \| Tried \|\n\|[-|]+\|\n((?:\|.*\n)+)", README)[0]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
    assert all(len(row) == 3 and all(row) for row in rows)
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    linked = set(re.findall(r"\(#([\w-]+)\)", table))
    assert linked and linked <= anchors
