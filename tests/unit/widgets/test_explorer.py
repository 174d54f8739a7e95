"""The Explorer's Python side; what a browser makes of it is in tests/browser/test_explorer.py."""

from __future__ import annotations

import io
import warnings

import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image, ImageOps

from helpers import Explorer, MaskPainter
from helpers.generation import png_record
from helpers.generation.records import make
from helpers.pipelines.loading import load
from tests.support.calls import CALLS, half_mask, noise
from tests.support.queue import LONG, Hold
from tests.support.tiny import SIZE, failing, quiet
from tests.support.widgets import same

pytestmark = pytest.mark.usefixtures("tiny_course")
MASKED = {"blur_factor", "padding_mask_crop", "keep_unmasked"}


@pytest.fixture
def hold(inpaint):
    """Holds the model at the first step of the next call."""
    made = []
    yield lambda: made.append(Hold(inpaint)) or made[-1]
    for hold in made:
        hold.opened.set()


def seeds(explorer) -> list[int]:
    return [record.parameters["seed"] for record in explorer.records]


def test_the_first_image_is_that_of_the_plain_call(explorer, browser, inpaint) -> None:
    plain = inpaint(
        prompt="a cat", image=noise(1), mask_image=half_mask(), height=SIZE, width=SIZE, num_inference_steps=3,
        generator=torch.Generator("cpu").manual_seed(0),
    ).images[0]  # fmt: skip
    assert same(explorer.image, plain) and same(browser.image("_picture"), plain)
    assert same(browser.image("_before"), noise(1))
    assert browser.phase == "done" and browser.kind == "full" and seeds(explorer) == [0]


@pytest.mark.parametrize(("name", "task", "controlnet", "kind"), CALLS)
def test_only_what_the_pipeline_takes_is_shown_and_it_makes_an_image(explore, name, task, controlnet, kind) -> None:
    pipe = quiet(name, task=None if task == "upscale" else task, controlnet=controlnet)
    side = 64 if "kandinsky" in name or name == "upscale-x2" else SIZE
    more = {"strength": 0.9} if task == "image2image" else {}
    if controlnet and task != "text2image":
        more["control_image"] = noise(2)
    if "kandinsky" in name:
        more["prior_num_inference_steps"] = 2
    inputs = [] if task == "text2image" and not controlnet else [noise(1, size=side)]
    explorer = explore(pipe, *inputs, *([half_mask(side)] if task == "inpaint" else []), **more)
    assert explorer.browser.phase == "done", explorer.browser.text
    shown = set(explorer.browser.values)
    assert ("strength" in shown) == (
        task in ("image2image", "inpaint") and kind != "KandinskyV22InpaintCombinedPipeline"
    )
    assert {"blur_factor", "keep_unmasked"} <= shown if task == "inpaint" else not shown & MASKED
    assert ("padding_mask_crop" in shown) == (task == "inpaint" and "kandinsky" not in name)
    assert ("controlnet_conditioning_scale" in shown) == (controlnet is not None)
    assert {"prompt", "negative_prompt", "guidance_scale", "num_inference_steps", "seed"} <= shown
    assert explorer.record.parameters["num_inference_steps"] == 3


CUT = "a red castle " * 40 + "at night"


@pytest.mark.parametrize(
    ("name", "inputs"), [("sd15", 0), ("sd15-inpaint", 2), ("sdxl-inpaint", 2), ("kandinsky22", 0)]
)
def test_what_the_pipeline_cuts_off_is_shown_below_the_text(explore, name, inputs) -> None:
    pipe = quiet(name)
    explorer = explore(pipe, *(noise(1), half_mask())[:inputs], wait=False)
    explorer.cancel()
    browser, names = explorer.browser, {"prompt", "negative_prompt"}
    assert browser["_notes"] == dict.fromkeys(names, "")
    browser.change(moving=True, prompt=CUT)
    said = browser["_notes"]["prompt"]
    tokenizer = next(part for place, part in pipe.components.items() if place.endswith("tokenizer") and part)
    kept = len(tokenizer("a", padding="max_length", max_length=77).input_ids) - 2  # letters, in the tiny course
    places = [place for place, sign in enumerate(CUT) if not sign.isspace()]
    rest = CUT[places[kept] :].strip()
    assert said.startswith(f"Beyond 77 tokens, so it is cut off and not read: {rest[:40]}") and said.endswith(
        "at night"
    )
    assert len(said) < 300 and browser["_notes"]["negative_prompt"] == ""
    browser.change(negative_prompt=CUT, prompt="a cat")
    assert browser["_notes"] == {"prompt": "", "negative_prompt": said}
    browser.change(negative_prompt="", prompt="a (red)1.3 cat")
    assert browser["_notes"]["prompt"] == "Weights are read by weigh and TokenWeights; here their signs are words."
    with pytest.raises(ValueError, match="prompt: .* is half a character"):
        explorer.set(prompt="a \ud83d cat")
    explorer.cancel()


