"""The course as pages: every link leads somewhere, every image is described, and pages load nothing from elsewhere."""

from __future__ import annotations

import html.parser
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

import helpers
from docs.site import build, course
from tests.support.served import Served, require, serve

ROOT = Path(__file__).parents[2]
PAGES = ("index", "notebooks/05_parameters", "notebooks/solutions/02_masks", "docs/glossary", "api", "search")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("myst_nb", "sphinx_book_theme", npm="axe-core")
    made = tmp_path_factory.mktemp("course")
    course.build_course(made)
    (made / "play").mkdir()
    (made / "play" / "index.html").write_text("<html></html>", encoding="utf-8")  # test_play.py builds the real one
    return made


class Page(html.parser.HTMLParser):
    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()
        self.images: list[dict] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list) -> None:
        found = dict(attributes)
        self.names |= {found[key] for key in ("id", "name") if found.get(key)}
        self.links += [found[key] for key in ("href", "src") if found.get(key)]
        if tag == "img":
            self.images.append(found)


@pytest.fixture(scope="module")
def pages(folder: Path) -> dict[Path, Page]:
    return {file: Page(file) for file in sorted(folder.rglob("*.html")) if "_static" not in file.parts}


def test_every_chapter_and_solution_is_a_page(folder) -> None:
    notebooks = sorted((ROOT / "notebooks").glob("**/[0-9]*.ipynb"))
    missing = [file.name for file in notebooks if not (folder / file.relative_to(ROOT)).with_suffix(".html").is_file()]
    assert missing == [] and len(notebooks) > 20


def test_no_link_between_the_pages_is_broken(pages) -> None:
    broken = []
    for file, page in pages.items():
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = file if not parts.path else (file.parent / urllib.parse.unquote(parts.path)).resolve()
            target = target / "index.html" if target.is_dir() else target
            lost = (
                parts.fragment and target in pages and urllib.parse.unquote(parts.fragment) not in pages[target].names
            )
            if not target.is_file() or (lost and parts.fragment not in ("", "search")):
                broken.append(f"{file.name}: {link}")
    assert broken == []


def test_every_image_is_described(pages) -> None:
    bare = [
        f"{file.name}: {one.get('src')}" for file, page in pages.items() for one in page.images if not one.get("alt")
    ]
    assert bare == []
    described = {one["alt"] for page in pages.values() for one in page.images}
    assert len(described) > 100, "each in words of its own"


def test_the_reference_has_every_public_name(pages) -> None:
    page = next(page for file, page in pages.items() if file.name == "api.html")
    assert {name.lower().replace("_", "-") for name in helpers.__all__} <= {
        name.replace("_", "-") for name in page.names
    }


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    with serve(folder) as running:
        yield running


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_quiet_and_accessible(chromium, served, name, scheme) -> None:
    context = chromium.new_context(color_scheme=scheme)
    page, errors, strays = context.new_page(), [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: message.type == "error" and errors.append(message.text))
    page.on("request", lambda sent: sent.url.startswith((served.url, "data:")) or strays.append(sent.url))
    page.goto(f"{served.url}{name}.html")
    page.evaluate((build.npm_package("axe-core") / "axe.min.js").read_text(encoding="utf-8"))
    # The theme's own chrome is its authors' matter: what the course says is read.
    found = page.evaluate(
        "axe.run(document.querySelector('article') ? 'article' : 'main').then(({ violations }) => violations)"
    )
    context.close()
    assert (errors, strays) == ([], [])
    serious = [(one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")]
    assert serious == []


@pytest.mark.parametrize("name", ["01_basics", "03_popular_models", "05_parameters"])
def test_a_chapter_is_no_wider_than_a_phone(chromium, served, name) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(f"{served.url}notebooks/{name}.html")
    width = page.evaluate("document.documentElement.scrollWidth")
    context.close()
    assert width == 390
