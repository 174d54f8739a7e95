"""The depth estimator's recipe: a small GLPN that plain transformers loads; two steps, not a training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from helpers.analysis.image_metrics import rank_correlation
from helpers.catalog import miniatures
from miniature_training.models.dataset import held_out
from miniature_training.recipes import depth
from miniature_training.world.scenes import draw, sample

NEAR_LEFT = np.tile(np.linspace(1, 0, 8), (8, 1))


def test_plain_transformers_estimates_with_it():
    folder = miniatures.assemble("depth-estimator")
    estimator = transformers.pipeline("depth-estimation", model=str(folder), device="cpu")
    drawing = held_out(1)[0]
    told = estimator(drawing.image)
    assert told["depth"].size == drawing.image.size
    ours = depth.estimate(depth.load(), [drawing.image])[0]
    assert np.allclose(told["predicted_depth"].numpy(), ours, atol=1e-4)
    assert 0 <= ours.min() and ours.max() <= 1


def test_the_drawn_depths_belong_to_the_images(workshop):
    maps = depth.depths(3)
    for seed in range(3):
        truth = np.asarray(draw(sample(seed), 128).depth).astype(int)
        assert np.abs(maps[seed] - truth).mean() < 2, "but for the edges, which another supersampling draws otherwise"
    assert maps[0][-1].mean() > maps[0][0].mean(), "the foot of an image is near, its sky far"


@pytest.mark.parametrize(
    "other, expected", [(NEAR_LEFT**3, 1.0), (1 - NEAR_LEFT, -1.0), (np.ones((8, 8)), 0.0), (NEAR_LEFT.T, 0.0)]
)
def test_rank_correlation_of_known_maps(other, expected):
    assert rank_correlation(NEAR_LEFT, other) == pytest.approx(expected, abs=1e-9)


def test_the_loss_is_zero_for_the_truth_and_rises_with_a_soft_edge():
    truth = torch.zeros(1, 16, 16)
    truth[:, :, 8:] = 1
    soft = truth.clone()
    soft[:, :, 7], soft[:, :, 8] = 0.3, 0.7
    assert depth.difference(truth, truth) == 0
    assert depth.difference(soft, truth) > (soft - truth).abs().mean()


def test_a_map_is_shown_from_black_to_white():
    shown = depth.as_image(0.2 + 0.3 * NEAR_LEFT)
    assert isinstance(shown, Image.Image) and shown.mode == "RGB"
    assert np.asarray(shown)[0, 0].tolist() == [255] * 3 and np.asarray(shown)[0, -1].tolist() == [0] * 3
    assert np.asarray(depth.as_image(np.ones((4, 4)))).max() == 0
