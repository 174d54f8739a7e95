"""A grown UNet starts where the narrow one stands."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from miniature_training.models.growth import copies, grow


def narrow(**more) -> UNet2DConditionModel:
    torch.manual_seed(0)
    settings = {
        "sample_size": 8, "in_channels": 9, "out_channels": 4, "layers_per_block": 1, "block_out_channels": (16, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "norm_num_groups": 4, "attention_head_dim": 2,
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "cross_attention_dim": 12,
    }  # fmt: skip
    return UNet2DConditionModel(**settings | more).eval()


@torch.no_grad()
def distance(one: UNet2DConditionModel, other: UNet2DConditionModel) -> float:
    """How far their outputs are apart, as a share of the first one's size."""
    generator = torch.Generator().manual_seed(1)
    x, words = torch.randn(3, 9, 8, 8, generator=generator), torch.randn(3, 5, 12, generator=generator)
    a, b = (unet(x, torch.tensor([50, 400, 900]), encoder_hidden_states=words).sample for unet in (one, other))
    return ((a - b).norm() / a.norm()).item()


@pytest.mark.parametrize("more", [{}, {"layers_per_block": 2}])
def test_growth_by_a_whole_factor_changes_nothing(more):
    small = narrow(**more)
    wide = grow(small, (32, 64))
    assert wide.config.block_out_channels == (32, 64)
    assert distance(small, wide) < 1e-4


def test_other_growth_changes_little():
    small = narrow()
    assert distance(small, grow(small, (24, 56))) < 0.3 < distance(small, narrow(block_out_channels=(24, 56)))


def test_copies_learn_different_things():
    weight = grow(narrow(), (32, 64)).conv_out.weight
    assert not torch.allclose(weight[:, 0::2], weight[:, 1::2]), "shares differ"
    same = grow(narrow(), (32, 64), spread=0.0).conv_out.weight
    assert torch.equal(same[:, 0::2], same[:, 1::2])


def test_the_same_seed_grows_the_same():
    one, other = (grow(narrow(), (32, 64), seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_copies_stay_within_their_group():
    assert copies(4, 6, 2).tolist() == [0, 0, 1, 2, 2, 3]
    assert copies(4, 8).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("old, new", [(8, 6), (8, 10)])
def test_what_cannot_grow_is_refused(old, new):
    with pytest.raises(ValueError, match=f"{old} channels cannot grow to {new} in 4 groups"):
        copies(old, new, 4)
