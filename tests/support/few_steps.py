"""A few-step LoRA of random weights for the tiny checkpoints, as `CATALOG["lcm"]` ships one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict


def ship(folder: Path) -> None:
    """Add a LoRA to the tiny components in `folder`."""
    torch.manual_seed(3)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet-sd15")
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v", "conv1"], init_lora_weights=False))
    StableDiffusionPipeline.save_lora_weights(folder / "lcm", unet_lora_layers=get_peft_model_state_dict(unet))
    table = folder / "checkpoints.json"
    entries = json.loads(table.read_text(encoding="utf-8"))
    entries["lcm"] = {"model": ["peft", "LoraModel", "lcm"], "size": 32}
    table.write_text(json.dumps(entries), encoding="utf-8")


@pytest.fixture
def lora(tiny_course: Path) -> Path:
    """The tiny course with a few-step LoRA; its folder."""
    ship(tiny_course)
    return tiny_course
