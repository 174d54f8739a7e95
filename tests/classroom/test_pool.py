"""A pipeline whose calls a pool makes: the same calls, the same pixels, and every fault in words."""

from __future__ import annotations

import copy
import http.client
import json
import os
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from classroom.door import Door
from helpers.common import paths
from helpers.generation.job_queue import Job, JobQueue
from helpers.generation.records import Record, make
from helpers.generation.sweeps import sweep
from helpers.images.masks import box_mask
from helpers.pipelines import pool
from helpers.pipelines.loading import load
from helpers.pipelines.switching import switch
from helpers.pipelines.twins import twin
from tests.classroom.serving import Threads, serving
from tests.support.tiny import SIZE, tiny_course  # noqa: F401  (a fixture)

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8))
MASK = box_mask((SIZE, SIZE), (8, 8, 24, 24))
FEW = {"num_inference_steps": 4, "height": SIZE, "width": SIZE}
CALL = {"prompt": "a red boat", "image": IMAGE, "mask_image": MASK} | FEW


@pytest.fixture
def engine():
    threads = Threads()
    yield threads
    threads.close()


@pytest.fixture
def address(tiny_course, engine, monkeypatch):  # noqa: F811
    with serving(engine, waiting=2) as where:
        monkeypatch.setenv(pool.VARIABLE, where)
        monkeypatch.setenv("COURSE_POOL_TOKEN", "ada")
        yield where


def quiet(*args, **more):
    pipe = load(*args, **more)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def both(*args, **more):
    """The pipeline of the pool, and the same one here."""
    return quiet(*args, **more), quiet(*args, **more, runtime="torch")


def seeded(number=0):
    return torch.Generator("cpu").manual_seed(number)


def ask(where, door="calls", body=b"{}", **headers):
    connection = http.client.HTTPConnection(where.removeprefix("http://"), timeout=30)
    connection.request("POST", f"/{door}", body, {"Authorization": "token ada"} | headers)
    response = connection.getresponse()
    return response.status, response.headers, response.read()


@pytest.mark.parametrize(
    "name, more, call",
    [
        ("sd15-inpaint", {}, CALL),
        ("sd15", {"controlnet": "controlnet-inpaint"}, {"prompt": "a boat", "image": IMAGE, "num_inference_steps": 4}),
        ("sdxl-inpaint", {}, CALL | {"strength": 0.9}),
        ("kandinsky22", {}, {"prompt": "a", "prior_num_inference_steps": 2} | FEW | {"num_inference_steps": 2}),
        ("upscale-x4", {}, {"prompt": "a", "image": IMAGE, "num_inference_steps": 4, "output_type": "np"}),
    ],
)  # fmt: skip
def test_a_plain_call_gives_the_same_pixels(address, name, more, call) -> None:
    there, here = both(name, **more)
    generators = seeded(3), seeded(3)
    made, expected = (pipe(**call, generator=one) for pipe, one in zip((there, here), generators, strict=True))
    assert type(made) is type(expected)
    assert np.array_equal(np.asarray(made.images[0]), np.asarray(expected.images[0]))
    assert torch.equal(generators[0].get_state(), generators[1].get_state())  # the next draw is the same as well
    assert all(part.device.type == "meta" for part in there.components.values() if isinstance(part, torch.nn.Module))


ASKING = """
import sys
from helpers import load, load_image, load_mask, show
from helpers.pipelines import pool
pool.secrets.randbits = lambda bits: 7
pipe = load("sd15-inpaint")
pipe.set_progress_bar_config(disable=True)
image, mask = load_image("image.png"), load_mask("mask.png")
call = {"image": image, "mask_image": mask, "num_inference_steps": 4, "height": 32, "width": 32}
output = pipe("a red boat", **call)
[same], flags = pipe("a red boat", return_dict=False, **call)
assert flags is None and output.nsfw_content_detected is None and not hasattr(output, "videos")
assert output.images[0] is output["images"][0] is output[0][0] and output.to_tuple() == (output.images,)
assert same.tobytes() == output.images[0].tobytes()
show(image, output.images[0])
for wrong, said in [({"strenght": 0.5}, "Did you mean 'strength'?"), ({"strength": 1.5}, "from 0 to 1")]:
    try:
        pipe("a red boat", **call, **wrong)
    except (TypeError, ValueError) as error:
        assert said in str(error)
    else:
        raise AssertionError(said)
print(sorted({"torch", "diffusers", "transformers", "scipy"} & sys.modules.keys()))
output.images[0].save("made.png")
pipe.unet  # diffusers' own from here on
import diffusers
assert type(pipe).__mro__[1] is diffusers.StableDiffusionInpaintPipeline and pipe._progress_bar_config["disable"]
"""


