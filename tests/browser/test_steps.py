"""Steps in a real JupyterLab: the slider by hand and by keys, the panels that follow, words, and the reasons."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.browser.waiting import settled, two_frames

CELL = """from helpers import Steps, load, load_image, load_mask
call = {"image": load_image("castle"), "mask_image": load_mask("castle"), "num_inference_steps": 5}
s = Steps(load("sd15", task="inpaint"), prompt="a red boat", **call)
s"""
DRAWN = "node => [...node.querySelectorAll('img')].every((image) => image.complete && image.naturalWidth)"


class Shown:
    """A Steps on the screen."""

    def __init__(self, notebook, index=0):
        self.notebook, self.page = notebook, notebook.page
        self.root = notebook.widget(".steps", index)
        self.slider = self.root.get_by_role("slider", name="Step")

    def text(self):
        return self.root.locator(".st-text").inner_text()

    def panel(self, title):
        return self.root.locator("figure", has_text=title)

    def pixels(self, title):
        """What a panel shows, as numbers."""
        self.page.wait_for_function(DRAWN, arg=self.root.element_handle())
        two_frames(self.page)
        frame = self.panel(title).locator(".st-frame")
        frame.scroll_into_view_if_needed()
        image = Image.open(io.BytesIO(frame.screenshot())).convert("RGB")
        return np.asarray(image.resize((128, 128)), float)  # a pixel more or less, as the page rounds

    def keys(self, *keys):
        self.slider.focus()
        for key in keys:
            self.page.keyboard.press(key)

    def python(self, expression="s.step, s.word"):
        return self.notebook.python(f"print({expression})")


@pytest.fixture(scope="module")
def steps(shared_notebook):
    shared_notebook.write(0, CELL)
    shared_notebook.run(0, timeout=180)
    yield Shown(shared_notebook)
    shared_notebook.check()


def test_it_opens_at_the_last_step_with_every_panel(steps):
    assert steps.text().startswith("Step 5 of 5: t = ")
    titles = steps.root.locator("figcaption").all_inner_texts()
    assert titles[:4] == ["Noised latents", "Predicted clean image", "What guidance changed", "What the mask brings in"]
    assert titles[4] == "The image that the call made" and titles[5].startswith("Where “") and len(titles) == 6
    apart = np.abs(steps.pixels("Predicted clean image") - steps.pixels("The image that the call made"))
    assert apart.mean() < 12  # the call's own mask lies between them


def test_the_keys_lead_through_the_steps_and_every_panel_follows(steps):
    steps.keys("End")
    panels = ["Noised latents", "Predicted clean image", "What guidance changed", "What the mask brings in", "Where “"]
    late = {name: steps.pixels(name) for name in panels}
    steps.keys("Home")
    assert steps.text().startswith("Step 1 of 5: t = ") and "image 0." in steps.text()
    assert steps.slider.get_attribute("aria-valuetext") == steps.text()
    for name in panels:
        assert np.abs(late[name] - steps.pixels(name)).mean() > 2, name
    steps.keys("ArrowRight", "ArrowRight", "ArrowLeft")
    assert steps.text().startswith("Step 2 of 5")
    assert settled(steps.page, lambda: steps.python("s.step"), "2") == "2"
    steps.keys("End")
    assert np.array_equal(late["Predicted clean image"], steps.pixels("Predicted clean image"))


def test_the_buttons_and_python_move_it_and_stop_at_the_ends(steps):
    steps.notebook.python("s.step = 4")
    assert steps.text().startswith("Step 4 of 5")
    for _ in range(3):
        steps.root.get_by_role("button", name="Step on").click()
    assert steps.text().startswith("Step 5 of 5")
    steps.root.get_by_role("button", name="Step back").click()
    assert steps.text().startswith("Step 4 of 5")


def test_the_slider_follows_the_mouse(steps):
    box = steps.slider.bounding_box()
    steps.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert steps.text().startswith("Step 3 of 5")


def test_a_word_is_chosen_and_its_map_shown(steps):
    steps.keys("Home", "ArrowRight")
    chip = {word: steps.root.get_by_role("button", name=f"Where “{word}” looks") for word in ("a", "red", "boat")}
    maps = {}
    for word, button in chip.items():
        button.focus()
        steps.page.keyboard.press("Enter")
        assert button.get_attribute("aria-pressed") == "true"
        assert steps.root.locator("[aria-pressed=true]").count() == 1
        maps[word] = steps.pixels(f"Where “{word}” looks")
    assert np.abs(maps["a"] - maps["boat"]).mean() > 2
    assert settled(steps.page, lambda: steps.python("s.word"), "2") == "2"
    steps.notebook.python("s.word = 1")
    assert chip["red"].get_attribute("aria-pressed") == "true"


def test_what_is_missing_says_why(steps):
    steps.notebook.write(1, "Steps(load('sd15'), prompt='a boat', guidance_scale=1.0, num_inference_steps=2)")
    steps.notebook.run(1, timeout=120)
    other = Shown(steps.notebook, 1)
    assert "guidance is off" in other.panel("What guidance changed").inner_text()
    assert "has no mask" in other.panel("What the mask brings in").inner_text()
    assert other.root.locator("img").count() == 4
