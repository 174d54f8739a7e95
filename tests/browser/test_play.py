"""The page that paints, in a real Chromium: the pipelines' images, by hand and by link, offline, and with bad input."""

from __future__ import annotations

import base64
import copy
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image

from docs.site import build
from helpers import box_mask, ellipse_mask
from tests.browser.waiting import settled
from tests.support.served import Served, require, serve

MINUTES = 60_000
PATIENCE = 3 * MINUTES  # of a busy machine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("onnx", npm=build.RUNTIME)
    made = tmp_path_factory.mktemp("site")
    build.build_page(made / "play")
    return made


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    with serve(folder) as running:
        yield running


class Visit:
    """A page of its own context; `check` fails if it logged an error or asked for something outside 127.0.0.1."""

    def __init__(self, chromium: Any, served: Served, link: str = "", *, script: str = "", **context: Any) -> None:
        self.served, self.errors, self.strays = served, [], []
        self.context = chromium.new_context(**context)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        if script:
            self.page.add_init_script(script)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        self.page.on("request", lambda sent: self._is_ours(sent.url) or self.strays.append(sent.url))
        self.page.goto(f"{served.url}play/{link}")

    def _is_ours(self, url: str) -> bool:
        return url.startswith((self.served.url, "blob:", "data:"))

    def wait(self, state: str = "done") -> None:
        self.page.wait_for_selector(f'#play[data-state="{state}"]')

    def asked(self) -> int:
        """How many images have been asked for; "running" may be over before one looks for it."""
        return self.page.evaluate("import('./play.js').then(({ page }) => page.newest)")

    @property
    def alert(self) -> str:
        return self.page.locator("[role=alert]").inner_text()

    @property
    def status(self) -> str:
        return self.page.locator(".ex-status").inner_text()

    def pixels(self) -> np.ndarray:
        data = self.page.evaluate(
            """async () => { const { page } = await import("./play.js"), { png } = await import("./images.js");
            return btoa(String.fromCharCode(...await png(page.result.pixels))); }"""
        )
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)

    def paint(self, settings: dict[str, Any], mask: np.ndarray | None = None) -> tuple[np.ndarray, str]:
        """The image that the page makes with these settings, and the Python code that it shows for it."""
        levels = None if mask is None else base64.b64encode(mask.astype(np.uint8).tobytes()).decode()
        code = self.page.evaluate(
            """async ([settings, levels]) => {
                const { page } = await import("./play.js");
                await page.choose(settings);
                if (levels) page.painter.setMask(Uint8Array.from(atob(levels), (letter) => letter.charCodeAt(0)));
                page.ask();
                while (page.result?.id !== page.newest) {
                    if (page.root.dataset.state === "failed") throw new Error(page.alert.textContent);
                    await new Promise((done) => setTimeout(done, 20));
                }
                return (await page.codeView()).querySelector("code").textContent;
            }""",
            [settings, levels],
        )
        return self.pixels(), code

    def check(self) -> None:
        self.context.close()
        assert self.errors == []
        assert self.strays == []


@pytest.fixture
def visit(chromium, served) -> Iterator[Any]:
    opened: list[Visit] = []

    def open_page(*args: Any, **options: Any) -> Visit:
        opened.append(Visit(chromium, served, *args, **options))
        return opened[-1]

    yield open_page
    for one in opened:
        one.check()


def soft_mask() -> np.ndarray:
    x = np.arange(128)
    return np.clip(300 - 6 * np.hypot(x[None] - 70, x[:, None] - 64), 0, 255)


