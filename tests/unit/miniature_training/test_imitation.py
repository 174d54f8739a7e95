"""Networks that start as what another one computes."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention_processor import SpatialNorm
from torch import nn

from miniature_training.models.imitation import imitate, widened


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def net(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.GroupNorm(2, width), nn.SiLU(), nn.Conv2d(width, 5, 3, padding=1)
    )


def test_a_network_with_every_channel_twice_computes_the_same():
    torch.manual_seed(0)
    narrow, wide = net(8), net(16)
    state = wide.state_dict()
    wide.load_state_dict({key: widened(value, state[key].shape) for key, value in narrow.state_dict().items()})
    assert torch.allclose(narrow(random(2, 3, 9, 7)), wide(random(2, 3, 9, 7)), atol=1e-5)


def test_layers_are_fitted_in_turn_until_the_whole_computes_nearly_the_same():
    torch.manual_seed(0)
    teacher, student, x = net(8), net(16), random(8, 3, 24, 24)
    imitate(student, teacher, {"0": "0", "3": "3"}, run=lambda network: network(x))
    other = random(2, 3, 24, 24, seed=1)
    assert torch.allclose(student[0](other), teacher[0](other).repeat_interleave(2, 1), atol=0.02)
    assert (student(other) - teacher(other)).abs().mean() < 0.02


def test_a_convolution_is_fitted_to_its_image_s_edge_too():
    torch.manual_seed(0)
    teacher, student, x = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1)), nn.Sequential(nn.Conv2d(2, 3, 3, padding=1)), 0
    x = random(6, 2, 5, 11)
    imitate(student, teacher, {"0": "0"}, run=lambda network: network(x))
    assert torch.allclose(student(x), teacher(x), atol=0.05)


def test_a_spatial_norm_finds_a_group_norm_s_levels_in_the_latents():
    """Its own norm takes a channel's mean away; the latents, of which the input is made, bring it back."""
    torch.manual_seed(0)
    mix = nn.Conv2d(4, 64, 1)
    latents = random(4, 4, 8, 8)
    f = mix(latents).detach()
    teacher, student = nn.ModuleDict({"norm": nn.GroupNorm(2, 64)}), nn.ModuleDict({"norm": SpatialNorm(64, 4)})
    runs = {id(teacher): lambda: teacher["norm"](f), id(student): lambda: student["norm"](f, latents)}
    before = (runs[id(student)]() - runs[id(teacher)]()).abs().mean()
    imitate(student, teacher, {"norm": "norm"}, run=lambda network: runs[id(network)]())
    after = (runs[id(student)]() - runs[id(teacher)]()).abs().mean()
    assert after < 0.1 * before


def test_its_hooks_are_gone_afterwards():
    teacher, student = net(8), net(8)
    imitate(student, teacher, {"0": "0"}, run=lambda network: network(random(1, 3, 8, 8)))
    weight = student[0].weight.clone()
    student(random(1, 3, 8, 8, seed=1))
    assert torch.equal(student[0].weight, weight)
    with pytest.raises(AttributeError):
        imitate(student, teacher, {"9": "0"}, run=lambda network: None)
