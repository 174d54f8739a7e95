"""TokenWeights in a real JupyterLab: sliders by hand and by keys, drafts, the picture without weights, the prompt."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.browser.waiting import settled

CELL = """from helpers import TokenWeights, load
w = TokenWeights(load("sd15"), "a red castle at night", num_inference_steps=4, guidance_scale=4.0)
w.wait(60)
w"""


class Sliders:
    """A TokenWeights on the screen."""

    def __init__(self, notebook, index=0):
        self.notebook, self.page = notebook, notebook.page
        self.root = notebook.widget(".token-weights", index)
        self.rest()

    def slider(self, word):
        return self.root.get_by_role("slider", name=f"Weight of {word}")

    def button(self, name):
        return self.root.get_by_role("button", name=name)

    def value(self, word):
        return float(self.slider(word).input_value())

    def written(self):
        return self.root.locator(".tw-written").inner_text()

    def rest(self):
        """Wait until a full picture is there."""
        self.page.wait_for_function(
            "node => node.querySelector('.tw-frame').ariaBusy === 'false'"
            " && !node.querySelector('.tw-status').textContent"
            " && node.querySelector('img').complete && node.querySelector('img').naturalWidth",
            arg=self.root.element_handle(),
            timeout=60_000,
        )

    def shown(self):
        """The pixels of the picture on the screen."""
        box = self.root.locator(".tw-picture")
        box.scroll_into_view_if_needed()
        return np.asarray(Image.open(io.BytesIO(box.screenshot())).convert("RGB"), float)

    def python(self, expression):
        return self.notebook.python(f"print({expression})", timeout=120)


@pytest.fixture(scope="module")
def sliders(shared_notebook):
    shared_notebook.write(0, CELL)
    shared_notebook.run(0, timeout=180)
    return Sliders(shared_notebook)


@pytest.fixture(autouse=True)
def afresh(sliders):
    """Every weight at 1 before a test, and no complaint after it."""
    sliders.python("(setattr(w, 'plain', False), setattr(w, 'weights', [1.0] * 5), w.wait(60))")
    sliders.rest()
    yield
    sliders.notebook.check()


def test_keys_move_a_slider_and_the_picture_follows(sliders):
    before = sliders.shown()
    sliders.slider("night").focus()
    for _ in range(10):
        sliders.page.keyboard.press("ArrowLeft")
    sliders.page.wait_for_function("() => document.querySelector('.tw-written').textContent.includes('night')")
    sliders.root.get_by_text("a red castle at (night)0.5", exact=True).wait_for()
    sliders.rest()
    assert sliders.value("night") == 0.5 and sliders.value("red") == 1
    assert sliders.python("w.wait(60), w.weights, w.weighted") == (
        "True [1.0, 1.0, 1.0, 1.0, 0.5] a red castle at (night)0.5"
    )
    assert np.abs(sliders.shown() - before).mean() > 1


def test_the_mouse_drags_and_the_full_picture_comes_on_release(sliders):
    slider = sliders.slider("red")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    sliders.page.mouse.move(box["x"] + box["width"] / 2, middle)
    sliders.page.mouse.down()
    for share in (0.6, 0.7, 0.8, 0.9):
        sliders.page.mouse.move(box["x"] + share * box["width"], middle, steps=3)
    assert sliders.value("red") > 1.5
    sliders.page.mouse.up()
    sliders.rest()
    kept = sliders.value("red")
    assert sliders.python("w.wait(60), w.weights[1], w._state['kind']") == f"True {kept:g} full"
    assert sliders.value("red") == kept


def test_one_word_or_all_go_back_to_one(sliders):
    sliders.python("setattr(w, 'weights', [1.0, 1.5, 0.5, 1.0, 1.0])")
    sliders.root.get_by_text("a (red)1.5 (castle)0.5 at night", exact=True).wait_for()
    assert (sliders.value("red"), sliders.value("castle")) == (1.5, 0.5)
    sliders.button("red back to 1").click()
    sliders.root.get_by_text("a red (castle)0.5 at night", exact=True).wait_for()
    sliders.button("All back to 1").click()
    sliders.root.locator(".tw-written", has_text="a red castle at night").wait_for()
    assert sliders.button("All back to 1").is_disabled()
    assert sliders.python("w.weights") == "[1.0, 1.0, 1.0, 1.0, 1.0]"


def test_the_prompt_is_copied_without_a_clipboard_too(sliders):
    sliders.python("setattr(w, 'weights', [1.0, 1.5, 1.0, 1.0, 1.0])")
    sliders.root.get_by_text("a (red)1.5 castle at night", exact=True).wait_for()
    sliders.page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined, configurable: true })")
    sliders.button("Copy prompt").click()
    sliders.button("Copied").wait_for()
    sliders.rest()  # the picture that came meanwhile must not undo the selection
    assert sliders.page.evaluate("String(window.getSelection())") == "a (red)1.5 castle at night"
    sliders.page.evaluate("delete navigator.clipboard")


def test_without_weights_and_back(sliders):
    before = sliders.shown()
    sliders.python("(setattr(w, 'weights', [1.0, 1.0, 1.0, 1.0, 0.0]), w.wait(60))")
    sliders.rest()
    weighed = sliders.shown()
    plain = sliders.button("Without weights")
    plain.click()
    sliders.root.locator(".tw-badge", has_text="without weights").wait_for()
    assert settled(sliders.page, lambda: sliders.python("w.wait(60), w.plain"), "True True") == "True True"
    sliders.rest()
    assert plain.get_attribute("aria-pressed") == "true" and sliders.value("night") == 0
    assert np.abs(sliders.shown() - weighed)[40:].mean() > 1  # below the badge
    assert np.abs(sliders.shown() - before)[40:].mean() < 1
