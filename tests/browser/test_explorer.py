"""Explorer in a real JupyterLab, on the miniature: what hands do, what is seen, and what Python then knows."""

from __future__ import annotations

import base64
import io
import json
import re

import pytest
from PIL import Image, PngImagePlugin

from helpers.catalog import miniatures

SETUP = """from helpers import load, load_image, load_mask, Explorer, MaskPainter
pipe = load("sd15-inpaint")
image, mask = load_image("castle"), load_mask("castle")"""
SOON = 120_000  # milliseconds: for what a model makes on a busy machine


class Explored:
    """An Explorer on the screen; `state()` is what Python knows."""

    def __init__(self, notebook, index=0):
        self.notebook, self.page = notebook, notebook.page
        self.root = notebook.widget(".explorer", index)

    def slider(self, name):
        return self.root.get_by_role("slider", name=name, exact=True)

    def button(self, name):
        return self.root.get_by_role("button", name=name)

    def status(self, text):
        self.root.locator(".ex-status", has_text=re.compile(text)).wait_for(timeout=SOON)

    def thumbs(self):
        return self.root.locator(".ex-thumb[data-number]")

    def values(self):
        return json.loads(
            self.notebook.python("import json; print(json.dumps(explorer.get_state('_values')['_values']))")
        )

    def at(self, name, share):
        """Where a slider's thumb stands when it is at `share` of its way."""
        self.slider(name).scroll_into_view_if_needed()
        box = self.slider(name).bounding_box()
        return box["x"] + 8 + (box["width"] - 16) * share, box["y"] + box["height"] / 2

    def shown(self):
        """The pixels of the picture on the stage."""
        script = """async (img) => { await img.decode(); const data = await (await fetch(img.src)).arrayBuffer();
            return btoa(Array.from(new Uint8Array(data), (byte) => String.fromCharCode(byte)).join("")); }"""
        data = base64.b64decode(self.root.locator(".ex-picture").first.evaluate(script))
        return Image.open(io.BytesIO(data)).convert("RGB").tobytes()

    def made(self):
        """The pixels of `explorer.image`."""
        self.notebook.python("explorer.image.save('made.png')")
        with Image.open(self.notebook.lab.root / "made.png") as image:
            return image.convert("RGB").tobytes()


@pytest.fixture(scope="module")
def ready(shared_notebook):
    shared_notebook.python(SETUP, timeout=240)
    return shared_notebook


@pytest.fixture
def explore(ready):
    def explore(arguments="pipe, image, mask", **more):
        more = {"prompt": "a red cat in a meadow", "num_inference_steps": 12} | more
        text = ", ".join([arguments, *(f"{name}={value!r}" for name, value in more.items())])
        ready.write(0, f"explorer = Explorer({text})\nexplorer.wait(120)\nexplorer")
        ready.run(0, timeout=240)
        return Explored(ready)

    yield explore
    ready.python("explorer.close(); print()")
    ready.write(0, "print()")
    ready.run(0)
    ready.check()


def test_dragging_strength_shows_drafts_and_release_the_full_picture(explore) -> None:
    explorer = explore(num_inference_steps=20, live=False)
    drag_and_release(explorer, "Draft", "Draft: a few quick steps")
    explorer.root.get_by_role("button", name="Live").wait_for(state="hidden")


@pytest.mark.skipif("lcm" not in miniatures.recipes(), reason="the few-step LoRA is not shipped")
def test_dragging_strength_shows_live_images_and_release_the_full_image(explore) -> None:
    explorer = explore(num_inference_steps=20, live=True)
    button = explorer.button("Live")
    assert button.get_attribute("aria-pressed") == "true"
    drag_and_release(explorer, "Live", "Live image: four steps")
    used = "[record.parameters.get('scheduler') for record in explorer.records]"
    assert explorer.notebook.python(f"print({used})") == "[None, None]"
    button.click()
    explorer.root.locator(".ex-button[aria-pressed=false]", has_text="Live").wait_for(timeout=SOON)
    drag(explorer, 1.0, 0.9, 0.8)
    explorer.root.locator(".ex-badge", has_text="Draft").wait_for(timeout=SOON)
    explorer.page.mouse.up()


@pytest.mark.skipif("lcm" not in miniatures.recipes(), reason="the few-step LoRA is not shipped")
@pytest.mark.parametrize("tool", ["Brush", "Rectangle", "Ellipse", "Lasso"])
def test_the_image_follows_the_hand_and_only_what_is_released_is_kept(explore, tool) -> None:
    explorer = explore(num_inference_steps=20, live=True)
    page, canvas = explorer.page, explorer.root.locator(".ex-cover .mp-canvas")
    badge = explorer.root.locator(".ex-badge", has_text="Live")

    def hold(height):
        """Draws a stroke or a shape, a tenth of the image high, and holds the pen there; the live image of it."""
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        for number, (across, down) in enumerate([(0.2, 0), (0.35, 0.05), (0.5, 0.1), (0.65, 0.08)]):
            page.mouse.move(box["x"] + across * box["width"], box["y"] + (height + down) * box["height"], steps=3)
            if not number:
                page.mouse.down()
            page.wait_for_timeout(60)
        badge.wait_for(timeout=SOON)
        explorer.status("Live image: four steps")
        return explorer.shown()

    def alpha(x, y):
        """How much the mask covers the image there."""
        pixel = "getImageData(x * canvas.width, y * canvas.height, 1, 1)"
        return canvas.evaluate(f"(canvas, [x, y]) => canvas.getContext('2d').{pixel}.data[3]", [x, y])

    explorer.status("Full image")
    explorer.button(tool).click()
    first, mask = explorer.made(), "print(explorer.parameters['mask_image'].tobytes().count(255))"
    before = explorer.notebook.python(mask)
    live = hold(0.1)
    assert live != first and explorer.thumbs().count() == 1
    assert alpha(0.45, 0.165) == 0, "the mask hides the live image"
    page.mouse.up()
    explorer.status("Full image")
    full = explorer.made()
    assert explorer.thumbs().count() == 2 and explorer.shown() == full not in (first, live)
    after = explorer.notebook.python(mask)
    assert int(after) > int(before)

    assert hold(0.89) != full
    page.keyboard.press("Escape")
    explorer.status("Full image")
    page.mouse.up()
    assert explorer.shown() == full and explorer.thumbs().count() == 2 and explorer.notebook.python(mask) == after


def drag(explorer, *shares: float) -> None:
    """Take the slider of strength, and move it to these places, the last of which holds it."""
    page = explorer.page
    page.mouse.move(*explorer.at("Strength", shares[0]))
    page.mouse.down()
    for share in shares[1:]:
        page.mouse.move(*explorer.at("Strength", share))
        page.wait_for_timeout(60)


def drag_and_release(explorer, badge: str, said: str) -> None:
    """The quick images of a dragged slider are marked so, and the full one takes their place."""
    page = explorer.page
    explorer.status("Full image")
    first = explorer.shown()
    assert first == explorer.made() and explorer.thumbs().count() == 1
    drag(explorer, 1.0, 0.9, 0.8, 0.7, 0.6)
    explorer.root.locator(".ex-badge", has_text=badge).wait_for(timeout=SOON)
    explorer.status(said)
    draft = explorer.shown()
    assert draft != first and explorer.thumbs().count() == 1
    page.mouse.up()
    explorer.status("Full image")
    assert explorer.root.locator(".ex-badge").inner_text() == ""
    assert explorer.thumbs().count() == 2
    chosen = float(explorer.slider("Strength").input_value())
    assert 0.5 < chosen < 0.75 and abs(explorer.values()["strength"] - chosen) < 1e-9
    assert explorer.shown() == explorer.made() != draft


