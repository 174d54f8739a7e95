"""Weights in eight bits: half the size, made whole for plain diffusers, and a base that deltas stand on."""

import diffusers
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from helpers.catalog import eight_bits, miniatures
from helpers.catalog.checkpoints import CATALOG
from miniature_training.models import store
from tests.support.tiny import RECIPES

KIND = diffusers.UNet2DConditionModel


@pytest.fixture
def small(tiny_course, monkeypatch):
    """The tiny course with sd15's UNet in eight bits; that UNet as it was."""
    monkeypatch.setattr(eight_bits, "SMALL", 64)
    unet = store.load_component("unet-sd15", KIND)
    store.save_component("unet-sd15", unet, eight=True)
    return unet


def test_each_output_channel_has_its_own_scale():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(64, 8, 3, 3)).astype(np.float32) * np.geomspace(1e-3, 10, 64)[:, None, None, None]
    stored = eight_bits.packed({"conv.weight": weight.astype(np.float32), "conv.bias": np.ones(64, np.float32)})
    assert stored["conv.weight.int8"].dtype == np.int8 and stored["conv.weight.scale"].shape == (64,)
    back = eight_bits.unpacked(stored)
    assert list(back) == ["conv.bias", "conv.weight"] and back["conv.weight"].dtype == np.float16
    off = np.abs(back["conv.weight"].astype(np.float32) - weight).reshape(64, -1).max(1)
    assert (off <= np.abs(weight).reshape(64, -1).max(1) / 220).all()


def test_a_channel_of_zeros_stays_zero():
    back = eight_bits.unpacked(eight_bits.packed({"w": np.zeros((64, 64), np.float32)}))
    assert not back["w"].any()


def test_a_component_takes_half_the_disk_and_comes_back(small, tiny_course):
    [file] = (tiny_course / "unet-sd15").glob("*.safetensors")
    assert eight_bits.used(file)
    assert sum(v.nbytes for v in load_file(file).values()) < 1.4 * sum(p.numel() for p in small.parameters())
    back = store.load_component("unet-sd15", KIND)
    for key, value in small.state_dict().items():
        assert torch.allclose(back.state_dict()[key], value, atol=value.abs().max().item() / 200), key


def test_plain_diffusers_loads_what_is_assembled(small):
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(CATALOG["sd15"].source)
    shipped = store.load_component("unet-sd15", KIND).state_dict()
    assert all(torch.equal(value, shipped[key]) for key, value in pipe.unet.state_dict().items())
    assert not eight_bits.used(next((miniatures.assemble("sd15") / "unet").glob("*.safetensors")))


def test_a_delta_stands_on_a_base_in_eight_bits(small, tiny_course):
    base = store.load_component("unet-sd15", KIND)
    tuned = KIND.from_config(base.config)
    tuned.load_state_dict({key: value + 0.01 for key, value in base.state_dict().items()})
    store.save_delta("delta-comic", "unet-sd15", tuned, rank=3)
    parts = RECIPES["sd15"]["components"] | {"unet": [*RECIPES["sd15"]["components"]["unet"], "delta-comic"]}
    store.add_checkpoint("comic", RECIPES["sd15"] | {"components": parts})
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(CATALOG["comic"].source)
    for made in (pipe.unet, store.load_component("delta-comic", KIND)):
        bias = made.state_dict()["conv_in.bias"]
        assert torch.allclose(bias, tuned.state_dict()["conv_in.bias"], atol=2e-3)
    assert store.stale() == []
