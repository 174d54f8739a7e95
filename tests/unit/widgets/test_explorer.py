"""The Explorer's Python side; what a browser makes of it is in tests/browser/test_explorer.py."""

from __future__ import annotations

import base64
import io
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from helpers import MaskPainter
from helpers.common import lock
from helpers.generation import png_record
from helpers.generation.records import make
from helpers.pipelines.loading import load
from helpers.widgets.explorer.widget import Explorer
from tests.support.calls import CALLS, half_mask, noise
from tests.support.queue import Hold, engine  # noqa: F401
from tests.support.tiny import SIZE, failing, inpaint_pipeline, quiet, tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")
LONG = 120
SEEN = ("prompt", "negative_prompt", "strength", "guidance_scale", "num_inference_steps", "seed", "scheduler")
MASKED = ("blur_factor", "padding_mask_crop", "keep_unmasked")


@pytest.fixture
def explore(monkeypatch):
    """Makes Explorers of few steps, waits for their first picture, and closes them."""
    monkeypatch.setattr(
        "helpers.pipelines.latent_preview.SIDE", 32
    )  # each has a VAE of its own, and a map of it is fitted
    made = []

    def explore(pipe, *inputs, wait: bool = True, **parameters) -> Explorer:
        parameters = {"prompt": "a cat", "num_inference_steps": 3} | parameters
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a mask that is half the picture
            explorer = Explorer(pipe, *inputs, **parameters)
        explorer.sent = []
        plain = explorer.send
        explorer.send = lambda content, buffers=None: (
            explorer.sent.append((content, buffers)),
            plain(content, buffers),
        )
        made.append(explorer)
        assert not wait or explorer.wait(LONG)
        return explorer

    yield explore
    for explorer in made:
        explorer.close()


@pytest.fixture
def explorer(explore, inpaint):
    return explore(inpaint, noise(1), half_mask())


def ask(explorer, kind: str, *buffers: bytes, **content) -> str:
    """A message as the browser sends it; returns why it was refused, or nothing."""
    before = len(explorer.sent)
    explorer._receive(explorer, {"kind": kind, **content}, list(buffers))
    return " ".join(said["text"] for said, _ in explorer.sent[before:] if said["kind"] == "refused")


def counted(pipe) -> list:
    ran = []
    pipe.unet.register_forward_pre_hook(lambda *_: ran.append(1))
    return ran


def pixels(png: bytes) -> tuple:
    with Image.open(io.BytesIO(png)) as picture:
        return picture.mode, picture.size, picture.tobytes()


def same(one: Image.Image, other: Image.Image) -> bool:
    return (one.mode, one.size, one.tobytes()) == (other.mode, other.size, other.tobytes())


def test_the_first_picture_is_that_of_the_plain_call(explorer, inpaint) -> None:
    plain = inpaint(
        prompt="a cat", image=noise(1), mask_image=half_mask(), height=SIZE, width=SIZE, num_inference_steps=3,
        generator=torch.Generator("cpu").manual_seed(0),
    ).images[0]  # fmt: skip
    assert same(explorer.image, plain) and explorer._state["phase"] == "done" and not explorer._state["draft"]
    assert pixels(explorer._picture) == (plain.mode, plain.size, plain.tobytes())
    assert [record.parameters["seed"] for record in explorer.records] == [0]