HARD = np.asarray(ellipse_mask((128, 128), (30, 40, 100, 110)))
CALLS = [
    ({"scheduler": scheduler, "prompt": prompt, "num_inference_steps": steps, "image": image}, mask)
    for scheduler in ("UniPC", "DDIM", "Euler")
    for prompt in ("a red boat", "a black cat with glowing eyes")
    for steps in (3, 8)
    for image, mask in (("seashore", HARD), ("meadow", soft_mask()))
]
CALLS += [
    ({"strength": 0.6, "num_inference_steps": 8, "seed": 2**32 - 1, "negative_prompt": "blurry, deformed"}, HARD),
    ({"strength": 0.6, "num_inference_steps": 8, "scheduler": "Euler", "keep_unmasked": False}, HARD),
    ({"guidance_scale": 1, "num_inference_steps": 4, "scheduler": "DDIM"}, HARD),
    ({"mode": "image2image", "image": "castle", "strength": 0.5, "num_inference_steps": 8}, None),
    ({"mode": "image2image", "image": "castle", "strength": 1, "num_inference_steps": 4, "scheduler": "Euler"}, None),
    ({"mode": "text2image", "prompt": "a white house in a meadow", "num_inference_steps": 8, "seed": 7}, None),
]
PLAIN = {"mode": "inpaint", "image": "seashore", "prompt": "a red boat", "negative_prompt": "", "strength": 1}
PLAIN |= {"guidance_scale": 7.5, "seed": 1, "scheduler": "UniPC", "keep_unmasked": True}


def image_of(code: str) -> np.ndarray:
    names: dict[str, Any] = {}
    exec(code, names)  # the page's own code, as a reader would run it
    return np.asarray(names["result"].convert("RGB")).astype(int)


def encode_exactly(vae: Any, image: Any) -> Any:
    """AutoencoderKL.encode in float64: its roundings change more of the image than the page does.

    Encoded on one thread and on two, one of these images differs in 0.2 % of its values in PyTorch itself.
    """
    encoded = ENCODE(copy.deepcopy(vae).double(), image.double())
    encoded.latent_dist = DiagonalGaussianDistribution(encoded.latent_dist.parameters.float())
    return encoded


ENCODE = AutoencoderKL.encode


def test_the_code_that_the_page_shows_makes_the_pages_image(visit, monkeypatch) -> None:
    opened = visit()
    opened.wait()
    shares = {}
    for number, (settings, mask) in enumerate(CALLS):
        found, code = opened.paint(PLAIN | settings, mask)
        apart = np.abs(found - image_of(code))
        assert apart.max() <= 1, f"{settings}: {apart.max()} of 255"
        with monkeypatch.context() as patch:
            patch.setattr(AutoencoderKL, "encode", encode_exactly)
            apart = np.abs(found - image_of(code))
        assert apart.max() <= 1, f"{settings}: {apart.max()} of 255"
        shares[number] = float((apart > 0).mean())
    assert {number: share for number, share in shares.items() if share > 0.001} == {}
    print(f"{len(CALLS)} calls: at most {max(shares.values()):.4%} of the values differ, by 1 of 255")


def test_a_visitor_paints_drags_and_comes_back_by_the_link(visit) -> None:
    opened = visit("#image=meadow&num_inference_steps=4")
    page = opened.page
    opened.wait()
    before, asked = opened.pixels(), opened.asked()
    page.locator(".mp-canvas").scroll_into_view_if_needed()
    box = page.locator(".mp-canvas").bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 60, steps=5)
    page.mouse.up()
    assert settled(page, lambda: opened.asked() > asked, True)
    opened.wait()
    painted = opened.pixels()
    assert np.abs(painted - before)[5:20, 10:40].max() > 5, "the result follows the brush"

    slider = page.locator('[data-name="seed"] input[type="range"]')
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    seed = "import('./play.js').then(({ page }) => page.asked.settings.seed)"
    assert settled(page, lambda: page.evaluate(seed), 6) == 6
    opened.wait()
    dragged = opened.pixels()
    assert np.abs(dragged - painted).max() > 5

    page.get_by_role("button", name="Copy link").click()
    assert settled(page, lambda: page.evaluate("location.hash.includes('mask=')"), True)
    again = visit(page.evaluate("location.hash"))
    again.wait()
    assert np.array_equal(again.pixels(), dragged)


