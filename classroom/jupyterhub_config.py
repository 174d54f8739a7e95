"""A class's hub: accounts, a server for each learner, and the engine, the results and the idle culler as its services.

`python -m classroom` starts it, with everything on 127.0.0.1. The environment says the rest: see docs/classroom.md.
"""

import os
import pwd
import subprocess
import sys
from pathlib import Path

from tornado.web import HTTPError

ROOT = Path(__file__).resolve().parents[1]
STATE = Path(os.environ["COURSE_CLASS_FOLDER"])
HUB, PROXY, SERVED, ENGINE, RESULTS = (int(os.environ["COURSE_CLASS_PORT"]) + place for place in range(5))
IDLE = 3600  # seconds after which a learner's server ends
# The hub starts everything without its own environment: of that, this is for the engine, and the edition for learners.
KEPT = ("COURSE_EDITION", "COURSE_CACHE", "HF_", "CUDA_", "RAY_AUTH_")
kept = {name: value for name, value in os.environ.items() if name.startswith(KEPT)}

c = get_config()  # noqa: F821  (JupyterHub's)

c.JupyterHub.bind_url = f"http://127.0.0.1:{HUB}"
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{SERVED}"
c.JupyterHub.db_url = f"sqlite:///{STATE}/hub.sqlite"
c.JupyterHub.cookie_secret_file = str(STATE / "cookie-secret")
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{PROXY}"
c.ConfigurableHTTPProxy.pid_file = str(STATE / "proxy.pid")
c.ConfigurableHTTPProxy.command = [os.environ.get("COURSE_CLASS_PROXY", "configurable-http-proxy")]

# pam: the machine's own accounts. native: accounts that learners ask for, and a teacher lets in.
accounts = os.environ.get("COURSE_CLASS_ACCOUNTS", "pam")
c.JupyterHub.authenticator_class = accounts
c.Authenticator.admin_users = set(filter(None, os.environ.get("COURSE_CLASS_TEACHERS", "").split(",")))
c.Authenticator.allow_all = True  # whom PAM or the teacher lets in

if accounts == "native":
    from jupyterhub.handlers.login import LoginHandler
    from nativeauthenticator import NativeAuthenticator

    class Accounts(NativeAuthenticator):
        """With the hub's own log-in page: that of nativeauthenticator 1.3 fails in JupyterHub 6."""

        def get_handlers(self, app) -> list:
            return [*(one for one in super().get_handlers(app) if one[0] != "/login"), ("/login", LoginHandler)]

    def account(spawner) -> None:
        """Make the learner's Unix account; the machine's other accounts are nobody's who signs up."""
        try:
            entry = pwd.getpwnam(spawner.user.name)
        except KeyError:
            told = ["--create-home", "--key", "HOME_MODE=0700", "--shell", "/bin/bash", "--comment", LEARNER]
            subprocess.run(["useradd", *told, spawner.user.name], check=True)
            return
        if entry.pw_gecos != LEARNER and not spawner.user.admin:
            raise HTTPError(403, f"{spawner.user.name} is the name of this machine's account: sign up with another.")

    LEARNER = "learner of the inpainting course"
    c.JupyterHub.authenticator_class = Accounts
    c.JupyterHub.template_vars = {
        "announcement_login": 'No account yet? <a href="/hub/signup">Sign up</a>; then your teacher lets you in.'
    }
    c.Spawner.pre_spawn_hook = account
    c.Authenticator.username_pattern = "[a-z][a-z0-9_-]{0,30}$"  # a Unix account's name
    c.NativeAuthenticator.minimum_password_length = 8
    c.NativeAuthenticator.check_common_password = True
    c.NativeAuthenticator.allowed_failed_logins = 5  # then ten minutes' wait
elif accounts == "dummy":  # tests alone: everybody is one Unix user
    c.JupyterHub.spawner_class = "simple"
    c.SimpleLocalProcessSpawner.home_dir_template = f"{STATE}/homes/{{username}}"
    c.Spawner.args = ["--allow-root"]
    c.DummyAuthenticator.password = os.environ["COURSE_CLASS_TEST_PASSWORD"]
c.Spawner.cmd = [sys.executable, "-m", "classroom.learner"]
c.Spawner.default_url = "/lab/tree/inpainting-course/my-notebooks/00_welcome.ipynb"
c.Spawner.start_timeout = c.Spawner.http_timeout = 300  # twenty servers that start at once on a few cores
elsewhere = os.environ.get("COURSE_POOL")  # an engine that runs already
pool = elsewhere or f"http://127.0.0.1:{ENGINE}"
c.Spawner.environment = {
    "COURSE_POOL": pool,
    "COURSE_RESULTS": f"http://127.0.0.1:{HUB}/services/results",
    "PYTHONPATH": str(ROOT),
} | {name: value for name, value in kept.items() if name == "COURSE_EDITION"}

python = [sys.executable, "-m"]
engine = [*python, "classroom.engine", "--port", str(ENGINE), *os.environ.get("COURSE_ENGINE", "").split()]
c.JupyterHub.services = [
    {"name": "engine"} if elsewhere else {"name": "engine", "command": engine, "cwd": str(ROOT), "environment": kept},
    {
        "name": "results",
        "url": f"http://127.0.0.1:{RESULTS}",
        "command": [*python, "classroom.results"],
        "cwd": str(ROOT),
        "environment": {"COURSE_RESULTS_FILE": str(STATE / "results.sqlite"), "COURSE_POOL": pool},
        "oauth_no_confirm": True,
    },
    {"name": "idle-culler", "command": [*python, "jupyterhub_idle_culler", f"--timeout={IDLE}"]},
]
# Both the learner and their server need the services: a notebook asks with its server's token.
services = ["access:services!service=engine", "access:services!service=results"]
c.JupyterHub.load_groups = {"teachers": {"users": sorted(c.Authenticator.admin_users)}}
c.JupyterHub.load_roles = [
    {"name": "user", "scopes": ["self", *services]},
    {"name": "server", "scopes": ["users:activity!user", "access:servers!server", *services]},
    {"name": "results", "scopes": services[:1], "services": ["results"]},  # the teacher's page tells of the engine
    {
        "name": "idle-culler",
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
        "services": ["idle-culler"],
    },
]
