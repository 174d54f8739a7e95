"""Prompt weighting by Compel: words that count more or less, blends of prompts, and prompts of any length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helpers.pipelines import inspection, prompt_syntax

if TYPE_CHECKING:
    import torch

_TOO_LONG = "sequence-length-is-longer-than-the-specified-maximum"  # the tokenizers' name for that warning


def weigh(
    pipe: Any,
    prompt: str | list[str],
    negative_prompt: str | list[str] | None = None,
) -> dict[str, torch.Tensor]:
    """Return the arguments that replace `prompt` and `negative_prompt` in a call: `pipe(**weigh(pipe, ...), ...)`.

    prompt, negative_prompt: prompts in Compel's notation, see `prompt_syntax`, or lists of them, one per image; one
        negative prompt serves all. None stands for what the pipeline makes of it: an empty prompt, or zeros for SDXL.
    Returns prompt_embeds and negative_prompt_embeds (B, 77 n, width), the shorter padded with the embedding of the
        empty prompt; SDXL and its refiner also get pooled_prompt_embeds and negative_pooled_prompt_embeds (B, width).
        Without weights these are exactly the embeddings that the pipeline computes from the same prompt.

    A prompt beyond 77 tokens is not truncated but continues in another 77. Weights reach every embedding but the pooled
    one, which is computed from the unweighted text of the first 77 tokens; for .blend() and .and() it is the mean.

    Raises ValueError for a pipeline that takes no such embeddings (Kandinsky, the x2 upscaler), for unbalanced brackets
    and other syntax errors, and for lists of different lengths; TypeError for what is no text.
    """
    parts = _text_parts(pipe)
    prompts = _checked(prompt, "prompt")
    negatives = None if negative_prompt is None else _checked(negative_prompt, "negative_prompt")
    if negatives and len(negatives) not in (1, len(prompts)):
        raise ValueError(
            f"negative_prompt has {len(negatives)} prompts and prompt {len(prompts)}: give one for all, or one each."
        )
    zeros = negatives is None and _pooled(pipe) and bool(pipe.config.get("force_zeros_for_empty_prompt"))
    negatives = [""] if negatives is None else negatives
    read = [prompt_syntax.parse_prompt(text, name="prompt") for text in prompts]
    negatives = negatives * (len(prompts) // len(negatives))
    read += [prompt_syntax.parse_prompt(text, name="negative_prompt") for text in negatives]

    import torch

    with torch.no_grad():
        joined = torch.cat([_embed(pipe, read, *part) for part in parts], dim=-1)
        found: dict[str, Any] = dict(zip(("prompt_embeds", "negative_prompt_embeds"), joined.chunk(2), strict=True))
        if _pooled(pipe):
            pooled = torch.cat([_pool(pipe, one, *parts[-1]) for one in read])
            found |= dict(zip(("pooled_prompt_embeds", "negative_pooled_prompt_embeds"), pooled.chunk(2), strict=True))
    if zeros:
        found |= {name: torch.zeros_like(value) for name, value in found.items() if name.startswith("negative")}
    return found


class _Encoder:
    """A text encoder as Compel calls it, wherever offloading keeps it; a mask that hides nothing is left out.

    (Without a mask the sums are those of the pipeline's own call, bit for bit.)
    """

    def __init__(self, model: Any, device: Any) -> None:
        self.model, self.device, self.dtype = model, device, model.dtype

    def __call__(self, ids: Any, mask: Any = None, **options: Any) -> Any:
        mask = None if mask is None or bool(mask.all()) else mask.to(self.device)
        return self.model(ids.to(self.device), attention_mask=mask, **options)


def _embed(pipe: Any, read: list[Any], tokenizer: Any, model: Any) -> Any:
    """The prompts' embeddings by one text encoder, padded to one length: (B, 77 n, its width)."""
    import torch
    from compel import Compel, DiffusersTextualInversionManager, ReturnedEmbeddingsType

    kinds = ReturnedEmbeddingsType
    device = pipe._execution_device
    learnt = set(tokenizer.get_added_vocab()) - set(tokenizer.all_special_tokens)  # textual inversions
    inversions = learnt and hasattr(pipe, "maybe_convert_prompt") and pipe.tokenizer is tokenizer
    tokenizer.deprecation_warnings[_TOO_LONG] = True  # a text that is too long for one pass gets several
    encoder: Any = _Encoder(model, device)
    compel = Compel(
        tokenizer,
        encoder,
        textual_inversion_manager=DiffusersTextualInversionManager(pipe) if inversions else None,
        truncate_long_prompts=False,
        returned_embeddings_type=kinds.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
        if _pooled(pipe)
        else kinds.LAST_HIDDEN_STATES_NORMALIZED,
        device=device,
    )
    made = [compel.build_conditioning_tensor_for_conjunction(one)[0] for one in read]
    return torch.cat(compel.pad_conditioning_tensors_to_same_length(made))


def _pool(pipe: Any, read: Any, tokenizer: Any, model: Any) -> Any:
    """The pooled embedding of a prompt's unweighted text: (1, width). Compel would take its weights for words."""
    shares = prompt_syntax.texts(read)
    total = sum(share for _, share in shares) or 1.0
    whole = {"padding": "max_length", "max_length": tokenizer.model_max_length, "truncation": True}
    ids = [tokenizer(text, **whole, return_tensors="pt").input_ids for text, _ in shares]
    pooled = [model(one.to(pipe._execution_device))[0] for one in ids]
    return sum(one * (share / total) for one, (_, share) in zip(pooled, shares, strict=True))


def _pooled(pipe: Any) -> bool:
    """Whether it is built like SDXL: penultimate layers, and a pooled embedding of the second text encoder."""
    return getattr(pipe, "tokenizer_2", None) is not None


def _text_parts(pipe: Any) -> list[tuple[Any, Any]]:
    """The pipeline's tokenizers with their text encoders, the pooled one last; ValueError where it has none to use."""
    kind = type(pipe).__name__
    if hasattr(pipe, "components") and inspection.family(pipe) == "kandinsky22":
        raise ValueError(
            f"pipe is a {kind}: its text goes through a prior, which turns it into one image embedding, so there are "
            "no words left to weigh. Rephrase the prompt, or use an SD or SDXL pipeline."
        )
    known = inspection.parameters_of(pipe) if callable(pipe) else {}
    pairs = [(getattr(pipe, f"tokenizer{n}", None), getattr(pipe, f"text_encoder{n}", None)) for n in ("", "_2")]
    pairs = [pair for pair in pairs if None not in pair]
    clip = all(hasattr(tokenizer, "bos_token_id") and hasattr(model, "dtype") for tokenizer, model in pairs)
    pooled = "pooled_prompt_embeds" in known
    if not pairs or not clip or "prompt_embeds" not in known or pooled != _pooled(pipe):
        raise ValueError(
            f"pipe is a {kind}: expected a Stable Diffusion, SDXL or refiner pipeline, whose call takes prompt_embeds."
        )
    return pairs


def _checked(given: Any, name: str) -> list[str]:
    found = [given] if isinstance(given, str) else given
    if not isinstance(found, (list, tuple)) or not all(isinstance(text, str) for text in found):
        wrong = (
            given if not isinstance(given, (list, tuple)) else next(one for one in given if not isinstance(one, str))
        )
        raise TypeError(f"{name}: expected a string or a list of strings, got {type(wrong).__name__} {wrong!r:.60}.")
    if not found:
        raise ValueError(f"{name} is an empty list: give at least one prompt.")
    return list(found)
