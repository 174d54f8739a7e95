"""`python -m tests.classroom.load`: a class at work, over HTTP, against the engine on Ray Serve; prints tables.

For each number of replicas an engine of its own, with the miniatures: one learner alone against the local call, then a
teacher's sweep, which keeps all replicas busy. On the last engine as many learners as asked, each of whom wants some
images, one after the other, and asks again where the engine is busy. It ends with 1 if a learner lacked an image when
the time was up, or if one call gave two images anywhere.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from typing import Any
from unittest import mock

import psutil
import torch

from helpers import load, load_image, load_mask, sweep
from helpers.images.digest import digest_of
from helpers.images.reading import open_image
from helpers.pipelines import pool

PORT = 8150
TEACHER = "token-0"
Images = dict[int, str]  # the digest of each seed's image


class Engine:
    """The engine's processes, and the most memory that they had together, in MiB (USS: what nobody else shares)."""

    def __init__(self, replicas: int, learners: int) -> None:
        file = tempfile.NamedTemporaryFile("w", suffix=".json")  # only this user can read it
        names = ((f"token-{one}", {"name": f"learner-{one}"}) for one in range(1, learners + 1))
        json.dump({TEACHER: {"name": "teacher", "teacher": True}, **dict(names)}, file)
        file.flush()
        told = ["--replicas", str(replicas), "--port", str(PORT), "--tokens", file.name]
        command = [sys.executable, "-m", "classroom.engine", *told]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert any("answers at" in line for line in self.process.stdout or ())
        self.file, self.most = file, 0

    def memory(self) -> int:
        family = [one := psutil.Process(self.process.pid), *one.children(recursive=True)]
        used = 0
        for one in family:
            try:
                used += one.memory_full_info().uss
            except psutil.Error:  # it has ended
                continue
        self.most = max(self.most, used // 2**20)
        return used // 2**20

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


def call(steps: int) -> dict[str, Any]:
    inputs = {"image": load_image("seashore"), "mask_image": load_mask("seashore")}
    return inputs | {"prompt": "a red boat at the sea shore", "num_inference_steps": steps}


def request(steps: int, seed: int) -> dict[str, Any]:
    """What the course sends for one image, with each step's latents asked for."""
    sent: list[dict[str, Any]] = []
    answers = pool._answers

    def keep(where: str, door: str, asked: dict[str, Any], **more: Any) -> Any:
        if door == "describe":
            return answers(where, door, asked, **more)
        sent.append(asked)
        raise InterruptedError

    with mock.patch.object(pool, "_answers", keep):
        try:
            load("sd15-inpaint")(**call(steps), generator=torch.Generator("cpu").manual_seed(seed))
        except InterruptedError:
            pass
    return sent[0] | {"watch": ["callback_on_step_end"]}


def ask(token: str, asked: dict[str, Any]) -> tuple[int, float, str, float]:
    """The status, the seconds to wait if it is refused, the image's digest, the seconds to the first preview."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=pool.SILENCE)
    start, first = time.monotonic(), 0.0
    connection.request("POST", "/calls", json.dumps(asked).encode(), {"Authorization": f"token {token}"})
    response = connection.getresponse()
    if response.status != 200:
        response.read()
        return response.status, float(response.headers.get("Retry-After", 1)), "", 0.0
    for line in response:
        frame = json.loads(line)
        first = first or ("step" in frame and time.monotonic() - start)
        if "output" in frame:
            data = base64.b64decode(frame["output"]["values"]["images"][0]["image"])
            return 200, 0.0, digest_of(open_image(data, name="image")), first
        assert "error" not in frame, frame
    raise AssertionError("the answer ended without an image")


def alone(steps: int) -> str:
    """One learner's images by the pool, against the local call, in milliseconds (medians of nine)."""
    pipes = [load("sd15-inpaint", device="cpu"), load("sd15-inpaint")]
    took: list[list[float]] = [[], [], []]
    for seed in range(10):
        digests = []
        for pipe, seconds in zip(pipes, took[:2], strict=True):
            pipe.set_progress_bar_config(disable=True)
            generator, start = torch.Generator("cpu").manual_seed(seed), time.monotonic()
            image = pipe(**call(steps), generator=generator).images[0]
            seconds.append(time.monotonic() - start)
            digests.append(digest_of(image))
        assert len(set(digests)) == 1, "the pool's image is another"
        took[2].append(ask(TEACHER, request(steps, seed))[3])
    local, there, first = (1000 * statistics.median(one[1:]) for one in took)
    return f"local {local:.0f} ms, pool {there:.0f} ms, first preview after {first:.0f} ms, ten images equal"


def swept(cells: int, steps: int) -> tuple[Images, float]:
    """A sweep's images by the pool, and images a second."""
    pipe = load("sd15-inpaint")
    list(sweep(pipe, over={"seed": range(4)}, progress=False, **call(steps)))  # each replica is warm
    start = time.monotonic()
    records = list(sweep(pipe, over={"seed": range(cells)}, progress=False, **call(steps)))
    rate = cells / (time.monotonic() - start)
    assert not any(one.error for one in records), [one.error for one in records]
    return {seed: digest_of(one.image) for seed, one in enumerate(records)}, rate


def crowd(engine: Engine, learners: int, images: int, steps: int, longest: float) -> tuple[str, Images, int]:
    """A table's row of so many learners at a time; the images; how many learners starved."""
    requests = {seed: request(steps, seed) for seed in range(8)}
    made: dict[tuple[int, int], tuple[float, str]] = {}
    refused: Counter[int] = Counter()
    before = engine.most = engine.memory()

    def learner(number: int) -> None:
        for place in range(images):
            start = time.monotonic()
            while time.monotonic() < begun + longest:
                status, wait, digest, _ = ask(f"token-{number + 1}", requests[(number + place) % 8])
                if status == 200:
                    made[number, place] = (time.monotonic() - start, digest)
                    break
                refused[status] += 1
                time.sleep(wait)

    threads = [threading.Thread(target=learner, args=(number,), daemon=True) for number in range(learners)]
    begun = time.monotonic()
    for one in threads:
        one.start()
    while any(one.is_alive() for one in threads) and time.monotonic() < begun + longest:
        time.sleep(2)
        engine.memory()
    seconds = time.monotonic() - begun
    found: dict[int, set[str]] = defaultdict(set)
    for (number, place), (_, digest) in list(made.items()):
        found[(number + place) % 8].add(digest)
    assert all(len(one) == 1 for one in found.values()), "one seed has several images"
    took = sorted(one for one, _ in made.values()) or [math.inf]
    p50, p95 = (f"{took[int(len(took) * part)]:.1f}" for part in (0.5, 0.95))
    starved = sum(any((number, place) not in made for place in range(images)) for number in range(learners))
    told = [learners, f"{len(made)} of {learners * images}", starved, refused[503], refused[429], p50, p95]
    rate = f"{len(made) / seconds:.2f}"
    row = " | ".join(map(str, [*told, f"{took[-1]:.1f}", before, engine.most, rate]))
    return row, {seed: one.pop() for seed, one in found.items()}, starved


HEAD = "learners | images | starved | 503 | 429 | p50 s | p95 s | longest s | MiB before | MiB at most | images/s"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.classroom.load", description=__doc__)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--learners", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--images", type=int, default=2, help="that each learner wants")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--cells", type=int, default=40, help="of the sweep")
    parser.add_argument("--longest", type=float, default=600, help="seconds that so many learners have")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the engine ends as well
    torch.set_num_threads(1)
    os.environ |= {pool.VARIABLE: f"http://127.0.0.1:{PORT}", "COURSE_POOL_TOKEN": TEACHER}
    images: list[Images] = []
    rates: list[float] = []
    starved = 0
    for replicas in asked.replicas:
        engine = Engine(replicas, max(asked.learners))
        try:
            print(f"\n{replicas} replicas, {asked.steps} steps; alone: {alone(asked.steps)}", flush=True)
            found, rate = swept(asked.cells, asked.steps)
            images.append(found)
            rates.append(rate)
            print(f"a sweep of {asked.cells}: {rate:.2f} images a second, {rate / rates[0]:.2f} x the first engine's")
            if replicas == asked.replicas[-1]:
                print(HEAD)
                for learners in asked.learners:
                    row, found, lacking = crowd(engine, learners, asked.images, asked.steps, asked.longest)
                    images.append(found)
                    starved += lacking
                    print(row, flush=True)
        finally:
            engine.close()
    seeds = {seed: {one[seed] for one in images if seed in one} for one in images for seed in one}
    same = all(len(one) == 1 for one in seeds.values())
    print(f"\n{len(seeds)} seeds, in all engines and crowds the same image each: {same}; learners starved: {starved}")
    return int(starved > 0 or not same)


if __name__ == "__main__":
    sys.exit(main())
