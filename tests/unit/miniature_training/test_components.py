"""The shipped weights: what loads, how large it is, and that the figures of the model card hold on a small sample.

The full figures come from `python -m miniature_training evaluate`; here a sample is measured again, with a margin for
its size, so that weights which got worse cannot land unseen.
"""

import json

import numpy as np
import pytest
import torch

from helpers.common.paths import MINIATURES
from miniature_training.evaluation import scores
from miniature_training.recipes import classifier

FIGURES = json.loads((MINIATURES / "figures.json").read_text())
SAMPLE = 24  # images, three of each subject that is repainted


def test_the_text_encoder_tells_prompts_apart():
    """A wrong eos_token_id would give every prompt the same pooled embedding."""
    from miniature_training.recipes import text

    tokenizer, encoder = text.load()
    with torch.no_grad():
        pooled = encoder(text.tokens(tokenizer, ["a red cat", "a blue boat", ""])).pooler_output
    assert torch.pdist(pooled).min() > 1


def test_the_classifier_reads_held_out_drawings():
    share = classifier.accuracy(400)
    assert min(share.values()) >= 0.97, share


def test_the_vae_keeps_its_promise():
    from diffusers import AutoencoderKL

    from miniature_training.models.store import load_component
    from miniature_training.recipes.vae import psnr

    vae = load_component("vae", AutoencoderKL)
    assert psnr(vae, 64) == pytest.approx(FIGURES["vae"]["psnr_db"], abs=0.8)


@pytest.mark.parametrize("name", ["sd15", "sd15-inpaint"])
def test_images_show_what_was_asked(name):
    """Within three standard errors of the model card's share."""
    share = scores.EVALUATIONS[name](SAMPLE)
    for head, value in share.items():
        promised = FIGURES[name][head]
        error = np.sqrt(max(promised * (1 - promised), 0.02) / SAMPLE)
        assert value >= promised - 3 * error, f"{head}: {value:.0%}, the model card says {promised:.0%}"