def test_a_click_in_the_history_brings_everything_back(explore) -> None:
    explorer = explore()
    first, values = explorer.made(), explorer.values()
    explorer.root.get_by_role("spinbutton", name="Seed").fill("7")
    explorer.page.keyboard.press("Tab")
    explorer.root.get_by_role("combobox", name="Scheduler").select_option("DDIMScheduler")
    explorer.root.get_by_role("switch", name="Keep unmasked").click()
    explorer.root.locator(".ex-thumb").nth(1).wait_for(timeout=SOON)
    explorer.status("Full image")
    assert explorer.made() != first and explorer.values()["keep_unmasked"] is True
    explorer.thumbs().last.click()
    explorer.root.locator('.ex-thumb:last-child[aria-current="true"]').wait_for()
    assert explorer.values() == values and explorer.shown() == first
    assert explorer.root.get_by_role("spinbutton", name="Seed").input_value() == "0"
    assert explorer.root.get_by_role("combobox", name="Scheduler").input_value() == "UniPCMultistepScheduler"
    assert explorer.root.get_by_role("switch", name="Keep unmasked").is_checked() is False


def test_previews_grow_until_a_long_picture_is_cancelled(explore) -> None:
    explorer = explore()
    before = explorer.made()
    box = explorer.root.get_by_role("spinbutton", name="Steps, exactly")
    box.fill("900")
    box.press("Tab")
    explorer.status("Image · step")
    bar = explorer.root.get_by_role("progressbar", name="Steps")
    assert int(bar.get_attribute("max")) > 800
    preview = explorer.root.locator(".ex-preview")
    preview.wait_for(timeout=SOON)
    # not decode(): it fails where the next preview takes the picture's place meanwhile
    explorer.page.wait_for_function("(img) => img.naturalWidth === 128", arg=preview.element_handle(), timeout=SOON)
    explorer.button("Cancel").click()
    explorer.status("Cancelled")
    assert not preview.is_visible()
    assert explorer.shown() == before == explorer.made()
    box.fill("901")
    box.press("Tab")
    explorer.status("Image · step")
    explorer.page.keyboard.press("Escape")
    explorer.status("Cancelled")


def test_the_code_is_shown_and_follows_the_picture(explore) -> None:
    explorer = explore()
    explorer.button("Code").click()
    code = explorer.root.get_by_label("Python code")
    explorer.page.wait_for_function("(node) => node.textContent.includes('manual_seed(0)')", arg=code.element_handle())
    assert code.text_content().strip() == explorer.notebook.python("print(explorer.code())")
    explorer.button("New seed").click()
    seed = explorer.root.get_by_role("spinbutton", name="Seed").input_value()
    explorer.page.wait_for_function(
        "([node, seed]) => node.textContent.includes(`manual_seed(${seed})`)", arg=[code.element_handle(), seed],
        timeout=SOON,
    )  # fmt: skip
    assert "helpers" not in code.inner_text() and "StableDiffusionInpaintPipeline.from_pretrained(" in code.inner_text()


def test_a_saved_picture_dropped_on_the_widget_restores_it(explore, tmp_path) -> None:
    explorer = explore(seed=5, negative_prompt="fog")
    values, picture = explorer.values(), explorer.made()
    with explorer.page.expect_download() as download:
        explorer.button("Save").click()
    file = tmp_path / "saved.png"
    download.value.save_as(file)
    assert re.fullmatch(r"a-red-cat-in-a-meadow-[0-9a-f]{12}\.png", download.value.suggested_filename)
    explorer.button("New seed").click()
    explorer.root.locator(".ex-thumb").nth(1).wait_for(timeout=SOON)
    drop(explorer, file.read_bytes())
    explorer.page.wait_for_function(
        "(box) => box.value === '5'", arg=explorer.root.get_by_role("spinbutton", name="Seed").element_handle()
    )
    assert explorer.values() == values and explorer.made() == picture == explorer.shown()

    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a cat, Steps: 20")
    foreign = io.BytesIO()
    Image.new("RGB", (64, 64)).save(foreign, "PNG", pnginfo=info)
    drop(explorer, foreign.getvalue())
    alert = explorer.root.get_by_role("alert")
    alert.get_by_text("holds no record of this course").wait_for()
    assert explorer.values() == values and explorer.shown() == picture
    explorer.root.locator("input[type=file]").set_input_files(str(file))  # the Open button's way
    alert.wait_for(state="hidden")


