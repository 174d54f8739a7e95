"""A real JupyterLab on 127.0.0.1 and a real Chromium, for what only a browser can show.

`lab` is started once a session; `open_notebook` gives a test a notebook, kernel and page of its own; `shared_notebook`
is one for all tests of a module:

    def test_it(open_notebook):
        notebook = open_notebook("x = 1", "x")
        notebook.run(0)
        assert notebook.run(1) == "1"

Nothing may leave 127.0.0.1, and the page may log no error: both are asserted when the test ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
APPUTILS = "@jupyterlab/apputils-extension:"


@dataclass
class Lab:
    """A running JupyterLab: `url`, and `root`, the folder it serves."""

    url: str
    root: Path

    def setting(self, plugin: str, **values) -> None:
        """Writes one plugin's user settings; pages opened afterwards follow them."""
        body = json.dumps({"raw": json.dumps(values)}).encode()
        request = urllib.request.Request(f"{self.url}lab/api/settings/{plugin}", body, method="PUT")
        request.add_header("Content-Type", "application/json")
        urllib.request.urlopen(request, timeout=30).close()

    def sessions(self) -> list[dict]:
        with urllib.request.urlopen(f"{self.url}api/sessions", timeout=30) as answer:
            return json.load(answer)

    def wait_for_kernel(self, name: str, *, timeout: float = 60) -> None:
        """Waits until the page and the kernel know each other; a cell that is run before that is lost."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for session in self.sessions():
                kernel = session["kernel"]
                if session["path"] == name and kernel["connections"] and kernel["execution_state"] == "idle":
                    return
            time.sleep(0.1)
        raise AssertionError(f"the kernel of {name} was not ready within {timeout} s")

    def stop_kernel(self, name: str) -> None:
        """Shuts down the kernel of one notebook."""
        for session in self.sessions():
            if session["path"] == name:
                request = urllib.request.Request(f"{self.url}api/sessions/{session['id']}", method="DELETE")
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(request, timeout=30).close()


@dataclass
class Notebook:
    """A notebook in a JupyterLab page. `page` is Playwright's."""

    page: Any
    lab: Lab
    path: Path
    errors: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its path as the server says it."""
        return self.path.relative_to(self.lab.root).as_posix()

    def cell(self, index: int):
        return self.page.locator(".jp-Notebook:visible .jp-CodeCell").nth(index)

    def run(self, index: int, *, timeout: float = 60) -> str:
        """Runs one cell with Ctrl+Enter and returns the text that it printed or returned. An error fails the test."""
        cell = self.cell(index)
        prompt = cell.locator(".jp-InputArea-prompt")
        before = prompt.inner_text()
        cell.locator(".jp-InputArea-editor .cm-content").click()
        self.page.keyboard.press("Control+Enter")
        deadline = time.monotonic() + timeout
        while (now := prompt.inner_text()) == before or not now.strip("[]: ").isdigit():
            if time.monotonic() > deadline:
                raise AssertionError(f"cell {index} did not end within {timeout} s (prompt {now!r})")
            self.page.wait_for_timeout(50)
        trouble = cell.locator('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]')
        if trouble.count():
            raise AssertionError(trouble.first.inner_text())
        texts = cell.locator(".jp-OutputArea-output:has(> pre)")
        return "\n".join(texts.nth(i).inner_text().strip() for i in range(texts.count()))

    def write(self, index: int, code: str) -> None:
        """Puts `code` into a cell."""
        self.cell(index).locator(".jp-InputArea-editor .cm-content").fill(code)

    def python(self, code: str, *, timeout: float = 60) -> str:
        """Runs `code` in the notebook's last cell, which every notebook has for this, and returns its text."""
        last = self.page.locator(".jp-Notebook:visible .jp-CodeCell").count() - 1
        self.write(last, code)
        return self.run(last, timeout=timeout)

    def widget(self, selector: str, index: int = 0):
        """A widget's element, once it is drawn."""
        found = self.page.locator(f".jp-Notebook:visible {selector}").nth(index)
        found.wait_for(state="visible", timeout=30_000)
        return found

    def save(self) -> None:
        """Saves the notebook to `path`."""
        self.page.keyboard.press("Control+s")
        self.page.wait_for_function("() => !document.querySelector('.jp-mod-dirty')")

    def check(self) -> None:
        """Fails if the page asked for anything outside 127.0.0.1, or logged an error."""
        assert self.strays == [], "the page asked for something outside 127.0.0.1"
        assert self.errors == [], "the page logged errors"


def browser_path() -> str | None:
    named = os.environ.get("COURSE_CHROMIUM")
    if named:
        return named
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    return None  # Playwright's own, where it was installed