@pytest.mark.parametrize(("name", "task", "controlnet", "kind"), CALLS)
def test_only_what_the_pipeline_takes_is_shown_and_it_makes_a_picture(
    explore, name, task, controlnet, kind, monkeypatch
) -> None:
    monkeypatch.setattr("helpers.pipelines.latent_preview.picture", lambda *_: None)  # fitting one takes a while
    pipe = quiet(name, task=None if task == "upscale" else task, controlnet=controlnet)
    side = 64 if "kandinsky" in name or name == "upscale-x2" else SIZE
    more = {"strength": 0.9} if task == "image2image" else {}
    if controlnet and task != "text2image":
        more["control_image"] = noise(2)
    if "kandinsky" in name:
        more["prior_num_inference_steps"] = 2
    inputs = [] if task == "text2image" and not controlnet else [noise(1, size=side)]
    explorer = explore(pipe, *inputs, *([half_mask(side)] if task == "inpaint" else []), **more)
    assert explorer._state["phase"] == "done", explorer._state["text"]
    shown = set(explorer._values)
    assert ("strength" in shown) == (
        task in ("image2image", "inpaint") and kind != "KandinskyV22InpaintCombinedPipeline"
    )
    assert {"blur_factor", "keep_unmasked"} <= shown if task == "inpaint" else not shown & set(MASKED)
    assert ("padding_mask_crop" in shown) == (task == "inpaint" and "kandinsky" not in name)
    assert ("controlnet_conditioning_scale" in shown) == (controlnet is not None)
    assert {"prompt", "negative_prompt", "guidance_scale", "num_inference_steps", "seed"} <= shown
    assert explorer.record.parameters["num_inference_steps"] == 3


def test_the_parameters_make_the_picture_again(explorer, inpaint) -> None:
    explorer.set(
        strength=0.7, num_inference_steps=5, seed=4, scheduler="DDIMScheduler", blur_factor=3, keep_unmasked=True
    )
    assert explorer.wait(LONG)
    assert set(explorer._values) == {*SEEN, *MASKED}
    assert same(make(inpaint, **explorer.parameters).image, explorer.image)
    assert explorer.record.parameters["blur_factor"] == 3 and explorer.record.parameters["keep_unmasked"] is True
    assert "Explorer(StableDiffusionInpaintPipeline, 'a cat', strength=0.7" in repr(explorer)


def test_a_moving_value_makes_a_draft_and_the_chosen_one_the_full_picture(explore, inpaint) -> None:
    explorer = explore(inpaint, noise(1), half_mask(), num_inference_steps=20)
    ask(explorer, "change", values={"strength": 0.6}, moving=True)
    assert explorer.wait(LONG)
    assert explorer._state["draft"] and explorer._state["shown"] is None and len(explorer.records) == 1
    draft = explorer.record.parameters
    assert (draft["scheduler"], draft["num_inference_steps"], draft["strength"]) == ("UniPCMultistepScheduler", 10, 0.6)
    assert explorer.parameters["num_inference_steps"] == 20 and "scheduler" not in explorer.parameters
    ask(explorer, "change", values={"strength": 0.6}, moving=False)
    assert explorer.wait(LONG)
    assert not explorer._state["draft"] and len(explorer.records) == 2
    assert same(explorer.image, make(inpaint, **explorer.parameters).image)


def test_no_drafts_where_none_are_wanted(explore, inpaint) -> None:
    explorer = explore(inpaint, noise(1), half_mask(), num_inference_steps=9, draft_steps=0)
    ask(explorer, "change", values={"strength": 0.6}, moving=True)
    assert explorer.wait(LONG)
    assert not explorer._state["draft"] and explorer.record.parameters["num_inference_steps"] == 9
    assert len(explorer.records) == 1  # it is not chosen yet


def test_previews_and_steps_reach_the_browser(explore, inpaint, monkeypatch) -> None:
    monkeypatch.setattr("helpers.widgets.explorer.widget.PACE", 0.0)
    explorer = explore(inpaint, noise(1), half_mask())
    explorer.set(seed=3)
    assert explorer.wait(LONG)
    steps = [(said["step"], buffers) for said, buffers in explorer.sent if said["kind"] == "step"]
    assert [step for step, _ in steps[-4:]] == [1, 2, 3, 4]  # PNDM takes one step more than asked for
    for _, buffers in steps:
        assert not buffers or pixels(buffers[0])[1] == (SIZE, SIZE)


