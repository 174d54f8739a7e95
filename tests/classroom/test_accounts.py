"""Accounts that learners ask for: sign-up, the teacher's word, log-in, at a real hub with all of the class but Ray."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import sys

import pytest
import requests

from tests.classroom.serving import Threads, serving

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes Unix accounts")
PORT = 8170
HUB = f"http://127.0.0.1:{PORT}"
PASSWORD = "a long walk by the sea"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder, engine = tmp_path_factory.mktemp("class"), Threads()
    with serving(engine) as address:
        command = [sys.executable, "-m", "classroom", "--port", str(PORT), "--accounts", "native", "--teachers", "tina"]
        told = os.environ | {"COURSE_POOL": address}
        with subprocess.Popen([*command, "--folder", str(folder)], stdout=subprocess.PIPE, text=True, env=told) as one:
            assert any("sign up at /hub/signup under the teacher's name" in line for line in one.stdout)
            yield
            one.send_signal(signal.SIGTERM)
            one.communicate(timeout=120)
    engine.close()


def post(session: requests.Session, page: str, **form: str) -> requests.Response:
    session.get(f"{HUB}/hub/{page}")
    return session.post(f"{HUB}/hub/{page}", form | {"_xsrf": session.cookies.get("_xsrf", path="/hub/")})


def sign_up(name: str, password: str = PASSWORD) -> str:
    form = {"signup_password": password, "signup_password_confirmation": password}
    return post(requests.Session(), "signup", username=name, **form).text


def log_in(name: str, password: str = PASSWORD) -> requests.Session | None:
    session = requests.Session()
    answer = post(session, "login?next=/hub/home", username=name, password=password)
    return session if answer.ok else None


def test_a_learner_is_let_in_by_the_teacher_alone(hub) -> None:
    assert "You can now go to" in sign_up("tina")
    teacher = log_in("tina")
    assert teacher is not None and "Sign up" in requests.get(f"{HUB}/hub/login").text
    for name in ("ada", "ben"):
        assert "sent to the admin" in sign_up(name)
    assert "already in use" in sign_up("tina", "another long password")
    assert log_in("ada") is None
    assert "ada" in teacher.get(f"{HUB}/hub/authorize").text
    assert teacher.get(f"{HUB}/hub/authorize/ada").ok
    ada = log_in("ada")
    assert ada is not None and log_in("ada", "wrong password") is None and log_in("ben") is None
    assert ada.get(f"{HUB}/hub/authorize/ben").status_code == 403 and log_in("ben") is None
    assert ada.get(f"{HUB}/services/results/").status_code == 403
    assert teacher.get(f"{HUB}/services/results/").ok
    assert "ada" in teacher.get(f"{HUB}/hub/authorize").text


@pytest.mark.parametrize(
    "name, password", [("x/y", PASSWORD), ("9lives", PASSWORD), ("cem", "short"), ("cem", "password123")]
)
def test_no_account_with_such_a_name_or_password(hub, name, password) -> None:
    assert "Something went wrong" in sign_up(name, password)


def test_a_name_of_the_machine_gets_no_server_and_another_a_unix_account(hub) -> None:
    teacher = log_in("tina") or (sign_up("tina"), log_in("tina"))[1]
    learner = "course-test-ada"
    try:
        for name, status in (("daemon", 403), (learner, 200)):
            sign_up(name)
            teacher.get(f"{HUB}/hub/authorize/{name}")
            one = log_in(name)
            xsrf = one.cookies.get("_xsrf", path="/hub/")
            headers = {"Referer": f"{HUB}/hub/home", "X-XSRFToken": xsrf}
            begun = one.post(f"{HUB}/hub/api/users/{name}/server?_xsrf={xsrf}", headers=headers)
            assert (begun.status_code == 403) is (status == 403), begun.text
            one.delete(f"{HUB}/hub/api/users/{name}/server?_xsrf={xsrf}", headers=headers)
        assert oct(os.stat(pwd.getpwnam(learner).pw_dir).st_mode)[-3:] == "700"
    finally:
        with contextlib.suppress(KeyError):
            pwd.getpwnam(learner)
            subprocess.run(["userdel", "--remove", "--force", learner], check=True, capture_output=True)
