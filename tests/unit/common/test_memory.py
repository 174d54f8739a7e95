"""Memory: which errors mean that it ran out, and what is freed leaves the process."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.analysis.benchmark import Resident
from helpers.common import memory
from helpers.common.sizes import MIB


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, max allowed: 9.07 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("Invalid buffer size: 16.00 GB"),
    ],
)
def test_errors_that_say_that_memory_ran_out(error):
    assert memory.ran_out(error)


def test_torchs_own_error_and_one_that_led_to_another_are_known():
    import torch

    assert memory.ran_out(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."))
    try:
        try:
            raise MemoryError
        except MemoryError as cause:
            raise ValueError("the decoder failed") from cause
    except ValueError as error:
        assert memory.ran_out(error)


@pytest.mark.parametrize("error", [None, RuntimeError("mat1 and mat2 shapes"), ValueError("out of memory"), KeyError()])
def test_other_errors_are_not_mistaken_for_it(error):
    assert not memory.ran_out(error)


@pytest.mark.skipif(memory._malloc_trim() is None, reason="this system's heap cannot be asked to give back")
def test_what_is_freed_leaves_the_process():
    def pieces() -> list:  # small ones, which a heap keeps
        return [np.ones(MIB // 16, np.uint8) for _ in range(1600)]

    memory.free()  # what earlier tests freed is room as well
    with Resident() as resident:
        first, last = pieces(), pieces()
    assert resident.growth > 128 * MIB
    del first  # it lies below what is still in use
    memory.free()
    with Resident() as again:
        second = pieces()
    assert again.growth > 64 * MIB, f"{len(second)} pieces found room that was not given back, below {len(last)}"
