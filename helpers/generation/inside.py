"""What happens inside one call: its steps, recorded while a pipeline makes the image that it makes anyway.

`run(pipe, **call)` calls a twin of the pipeline, with hooks on its UNet that see this thread's calls alone and are gone
afterwards, and with a scheduler of its own. Nothing is changed on the way, so the image is the plain call's.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from helpers.generation import calls
from helpers.generation.records import Record, make
from helpers.images.masks import check_mask
from helpers.pipelines.control_images import control_argument
from helpers.pipelines.inspection import autoencoder, check_pipeline, family, name_of, parameters_of
from helpers.pipelines.runtimes import runtime_of
from helpers.pipelines.twins import exclusively, set_components, twin

MOST_CELLS = 32  # a side of an attention map


@dataclass
class Step:
    """One step of a call, on its first image. Latents are (C, h, w), float32, on the CPU.

    timestep: 999 is nearly all noise, 0 none. kept: the share of the image in what the UNet was given, a variance
    (alphas_cumprod). kind: what the UNet answers with, "epsilon", "v_prediction" or "sample". noised: the latents that
    it was given, scaled as it wants them. beside: what an inpainting UNet was given beside them, the latents of the
    masked image and where it repaints, (h, w), bool; else None. prompted, unprompted: the UNet's answers with the
    prompt, and with the negative or empty one (None without guidance). guided: what the scheduler got, guidance done.
    stepped: what the scheduler made of it. after: what the next step began with; it differs from `stepped` where an
    inpainting pipeline put the noised original back. attention: (tokens, rows, columns), how much each place looked at
    each token of the prompt, mean over heads and layers; None where nothing was recorded.
    """

    timestep: float
    kept: float
    kind: str
    noised: Any
    beside: tuple[Any, Any] | None
    prompted: Any
    unprompted: Any
    guided: Any
    stepped: Any
    after: Any = None
    attention: Any = None

    def clean(self, answer: Any) -> Any:
        """The clean latents that follow if `answer` is right; at the first steps that is a blurred guess."""
        signal, noise = self.kept**0.5, (1 - self.kept) ** 0.5
        if self.kind == "epsilon":
            return (self.noised - noise * answer) / signal
        return signal * self.noised - noise * answer if self.kind == "v_prediction" else answer

    def brought(self) -> tuple[Any, Any] | None:
        """What the original image contributed: its latents, and where they do not count, (h, w), bool; or None."""
        import torch

        if self.beside is not None or self.after is None or torch.equal(self.after, self.stepped):
            return self.beside
        return self.after, (self.after == self.stepped).all(dim=0)


@dataclass
class _Recorder:
    """What the hooks have seen since the last step."""

    thread: int = field(default_factory=threading.get_ident)
    steps: list[Step] = field(default_factory=list)
    seen: dict[str, Any] = field(default_factory=dict)
    maps: list[Any] = field(default_factory=list)

    @property
    def mine(self) -> bool:
        return threading.get_ident() == self.thread


def check(pipe: Any, call: dict[str, Any]) -> dict[str, Any]:
    """Check a call whose steps are to be recorded, as `calls.check` does; ValueError or TypeError where they cannot."""
    check_pipeline(pipe)
    known = parameters_of(pipe)
    lacks = [name for name in ("unet", "scheduler") if getattr(pipe, name, None) is None]
    if autoencoder(pipe) is None:
        lacks.append("VAE")
    if lacks:
        raise ValueError(f"{name_of(pipe)} has no {' and no '.join(lacks)}: there are no steps of an image to look at.")
    if "callback_on_step_end" not in known:
        raise ValueError(
            f"{name_of(pipe)} has no callback_on_step_end, so its steps cannot be watched. Pipelines of the families "
            "Stable Diffusion, SDXL and Kandinsky have it; the upscalers do not."
        )
    if any(getattr(part, "_compiled_call_impl", None) is not None for part in pipe.unet.modules()) or hasattr(
        pipe.unet, "_orig_mod"
    ):
        raise ValueError("the UNet is compiled, and hooks do not reach into compiled code: unload() and load it anew.")
    checked = calls.check(pipe, call)
    calls.check_together(pipe, checked)
    _check_images(pipe, checked)
    return checked


def _check_images(pipe: Any, call: dict[str, Any]) -> None:
    """ValueError where a step would show nothing, or not what was meant; a plain call stretches such a mask."""
    taken = [name for name in ("image", "mask_image", "control_image") if name in parameters_of(pipe)]
    if lacks := [name for name in taken if call.get(name) is None]:
        raise ValueError(f"{name_of(pipe)} takes {' and '.join(taken)}, and the call has no {' and no '.join(lacks)}.")
    for name in ("image", "latents"):
        given: Any = call.get(name)
        count = len(given) if isinstance(given, (list, tuple)) or getattr(given, "ndim", 0) == 4 else 1
        if count != 1 and name != control_argument(pipe):  # where there may be one for each ControlNet
            raise ValueError(f"{name} is a batch of {count}: the steps of one image are shown, so pass one.")
    image, mask = call.get("image"), call.get("mask_image")
    if isinstance(mask, Image.Image):
        check_mask(mask, image if isinstance(image, Image.Image) else None)


def run(pipe: Any, *, seed: int = 0, **call: Any) -> tuple[Record, list[Step], Any]:
    """Make the image of `make(pipe, seed=seed, **call)`; returns its record, its steps, and the twin that made it."""
    checked = check(pipe, call | {"seed": seed})
    inner = twin(pipe, quiet=False)
    set_components(inner, calls.chosen_scheduler(inner, checked))
    with recording(inner) as recorder:
        plain = {name: value for name, value in checked.items() if name != "scheduler"}
        record = make(inner, watch=functools.partial(_note_end, recorder), **plain)
    record.parameters = checked
    return record, recorder.steps, inner


@contextlib.contextmanager
def recording(inner: Any) -> Iterator[_Recorder]:
    """Record the steps of a twin, which has its scheduler to itself; its UNet is as it was when this ends."""
    recorder = _Recorder()
    hooks = [inner.unet.register_forward_hook(functools.partial(_note_answer, recorder), with_kwargs=True)]
    for name, layer in inner.unet.named_modules():
        if name.endswith("attn2") and not no_attention(inner):
            hooks.append(layer.register_forward_hook(functools.partial(_note_attention, recorder), with_kwargs=True))
    plain = inner.scheduler.step

    @functools.wraps(plain)  # pipelines ask for its signature
    def step(model_output: Any, timestep: Any, sample: Any, *args: Any, **kwargs: Any) -> Any:
        made = plain(model_output, timestep, sample, *args, **kwargs)
        _note_step(recorder, inner, model_output, timestep, made)
        return made

    inner.scheduler.step = step
    try:
        yield recorder
    finally:
        for hook in hooks:
            hook.remove()
        del inner.scheduler.step


def no_attention(pipe: Any) -> str:
    """Why attention to words cannot be recorded, or ""."""
    if family(pipe) not in ("sd", "sdxl"):
        return "this UNet reads an imagined image, not the words of the prompt"
    runtime = runtime_of(pipe.unet)
    return "" if runtime == "torch" else f"layers cannot be watched in {runtime}; load() without runtime"


def words_of(pipe: Any, prompt: str) -> list[tuple[str, list[int]]]:
    """The words of a prompt that the text encoder reads, each with the places of its tokens."""
    tokenizer = getattr(pipe, "tokenizer", None) or pipe.tokenizer_2
    ids = tokenizer(prompt, truncation=True, max_length=tokenizer.model_max_length).input_ids
    words: list[tuple[str, list[int]]] = []
    open_word = False
    for place, token in enumerate(tokenizer.convert_ids_to_tokens(ids)):
        if token in (tokenizer.bos_token, tokenizer.eos_token):
            continue
        text = token.removesuffix("</w>")
        if open_word:
            words[-1] = words[-1][0] + text, [*words[-1][1], place]
        else:
            words.append((text, [place]))
        open_word = not token.endswith("</w>")
    return [word for word in words if any(letter.isalnum() for letter in word[0])]


def decode(inner: Any, latents: Any) -> list[Image.Image]:
    """The images of clean latents (B, C, h, w), by the pipeline's VAE, whatever moves or casts it."""
    import torch

    vae = autoencoder(inner)

    def decoded() -> Any:
        casts = vae.dtype == torch.float16 and vae.config.get("force_upcast", False)
        if casts:
            vae.to(torch.float32)
        try:
            given = latents.to(inner._execution_device, vae.dtype)
            if family(inner) == "kandinsky22":
                return vae.decode(given, force_not_quantize=True).sample
            return vae.decode(_unscaled(vae, given)).sample
        finally:
            if casts:
                vae.to(torch.float16)
            inner.maybe_free_model_hooks()

    with torch.no_grad():
        pixels = exclusively(inner, decoded).float().cpu()
    levels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(image) for image in levels]


