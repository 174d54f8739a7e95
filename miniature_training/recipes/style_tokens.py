"""The styles' tokens, made loud: the rows of the text encoder's table that stand for them, and nothing else of it.

No caption of the plain world has these words, so the text encoder has learnt nothing of them, and what follows them in
a prompt looks nearly as it does without. Their rows are learnt afterwards, as textual inversion learns a word
(https://arxiv.org/abs/2208.01618), but for being told apart; every prompt without them is read as it was.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

from miniature_training.models.loop import Training, device
from miniature_training.models.store import save_component
from miniature_training.recipes import text
from miniature_training.recipes.styles import asking
from miniature_training.world.captions import caption
from miniature_training.world.looks import TOKENS
from miniature_training.world.scenes import sample

BATCH = 64
SPOTS = (45, -1)  # of a prompt's 77 places: of its padding, which says the whole
QUIET = 0.008  # what the square of a token's effect there costs: the rest of the prompt has to be read beside it


def rows() -> list[int]:
    """The ids of the tokens that the styles' names are made of and that no caption has."""
    tokenizer, _ = text.load()
    captions = [caption(sample(seed), random.Random(seed)) for seed in range(3000)]
    plain = {number for ids in tokenizer(captions).input_ids for number in ids}
    named = {number for ids in tokenizer(list(TOKENS.values())).input_ids for number in ids}
    return sorted(named - plain)


def train(*, minutes: float, steps: int | None = None, resume: bool = False) -> None:
    """Learn those rows of the text encoder's table until its last places say which style a prompt calls, if any.

    resume: makes no difference; it always goes on from the rows that there are.
    """
    tokenizer, encoder = text.load()
    encoder.requires_grad_(False)
    table, learnt = encoder.get_input_embeddings().weight.requires_grad_(), rows()
    before = table.detach().clone()
    only = torch.zeros(len(table), 1, device=device()).index_fill(0, torch.tensor(learnt, device=device()), 1.0)
    looks = [None, *TOKENS]
    modules = {"encoder": encoder, "head": nn.Linear(text.WIDTH, len(looks))}
    training = Training("style-tokens", modules, lr=2e-2, ema_decay=0.98, weight_decay=0.0)
    table = encoder.get_input_embeddings().weight
    table.register_hook(lambda gradient: gradient * only)

    def loss(generator: torch.Generator) -> torch.Tensor:
        rng = random.Random(torch.randint(0, 2**40, (), generator=generator).item())
        called = [rng.randrange(len(looks)) for _ in range(BATCH)]
        plain = [caption(sample(rng.randrange(900_000_000)), rng) for _ in called]
        texts = [asking(t, looks[c], rng) if c else t for t, c in zip(plain, called, strict=True)]
        without, states = (
            encoder(text.tokens(tokenizer, some).to(device())).last_hidden_state[:, SPOTS].flatten(0, 1)
            for some in (plain, texts)
        )
        truth = torch.tensor(called, device=device()).repeat_interleave(len(SPOTS))
        effect = (states - without)[truth > 0].square().sum(1).mean()
        return F.cross_entropy(modules["head"](states), truth) + QUIET * effect

    training.run(loss, minutes=minutes, steps=steps)
    _, shipped = text.load()
    after = training.average["encoder"].get_input_embeddings().weight.cpu()
    with torch.no_grad():
        shipped.get_input_embeddings().weight[learnt] = after[learnt]
    moved = (after[learnt] - before[learnt].cpu()).norm(dim=1)
    save_component("text_encoder", shipped)
    print(f"{len(learnt)} rows moved by {moved.min():.2f} to {moved.max():.2f}")