def test_the_parameters_make_the_image_again(explorer, inpaint) -> None:
    chosen = {"num_inference_steps": 5, "seed": 4, "scheduler": "DDIMScheduler", "blur_factor": 3}
    explorer.set(strength=0.7, keep_unmasked=True, **chosen)
    assert explorer.wait(LONG) and same(make(inpaint, **explorer.parameters).image, explorer.image)
    assert explorer.record.parameters["blur_factor"] == 3 and explorer.record.parameters["keep_unmasked"] is True
    assert "Explorer(StableDiffusionInpaintPipeline, 'a cat', strength=0.7" in repr(explorer)


def test_a_moving_value_makes_a_draft_and_the_chosen_one_the_full_image(explore, inpaint) -> None:
    explorer = explore(inpaint, noise(1), half_mask(), num_inference_steps=20)
    browser = explorer.browser
    browser.change(moving=True, strength=0.6)
    assert explorer.wait(LONG) and browser.kind == "draft" and browser.shown is None and seeds(explorer) == [0]
    draft = explorer.record.parameters
    assert (draft["scheduler"], draft["num_inference_steps"], draft["strength"]) == ("UniPCMultistepScheduler", 10, 0.6)
    space: dict = {}
    exec(explorer.code(), space)  # noqa: S102
    assert same(space["image"], explorer.image)  # the draft's own code
    assert explorer.parameters["num_inference_steps"] == 20 and "scheduler" not in explorer.parameters
    browser.change(strength=0.6)
    assert explorer.wait(LONG) and browser.kind == "full" and len(explorer.records) == 2
    assert same(explorer.image, make(inpaint, **explorer.parameters).image)


def test_previews_and_steps_reach_the_browser(explore, inpaint, monkeypatch) -> None:
    monkeypatch.setattr("helpers.widgets.explorer.widget.PACE", 0.0)
    explorer = explore(inpaint, noise(1), half_mask(), scheduler="DDIMScheduler")
    explorer.browser.heard.clear()
    explorer.set(seed=3)
    assert explorer.wait(LONG)
    steps = [(said, buffers) for said, buffers in explorer.browser.heard if said["kind"] == "step"]
    assert [said["step"] for said, _ in steps] == [1, 2, 3] and {said["steps"] for said, _ in steps} == {3}
    with Image.open(io.BytesIO(steps[0][1][0])) as preview:
        assert same(preview, noise(9))


def test_the_history_brings_an_image_and_its_parameters_back_at_once(explorer, browser, hold) -> None:
    first, values, number = explorer.image, browser.values, browser.shown
    explorer.set(prompt="a dog", strength=0.5, num_inference_steps=4, scheduler="DDIMScheduler", padding_mask_crop=4)
    assert explorer.wait(LONG) and browser.values["padding_mask_crop"] == 4
    ran = hold()
    assert not browser.send("recall", number=number)
    assert same(explorer.image, first) and browser.values == values and browser.shown == number
    assert not ran.calls and len(explorer.records) == 2
    assert not browser.send("recall", number=-5)  # dropped meanwhile: nothing happens
    assert same(explorer.image, first)


def test_pins_carry_their_images(explorer, browser) -> None:
    number = browser.shown
    browser.send("pin", place="a", number=number)
    assert browser["_pins"] == {"a": number} and same(browser.image("_a"), explorer.image) and browser["_b"] == b""
    browser.send("pin", place="a", number=None)
    assert browser["_pins"] == {} and browser["_a"] == b""


