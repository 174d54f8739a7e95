"""A class's hub: accounts, a server for each learner, and the engine, the results and the idle culler as its services.

`python -m classroom` starts it, with everything on 127.0.0.1. The environment says the rest: see docs/classroom.md.
"""

import os
import sys
from pathlib import Path

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

if accounts == "dummy":  # tests alone: everybody is one Unix user
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
