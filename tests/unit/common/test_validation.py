"""Sizes, strengths and names are refused with the value and the remedy."""

import numpy as np
import pytest
from PIL import Image

from helpers.common.validation import as_size, check_size, check_strength, did_you_mean, number, whole


@pytest.mark.parametrize("size", [128, (128, 128), [128, 128], Image.new("L", (128, 128))])
def test_check_size_reads_ints_pairs_and_pictures(size):
    assert check_size(size) == (128, 128)


@pytest.mark.parametrize(
    "size, remedy",
    [(500, "500 x 500.*multiples of 8.*Use 496 x 496"), ((128, 130), "128 x 130.*Use 128 x 128"), (3, "Use 8 x 8")],
)
def test_check_size_names_the_size_that_works(size, remedy):
    with pytest.raises(ValueError, match=remedy):
        check_size(size)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8, 99, "sideways"])
def test_the_size_of_a_picture_is_that_of_the_upright_one(orientation):
    picture = Image.new("L", (128, 64))
    picture.getexif()[0x0112] = orientation
    assert as_size(picture) == ((64, 128) if orientation in (6, 8) else (128, 64))
    damaged = Image.new("L", (128, 64))
    damaged.info["exif"] = b"Exif\0\0nonsense"
    assert as_size(damaged) == (128, 64)


def test_check_size_takes_another_multiple():
    assert check_size((192, 128), multiple=64) == (192, 128)
    with pytest.raises(ValueError, match="multiples of 64.*Use 64 x 64.*multiple=64"):
        check_size(120, multiple=64)


@pytest.mark.parametrize("size", ["128", 128.0, (128,), (1, 2, 3), None, (64.0, 64), True, (True, 8)])
def test_as_size_refuses_what_is_no_size(size):
    with pytest.raises(TypeError, match="size="):
        as_size(size)


def test_as_size_refuses_nothing():
    with pytest.raises(ValueError, match="at least 1 pixel"):
        as_size((8, 0))


@pytest.mark.parametrize("strength", [0.04, 0.3, 0.55, 0.6, 0.99, 1.0, 1])
@pytest.mark.parametrize("steps", [1, 10, 25, 50])
def test_check_strength_counts_as_the_pipeline_does(strength, steps):
    from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline

    pipe = type("Pipe", (), {"scheduler": DDIMScheduler()})()
    pipe.scheduler.set_timesteps(steps)
    timesteps, _ = StableDiffusionImg2ImgPipeline.get_timesteps(pipe, steps, strength, "cpu")
    if len(timesteps):
        assert check_strength(strength, steps) == len(timesteps)
    else:
        with pytest.raises(ValueError, match="leaves no step to run"):
            check_strength(strength, steps)


def test_check_strength_names_two_ways_out():
    with pytest.raises(ValueError, match=r"0.2 < 1.*num_inference_steps to at least 50, or raise strength to .* 0.1"):
        check_strength(0.02, 10)
    assert check_strength(0.02, 50) == 1
    assert check_strength(0.1, 10) == 1
    with pytest.raises(ValueError, match=r"raise strength to at least 0.04"):
        check_strength(0, 25)


def test_did_you_mean():
    names = ["castle", "seashore", "road"]
    assert did_you_mean("Castel", names) == "Did you mean 'castle'?"
    assert did_you_mean("zzz", names) == "Known: castle, road, seashore."
    assert did_you_mean("zzz", []) == "None are known."


@pytest.mark.parametrize("check, value", [(whole, np.int64(3)), (whole, 3), (number, np.float32(3)), (number, 3)])
def test_numpys_numbers_count(check, value):
    assert check("n", value) == 3 and type(check("n", value)) in (int, float)


@pytest.mark.parametrize("value", [True, "3", None, 3.0, [3]])
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(TypeError, match="n=.*expected a whole number, 1 or more"):
        whole("n", value, least=1)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_number_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match=f"x={value}: expected a number from 0 to 1"):
        number("x", value, low=0, high=1)
