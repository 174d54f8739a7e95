"""The few-step LoRA's recipe: what is shipped can be taken up; its ways are LCMScheduler's; what leads the student."""

from __future__ import annotations

import torch
from diffusers import LCMScheduler
from safetensors.torch import load_file

from helpers.common import paths
from miniature_training.models.denoising import SCHEDULE, Denoising
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


def test_a_way_is_what_the_scheduler_does(workshop):
    """From noise, in steps that LCMScheduler takes; what a UNet sees in each is what LCMScheduler makes of it."""
    host = lcm.Host(next(iter(lcm.BASES)), Denoising(), least=1)
    scheduler = LCMScheduler(**SCHEDULE)
    for seed in range(20):
        way = host.ways(torch.Generator().manual_seed(seed))
        if way.t[0] == 999:
            break
    scheduler.set_timesteps(len(way.t), original_inference_steps=lcm.GRID)
    assert way.t.tolist() == scheduler.timesteps.tolist()
    told = [host.noise(host.student, x, t.repeat(len(x)), way.asked) for x, t in zip(way.x, way.t, strict=True)]
    for x, t, noise, made in zip(way.x, way.t, told, way.made, strict=True):
        assert torch.allclose(scheduler.step(noise, t, x).denoised, made, atol=1e-3)


def test_the_student_is_led_from_its_imitators_guess_to_the_guided_teachers(workshop, monkeypatch):
    host = lcm.Host(next(iter(lcm.BASES)), Denoising(), least=1)
    way = host.ways(torch.Generator().manual_seed(0))
    made = way.made[0].requires_grad_()
    monkeypatch.setattr(host, "guided", lambda x, t, asked, scale: made.detach() + 1.0)
    monkeypatch.setattr(host, "guess", lambda unet, x, t, asked: made.detach() + 3.0)
    host.matching(made, way.asked, torch.Generator().manual_seed(0)).backward()
    assert (made.grad > 0).all(), "descent lowers what the imitator sees too high"
    monkeypatch.setattr(host, "guess", lambda unet, x, t, asked: made.detach() + 1.0)
    made.grad = None
    host.matching(made, way.asked, torch.Generator().manual_seed(0)).backward()
    assert not made.grad.any(), "where both see the same, nothing moves"
