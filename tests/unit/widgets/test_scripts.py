"""The widgets' JavaScript: how it is joined, that it computes what Python computes, and its own tests."""

import base64
import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline
from PIL import Image, ImageDraw

from helpers import MaskPainter, box_mask, ellipse_mask, grow, shrink
from helpers.common.validation import check_strength
from helpers.widgets import assets
from tests.support.node import NODE

WIDGETS = ("compare", "explorer", "mask_painter", "steps", "token_weights")
CASES = Path(__file__).parents[2] / "js" / "cases"
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed: the JavaScript's own tests need it")


def read(name):
    return json.loads((CASES / name).read_text("utf-8"))


def drawn(rows):
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def rows_of(mask):
    return ["".join(".#"[int(pixel)] for pixel in row) for row in np.asarray(mask) > 0]


# ---- Joining


@pytest.mark.parametrize("name", WIDGETS)
def test_a_widget_is_one_text_that_fetches_nothing(name):
    script, style = assets.esm(name), assets.css(name)
    assert not re.search(r"^import\b|https?://|\bfetch\(|\burl\(|import\(\s*[^\"]", script, re.MULTILINE)
    assert not re.search(r"https?://|@import|url\(", style)
    assert len(re.findall(r"^export ", script, re.MULTILINE)) == 1 and "\nexport default " in script


@pytest.fixture
def modules(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "FOLDER", tmp_path)

    def write(**texts):
        for name, text in texts.items():
            (tmp_path / f"{name}.js").write_text(text, "utf-8")

    return write


def test_what_a_module_imports_comes_before_it_and_once(modules):
    modules(
        low="export const one = 1;\n",
        left='import { one } from "./low.js";\nexport const two = one + 1;\n',
        right='import { one } from "./low.js";\nexport async function three() { return one + 2; }\n',
        top='import { two } from "./left.js";\nimport { three } from "./right.js";\nexport default [two, three];\n',
    )
    joined = "const one = 1; const two = one + 1; async function three() { return one + 2; }"
    assert assets.esm("top").split() == f"{joined} export default [two, three];".split()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"a": 'import { b } from "./b.js";\nlet c;\n', "b": "export let b;\nlet c;\n"}, "c is defined in both b.js"),
        ({"a": 'import b from "./b.js";\n', "b": "export default 1;\n"}, "is of another form than can be joined"),
        ({"a": "export { b };\n"}, "is of another form than can be joined"),
    ],
)  # fmt: skip
def test_what_cannot_be_joined_is_refused(modules, texts, message):
    modules(**texts)
    with pytest.raises(ValueError, match=re.escape(message)):
        assets.esm("a")


# ---- The same numbers as in Python: tests/js runs the same cases


def disc_along(size, a, b, radius):
    """The pixels whose centre is within `radius` of the line from a to b."""
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    a, b = np.asarray(a, float), np.asarray(b, float)
    along = ((x - a[0]) * (b - a)[0] + (y - a[1]) * (b - a)[1]) / max(((b - a) ** 2).sum(), 1e-9)
    along = along.clip(0, 1)
    return (x - a[0] - along * (b - a)[0]) ** 2 + (y - a[1] - along * (b - a)[1]) ** 2 <= radius**2


def wound(size, points):
    """The pixels whose centre a closed outline goes round at all."""
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    winding = np.zeros(size[::-1], int)
    for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
        left = (bx - ax) * (y - ay) - (x - ax) * (by - ay)
        winding += ((ay <= y) & (by > y) & (left > 0)).astype(int) - ((by <= y) & (ay > y) & (left < 0)).astype(int)
    return winding != 0


def flooded(start, point):
    image = Image.fromarray(start * np.uint8(255)).copy()
    ImageDraw.floodfill(image, tuple(int(value) for value in point), 255)
    return image


def xy(point):
    return point["x"], point["y"]


ORACLES = {
    "paintRectangle": lambda start, box, _: box_mask(start.shape[::-1], tuple(box.values())),
    "paintEllipse": lambda start, box, _: ellipse_mask(start.shape[::-1], tuple(box.values())),
    "paintLine": lambda start, a, b, radius, _: disc_along(start.shape[::-1], xy(a), xy(b), radius),
    "paintPolygon": lambda start, points, _: wound(start.shape[::-1], [xy(point) for point in points]),
    "paintArea": lambda start, point, _: flooded(start, xy(point)),
    "grow": lambda start, radius: grow(start, radius),
    "shrink": lambda start, radius: shrink(start, radius),
}


@pytest.mark.parametrize("case", read("masks.json"), ids=lambda case: case["name"])
def test_the_shapes_are_the_masks_of_the_course(case):
    assert rows_of(ORACLES[case["call"]](drawn(case["start"]), *case["arguments"])) == case["expected"]


@pytest.mark.parametrize(("steps", "strength", "run"), read("steps.json"))
def test_the_steps_that_run_are_those_of_diffusers(steps, strength, run):
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(steps)
    pipe = SimpleNamespace(scheduler=scheduler)
    assert StableDiffusionInpaintPipeline.get_timesteps(pipe, steps, strength, "cpu")[1] == run
    if run:
        assert check_strength(strength, steps) == run


@needs_node
@pytest.mark.parametrize("levels", [2, 256], ids=["hard", "soft"])
def test_both_sides_write_and_read_the_same_bits(levels):
    mask = np.random.default_rng(5).integers(0, levels, (23, 37), np.uint8) * np.uint8(255 if levels == 2 else 1)
    painter = MaskPainter(Image.new("RGB", (37, 23)), mask)
    code = """
        const { deflate, inflate, pack, unpack } = await import(process.argv[1]);
        const data = new Uint8Array(37 * 23);
        unpack(await inflate(Uint8Array.from(Buffer.from(process.argv[2], "base64"))), data);
        const written = Buffer.from(await deflate(pack(data))).toString("base64");
        console.log(JSON.stringify({ data: Array.from(data), written }));
    """
    arguments = [(assets.FOLDER / "bits.js").as_uri(), base64.b64encode(painter.mask_bits).decode()]
    found = json.loads(subprocess.check_output([NODE, "--input-type=module", "-e", code, *arguments], text=True))
    assert found["data"] == mask.ravel().tolist()
    painter.mask_bits = base64.b64decode(found["written"])
    assert np.array_equal(painter.mask, mask)


@needs_node
def test_the_scripts_own_tests_pass(repository):
    files = sorted(str(file) for file in (repository / "tests" / "js").glob("*.test.js"))
    done = subprocess.run([NODE, "--test", *files], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
