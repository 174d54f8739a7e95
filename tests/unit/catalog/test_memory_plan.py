"""The memory plan for simulated GPUs, and the table of what each does."""

from __future__ import annotations

import re

import pytest
import torch

from helpers.catalog import devices, editions
from helpers.catalog.checkpoints import CATALOG
from helpers.catalog.memory_plan import GPUS, NAMES, full_plan, memory_table, plan_memory
from helpers.common.sizes import GB

TASKED = [name for name, checkpoint in CATALOG.items() if checkpoint.tasks]


@pytest.fixture(autouse=True)
def full(monkeypatch):
    """The full edition, whose checkpoints are what has to be planned for."""
    before = editions._chosen
    editions.choose("full")
    monkeypatch.delenv("COURSE_DEVICE", raising=False)
    yield
    editions.choose(before)


@pytest.mark.parametrize(
    "name, gpu, offload",
    [
        ("sd15-inpaint", 24, "none"),
        ("sd15-inpaint", 6, "none"),
        ("sd15-inpaint", 3, "model"),
        ("sd15-inpaint", 2, "sequential"),
        ("sdxl-inpaint", 24, "none"),
        ("sdxl-inpaint", 12, "model"),
        ("sdxl-inpaint", 8, "model"),
        ("sdxl-inpaint", 6, "sequential"),
        ("kandinsky22", 24, "none"),
        ("kandinsky22", 8, "model"),
    ],
)
def test_a_simulated_gpu_gets_the_fastest_way_that_fits(name, gpu, offload):
    chosen = plan_memory(CATALOG[name], free=gpu * GB, device="cuda")
    assert (chosen.offload, chosen.fits, chosen.dtype) == (offload, True, torch.float16)
    assert chosen.needs <= chosen.free == gpu * GB


