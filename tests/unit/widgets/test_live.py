"""Live images: finished in four steps while a value is changed, and the full one once it is chosen."""

from __future__ import annotations

import importlib.util
import threading

import pytest
from PIL import Image

from helpers import Explorer
from helpers.generation import job_queue
from helpers.generation.records import make
from helpers.pipelines import few_steps
from helpers.widgets.explorer.controls import ControlSet
from helpers.widgets.explorer.session import UNSEEN_LIVE
from tests.support.calls import half_mask, noise
from tests.support.few_steps import lora  # noqa: F401
from tests.support.queue import LONG, Hold
from tests.support.tiny import SIZE, quiet
from tests.support.widgets import same

pytestmark = pytest.mark.usefixtures("lora")


@pytest.fixture
def live(explore, inpaint) -> Explorer:
    return explore(inpaint, noise(1), half_mask(), num_inference_steps=20)


def test_a_moving_value_makes_a_live_image_and_the_chosen_one_the_full_image(live, inpaint) -> None:
    browser, first = live.browser, live.image
    assert browser["_live"] is True and same(first, make(inpaint, **live.parameters).image)
    browser.change(moving=True, strength=0.6)
    assert live.wait(LONG) and browser.phase == "done" and browser.shown is None and len(live.records) == 1
    assert browser.kind == "live"
    record = live.record
    used = {name: record.parameters[name] for name in ("scheduler", "num_inference_steps", "guidance_scale", "seed")}
    assert used == {"scheduler": "LCMScheduler", "num_inference_steps": 7, "guidance_scale": 1.0, "seed": 0}
    assert same(record.image, make(few_steps.fused(inpaint), **record.parameters).image)
    assert live.parameters["num_inference_steps"] == 20 and "scheduler" not in live.parameters

    browser.change(strength=0.6)
    assert live.wait(LONG) and browser.kind == "full"
    assert len(live.records) == 2 and same(live.image, make(inpaint, **live.parameters).image)
    assert same(make(inpaint, **live.records[0].parameters).image, first)  # nothing of the LoRA stays


@pytest.mark.parametrize(("name", "value"), [("guidance_scale", 3.0), ("negative_prompt", "a dog"),
                                             ("num_inference_steps", 30), ("scheduler", "DDIMScheduler")])  # fmt: skip
def test_what_a_live_image_would_not_show_is_seen_in_a_draft(live, name, value) -> None:
    live.browser.change(moving=True, **{name: value})
    assert live.wait(LONG) and live.browser.kind == "draft"
    assert live.record.parameters["scheduler"] == "UniPCMultistepScheduler"
    assert live.record.origin["adapters"] == {}


def test_the_controls_that_live_images_do_not_follow_are_controls(inpaint) -> None:
    assert ControlSet(inpaint, side=SIZE).controls.keys() > UNSEEN_LIVE


def test_the_page_switches_live_images_off_and_on(live) -> None:
    for on in (False, True):
        assert live.browser.send("live", on=on) == "" and live.browser["_live"] is on
        live.browser.change(moving=True, strength=0.4 + on / 4)
        assert live.wait(LONG) and (live.browser.kind == "live") is on