def test_the_history_brings_a_picture_and_its_parameters_back_at_once(explorer, inpaint) -> None:
    first, values = explorer.image, dict(explorer._values)
    number = explorer._state["shown"]
    explorer.set(prompt="a dog", strength=0.5, num_inference_steps=4, scheduler="DDIMScheduler", padding_mask_crop=4)
    assert explorer.wait(LONG) and explorer._values["padding_mask_crop"] == 4
    ran = counted(inpaint)
    assert not ask(explorer, "recall", number=number)
    assert same(explorer.image, first) and explorer._values == values and explorer._state["shown"] == number
    assert not ran and len(explorer.records) == 2
    assert not ask(explorer, "recall", number=-5)  # dropped meanwhile: nothing happens
    assert same(explorer.image, first)


def test_pins_carry_their_pictures(explorer) -> None:
    first, number = explorer.image, explorer._state["shown"]
    ask(explorer, "pin", place="a", number=number)
    assert explorer._pins == {"a": number} and pixels(explorer._a)[2] == first.tobytes() and explorer._b == b""
    ask(explorer, "pin", place="a", number=None)
    assert explorer._pins == {} and explorer._a == b""
    assert "expected 'a' or 'b'" in ask(explorer, "pin", place="c", number=number)


def test_a_late_view_gets_the_whole_history(explorer) -> None:
    explorer.set(seed=8)
    assert explorer.wait(LONG)
    ask(explorer, "hello")
    content, thumbs = explorer.sent[-1]
    assert [entry["text"] for entry in content["entries"]] == [
        f"'a cat', strength=1, guidance_scale=7.5, num_inference_steps=3, seed={seed}" for seed in (0, 8)
    ]
    assert len(thumbs) == 2


# ---- Saving, restoring, code


def test_a_saved_picture_restores_everything(explorer, inpaint, tmp_path) -> None:
    chosen = {
        "prompt": "a ship", "negative_prompt": "fog", "strength": 0.85, "guidance_scale": 3.25, "seed": 77,
        "num_inference_steps": 4, "scheduler": "EulerDiscreteScheduler", "blur_factor": 2.5, "padding_mask_crop": 0,
        "keep_unmasked": True,
    }  # fmt: skip
    explorer.set(**chosen)
    assert explorer.wait(LONG)
    picture = explorer.image
    ask(explorer, "save")
    (content, (data,)) = explorer.sent[-1]
    assert content["name"].startswith("a-ship-") and content["name"].endswith(".png")
    assert explorer.save(tmp_path / "a.png").read_bytes() == data
    explorer.set(**explorer._form.defaults)
    assert explorer.wait(LONG) and explorer._values != chosen
    ran = counted(inpaint)
    assert not ask(explorer, "restore", data)
    assert explorer._values == chosen and same(explorer.image, picture) and not ran
    assert explorer._state["phase"] == "done" and explorer._state["text"] == ""


def test_another_explorer_takes_picture_and_mask_from_the_file(explorer, explore, inpaint, tmp_path) -> None:
    file = explorer.save(tmp_path / "a.png")
    other = explore(inpaint, noise(5), half_mask().rotate(90), prompt="a dog")
    other.restore(file)
    assert same(other.image, explorer.image)
    assert other.parameters["image"].tobytes() == noise(1).tobytes() and pixels(other._before)[2] == noise(1).tobytes()
    other.set(seed=9)
    explorer.set(seed=9)
    assert other.wait(LONG) and explorer.wait(LONG) and same(other.image, explorer.image)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no picture", "picture=<10 bytes> is not an image that can be read"),
        (b"GIF89a...", "is a GIF, animated or not: expected PNG"),
        (b"", "is empty"),
        ("plain", "has no record of this course in it"),
        ("cut", "broken or cut off"),
    ],
)
def test_a_file_that_holds_no_record_is_refused_with_its_reason(explorer, tmp_path, data, message) -> None:
    if data == "plain":
        noise(3).save(tmp_path / "a.png")
        data = (tmp_path / "a.png").read_bytes()
    elif data == "cut":
        data = explorer.save(tmp_path / "a.png").read_bytes()[:-300]
    values, picture = dict(explorer._values), explorer.image
    assert message in ask(explorer, "restore", data)
    assert explorer._values == values and same(explorer.image, picture)


def test_a_picture_of_another_pipeline_is_refused(explorer, explore, tmp_path) -> None:
    other = explore(load("sd15"))
    file = other.save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="made by StableDiffusionPipeline; this Explorer has a StableDiffusionInpaint"):
        explorer.restore(file)
    assert explorer._values["prompt"] == "a cat"


def test_a_file_without_its_inputs_needs_the_same_ones_here(explorer, explore, inpaint, tmp_path) -> None:
    bare = explorer.record.save(tmp_path / "bare.png", inputs=False)
    explorer.set(seed=5)
    assert explorer.wait(LONG)
    explorer.restore(bare)
    assert explorer._values["seed"] == 0 and explorer.parameters["image"].tobytes() == noise(1).tobytes()
    other = explore(inpaint, noise(2), half_mask())
    with pytest.raises(ValueError, match="saved without its inputs, and image is not the one that is here"):
        other.restore(bare)


def test_other_weights_are_named_when_a_picture_is_restored(explorer, inpaint, tmp_path) -> None:
    file = explorer.save(tmp_path / "a.png")
    with torch.no_grad():
        inpaint.unet.conv_in.weight.mul_(1.1)
    explorer.restore(file)
    assert "made again here it may differ: the weights of unet" in explorer._state["text"]


def test_only_an_edited_picture_is_said_to_be_edited(explorer, tmp_path, monkeypatch) -> None:
    file, read = explorer.save(tmp_path / "a.png"), png_record.read

    def warning(path):
        warnings.warn("about something else, perhaps in another thread", UserWarning, stacklevel=2)
        return read(path)

    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="something else"):
        patch.setattr(png_record, "read", warning)
        explorer.restore(file)
    assert explorer._state["text"] == ""
    picture, content, inputs = png_record.read(file)
    del content["format"]
    png_record.write(file, ImageOps.invert(picture), content, inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explorer.restore(file)
    assert explorer._state["text"] == "The picture was edited after it was recorded."


def test_a_pipeline_with_another_scheduler_takes_the_records(explorer, explore, tmp_path) -> None:
    from diffusers import DDIMScheduler

    pipe = load("sd15-inpaint")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    other = explore(pipe, noise(1), half_mask())
    other.restore(explorer.save(tmp_path / "a.png"))
    assert other._values["scheduler"] == "PNDMScheduler" and other.parameters["scheduler"] == "PNDMScheduler"


@pytest.mark.parametrize("task", ["inpaint", "image2image", "text2image"])
def test_the_code_makes_exactly_this_picture_in_a_process_without_helpers(explore, tmp_path, monkeypatch, task) -> None:
    monkeypatch.chdir(tmp_path)
    pipe = quiet("sd15-inpaint" if task == "inpaint" else "sd15", task=task)
    inputs = {"inpaint": (noise(1), half_mask()), "image2image": (noise(1),), "text2image": ()}[task]
    more = {"blur_factor": 4, "keep_unmasked": True, "strength": 0.8} if task == "inpaint" else {}
    explorer = explore(
        pipe, *inputs, num_inference_steps=5, negative_prompt="a dog", seed=3, scheduler="DDIMScheduler", **more
    )
    assert explorer._state["phase"] == "done"
    ask(explorer, "code")
    code = explorer.sent[-1][0]["text"]
    assert code == explorer.code() and "helpers" not in code
    assert (tmp_path / "outputs").is_dir() == bool(inputs)
    (tmp_path / "script.py").write_text(
        f'{code}\nimport sys\nassert "helpers" not in sys.modules\nimage.save("made.png")\n'
    )
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, check=True, capture_output=True)
    with Image.open(tmp_path / "made.png") as made:
        assert same(made, explorer.image)


