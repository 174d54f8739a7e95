"""Memory on a card: what is measured there is the card's, and a card that is too small does not end a call."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from helpers import load, measure, rescue

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card")


@pytest.fixture
def pipe():
    pipe = load("sd15", device="cuda")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def call(count: int) -> dict:
    generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
    return {"prompt": ["a red boat"] * count, "num_inference_steps": 2, "generator": generators}


def test_the_peak_is_the_cards_and_grows_with_the_batch(pipe):
    one, eight = (measure(lambda count=count: pipe(**call(count)), repeats=1) for count in (1, 8))
    assert 0 < one.allocated < eight.allocated <= eight.reserved


def test_halves_take_less_of_the_card():
    full, half = (load("sd15", device="cuda", dtype=dtype) for dtype in ("float32", "float16"))
    sizes = [sum(p.numel() * p.element_size() for p in one.unet.parameters()) for one in (full, half)]
    assert sizes[0] == 2 * sizes[1]


def test_a_batch_that_is_too_large_for_the_card_is_made_one_by_one(pipe):
    wanted = pipe(**call(16), output_type="np").images
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    room = measure(lambda: pipe(**call(2)), repeats=1).allocated
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.2 * room / total)
    try:
        with warnings.catch_warnings(record=True) as noted:
            warnings.simplefilter("always")
            made = rescue(pipe, **call(16), output_type="np").images
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert any("one image at a time" in str(note.message) for note in noted)
    assert made.shape == wanted.shape and np.abs(made - wanted).max() < 0.05
