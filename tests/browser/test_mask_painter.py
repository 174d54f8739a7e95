"""MaskPainter in a real JupyterLab: what is painted with mouse, touch, pen and keys is what Python reads."""

import io

import numpy as np
import pytest
from PIL import Image

from helpers import box_mask, ellipse_mask, grow, invert, shrink
from tests.browser.waiting import settled, two_frames


class Painter:
    """A MaskPainter on the screen, driven in pixels of its picture; `mask()` is what Python sees."""

    def __init__(self, notebook, size, index=0):
        self.notebook, self.page, self.size = notebook, notebook.page, size
        self.root = notebook.widget(".mask-painter", index)
        self.canvas = self.root.locator(".mp-canvas")
        self.root.locator(".mp-stage[style*=width]").wait_for()

    def at(self, x, y):
        """Where a point of the picture lies on the page, while the whole picture is seen."""
        self.canvas.scroll_into_view_if_needed()
        frame = self.canvas.bounding_box()
        return frame["x"] + x * frame["width"] / self.size[0], frame["y"] + y * frame["height"] / self.size[1]

    def drag(self, *points, button="left"):
        self.page.mouse.move(*self.at(*points[0]))
        self.page.mouse.down(button=button)
        for point in points[1:]:
            self.page.mouse.move(*self.at(*point), steps=4)
        self.page.mouse.up(button=button)

    def keys(self, *keys):
        self.canvas.focus()
        for key in keys:
            self.page.keyboard.press(key)

    def button(self, name):
        return self.root.get_by_role("button", name=name)

    def mask(self):
        """What Python has, once that is as much as the browser shows."""
        found = []

        def agrees():
            found[:] = [self._read()]
            return abs(float(self.status().split()[0]) - 100 * found[0].mean()) < 0.06

        settled(self.page, agrees, True)
        return found[0]

    def _read(self):
        assert self.notebook.python("painter.mask.save('mask.png'); print(painter.mask.mode)") == "L"
        with Image.open(self.notebook.lab.root / "mask.png") as mask:
            values = np.asarray(mask)
        assert set(np.unique(values)) <= {0, 255}
        assert values.shape == self.size[::-1]
        return values > 0

    def shown(self, x, y):
        """The colour of one point on the screen: picture, overlay and all."""
        left, top = self.at(x, y)
        clip = {"x": left, "y": top, "width": 1, "height": 1}
        return Image.open(io.BytesIO(self.page.screenshot(clip=clip))).convert("RGB").getpixel((0, 0))

    def status(self):
        return self.root.locator(".mp-status").inner_text()


def start(notebook, width, height, arguments):
    """Shows a new painter, called `painter`, over a white picture in the notebook's first cell."""
    Image.new("RGB", (width, height), "white").save(notebook.lab.root / "picture.png")
    notebook.write(0, f"from helpers import MaskPainter\npainter = MaskPainter('picture.png'{arguments})\npainter")
    notebook.run(0)
    return Painter(notebook, (width, height))


@pytest.fixture
def open_painter(shared_notebook):
    def open_(width=256, height=256, arguments=""):
        shared_notebook.write(1, "")
        return start(shared_notebook, width, height, arguments)

    yield open_
    shared_notebook.check()


def disc_along(size, a, b, radius):
    """The pixels whose centre is within `radius` of the line from a to b."""
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    a, b = np.asarray(a, float), np.asarray(b, float)
    along = ((x - a[0]) * (b - a)[0] + (y - a[1]) * (b - a)[1]) / max(((b - a) ** 2).sum(), 1e-9)
    along = along.clip(0, 1)
    return (x - a[0] - along * (b - a)[0]) ** 2 + (y - a[1] - along * (b - a)[1]) ** 2 <= radius**2


def white(mask):
    return np.asarray(mask) > 0


def test_a_stroke_reaches_python_and_can_be_undone(open_painter):
    painter = open_painter(arguments=", brush_size=40")
    assert painter.status() == "0.0 % to repaint · 256 × 256 px"
    painter.drag((60, 60), (180, 120))
    painted = painter.mask()
    assert (disc_along((256, 256), (60, 60), (180, 120), 18) <= painted).all()
    assert (painted <= disc_along((256, 256), (60, 60), (180, 120), 22)).all()
    assert painter.status() == f"{100 * painted.mean():.1f} % to repaint · 256 × 256 px"

    painter.keys("e")
    painter.drag((60, 60), (60, 61))
    erased = painter.mask()
    assert not erased[60, 60] and erased[120, 180] and (erased <= painted).all()

    painter.button("Undo").click()
    assert np.array_equal(painter.mask(), painted)
    painter.button("Undo").click()
    assert not painter.mask().any()
    painter.button("Undo").click(force=True)  # nothing left: nothing happens
    painter.keys("Control+Shift+Z")
    assert np.array_equal(painter.mask(), painted)
    painter.keys("Control+y", "Control+z")
    assert np.array_equal(painter.mask(), painted)