def test_a_drafts_code_is_the_drafts(explore, inpaint, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    explorer = explore(inpaint, noise(1), half_mask(), num_inference_steps=20)
    ask(explorer, "change", values={"seed": 2}, moving=True)
    assert explorer.wait(LONG)
    space: dict = {}
    exec(explorer.code(), space)  # noqa: S102
    assert same(space["image"], explorer.image) and "num_inference_steps=6" in explorer.code()


# ---- What is wrong


@pytest.mark.parametrize(
    ("name", "inputs", "more", "error", "message"),
    [
        (None, ("sd15-inpaint",), {}, TypeError, r"pipe='sd15-inpaint' is a name: pass the pipeline itself, load\("),
        (None, (3,), {}, TypeError, "pipe is a int: expected a diffusers pipeline"),
        ("sd15-inpaint", (), {}, ValueError, r"image: StableDiffusionInpaintPipeline starts from a picture"),
        ("sd15-inpaint", ("i",), {}, ValueError, "mask: StableDiffusionInpaintPipeline needs one. Pass a mask, or a"),
        ("sd15-inpaint", ("i", "black"), {}, ValueError, "mask is all black"),
        ("sd15-inpaint", ("i", "large"), {}, ValueError, "mask is 64 x 64 pixels, the image 32 x 32.*fit"),
        ("sd15-inpaint", ("odd", "m"), {}, ValueError, "image=33 x 33: width and height must be multiples of 8"),
        ("kandinsky22-inpaint", ("i", "m"), {}, ValueError, "multiples of 64"),
        ("sd15-inpaint", ("i", "m"), {"strenth": 0.5}, TypeError, "Did you mean 'strength'"),
        ("sd15-inpaint", ("i", "m"), {"strength": 2}, ValueError, "strength=2: expected 0 to 1"),
        ("sd15-inpaint", ("i", "m"), {"strength": 0.1}, ValueError, "leaves no step to run"),
        ("sd15-inpaint", ("i", "m"), {"guidance_scale": "7"}, TypeError, "guidance_scale='7': expected a number"),
        ("sd15-inpaint", ("i", "m"), {"num_inference_steps": 2.5}, ValueError, "num_inference_steps=2.5: expected a w"),
        ("sd15-inpaint", ("i", "m"), {"num_inference_steps": 0}, ValueError, "num_inference_steps=0: expected 1 to"),
        ("sd15-inpaint", ("i", "m"), {"seed": -1}, ValueError, "seed=-1: expected 0 to"),
        ("sd15-inpaint", ("i", "m"), {"prompt": None}, TypeError, "prompt=None: expected text"),
        ("sd15-inpaint", ("i", "m"), {"keep_unmasked": 1}, TypeError, "keep_unmasked=1: expected True or False"),
        ("sd15-inpaint", ("i", "m"), {"scheduler": "DDIMSheduler"}, ValueError, "Did you mean 'DDIMScheduler'"),
        ("sd15-inpaint", ("i", "m"), {"draft_steps": -1}, ValueError, "draft_steps=-1"),
        ("sd15-inpaint", ("i",), {"mask_image": "m"}, TypeError, "mask_image: pass it by position"),
        ("sd15", ("i",), {}, ValueError, "image: StableDiffusionPipeline makes pictures from the prompt alone"),
        ("sd15", (None, "m"), {}, ValueError, "mask: StableDiffusionPipeline takes none"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_any_model_runs(name, inputs, more, error, message) -> None:
    given = {"i": noise(1), "m": half_mask(), "black": Image.new("L", (SIZE, SIZE)), "large": half_mask(64)}
    given["odd"] = noise(1, size=33)
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


def test_a_value_from_python_that_cannot_be_changes_nothing(explorer) -> None:
    values = dict(explorer._values)
    for wrong, error in (({"strength": 0.1}, "leaves no step"), ({"strength": 3}, "expected 0 to 1")):
        with pytest.raises(ValueError, match=error):
            explorer.set(seed=5, **wrong)
    with pytest.raises(TypeError, match="blur=3: StableDiffusionInpaintPipeline has no such control"):
        explorer.set(blur=3)
    assert explorer._values == values


def test_a_value_from_the_browser_that_cannot_be_is_explained_there(explorer) -> None:
    picture = explorer.image
    ask(explorer, "change", values={"strength": 0.1}, moving=False)
    assert explorer._state["phase"] == "invalid" and "leaves no step to run" in explorer._state["text"]
    assert explorer._values["strength"] == 0.1 and same(explorer.image, picture)
    ask(explorer, "change", values={"num_inference_steps": 20}, moving=False)
    assert explorer.wait(LONG) and explorer._state["phase"] == "done" and explorer._state["text"] == ""
    assert "guidance_scale=None: expected a number" in ask(explorer, "change", values={"guidance_scale": None})
    assert ask(explorer, "nonsense")


def test_an_error_is_shown_with_its_cause_and_the_next_picture_comes(explorer, inpaint) -> None:
    with failing(inpaint):
        explorer.set(seed=1)
        assert explorer.wait(LONG)
    state = explorer._state
    assert state["phase"] == "failed" and state["text"] == "OSError: the weights are gone\nfrom KeyError: 'the cause'"
    assert "Traceback" in state["details"] and explorer.record.parameters["seed"] == 0
    explorer.set(seed=2)
    assert explorer.wait(LONG) and explorer._state["phase"] == "done" and explorer._state["text"] == ""


def test_not_a_number_is_named(explorer, inpaint) -> None:
    with torch.no_grad():
        inpaint.unet.conv_out.bias.fill_(float("nan"))
    explorer.set(seed=1)
    assert explorer.wait(LONG)
    assert explorer._state["phase"] == "failed" and "NaN: the latents stopped being numbers" in explorer._state["text"]
    assert len(explorer.records) == 1


# ---- Company


def test_a_hundred_changes_end_with_the_last(explorer, inpaint) -> None:
    hold = Hold(inpaint)
    for seed in range(1, 101):
        ask(explorer, "change", values={"seed": seed}, moving=seed % 2 == 1)
    hold.opened.set()
    assert explorer.wait(LONG)
    assert explorer._state["phase"] == "done" and explorer.record.parameters["seed"] == 100
    assert [record.parameters["seed"] for record in explorer.records] == [0, 100]


def test_cancel_leaves_the_picture_as_it_was(explorer, inpaint) -> None:
    picture, hold = explorer.image, Hold(inpaint)
    explorer.set(seed=1)
    assert hold.reached.wait(LONG)
    assert explorer._state["phase"] == "running"
    ask(explorer, "cancel")
    hold.opened.set()
    assert explorer.wait(LONG) and explorer._state["phase"] == "cancelled" and same(explorer.image, picture)
    assert not explorer.cancel()


def test_a_cell_may_call_the_pipeline_while_the_explorer_works(explorer, inpaint) -> None:
    call = {name: value for name, value in explorer.parameters.items() if name != "seed"}
    expected = {seed: make(inpaint, seed=seed, **call).image for seed in (5, 6)}
    hold = Hold(inpaint)
    explorer.set(seed=6)
    assert hold.reached.wait(LONG)
    threading.Timer(0.2, hold.opened.set).start()
    mine = inpaint(**call, generator=torch.Generator("cpu").manual_seed(5)).images[0]
    assert explorer.wait(LONG)
    assert same(mine, expected[5]) and same(explorer.image, expected[6])


def interrupt_the_waiting(called: threading.Event) -> None:
    """Ctrl-C for the main thread once it waits for its turn: any earlier, and it would end the tests' process."""
    while not called.is_set():
        with lock._change:  # which the main thread lets go of only to wait
            waits = bool(lock._waiting)
        time.sleep(0.05)
        if waits:  # a signal just before the thread falls asleep does not wake it: then another, in a while
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            called.wait(5)


def test_a_cell_that_waits_for_the_pipeline_can_be_interrupted(explorer, inpaint) -> None:
    call = {name: value for name, value in explorer.parameters.items() if name != "seed"}
    hold = Hold(inpaint)
    explorer.set(seed=6)
    assert hold.reached.wait(LONG)
    called = threading.Event()
    interrupter = threading.Thread(target=interrupt_the_waiting, args=[called])
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        try:
            inpaint(**call)
        finally:
            called.set()
    interrupter.join()
    hold.opened.set()
    assert explorer.wait(LONG) and explorer._state["phase"] == "done" and explorer.record.parameters["seed"] == 6
    assert inpaint(**call).images[0].size == (SIZE, SIZE)


def test_closed_while_it_runs(explore, inpaint) -> None:
    explorer = explore(inpaint, noise(1), half_mask())
    hold = Hold(inpaint)
    explorer.set(seed=1)
    job = explorer._runs.now.job
    assert hold.reached.wait(LONG)
    explorer.close()
    hold.opened.set()
    assert job.wait(LONG) and job.state == "cancelled" and explorer.records == []
    other = explore(inpaint, noise(1), half_mask(), seed=2)
    assert other._state["phase"] == "done"


def test_nothing_is_made_for_a_widget_that_nobody_sees(explorer, inpaint) -> None:
    ask(explorer, "views", count=1)
    hold = Hold(inpaint)
    explorer.set(seed=1)
    assert hold.reached.wait(LONG)
    ask(explorer, "views", count=0)
    hold.opened.set()
    assert explorer.wait(LONG) and explorer._state["phase"] == "cancelled"
    ask(explorer, "views", count=1)
    assert explorer.wait(LONG) and explorer.record.parameters["seed"] == 1


def test_the_seed_stays_until_it_is_let_go(explorer) -> None:
    explorer.set(guidance_scale=3)
    assert explorer.wait(LONG) and explorer._values["seed"] == 0
    ask(explorer, "lock", on=False)
    ask(explorer, "change", values={"guidance_scale": 4}, moving=True)
    drawn = explorer._values["seed"]
    assert drawn != 0
    ask(explorer, "change", values={"guidance_scale": 5}, moving=True)
    ask(explorer, "change", values={"guidance_scale": 5}, moving=False)
    assert explorer._values["seed"] == drawn  # the draft shows what the full picture will be
    explorer.set(guidance_scale=6)
    assert explorer._values["seed"] != drawn
    explorer.set(seed=7)
    assert explorer._values["seed"] == 7
    assert explorer.wait(LONG)


# ---- A mask that is painted


def test_every_stroke_makes_a_new_picture(explore, inpaint) -> None:
    painter = MaskPainter(noise(1))
    ran = counted(inpaint)
    explorer = explore(inpaint, None, painter)
    assert explorer._state["phase"] == "invalid" and "Nothing is painted yet" in explorer._state["text"] and not ran
    painter.mask = half_mask()
    assert explorer.wait(LONG) and explorer._state["phase"] == "done"
    first = explorer.image
    assert explorer.record.parameters["mask_image"].tobytes() == half_mask().tobytes()
    number = explorer._state["shown"]
    painter.mask = half_mask().rotate(90)
    assert explorer.wait(LONG) and not same(explorer.image, first)
    before = len(ran)
    ask(explorer, "recall", number=number)
    assert painter.mask.tobytes() == half_mask().tobytes() and same(explorer.image, first)
    assert explorer.wait(LONG) and len(ran) == before
    explorer.close()
    painter.mask = half_mask().rotate(180)
    assert len(ran) == before


def test_a_painter_of_another_size_is_refused(inpaint) -> None:
    with pytest.raises(ValueError, match="mask is 64 x 64 pixels, the image 32 x 32"):
        Explorer(inpaint, noise(1), MaskPainter(noise(1, size=64)))


# ---- Where no kernel runs


def test_a_still_stands_in_with_the_parameters(explore, inpaint) -> None:
    explorer = explore(inpaint, noise(1), half_mask(), wait=False)
    data, _ = explorer._repr_mimebundle_()
    with Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) as still:
        shown = np.asarray(still.convert("RGB"))
    large = np.asarray(explorer.image.resize((256, 256)))
    assert shown.shape[0] > 256 and shown.shape[1] >= 256  # a caption under the picture
    middle = shown[60:220, shown.shape[1] // 2 - 80 : shown.shape[1] // 2 + 80].astype(float)
    assert abs(middle.mean() - large.mean()) < 20 and "strength=1" in data["text/plain"]
