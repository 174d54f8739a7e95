"""Who a token stands for: asked of the hub, or read from a file where there is none."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Any

from classroom.door import SCOPE, Learner

FRESH = 60.0  # seconds that an answer of the hub counts
STALE = 3600.0  # seconds that it counts while the hub does not answer, as when it is restarted
TEACHERS = "teachers"  # the hub's group of those who see results and may keep every replica busy

Identify = Callable[[str], Awaitable[Learner | None]]


def from_file(path: str | os.PathLike) -> Identify:
    """Tokens from a JSON file, {"token": {"name": "ada", "teacher": true}}; ValueError where others can read it."""
    file = Path(path)
    if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ValueError(f"{file} can be read by other users: chmod 600 {file}.")
    learners = {
        token: Learner(told["name"], teacher=told.get("teacher", False))
        for token, told in json.loads(file.read_text(encoding="utf-8")).items()
    }

    async def identify(token: str) -> Learner | None:
        return learners.get(token)

    return identify


def from_hub(ask: Callable[[str], dict[str, Any] | None] | None = None) -> Identify:
    """Tokens as JupyterHub knows them, by its own HubAuth; the environment says where the hub is.

    While the hub does not answer, those who were known within the hour stay known. ask: another hub, for tests.
    """
    asking: Any = ask or _hub_auth()
    known: dict[str, tuple[float, Learner | None]] = {}

    async def identify(token: str) -> Learner | None:
        asked, learner = known.get(token, (-STALE, None))
        age = monotonic() - asked
        if age < FRESH:
            return learner
        try:
            model = await asyncio.to_thread(asking, token)
        except Exception:  # the hub is away; HubAuth raises errors of many kinds
            return learner if age < STALE else None
        learner = None if model is None else _learner(model)
        if len(known) > 10_000:
            known.clear()
        known[token] = (monotonic(), learner)
        return learner

    return identify


def _hub_auth() -> Any:
    from jupyterhub.services.auth import HubAuth

    return HubAuth(cache_max_age=0).user_for_token


def _learner(model: dict[str, Any]) -> Learner | None:
    """The owner of a token; a service is one where the hub's configuration lets it ask the engine, as results may."""
    scopes = set(model.get("scopes", []))
    if model.get("kind") != "user":
        return Learner(model["name"], teacher=True) if model.get("kind") == "service" and SCOPE in scopes else None
    allowed = SCOPE in scopes or "access:services" in scopes
    return Learner(
        model["name"], teacher=bool(model.get("admin")) or TEACHERS in model.get("groups", []), allowed=allowed
    )
