"""`make class` as a whole: learners log in, the engine makes their images, the teacher reads who solved what."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid

import psutil
import pytest
import requests
import torch
import websocket

from helpers.generation.records import make
from helpers.images.digest import digest_of
from helpers.images.masks import load_mask
from helpers.images.reading import load_image
from helpers.pipelines.loading import load

PORT = 8140
HUB = f"http://127.0.0.1:{PORT}"
RESULTS = f"{HUB}/services/results/"
CALL = {"prompt": "a red boat", "num_inference_steps": 4}


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """The process of the class, and all that it has begun."""
    folder = tmp_path_factory.mktemp("class")
    command = [sys.executable, "-m", "classroom", "--port", str(PORT), "--accounts", "dummy", "--teachers", "tina"]
    told = os.environ | {"COURSE_CLASS_TEST_PASSWORD": "open", "COURSE_EDITION": "mini"}
    process = subprocess.Popen([*command, "--folder", str(folder)], stdout=subprocess.PIPE, text=True, env=told)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl+C" in line:
            break
    assert {f"The class is at   {HUB}\n", f"The results at    {RESULTS}     (for: tina)\n"} <= set(lines), lines
    begun = set()
    yield psutil.Process(process.pid), begun
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


class Browser(requests.Session):
    """Somebody who has logged in at the hub."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.get(f"{HUB}/hub/login")
        form = {"username": name, "password": "open", "_xsrf": self.cookies.get("_xsrf", path="/hub/")}
        answer = self.post(f"{HUB}/hub/login?next=/hub/home", form)
        assert answer.url.endswith("/hub/home"), answer.url
        xsrf = {"X-XSRFToken": self.cookies.get("_xsrf", path="/hub/")}
        user = self.get(f"{HUB}/hub/api/user", headers={"Referer": f"{HUB}/hub/home"} | xsrf)
        self.user = user.json()["name"]
        told = self.post(f"{HUB}/hub/api/users/{self.user}/tokens?_xsrf={xsrf['X-XSRFToken']}", json={})
        self.token = {"Authorization": f"token {told.json()['token']}"}

    def start_server(self) -> None:
        requests.post(f"{HUB}/hub/api/users/{self.user}/server", headers=self.token)
        until(lambda: requests.get(f"{HUB}/user/{self.user}/api/status", headers=self.token).ok)


def until(true, seconds=300) -> None:
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(requests.ConnectionError):  # the hub's proxy is away
            if true():
                return
        assert time.monotonic() < end
        time.sleep(0.5)


class Kernel:
    """A notebook's kernel in the learner's server."""

    def __init__(self, learner: Browser) -> None:
        where = f"/user/{learner.user}/api/kernels"
        kernel = requests.post(f"{HUB}{where}", headers=learner.token, json={}).json()["id"]
        self.address = f"ws://127.0.0.1:{PORT}{where}/{kernel}/channels"
        self.headers = [f"Authorization: {learner.token['Authorization']}"]

    def run(self, code: str, value: str = "None", timeout: float = 300) -> object:
        """Run the cell, and return what this expression is after it; AssertionError with its traceback if it fails."""
        socket = websocket.create_connection(self.address, header=self.headers, timeout=timeout)
        number = uuid.uuid4().hex
        header = {"msg_id": number, "msg_type": "execute_request", "session": number, "username": "", "version": "5.4"}
        content = {"code": code, "user_expressions": {"value": value}, "silent": False}
        asked = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        socket.send(json.dumps(asked))
        while True:
            told = json.loads(socket.recv())
            if told["msg_type"] == "execute_reply" and told["parent_header"].get("msg_id") == number:
                socket.close()
                reply = told["content"]
                assert reply["status"] == "ok", "\n".join(reply["traceback"])
                return ast.literal_eval(reply["user_expressions"]["value"]["data"]["text/plain"])


@pytest.fixture(scope="module")
def ada(started):
    learner = Browser("ada")
    learner.start_server()
    return learner


@pytest.fixture(scope="module")
def kernel(ada):
    return Kernel(ada)


IMAGE = f"""
import sys
from helpers import check, load, load_image, load_mask
call = {CALL!r} | {{"image": load_image("road"), "mask_image": load_mask("road")}}
pipe = load("sd15-inpaint")
pipe(**call)
light = "torch" not in sys.modules
"""
SAME = """
from helpers.generation.records import make
from helpers.images.digest import digest_of
same = digest_of(make(pipe, seed=7, **call).image)
"""


def expected() -> str:
    """The digest of the image that this process makes with a replica's threads: others sum in another order."""
    call = CALL | {"image": load_image("road"), "mask_image": load_mask("road")}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return digest_of(make(load("sd15-inpaint", device="cpu"), seed=7, **call).image)
    finally:
        torch.set_num_threads(before)


def test_a_learners_cell_gets_the_pools_image(kernel) -> None:
    assert kernel.run("import os", "os.environ['COURSE_POOL']") == f"http://127.0.0.1:{PORT + 3}"
    assert kernel.run(IMAGE, "light")
    assert kernel.run(SAME, "same") == expected()


def test_check_reaches_the_teachers_table_under_the_learners_name(ada, kernel) -> None:
    kernel.run('check("01.1", 1)\nfrom helpers.exercises import reporting\nassert reporting.wait(30)')
    teacher = Browser("tina")
    page = teacher.get(RESULTS)
    assert page.url == RESULTS and "<td>ada</td><td>✗ 1</td>" in page.text, page.text
    assert teacher.get(f"{RESULTS}table.csv").text.splitlines()[1].startswith("ada,01.1,False,1,")
    assert ada.get(RESULTS).status_code == 403
    answer = {"key": uuid.uuid4().hex, "exercise": "01.1", "passed": True, "said": "", "answer": "", "at": 1.0}
    posted = requests.post(f"{RESULTS}answers", json=answer | {"learner": "ben"}, headers=ada.token)
    assert (posted.status_code, posted.json()["error"]) == (403, "you are ada, and answer for yourself alone.")


def test_two_learners_with_one_name_are_one(ada) -> None:
    assert Browser("ADA").user == ada.user  # one account, one server, and two images at a time together


def test_strangers_get_no_image(ada) -> None:
    for headers, status in (({}, 401), ({"Authorization": "token x"}, 401), (ada.token, 422)):
        assert requests.post(f"http://127.0.0.1:{PORT + 3}/calls", json={}, headers=headers).status_code == status


def test_learners_work_on_while_the_hub_is_restarted(started, ada, kernel) -> None:
    launcher, begun = started
    begun |= set(launcher.children(recursive=True))
    [hub] = launcher.children()
    hub.kill()
    kernel.run('assert not check("01.2", 1)')  # answers at once
    until(lambda: requests.get(f"{HUB}/hub/api/").ok)
    until(lambda: requests.get(f"{HUB}/user/ada/api/status", headers=ada.token).ok)
    until(lambda: kernel_works(kernel))
    assert kernel.run("", "reporting.wait(60)")
    assert "<td>ada</td><td>✗ 1</td><td>✗ 1</td>" in Browser("tina").get(RESULTS).text
    assert launcher.is_running() and [one.pid for one in launcher.children()] != [hub.pid]


def kernel_works(kernel) -> bool:
    try:
        return kernel.run(SAME, "same") == expected()
    except AssertionError as error:
        assert "PoolError" in str(error)  # the engine is being started
        return False


def test_ctrl_c_leaves_no_process(started) -> None:
    launcher, begun = started
    begun |= set(launcher.children(recursive=True))
    launcher.send_signal(signal.SIGINT)
    launcher.wait(150)
    assert [one for one in begun if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []
