"""Records: their PNG files, repetition bit for bit, the plain script, and what each refuses."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from helpers.catalog import revisions
from helpers.catalog.checkpoints import CATALOG
from helpers.common import lock
from helpers.generation import png_record, provenance, records, schedulers
from helpers.generation.records import Record, make
from helpers.hub import convert_pickles
from helpers.images.digest import digest_of
from helpers.pipelines import inspection
from helpers.pipelines.loading import load
from tests.support.calls import CALLS, arguments, half_mask, noise, quietly, same
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


@pytest.mark.parametrize(("name", "task", "controlnet", "kind"), CALLS)
def test_each_pipeline_repeats_from_its_file_and_by_its_script(name, task, controlnet, kind, tmp_path) -> None:
    pipe = quiet(name, task=None if task == "upscale" else task, controlnet=controlnet)
    record = make(pipe, seed=3, **arguments(pipe, task))
    loaded = Record.load(record.save(tmp_path / "picture.png"))
    assert same(loaded, record)
    assert loaded.parameters.keys() == record.parameters.keys()
    again = quiet(name, task=None if task == "upscale" else task, controlnet=controlnet)
    assert same(quietly(loaded, again), record)

    space: dict = {}
    exec(compile(loaded.code(tmp_path / "inputs"), "script", "exec"), space)  # noqa: S102
    assert type(space["pipe"]).__name__ == kind
    assert same(record, space["image"])


def test_the_script_needs_nothing_of_the_course(inpaint, tmp_path) -> None:
    record = make(inpaint, seed=1, scheduler="DDIMScheduler", **arguments(inpaint, "inpaint", strength=0.9))
    code = record.code(tmp_path)
    assert "helpers" not in code
    file = tmp_path / "script.py"
    file.write_text(f'{code}\nimport sys\nassert "helpers" not in sys.modules\nimage.save("made.png")\n')
    subprocess.run([sys.executable, file.name], cwd=tmp_path, check=True, capture_output=True)
    if torch.get_num_threads() == json.loads(subprocess.check_output(
        [sys.executable, "-c", "import torch; print(torch.get_num_threads())"]
    )):  # fmt: skip
        assert same(record, Image.open(tmp_path / "made.png"))


def test_the_script_hides_the_home_folder(inpaint, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    record = make(inpaint, seed=1, **arguments(inpaint, "inpaint"))
    code = record.code()
    assert str(tmp_path) not in code and "Path.home() / " in code and "from pathlib import Path" in code
    assert 'image=Image.open("image-' in code
    assert str(tmp_path) not in json.dumps(record.origin)


def as_full(record: Record, name: str) -> Record:
    """The record as if the full edition had made it with this checkpoint."""
    record.origin |= {"edition": "full", "checkpoint": name, "source": CATALOG[name].hub_id}
    return record


def test_the_script_of_a_checkpoint_of_pickles_loads_its_converted_copy(tiny_course) -> None:  # noqa: F811
    record = make(quiet("sd15"), seed=1, **arguments(quiet("sd15"), "text2image"))
    shutil.copytree(CATALOG["sd15"].source, convert_pickles.place_of(CATALOG["pixel-art"]))
    revisions.write({CATALOG["pixel-art"].hub_id: "a" * 40})  # the copy is of that commit
    code = as_full(record, "pixel-art").code()
    assert code.startswith("# Published as pickles only; this copy was made by: course download pixel-art --pickles\n")
    assert CATALOG["pixel-art"].hub_id not in code and "revision" not in code
    space: dict = {}
    exec(code, space)  # noqa: S102
    assert same(record, space["image"])


def test_the_converted_copy_is_named_from_the_home_folder(inpaint, tmp_path, monkeypatch) -> None:
    record = as_full(make(inpaint, seed=1, **arguments(inpaint, "inpaint")), "elden-ring")
    monkeypatch.setenv("HOME", str(tmp_path))
    code = record.code()
    assert 'Path.home() / "cache/converted/elden-ring"' in code and "from pathlib import Path" in code


def test_the_script_names_the_pinned_commits_and_no_other() -> None:
    pipe = quiet("sd15", controlnet="controlnet-depth")
    record = make(pipe, seed=1, **arguments(pipe, "text2image"))
    net, own = CATALOG["controlnet-depth"].hub_id, CATALOG["sd15"].hub_id
    revisions.write({net: "b" * 40, own: "c" * 40, CATALOG["comic"].hub_id: "d" * 40})
    assert "revision" not in record.code()  # a miniature has none
    code = as_full(record, "sd15").code()
    assert f'revision="{"c" * 40}"' in code and code.count("revision") == 1
    record.origin["controlnet"] = net
    assert record.code().index(f'revision="{"b" * 40}"') < record.code().index(f'revision="{"c" * 40}"')
    revisions.write({})
    assert "revision" not in record.code()


def test_the_script_asks_for_the_variant_that_a_controlnet_has() -> None:
    pipe = quiet("sd15", controlnet="controlnet-depth")
    record = as_full(make(pipe, seed=1, **arguments(pipe, "text2image")), "sd15")
    assert record.code().count('variant="fp16"') == 1  # the pipeline's; the net is still the miniature
    record.origin["controlnet"] = CATALOG["controlnet-depth"].hub_id
    assert record.code().count('variant="fp16"') == 2
    record.origin["controlnet"] = "someone/a-controlnet-of-their-own"
    assert record.code().count('variant="fp16"') == 1


def test_the_script_says_where_a_pin_cannot_be_passed() -> None:
    pipe = quiet("kandinsky22")
    record = as_full(make(pipe, seed=1, **arguments(pipe, "text2image")), "kandinsky22")
    assert "#" not in record.code()
    revisions.write({CATALOG["kandinsky22"].prior: "a" * 40})
    assert record.code().startswith("# The course pins this and its prior;") and "revision=" not in record.code()


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


@pytest.mark.parametrize("name", ["sd15-inpaint", "kandinsky22-inpaint"])
def test_every_scheduler_that_is_offered_can_be_saved_repeated_and_scripted(name, tmp_path) -> None:
    pipe = quiet(name)
    more = {"strength": 0.7} if name == "sd15-inpaint" else {}
    call = arguments(pipe, "inpaint", num_inference_steps=4, **more)
    for scheduler in schedulers.compatible_schedulers(pipe):
        record = make(pipe, seed=1, scheduler=scheduler, **call)
        loaded = Record.load(record.save(tmp_path / f"{scheduler}.png"))
        assert loaded.origin == record.origin, scheduler
        assert same(quietly(loaded, pipe), record), scheduler
        space: dict = {}
        exec(loaded.code(tmp_path / "inputs"), space)  # noqa: S102
        assert same(record, space["image"]), scheduler


@pytest.mark.parametrize("limit", [-math.inf, math.inf, -5.1])
def test_a_scheduler_keeps_infinities_through_json(limit) -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(lambda_min_clipped=limit)
    kept = json.loads(json.dumps(schedulers.describe(scheduler), allow_nan=False))
    assert schedulers.build(kept).config.lambda_min_clipped == limit
    assert schedulers.describe(schedulers.build(kept)) == kept


def test_the_script_spells_infinities(inpaint) -> None:
    record = make(inpaint, seed=1, scheduler="DPMSolverMultistepScheduler", **arguments(inpaint, "inpaint"))
    assert "lambda_min_clipped" not in record.code()  # the class's own default
    record.origin["schedulers"]["scheduler"]["config"] |= {
        "lambda_min_clipped": {"float": "inf"},
        "trained_betas": [0.5, {"float": "-inf"}],
    }
    code = record.code()
    assert 'lambda_min_clipped=float("inf")' in code
    assert 'trained_betas=[0.5, float("-inf")]' in code


def test_repeat_uses_the_recorded_scheduler_of_a_changed_pipeline(inpaint) -> None:
    record = make(inpaint, seed=1, **arguments(inpaint, "inpaint", num_inference_steps=3))
    inpaint.scheduler = diffusers.EulerDiscreteScheduler.from_config(inpaint.scheduler.config)
    assert same(quietly(record, inpaint), record)


def test_repeat_names_the_weights_that_differ(inpaint) -> None:
    record = make(inpaint, seed=1, **arguments(inpaint, "inpaint"))
    with torch.no_grad():
        inpaint.unet.conv_in.weight.mul_(1.5)
    with pytest.warns(UserWarning, match=r"the weights of unet differs.*pixels differ by up to \d+ of 255"):
        record.repeat(inpaint)


@pytest.mark.parametrize("change", ["in place", "by .data", "by a new tensor", "by a state"])
def test_a_hash_of_weights_sees_every_change(inpaint, change) -> None:
    unet = inpaint.unet
    before = provenance.digest(unet)
    assert provenance.digest(unet) == before
    weight = unet.conv_in.weight
    if change == "in place":
        with torch.no_grad():
            weight.add_(0.01)
    elif change == "by .data":
        weight.data[0, 0, 0, 0] += 1
    elif change == "by a new tensor":
        weight.data = weight.data + 1
    else:
        unet.load_state_dict({**unet.state_dict(), "conv_in.weight": weight + 1})
    assert provenance.digest(unet) != before


def test_a_hash_of_weights_ignores_their_memory_order(inpaint) -> None:
    import copy

    other = copy.deepcopy(inpaint.vae).to(memory_format=torch.contiguous_format)
    assert provenance.digest(other) == provenance.digest(inpaint.vae)


def test_repeat_names_another_version_and_another_pipeline(inpaint) -> None:
    record = make(inpaint, seed=1, **arguments(inpaint, "inpaint"))
    record.origin["versions"]["diffusers"] = "0.1"
    record.origin["threads"] = 99
    now = diffusers.__version__
    with pytest.warns(UserWarning, match=rf"threads: 99 then, \d+ now; diffusers 0\.1 then, {now} now differs"):
        record.repeat(inpaint)


def test_a_default_that_changed_is_passed_on(inpaint) -> None:
    call = arguments(inpaint, "inpaint", num_inference_steps=3)
    del call["guidance_scale"]
    other = make(inpaint, seed=1, **call, guidance_scale=3.0)
    record = make(inpaint, seed=1, **call)
    assert record.origin["defaults"]["guidance_scale"] == 7.5
    record.origin["defaults"]["guidance_scale"] = 3.0
    with pytest.warns(UserWarning, match="pixels differ"):
        assert same(record.repeat(inpaint), other)


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


def test_records_of_one_input_share_one_copy(inpaint) -> None:
    image = noise(1)
    calls = [arguments(inpaint, "inpaint", image=image.copy()) for _ in range(2)]
    first, second = (make(inpaint, seed=1, **call) for call in calls)
    assert first.parameters["image"] is second.parameters["image"]


def test_a_copy_that_was_changed_is_not_shared_again() -> None:
    first = png_record.kept(noise(1), name="image")
    first.paste(0, (0, 0, 4, 4))
    assert png_record.kept(noise(1), name="image").tobytes() == noise(1).tobytes()
    tensor = png_record.kept(torch.ones(3), name="latents")
    assert png_record.kept(torch.ones(3), name="latents") is tensor
    tensor.zero_()
    assert png_record.kept(torch.ones(3), name="latents").sum() == 3


def test_tensors_and_tuples_come_back_as_they_were(tmp_path) -> None:
    values = {
        "prompt_embeds": torch.randn(1, 77, 16, dtype=torch.bfloat16),
        "control_image": np.random.default_rng(0).random((4, 4, 3)),
        "original_size": (32, 32),
        "timesteps": [999, 500],
        "cross_attention_kwargs": {"scale": 0.5, "deep": (1, [2])},
        "negative_prompt": 'ä "quoted" \\ 你好',
        "mask_image": half_mask(),
        "clip_skip": None,
    }
    pipe = load("sd15-inpaint")
    record = Record(noise(4), {"seed": 1, **{k: png_record.kept(v, name=k) for k, v in values.items()}}, 0.1,
                    provenance.describe(pipe))  # fmt: skip
    back = Record.load(record.save(tmp_path / "a.png")).parameters
    assert back["prompt_embeds"].dtype == torch.bfloat16
    assert torch.equal(back["prompt_embeds"], values["prompt_embeds"])
    assert isinstance(back["control_image"], np.ndarray)
    assert np.array_equal(back["control_image"], values["control_image"])
    assert back["mask_image"].tobytes() == values["mask_image"].tobytes() and back["mask_image"].mode == "L"
    for name in ("original_size", "timesteps", "cross_attention_kwargs", "negative_prompt", "clip_skip"):
        assert back[name] == values[name] and type(back[name]) is type(values[name])


def test_embeddings_can_be_recorded_repeated_and_scripted(inpaint, tmp_path) -> None:
    call = arguments(inpaint, "inpaint")
    embeds = inpaint.encode_prompt(call.pop("prompt"), "cpu", 1, True)
    record = make(inpaint, seed=1, **call, prompt_embeds=embeds[0], negative_prompt_embeds=embeds[1])
    loaded = Record.load(record.save(tmp_path / "a.png"))
    assert same(quietly(loaded, inpaint), record)
    space: dict = {}
    exec(loaded.code(tmp_path), space)  # noqa: S102
    assert same(record, space["image"])


def test_a_file_without_inputs_asks_for_them(inpaint, tmp_path) -> None:
    call = arguments(inpaint, "inpaint", strength=0.5)
    record = make(inpaint, seed=1, **call)
    whole, bare = record.save(tmp_path / "whole.png"), record.save(tmp_path / "bare.png", inputs=False)
    assert bare.stat().st_size < whole.stat().st_size
    loaded = Record.load(bare)
    with pytest.raises(ValueError, match=r"saved without its inputs: pass image=\.\.\., mask_image=\.\.\."):
        loaded.repeat(inpaint)
    with pytest.raises(ValueError, match="image is missing"):
        loaded.code()
    given = {name: call[name] for name in ("image", "mask_image")}
    assert same(quietly(loaded, inpaint, **given), record)
    with pytest.raises(ValueError, match="image: this is not the RGB picture, 32 x 32 that the record was made from"):
        loaded.repeat(inpaint, **given | {"image": noise(9)})
    with pytest.raises(ValueError, match=r"repeat\(prompt=\.\.\.\): the record has its own"):
        loaded.repeat(inpaint, prompt="a dog", **given)


def test_a_file_of_another_program_is_refused(tmp_path) -> None:
    plain, foreign = tmp_path / "plain.png", tmp_path / "foreign.png"
    noise(1).save(plain)
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a cat, Steps: 20")
    noise(1).save(foreign, pnginfo=info)
    with pytest.raises(ValueError, match="plain.png' has no record of this course in it"):
        Record.load(plain)
    with pytest.raises(ValueError, match="texts 'parameters' of another program"):
        Record.load(foreign)
    noise(1).save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="has no record of this course"):
        Record.load(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="no such file"):
        Record.load(tmp_path / "none.png")


def rewritten(path: Path, change) -> Path:
    """The file with its JSON changed."""
    picture, content, inputs = png_record.read(path)
    content.pop("format")
    png_record.write(path, picture, change(content) or content, inputs)
    return path


def test_a_newer_format_and_a_damaged_record_are_refused(inpaint, tmp_path, monkeypatch) -> None:
    record = make(inpaint, seed=1, **arguments(inpaint, "inpaint"))
    with monkeypatch.context() as patch:
        patch.setattr(png_record, "FORMAT", 99)
        newer = record.save(tmp_path / "newer.png")
    with pytest.raises(ValueError, match="format 99 and this course reads up to 1: update the course"):
        Record.load(newer)
    damaged = rewritten(record.save(tmp_path / "damaged.png"), lambda content: content.pop("origin") and None)
    with pytest.raises(ValueError, match="its record is damaged"):
        Record.load(damaged)
    cut = record.save(tmp_path / "cut.png")
    cut.write_bytes(cut.read_bytes()[:-400])
    with pytest.raises(ValueError, match="broken or cut off"):
        Record.load(cut)


def test_a_damaged_input_is_noticed(inpaint, tmp_path) -> None:
    record = make(inpaint, seed=1, **arguments(inpaint, "inpaint"))
    path = record.save(tmp_path / "a.png")
    picture, content, inputs = png_record.read(path)
    content.pop("format")
    digest = digest_of(record.parameters["image"])
    png_record.write(path, picture, content, inputs | {digest: png_record._png(noise(8))})
    with pytest.raises(ValueError, match="an input in the file is damaged"):
        Record.load(path)


def test_a_picture_edited_after_saving_is_warned_about(inpaint, tmp_path) -> None:
    record = make(inpaint, seed=1, **arguments(inpaint, "inpaint"))
    path = record.save(tmp_path / "a.png")
    picture, content, inputs = png_record.read(path)
    content.pop("format")
    png_record.write(path, noise(3), content, inputs)
    with pytest.warns(UserWarning, match="edited after it was recorded"):
        Record.load(path)


def test_a_scheduler_that_a_file_invents_is_not_looked_up(inpaint, tmp_path) -> None:
    record = make(inpaint, seed=1, **arguments(inpaint, "inpaint"))
    record.origin["schedulers"]["scheduler"]["class"] = "AutoencoderKL"
    with pytest.raises(ValueError, match="diffusers has no such scheduler"):
        Record.load(record.save(tmp_path / "a.png")).repeat(inpaint)


def test_saving_is_whole_or_not_at_all(inpaint, tmp_path, monkeypatch) -> None:
    record = make(inpaint, seed=1, **arguments(inpaint, "inpaint"))
    folder = tmp_path / "pictures"
    folder.mkdir()
    path = record.save(folder / "a.png")
    before = path.read_bytes()

    def half(self, file, **_):
        file.write(b"half a picture")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(OSError, match="disk full"):
        png_record.write(path, record.image, {}, {})
    assert path.read_bytes() == before
    assert list(folder.iterdir()) == [path]


def test_where_a_record_cannot_be_saved(inpaint, tmp_path) -> None:
    record = make(inpaint, seed=1, **arguments(inpaint, "inpaint"))
    with pytest.raises(ValueError, match=r"a\.jpg'.*let the name end in \.png"):
        record.save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="there is no folder"):
        record.save(tmp_path / "none" / "a.png")
    with pytest.raises(ValueError, match="no picture to save: it failed"):
        Record(None, {}, 0, {}, error="it failed").save(tmp_path / "a.png")


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
        ({"image": Image.new("CMYK", (8, 8))}, "image is a picture of mode 'CMYK'"),
        ({"cross_attention_kwargs": {"f": print}}, r"cross_attention_kwargs\['f'\]=.*cannot be kept in a record"),
        ({"strength": float("nan")}, "strength='nan'.*cannot be kept"),
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


def test_keys_tell_pictures_apart(inpaint) -> None:
    call = arguments(inpaint, "inpaint")
    record = make(inpaint, seed=1, **call)
    assert record.key() == make(inpaint, seed=1, **call | {"image": call["image"].copy()}).key()
    others = [{"image": noise(5)}, {"seed": 2}, {"strength": 0.9}, {"scheduler": "DDIMScheduler"}]
    keys = {make(inpaint, **{"seed": 1} | call | other).key() for other in others}
    assert len(keys | {record.key()}) == 5
    inpaint.scheduler = diffusers.DDIMScheduler.from_config(inpaint.scheduler.config)
    assert make(inpaint, seed=1, **call).key() in keys  # chosen for the call or set before: the same picture


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
