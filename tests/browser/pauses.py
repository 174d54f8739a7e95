"""`python -m tests.browser.pauses FOLDER`: the longest tasks of the painting page's main thread, while it is used.

FOLDER is a built site, as `make site` writes it. Nothing is asserted. A task's seconds on the clock hold what a busy
machine takes from it; its CPU time does not, and is what the page itself makes a visitor wait.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from tests.browser.conftest import FLAGS, browser_path
from tests.support.served import serve

CATEGORIES = ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline", "blink.user_timing"]
PAUSE = 50  # milliseconds from which a task is called long


def uses(page: Page, url: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What a visitor does, one after another."""
    done = lambda: page.wait_for_selector('#play[data-state="done"]')  # noqa: E731

    def paint() -> None:
        page.locator(".mp-canvas").scroll_into_view_if_needed()
        box = page.locator(".mp-canvas").bounding_box()
        page.mouse.move(box["x"] + 40, box["y"] + 40)
        page.mouse.down()
        for stroke in range(4):
            page.mouse.move(box["x"] + 160 - 20 * stroke, box["y"] + 60 + 20 * stroke, steps=10)
        page.mouse.up()
        done()

    def drag() -> None:
        box = page.locator('[data-name="strength"] input[type="range"]').bounding_box()
        page.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] / 2)
        page.mouse.down()
        for share in (0.9, 0.7, 0.5, 0.6, 0.8):
            page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2, steps=4)
            page.wait_for_timeout(150)
        page.mouse.up()
        done()

    def inside() -> None:
        page.get_by_role("button", name="Look inside").click()
        page.locator(".play-inside").wait_for()

    yield "first load", lambda: (page.goto(url), done())
    yield "painting", paint
    yield "a slider's drag", drag
    yield (
        "comparing",
        lambda: (page.get_by_role("button", name="Compare", exact=True).click(), page.wait_for_timeout(500)),
    )
    yield "looking inside", inside
    yield "a later visit", lambda: (page.reload(), done())


def tasks(trace: dict[str, Any]) -> list[dict[str, Any]]:
    """The tasks of the page's main thread, the longest by CPU time first, each with the events in it."""
    events = trace["traceEvents"]
    main = {
        (e["pid"], e["tid"]) for e in events if e["name"] == "thread_name" and e["args"]["name"] == "CrRendererMain"
    }
    mine = [e for e in events if (e["pid"], e["tid"]) in main and e.get("ph") == "X"]
    found = [e for e in mine if e["name"] == "RunTask" or e["name"] == "ThreadControllerImpl::RunTask"]
    for one in found:
        inner = [
            e for e in mine if e is not one and e["ts"] >= one["ts"] and e["ts"] + e["dur"] <= one["ts"] + one["dur"]
        ]
        one["inner"] = sorted(inner, key=lambda e: -e.get("tdur", e["dur"]))
    return sorted(found, key=lambda e: -e.get("tdur", e["dur"]))


def told(event: dict[str, Any]) -> str:
    data = event.get("args", {}).get("data") or {}
    where = str(data.get("url") or data.get("functionName") or data.get("type") or "").rsplit("/", 1)[-1]
    return f"{event['name']}{f' ({where})' if where else ''} {event.get('tdur', event['dur']) / 1000:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.browser.pauses", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--throttle", type=float, default=1, help="how many times slower Chromium's main thread is made"
    )
    parser.add_argument("--ratio", type=float, default=1, help="screen pixels a CSS pixel")
    arguments = parser.parse_args()
    with serve(arguments.folder) as served, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=FLAGS)
        print(
            f"Chromium {browser.version}; slowed {arguments.throttle:g} times, {arguments.ratio:g} pixels a CSS pixel"
        )
        page = browser.new_context(
            viewport={"width": 1280, "height": 900}, device_scale_factor=arguments.ratio
        ).new_page()
        page.set_default_timeout(300_000)
        if arguments.throttle > 1:
            page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": arguments.throttle})
        print(
            f"{'':16} {'CPU ms':>7} {'clock ms':>9} {f'over {PAUSE}':>8}  the longest task, and what in it took longest"
        )
        for name, use in uses(page, f"{served.url}play/#num_inference_steps=20"):
            browser.start_tracing(page=page, categories=CATEGORIES)
            use()
            found = tasks(json.loads(browser.stop_tracing()))
            clock = max(task["dur"] for task in found) / 1000
            long = sum(task.get("tdur", task["dur"]) > 1000 * PAUSE for task in found)
            first = found[0]
            parts = ", ".join(told(event) for event in first["inner"][:4])
            print(f"{name:16} {first.get('tdur', first['dur']) / 1000:7.0f} {clock:9.0f} {long:8}  {parts}", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
