"""A grown UNet starts where the narrow one stands."""

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from miniature_training.models import store
from miniature_training.models.growth import copies, grow, grow_component, grow_controlnet


def narrow(**more) -> UNet2DConditionModel:
    torch.manual_seed(0)
    settings = {
        "sample_size": 8, "in_channels": 9, "out_channels": 4, "layers_per_block": 1, "block_out_channels": (16, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "norm_num_groups": 4, "attention_head_dim": 2,
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "cross_attention_dim": 12,
    }  # fmt: skip
    return UNet2DConditionModel(**settings | more).eval()


SIZES = {
    "mid_block_type": None, "addition_embed_type": "text_time", "addition_time_embed_dim": 2,
    "projection_class_embeddings_input_dim": 10 + 6 * 2,
}  # fmt: skip
IMAGE = {
    "mid_block_type": None, "encoder_hid_dim": 10, "encoder_hid_dim_type": "image_proj",
    "addition_embed_type": "image",
}  # fmt: skip


@torch.no_grad()
def distance(one: UNet2DConditionModel, other: UNet2DConditionModel) -> float:
    """How far their outputs are apart, as a share of the first one's size."""
    generator = torch.Generator().manual_seed(1)
    x, words = torch.randn(3, 9, 8, 8, generator=generator), torch.randn(3, 5, 12, generator=generator)
    seen, sizes = torch.randn(3, 10, generator=generator), 100 * torch.rand(3, 6, generator=generator)
    added = {"text_embeds": seen, "time_ids": sizes, "image_embeds": seen}
    times = torch.tensor([50, 400, 900])
    a, b = (unet(x, times, encoder_hidden_states=words, added_cond_kwargs=added).sample for unet in (one, other))
    return ((a - b).norm() / a.norm()).item()


@pytest.mark.parametrize("more", [{}, {"layers_per_block": 2}, SIZES, IMAGE])
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


@torch.no_grad()
def changed(model: torch.nn.Module) -> torch.nn.Module:
    """The model with one direction more in each matrix, as a delta of rank 1 gives it."""
    generator = torch.Generator().manual_seed(2)
    for value in model.parameters():
        if value.ndim > 1:
            rows, columns = (torch.randn(n, generator=generator) for n in (len(value), value[0].numel()))
            value += 0.03 * (rows[:, None] * columns).view_as(value)
    return model


@torch.no_grad()
def test_a_grown_controlnet_steers_as_before():
    small = narrow(in_channels=4)
    net = changed(ControlNetModel.from_unet(small, conditioning_embedding_out_channels=(8, 16))).eval()
    wide = grow_controlnet(net, small, (32, 64)).eval()
    x, words, image = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 12), torch.rand(1, 3, 16, 16)
    outputs = {}
    for unet, steering in ((small, net), (grow(small, (32, 64)), wide)):
        down, mid = steering(x, 300, encoder_hidden_states=words, controlnet_cond=image, return_dict=False)
        more = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        outputs[steering is wide] = unet(x, 300, encoder_hidden_states=words, **more).sample
    plain = small(x, 300, encoder_hidden_states=words).sample
    apart = (outputs[True] - outputs[False]).norm()
    assert apart < 1e-3 * (outputs[False] - plain).norm(), "it was to steer as before"


def test_a_delta_that_is_a_controlnet_grows_as_one(tiny_course):
    base = store.load_component("unet-sd15", UNet2DConditionModel)
    net = changed(ControlNetModel.from_unet(base, conditioning_embedding_out_channels=(8, 16)))
    store.save_delta("delta-steering", "unet-sd15", net, rank=2)
    widths = tuple(2 * width for width in base.config.block_out_channels)
    grow_component("unet-sd15", widths)
    grown = store.load_component("delta-steering", ControlNetModel)
    assert tuple(grown.config.block_out_channels) == widths


def test_a_components_deltas_grow_with_it(tiny_course):
    """Widened by a whole factor, a style makes what it made, within what eight bits and sixteen keep."""
    small = store.load_component("unet-sd15", UNet2DConditionModel)
    store.save_delta(
        "delta-comic", "unet-sd15", changed(store.load_component("unet-sd15", UNet2DConditionModel)), rank=2
    )
    old = store.load_component("delta-comic", UNet2DConditionModel)
    widths = tuple(2 * width for width in small.config.block_out_channels)
    grow_component("unet-sd15", widths)
    assert store.stale() == [] and store.rank_of("delta-comic") == 2
    new = store.load_component("delta-comic", UNet2DConditionModel)
    assert tuple(new.config.block_out_channels) == widths
    x, words = torch.randn(1, 4, 8, 8), torch.randn(1, 5, small.config.cross_attention_dim)
    with torch.no_grad():
        before, after, plain = (unet.eval()(x, 300, encoder_hidden_states=words).sample for unet in (old, new, small))
    assert (after - before).norm() < 0.1 * (before - plain).norm()
