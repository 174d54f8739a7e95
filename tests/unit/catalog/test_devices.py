"""The machine's description, and the plan for simulated cards."""

from __future__ import annotations

import re

import pytest
import torch

from helpers.catalog import checkpoints, devices
from helpers.catalog.checkpoints import CATALOG
from helpers.catalog.devices import GB, plan

NAMES = [name for name, checkpoint in CATALOG.items() if checkpoint.tasks]


@pytest.fixture(autouse=True)
def full(monkeypatch):
    """The full edition, whose checkpoints are what has to be planned for."""
    monkeypatch.setattr(checkpoints, "_chosen", "full")
    monkeypatch.delenv("COURSE_DEVICE", raising=False)


@pytest.mark.parametrize(
    "name, card, offload",
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
def test_a_simulated_card_gets_the_fastest_way_that_fits(name, card, offload):
    chosen = plan(CATALOG[name], free=card * GB, device="cuda")
    assert (chosen.offload, chosen.fits, chosen.dtype) == (offload, True, torch.float16)
    assert chosen.needs <= chosen.free == card * GB


@pytest.mark.parametrize("name", NAMES)
def test_more_memory_never_gives_a_slower_way(name):
    ways = ["none", "model", "sequential"]
    ranks = []
    for tenths in range(5, 400):
        chosen = plan(CATALOG[name], free=tenths * GB // 10, device="cuda")
        ranks.append(ways.index(chosen.offload) if chosen.fits else 3)
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[-1] == 0 and ranks[0] == 3


def test_what_will_not_fit_says_how_much_is_missing_and_what_to_use():
    chosen = plan(CATALOG["sdxl-inpaint"], free=4 * GB, device="cuda")
    assert not chosen.fits
    assert "sdxl-inpaint will not fit: it needs about 5.7 GB and 4.0 GB are free" in chosen.advice
    assert "use a smaller checkpoint such as 'sd15-inpaint', or the mini edition: use('mini')" in chosen.advice
    assert "smaller checkpoint" not in plan(CATALOG["sd15"], free=GB, device="cuda").advice
    assert str(chosen) == f"cuda, float16, layer by layer: 5.7 GB of 4.0 GB free: {chosen.advice}"


@pytest.mark.parametrize("device, dtype", [("cuda", None), ("cpu", None), ("mps", None), ("cuda", "float32")])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_advised_instead_does_the_same_task_and_fits(name, device, dtype):
    advised = 0
    for half_gigabytes in range(2, 60):
        free = half_gigabytes * GB // 2
        chosen = plan(CATALOG[name], free=free, device=device, dtype=dtype)
        if chosen.fits:
            break
        if other := re.search(r"such as '([\w-]+)'", chosen.advice):
            advised += 1
            assert plan(CATALOG[other[1]], free=free, device=device, dtype=chosen.dtype).fits
            assert CATALOG[name].tasks[0] in CATALOG[other[1]].tasks and other[1] != name
    assert chosen.fits  # on a machine of 30 GB every checkpoint does, some way
    assert (advised > 0) == (CATALOG[name].family in ("sdxl", "kandinsky22"))


def test_a_cpu_runs_float32_and_never_offloads():
    roomy, tight = (plan(CATALOG["sd15"], free=free * GB, device="cpu") for free in (16, 5))
    assert (roomy.dtype, roomy.offload, roomy.fits) == (torch.float32, "none", True)
    assert (tight.dtype, tight.offload, tight.fits) == (torch.float32, "none", False)
    assert roomy.needs > 2 * sum(CATALOG["sd15"].weights.values()) * 2  # four bytes a parameter, and room to work
    assert str(roomy) == f"cpu, float32, whole: {roomy.needs / GB:.1f} GB of 16.0 GB free"


def test_mps_takes_half_only_where_float32_does_not_fit():
    dtypes = [plan(CATALOG["sdxl-inpaint"], free=free * GB, device="mps").dtype for free in (64, 16)]
    assert dtypes == [torch.float32, torch.float16]
    assert plan(CATALOG["sdxl-inpaint"], free=64 * GB, device="mps", dtype="float16").dtype == torch.float16
    assert not plan(CATALOG["sdxl-inpaint"], free=8 * GB, device="mps").fits  # its memory is the machine's: no offload


def test_a_dtype_that_was_asked_for_is_kept():
    assert plan(CATALOG["sd15"], free=8 * GB, device="cuda", dtype=torch.bfloat16).dtype == torch.bfloat16
    assert plan(CATALOG["sd15"], free=8 * GB, device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_bytes_can_be_planned_for():
    assert plan(2 * GB, free=8 * GB, device="cuda").offload == "none"
    assert plan(10 * GB, free=10 * GB, device="cuda").offload == "model"
    assert plan(10 * GB, free=3 * GB, device="cuda").offload == "sequential"


def test_a_miniature_runs_on_the_cpu_of_a_machine_with_a_card(monkeypatch):
    monkeypatch.setattr(checkpoints, "_chosen", "mini")
    monkeypatch.setattr(devices, "_device", lambda: "cuda")
    chosen = plan(CATALOG["sdxl-inpaint"], free=GB)
    assert (chosen.device, chosen.dtype, chosen.offload, chosen.fits) == ("cpu", torch.float32, "none", True)
    assert plan(CATALOG["sd15"], free=GB, device="cuda").dtype == torch.float32
    monkeypatch.setenv("COURSE_DEVICE", "cuda")
    assert plan(CATALOG["sd15"], free=GB).device == "cuda"


def test_free_memory_is_looked_up_when_it_is_not_given():
    chosen = plan(CATALOG["sd15"], device="cpu")
    assert chosen.free == pytest.approx(devices.free_memory("cpu"), rel=0.2)


@pytest.mark.parametrize("what", ["sd15", None, 1.5, True])
def test_what_cannot_be_planned_for_is_named(what):
    with pytest.raises(TypeError, match=r"plan\(\) takes a Checkpoint, as CATALOG\['sd15'\], or a number of bytes"):
        plan(what, free=GB, device="cpu")


@pytest.mark.parametrize("value", ["gpu", 3.5, "tpu:0"])
def test_a_device_that_is_none_is_named(value):
    with pytest.raises(ValueError, match=f"device is {value!r}"):
        devices.check_device(value)


def test_a_device_that_this_machine_lacks_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert devices.check_device("cuda") == "cuda"
    assert devices.check_device(torch.device("cuda", 0)) == "cuda:0"
    with pytest.raises(ValueError, match=r"device is 'cuda:1', which this machine does not have; it has 'cpu', 'cuda'"):
        devices.check_device("cuda:1")


@pytest.mark.parametrize("value", ["half", torch.int8, 16])
def test_a_dtype_that_no_pipeline_runs_in_is_named(value):
    with pytest.raises(ValueError, match="dtype is .*; expected torch.float32, torch.float16, torch.bfloat16"):
        devices.check_dtype(value)


def test_the_environment_chooses_the_device(monkeypatch):
    monkeypatch.setattr(devices, "_fastest", lambda: "mps")
    assert devices.device() == "mps"
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    assert devices.device() == "cpu"
    assert devices.dtype() == torch.float32
    monkeypatch.setenv("COURSE_DEVICE", "gpu")
    with pytest.raises(ValueError, match="device is 'gpu'"):
        devices.device()


def test_a_card_that_this_torch_cannot_run_on_is_passed_over(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no kernel image is available for execution on the device")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", fail)
    assert devices._fastest.__wrapped__() == "cpu"


def test_the_machine_is_described_in_words():
    facts = devices.describe()
    assert list(facts) == ["system", "python", "processor", "cores", "memory", "graphics"]
    assert all(isinstance(fact, str) and fact for fact in facts.values())
    assert facts["memory"].endswith("GB free")
