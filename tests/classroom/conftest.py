"""The classroom's tier: the door, the results and the pool's pipelines run where starlette and uvicorn are installed.

Ray takes half a minute to start on a quiet machine, and gives up on a busy one: its tests run with COURSE_TEST_ALL=1.
"""

from __future__ import annotations

import importlib.util
import os

from classroom import __main__ as class_on_this_machine


def _there(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) for module in modules)


collect_ignore = []
if not (_there("ray") and os.environ.get("COURSE_TEST_ALL")):
    collect_ignore = ["test_engine.py", "test_class.py"]
elif not _there("jupyterhub") or class_on_this_machine.proxy() is None:
    collect_ignore = ["test_class.py"]
collect_ignore_glob = [] if _there("starlette", "uvicorn") else ["test_*"]
