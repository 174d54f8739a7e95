"""The styles' tokens: their rows of the text encoder's table are learnt, and nothing else moves."""

from __future__ import annotations

import torch

from miniature_training import registry
from miniature_training.recipes import style_tokens, text
from miniature_training.world.looks import TOKENS


def test_only_the_tokens_rows_move(workshop, monkeypatch):
    monkeypatch.setattr(style_tokens, "BATCH", 8)
    tokenizer, before = text.load()
    registry.RECIPES["style-tokens"](minutes=1, steps=8)
    _, after = text.load()
    changed = {k: v for k, v in after.state_dict().items() if not torch.equal(v, before.state_dict()[k])}
    assert len(changed) == 1, "the table alone"
    (key, table), old = *changed.items(), before.get_input_embeddings().weight
    moved = (table != old).any(1).nonzero().flatten().tolist()
    assert "token_embedding" in key and moved == style_tokens.rows()
    assert {tokenizer.decode(row).strip() for row in moved} == set(" ".join(TOKENS.values()).split())


def test_a_prompt_says_at_its_end_whether_it_calls_a_style():
    """With the shipped rows, what follows a token moves by more than a comma moves it, and less than all."""
    tokenizer, encoder = text.load()
    for token in TOKENS.values():
        prompts = ["a red house in the snow", f"a red house in the snow, {token}", "a red house in the snow,"]
        with torch.no_grad():
            plain, called, comma = encoder(text.tokens(tokenizer, prompts)).last_hidden_state[:, 45:].mean(1)
        assert (comma - plain).norm() < (called - plain).norm() < 0.7 * plain.norm(), token