def test_the_browser_gets_the_whole_history(explorer, browser) -> None:
    explorer.set(seed=8)
    assert explorer.wait(LONG)
    assert [(entry["number"], entry["text"]) for entry in browser["_history"]] == [
        (number, f"'a cat', strength=1, guidance_scale=7.5, num_inference_steps=3, seed={seed}")
        for number, seed in ((1, 0), (2, 8))
    ]
    with Image.open(io.BytesIO(browser["_history"][1]["thumb"])) as thumb:
        assert thumb.format == "JPEG"


# ---- Saving, restoring, code


def test_a_saved_image_restores_everything(explorer, browser, hold, tmp_path) -> None:
    first = browser.values
    chosen = {
        "prompt": "a ship", "negative_prompt": "fog", "strength": 0.85, "guidance_scale": 3.25, "seed": 77,
        "num_inference_steps": 4, "scheduler": "EulerDiscreteScheduler", "blur_factor": 2.5, "padding_mask_crop": 0,
        "keep_unmasked": True,
    }  # fmt: skip
    explorer.set(**chosen)
    assert explorer.wait(LONG)
    image = explorer.image
    browser.send("save")
    (content, (data,)) = browser.heard[-1]
    assert content["name"].startswith("a-ship-") and content["name"].endswith(".png")
    assert explorer.save(tmp_path / "a.png").read_bytes() == data
    explorer.set(**first)
    assert explorer.wait(LONG) and browser.values == first
    ran = hold()
    assert not browser.send("restore", data)
    assert browser.values == chosen and same(explorer.image, image) and not ran.calls
    assert browser.phase == "done" and browser.text == "" and len(explorer.records) == 2


def test_another_explorer_takes_image_mask_and_scheduler_from_the_file(explorer, explore, tmp_path) -> None:
    pipe = quiet("sd15-inpaint")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    other = explore(pipe, noise(5), half_mask().rotate(90), prompt="a dog")
    other.restore(explorer.save(tmp_path / "a.png"))
    assert same(other.image, explorer.image) and same(other.parameters["image"], noise(1))
    assert same(other.browser.image("_before"), noise(1)) and other.parameters["scheduler"] == "PNDMScheduler"
    other.set(seed=9)
    explorer.set(seed=9)
    assert other.wait(LONG) and explorer.wait(LONG) and same(other.image, explorer.image)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no image", "image=<8 bytes>"),
        (b"", "is empty"),
        ("plain", "holds no record of this course"),
        ("other", "made by StableDiffusionPipeline; this Explorer has a StableDiffusionInpaintPipeline"),
    ],
)
def test_a_file_that_cannot_be_restored_is_refused_with_its_reason(
    explorer, browser, explore, tmp_path, data, message
) -> None:
    if data == "plain":
        noise(3).save(tmp_path / "a.png")
        data = (tmp_path / "a.png").read_bytes()
    elif data == "other":
        data = explore(load("sd15")).save(tmp_path / "a.png").read_bytes()
    values, image = browser.values, explorer.image
    assert message in browser.send("restore", data)
    assert browser.values == values and same(explorer.image, image)


