"""The few-step LoRA's recipe: what is shipped can be taken up, and is written as it was."""

from __future__ import annotations

import torch
from safetensors.torch import load_file

from helpers.common import paths
from miniature_training.models.denoising import Denoising
from miniature_training.recipes import lcm


def test_the_shipped_lora_is_taken_up_and_written_as_it_was(workshop):
    file = paths.MINIATURES / lcm.NAME / "pytorch_lora_weights.safetensors"
    host, shipped = lcm.Host(next(iter(lcm.BASES)), Denoising(), least=1), load_file(file)
    assert not any(one.up.any() for one in host.factors.values()), "a student begins as its teacher"
    lcm.take_up(host.factors)
    file.unlink()
    lcm.save(host.student, host.factors)
    written = load_file(file)
    assert written.keys() == shipped.keys()
    assert all(torch.equal(written[name], layer) for name, layer in shipped.items())