def _unavailable(reason: str) -> None:
    message = f"no browser for this test: {reason}. Install Debian's chromium, or run: playwright install chromium"
    if os.environ.get("COURSE_REQUIRE_BROWSER") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    """Playwright's browser. One a module, not a session: its event loop would stand in the way of other tests'."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        _unavailable("the Python package playwright is missing")
    with sync_playwright() as playwright:
        path = browser_path()
        flags = [*FLAGS, "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        try:
            browser = playwright.chromium.launch(executable_path=path, args=flags)
        except Error as error:
            _unavailable(f"{path or 'no chromium on PATH'} ({str(error).strip().splitlines()[0]})")
        yield browser
        browser.close()


@contextlib.contextmanager
def _started(command: list[str], runtime: Path, **process) -> Iterator[str]:
    """The address of a Jupyter server that runs meanwhile; which port it found is noted in its runtime folder."""
    log, deadline = runtime.with_suffix(".log"), time.monotonic() + 120
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **process)
    try:
        while not (url := _listening(runtime)):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


def _listening(runtime: Path) -> str | None:
    for note in runtime.glob("jpserver-*.json"):
        with contextlib.suppress(OSError, ValueError):  # it is noted a little before it answers
            url = f"http://127.0.0.1:{json.loads(note.read_text())['port']}/"
            urllib.request.urlopen(f"{url}api/status", timeout=5).close()
            return url
    return None


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Lab]:
    """A JupyterLab with settings, data and notebooks of its own, at the newest code of this checkout."""
    home = tmp_path_factory.mktemp("jupyter")
    root = home / "notebooks"
    root.mkdir()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(repository), os.environ.get("PYTHONPATH")])),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "NO_PROXY": "127.0.0.1",
    }
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        environment[name] = str(home / name.lower())
    for name in ("SETTINGS", "WORKSPACES"):
        environment[f"JUPYTERLAB_{name}_DIR"] = str(home / name.lower())
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--ip=127.0.0.1"]
    command += ["--IdentityProvider.token=", "--allow-root"]
    command += [f"--ServerApp.root_dir={root}", "--ServerApp.disable_check_xsrf=True"]
    command += ["--LabApp.extension_manager=readonly"]
    command += [f"--LabApp.extra_labextensions_path={repository / 'helpers' / 'widgets' / 'lab'}"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    with _started(command, Path(environment["JUPYTER_RUNTIME_DIR"]), cwd=root, env=environment) as url:
        running = Lab(url, root)
        running.setting(f"{APPUTILS}notification", fetchNews="false", checkForUpdates=False, doNotDisturbMode=True)
        yield running


class Opener:
    """Opens notebooks, each with a kernel and a page of its own; see `open_notebook`."""

    def __init__(self, lab: Lab, chromium, name: str) -> None:
        self.lab, self.chromium, self.name = lab, chromium, name
        self.opened: list[Notebook] = []

    def __call__(self, *cells: str, theme: str = "light", **context) -> Notebook:
        themes = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
        self.lab.setting(f"{APPUTILS}themes", theme=themes[theme])
        content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (*cells, "")])
        content.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = self.lab.root / f"{self.name}_{len(list(self.lab.root.glob('*.ipynb')))}.ipynb"
        nbformat.write(content, path)
        return self.show(path, **context)

    def show(self, path: Path, *, width: int = 1280, height: int = 1000, **context) -> Notebook:
        """Opens a notebook that is there already; `context` goes to Playwright's new_context."""
        page = self.chromium.new_context(viewport={"width": width, "height": height}, **context).new_page()
        notebook = Notebook(page, self.lab, path)
        self.opened.append(notebook)
        page.on("pageerror", lambda error: notebook.errors.append(str(error)))
        page.on("console", lambda message: message.type == "error" and notebook.errors.append(message.text))
        page.on("request", lambda sent: _is_local(sent.url) or notebook.strays.append(sent.url))
        page.goto(f"{self.lab.url}lab/tree/{urllib.parse.quote(notebook.name)}?reset", timeout=120_000)
        page.locator(".jp-Notebook:visible .jp-CodeCell").first.wait_for(timeout=120_000)
        page.locator("#jp-main-statusbar", has_text="| Idle").wait_for(timeout=120_000)
        self.lab.wait_for_kernel(notebook.name)
        return notebook

    def close(self) -> None:
        for notebook in self.opened:
            notebook.page.context.close()
            self.lab.stop_kernel(notebook.name)
        for notebook in self.opened:
            notebook.check()


@pytest.fixture
def open_notebook(chromium, lab: Lab, request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Opens a new notebook with these cells, and one empty cell after them, in a page of its own."""
    opener = Opener(lab, chromium, request.node.originalname)
    yield opener
    opener.close()


@pytest.fixture(scope="module")
def shared_notebook(chromium, lab: Lab, request: pytest.FixtureRequest) -> Iterator[Notebook]:
    """One notebook for all tests of a module, with two empty cells: opening one takes some seconds."""
    opener = Opener(lab, chromium, request.path.stem)
    yield opener("")
    opener.close()


def _is_local(url: str) -> bool:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme in ("data", "blob", "about") or parts.hostname == "127.0.0.1"