def test_a_kernel_that_only_asks_imports_no_torch(address, tmp_path) -> None:
    IMAGE.save(tmp_path / "image.png")
    MASK.save(tmp_path / "mask.png")
    environment = os.environ | {"COURSE_DATA": str(paths.DATA), "PYTHONPATH": str(paths.ROOT)}
    command = [sys.executable, "-c", ASKING]
    asked = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.splitlines()[-1] == "[]"
    here = quiet("sd15-inpaint", runtime="torch")(**CALL, generator=seeded(7)).images[0]
    assert Image.open(tmp_path / "made.png").tobytes() == here.tobytes()


def unbuilt(pipe) -> bool:
    return not hasattr(type(pipe), "from_pretrained")


LOOKS = [
    lambda pipe: pipe.scheduler, repr, dir, lambda pipe: isinstance(pipe, int), twin, copy.deepcopy,
    lambda pipe: setattr(pipe, "scheduler", pipe.scheduler), lambda pipe: switch(pipe, "inpaint"),
    lambda pipe: pipe(**CALL, callback_on_step_end=lambda pipe, step, time, tensors: tensors, generator=seeded()),
]  # fmt: skip


@pytest.mark.parametrize("look", LOOKS)
def test_a_pipeline_is_diffusers_own_once_somebody_looks(address, look) -> None:
    there, here = both("sd15-inpaint")
    assert unbuilt(there) and type(there).__name__ == "StableDiffusionInpaintPipeline"
    made = there(**CALL, generator=seeded()).images[0]
    assert unbuilt(there)
    look(there)
    assert not unbuilt(there) and isinstance(there, type(here)) and there._progress_bar_config == {"disable": True}
    for pipe in (there, here):
        assert pipe(**CALL, generator=seeded()).images[0].tobytes() == made.tobytes()


def test_arguments_by_place_and_too_many_of_them(address) -> None:
    there, here = both("sd15-inpaint")
    few = {name: value for name, value in CALL.items() if name not in ("prompt", "image")}
    made, expected = (pipe("a red boat", IMAGE, generator=seeded(), **few).images[0] for pipe in (there, here))
    assert unbuilt(there) and made.tobytes() == expected.tobytes()
    with pytest.raises(TypeError, match="multiple values for argument 'prompt'"):
        there("a red boat", **CALL)
    with pytest.raises(TypeError, match="too many positional arguments"):
        quiet("sd15-inpaint")(*range(99))