def test_the_lora_is_loaded_in_the_worker_once_the_page_shows_live_images(explore, inpaint, monkeypatch) -> None:
    heard, fused = [], few_steps.fused
    monkeypatch.setattr(few_steps, "fused", lambda pipe: heard.append(threading.current_thread().name) or fused(pipe))

    def loads(explorer) -> int:
        """How often the LoRA was asked for since; every job before is over then."""
        over = threading.Event()
        job_queue.shared.call(over.set)
        assert over.wait(LONG)
        assert {*heard} <= {job_queue.WORKER}
        count = len(heard)
        heard.clear()
        return count

    off = explore(inpaint, noise(1), half_mask(), live=False)
    off.browser.send("views", count=1)
    off.browser.send("live", on=True)
    assert loads(off) == 0
    hold = Hold(inpaint)
    try:
        live = explore(inpaint, noise(1), half_mask(), wait=False)
        live.browser.send("views", count=1)
        assert hold.reached.wait(LONG) and not heard  # the first image comes first
        hold.opened.set()
        assert loads(live) == 1 and live.browser.phase == "done" and live.browser.shown == 1
    finally:
        hold.opened.set()
        hold.hook.remove()
    live.browser.send("views", count=0)
    live.browser.send("live", on=False)
    live.browser.send("views", count=1)
    assert loads(live) == 0
    monkeypatch.setattr(few_steps, "fused", lambda pipe: heard.append("course-worker") or 1 / 0)
    live.browser.send("live", on=True)
    assert loads(live) == 1
    live.browser.change(strength=0.6)
    assert live.wait(LONG) and live.browser.phase == "done"


def test_a_live_image_gives_way_to_the_full_one_and_can_be_cancelled(live, inpaint) -> None:
    browser = live.browser
    browser.change(moving=True, strength=0.9)
    assert live.wait(LONG)
    hold = Hold(few_steps.fused(inpaint))
    try:
        browser.change(moving=True, strength=0.5)
        assert hold.reached.wait(LONG) and browser["_state"]["making"] == "live"
        browser.change(strength=0.8)
        hold.opened.set()
        assert live.wait(LONG) and hold.calls == 1 and browser.kind == "full"
        assert [record.parameters.get("strength") for record in live.records][1:] == [0.8]

        hold.reached.clear()
        hold.opened.clear()
        browser.change(moving=True, strength=0.3)
        assert hold.reached.wait(LONG) and live.cancel()
        hold.opened.set()
        assert live.wait(LONG) and browser.phase == "cancelled" and hold.calls == 2 and len(live.records) == 2
    finally:
        hold.opened.set()
        hold.hook.remove()


def test_a_live_image_is_neither_accepted_nor_restored(live, tmp_path) -> None:
    live.browser.change(moving=True, strength=0.6)
    assert live.wait(LONG) and "this is a live image" in live.browser.send("accept")
    file = live.save(tmp_path / "live.png")
    before = live.parameters
    with pytest.raises(ValueError, match="this is a live image, whose controls were still moving"):
        live.restore(file)
    assert live.parameters == before


def strip(width: int) -> Image.Image:
    """A mask of the left columns."""
    mask = Image.new("L", (SIZE, SIZE))
    mask.paste(255, (0, 0, width, SIZE))
    return mask


@pytest.mark.parametrize("on", [True, False])
def test_the_image_follows_a_stroke_and_only_the_released_one_is_kept(live, inpaint, on) -> None:
    browser, before = live.browser, live.parameters
    browser.send("live", on=on)
    for width in (8, 12):
        assert browser.draw(strip(width)) == "" and browser.heard[-1][0] == {"kind": "drawn"}
        assert live.wait(LONG) and browser.phase == "done" and browser.shown is None
        assert browser.kind == ("live" if on else "draft")
        assert same(live.record.parameters["mask_image"], strip(width)) and len(live.records) == 1
        used = few_steps.fused(inpaint) if on else inpaint
        assert same(live.image, make(used, **live.record.parameters).image)
        assert live.parameters == before and same(browser["_painter"].mask, half_mask())
    browser.paint(strip(20))
    assert live.wait(LONG) and browser.kind == "full" and browser.shown == 2
    masks = [record.parameters["mask_image"] for record in live.records]
    assert same(masks[0], half_mask()) and same(masks[1], strip(20))
    assert same(live.image, make(inpaint, **live.parameters).image) and same(live.parameters["mask_image"], strip(20))


