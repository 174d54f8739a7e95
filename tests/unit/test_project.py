"""The rules of the house, held by tests: directions, budgets, one list of packages, clean notebooks."""

from __future__ import annotations

import ast
import copy
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import helpers
from helpers.cli import copies, notebook_runner

ROOT = Path(__file__).resolve().parents[2]
HELPERS = ROOT / "helpers"
MIB = 2**20
GROUPS = ("runtime", "site", "class", "dev")
OURS = {"docs", "helpers", "miniature_training", "classroom", "tests"}

HEAVY = {"accelerate", "compel", "controlnet_aux", "diffusers", "matplotlib", "torch", "torchvision", "transformers"}
# What a package is called where it is imported, if not by its own name.
IMPORTED_AS = {
    "websocket": "websocket-client",
    "PIL": "pillow", "IPython": "jupyterlab", "cv2": "opencv-python-headless", "skimage": "scikit-image",
    "yaml": "pyyaml", "httpx2": "huggingface_hub", "nativeauthenticator": "jupyterhub-nativeauthenticator",
    "_pytest": "pytest", "importlinter": "import-linter", "jupyter_client": "nbclient", "ipykernel": "jupyterlab",
}  # fmt: skip


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def declared(group: str | None = None) -> list[Requirement]:
    listed = project()["optional-dependencies"][group] if group else project()["dependencies"]
    return [Requirement(entry) for entry in listed]


def tracked() -> list[Path]:
    """The files that git tracks; without git, everything but environments and caches."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    except (OSError, subprocess.CalledProcessError):
        skipped = {".git", ".venv", "training", "__pycache__", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"}
        return [path for path in ROOT.rglob("*") if path.is_file() and not skipped & set(path.relative_to(ROOT).parts)]


def modules() -> list[Path]:
    return sorted(HELPERS.rglob("*.py"))


def imports(tree: ast.AST, package: str) -> set[str]:
    """The full names of all that a module imports, wherever in it; `package` resolves the dots of relative imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


@functools.cache
def parsed(path: Path) -> tuple[ast.Module, str]:
    return ast.parse(path.read_text(encoding="utf-8")), ".".join(path.relative_to(ROOT).parent.parts)


def test_heavy_libraries_are_imported_inside_functions() -> None:
    wrong = []
    for path in modules():
        tree, package = parsed(path)
        outside = ast.Module([node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))], [])
        wrong += [f"{path.name}: {name}" for name in imports(outside, package) if name.split(".")[0] in HEAVY]
    assert wrong == []