def test_a_pipeline_is_built_once_where_many_look_at_a_time(address, monkeypatch) -> None:
    there, built, found = quiet("sd15-inpaint"), [], []
    original = pool._built
    monkeypatch.setattr(pool, "_built", lambda *args: built.append(1) or original(*args))
    threads = [threading.Thread(target=lambda: found.append(there.unet)) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert built == [1] and len(set(map(id, found))) == 1 and len(found) == 8


NO_ENGINE, NO_OUTPUT = "not the course's engine", "no output of a pipeline"


@pytest.mark.parametrize(
    "line, said",
    [
        (b"<html>", NO_ENGINE),
        (b"[1]", NO_ENGINE),
        (b"null", NO_ENGINE),
        (b"[" * 9999 + b"]" * 9999, NO_ENGINE),
        (b'{"error": "no"}', NO_ENGINE),
        (b'{"error": {}}', "None"),
        (b'{"step": "1"}', NO_ENGINE),
        (b'{"output": {}}', NO_ENGINE),
        (b'{"output": {}, "generators": []}', NO_ENGINE),
        (
            b'{"output": {"module": "os", "class": "system", "values": {}}, "generators": [3]}',
            NO_OUTPUT,
        ),
        (
            b'{"output": {"module": "diffusers.pipelines.x", "values": {}}, "generators": [3]}',
            NO_OUTPUT,
        ),
        (b'{"output": {"values": {}}, "generators": []}', NO_OUTPUT),
        (b'{"output": {"values": {"images": {"image": "x"}}}, "generators": [3]}', "damaged"),
    ],
)
def test_malformed_frames_are_said_and_break_nothing(address, engine, monkeypatch, line, said) -> None:
    there, generator = quiet("sd15-inpaint"), seeded(3)
    before = generator.get_state()

    async def frames(self, ticket, request):
        self.line.leave(ticket)
        yield line + b"\n"

    with monkeypatch.context() as patch, pytest.raises((pool.PoolError, ValueError), match=said):
        patch.setattr(Door, "_frames", frames)
        there(**CALL, generator=generator)
    assert torch.equal(generator.get_state(), before)
    assert make(there, seed=1, **CALL).error is None


def test_another_scheduler_and_several_generators_and_none(address) -> None:
    from diffusers import EulerAncestralDiscreteScheduler

    there, here = both("sd15-inpaint")
    for pipe in (there, here):
        pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    call = CALL | {"prompt": ["a", "b"], "image": [IMAGE, IMAGE], "mask_image": [MASK, MASK], "output_type": "latent"}
    made, expected = (pipe(**call, generator=[seeded(1), seeded(2)]).images for pipe in (there, here))
    assert torch.equal(made, expected)
    torch.manual_seed(5)
    made = there(**CALL, return_dict=False)[0][0]
    torch.manual_seed(5)
    assert made.tobytes() == here(**CALL).images[0].tobytes()


def test_records_sweeps_and_repeat_work_unchanged(address, engine, tmp_path) -> None:
    there, here = both("sd15-inpaint")
    record = make(there, seed=7, **CALL)
    assert record.image.tobytes() == make(here, seed=7, **CALL).image.tobytes()
    assert record.key() == make(here, seed=7, **CALL).key()
    record = Record.load(record.save(tmp_path / "one.png"))
    for pipe in (there, here):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            record.repeat(pipe)
    over = {"seed": range(3), "scheduler": ["DDIMScheduler", "EulerDiscreteScheduler"]}
    made, expected = (list(sweep(pipe, over=over, progress=False, **CALL)) for pipe in (there, here))
    assert [one.image.tobytes() for one in made] == [one.image.tobytes() for one in expected]
    text2image = switch(quiet("sd15"), "image2image")
    assert text2image("a", image=IMAGE, num_inference_steps=4, generator=seeded()).images[0].size == IMAGE.size


def test_callbacks_see_every_step_and_may_not_change_it(address) -> None:
    there, here = both("sd15-inpaint")
    seen: list[list] = [[], []]
    for pipe, steps in zip((there, here), seen, strict=True):
        pipe(
            **CALL,
            generator=seeded(),
            callback_on_step_end=lambda p, i, t, k, s=steps: s.append((i, int(t), k["latents"])) or k,
        )
    assert [one[:2] for one in seen[0]] == [one[:2] for one in seen[1]]
    assert all(torch.equal(one[2], other[2]) for one, other in zip(*seen, strict=True))
    with pytest.raises(TypeError, match="watched only"):
        there(**CALL, callback_on_step_end=lambda p, i, t, k: {"latents": k["latents"] * 2})


def test_a_cancelled_job_stops_the_replica_within_a_step(address, engine) -> None:
    there = quiet("sd15-inpaint")
    queue, stopped = JobQueue(), threading.Event()
    job = Job(
        there, CALL | {"num_inference_steps": 300, "seed": 0}, on_step=lambda job, _: (job.cancel(), stopped.set())
    )
    queue.submit(job)
    assert job.wait(60) and job.state == "cancelled" and stopped.is_set()
    for _ in range(100):
        if engine.ended:
            break
        time.sleep(0.05)
    assert engine.ended == 1 and engine.steps < 60  # steps that ran before the connection's end was noticed
    assert queue.close(5)
    assert make(there, seed=1, **CALL).error is None


def test_a_lost_replica_is_asked_again_once_and_said(address, engine) -> None:
    there, here = both("sd15-inpaint")
    engine.ends = 1
    with pytest.warns(UserWarning, match="made once more"):
        made = make(there, seed=2, **CALL)
    assert made.image.tobytes() == make(here, seed=2, **CALL).image.tobytes()
    engine.ends = 2
    with pytest.warns(UserWarning), pytest.raises(pool.PoolError, match="lost this image twice"):
        make(there, seed=2, **CALL)


def test_wrong_arguments_are_refused_before_a_replica_is_used(address, engine) -> None:
    there = quiet("sd15-inpaint")
    request = _request(there)
    wrong_ones = [("strenght", 0.5, "Did you mean 'strength'?"), ("strength", 1.5, "from 0 to 1")]
    for name, value, expected in [*wrong_ones, ("image", {"image": "AAAA"}, "damaged")]:
        wrong = request | {"arguments": request["arguments"] | {name: value}}
        status, _, body = ask(address, body=json.dumps(wrong).encode())
        assert status == 422 and expected in json.loads(body)["error"]["message"]
    for broken in (
        b"",
        b"[]",
        b"\x80",
        *(json.dumps(request | {"generators": [one]}).encode() for one in ("x", -1, 2**64, True, 1.5, None)),
        b'{"checkpoint": "sd15"}',
    ):
        assert ask(address, body=broken)[0] == 422
    assert engine.used == 0
    with pytest.raises(TypeError, match="strenght"):
        there(**CALL, strenght=0.5)
    with pytest.raises(ValueError, match="from 0 to 1"):
        there(**CALL, strength=1.5)


def _request(pipe):
    """What the pipeline sends for `CALL`."""
    sent = []

    def answers(where, door, request, patience):
        sent.append(request)
        raise ValueError("not now")
        yield

    with pytest.MonkeyPatch.context() as patch, pytest.raises(ValueError, match="not now"):
        patch.setattr(pool, "_answers", answers)
        pipe(**CALL)
    return json.loads(json.dumps(sent[0]))


def test_strangers_and_large_images(address, monkeypatch) -> None:
    there = quiet("sd15-inpaint")
    monkeypatch.setenv("COURSE_POOL_TOKEN", "nobody")
    with pytest.raises(pool.PoolError, match="does not know you"):
        there(**CALL)
    monkeypatch.setenv("COURSE_POOL_TOKEN", "eve")
    with pytest.raises(pool.PoolError, match="may not use"):
        load("sd15-inpaint")
    assert ask(address, Authorization="token nobody")[0] == 401
    assert ask(address, Authorization="token eve")[0] == 403
    monkeypatch.setenv("COURSE_POOL_TOKEN", "ada")
    large = Image.new("RGB", (4096, 2048))
    with pytest.raises(ValueError, match="4096 x 2048 pixels; the engine takes"):
        there(**CALL | {"image": large, "mask_image": large})
    assert ask(address, **{"Content-Length": str(2**30)})[0] == 413


def test_third_image_and_full_queue(address, engine, monkeypatch) -> None:
    there = quiet("sd15-inpaint")
    engine.hold.clear()
    tokens, running = ["ada", "ada", "ben"], []
    for token in tokens:
        monkeypatch.setenv("COURSE_POOL_TOKEN", token)
        thread = threading.Thread(target=make, args=(there,), kwargs=CALL | {"seed": 0})
        thread.start()
        running.append(thread)
        time.sleep(0.4)
    monkeypatch.setenv("COURSE_POOL_TOKEN", "ada")
    with pytest.raises(pool.PoolBusy, match="2 of your images") as raised:
        make(there, seed=0, **CALL)
    assert raised.value.retry_after >= 1
    monkeypatch.setenv("COURSE_POOL_TOKEN", "teacher")
    with pytest.raises(pool.PoolBusy, match="2 images wait already"):
        make(there, seed=0, **CALL)
    engine.hold.set()
    for thread in running:
        thread.join(60)
    for _ in range(100):  # an image arrives a little before its call comes to an end
        if engine.ended == 3:
            break
        time.sleep(0.05)
    assert engine.ended == 3


def test_place_in_the_line_is_told(address, engine) -> None:
    there, told = quiet("sd15-inpaint"), []
    engine.hold.clear()
    first = threading.Thread(target=make, args=(there,), kwargs=CALL | {"seed": 0})
    first.start()
    time.sleep(0.4)
    queue = JobQueue()
    job = Job(
        there, CALL | {"seed": 1}, on_step=lambda job, _: (told.append((job.before, job.step)), engine.hold.set())
    )
    queue.submit(job)
    assert job.wait(60) and job.state == "done" and queue.close(5)
    first.join(60)
    assert told[0] == (1, 0) and told[-1][0] == 0 and told[-1][1] >= 4


def test_other_weights_versions_and_lora_are_refused(address, tiny_course, monkeypatch) -> None:  # noqa: F811
    there = quiet("sd15-inpaint")
    with pytest.raises(pool.PoolError, match="dtype float32 there, float16 here"):
        load("sd15-inpaint", dtype="float16")
    monkeypatch.setattr(pool, "versions", lambda: dict.fromkeys(pool.VERSIONS, "0.1"))
    there._pool["wanted"]["versions"] = {"torch": "0.0"}
    with pytest.raises(pool.PoolError, match="torch 0.1 there, 0.0 here"):
        there(**CALL)
    monkeypatch.undo()


def test_no_pool_there(tiny_course, monkeypatch) -> None:  # noqa: F811
    monkeypatch.setenv(pool.VARIABLE, "http://127.0.0.1:9")
    with pytest.raises(pool.PoolError, match="does not answer"):
        load("sd15-inpaint")
    monkeypatch.setenv(pool.VARIABLE, "127.0.0.1:9")
    with pytest.raises(ValueError, match="expected an address"):
        load("sd15-inpaint")


def test_pool_gone_in_the_middle(tiny_course, engine, monkeypatch) -> None:  # noqa: F811
    monkeypatch.setenv("COURSE_POOL_TOKEN", "ada")
    with serving(engine) as where:
        monkeypatch.setenv(pool.VARIABLE, where)
        there = quiet("sd15-inpaint")
    with pytest.raises(pool.PoolError, match="does not answer"):
        there(**CALL)
    with pytest.raises(pool.PoolError, match="weights are in the pool"):
        there.unet(torch.zeros(1, 9, 4, 4), 1, torch.zeros(1, 77, 8))
