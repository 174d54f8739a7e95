"""SDXL's second text encoder, small as the first is, with a projected pooled embedding; and what two encoders say.

The pipelines of SDXL take the last layer but one of each encoder, side by side, and the second's pooled embedding.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, PreTrainedModel

from miniature_training.models.loop import Training, device
from miniature_training.models.store import load_component, save_component
from miniature_training.recipes import text
from miniature_training.world.captions import caption
from miniature_training.world.scenes import sample

NAME = "text_encoder_2"
WIDTH, LAYERS = 64, 4  # narrower than the first, and deeper
BATCH = {"cpu": 64, "cuda": 256}
LR = {"cpu": 1e-3, "cuda": 2e-3}


def build(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=4 * WIDTH, projection_dim=WIDTH,
            num_hidden_layers=LAYERS, num_attention_heads=4, max_position_embeddings=text.LENGTH,
            hidden_act="gelu", attention_dropout=0.0, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


class Reader(nn.Module):
    """Names what a caption says, from an embedding (B, `WIDTH`) of it; used in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.heads = nn.ModuleList(nn.Linear(WIDTH, len(values)) for values in text.HEADS.values())

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [head(self.norm(x)) for head in self.heads]


def train(*, minutes: float, steps: int | None = None, resume: bool = False) -> None:
    """Teach it to say what a caption names, in the pooled embedding and at the padding of the last layer but one."""
    tokenizer = load_component("tokenizer", CLIPTokenizer)
    modules = {"encoder": build(tokenizer), "pooled": Reader(), "tokens": Reader()}
    training = Training(NAME, modules, lr=LR[device().type], ema_decay=0.995)
    if resume:
        training.resume()
    encoder = modules["encoder"].train()

    def loss(generator: torch.Generator) -> torch.Tensor:
        seeds = torch.randint(0, 900_000_000, (BATCH[device().type],), generator=generator).tolist()
        texts, truth = zip(*(_said(seed) for seed in seeds), strict=True)
        out = encoder(text.tokens(tokenizer, list(texts)).to(device()), output_hidden_states=True)
        truth = torch.tensor(truth, device=device())
        value = _miss(modules["pooled"](out.text_embeds), truth)
        for place in (45, text.LENGTH - 1):  # padding: by then the caption has been read
            value = value + _miss(modules["tokens"](out.hidden_states[-2][:, place]), truth)
        return value / 3

    training.run(loss, minutes=minutes, steps=steps)
    save_component(NAME, training.average["encoder"], eight=True)
    print(f"what held-out captions name is read right: {accuracy(training.average, tokenizer):.1%}")


def _said(seed: int) -> tuple[str, list[int]]:
    scene = sample(seed)
    words = caption(scene, random.Random(seed))
    return words, list(text.said(scene, words).values())


def _miss(logits: list[torch.Tensor], truth: torch.Tensor) -> torch.Tensor:
    return sum(F.cross_entropy(one, truth[:, i]) for i, one in enumerate(logits)) / len(logits)


@torch.no_grad()
def accuracy(modules: dict[str, nn.Module], tokenizer: CLIPTokenizer, count: int = 400) -> float:
    """Share of what held-out captions name that the pooled embedding tells."""
    from miniature_training.world.scenes import HELD_OUT

    texts, truth = zip(*(_said(HELD_OUT + i) for i in range(count)), strict=True)
    embeds = modules["encoder"](text.tokens(tokenizer, list(texts)).to(device())).text_embeds
    right = [one.argmax(1).cpu() for one in modules["pooled"](embeds)]
    return (torch.stack(right, 1) == torch.tensor(truth)).float().mean().item()


def load() -> tuple[CLIPTokenizer, CLIPTextModelWithProjection]:
    return load_component("tokenizer", CLIPTokenizer), load_component(NAME, CLIPTextModelWithProjection)


@torch.no_grad()
def states(
    tokenizer: CLIPTokenizer, encoders: list[PreTrainedModel], texts: list[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompt embeddings (B, 77, sum of widths) and pooled ones (B, width of the last), as the pipelines make them."""
    ids = text.tokens(tokenizer, texts).to(encoders[0].device)
    outputs = [encoder(ids, output_hidden_states=True) for encoder in encoders]
    return torch.cat([out.hidden_states[-2] for out in outputs], -1), outputs[-1].text_embeds


@torch.no_grad()
def translation(tokenizer: CLIPTokenizer, encoders: list[PreTrainedModel], *, count: int = 128) -> torch.Tensor:
    """The linear map (sd15's width, sum of widths) that comes closest from `states` to what sd15's UNet was trained on.

    Least squares over all tokens of captions: with it in their keys and values the cross attentions of sd15 understand
    the prompts of SDXL at once.
    """
    _, teacher = text.load()
    texts = [_said(seed)[0] for seed in range(count)]
    x = states(tokenizer, [encoder.cpu() for encoder in encoders], texts)[0].flatten(0, 1).double()
    y = teacher(text.tokens(tokenizer, texts)).last_hidden_state.flatten(0, 1).double()
    ridge = 1e-4 * x.square().mean() * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    return torch.linalg.solve(x.T @ x + ridge, x.T @ y).T.float()
