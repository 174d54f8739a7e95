"""Models kept as a difference from another: put together bit for bit, loaded by diffusers, refused when broken."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.catalog import weight_deltas
from helpers.catalog.checkpoints import CATALOG
from helpers.pipelines.loading import load
from miniature_training.models import factors, store
from tests.support.tiny import RECIPES

WEIGHTS = "diffusion_pytorch_model.safetensors"
RANK = 3


def trained(unet: diffusers.UNet2DConditionModel) -> diffusers.UNet2DConditionModel:
    """A copy that was changed in rank 3: matrices and convolutions by factors, the rest at will."""
    generator = torch.Generator().manual_seed(1)
    model = factors.factorise(type(unet).from_config(unet.config), rank=RANK)
    with torch.no_grad():
        plain = unet.state_dict()
        for name, value in model.state_dict().items():
            source = name.replace("parametrizations.weight.original", "weight")
            if source in plain:
                value.copy_(plain[source])
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return factors.merged(model)


@pytest.fixture
def comic(tiny_course, monkeypatch):
    """A tiny style shipped as a delta of sd15's UNet; the UNet that it was made from."""
    tuned = trained(store.load_component("unet-sd15", diffusers.UNet2DConditionModel))
    store.save_delta("delta-comic", "unet-sd15", tuned, rank=RANK)
    parts = RECIPES["sd15"]["components"] | {"unet": [*RECIPES["sd15"]["components"]["unet"], "delta-comic"]}
    store.add_checkpoint("comic", RECIPES["sd15"] | {"components": parts})
    return tuned


def rounded(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.half() for key, value in model.state_dict().items()}


def test_the_whole_model_comes_back(comic, tiny_course):
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(CATALOG["comic"].source)
    base = store.load_component("unet-sd15", diffusers.UNet2DConditionModel).state_dict()
    for key, value in comic.state_dict().items():
        made = pipe.unet.state_dict()[key]
        assert made.dtype == torch.float32
        assert torch.allclose(made, value, atol=3e-3, rtol=2e-3), key
        assert (made - value).abs().max() < 0.1 * (base[key] - value).abs().max(), key


def test_a_delta_is_much_smaller_than_its_model(comic, tiny_course):
    changes = load_file(tiny_course / "delta-comic" / weight_deltas.FILE)
    assert {value.dtype for value in changes.values()} == {torch.float16}
    kept = sum(value.numel() for value in changes.values())
    assert kept < 0.35 * sum(value.numel() for value in comic.parameters())  # in the tiny UNet rank 3 is a lot
    assert {key.rpartition(".")[2] for key in changes} == {"up", "down", "diff"}
    assert not (tiny_course / "delta-comic" / "config.json").exists()


def test_load_gives_a_plain_pipeline_that_shares_all_but_the_unet(comic, tmp_path):
    base, styled = load("sd15"), load("comic")
    assert type(styled) is diffusers.StableDiffusionPipeline
    assert styled.vae is base.vae and styled.text_encoder is base.text_encoder and styled.tokenizer is base.tokenizer
    assert styled.unet is not base.unet
    assert type(styled.unet.conv_in) is torch.nn.Conv2d
    styled.save_pretrained(tmp_path / "mine")
    again = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "mine")
    assert all(torch.equal(value, again.unet.state_dict()[key]) for key, value in styled.unet.state_dict().items())


def test_new_weights_of_the_base_or_the_delta_give_a_new_folder(comic, tiny_course):
    seen = {CATALOG["comic"].source}
    for file in (tiny_course / "unet-sd15" / WEIGHTS, tiny_course / "delta-comic" / weight_deltas.FILE):
        weights = load_file(file)
        key = sorted(weights)[0]
        save_file(weights | {key: weights[key] + 1}, file, metadata=weight_deltas.header(tiny_course / "delta-comic"))
        seen.add(CATALOG["comic"].source)
    assert len(seen) == 3


def test_a_delta_knows_whether_its_base_is_still_the_same(comic, tiny_course):
    assert store.stale() == []
    file = tiny_course / "unet-sd15" / WEIGHTS
    weights = load_file(file)
    save_file(weights | {"conv_in.bias": weights["conv_in.bias"] + 1}, file)
    assert store.stale() == ["delta-comic"]


def test_the_shipped_deltas_belong_to_the_shipped_weights():
    assert store.stale() == [], "train these again: their base has changed"


