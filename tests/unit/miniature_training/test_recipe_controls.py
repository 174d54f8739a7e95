"""The ControlNets' recipe: small deltas of sd15's encoder that steer it and sd15-inpaint; two steps, not a training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.analysis.image_metrics import rank_correlation
from miniature_training.evaluation import control_figures
from miniature_training.recipes import controls, depth


def test_the_condition_of_inpainting_is_that_of_the_guide():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    mask = (rng.random((2, 8, 8)) < 0.3).astype(np.uint8) * 255
    ours = controls.inpaint_condition(torch.from_numpy(rgb), torch.from_numpy(mask)).numpy()
    for image, hole, made in zip(rgb, mask, ours, strict=True):
        guide = image.astype(np.float32) / 255
        guide[hole.astype(np.float32) / 255 > 0.5] = -1.0
        assert np.allclose(made, guide.transpose(2, 0, 1))


def test_the_condition_of_depth_is_that_of_a_depth_pipeline():
    maps = np.random.default_rng(0).random((2, 8, 8))
    ours = controls.depth_condition(torch.from_numpy(maps)).numpy()
    for values, made in zip(maps, ours, strict=True):
        shown = np.asarray(depth.as_image(values)).transpose(2, 0, 1) / 255
        assert np.abs(made - shown).max() <= 1 / 255
    assert not controls.depth_condition(torch.ones(1, 8, 8)).any(), "where all is equally far, nothing is near"


def test_a_guessed_depth_stays_a_depth_and_keeps_its_order():
    truth = controls.depth_condition(torch.arange(64.0).view(1, 1, 64).expand(1, 64, 64))
    for seed in range(20):
        made = controls.guessed(truth, torch.Generator().manual_seed(seed))
        assert made.shape == truth.shape and 0 <= made.min() and made.max() <= 1
        assert rank_correlation(made[0, 0].numpy(), truth[0, 0].numpy()) > 0.9
        assert torch.equal(made[:, 0], made[:, 1]) and torch.equal(made[:, 0], made[:, 2])


def test_tasks_ask_for_the_same_thing_in_another_colour_and_place():
    for drawing, text, asked in control_figures.tasks(6):
        scene = drawing.scene
        assert asked["subject"] == scene.subject and asked["subject"] in text and asked["colour"] in text
        assert asked["colour"] != scene.colour and asked["place"] != scene.place


def test_figures_are_better_for_images_that_hold_the_control(monkeypatch):
    """The measures themselves, on drawings in the place of results."""
    drawings = [task[0] for task in control_figures.tasks(6)]
    held, lost = [d.image for d in drawings], [d.image for d in drawings[1:] + drawings[:1]]
    truth = {id(d.image): np.asarray(d.depth) for d in drawings}
    monkeypatch.setattr(depth, "load", lambda: None)
    monkeypatch.setattr(depth, "estimate", lambda model, images: [truth[id(image)] for image in images])
    for inpaint in (False, True):
        near, far = (control_figures._depth(drawings, images, inpaint=inpaint) for images in (held, lost))
        assert all(value == pytest.approx(1) for value in near.values()) and all(value < 0.98 for value in far.values())
        assert "subject_depth_correlation" in near
    assert control_figures._kept(drawings, held, inpaint=False)["outside_db"] > 80
    assert control_figures._kept(drawings, lost, inpaint=False)["outside_db"] < 30
    assert control_figures._kept(drawings, held, inpaint=True).keys() == {"seam_levels"}