def test_every_tool_paints_its_shape(open_painter):
    painter = open_painter(128, 128)  # seen at 4 screen pixels to one: corners can be met exactly
    painter.button("Rectangle").click()
    painter.drag((10, 12), (60, 50))
    assert np.array_equal(painter.mask(), white(box_mask((128, 128), (10, 12, 60, 50))))
    assert painter.button("Rectangle").get_attribute("aria-pressed") == "true"

    painter.drag((20, 20), (40, 40), button="right")  # erases a window into it
    painter.button("Fill").click()
    painter.drag((30, 30))
    assert np.array_equal(painter.mask(), white(box_mask((128, 128), (10, 12, 60, 50))))

    painter.button("Clear").click()
    painter.button("Ellipse").click()
    painter.drag((100, 90), (40, 30))  # from any corner
    assert np.array_equal(painter.mask(), white(ellipse_mask((128, 128), (40, 30, 100, 90))))

    painter.page.keyboard.down("Shift")
    painter.button("Clear").click()
    painter.drag((10, 10), (60, 30))
    painter.page.keyboard.up("Shift")
    assert np.array_equal(painter.mask(), white(ellipse_mask((128, 128), (10, 10, 60, 60))))

    painter.button("Clear").click()
    painter.button("Lasso").click()
    painter.drag((10, 10), (90, 10), (90, 90))
    painted = painter.mask()
    assert painted[20, 80] and not painted[80, 20]
    assert painted.sum() == pytest.approx(80 * 80 / 2, rel=0.05)

    painter.drag((100, 100))  # a click encloses nothing
    assert np.array_equal(painter.mask(), painted)
    painter.page.mouse.move(*painter.at(10, 100))
    painter.page.mouse.down()
    painter.page.mouse.move(*painter.at(100, 120), steps=3)
    painter.keys("Escape")
    painter.page.mouse.up()
    assert np.array_equal(painter.mask(), painted)


def test_a_stroke_looks_as_it_will_while_it_is_drawn(open_painter):
    painter = open_painter(300, 200, arguments=", brush_size=24")
    painter.button("Zoom in").click()
    painter.page.mouse.move(*painter.at(60, 60))
    painter.page.mouse.down()
    for point in ((150, 80), (90, 140), (220, 30)):
        painter.page.mouse.move(*painter.at(*point), steps=6)
    two_frames(painter.page)
    drawn_in_parts = painter.canvas.evaluate("canvas => canvas.toDataURL()")
    painter.page.mouse.up()
    two_frames(painter.page)
    assert drawn_in_parts == painter.canvas.evaluate("canvas => canvas.toDataURL()")


def test_the_whole_mask_is_changed_as_in_python(open_painter):
    painter = open_painter(256, 200)
    painter.notebook.python("from helpers import box_mask\npainter.mask = box_mask(painter.image, (0, 40, 90, 120))")
    start = box_mask((256, 200), (0, 40, 90, 120))
    for name, oracle in (
        ("Grow by 2 px", lambda mask: grow(mask, 2)),
        ("Shrink by 2 px", lambda mask: shrink(mask, 2)),
        ("Invert", invert),
        ("Clear", lambda mask: mask.point(lambda value: 0)),
    ):
        painter.button(name).click()
        assert np.array_equal(painter.mask(), white(oracle(start))), name
        painter.button("Undo").click()
    assert np.array_equal(painter.mask(), white(start))


def test_it_is_painted_by_keyboard_alone(open_painter):
    painter = open_painter(128, 128, arguments=", brush_size=9")
    page, cells = painter.page, painter.page.locator(".jp-Cell").count()
    painter.keys("Space")  # the cursor begins in the middle
    painted = painter.mask()
    assert np.array_equal(painted, disc_along((128, 128), (64.5, 64.5), (64.5, 64.5), 4.5))

    painter.keys("ArrowUp")
    page.keyboard.down("Space")
    painter.keys("Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight")
    page.keyboard.up("Space")
    line = painter.mask() & ~painted
    assert line.any() and np.ptp(np.argwhere(line)[:, 1]) == 11  # a disc 9 wide, moved by 3

    painter.keys("Delete", "r", "Space", *["Shift+ArrowLeft"] * 5, *["Shift+ArrowDown"] * 3, "Space")
    box = np.argwhere(painter.mask())
    assert (np.ptp(box, axis=0) + 1).tolist() == [4, 6] and len(box) == 24

    painter.keys("i", "f", "Enter")  # the cursor lies on what is now a hole
    assert painter.mask().all()

    painter.keys("Delete", "l", "Space", *["ArrowLeft"] * 8, "Space", *["ArrowDown"] * 8, "Enter")
    assert 100 < painter.mask().sum() < 400

    painter.keys("b", "]", "]", "[")
    assert painter.notebook.python("print(painter.tool, painter.brush_size)") == "brush 11"

    painter.keys("d", "d", "x", "a", "v", "m", "0", "0", "ArrowDown", "Enter", "Enter")
    assert page.locator(".jp-Cell").count() == cells  # the notebook did not take them for its own
    assert page.locator(".jp-Dialog").count() == 0


