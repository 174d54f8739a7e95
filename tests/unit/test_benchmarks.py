"""The benchmarks' arithmetic and their command; what they measure is for a quiet machine."""

from __future__ import annotations

import pytest

from helpers.pipelines.loading import load
from tests.benchmarks import floor, loading, timing
from tests.benchmarks.__main__ import main
from tests.support.tiny import tiny_course  # noqa: F401


def test_ways_take_turns_and_the_first_rounds_do_not_count():
    order = []
    ways = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    found = timing.in_turn(ways, 2, warmup=1)
    assert order == ["a", "b"] * 3
    assert {name: len(values) for name, values in found.items()} == {"a": 2, "b": 2}


def test_a_quantile_is_one_of_the_values():
    values = [float(value) for value in range(100, 0, -1)]
    assert timing.quantile(values, 0.5) == 51 and timing.quantile(values, 0.95) == 96
    assert timing.quantile([3.0], 0.95) == 3.0


def test_a_ratio_is_that_of_each_round(capsys):
    timing.tell_ratio("ours / plain", [1.0, 4.0, 9.0], [2.0, 2.0, 3.0])  # 0.5, 2 and 3, not the ratio of the sums
    assert "2.000   (half of them 0.500 to 3.000)" in capsys.readouterr().out


def test_an_unknown_benchmark_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        main(["grdi"])
    assert "there is no benchmark 'grdi'; there are: grid, seeds, slider" in capsys.readouterr().err


def test_the_forwards_of_a_call_are_recorded_with_their_arguments(tiny_course):  # noqa: F811
    import torch

    pipe = load("sd15")
    pipe.set_progress_bar_config(disable=True)
    found = floor.recorded(pipe, {"prompt": "a boat", "num_inference_steps": 3, "guidance_scale": 4.0})
    assert len(found) == 4  # PNDM takes its second step twice
    assert all(args[0].shape[0] == 2 for args, _ in found)
    with torch.no_grad():
        for args, kwargs in found:
            assert pipe.unet(*args, **kwargs)[0].shape == args[0].shape
    assert not pipe.unet._forward_pre_hooks


@pytest.mark.parametrize("way", ["load", "from_pretrained"])
def test_both_ways_of_loading_make_the_same_pipeline(tiny_course, way):  # noqa: F811
    assert type(loading._open(way, "sd15", "image2image")).__name__ == "StableDiffusionImg2ImgPipeline"
