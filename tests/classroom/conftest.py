"""The classroom's tier: the door, the results and the pool's pipelines run where starlette and uvicorn are installed.

Ray takes half a minute to start on a quiet machine, and gives up on a busy one: its tests run with COURSE_TEST_ALL=1.
"""

from __future__ import annotations

import importlib.util
import os


def _there(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) for module in modules)


collect_ignore = ["test_engine.py"] if not (_there("ray") and os.environ.get("COURSE_TEST_ALL")) else []
collect_ignore_glob = [] if _there("starlette", "uvicorn") else ["test_*"]