def test_help_and_brush_size(open_painter):
    painter = open_painter()
    painter.button("Keys and gestures").click()
    assert painter.root.get_by_text("erase with any tool").is_visible()
    slider = painter.root.get_by_label("Brush size").last
    slider.press("End")
    assert painter.notebook.python("print(painter.brush_size)") == "128"


@pytest.mark.parametrize(("width", "height", "ratio"), [(333, 201, 2), (1024, 640, 1.5), (90, 700, 1), (1500, 8, 1)])
def test_any_size_at_any_pixel_ratio(open_painter, width, height, ratio):
    painter = open_painter(width, height, arguments=", tool='rectangle'")
    devtools = painter.page.context.new_cdp_session(painter.page)
    screen = {"width": 1280, "height": 1000, "deviceScaleFactor": ratio, "mobile": False}
    devtools.send("Emulation.setDeviceMetricsOverride", screen)  # the window moves to another screen
    painter.canvas.hover()
    frame = painter.canvas.bounding_box()
    painter.page.wait_for_function(
        "([canvas, ratio]) => canvas.width === Math.round(canvas.getBoundingClientRect().width * ratio)",
        arg=[painter.canvas.element_handle(), ratio],
    )
    assert painter.canvas.evaluate("canvas => canvas.width") == round(frame["width"] * ratio)
    assert frame["width"] <= painter.root.bounding_box()["width"]
    if min(frame["width"], frame["height"]) > 48:  # a narrower picture lies in the middle of its frame
        assert frame["width"] / frame["height"] == pytest.approx(width / height, rel=0.02)
    else:
        frame["y"] += (frame["height"] - height * frame["width"] / width) / 2
    scale = frame["width"] / width
    painter.page.mouse.move(frame["x"] + 10 * scale, frame["y"] + 2 * scale)
    painter.page.mouse.down()
    painter.page.mouse.move(frame["x"] + 70 * scale, frame["y"] + 9000)  # beyond the picture: cut at its edge
    painter.page.mouse.up()
    rows, columns = np.nonzero(painter.mask())
    slack = 1 + 1 / scale
    assert abs(columns.min() - 10) <= slack and abs(columns.max() - 69) <= slack
    assert abs(rows.min() - 2) <= slack and rows.max() == height - 1
    devtools.send("Emulation.setDeviceMetricsOverride", screen | {"deviceScaleFactor": 1})


def test_zoom_keeps_the_point_under_the_pointer(open_painter):
    painter = open_painter(256, 256, arguments=", brush_size=1")
    spot = painter.at(200.5, 60.5)
    painter.page.mouse.move(*spot)
    painter.page.keyboard.down("Control")
    for _ in range(6):
        painter.page.mouse.wheel(0, -100)
    painter.page.keyboard.up("Control")
    two_frames(painter.page)
    assert painter.button("Fit the image").inner_text() == "3200 %"
    painter.page.mouse.click(*spot)
    assert np.argwhere(painter.mask()).tolist() == [[60, 200]]
    painter.keys("0", "h")
    assert painter.button("Fit the image").inner_text() == "200 %"
    painter.drag((10, 10), (100, 100))  # moving the picture paints nothing
    assert painter.mask().sum() == 1


def test_python_sets_the_mask_and_the_browser_shows_it(open_painter):
    painter = open_painter(arguments=", colour='#ff0000', opacity=0.5")
    painter.drag((30, 200), (60, 200))
    stroke = painter.mask()
    assert painter.shown(150, 100) == (255, 255, 255)
    painter.notebook.python("from helpers import box_mask\npainter.mask = box_mask(painter.image, (100, 50, 200, 150))")
    red, green, blue = painter.shown(150, 100)
    assert red == 255 and abs(green - 128) <= 2 and abs(blue - 128) <= 2
    assert painter.shown(45, 200) == (255, 255, 255)
    painter.keys("Control+z")
    assert np.array_equal(painter.mask(), stroke)
    painter.notebook.python("painter.colour = '#0000ff'; painter.opacity = 1; painter.tool = 'lasso'")
    assert painter.shown(45, 200) == (0, 0, 255)
    assert painter.button("Lasso").get_attribute("aria-pressed") == "true"