def drop(explorer, data: bytes) -> None:
    script = """(root, data) => {
        const transfer = new DataTransfer();
        const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
        transfer.items.add(new File([bytes], "a.png", {type: "image/png"}));
        for (const type of ["dragenter", "dragover", "drop"]) {
            const event = new DragEvent(type, {dataTransfer: transfer, bubbles: true, cancelable: true});
            root.dispatchEvent(event);
            if (type === "dragover" && !root.classList.contains("ex-dropping")) throw new Error("no sign of the drop");
        }
    }"""
    explorer.root.evaluate(script, base64.b64encode(data).decode())


def test_two_pictures_are_pinned_and_compared(explore) -> None:
    explorer = explore()
    first = explorer.shown()
    explorer.button("Compare").click()
    assert explorer.root.locator(".ex-name").all_inner_texts() == ["Before", "Now"]
    explorer.button("Compare").click()
    explorer.button("Pin this image as A").click()
    explorer.root.locator(".ex-thumb b", has_text="A").wait_for()
    explorer.button("New seed").click()
    explorer.root.locator(".ex-thumb").nth(1).wait_for(timeout=SOON)
    explorer.thumbs().first.focus()
    explorer.page.keyboard.press("b")
    explorer.root.locator(".ex-thumb b", has_text="B").wait_for()
    explorer.button("Compare").click()
    assert explorer.root.locator(".ex-name").all_inner_texts() == ["A", "B"]
    assert explorer.shown() != first
    divider = explorer.slider("Divider: A to its left, B to its right")
    divider.focus()
    explorer.page.keyboard.press("Home")
    left = explorer.root.locator(".ex-left")
    assert left.evaluate("(node) => getComputedStyle(node).clipPath") in (
        "inset(0px 100% 0px 0px)",
        "inset(0 100% 0 0)",
    )
    explorer.page.keyboard.press("ArrowRight")
    assert "99%" in left.evaluate("(node) => getComputedStyle(node).clipPath")
    explorer.button("Pin this image as B").click()
    explorer.root.locator(".ex-name", has_text="Now").wait_for()


def test_every_press_of_a_key_is_a_draft_and_the_last_the_full_image(explore) -> None:
    explorer = explore()
    explorer.slider("Guidance scale").focus()
    before = float(explorer.slider("Guidance scale").input_value())
    for _ in range(3):
        explorer.page.keyboard.press("ArrowRight")
    assert float(explorer.slider("Guidance scale").input_value()) == before + 1.5
    explorer.root.locator(".ex-thumb").nth(1).wait_for(timeout=SOON)  # one full picture, for the last of the three
    explorer.status("Full image")
    assert explorer.thumbs().count() == 2 and explorer.values()["guidance_scale"] == before + 1.5


def test_a_prompt_is_taken_with_enter(explore) -> None:
    explorer = explore()
    prompt = explorer.root.get_by_role("textbox", name="Prompt", exact=True)
    prompt.fill("a white house on a meadow")
    prompt.press("Enter")
    explorer.root.locator(".ex-thumb").nth(1).wait_for(timeout=SOON)
    assert explorer.values()["prompt"] == "a white house on a meadow" and "\\n" not in prompt.input_value()


def test_what_is_cut_off_and_what_is_unknown_stands_below_the_prompt(explore) -> None:
    explorer = explore(prompt="a red castle " * 40 + "at night")
    prompt, note = (explorer.root.locator(f"[data-name=prompt] {part}") for part in ("textarea", ".ex-note"))
    assert re.fullmatch(r"Beyond 77 tokens, so it is cut off and not read: .*castle at night", note.inner_text())
    assert prompt.get_attribute("aria-describedby") == note.get_attribute("id")
    prompt.fill("a red castle 猫 — at night")
    explorer.page.wait_for_function("note => note.textContent.includes('猫')", arg=note.element_handle(), timeout=SOON)
    assert note.inner_text() == "Not in the miniature's vocabulary: 猫"
    prompt.fill("a red castle")
    explorer.page.wait_for_function("note => !note.textContent", arg=note.element_handle(), timeout=SOON)


