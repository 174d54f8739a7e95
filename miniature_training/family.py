"""The family on one GPU: which miniatures learn beside which, each in a process of its own, in two boxes of minutes.

`bases` trains the UNets of sd15, Kandinsky and SDXL at a constant rate, on from what is shipped. `rest` lets their
rates fall to zero and then trains what stands on them: styles, ControlNets, the few-step LoRA, inpainting by
Kandinsky, the refiner, and MoVQ's decoder beside them all. Between the two the miniatures stay where they are.
Beside `bases` everything is drawn that `rest` learns from. Nothing is compiled: that took two of the minutes, and the
steps came no faster than those of a UNet left as it is beside it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event

from diffusers import AutoencoderKL

from miniature_training.models import latent_space, originals
from miniature_training.models.dataset import drawn_images, styled_images
from miniature_training.models.latents import latents, masked_latents
from miniature_training.models.loop import device
from miniature_training.models.repainting import masks
from miniature_training.models.store import load_component, scratch
from miniature_training.recipes import controls, kandinsky, refiner, styles
from miniature_training.recipes.depth import depths
from miniature_training.world.looks import TOKENS

EXPORTING = 8  # seconds that a turn keeps for what comes after its training


@dataclass(frozen=True)
class Turn:
    """A training from one share of the box to another; it waits for those it builds on."""

    name: str
    begins: float
    ends: float
    how: tuple[str, ...] = ("--resume", "--decay")
    after: tuple[str, ...] = ()


ON, DECAY = ("--resume",), ("--decay",)
SD15 = ("sd15", "sd15-inpaint")
TURNS = {
    "bases": (
        Turn("sd15-inpaint", 0, 1, ON),
        Turn("kandinsky22", 0, 1, ON),
        Turn("sdxl-inpaint", 0, 1, ON),
    ),
    "rest": (
        Turn("sd15-inpaint", 0, 0.36),
        Turn("sd15", 0, 0.36, DECAY),
        Turn("kandinsky22", 0, 0.36),
        Turn("sdxl-inpaint", 0, 0.66),
        Turn("movq-decoder", 0, 1, DECAY),
        Turn("lcm", 0.36, 1, ON, after=SD15),
        Turn("comic", 0.36, 0.68, ON, after=SD15),
        Turn("pixel-art", 0.36, 0.68, ON, after=SD15),
        Turn("elden-ring", 0.36, 0.68, ON, after=SD15),
        Turn("kandinsky22-inpaint", 0.36, 0.7, ON, after=("kandinsky22",)),
        Turn("controlnet-depth", 0.66, 1, ON, after=SD15),
        Turn("controlnet-inpaint", 0.66, 1, ON, after=SD15),
        Turn("sdxl-refiner", 0.68, 1),
    ),
}


def prepare() -> None:
    """Draw and encode what several turns of `rest` learn from, so that no two of them draw the same."""
    here, vae = device().type, load_component(latent_space.NAME, AutoencoderKL)
    for style in TOKENS:
        styled_images(style, styles.COUNT[here])
    for count in {styles.COUNT[here], controls.COUNT}:
        drawn_images(count)
    depths(controls.COUNT)
    originals.latents(refiner.example, refiner.COUNT[here], shape=originals.SHAPES[0], vae=vae)
    for count in {styles.COUNT[here], controls.COUNT}:
        latents(count)
    masked_latents(controls.COUNT)
    for style in TOKENS:
        styles.styled_latents(style, styles.COUNT[here])
    masks(kandinsky.COUNT[here])


def train(box: str, *, minutes: float) -> None:
    """Run the turns of a box; what a process prints is kept in the scratch folder. Raises RuntimeError if one failed.

    A turn that has not ended half a minute after its time is stopped; what it exported before stays.
    """
    begin, turns = time.monotonic(), TURNS[box]
    ended = {turn.name: Event() for turn in turns}
    beside = _started("bases-prepare", ["family", "prepare"]) if box == "bases" else None

    def passed() -> float:
        return (time.monotonic() - begin) / 60

    def take(turn: Turn) -> int:
        time.sleep(max(0.0, 60 * (turn.begins * minutes - passed())))
        for name in turn.after:
            ended[name].wait()
        left = 60 * (turn.ends * minutes - passed())
        command = ["train", turn.name, "--minutes", f"{minutes:.2f}", *turn.how]
        status = _ended(_started(f"{box}-{turn.name}", command, left - EXPORTING), left + 30)
        ended[turn.name].set()
        print(f"{passed():5.1f} min: {turn.name} {'done' if not status else f'ended with {status}'}", flush=True)
        return status

    with ThreadPoolExecutor(len(turns)) as threads:
        statuses = list(threads.map(take, turns))
    if beside:
        _ended(beside, 60)
    if failed := [turn.name for turn, status in zip(turns, statuses, strict=True) if status]:
        raise RuntimeError(f"these ended with an error: {', '.join(failed)}; see {scratch() / 'logs'}")


def _started(log: str, command: list[str], seconds: float = 0) -> subprocess.Popen:
    """A process of this package, whose training may last so long; what it prints is kept under the name `log`."""
    file = scratch() / "logs" / f"{log}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    told = os.environ | {"COURSE_TRAINING_ENDS": str(time.time() + seconds)}
    command = [sys.executable, "-m", "miniature_training", *command]
    with file.open("w") as out:
        return subprocess.Popen(command, env=told, stdout=out, stderr=subprocess.STDOUT)


def _ended(process: subprocess.Popen, seconds: float) -> int:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
