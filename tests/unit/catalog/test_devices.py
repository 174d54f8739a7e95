"""Devices, dtypes, and the machine's description."""

from __future__ import annotations

import pytest
import torch

from helpers.catalog import devices


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
    monkeypatch.delenv("COURSE_DEVICE", raising=False)
    monkeypatch.setattr(devices, "_fastest", lambda: "mps")
    assert devices.device() == "mps"
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    assert devices.device() == "cpu"
    assert devices.dtype() == torch.float32
    monkeypatch.setenv("COURSE_DEVICE", "gpu")
    with pytest.raises(ValueError, match="device is 'gpu'"):
        devices.device()


def test_a_gpu_that_this_torch_cannot_run_on_is_passed_over(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no kernel image is available for execution on the device")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", fail)
    assert devices._fastest.__wrapped__() == "cpu"


def test_the_machine_is_described_in_words():
    facts = devices.describe()
    assert list(facts) == ["system", "processor", "cores", "memory", "GPU"]
    assert all(isinstance(fact, str) and fact for fact in facts.values())
    assert facts["memory"].endswith("GB free")
