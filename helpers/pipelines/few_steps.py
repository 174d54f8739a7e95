"""Few steps: the LoRA with which LCMScheduler finishes an image in four steps, fused into a UNet of its own.

As with latent consistency (https://arxiv.org/abs/2311.05556), the LoRA has learnt what the guided pipeline makes, so it
needs neither its steps nor its guidance. `fused(pipe)` calls as the pipeline does that plain diffusers makes with
load_lora_weights and fuse_lora; the UNet of `pipe` itself stays as it is, in the same memory.
"""

from __future__ import annotations

import importlib.util
import threading
import weakref
from pathlib import Path
from typing import Any

from helpers.catalog import miniatures
from helpers.catalog.checkpoints import CATALOG, FEW_STEPS
from helpers.common.tensors import ordinary_tensors
from helpers.hub import download
from helpers.pipelines import pool, runtimes
from helpers.pipelines.inspection import adapters, checkpoint, name_of, offload_mode
from helpers.pipelines.twins import set_components, twin

STEPS, GUIDANCE, SCHEDULER = 4, 1.0, "LCMScheduler"
HIGHEST_GUIDANCE = 4.0  # that the LoRA's images bear; the docs' example of inpainting has it
MOST_STEPS = 50  # that LCMScheduler has

_lock = threading.Lock()
_fused: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # UNet -> its state, and a UNet with the LoRA
_loras: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # such a UNet -> the LoRA's Hub id or folder


def lacking(pipe: Any) -> str:
    """Why this pipeline makes no images in four steps, in words and with the remedy; "" where it does.

    Nothing is loaded to find out, and nothing downloaded.
    """
    entry, lora = checkpoint(pipe), CATALOG[FEW_STEPS]
    if entry is None or entry.family != "sd":
        others = ", ".join(one.name for one in CATALOG.values() if one.family == "sd")
        return f"the few-step LoRA {FEW_STEPS!r} was trained for {others}, and does not fit {name_of(pipe)}"
    if pool.origin(pipe) is not None:
        return "a class's engine makes this pipeline's images, and it has no LoRA"
    if offload_mode(pipe) != "none":
        return "the models are offloaded, so there is no memory for a second UNet"
    if adapters(pipe.unet) or fused_into(pipe.unet):
        return "the UNet has a LoRA already: call pipe.unload_lora_weights() first"
    if importlib.util.find_spec("peft") is None:
        return "peft is not installed, which loads LoRA: run pip install -c constraints.txt peft and restart the kernel"
    if lora.mini:
        return "" if FEW_STEPS in miniatures.recipes() else f"the course does not ship the LoRA {FEW_STEPS!r} yet"
    found = download.find(lora.hub_id, lora)
    return "" if found and not found.missing else f"{lora.hub_id} is not on this machine: course download {FEW_STEPS}"


def arguments(call: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a finished image of this call in four steps, with the same seed, and so the same noise.

    Where `strength` leaves a part of the steps to run, that part has four.
    """
    strength = call.get("strength") or 1.0
    steps = min(MOST_STEPS, -int(-STEPS // strength))
    return call | {"num_inference_steps": steps, "guidance_scale": GUIDANCE, "scheduler": SCHEDULER}


def check_guidance(scheduler: Any, guidance_scale: Any) -> None:
    """ValueError where guidance would be applied a second time to images that are guided already."""
    if type(scheduler).__name__ == SCHEDULER and isinstance(guidance_scale, (int, float)):
        if guidance_scale > HIGHEST_GUIDANCE:
            raise ValueError(
                f"guidance_scale={guidance_scale:g} with {SCHEDULER}: a few-step LoRA has learnt images that are "
                f"guided already, and a second guidance burns them. Use guidance_scale=1 to 2, at most "
                f"{HIGHEST_GUIDANCE:g}; or another scheduler."
            )


def fused(pipe: Any) -> Any:
    """A twin of this pipeline whose UNet has the LoRA in its weights; the UNet of `pipe` is not touched.

    It is made once for each UNet, and again when that has changed since. The runtime of `pipe` runs it too. ValueError
    where `lacking` has a reason, and where the weights do not fit.
    """
    if reason := lacking(pipe):
        raise ValueError(f"no image in four steps: {reason}.")
    made = twin(pipe)
    state = [(id(weight), weight._version) for weight in pipe.unet.parameters()]
    with _lock:
        known, unet = _fused.get(pipe.unet, (None, None))
        if known != state:
            unet = _with_lora(pipe)
            _fused[pipe.unet] = state, unet
    set_components(made, {"unet": unet})
    return made


def fused_into(model: Any) -> dict[str, float]:
    """The LoRA in the weights of a model that `fused` made, as `adapters` names those beside the weights."""
    return {_loras[model]: 1.0} if model in _loras else {}


@ordinary_tensors
def _with_lora(pipe: Any) -> Any:
    import torch

    lora = CATALOG[FEW_STEPS]
    folder, unet = lora.source if lora.mini else download.folders(lora)[0], _copied(pipe.unet)
    read = pipe.lora_state_dict(folder, use_safetensors=True, return_lora_metadata=True)
    try:  # what load_lora_weights does with the UNet; it would warn that there is nothing for the text encoder
        pipe.load_lora_into_unet(read[0], network_alphas=read[1], metadata=read[2], unet=unet)
    except (RuntimeError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[-1].strip()[:200]
        raise ValueError(
            f"the few-step LoRA {FEW_STEPS!r} does not fit the UNet of {name_of(pipe)}: {reason}"
        ) from error
    unet.fuse_lora()
    unet.unload_lora()  # its layers; what they did is in the weights
    if not next(pipe.unet.parameters()).is_contiguous():
        unet.to(memory_format=torch.channels_last)  # fusing has left it
    made = unet if runtimes.runtime_of(pipe.unet) == "torch" else runtimes.onnx_unet(unet)
    _loras[made] = Path(folder).name if lora.mini else lora.hub_id
    return made


def _copied(unet: Any) -> Any:
    """A UNet with weights of its own, and none of the hooks and graphs that hang on this one."""
    import torch

    kept = {name: weight.detach().clone() for name, weight in unet.state_dict().items()}
    with torch.device("meta"):
        made = type(unet).from_config(unet.config)
    made.load_state_dict(kept, assign=True)
    return made.eval().requires_grad_(False)
