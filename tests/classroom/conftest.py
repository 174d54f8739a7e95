"""The classroom's tier: the door, the results and the pool's pipelines run where starlette and uvicorn are installed.

Ray and the hub take half a minute to start, or minutes on a busy machine: their tests run with COURSE_TEST_ALL=1.
"""

from __future__ import annotations

import importlib.util
import os

from classroom import __main__ as class_on_this_machine


def _there(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) for module in modules)


_hub = _there("jupyterhub", "nativeauthenticator") and class_on_this_machine.proxy() is not None
_slow = {"test_engine.py": _there("ray"), "test_class.py": _there("ray") and _hub, "test_accounts.py": _hub}
collect_ignore = [name for name, there in _slow.items() if not (there and os.environ.get("COURSE_TEST_ALL"))]
collect_ignore_glob = [] if _there("starlette", "uvicorn") else ["test_*"]