def test_fingers_and_pens_paint(open_painter):
    painter = open_painter(256, 256, arguments=", brush_size=40")
    devtools = painter.page.context.new_cdp_session(painter.page)

    def touch(kind, *points):
        spots = [dict(zip("xy", painter.at(*point), strict=True), id=i) for i, point in enumerate(points)]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": spots})

    touch("touchStart", (60, 60))
    touch("touchMove", (120, 60))
    touch("touchEnd")
    painted = painter.mask()
    assert painted[60, 60] and painted[60, 120] and not painted[60, 170]

    touch("touchStart", (100, 128))  # two fingers zoom and paint nothing, though one comes first
    touch("touchStart", (100, 128), (156, 128))
    touch("touchMove", (60, 128), (196, 128))
    touch("touchEnd")
    assert painter.button("Fit the image").inner_text() != "200 %"
    painter.button("Fit the image").click()
    assert np.array_equal(painter.mask(), painted)

    def pen(kind, point, force):
        x, y = painter.at(*point)
        event = {"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
        devtools.send("Input.dispatchMouseEvent", event | {"pointerType": "pen", "force": force})

    widths = []
    for row, force in ((130, 0.2), (210, 1.0)):
        for kind, x in (("mousePressed", 60), ("mouseMoved", 200), ("mouseReleased", 200)):
            pen(kind, (x, row), force)
        widths.append(int(painter.mask()[:, 120][row - 25 : row + 25].sum()))
    assert widths[1] == 40 and widths[0] < 25  # a light hand draws a thinner line


def slide(painter, name, value):
    """Moves a slider with the keyboard, to its start and from there in steps of 5."""
    painter.root.get_by_role("slider", name=name).focus()
    painter.page.keyboard.press("Home")
    for _ in range(round(value / 5)):
        painter.page.keyboard.press("ArrowRight")


def levels(painter, agrees):
    """The mask that Python has, 0 to 255, once `agrees` says that it is the one that was painted."""
    found = []

    def read():
        painter.notebook.python("painter.mask.save('soft.png')")
        with Image.open(painter.notebook.lab.root / "soft.png") as mask:
            found[:] = [np.asarray(mask).astype(int)]
        return bool(agrees(found[0]))

    settled(painter.page, read, True)
    return found[0]


def test_a_soft_brush_and_a_level_make_a_soft_mask(open_painter):
    painter = open_painter(256, 256, arguments=", brush_size=80, colour='#ff0000', opacity=1")
    slide(painter, "Softness of the brush", 100)
    slide(painter, "Level: how white", 60 - 5)
    painter.drag((100, 128), (100, 129))
    soft = levels(painter, lambda mask: mask.any())
    assert abs(soft[128, 100] - 0.6 * 255) <= 1 and abs(soft[128, 120] - 0.3 * 255) <= 6
    assert soft[128, 138] < 5 and soft[128, 142] == 0
    row = soft[128, 100:145]
    assert (np.diff(row) <= 0).all() and len(np.unique(row)) > 30
    red, green, blue = painter.shown(120.5, 128.5)  # as strong as the mask is
    assert red == 255 and green == blue and abs(green - 0.7 * 255) < 10
    assert "% to repaint" in painter.status()
    cut = (soft >= 128).mean()
    assert abs(float(painter.status().split()[0]) - 100 * cut) < 0.06
    painter.drag((100, 128), (100, 130), button="right")  # the soft brush erases softly too
    erased = levels(painter, lambda mask: mask[128, 100] == 0)
    assert 0 < erased[128, 120] < soft[128, 120]
    painter.keys("Control+z")
    assert np.array_equal(levels(painter, lambda mask: mask[128, 100] > 0), soft)


def test_a_click_selects_an_object(open_painter):
    painter = open_painter(128, 128)
    notebook = painter.notebook
    notebook.write(
        0, "from helpers import MaskPainter, load_mask, select\npainter = MaskPainter('lighthouse')\npainter"
    )
    notebook.run(0)
    painter = Painter(notebook, (128, 128))
    left, top, right, bottom = eval(notebook.python("print(load_mask('lighthouse').getbbox())"))
    painter.button("Select an object").click()
    painter.drag((left - 3, top - 3), (right + 3, bottom + 3))
    settled(painter.page, lambda: bool(painter.mask().any()), True)
    boxed = painter.mask()
    notebook.python(f"select(painter.image, box={(left - 3, top - 3, right + 3, bottom + 3)}).save('asked.png')")
    with Image.open(notebook.lab.root / "asked.png") as asked:
        assert np.array_equal(boxed, np.asarray(asked) > 0)
    painter.keys("Control+z")
    assert not painter.mask().any()
    painter.keys("w")
    x, y = (left + right) // 2, (top + bottom) // 2
    painter.drag((x, y))
    settled(painter.page, lambda: bool(painter.mask().any()), True)
    assert painter.mask()[y, x]