def test_the_keyboard_paints_compares_and_looks_inside(visit) -> None:
    opened = visit("#image=road&num_inference_steps=3", color_scheme="dark", viewport={"width": 390, "height": 800})
    page = opened.page
    opened.wait()
    page.locator(".mp-canvas").focus()
    for key in ("Delete", *["ArrowUp"] * 3, "Enter", *["ArrowRight"] * 4, "Enter"):
        page.keyboard.press(key)
    painted = "import('./play.js').then(({ page }) => page.painter.mask.some(Boolean))"
    assert settled(page, lambda: page.evaluate(painted), True)
    opened.wait()
    page.get_by_role("button", name="Compare", exact=True).press("Enter")
    handle = page.locator(".cm-handle")
    handle.press("Home")
    assert handle.get_attribute("aria-valuenow") == "0"
    page.get_by_role("button", name="Look inside").press("Enter")
    slider = page.locator(".st-slider")
    slider.press("Home")
    assert "Step 1 of 3" in page.locator(".st-text").inner_text()
    images = page.locator(".st-panel img")  # which the browser decodes after they were set
    widths = "images => images.map((image) => image.naturalWidth)"
    wanted = [16, 128, 16, 128]
    assert settled(page, lambda: images.evaluate_all(widths), wanted) == wanted
    assert all(images.evaluate_all("images => images.map((image) => image.alt)"))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than a phone"


def test_after_one_visit_it_paints_offline(visit) -> None:
    opened = visit("#num_inference_steps=2")
    opened.wait()
    first = opened.pixels()
    opened.page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    opened.context.set_offline(True)
    opened.page.reload()
    opened.wait()
    assert np.array_equal(opened.pixels(), first)


def test_a_download_that_breaks_off_resumes(visit, served) -> None:
    name = "unet-sd15-inpaint.onnx.gz"
    served.cut[name], served.sent[name] = 2, 0
    served.ranges.clear()
    opened = visit("#num_inference_steps=2")
    opened.wait()
    assert any(line.startswith(name) for line in served.ranges)
    opened.errors = [error for error in opened.errors if "ERR_CONTENT_LENGTH_MISMATCH" not in error]


def test_a_server_that_is_gone_is_said_and_tried_again(visit, served) -> None:
    name = "vae_decoder.onnx.gz"
    served.cut[name] = 4
    opened = visit("#num_inference_steps=2")
    opened.wait("failed")
    assert "vae_decoder.onnx.gz broke off" in opened.alert
    opened.page.get_by_role("button", name="Try again").click()
    opened.wait()
    opened.errors = [error for error in opened.errors if "ERR_CONTENT_LENGTH_MISMATCH" not in error]


def test_without_webassembly_a_sentence_says_so(visit) -> None:
    opened = visit(script="delete window.WebAssembly")
    opened.wait("failed")
    assert "WebAssembly is switched off" in opened.alert