def _unscaled(vae: Any, latents: Any) -> Any:
    """From latents as pipelines hand them round to those that the VAE decodes."""
    import torch

    latents = latents / vae.config.scaling_factor
    mean, deviation = vae.config.get("latents_mean"), vae.config.get("latents_std")
    if mean is None or deviation is None:
        return latents
    shape = (1, -1, 1, 1)
    return latents * torch.tensor(deviation).view(shape).to(latents) + torch.tensor(mean).view(shape).to(latents)


def _note_answer(recorder: _Recorder, unet: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
    if recorder.mine:
        recorder.seen = {
            "sample": args[0] if args else kwargs["sample"],
            "answer": output[0] if isinstance(output, tuple) else output.sample,
        }


def _note_attention(recorder: _Recorder, layer: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
    """Compute again what the layer's attention weighs, with the prompt (the second half of a guided batch)."""
    import torch

    words, places = kwargs.get("encoder_hidden_states"), args[0] if args else kwargs["hidden_states"]
    if not recorder.mine or not isinstance(words, torch.Tensor) or places.ndim != 3:
        return
    with torch.no_grad():
        query = layer.head_to_batch_dim(layer.to_q(places[-1:]))  # (heads, places, channels)
        key = layer.head_to_batch_dim(layer.to_k(words[-1:]))
        weights = torch.softmax(query.float() @ key.float().transpose(1, 2) * layer.scale, dim=-1)
    recorder.maps.append(weights.mean(0).T.cpu())  # (tokens, places)


def _note_step(recorder: _Recorder, inner: Any, guided: Any, timestep: Any, made: Any) -> None:
    scheduler, sample, answer = inner.scheduler, recorder.seen["sample"], recorder.seen["answer"]
    stepped = made[0] if isinstance(made, tuple) else made.prev_sample
    channels = stepped.shape[1]
    first = [_kept(part[:1, :channels]) for part in answer.chunk(answer.shape[0] // len(stepped))]
    recorder.steps.append(
        Step(
            timestep=float(timestep),
            kept=_alpha(scheduler, float(timestep)),
            kind=scheduler.config.get("prediction_type", "epsilon"),
            noised=_kept(sample[:1, :channels]),
            beside=_beside(inner, _kept(sample[-1:, channels:])) if sample.shape[1] == 2 * channels + 1 else None,
            prompted=first[-1],
            unprompted=first[0] if len(first) > 1 else None,
            guided=_kept(guided[:1, :channels]),
            stepped=_kept(stepped[:1]),
            attention=_joined(recorder.maps, tuple(stepped.shape[2:])),
        )
    )
    recorder.maps = []


def _note_end(recorder: _Recorder, pipe: Any, step: int, timestep: Any, latents: Any) -> None:
    if recorder.steps and getattr(latents, "ndim", 0) == 4:  # the prior's have no rows and columns
        recorder.steps[-1].after = _kept(latents[:1])


def _beside(inner: Any, extra: Any) -> tuple[Any, Any]:
    """The masked image's latents, and where to repaint; Kandinsky's mask comes last, and is white where it keeps."""
    if family(inner) == "kandinsky22":
        return extra[:-1], extra[-1] < 0.5
    return extra[1:], extra[0] > 0.5


def _kept(tensor: Any) -> Any:
    return tensor[0].detach().float().cpu().clone()


def _alpha(scheduler: Any, timestep: float) -> float:
    alphas = scheduler.alphas_cumprod
    return float(np.interp(timestep, np.arange(len(alphas)), alphas.cpu().numpy()))


def _joined(maps: list[Any], grid: tuple[int, int]) -> Any:
    """The maps of all layers as one, (tokens, rows, columns), on the latents' own grid where that is not too fine."""
    import torch

    goal = tuple(min(side, MOST_CELLS) for side in grid) if max(grid) <= MOST_CELLS else _shrunk(grid)
    found = []
    for one in maps:
        size = _grid_of(one.shape[1], grid)
        if size is not None:
            layer = one.reshape(1, -1, *size)
            found.append(torch.nn.functional.interpolate(layer, goal, mode="bilinear", align_corners=False)[0])
    return torch.stack(found).mean(0) if found else None


def _shrunk(grid: tuple[int, int]) -> tuple[int, int]:
    scale = MOST_CELLS / max(grid)
    return max(1, round(grid[0] * scale)), max(1, round(grid[1] * scale))


def _grid_of(places: int, grid: tuple[int, int]) -> tuple[int, int] | None:
    """The rows and columns of a layer that sees the latents halved so often; each halving rounds up."""
    rows, columns = grid
    while rows * columns > places and max(rows, columns) > 1:
        rows, columns = -(-rows // 2), -(-columns // 2)
    return (rows, columns) if rows * columns == places else None