def test_only_an_edited_image_is_said_to_be_edited(explorer, browser, tmp_path) -> None:
    file = explorer.save(tmp_path / "a.png")
    explorer.restore(file)
    assert browser.text == ""
    image, content = png_record.read(file)
    png_record.write(file, ImageOps.invert(image), content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explorer.restore(file)
    assert browser.text == "The image was edited after it was recorded."


def test_the_code_is_that_of_the_record_and_its_images_are_written(explorer, browser, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    browser.send("code")
    assert browser.heard[-1][0]["text"] == explorer.code() == explorer.record.code("outputs")
    assert any((tmp_path / "outputs").iterdir())


# ---- What is wrong


@pytest.mark.parametrize(
    ("name", "inputs", "more", "error", "message"),
    [
        (None, ("sd15-inpaint",), {}, TypeError, r"pipe='sd15-inpaint' is a name: pass the pipeline itself, load\("),
        (None, (3,), {}, TypeError, "pipe is a int: expected a diffusers pipeline"),
        ("sd15-inpaint", (), {}, ValueError, r"image: StableDiffusionInpaintPipeline starts from an image"),
        ("sd15-inpaint", ("i",), {}, ValueError, "mask: StableDiffusionInpaintPipeline needs one. Pass a mask, or a"),
        ("sd15-inpaint", ("i", "black"), {}, ValueError, "mask is all black"),
        ("sd15-inpaint", ("i", "painter"), {}, ValueError, "mask is 64 x 64 pixels, the image 32 x 32"),
        ("sd15-inpaint", ("odd", "m"), {}, ValueError, "image=33 x 33: width and height must be multiples of 8"),
        ("kandinsky22-inpaint", ("i", "m"), {}, ValueError, "multiples of 64"),
        ("sd15-inpaint", ("i", "m"), {"strenth": 0.5}, TypeError, "Did you mean 'strength'"),
        ("sd15-inpaint", ("i", "m"), {"strength": 2}, ValueError, "strength=2: expected a number from 0"),
        ("sd15-inpaint", ("i", "m"), {"strength": 0.1}, ValueError, "leaves no step to run"),
        ("sd15-inpaint", ("i", "m"), {"prompt": None}, TypeError, "prompt=None: expected text"),
        ("sd15-inpaint", ("i", "m"), {"keep_unmasked": 1}, TypeError, "keep_unmasked=1: expected True or False"),
        ("sd15-inpaint", ("i", "m"), {"scheduler": "DDIMSheduler"}, ValueError, "Did you mean 'DDIMScheduler'"),
        ("sd15-inpaint", ("i",), {"mask_image": "m"}, TypeError, "mask_image: pass it by position"),
        ("sd15", ("i",), {}, ValueError, "image: StableDiffusionPipeline makes images from the prompt alone"),
        ("sd15", (None, "m"), {}, ValueError, "mask: StableDiffusionPipeline takes none"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_any_model_runs(name, inputs, more, error, message) -> None:
    given = {"i": noise(1), "m": half_mask(), "black": Image.new("L", (SIZE, SIZE))}
    given |= {"odd": noise(1, size=33), "painter": MaskPainter(noise(1, size=64))}
    inputs = [given.get(value, value) if isinstance(value, str) and name else value for value in inputs]
    pipe, ran = [], []
    if name:
        pipe = [load(name)]
        pipe[0].unet.register_forward_pre_hook(lambda *_: ran.append(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with pytest.raises(error, match=message):
            Explorer(*pipe, *inputs, **{"num_inference_steps": 3} | more)
    assert not ran


def test_a_value_from_python_that_cannot_be_changes_nothing(explorer, browser) -> None:
    values = browser.values
    for wrong, error in (({"strength": 0.1}, "leaves no step"), ({"strength": 3}, "from 0 to 1")):
        with pytest.raises(ValueError, match=error):
            explorer.set(seed=5, **wrong)
    with pytest.raises(TypeError, match="blur=3: StableDiffusionInpaintPipeline has no such control"):
        explorer.set(blur=3)
    assert browser.values == values


def test_a_value_from_the_browser_that_cannot_be_is_explained_there(explorer, browser) -> None:
    image = explorer.image
    browser.change(strength=0.1)
    assert browser.phase == "invalid" and "leaves no step to run" in browser.text
    assert browser.values["strength"] == 0.1 and same(explorer.image, image)
    browser.change(num_inference_steps=20)
    assert explorer.wait(LONG) and browser.phase == "done" and browser.text == ""
    assert "guidance_scale=None: expected a number" in browser.change(guidance_scale=None)
    assert browser.send("nonsense")


def test_an_error_is_shown_with_its_cause_and_the_next_image_comes(explorer, browser, inpaint) -> None:
    with failing(inpaint):
        explorer.set(seed=1)
        assert explorer.wait(LONG)
    assert browser.phase == "failed" and browser.text == "OSError: the weights are gone\nfrom KeyError: 'the cause'"
    assert "Traceback" in browser["_state"]["details"] and explorer.record.parameters["seed"] == 0
    explorer.set(seed=2)
    assert explorer.wait(LONG) and browser.phase == "done" and browser.text == ""


# ---- Company


def test_cancel_leaves_the_image_as_it_was(explorer, browser, hold) -> None:
    image, held = explorer.image, hold()
    explorer.set(seed=1)
    assert held.reached.wait(LONG) and browser.phase == "running"
    browser.send("cancel")
    held.opened.set()
    assert explorer.wait(LONG) and browser.phase == "cancelled" and same(explorer.image, image)
    assert not explorer.cancel()


def test_closed_while_it_runs(explorer, explore, inpaint, hold) -> None:
    held = hold()
    explorer.set(seed=1)
    assert held.reached.wait(LONG)
    explorer.close()
    held.opened.set()
    assert explorer.records == []
    assert explore(inpaint, noise(1), half_mask(), seed=2).browser.phase == "done" and held.calls == 1 + 4


def test_nothing_is_made_for_a_widget_that_nobody_sees(explorer, browser, hold) -> None:
    browser.send("views", count=1)
    held = hold()
    explorer.set(seed=1)
    assert held.reached.wait(LONG)
    browser.send("views", count=0)
    held.opened.set()
    assert explorer.wait(LONG) and browser.phase == "cancelled"
    browser.send("views", count=1)
    assert explorer.wait(LONG) and explorer.record.parameters["seed"] == 1


def test_the_seed_stays_until_it_is_let_go(explorer, browser) -> None:
    explorer.set(guidance_scale=3)
    assert explorer.wait(LONG) and browser.values["seed"] == 0
    browser.send("lock", on=False)
    assert browser["_locked"] is False
    browser.change(moving=True, guidance_scale=4)
    drawn = browser.values["seed"]
    assert drawn != 0
    browser.change(moving=True, guidance_scale=5)
    browser.change(guidance_scale=5)
    assert browser.values["seed"] == drawn  # the draft shows what the full image will be
    explorer.set(guidance_scale=6)
    assert browser.values["seed"] != drawn
    explorer.set(seed=7)
    assert browser.values["seed"] == 7 and explorer.wait(LONG)


def test_every_stroke_makes_a_new_image(explore, inpaint, hold) -> None:
    painter, ran = MaskPainter(noise(1)), hold()
    ran.opened.set()
    explorer = explore(inpaint, None, painter)
    browser = explorer.browser
    assert browser.phase == "invalid" and "Nothing is painted yet" in browser.text and not ran.calls
    painter.mask = half_mask()
    assert explorer.wait(LONG) and browser.phase == "done"
    first, number = explorer.image, browser.shown
    assert same(explorer.record.parameters["mask_image"], half_mask())
    painter.mask = half_mask().rotate(90)
    assert explorer.wait(LONG) and not same(explorer.image, first)
    before = ran.calls
    browser.send("recall", number=number)
    assert same(painter.mask, half_mask()) and same(explorer.image, first)
    assert explorer.wait(LONG) and ran.calls == before
    explorer.close()
    painter.mask = half_mask().rotate(180)
    assert ran.calls == before


# A pipeline that changes under it


@pytest.mark.parametrize("chosen", [None, "EulerDiscreteScheduler"])
def test_a_scheduler_exchanged_in_a_cell_is_shown_and_used(explore, inpaint, chosen) -> None:
    explorer = explore(inpaint, noise(1), half_mask(), **({"scheduler": chosen} if chosen else {}))
    browser, before = explorer.browser, type(inpaint.scheduler).__name__
    inpaint.scheduler = DDIMScheduler.from_config(inpaint.scheduler.config)
    explorer.set(seed=1)
    assert explorer.wait(LONG)
    expected = chosen or "DDIMScheduler"
    [control] = [one for one in browser["_controls"] if one["name"] == "scheduler"]
    assert control["choices"][0] == control["default"] == "DDIMScheduler" and before in control["choices"]
    for wanted in (None, before, "DDIMScheduler", "UniPCMultistepScheduler"):
        if wanted:
            assert not browser.change(scheduler=wanted) and explorer.wait(LONG)
            expected = wanted
        used = explorer.record.origin["schedulers"]["scheduler"]["class"]
        assert browser.values["scheduler"] == used == expected
        assert same(make(inpaint, **explorer.parameters).image, explorer.image)


def test_choosing_the_old_scheduler_right_after_the_exchange_works(explore, inpaint) -> None:
    explorer = explore(inpaint, noise(1), half_mask())
    before = type(inpaint.scheduler).__name__
    inpaint.scheduler = DDIMScheduler.from_config(inpaint.scheduler.config)
    assert explorer.parameters.get("scheduler", "DDIMScheduler") == "DDIMScheduler"
    assert not explorer.browser.change(scheduler=before) and explorer.wait(LONG)
    assert explorer.record.origin["schedulers"]["scheduler"]["class"] == before == explorer.browser.values["scheduler"]


def test_a_scheduler_exchanged_while_its_job_waits_is_noted_for_the_image(explore, inpaint, hold) -> None:
    explorer = explore(inpaint, noise(1), half_mask())
    held = hold()
    other = explore(inpaint, noise(2), half_mask(), wait=False)
    assert held.reached.wait(LONG)
    explorer.set(seed=5)  # waits behind the other's
    inpaint.scheduler = DDIMScheduler.from_config(inpaint.scheduler.config)
    held.opened.set()
    assert explorer.wait(LONG) and other.wait(LONG)
    assert explorer.record.origin["schedulers"]["scheduler"]["class"] == "DDIMScheduler"
    assert explorer.browser.values["scheduler"] == "DDIMScheduler"
    number = explorer.browser.shown
    explorer.set(seed=6, scheduler="EulerDiscreteScheduler")
    assert explorer.wait(LONG) and not explorer.browser.send("recall", number=number)
    assert explorer.browser.values["scheduler"] == "DDIMScheduler"


# Seeds beyond what JavaScript's numbers hold


@pytest.mark.parametrize("seed", [2**53 - 1, 2**53, 2**53 + 1, 2**63, 2**64 - 1])
def test_a_large_seed_keeps_its_digits_on_the_page_and_back(explore, inpaint, tmp_path, seed) -> None:
    explorer = explore(inpaint, noise(1), half_mask(), seed=seed)
    browser = explorer.browser
    on_page = seed if seed < 2**53 else str(seed)
    assert browser.values["seed"] == on_page and explorer.record.parameters["seed"] == seed
    file = explorer.save(tmp_path / "a.png")
    assert not browser.change(seed=3) and explorer.wait(LONG) and browser.values["seed"] == 3
    for restore in (lambda: explorer.restore(file), lambda: explorer.restore(memoryview(file.read_bytes()))):
        explorer.set(seed=4)
        assert explorer.wait(LONG)
        restore()
        assert browser.values["seed"] == on_page and explorer.parameters["seed"] == seed
    assert not browser.change(seed=on_page, guidance_scale=2.0) and explorer.wait(LONG)
    assert explorer.record.parameters["seed"] == seed and f"manual_seed({seed})" in explorer.code()


@pytest.mark.parametrize("seed", ["18446744073709551616", "1.5", "-1", "", "1e3", "9" * 99, "x"])
def test_a_seed_that_is_none_is_refused_on_the_page(explorer, browser, seed) -> None:
    assert "seed=" in browser.change(seed=seed) and browser.values["seed"] == 0


def test_steps_that_a_scheduler_cannot_run_are_said_before_the_model_runs(
    explorer, browser, inpaint, monkeypatch
) -> None:
    monkeypatch.setattr(inpaint.unet, "forward", lambda *_, **__: pytest.fail("the model ran"))
    assert not browser.change(scheduler="UniPCMultistepScheduler", num_inference_steps=1000)
    assert browser.phase == "invalid" and "Scheduler fails (AssertionError). Use num_inference_steps=" in browser.text
    with pytest.raises(ValueError, match="half a character"):
        explorer.set(prompt="a \ud83d")
    assert "half a character" in browser.change(prompt="a \ud83d")


# One canvas: paint, accept, paint on


@pytest.fixture
def painted(explore, inpaint):
    """An Explorer with two accepted images, and a third that was painted on the second."""
    explorer = explore(inpaint, noise(1), half_mask())
    for turn in (90, 180):
        explorer.accept()
        explorer.browser.paint(half_mask().rotate(turn))
        assert explorer.wait(LONG)
    return explorer


def test_an_accepted_image_is_the_input_of_the_next_and_painting_begins_anew(explorer, browser) -> None:
    first = explorer.record
    assert not browser.send("accept") and browser["_at"] == 1 and explorer.steps == [first]
    assert browser.phase == "idle" and "Paint over what" in browser.text and browser.shown == 1
    assert same(browser.image("_before"), first.image) and same(browser.image("_picture"), first.image)
    assert same(browser["_painter"].image, first.image) and not browser["_painter"].mask.getbbox()
    browser.paint(half_mask().rotate(90))
    assert explorer.wait(LONG) and browser.phase == "done" and len(explorer.records) == 2
    assert same(explorer.record.parameters["image"], first.image)
    assert same(explorer.record.parameters["mask_image"], half_mask().rotate(90))
    assert [step["text"] for step in browser["_steps"]][0] == "The image that was given"


def test_the_images_are_those_of_plain_calls_one_after_the_other(painted, inpaint) -> None:
    image = noise(1)
    for turn in (0, 90, 180):
        image = inpaint(
            prompt="a cat", image=image, mask_image=half_mask().rotate(turn), height=SIZE, width=SIZE,
            num_inference_steps=3, generator=torch.Generator("cpu").manual_seed(0),
        ).images[0]  # fmt: skip
    assert same(painted.image, image)


def test_one_goes_back_to_any_accepted_image_and_forward_again(painted) -> None:
    browser, (first, second, third) = painted.browser, painted.records
    browser.send("back", step=1)
    assert painted.steps == [first] and same(painted.image, first.image) and browser["_at"] == 1
    assert same(browser.image("_before"), first.image) and not browser["_painter"].mask.getbbox()
    browser.send("back", step=0)
    assert painted.steps == [] and painted.image is None and not browser["_picture"]
    assert same(browser.image("_before"), noise(1)) and len(browser["_steps"]) == 3
    browser.send("back", step=2)
    assert painted.steps == [first, second] and same(browser.image("_before"), second.image)
    browser.send("recall", number=3)
    assert same(painted.image, third.image) and painted.steps == [first, second]
    assert same(browser["_painter"].mask, half_mask().rotate(180)) and same(browser.image("_before"), second.image)
    browser.send("recall", number=1)
    assert painted.steps == [] and same(browser.image("_before"), noise(1)) and len(browser["_steps"]) == 3
    assert not browser.send("accept") and painted.steps == [first] and len(browser["_steps"]) == 2


def test_the_code_makes_the_whole_chain(painted, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    painted.set(scheduler="DDIMScheduler")
    assert painted.wait(LONG)
    code = painted.code()
    assert code.count("from_pretrained") == 1 and code.count(".images[0]") == 3
    assert code.count("    image=image,") == 2 and code.count("image=Image.open(") == 1 + 3
    assert code.count("pipe.scheduler = DDIMScheduler(") == 1
    space: dict = {}
    exec(code, space)  # noqa: S102
    assert same(space["image"], painted.image)
    painted.back(1)
    assert painted.code().count(".images[0]") == 1


def test_what_cannot_be_accepted_is_said(explorer, explore, browser, inpaint) -> None:
    explorer.accept()
    assert "this image is the input already" in browser.send("accept")
    explorer.back(0)
    assert "there is no image yet" in browser.send("accept")
    with pytest.raises(ValueError, match="step=2"):
        explorer.back(2)
    words = explore(quiet("sd15"))
    assert "starts from no image" in words.browser.send("accept")
    other = explore(quiet("sd15-inpaint"), noise(1), half_mask(), num_inference_steps=20)
    other.browser.change(moving=True, guidance_scale=3.0)
    assert other.wait(LONG) and "this is a draft" in other.browser.send("accept")
    assert other.steps == []


def test_an_accepted_image_of_image_to_image_is_made_anew_at_once(explore) -> None:
    explorer = explore(quiet("sd15", task="image2image"), noise(1), strength=0.9)
    first = explorer.image
    explorer.accept()
    assert explorer.wait(LONG) and same(explorer.record.parameters["image"], first)
    explorer.back(0)
    assert explorer.wait(LONG) and same(explorer.image, first)


def test_a_painter_shows_another_image_of_its_size_only() -> None:
    painter = MaskPainter(noise(1), half_mask())
    painter.image = noise(2)
    assert same(painter.image, noise(2)) and same(painter.mask, half_mask())
    with pytest.raises(ValueError, match="image is 64 x 64 pixels, the painter's 32 x 32"):
        painter.image = noise(2, size=64)
    assert same(painter.image, noise(2))