@pytest.mark.parametrize("name", TASKED)
def test_more_memory_never_gives_a_slower_way(name):
    ways = ["none", "model", "sequential"]
    ranks = []
    for tenths in range(5, 400):
        chosen = plan_memory(CATALOG[name], free=tenths * GB // 10, device="cuda")
        ranks.append(ways.index(chosen.offload) if chosen.fits else 3)
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[-1] == 0 and ranks[0] == 3


def test_what_will_not_fit_says_how_much_is_missing_and_what_to_use():
    chosen = plan_memory(CATALOG["sdxl-inpaint"], free=4 * GB, device="cuda")
    assert not chosen.fits
    assert "sdxl-inpaint will not fit: it needs about 5.7 GB and 4.0 GB are free" in chosen.advice
    assert "use a smaller checkpoint such as 'sd15-inpaint', or the mini edition: use('mini')" in chosen.advice
    assert "smaller checkpoint" not in plan_memory(CATALOG["sd15"], free=GB, device="cuda").advice
    assert str(chosen) == f"cuda, float16, layer by layer: 5.7 GB of 4.0 GB free: {chosen.advice}"


@pytest.mark.parametrize("device, dtype", [("cuda", None), ("cpu", None), ("mps", None), ("cuda", "float32")])
@pytest.mark.parametrize("name", TASKED)
def test_what_is_advised_instead_does_the_same_task_and_fits(name, device, dtype):
    advised = 0
    for half_gigabytes in range(2, 60):
        free = half_gigabytes * GB // 2
        chosen = plan_memory(CATALOG[name], free=free, device=device, dtype=dtype)
        if chosen.fits:
            break
        if other := re.search(r"such as '([\w-]+)'", chosen.advice):
            advised += 1
            assert plan_memory(CATALOG[other[1]], free=free, device=device, dtype=chosen.dtype).fits
            assert CATALOG[name].tasks[0] in CATALOG[other[1]].tasks and other[1] != name
    assert chosen.fits  # on a machine of 30 GB every checkpoint does, some way
    assert (advised > 0) == (CATALOG[name].family in ("sdxl", "kandinsky22"))


def test_a_cpu_runs_float32_and_never_offloads():
    roomy, tight = (plan_memory(CATALOG["sd15"], free=free * GB, device="cpu") for free in (16, 5))
    assert (roomy.dtype, roomy.offload, roomy.fits) == (torch.float32, "none", True)
    assert (tight.dtype, tight.offload, tight.fits) == (torch.float32, "none", False)
    assert (
        roomy.needs > 2 * sum(CATALOG["sd15"].weights_in("full").values()) * 2
    )  # four bytes a parameter, and room to work
    assert str(roomy) == f"cpu, float32, whole: {roomy.needs / GB:.1f} GB of 16.0 GB free"


def test_mps_takes_half_only_where_float32_does_not_fit():
    dtypes = [plan_memory(CATALOG["sdxl-inpaint"], free=free * GB, device="mps").dtype for free in (64, 16)]
    assert dtypes == [torch.float32, torch.float16]
    assert plan_memory(CATALOG["sdxl-inpaint"], free=64 * GB, device="mps", dtype="float16").dtype == torch.float16
    assert not plan_memory(CATALOG["sdxl-inpaint"], free=8 * GB, device="mps").fits  # no offload there


def test_a_dtype_that_was_asked_for_is_kept():
    assert plan_memory(CATALOG["sd15"], free=8 * GB, device="cuda", dtype=torch.bfloat16).dtype == torch.bfloat16
    assert plan_memory(CATALOG["sd15"], free=8 * GB, device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_a_miniature_runs_on_the_cpu_of_a_machine_with_a_gpu(monkeypatch):
    editions.choose("mini")
    monkeypatch.setattr(devices, "_fastest", lambda: "cuda")
    chosen = plan_memory(CATALOG["sdxl-inpaint"], free=GB)
    assert (chosen.device, chosen.dtype, chosen.offload, chosen.fits) == ("cpu", torch.float32, "none", True)
    assert plan_memory(CATALOG["sd15"], free=GB, device="cuda").dtype == torch.float32
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("COURSE_DEVICE", "cuda")
    assert plan_memory(CATALOG["sd15"], free=GB).device == "cuda"


def test_free_memory_is_looked_up_when_it_is_not_given():
    chosen = plan_memory(CATALOG["sd15"], device="cpu")
    assert chosen.free == pytest.approx(devices.free_memory("cpu"), rel=0.2)


@pytest.mark.parametrize("what", ["sd15", None, 2 * GB])
def test_what_cannot_be_planned_for_is_named(what):
    with pytest.raises(TypeError, match=r"checkpoint=.*: expected one of the catalogue, as CATALOG\['sd15'\]"):
        plan_memory(what, free=GB, device="cpu")


def test_every_cell_is_the_plan_of_the_full_checkpoint_in_both_editions():
    in_full = memory_table()
    editions.choose("mini")
    assert str(memory_table()) == str(in_full) and [row[0] for row in in_full.rows] == list(NAMES)
    for gpu in GPUS:
        assert full_plan(CATALOG["sdxl-inpaint"], gpu) == plan_memory(
            CATALOG["sdxl-inpaint"], free=int(0.92 * gpu * GB), device="cuda", dtype="float16", edition="full"
        )


def test_the_table_names_the_calls_and_what_does_not_fit():
    text = memory_table(gpus=(2, 8, 24), names=("sdxl-inpaint",))._repr_html_()
    assert all(f">{size} GB</th>" in text for size in (2, 8, 24))
    assert "does not fit (" in text and "enable_model_cpu_offload() (" in text and "as it is (" in text
    assert "planned, not measured" in text


@pytest.mark.parametrize("gpu", [0, -4, True, "8"])
def test_a_gpu_of_no_size_is_refused(gpu):
    with pytest.raises((TypeError, ValueError), match=f"gpus={gpu!r}: expected a number"):
        memory_table(gpus=(gpu,))