def large_png(width: int, height: int) -> bytes:
    """A PNG of one colour: few bytes, many pixels."""
    chunk = lambda kind, data: (  # noqa: E731
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    )
    rows = zlib.compress((b"\0" + bytes(-(-width // 8))) * height, 1)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_bad_input_gets_a_sentence(visit) -> None:
    opened = visit("#num_inference_steps=2&strength=often&image=teapot&colour=red&scheduler=Magic&mask=%20")
    page = opened.page
    opened.wait()
    for said in ("strength=often: expected a number from 0.05 to 1", "image=teapot: expected one of seashore",
                 "colour=red: this page has no such setting", "scheduler=Magic: expected one of UniPC, DDIM, Euler",
                 "mask= : expected a mask"):  # fmt: skip
        assert said in opened.alert
    files = page.locator('input[type="file"]')
    files.set_input_files({"name": "text.png", "mimeType": "image/png", "buffer": b"no image at all"})
    page.locator("[role=alert]", has_text="text.png is no image").wait_for()
    files.set_input_files({"name": "huge.png", "mimeType": "image/png", "buffer": large_png(8000, 5000)})
    page.locator("[role=alert]", has_text="huge.png has 40 megapixels").wait_for()
    page.locator('[data-name="prompt"] textarea').fill("cat " * 1250)
    opened.wait("refused")
    assert "5,000 characters" in opened.status
    page.locator('[data-name="prompt"] textarea').fill("a cat")
    opened.wait()
    page.get_by_role("button", name="Clear the mask").click()
    opened.wait("refused")
    assert "Nothing is painted yet" in opened.status


def own_image() -> dict[str, Any]:
    mine = io.BytesIO()
    Image.fromarray(np.full((90, 160, 3), (200, 40, 90), np.uint8)).save(mine, "PNG")
    return {"name": "mine.png", "mimeType": "image/png", "buffer": mine.getvalue()}


def test_an_image_of_ones_own_is_painted_and_stays(visit) -> None:
    opened = visit("#num_inference_steps=2")
    opened.wait()
    sent: list[str] = []
    opened.page.on("request", lambda request: sent.append(request.method))
    opened.page.locator('input[type="file"]').set_input_files(own_image())
    opened.wait("refused")
    box = np.asarray(box_mask((128, 128), (40, 40, 80, 80)))
    opened.paint({"num_inference_steps": 2}, box)
    painted = opened.pixels()
    assert (painted[0, 0] == (200, 40, 90)).all()
    assert set(sent) <= {"GET"}

    opened.page.get_by_role("button", name="Copy link").click()
    assert settled(opened.page, lambda: "Your image stays in this tab" in opened.status, True)
    again = visit(opened.page.evaluate("location.hash"))
    again.wait()
    assert "an image of its sender's own, which no link carries" in again.alert
    again.page.locator('input[type="file"]').set_input_files(own_image())
    mask = "import('./play.js').then(({ page }) => page.settings.image === 'own' && [...page.painter.mask])"
    wanted = box.ravel().tolist()
    assert settled(again.page, lambda: again.page.evaluate(mask), wanted) == wanted
    again.wait()
    assert np.array_equal(again.pixels(), painted)


# What reads and writes image files, and what of it the page's main thread did.
COUNTED = """window.onMain = [];
for (const [owner, name] of [[OffscreenCanvas.prototype, "convertToBlob"], [HTMLCanvasElement.prototype, "toBlob"],
                             [window, "createImageBitmap"]]) {
    const real = owner[name];
    owner[name] = function (...given) { window.onMain.push(name); return real.apply(this, given); };
}"""


def test_the_worker_reads_and_writes_image_files(visit) -> None:
    opened = visit("#num_inference_steps=2", script=COUNTED)
    page = opened.page
    opened.wait()
    assert "createImageBitmap" in page.evaluate("onMain"), (
        "the course's images are small, and shown before the worker runs"
    )
    page.evaluate("onMain.length = 0")
    page.get_by_role("button", name="Look inside").click()
    page.locator(".st-panel img").first.wait_for()
    page.locator('input[type="file"]').set_input_files(
        {"name": "large.png", "mimeType": "image/png", "buffer": large_png(4000, 3000)}
    )
    opened.wait("refused")
    assert page.evaluate("onMain") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit, scheme) -> None:
    require(npm="axe-core")
    opened = visit("#num_inference_steps=2", color_scheme=scheme)
    opened.wait()
    axe = (build.npm_package("axe-core") / "axe.min.js").read_text(encoding="utf-8")
    opened.page.evaluate(axe)
    opened.page.get_by_role("button", name="Code", exact=True).click()
    opened.page.locator(".ex-script").wait_for()
    found = opened.page.evaluate("axe.run().then(({ violations }) => violations)")
    serious = [(one["id"], [node["html"] for node in one["nodes"]]) for one in found
               if one["impact"] in ("serious", "critical")]  # fmt: skip
    assert serious == []
