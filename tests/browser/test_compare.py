"""Compare in a real JupyterLab: the divider by mouse, finger and keys, the choice of pictures, zoom and themes."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.browser.waiting import settled, two_frames

LOADED = "node => [...node.querySelectorAll('img')].every((image) => image.complete && image.naturalWidth)"
COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255), "green": (0, 128, 0)}


class Comparison:
    """A Compare on the screen."""

    def __init__(self, notebook, index=0):
        self.notebook, self.page = notebook, notebook.page
        self.root = notebook.widget(".compare", index)
        self.stage, self.handle = self.root.locator(".cm-stage"), self.root.get_by_role("slider")
        self.root.locator(".cm-stage[style*=width]").wait_for()
        self.page.wait_for_function(LOADED, arg=self.root.element_handle())

    def at(self, x, y=0.25):
        """Where a point of the stage, in shares of its sides, lies on the page."""
        self.stage.scroll_into_view_if_needed()
        box = self.stage.bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def drag(self, start, end):
        self.page.mouse.move(*self.at(start))
        self.page.mouse.down()
        self.page.mouse.move(*self.at(end), steps=5)
        self.page.mouse.up()

    def keys(self, *keys):
        self.handle.focus()
        for key in keys:
            self.page.keyboard.press(key)

    def button(self, name):
        return self.root.get_by_role("button", name=name)

    def now(self):
        """Where the divider says it is, in percent."""
        return int(self.handle.get_attribute("aria-valuenow"))

    def python(self):
        return [float(value) for value in self.notebook.python("print(c.position, c.left, c.right)").split()]

    def shown(self, x, y=0.25):
        """The colour of one point on the screen, once its pictures are there."""
        self.page.wait_for_function(LOADED, arg=self.root.element_handle())
        two_frames(self.page)
        left, top = self.at(x, y)
        clip = {"x": left, "y": top, "width": 1, "height": 1}
        return Image.open(io.BytesIO(self.page.screenshot(clip=clip))).convert("RGB").getpixel((0, 0))


CELL = """from PIL import Image
from helpers import Compare
flat = lambda colour, size=(128, 96): Image.new("RGB", size, colour)
c = Compare({arguments})
c"""


def start(notebook, arguments):
    notebook.write(0, CELL.format(arguments=arguments))
    notebook.run(0)
    return Comparison(notebook)


@pytest.fixture
def open_compare(shared_notebook):
    def open_(arguments="flat('red'), flat('blue')"):
        shared_notebook.write(1, "")
        return start(shared_notebook, arguments)

    yield open_
    shared_notebook.check()


def test_the_divider_follows_the_mouse(open_compare):
    compare = open_compare()
    assert compare.now() == 50
    assert (compare.shown(0.4), compare.shown(0.6)) == (COLOURS["red"], COLOURS["blue"])
    compare.drag(0.5, 0.75)
    assert compare.now() == 75 and compare.shown(0.6) == COLOURS["red"] and compare.shown(0.9) == COLOURS["blue"]
    compare.page.mouse.click(*compare.at(0.2))
    assert compare.now() == 20 and compare.shown(0.3) == COLOURS["blue"]
    compare.drag(0.2, 1.4)
    assert compare.now() == 100
    assert settled(compare.page, compare.python, [1.0, 0, 1]) == [1.0, 0, 1]


def test_the_divider_follows_the_keys_and_says_so(open_compare):
    compare = open_compare("flat('red'), flat('blue'), titles=['old', 'new']")
    assert compare.handle.get_attribute("aria-label") == "Divider between old and new"
    compare.keys("ArrowRight", "ArrowRight", "ArrowLeft")
    assert compare.now() == 51
    compare.keys("Shift+ArrowLeft", "PageUp", "ArrowUp", "ArrowDown", "PageDown")
    assert compare.now() == 41
    assert compare.handle.get_attribute("aria-valuetext") == "41 % old, 59 % new"
    compare.keys("Home")
    assert compare.now() == 0 and compare.shown(0.05) == COLOURS["blue"]
    compare.keys("ArrowLeft", "End")
    assert compare.now() == 100 and compare.shown(0.95) == COLOURS["red"]
    assert settled(compare.page, compare.python, [1.0, 0, 1]) == [1.0, 0, 1]


def test_any_two_of_several_are_compared(open_compare):
    compare = open_compare("flat('red'), flat('blue'), flat('green'), titles=['r', 'b', 'g']")
    compare.root.get_by_label("Right image").select_option("g")
    assert compare.shown(0.75) == COLOURS["green"] and compare.shown(0.25) == COLOURS["red"]
    compare.button("Swap").click()
    assert compare.shown(0.75) == COLOURS["red"] and compare.shown(0.25) == COLOURS["green"]
    assert compare.handle.get_attribute("aria-label") == "Divider between g and r"
    assert settled(compare.page, compare.python, [0.5, 2, 0]) == [0.5, 2, 0]
    compare.notebook.python("c.left, c.right, c.position = 1, 2, 0.9")
    assert compare.now() == 90 and compare.shown(0.8) == COLOURS["blue"] and compare.shown(0.95) == COLOURS["green"]


def test_zoom_shows_pixels_as_they_are(open_compare):
    compare = open_compare("Image.effect_noise((64, 48), 90).convert('RGB'), flat('blue', (64, 48)), position=1.0")
    compare.button("Zoom in").click()
    compare.keys(*"+" * 8)
    assert compare.button("Zoom in").get_attribute("aria-disabled") == "true"
    assert compare.button("Fit the image").inner_text() == "1600 %"
    box = compare.stage.bounding_box()
    assert (box["width"], box["height"]) == (1024, 768)
    two_frames(compare.page)
    left, top = compare.root.locator(".cm-mat").bounding_box()["x"] + 40, compare.at(0, 0.5)[1]
    clip = {"x": left, "y": top, "width": 64, "height": 64}
    pixels = np.asarray(Image.open(io.BytesIO(compare.page.screenshot(clip=clip))).convert("L"))
    assert len(np.unique(pixels)) <= 25  # five squares by five at the most, with no shade between them
    compare.keys("-")
    assert compare.button("Fit the image").inner_text() == "1200 %"
    compare.keys("0")
    assert compare.stage.bounding_box()["width"] <= compare.root.bounding_box()["width"]


def test_a_smaller_picture_lies_on_the_larger(open_compare):
    compare = open_compare("flat('red', (64, 48)), flat('blue', (256, 192))")
    assert (compare.shown(0.02, 0.98), compare.shown(0.98, 0.98)) == (COLOURS["red"], COLOURS["blue"])


def test_a_finger_drags_the_divider(open_notebook):
    notebook = open_notebook("", has_touch=True)
    compare = start(notebook, "flat('red'), flat('blue')")
    compare.page.touchscreen.tap(*compare.at(0.3))
    assert compare.now() == 30
