"""Print the lines of each package, as `make check` does at its end: small is a feature."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def lines(folder: str, *suffixes: str) -> Counter[str]:
    """Lines of the files below `folder`, by the folder or module right under it."""
    found: Counter[str] = Counter()
    for file in (ROOT / folder).rglob("*"):
        if file.suffix in suffixes and "node_modules" not in file.parts:
            found[file.relative_to(ROOT / folder).parts[0]] += file.read_text(encoding="utf-8").count("\n")
    return found


if __name__ == "__main__":
    tables = [("helpers", (".py", ".toml")), ("tests", (".py",)), ("helpers/widgets/js", (".js", ".css"))]
    for folder, suffixes in tables:
        counts = lines(folder, *suffixes)
        parts = ", ".join(
            f"{name} {count:,}" for name, count in sorted(counts.items()) if not name.endswith((".js", ".css"))
        )
        print(f"{folder}: {sum(counts.values()):,} lines{f' ({parts})' if parts else ''}")