def test_of_the_masks_of_a_stroke_only_the_newest_waits_and_the_released_one_supersedes_all(live, inpaint) -> None:
    browser = live.browser
    browser.draw(strip(4))
    assert live.wait(LONG)
    hold, made = Hold(few_steps.fused(inpaint)), []
    try:
        live.observe(lambda _: made.append(live.record.parameters["mask_image"].getbbox()[2]), "_picture")
        for width in range(5, 12):
            browser.draw(strip(width))
            assert hold.reached.wait(LONG)
        hold.opened.set()
        assert live.wait(LONG) and made == [5, 11] and hold.calls == 8

        hold.reached.clear()
        hold.opened.clear()
        browser.draw(strip(12))
        assert hold.reached.wait(LONG)
        browser.draw(strip(13))
        browser.paint(strip(14))
        hold.opened.set()
        assert live.wait(LONG) and made[2:] == [14] and browser.shown == 2 and browser.kind == "full"
    finally:
        hold.opened.set()
        hold.hook.remove()


def test_a_stroke_that_is_given_up_leaves_the_image_before_it(live) -> None:
    browser, first = live.browser, live.image
    browser.draw(strip(8))
    assert live.wait(LONG) and not same(live.image, first)
    assert browser.draw(None) == ""
    assert live.wait(LONG) and same(live.image, first) and browser.shown == 1 and len(live.records) == 1
    assert browser.kind == "full" and same(browser["_painter"].mask, half_mask())


def test_a_stroke_that_makes_no_call_says_why_and_the_next_goes_on(live) -> None:
    browser = live.browser
    assert browser.draw(Image.new("L", (SIZE, SIZE))) == "" and browser.phase == "invalid"
    assert "Nothing is painted yet" in browser.text
    assert browser.send("draw", b"no mask") and browser.draw(noise(1, "L", 2 * SIZE))
    browser.draw(strip(8))
    assert live.wait(LONG) and browser.phase == "done" and browser.kind == "live"


def test_a_stroke_means_nothing_where_there_is_no_mask(explore) -> None:
    explorer = explore(quiet("sd15"), height=SIZE, width=SIZE)
    assert explorer.browser.draw(strip(8)) == ""
    assert explorer.wait(LONG) and explorer.browser.shown == 1


@pytest.mark.parametrize("controlnet", ["controlnet-inpaint", "controlnet-depth"])
def test_a_controlnet_steers_live_images_too(explore, controlnet) -> None:
    pipe = quiet("sd15-inpaint", controlnet=controlnet)
    explorer = explore(pipe, noise(1), half_mask(), control_image=noise(2), num_inference_steps=20)
    images = []
    for scale in (0.0, 2.0):
        explorer.browser.change(moving=True, controlnet_conditioning_scale=scale)
        assert explorer.wait(LONG) and explorer.browser.kind == "live", explorer.browser.text
        images.append(explorer.image)
    assert not same(*images)


def test_without_live_images_there_is_no_switch_and_drafts_as_before(explore, inpaint, monkeypatch) -> None:
    off = explore(inpaint, noise(1), half_mask(), num_inference_steps=20, live=False)
    sdxl = explore(quiet("sdxl-inpaint"), noise(1), half_mask(), num_inference_steps=20)
    found = importlib.util.find_spec
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else found(name))
        lacking = explore(inpaint, noise(1), half_mask(), num_inference_steps=20)
        with pytest.raises(ValueError, match=r"live=True: peft is not installed.*Without live images: leave live out"):
            explore(inpaint, noise(1), half_mask(), live=True)
    for explorer in (off, sdxl, lacking):
        assert explorer.browser["_live"] is None
        explorer.browser.send("live", on=True)
        assert explorer.browser["_live"] is None
        explorer.browser.change(moving=True, strength=0.6)
        assert explorer.wait(LONG) and explorer.browser.kind == "draft"


def test_live_is_refused_where_there_is_none(explore, inpaint) -> None:
    pipe = quiet("sdxl-inpaint")
    pipe.unet.register_forward_pre_hook(lambda *_: pytest.fail("the UNet ran"))
    with pytest.raises(ValueError, match=r"live=True: the few-step LoRA 'lcm' was trained for sd15, .* does not fit"):
        explore(pipe, noise(1), half_mask(), live=True)