def test_import_helpers_brings_nothing_heavy() -> None:
    used = "helpers.CATALOG['sd15'].tasks, helpers.edition()"
    code = f"import sys, helpers, helpers.cli; {used}; print(sorted(set(sys.argv[1:]) & set(sys.modules)))"
    command = [sys.executable, "-c", code, *sorted(HEAVY), "numpy", "PIL", "ipywidgets", "nbformat"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_loading_a_checkpoint_brings_nothing_that_its_call_does_not_need() -> None:
    unneeded = ["matplotlib", "ipywidgets", "anywidget", "compel", "controlnet_aux", "cv2", "bs4"]
    unneeded += ["diffusers.pipelines.auto_pipeline"]
    loaded = "from helpers import load; load('sd15-inpaint')"
    code = f"import sys; {loaded}; print(sorted(set(sys.argv[1:]) & set(sys.modules)))"
    command = [sys.executable, "-c", code, *unneeded]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in helpers.__all__:
        assert callable(getattr(helpers, name)) or name == "CATALOG", f"helpers.{name} is a module, not what it names"


def test_imports_run_one_way() -> None:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_no_private_name_crosses_a_package() -> None:
    wrong = []
    for path in modules():
        tree, package = parsed(path)
        for name in imports(tree, package):
            root, *parts = name.split(".")
            if root == "helpers" and any(part.startswith("_") for part in parts[1:]) and parts[0] not in package:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_no_assert_stands_guard_over_input() -> None:
    trees = {path: parsed(path)[0] for path in modules()}
    wrong = [path.name for path, tree in trees.items() for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert wrong == []


def test_sizes_stay_within_their_budgets() -> None:
    sizes = {path.relative_to(ROOT): path.stat().st_size for path in tracked()}
    weights = {path: size for path, size in sizes.items() if path.parts[:2] == ("data", "miniatures")}
    assert [str(path) for path, size in weights.items() if size >= 16 * MIB] == []
    assert sum(weights.values()) <= 48 * MIB
    assert sum(sizes.values()) < 60 * MIB


def test_weights_are_safetensors_only() -> None:
    pickles = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
    assert [str(path) for path in tracked() if path.suffix in pickles] == []


# A folder of somebody's machine, a package registry's own host, or credentials in an address.
STRAY = re.compile(
    r"(?<![\w.:/-])/(?:root|home|Users|work|workspace|mnt)/[\w.]|/tmp/\w+/"
    r"|\b(?:test\.)?pypi\.org/simple|pythonhosted\.org|registry\.npmjs\.org|deb\.debian\.org|conda\.anaconda\.org"
    r"|download\.pytorch\.org|://[^/\s\"']+:[^/\s\"']+@"
)
# What installs torch's CPU build names its public index (test_installing.py).
INSTALLS = {"README.md", "Dockerfile", ".devcontainer/devcontainer.json", ".binder/postBuild"}
PICTURE = re.compile(r"[A-Za-z0-9+/]{200,}={0,2}")  # in base64, where any word may turn up by chance


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = []
    for path in tracked():
        if path.suffix in {".png", ".jpg", ".webp", ".gif", ".safetensors"}:
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        if path.suffix == ".ipynb":
            text = PICTURE.sub("", text)
        for hit in STRAY.finditer(text):
            allowed = str(path.relative_to(ROOT)) in INSTALLS and hit[0] == "download.pytorch" + ".org"
            if not allowed:
                found.append(f"{path.relative_to(ROOT)}: {hit[0]}")
    assert found == []


@pytest.mark.parametrize(
    "text",
    ["open('|root/x')", "see |home/ann/course", "|tmp/abc/d", "https:||files.python|hosted.org", "https:||a:b@|host"],
)
def test_the_search_for_strays_finds_them(text: str) -> None:
    # Spelt with bars, or this file would be found as well.
    assert STRAY.search(text.replace("python|", "python").replace("@|", "@").replace("|", "/"))


@pytest.mark.parametrize("text", ["../home/x", "https://example.com/home/x", "a/mnt/b", "http://127.0.0.1:8888/lab"])
def test_the_search_for_strays_leaves_the_rest(text: str) -> None:
    assert not STRAY.search(text)


def test_conda_takes_its_packages_from_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    pip = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert conda == [f"python{project()['requires-python']}", "pip"]
    assert pip == [["-c constraints.txt", "-e ."]]
    assert environment["name"] == project()["name"]


def test_constraints_pin_every_package_within_its_bounds() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = dict(line.split("==") for line in text.splitlines() if line and not line.startswith("#"))
    assert all(re.fullmatch(r"\d+(\.\d+)*(\.post\d+)?", version) for version in pins.values()), "a build of one machine"
    for requirement in [*declared(), *(one for group in GROUPS for one in declared(group))]:
        assert requirement.name in pins, f"{requirement.name} is not pinned"
        assert requirement.specifier.contains(pins[requirement.name]), requirement


def test_every_package_says_where_it_is_used() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    names = [requirement.name for requirement in [*declared(), *(one for group in GROUPS for one in declared(group))]]
    for name in names:
        line = next(line for line in lines if re.match(rf'\s+"{re.escape(name)}(\[\w+\])?[><=]', line))
        assert re.search(r"# used (in|by) ", line), line


@pytest.mark.parametrize(
    "where, groups",
    [
        ("helpers", ["runtime"]), ("notebooks", []), ("miniature_training", []), ("docs", ["site"]),
        ("classroom", ["class"]), ("tests", GROUPS),
    ],
)  # fmt: skip
def test_nothing_is_imported_that_is_not_declared(where: str, groups: list[str]) -> None:
    known = [*declared(), *(entry for group in groups for entry in declared(group))]
    sources = [parsed(path) for path in sorted((ROOT / where).rglob("*.py"))]
    for path in (ROOT / where).glob("**/*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        cells = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        lines = [line for cell in cells for line in cell.splitlines()]
        sources.append((ast.parse("\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))), ""))
    roots = {name.split(".")[0] for tree, package in sources for name in imports(tree, package)}
    outside = {IMPORTED_AS.get(root, root) for root in roots - set(sys.stdlib_module_names) - OURS}
    assert {name for name in map(canonical, outside) if name not in {canonical(entry.name) for entry in known}} == set()


def canonical(name: str) -> str:
    return name.replace("_", "-").lower()


def links(path: Path) -> list[str]:
    """The targets of a page's links and pictures that are files of this checkout."""
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    else:
        text = path.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'<img[^>]+src="([^"]+)"', text)
    return [target.split("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]


def test_every_link_leads_somewhere() -> None:
    pages = [path for path in tracked() if path.suffix in {".md", ".ipynb"}]
    broken = [f"{page.name}: {link}" for page in pages for link in links(page) if not (page.parent / link).exists()]
    assert broken == []


def test_readme_and_makefile_know_the_same_commands() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):(?! export)", makefile, re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", readme)) == targets - {"setup", "format"}
    assert set(re.findall(r"^make ([a-z]+)", readme, re.MULTILINE)) <= targets
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_readme_says_how_a_terminal_finds_course_before_it_types_it() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w+\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    typed = [block for block in blocks if re.search(r"^course ", block, re.MULTILINE)]
    assert typed and all("activate" in re.split(r"^course ", block, flags=re.MULTILINE)[0] for block in typed)
    assert r".venv\Scripts\activate" in readme and '$env:COURSE_EDITION="full"' in readme


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize(
    ("target", "command"),
    [("lab", "jupyter lab --ip=127.0.0.1"), ("test", "python -m pytest"), ("course", "course run")],
)
def test_make_ends_in_the_command(target: str, command: str) -> None:
    assert f".venv/bin/{command}" in dry_run(target)


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_a_terminal_in_jupyterlab_finds_course() -> None:
    assert f'PATH="{ROOT}/.venv/bin:$PATH" .venv/bin/jupyter lab' in dry_run("lab")


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_lab_opens_the_learners_copies_once_they_are_made() -> None:
    assert f"/lab/tree/{copies.FOLDER.name}/00_welcome.ipynb" in dry_run("lab")
    assert ".venv/bin/course copies" in dry_run("lab", line=-2)
    assert f"{copies.FOLDER.name}/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def dry_run(target: str, *, line: int = -1) -> str:
    """The last command of a target, or another one, as make would give it to the shell."""
    # What an outer make was told must not reach this one.
    told = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "VENV", "ARGS", "PORT", "IP", "EXTRAS")
    environment = {name: value for name, value in os.environ.items() if name not in told}
    dry = ["make", "-n", target]
    shown = subprocess.run(dry, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    return shown.splitlines()[line]


PAGES = sorted((ROOT / "notebooks").glob("**/*.ipynb")) if (ROOT / "notebooks").is_dir() else []
PAGES = [page for page in PAGES if ".ipynb_checkpoints" not in page.parts]


@pytest.fixture(
    scope="module", params=PAGES, ids=lambda page: str(page.relative_to(ROOT / "notebooks").with_suffix(""))
)
def page(request: pytest.FixtureRequest):
    return notebook_runner.read(request.param)


def test_committed_cells_ran_without_an_error(page) -> None:
    cells = [cell for cell in page.cells if cell.cell_type == "code" and cell.source.strip()]
    assert [cell.source for cell in cells if cell.execution_count is None] == []
    numbers = [cell.execution_count for cell in cells]
    assert numbers == list(range(1, len(cells) + 1)), "not executed in one go: make course"
    expected = [cell for cell in cells if "raises-exception" not in cell.metadata.get("tags", [])]
    assert [o.ename for cell in expected for o in cell.outputs if o.output_type == "error"] == []


def test_committed_notebooks_hold_nothing_volatile(page) -> None:
    assert notebook_runner.normalise(copy.deepcopy(page)) == page, "write it with: make course"


def test_code_cells_are_short(page) -> None:
    cells = [cell.source for cell in page.cells if cell.cell_type == "code"]
    assert [cell for cell in cells if len(cell.splitlines()) > 30] == []
