"""Records: their PNG files, repetition bit for bit, the plain script, and what each refuses."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import diffusers
import pytest
import torch
from PIL import Image

from helpers.catalog.checkpoints import CATALOG
from helpers.common import lock
from helpers.generation import provenance, records
from helpers.generation.records import Record, make
from helpers.generation.schedulers import KANDINSKY, SCHEDULERS, compatible_schedulers
from helpers.pipelines import inspection
from helpers.pipelines.loading import load
from tests.support.calls import CALLS, arguments, quietly, same
from tests.support.records import check_script
from tests.support.tiny import SIZE, inpaint_pipeline, quiet, tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")


def test_a_record_is_the_picture_of_the_plain_call(inpaint) -> None:
    call = arguments(inpaint, "inpaint", strength=0.6, num_inference_steps=4)
    plain = inpaint(**call, generator=torch.Generator("cpu").manual_seed(7)).images[0]
    record = make(inpaint, seed=7, **call)
    assert same(record, plain)
    assert record.parameters["seed"] == 7
    assert {name: record.parameters[name] for name in ("strength", "prompt")} == {"strength": 0.6, "prompt": "a cat"}
    assert record.error is None and record.exact and record.seconds > 0
    assert not same(record, make(inpaint, seed=8, **call))


def test_a_chosen_scheduler_is_used_once_and_recorded(inpaint, tmp_path) -> None:
    own = inpaint.scheduler
    call = arguments(inpaint, "inpaint", num_inference_steps=3)
    record = make(inpaint, seed=1, scheduler=diffusers.DDIMScheduler, **call)
    assert inpaint.scheduler is own
    assert record.parameters["scheduler"] == "DDIMScheduler"
    assert record.origin["schedulers"]["scheduler"]["class"] == "DDIMScheduler"
    assert not same(record, make(inpaint, seed=1, **call))
    plain = load("sd15-inpaint")
    plain.scheduler = diffusers.DDIMScheduler.from_config(plain.scheduler.config)
    assert same(record, plain(**call, generator=torch.Generator("cpu").manual_seed(1)).images[0])
    assert same(quietly(Record.load(record.save(tmp_path / "a.png")), inpaint), record)
    assert inpaint.scheduler is own


CASES = [(*call, {}) for call in CALLS]
CASES += [("sd15-inpaint", "inpaint", None, "", {"scheduler": one, "strength": 0.7}) for one in SCHEDULERS]
CASES += [("kandinsky22-inpaint", "inpaint", None, "", {"scheduler": one}) for one in KANDINSKY]
CASES += [
    (name, "inpaint", None, "", {"blur_factor": 4, "keep_unmasked": True})
    for name in ("sd15-inpaint", "kandinsky22-inpaint")
]


@pytest.mark.parametrize(
    ("name", "task", "controlnet", "kind", "more"), CASES, ids=[" ".join(map(str, c)) for c in CASES]
)
def test_an_image_is_made_again_from_its_file_and_by_its_script(name, task, controlnet, kind, more, tmp_path) -> None:
    pipe = quiet(name, task=None if task == "upscale" else task, controlnet=controlnet)
    steps = {"num_inference_steps": 4} if "scheduler" in more else {}
    record = make(pipe, seed=3, **arguments(pipe, task) | steps | more)
    loaded = Record.load(record.save(tmp_path / "image.png"))
    assert same(loaded, record) and loaded.origin == record.origin and loaded.key() == record.key()
    again = quiet(name, task=None if task == "upscale" else task, controlnet=controlnet)
    assert same(quietly(loaded, again), record)
    code = loaded.code(tmp_path / "inputs")
    check_script(code)
    space: dict = {}
    exec(code, space)  # noqa: S102
    assert same(record, space["image"]) and kind in type(space["pipe"]).__name__


def test_every_offered_scheduler_is_among_the_cases() -> None:
    assert {*compatible_schedulers(quiet("sd15-inpaint"))} == {*SCHEDULERS}
    assert {*compatible_schedulers(quiet("kandinsky22-inpaint"))} == {*KANDINSKY}


def test_repeat_uses_the_recorded_scheduler_of_a_changed_pipeline(inpaint) -> None:
    record = make(inpaint, seed=1, **arguments(inpaint, "inpaint", num_inference_steps=3))
    inpaint.scheduler = diffusers.EulerDiscreteScheduler.from_config(inpaint.scheduler.config)
    assert same(quietly(record, inpaint), record)


def test_repeat_says_what_differs_and_by_how_much(inpaint) -> None:
    record = make(inpaint, seed=1, **arguments(inpaint, "inpaint"))
    changed = record.origin | {"threads": 99, "versions": record.origin["versions"] | {"diffusers": "0.1"}}
    other = Record(record.image, record.parameters, 1.0, changed)
    now = diffusers.__version__
    with pytest.warns(UserWarning, match=rf"threads was 99, is \d+; diffusers was 0\.1, is {now}\. Equal pixels\."):
        other.repeat(inpaint)
    with torch.no_grad():
        inpaint.unet.conv_in.weight.mul_(1.5)
    with pytest.warns(
        UserWarning, match=r"nothing that is recorded has changed\. The pixels differ by up to \d+ of 255"
    ):
        record.repeat(inpaint)


def test_an_origin_names_no_folder_of_this_machine(inpaint) -> None:
    origin = provenance.describe(inpaint)
    assert origin["source"] == Path(CATALOG["sd15-inpaint"].source).name and origin["checkpoint"] == "sd15-inpaint"
    assert "/" not in json.dumps(origin) and provenance.check(origin) == origin


def test_an_origin_names_active_adapters_and_their_scales(inpaint) -> None:
    layer = inpaint.unet.conv_in
    layer.lora_A, layer.scaling, layer.active_adapters, layer.disable_adapters = {}, {"detail": 0.8}, ["detail"], False
    inpaint.unet.peft_config = {"detail": None}
    assert provenance.describe(inpaint)["adapters"] == {"unet": {"detail": 0.8}}


def test_without_a_seed_one_is_drawn_and_noted(inpaint) -> None:
    call = arguments(inpaint, "inpaint")
    first, second = make(inpaint, **call), make(inpaint, **call)
    assert first.parameters["seed"] != second.parameters["seed"]
    assert same(quietly(first, inpaint), first)


def test_inputs_are_copies(inpaint) -> None:
    call = arguments(inpaint, "inpaint", strength=0.5)
    record = make(inpaint, seed=1, **call)
    call["image"].paste(0, (0, 0, SIZE, SIZE))
    assert same(quietly(record, inpaint), record)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"guidance": 3}, r"guidance=.*InpaintPipeline does not take it\. Did you mean 'guidance_scale'"),
        ({"seeed": 3}, "Did you mean 'seed'"),
        ({"generator": torch.Generator()}, "generator: pass seed="),
        ({"num_images_per_prompt": 2}, "num_images_per_prompt: a record is one picture"),
        ({"callback_on_step_end": print}, "callback_on_step_end: pass watch="),
        ({"output_type": "latent"}, "output_type='latent': a record holds a picture"),
        ({"prompt": ["a", "b"]}, "prompt is a list: a record is one picture"),
        ({"seed": "1"}, "seed='1': expected a whole number"),
        ({"seed": True}, "seed=True: expected a whole number"),
        ({"seed": -1}, "seed=-1: expected a whole number, 0 or more"),
        ({"image": Image.new("CMYK", (8, 8))}, "image is an image of mode 'CMYK'"),
        ({"cross_attention_kwargs": {"f": print}}, r"cross_attention_kwargs\['f'\]=.*cannot be recorded"),
        ({"strength": float("nan")}, "strength='nan'.*cannot be recorded"),
    ],
)
def test_what_cannot_be_recorded_is_refused_before_the_model_runs(inpaint, monkeypatch, wrong, message) -> None:
    monkeypatch.setattr(inpaint.unet, "forward", lambda *_, **__: pytest.fail("the model ran"))
    with pytest.raises(TypeError, match=message):
        make(inpaint, **arguments(inpaint, "inpaint") | wrong)


def test_an_unknown_scheduler_is_refused(inpaint) -> None:
    with pytest.raises(ValueError, match="diffusers has no such scheduler. Did you mean 'DDIMScheduler'"):
        make(inpaint, scheduler="DDIMSheduler", **arguments(inpaint, "inpaint"))


def test_not_a_number_is_named(inpaint) -> None:
    call = arguments(inpaint, "inpaint")
    assert make(inpaint, seed=1, **call).error is None
    with torch.no_grad():
        inpaint.vae.decoder.conv_out.bias.fill_(float("nan"))
    with pytest.warns(RuntimeWarning):
        record = make(inpaint, seed=1, **call)
    assert record.error.startswith("NaN: the VAE decoded") and record.image.getextrema() == ((0, 0),) * 3
    with torch.no_grad():
        inpaint.unet.conv_out.bias.fill_(float("nan"))
    with pytest.warns(RuntimeWarning):
        assert make(inpaint, seed=1, **call).error.startswith("NaN: the latents")
    assert "decode" not in vars(inpaint.vae)


def test_a_black_picture_of_numbers_is_no_error(inpaint) -> None:
    with torch.no_grad():
        inpaint.vae.decoder.conv_out.weight.zero_()
        inpaint.vae.decoder.conv_out.bias.fill_(-1)
    record = make(inpaint, seed=1, **arguments(inpaint, "inpaint"))
    assert record.image.getextrema() == ((0, 0),) * 3 and record.error is None


def test_watching_changes_nothing_and_may_end_the_call(inpaint) -> None:
    call = arguments(inpaint, "inpaint", num_inference_steps=3)
    seen = []
    record = make(inpaint, seed=1, watch=lambda _, step, timestep, latents: seen.append((step, latents.shape)), **call)
    assert [step for step, _ in seen] == list(range(len(seen))) and len(seen) >= 3
    assert same(record, make(inpaint, seed=1, **call))

    def stop(*_):
        raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        make(inpaint, seed=1, watch=stop, **call)
    assert same(record, make(inpaint, seed=1, **call))


def test_turns_are_taken_in_order_and_nest() -> None:
    order, started = [], threading.Event()

    def one(number: int) -> None:
        with lock.turn(), lock.turn():
            order.append(number)

    with lock.turn():
        threads = []
        for number in range(5):
            threads.append(threading.Thread(target=one, args=(number,)))
            threads[-1].start()
            while len(lock._waiting) <= number:
                time.sleep(0.001)
        started.set()
        assert order == []
    for thread in threads:
        thread.join(5)
    assert order == list(range(5))
    with lock.turn():
        pass


def test_waiting_for_a_turn_can_be_given_up() -> None:
    failed = []

    def impatient() -> None:
        try:
            with lock.turn(check=lambda: (_ for _ in ()).throw(InterruptedError)):
                failed.append("had a turn")
        except InterruptedError:
            failed.append("gave up")

    with lock.turn():
        thread = threading.Thread(target=impatient)
        thread.start()
        thread.join(5)
    assert failed == ["gave up"] and not lock._waiting


def test_a_guarded_pipeline_is_the_same_pipeline(inpaint, tmp_path) -> None:
    call = arguments(inpaint, "inpaint")
    before = make(inpaint, seed=1, **call)
    kind = type(inpaint)
    assert lock.guard(lock.guard(inpaint)) is inpaint
    assert isinstance(inpaint, kind) and type(inpaint).__name__ == kind.__name__
    assert inspection.parameters_of(inpaint) == inspection.parameters_of(load("sd15-inpaint"))
    assert same(quietly(before, inpaint), before)
    inpaint.save_pretrained(tmp_path)
    assert type(diffusers.DiffusionPipeline.from_pretrained(tmp_path)) is kind


def test_two_threads_call_one_guarded_pipeline(inpaint) -> None:
    lock.guard(inpaint)
    call = arguments(inpaint, "inpaint", num_inference_steps=3)
    expected = {seed: make(inpaint, seed=seed, **call) for seed in range(4)}
    pictures, errors = {}, []

    def run(seed: int) -> None:
        try:
            pictures[seed] = inpaint(**call, generator=torch.Generator("cpu").manual_seed(seed)).images[0]
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert all(same(expected[seed], pictures[seed]) for seed in expected)


def test_the_public_name_is_there() -> None:
    import helpers

    assert helpers.Record is records.Record
