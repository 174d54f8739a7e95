"""The widgets' JavaScript and CSS: modules that import one another on disk, one text for the browser."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent / "js"
_IMPORT = re.compile(r'^import \{ [\w, ]+ \} from "\./(\w+)\.js";\n', re.MULTILINE)
_DEFINED = re.compile(r"^(?:export )?(?:async )?(?:function|class|const|let) (\w+)", re.MULTILINE)


def css(*names: str) -> str:
    """The stylesheets of a widget and of what it is made of, after what all widgets share."""
    return "".join((FOLDER / f"{part}.css").read_text("utf-8") for part in ("base", *names))


def esm(name: str) -> str:
    """The module `name` after all that it imports, as one: in a page there is no folder to look for "./dom.js" in.

    An import is written `import { a, b } from "./module.js";` on one line. ValueError says which module cannot be
    joined: another form of import or export, or one name at the top of two modules.
    """
    texts: dict[str, str] = {}
    owners: dict[str, str] = {}

    def add(module: str) -> None:
        if module in texts:
            return
        text = (FOLDER / f"{module}.js").read_text("utf-8")
        for other in _IMPORT.findall(text):
            add(other)
        for defined in _DEFINED.findall(text):
            if owners.setdefault(defined, module) != module:
                raise ValueError(f"{defined} is defined in both {owners[defined]}.js and {module}.js.")
        texts[module] = _IMPORT.sub("", text)
        if odd := re.search(r"^(import\b|export (?!default|async|function|class|const|let)).*", texts[module], re.M):
            raise ValueError(f"{module}.js: {odd[0]!r} is of another form than can be joined.")

    add(name)
    *before, last = texts.values()
    return "\n".join([re.sub(r"^export ", "", text, flags=re.MULTILINE) for text in before] + [last])
