"""Build the site: the course to read and, under play/, the page that paints.

python -m docs.site.build [FOLDER]
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

from docs.site import course, export

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = HERE / "play"
WIDGETS = ROOT / "helpers" / "widgets" / "js"
# Where the page's modules find what is not theirs: in the repository, and in the built page, which has copies.
PLACES = {"../../../helpers/widgets/js/": "./widgets/", '"onnxruntime-web/wasm"': '"./runtime/ort.wasm.min.mjs"'}
RUNTIME = "onnxruntime-web"
RUNTIME_MODULES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs")
RUNTIME_BINARY = "ort-wasm-simd-threaded.wasm"
KEPT_ELSEWHERE = (".gz",)  # the worker keeps models itself


def npm_package(name: str) -> Path:
    """The folder of an npm package; FileNotFoundError where it is not there at the version that package.json pins."""
    pins = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))
    wanted, folder = {**pins["dependencies"], **pins["devDependencies"]}[name], ROOT / "node_modules" / name
    told = folder / "package.json"
    if not told.is_file() or json.loads(told.read_text(encoding="utf-8"))["version"] != wanted:
        raise FileNotFoundError(f"{name} {wanted} is not in {folder}. Run: npm install --no-package-lock")
    return folder


def build_page(folder: Path, *, models: Path | None = None) -> None:
    """Write the page that paints into `folder`; models: a folder that `export` has already filled."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(PAGE, folder)
    shutil.copytree(WIDGETS, folder / "widgets")
    for module in folder.glob("*.js"):
        text = module.read_text(encoding="utf-8")
        for place, copied in PLACES.items():
            text = text.replace(place, copied)
        module.write_text(text, encoding="utf-8")
    if models is None:
        export.export(folder / "models")
    else:
        shutil.copytree(models, folder / "models")
    _add_runtime(folder)
    _list_files(folder)


def _add_runtime(folder: Path) -> None:
    """ONNX Runtime Web beside the page: its modules, and its WebAssembly among the large files."""
    source, target = npm_package(RUNTIME) / "dist", folder / "runtime"
    target.mkdir()
    for name in RUNTIME_MODULES:
        shutil.copy(source / name, target / name)
    told = folder / "models" / "models.json"
    facts = json.loads(told.read_text(encoding="utf-8"))
    facts["files"]["runtime"] = export.pack_bytes(
        (source / RUNTIME_BINARY).read_bytes(), folder / "models" / f"{RUNTIME_BINARY}.gz"
    )
    told.write_text(json.dumps(facts), encoding="utf-8")


def _list_files(folder: Path) -> None:
    """Tell the service worker which files the page consists of, and a name that changes with any of them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in KEPT_ELSEWHERE)
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
    names = [path.relative_to(folder).as_posix() for path in files if path.name not in ("sw.js", "index.html")]
    worker = folder / "sw.js"
    text = worker.read_text(encoding="utf-8").replace('"VERSION"', json.dumps(digest))
    worker.write_text(text.replace('["FILES"]', json.dumps(["./", *names])), encoding="utf-8")


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "site"
    shutil.rmtree(target, ignore_errors=True)
    course.build_course(target)
    build_page(target / "play")
    large = sum(path.stat().st_size for path in (target / "play" / "models").glob("*.gz"))
    print(f"The site is in {target}. Look at it: {sys.executable} -m http.server -d {target}")
    print(f"The page that paints downloads at most {large / 1e6:.1f} MB.")


if __name__ == "__main__":
    main()
