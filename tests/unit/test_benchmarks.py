"""The benchmarks run; what they measure is for a quiet machine."""

from __future__ import annotations

import pytest
import torch

from helpers.pipelines.loading import load
from tests import benchmarks
from tests.support.few_steps import lora  # noqa: F401


@pytest.mark.parametrize("name", benchmarks.BENCHMARKS)
def test_each_prints_a_ratio_to_plain_diffusers(lora, capsys, name):  # noqa: F811
    benchmarks.main([name, "--quick"])
    assert f"\n{name}: " in (said := capsys.readouterr().out) and " s, x 1.000, spread" in said


def test_the_forwards_of_a_call_are_recorded_with_their_arguments(tiny_course):
    pipe = load("sd15")
    pipe.set_progress_bar_config(disable=True)
    found = benchmarks.recorded(pipe, {"prompt": "a boat", "num_inference_steps": 3, "guidance_scale": 4.0})
    assert len(found) == 4  # PNDM takes its second step twice
    assert all(args[0].shape[0] == 2 for args, _ in found)
    with torch.no_grad():
        for args, kwargs in found:
            assert pipe.unet(*args, **kwargs)[0].shape == args[0].shape
    assert not pipe.unet._forward_pre_hooks