def test_a_controlnet_can_be_a_delta_of_a_unet(tiny_course, monkeypatch):
    """Another class: the decoder goes, the new layers come, the config is the delta's own."""
    unet = store.load_component("unet-sd15", diffusers.UNet2DConditionModel)
    torch.manual_seed(0)
    net = diffusers.ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 16, 16))
    with torch.no_grad():
        net.conv_in.bias += 1.0
        net.controlnet_mid_block.weight += 0.5
    store.save_delta("delta-controlnet-inpaint", "unet-sd15", net, rank=RANK)
    entry = ["diffusers", "ControlNetModel", "unet-sd15", "delta-controlnet-inpaint"]
    store.add_checkpoint("controlnet-inpaint", {"model": entry, "size": 32})
    plain = diffusers.ControlNetModel.from_pretrained(CATALOG["controlnet-inpaint"].source)
    assert plain.config.conditioning_embedding_out_channels == [8, 16, 16, 16]
    assert rounded(plain).keys() == rounded(net).keys()
    assert all(torch.allclose(v, rounded(net)[k], atol=2e-3) for k, v in rounded(plain).items())
    assert (
        weight_deltas.header(tiny_course / "delta-controlnet-inpaint")["without"]
        == "conv_norm_out. conv_out. up_blocks."
    )
    steered = load("sd15-inpaint", controlnet="controlnet-inpaint")
    assert type(steered.controlnet) is diffusers.ControlNetModel
    again = store.load_component("delta-controlnet-inpaint", diffusers.ControlNetModel)
    assert all(torch.equal(v, plain.state_dict()[k]) for k, v in again.state_dict().items())


def test_fields_of_the_config_that_differ_are_kept(tiny_course, monkeypatch):
    vae = store.load_component("vae", diffusers.AutoencoderKL)
    vae.register_to_config(scaling_factor=0.7)
    store.save_delta("delta-vae", "vae", vae, rank=RANK)
    assert json.loads((tiny_course / "delta-vae" / "config.json").read_text()) == {"scaling_factor": 0.7}
    (tiny_course / "vae" / "preview.json").write_text('{"of": "the base"}')
    entry = RECIPES["sd15"]["components"] | {"vae": ["diffusers", "AutoencoderKL", "vae", "delta-vae"]}
    store.add_checkpoint("sd15", RECIPES["sd15"] | {"components": entry})
    folder = Path(CATALOG["sd15"].source) / "vae"
    assert diffusers.AutoencoderKL.from_pretrained(folder).config.scaling_factor == 0.7
    assert not (folder / "preview.json").exists(), "what lies beside the base tells of the base"
    (tiny_course / "delta-vae" / "preview.json").write_text('{"of": "the delta"}')
    assert (Path(CATALOG["sd15"].source) / "vae" / "preview.json").read_text() == '{"of": "the delta"}'


def test_a_delta_without_its_file_is_named(comic, tiny_course):
    (tiny_course / "delta-comic" / weight_deltas.FILE).rename(tiny_course / "delta-comic" / "other.safetensors")
    with pytest.raises(FileNotFoundError, match="'delta-comic', and .* has no delta.safetensors. Restore it: git"):
        str(CATALOG["comic"].source)


def test_a_delta_that_does_not_fit_is_refused(comic, tiny_course):
    change = {"conv_x.bias.diff": torch.zeros(16, dtype=torch.float16)}
    save_file(change, tiny_course / "delta-comic" / weight_deltas.FILE)
    message = "delta-comic/delta.safetensors changes 'conv_x.bias', which its base has not.*git checkout -- data"
    with pytest.raises(ValueError, match=message):
        str(CATALOG["comic"].source)


def test_factors_start_without_effect_and_only_they_and_the_small_ones_learn():
    torch.manual_seed(0)
    model = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(16, 32),
        norm_num_groups=4, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    x = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        before = model(x, 3).sample
        factors.factorise(model, rank=2, whole=("conv_out.",), frozen=("time_emb",))
        assert torch.equal(model(x, 3).sample, before)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    timed = {name for name in frozen if "time_emb" in name}
    assert timed == {name for name, _ in model.named_parameters() if "time_emb" in name} != set()
    assert all(name.endswith("parametrizations.weight.original") for name in frozen - timed)
    assert model.conv_out.weight.requires_grad and model.conv_in.bias.requires_grad
    model(x, 3).sample.square().mean().backward()
    up = model.mid_block.resnets[0].conv1.parametrizations.weight[0].up
    assert up.grad.abs().max() > 0


def test_training_goes_on_from_a_delta_also_where_its_base_has_moved(comic, tiny_course):
    base = store.load_component("unet-sd15", diffusers.UNet2DConditionModel)
    model = factors.take_up(factors.factorise(base, rank=RANK), tiny_course / "delta-comic")
    for name, value in factors.merged(model).state_dict().items():
        assert torch.allclose(value, comic.state_dict()[name].float(), atol=2e-3), name
    moved = store.load_component("unet-sd15", diffusers.UNet2DConditionModel)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter += 1.0
    model = factors.take_up(factors.factorise(moved, rank=RANK), tiny_course / "delta-comic")
    for name, value in factors.merged(model).state_dict().items():
        assert torch.allclose(value, comic.state_dict()[name].float() + 1.0, atol=2e-3), name


def test_merged_weights_are_those_that_factors_make_and_leave_the_model_in_training():
    torch.manual_seed(0)
    model = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(16,), norm_num_groups=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip
    factors.factorise(model, rank=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    x = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        plain, trained_ = factors.merged(model)(x, 3).sample, model(x, 3).sample
    assert torch.allclose(plain, trained_, atol=1e-5)
    assert model.conv_in.weight.requires_grad is True and np.isfinite(trained_.numpy()).all()