def test_an_error_is_shown_with_its_cause_and_work_goes_on(explore) -> None:
    explorer = explore()
    explorer.notebook.python(
        "def broken(*_):\n    hook.remove()\n    raise OSError('the weights are gone')\n"
        "hook = pipe.unet.register_forward_pre_hook(broken)"
    )
    explorer.button("New seed").click()
    alert = explorer.root.get_by_role("alert")
    alert.locator("> div", has_text="OSError: the weights are gone").wait_for(timeout=SOON)
    alert.get_by_text("Where it happened").click()
    assert "Traceback" in alert.inner_text()
    explorer.button("New seed").click()
    explorer.status("Full image")
    assert not alert.is_visible()
    box = explorer.root.get_by_role("spinbutton", name="Strength, exactly")
    box.fill("0.01")
    box.press("Tab")
    alert.get_by_text("leaves no step to run").wait_for()


def test_one_paints_on_the_result_accepts_it_and_goes_back(explore) -> None:
    explorer = explore(num_inference_steps=4)
    root, page, python = explorer.root, explorer.page, explorer.notebook.python
    explorer.status("Full image")
    first = explorer.made()
    thumbs, steps = explorer.thumbs(), root.locator(".ex-step")
    explorer.button("Accept").click()
    steps.nth(1).wait_for(timeout=SOON)
    root.locator(".ex-alert", has_text="Paint over").wait_for()
    assert python("print(explorer.parameters['mask_image'].getbbox())") == "None"

    def drag(start, end):
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        page.mouse.move(box["x"] + start[0] * box["width"], box["y"] + start[1] * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + end[0] * box["width"], box["y"] + end[1] * box["height"], steps=5)
        page.mouse.up()

    def painted():
        return json.loads(python("print([*explorer.record.parameters['mask_image'].getbbox()])"))

    canvas = root.locator(".ex-cover .mp-canvas")
    drag((0.2, 0.3), (0.5, 0.3))
    thumbs.nth(1).wait_for(timeout=SOON)
    assert explorer.shown() == explorer.made() != first
    assert python("print(explorer.record.parameters['image'] == explorer.steps[0].image)") == "True"
    left, top, right, bottom = painted()
    size = json.loads(python("print([*image.size])"))
    assert left < 0.2 * size[0] < 0.5 * size[0] < right < 0.7 * size[0] and top < 0.3 * size[1] < bottom < 0.5 * size[1]

    explorer.button("Compare").click()  # the divider is dragged at its line, and one paints beside it
    divider = explorer.slider("Divider: Before to its left, Now to its right")
    drag((0.5, 0.8), (0.25, 0.8))
    assert 18 <= int(divider.input_value()) <= 32
    drag((0.7, 0.8), (0.8, 0.8))
    assert 18 <= int(divider.input_value()) <= 32
    thumbs.nth(2).wait_for(timeout=SOON)
    assert painted()[3] > 0.7 * size[1]
    canvas.press("Control+z")  # takes the stroke back
    root.locator(".ex-thumb[data-number='2'][aria-current=true]").wait_for(timeout=SOON)
    explorer.status("Full image")
    explorer.button("Compare").click()

    explorer.button("Code").click()
    root.locator(".ex-script code", has_text="image=image,").wait_for(timeout=SOON)
    explorer.button("Accept").click()
    steps.nth(2).wait_for(timeout=SOON)
    steps.nth(1).click()
    root.locator(".ex-step[aria-current=true]", has_text="1").wait_for()
    assert explorer.shown() == first
    steps.nth(1).focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    root.locator(".ex-step[aria-current=true]", has_text="Start").wait_for()
    assert steps.count() == 3 and python("print(explorer.steps, explorer.image)") == "[] None"


def test_a_stroke_on_the_painter_makes_a_picture(explore) -> None:
    explorer = explore("pipe, None, (painter := MaskPainter(image))")
    explorer.root.get_by_role("alert").get_by_text("Nothing is painted yet").wait_for()
    explorer.notebook.python("painter.mask = mask")
    explorer.status("Full image")
    assert explorer.thumbs().count() == 1 and not explorer.root.get_by_role("alert").is_visible()


