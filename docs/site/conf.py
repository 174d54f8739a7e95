"""Sphinx's settings for the course's pages. The sources are copies that docs/site/course.py prepares."""

import os
import re
from pathlib import Path

# Whoever hosts the course says its address once, in the README's first line; a workflow may say the repository's.
_README = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
_FOUND = re.search(r"https://([\w-]+)\.github\.io/([\w-]+)/", _README)
_GUESSED = f"https://github.com/{_FOUND[1]}/{_FOUND[2]}" if _FOUND else ""
REPOSITORY = os.environ.get("COURSE_REPOSITORY", _GUESSED)

project = "Inpainting by hand"
author = "the course's contributors"
copyright = "the course's contributors; Apache-2.0"
extensions = ["myst_nb"]
nb_execution_mode = "off"
nb_ipywidgets_js: dict = {}  # no script from elsewhere; a widget's output carries its image
nb_mime_priority_overrides = [
    ("html", "application/vnd.jupyter.widget-view+json", None),
    ("html", "image/jpeg", 5),
    ("html", "image/png", 6),
]
myst_heading_anchors = 3
suppress_warnings = [
    "mystnb.unknown_mime_type",
    "myst.xref_missing",
    "myst.header",
    "misc.highlighting_failure",
    "toc.not_included",
]
html_theme = "sphinx_book_theme"
html_static_path = ["static"]
html_css_files = ["course.css"]
html_favicon = "icon.svg"
html_context = {"default_mode": "auto"}
html_title = "Inpainting by hand"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "repository_url": REPOSITORY,
    "repository_branch": "main",
    "use_repository_button": True,
    "path_to_docs": "",
    "use_download_button": False,
    "launch_buttons": {
        "binderhub_url": "https://mybinder.org",
        "notebook_interface": "jupyterlab",
    },
    "home_page_in_toc": False,
    "navbar_persistent": [],  # the sidebar has the search
}
