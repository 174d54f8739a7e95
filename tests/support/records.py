"""Records that no model made, and a check of the scripts that records write."""

from __future__ import annotations

import ast
import copy
import re

import numpy as np
import torch

from helpers.generation.records import Record
from tests.support.calls import half_mask, noise

ORIGIN = {
    "pipeline": "StableDiffusionControlNetInpaintPipeline",
    "checkpoint": "sd15",
    "edition": "full",
    "source": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "controlnet": "someone/a-controlnet",
    "revisions": {"someone/a-controlnet": "a" * 40},
    "schedulers": {"scheduler": {"class": "DDIMScheduler", "config": {"beta_start": 0.00085, "clip_sample": False}}},
    "dtype": "float16",
    "memory_format": "channels_last",
    "device": "cpu",
    "hardware": "x86_64",
    "offload": "none",
    "threads": 2,
    "runtime": "torch",
    "adapters": {"unet": {"detail": 0.8}},
    "versions": {"diffusers": "0.42.1", "course": "0.1.0"},
}
PARAMETERS = {
    "prompt": 'ä "quoted" \\ 你好\n',
    "image": noise(1),
    "mask_image": half_mask(),
    "control_image": np.random.default_rng(0).random((4, 4, 3)),
    "prompt_embeds": torch.randn(1, 7, 16, dtype=torch.bfloat16),
    "original_size": (32, 32),
    "timesteps": [999, 500],
    "cross_attention_kwargs": {"scale": 0.5, "deep": (1, [2, (torch.ones(2),)])},
    "clip_skip": None,
    "blur_factor": 4,
    "keep_unmasked": True,
    "scheduler": "DDIMScheduler",
    "seed": 7,
}


def record(origin=None, **parameters) -> Record:
    """A record of every kind of argument, which no model made."""
    return Record(noise(4), PARAMETERS | parameters, 0.5, copy.deepcopy(ORIGIN) | (origin or {}), axes=("seed",))


EVIL = "__import__('os').system('touch owned')"
CALLED = re.compile(
    r"torch\.set_num_threads|torch\.Generator(\(\)\.manual_seed)?|Image\.open|load_file(\(\)\[\]\.numpy)?|pipe"
    r"|[A-Z]\w+(Pipeline|Model)\.from_pretrained|[A-Z]\w+Scheduler|pipe\.(to|enable_(model|sequential)_cpu_offload)"
    r"|(pipe\.mask_processor|VaeImageProcessor)\.blur|(pipe\.image_processor|VaeImageProcessor\(\))\.apply_overlay"
    r"|VaeImageProcessor"
)
CHANNELS_LAST = """for part in pipe.components.values():
    if isinstance(part, torch.nn.Module):
        part.to(memory_format=torch.channels_last)
"""
ASSIGNED = re.compile(r"pipe|controlnet|image|mask|original|pipe(\.(prior|decoder)_pipe)?\.([a-z_]+_)?scheduler")
HARMLESS = (
    ast.Module, ast.Assign, ast.Expr, ast.keyword, ast.alias, ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Name,
    ast.Attribute, ast.Subscript, ast.UnaryOp, ast.USub, ast.Load, ast.Store,
)  # fmt: skip


def check_script(code: str) -> None:
    """AssertionError unless the script does nothing but import, load, and call what a script of ours calls."""
    code = code.replace(CHANNELS_LAST, "")
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            assert node.module in ("diffusers", "diffusers.image_processor", "PIL", "safetensors.torch"), node.module
        elif isinstance(node, ast.Import):
            assert [one.name for one in node.names] == ["torch"]
        elif isinstance(node, ast.Call):
            called = re.sub(r"\(.*?\)|\[.*?\]", lambda m: m.group()[0] + m.group()[-1], ast.unparse(node.func))
            assert CALLED.fullmatch(called), called
        else:
            assert isinstance(node, HARMLESS), ast.dump(node)
        if isinstance(node, ast.Assign):
            assert all(ASSIGNED.fullmatch(ast.unparse(target)) for target in node.targets), ast.unparse(node)
