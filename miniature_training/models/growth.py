"""Widen a trained UNet so that it starts where the narrow one stands (https://arxiv.org/abs/1511.05641).

Every channel of the wide model repeats one of the narrow model. What reads the copies divides the old weight among
them, at random shares: that keeps the function and lets the copies learn different things. It is exact where all levels
grow by one whole factor, (32, 64, 128) -> (64, 128, 256); else the group norms see other shares of their channels, and
the output is off by a few hundredths, which a few minutes of training make good.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from helpers.catalog import weight_deltas
from helpers.common import paths
from miniature_training.models.store import deltas, load_component, rank_of, save_component, save_delta


def copies(old: int, new: int, groups: int = 1) -> torch.Tensor:
    """For each of `new` channels the one of `old` that it repeats (new,); all stay within their norm's group."""
    if new < old or old % groups or new % groups:
        raise ValueError(f"{old} channels cannot grow to {new} in {groups} groups; expected multiples, and no fewer")
    each, wide = old // groups, new // groups
    inside = torch.arange(wide) * each // wide
    return (torch.arange(groups)[:, None] * each + inside).flatten()


class _Growth:
    """Fills the parameters of a wide model from those of a narrow one; a map None means that a side stays as it is."""

    def __init__(self, narrow: torch.nn.Module, wide: torch.nn.Module, *, spread: float, seed: int) -> None:
        self.old, self.new = dict(narrow.named_parameters()), dict(wide.named_parameters())
        self.left, self.spread = set(self.new), spread
        self.generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def put(self, name: str, value: torch.Tensor) -> None:
        if self.new[name].shape != value.shape:
            told = f"{name} is {tuple(self.new[name].shape)} in the wide model"
            raise ValueError(f"{told}, and {tuple(value.shape)} would come from the narrow one")
        self.new[name].copy_(value)
        self.left.discard(name)

    def divided(self, weight: torch.Tensor, reads: torch.Tensor) -> torch.Tensor:
        """`weight` (out, in, ...) for inputs that are copies: each old column shared out among them."""
        wide = weight.index_select(1, reads)
        share = (self.spread * torch.randn(wide.shape, generator=self.generator)).exp()
        total = torch.zeros_like(weight).index_add_(1, reads, share)
        return wide * share / total.index_select(1, reads)

    def layer(self, name: str, reads: torch.Tensor | None, writes: torch.Tensor | None, scale=1.0) -> None:
        weight, bias = self.old[f"{name}.weight"], self.old.get(f"{name}.bias")
        weight = weight if reads is None else self.divided(weight, reads)
        self.put(f"{name}.weight", scale * (weight if writes is None else weight[writes]))
        if bias is not None:
            self.put(f"{name}.bias", bias if writes is None else bias[writes])

    def norm(self, name: str, channels: torch.Tensor) -> None:
        for part in ("weight", "bias"):
            self.put(f"{name}.{part}", self.old[f"{name}.{part}"][channels])

    def resnet(self, name: str, reads: torch.Tensor, writes: torch.Tensor, time: torch.Tensor) -> None:
        self.norm(f"{name}.norm1", reads)
        self.layer(f"{name}.conv1", reads, writes)
        self.layer(f"{name}.time_emb_proj", time, writes)
        self.norm(f"{name}.norm2", writes)
        self.layer(f"{name}.conv2", writes, writes)
        if f"{name}.conv_shortcut.weight" in self.old:
            self.layer(f"{name}.conv_shortcut", reads, writes)

    def transformer(self, name: str, channels: torch.Tensor, heads: int) -> None:
        """A block that reads the image and the text; its wide heads give the scores that the narrow ones gave."""
        self.norm(f"{name}.norm", channels)
        self.layer(f"{name}.proj_in", channels, channels)
        self.layer(f"{name}.proj_out", channels, channels)
        new, old = len(channels), int(channels.max()) + 1
        inner, hidden = copies(old, new, heads), copies(4 * old, 4 * new)
        # a score sums over the copies, and is divided by the root of the head's width
        times = torch.bincount(inner)[inner][:, None].float()
        scale = (new / old) ** 0.5 / times
        inside = f"{name}.transformer_blocks."
        for block in sorted({inside + key[len(inside) :].split(".")[0] for key in self.old if key.startswith(inside)}):
            for part in ("norm1", "norm2", "norm3"):
                self.norm(f"{block}.{part}", channels)
            for attention, reads in (("attn1", channels), ("attn2", None)):
                self.layer(f"{block}.{attention}.to_q", channels, inner, scale)
                self.layer(f"{block}.{attention}.to_k", reads, inner)
                self.layer(f"{block}.{attention}.to_v", reads, inner)
                self.layer(f"{block}.{attention}.to_out.0", inner, channels)
            self.layer(f"{block}.ff.net.0.proj", channels, torch.cat([hidden, 4 * old + hidden]))  # values, gates
            self.layer(f"{block}.ff.net.2", hidden, channels)

    def time(self, old: int, new: int) -> torch.Tensor:
        """The time embedding: the wide sinusoid has the narrow one's frequencies at every (new / old)th place."""
        channels, weight = copies(4 * old, 4 * new), self.old["time_embedding.linear_1.weight"]
        columns = torch.zeros(len(weight), new)
        places = torch.arange(old // 2) * (new // 2) // (old // 2)
        columns[:, torch.cat([places, new // 2 + places])] = weight.detach()
        self.put("time_embedding.linear_1.weight", columns[channels])
        self.put("time_embedding.linear_1.bias", self.old["time_embedding.linear_1.bias"][channels])
        self.layer("time_embedding.linear_2", channels, channels)
        return channels

    def conditions(self, time: torch.Tensor) -> None:
        """What is added to the time embedding, of sizes and a pooled prompt or of an image; how an image is read."""
        for name, reads in (("linear_1", None), ("linear_2", time), ("image_proj", None)):
            if f"add_embedding.{name}.weight" in self.old:
                self.layer(f"add_embedding.{name}", reads, time)
        if "add_embedding.image_norm.weight" in self.old:
            self.norm("add_embedding.image_norm", time)
        for name in [key for key in self.old if key.startswith("encoder_hid_proj.")]:
            self.put(name, self.old[name])


def grow(
    narrow: UNet2DConditionModel, widths: tuple[int, ...], *, spread: float = 0.5, seed: int = 0
) -> UNet2DConditionModel:
    """A copy of `narrow` whose levels have `widths` channels and that does nearly what `narrow` does.

    spread: how unequal the copies' shares are; at 0 they would stay equal for ever. Raises ValueError for widths that
    are smaller, or no multiples of the norms' groups, and for parts that this does not know.
    """
    settings = {key: value for key, value in dict(narrow.config).items() if not key.startswith("_")}
    old, heads, groups = settings["block_out_channels"], settings["attention_head_dim"], settings["norm_num_groups"]
    wide = UNet2DConditionModel(**settings | {"block_out_channels": tuple(widths)})
    growth = _Growth(narrow, wide, spread=spread, seed=seed)
    level = [copies(a, b, groups) for a, b in zip(old, widths, strict=True)]
    time = growth.time(old[0], widths[0])
    last = len(level) - 1

    def block(name: str, i: int, reads: torch.Tensor, number: int) -> None:
        growth.resnet(f"{name}.resnets.{number}", reads, level[i], time)
        if f"{name}.attentions.{number}.norm.weight" in growth.old:
            growth.transformer(f"{name}.attentions.{number}", level[i], heads)

    def resized(name: str, i: int) -> bool:
        there = f"{name}.weight" in growth.old
        if there:
            growth.layer(name, level[i], level[i])
        return there

    growth.layer("conv_in", None, level[0])
    growth.conditions(time)
    now, skips = 0, [0]  # the level whose channels come in; those that wait for the way up
    for i in range(len(level)):
        for number in range(settings["layers_per_block"]):
            block(f"down_blocks.{i}", i, level[now], number)
            now = i
            skips.append(i)
        if resized(f"down_blocks.{i}.downsamplers.0.conv", i):
            skips.append(i)
    if "mid_block.resnets.1.norm1.weight" in growth.old:
        block("mid_block", last, level[last], 0)
        growth.resnet("mid_block.resnets.1", level[last], level[last], time)
    for up in range(len(level)):
        for number in range(settings["layers_per_block"] + 1):
            reads = torch.cat([level[now], old[now] + level[skips.pop()]])
            now = last - up
            block(f"up_blocks.{up}", now, reads, number)
        resized(f"up_blocks.{up}.upsamplers.0.conv", now)
    growth.norm("conv_norm_out", level[0])
    growth.layer("conv_out", level[0], None)
    if growth.left:
        raise ValueError(f"this does not know how to widen {', '.join(sorted(growth.left)[:3])} ...")
    return wide.train(narrow.training)


def grow_controlnet(
    net: ControlNetModel, narrow: UNet2DConditionModel, widths: tuple[int, ...], *, seed: int = 0
) -> ControlNetModel:
    """A ControlNet made of `narrow`, widened as `grow` with this seed widens `narrow`."""
    shell, state = copy.deepcopy(narrow), net.state_dict()  # a UNet with the ControlNet's encoder
    shell.load_state_dict({key: state.get(key, value) for key, value in shell.state_dict().items()})
    shell = grow(shell, widths, seed=seed)
    edge = tuple(net.config.conditioning_embedding_out_channels)
    wide = ControlNetModel.from_unet(shell, conditioning_embedding_out_channels=edge)
    growth, old = _Growth(net, wide, spread=0.5, seed=seed), narrow.config.block_out_channels
    level = {a: copies(a, b, narrow.config.norm_num_groups) for a, b in zip(old, widths, strict=True)}
    for name, value in net.named_parameters():
        if name.startswith("controlnet_cond_embedding.") and ".conv_out." not in name:
            growth.put(name, value)
    growth.layer("controlnet_cond_embedding.conv_out", None, level[old[0]])
    joints = {f"controlnet_down_blocks.{i}": joint for i, joint in enumerate(net.controlnet_down_blocks)}
    for name, joint in (joints | {"controlnet_mid_block": net.controlnet_mid_block}).items():
        channels = level[joint.out_channels]
        growth.layer(name, channels, channels)
    return wide.train(net.training)


def grow_component(name: str, widths: tuple[int, ...]) -> Path:
    """Widen the UNet data/miniatures/<name> in its place, and what is shipped as its delta; all want training then."""
    narrow = load_component(name, UNet2DConditionModel)
    adapted: dict[str, torch.nn.Module] = {}
    for delta in (delta for delta, told in deltas().items() if told["base"] == name):
        kind = weight_deltas.config(paths.MINIATURES / name, paths.MINIATURES / delta)["_class_name"]
        if kind == "ControlNetModel":
            adapted[delta] = grow_controlnet(load_component(delta, ControlNetModel), narrow, widths)
        else:
            adapted[delta] = grow(load_component(delta, UNet2DConditionModel), widths)
    ranks = {delta: rank_of(delta) for delta in adapted}
    wide = grow(narrow, widths)
    target = save_component(name, wide, eight=True)
    grown, kept = wide.state_dict(), load_component(name, UNet2DConditionModel).state_dict()
    for delta, model in adapted.items():
        state = model.state_dict()
        shared = {key for key, value in state.items() if key in kept and value.shape == kept[key].shape}
        state |= {key: state[key] + kept[key] - grown[key] for key in shared}  # a change of what eight bits keep
        model.load_state_dict(state)
        save_delta(delta, name, model, rank=ranks[delta])
    return target