# A ControlNet of random weights on the shipped miniature: what it steers to is noise, but it steers.
CONTROLNET = """import torch
from diffusers import ControlNetModel, StableDiffusionControlNetInpaintPipeline
net = ControlNetModel.from_unet(load("sd15").unet, conditioning_embedding_out_channels=(16, 16, 32, 64))
for values in net.parameters():
    if not values.any():
        torch.nn.init.normal_(values, std=0.02)
parts = pipe.components | {"controlnet": net}
steered = StableDiffusionControlNetInpaintPipeline(**parts, requires_safety_checker=False)"""


def test_a_controlnet_has_a_tab_and_its_picture_follows_the_mask(explore, ready) -> None:
    assert explore().root.get_by_role("tab").count() == 0
    ready.python(CONTROLNET)
    explorer = explore("steered, None, (painter := MaskPainter(image, mask))", control="inpaint")
    explorer.status("Full image")
    picture, strength = explorer.root.locator(".ex-control"), explorer.slider("Strength")
    assert strength.is_visible() and not picture.is_visible()
    explorer.root.get_by_role("tab", name="ControlNet").click()
    assert picture.is_visible() and not strength.is_visible()
    assert picture.get_attribute("alt") == "Control image: The image with a hole"
    holes = [hole(explorer)]
    assert holes[0] == float(ready.python("from helpers import share; print(round(share(mask), 3))"))
    ready.python("from helpers import invert; painter.mask = invert(mask)")
    explorer.root.locator(".ex-thumb").nth(1).wait_for(timeout=SOON)
    holes.append(hole(explorer))
    assert abs(sum(holes) - 1) < 0.01

    explorer.root.get_by_role("combobox", name="Control image").select_option("depth")
    explorer.page.wait_for_function("(img) => img.alt.endsWith('Depth')", arg=picture.element_handle())
    explorer.root.locator(".ex-thumb").nth(2).wait_for(timeout=SOON)
    same = "from helpers import depth_map; print(explorer.record.parameters['control_image'] == depth_map(image))"
    assert ready.python(same) == "True" and hole(explorer) == 0

    explorer.thumbs().last.click()  # the history brings its kind back
    explorer.page.wait_for_function("(img) => img.alt.endsWith('with a hole')", arg=picture.element_handle())
    assert hole(explorer) == holes[0]
    explorer.root.get_by_role("tab", name="ControlNet").press("ArrowLeft")
    assert strength.is_visible() and not picture.is_visible()
    assert explorer.root.get_by_role("tab", name="Image").evaluate("(tab) => tab === document.activeElement")


def hole(explorer) -> float:
    """The transparent share of the control picture on the screen."""
    script = """async (img) => { await img.decode(); const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [img.naturalWidth, img.naturalHeight]; const context = canvas.getContext("2d");
        context.drawImage(img, 0, 0); const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
        return data.filter((value, i) => i % 4 === 3 && value === 0).length / (data.length / 4); }"""
    return round(float(explorer.root.locator(".ex-control").evaluate(script)), 3)


def test_a_cell_that_runs_again_puts_the_old_one_to_sleep(explore) -> None:
    explorer = explore()
    explorer.notebook.python("old = explorer; old.set(num_inference_steps=900)")
    explorer.notebook.run(0, timeout=240)  # which waits for the new one's image, behind the old one's
    assert (
        explorer.notebook.python("print(old.wait(60), old.get_state('_state')['_state']['phase'])") == "True cancelled"
    )
    explorer.status("Full image")
    explorer.notebook.python("old.close()")


def test_it_fits_narrow_cells(explore) -> None:
    explorer = explore()
    page = explorer.page
    page.keyboard.press("Control+b")  # without the file browser
    page.set_viewport_size({"width": 560, "height": 1000})
    page.wait_for_function(
        "(node) => node.clientWidth > 300 && node.clientWidth < 560", arg=explorer.root.element_handle()
    )
    assert explorer.root.evaluate("(node) => node.scrollWidth <= node.clientWidth + 1")
    stage, panel = (explorer.root.locator(part).bounding_box() for part in (".ex-stage", ".ex-panel"))
    assert panel["y"] >= stage["y"] + stage["height"] - 1
    page.set_viewport_size({"width": 1280, "height": 1000})
    page.keyboard.press("Control+b")
