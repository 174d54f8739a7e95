"""What a pipeline reads of a prompt: what its tokenizers cut off, and what a miniature's vocabulary does not have.

A miniature's vocabulary has the letters, digits and most signs of ASCII. `load` lets its tokenizers read what has a
plain twin as that twin (é as e, — as -, “ as "), read anything else as one unknown token, and warn once of it. Texts of
known characters keep their tokens.
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Iterable
from typing import Any

from helpers.pipelines.prompt_syntax import parse_prompt

SHOWN = 160  # characters of what was cut
# Characters and what they are read as, beside accents and Unicode's own compatibility forms (ﬁ, ½, full width, …).
_TWINS = {
    r"[\p{Pd}⁃−─━〜～]": "-", r"[‘’‚‛′‵ʹʻʼʽˈ‹›´`]": "'", r"[“”„‟″‶〝〞〟«»❝❞]": '"', "⋯": "...",
    "[。｡]": ".", "[、،]": ",",
    "؛": ";", "؟": "?", "¿": "?", "¡": "!", "[·•‧∙⋅▪]": "*", "[×✕✖]": "x", "[⁄∕÷]": "/",
    "[【〔『「〖]": "[", "[】〕』」〗]": "]",
    "ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "[đð]": "d", "ł": "l", "þ": "th", "ħ": "h", "ı": "i", "ŋ": "ng",
    "ŧ": "t",
}  # fmt: skip


def teach(tokenizers: Iterable[Any]) -> None:
    """Let the tokenizers of one miniature read plain twins, and warn once of what is unknown to all of them."""
    told = next((one._told for one in tokenizers if isinstance(getattr(one, "_told", None), _Told)), _Told())
    for tokenizer in tokenizers:
        if not hasattr(tokenizer, "_told"):
            _normalize(tokenizer.backend_tokenizer)
            tokenizer.__class__ = _warning(type(tokenizer))
            tokenizer._told = told


def hush(tokenizer: Any) -> None:
    """No warnings of this tokenizer: whoever calls it shows what is unknown."""
    if hasattr(tokenizer, "_told"):
        tokenizer._told = None


def copied(tokenizer: Any) -> Any:
    """A deep copy for another thread, except of the vocabulary, which nothing changes: CLIP's would take 0.2 s.

    It begins without truncation and padding, which each call sets.
    """
    if not hasattr(tokenizer, "backend_tokenizer"):
        return copy.deepcopy(tokenizer)
    from tokenizers import Tokenizer

    old = tokenizer.backend_tokenizer
    new = Tokenizer(old.model)
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        if (found := getattr(old, part)) is not None:
            setattr(new, part, found)
    for _, token in sorted(old.get_added_tokens_decoder().items()):
        (new.add_special_tokens if token.special else new.add_tokens)([token])
    words = [part for name, part in vars(tokenizer).items() if name in ("_vocab", "_merges")]
    return copy.deepcopy(tokenizer, {id(old): new} | {id(part): part for part in words})


class Reading:
    """What a pipeline's tokenizers make of a text, told from copies, which another thread may not be using."""

    def __init__(self, pipe: Any) -> None:
        from transformers import PreTrainedTokenizerBase

        parts = [part for part in pipe.components.values() if isinstance(part, PreTrainedTokenizerBase)]
        found: dict[int, Any] = {id(part): part for part in parts}
        self._tokenizers = [copied(part) for part in found.values() if hasattr(part, "backend_tokenizer")]

    def cut(self, text: str) -> str:
        """The end of the text that is beyond the tokens that the pipeline reads, 77 with the first and the last."""
        places = [len(text)]
        for tokenizer in self._tokenizers:
            read = tokenizer.backend_tokenizer.encode(text)
            if len(read.ids) > tokenizer.model_max_length:
                places.append(read.offsets[tokenizer.model_max_length - 1][0])
        return text[min(places) :].strip()

    def note(self, text: str) -> str:
        """What of this text the pipeline does not read as it stands, for a line below it; "" for nothing."""
        notes = []
        if cut := self.cut(text):
            count = min(tokenizer.model_max_length for tokenizer in self._tokenizers)
            shown = cut if len(cut) <= SHOWN else f"{cut[: SHOWN - 20].rstrip()} … {cut[-18:].lstrip()}"
            notes.append(f"Beyond {count} tokens, so it is cut off and not read: {shown}")
        if unknown := "".join(dict.fromkeys("".join(unread(one, text) for one in self._tokenizers))):
            notes.append(f"Not in the miniature's vocabulary: {' '.join(unknown)}")
        if _has_weights(text):
            notes.append("Weights are read by weigh and TokenWeights; here their signs are words.")
        return "\n".join(notes)


def unread(tokenizer: Any, text: str) -> str:
    """The characters of a text that a miniature's tokenizer has no token for, each once."""
    if tokenizer.unk_token_id in (None, tokenizer.eos_token_id) or tokenizer.unk_token in text:
        return ""
    read = tokenizer.backend_tokenizer.encode(text)
    spans = [span for token, span in zip(read.ids, read.offsets, strict=True) if token == tokenizer.unk_token_id]
    return "".join(dict.fromkeys(sign for start, end in spans for sign in text[start:end] if sign.isprintable()))


class _Told(set):
    """The characters that were warned of; a copied tokenizer shares it."""

    def __deepcopy__(self, memo: Any) -> _Told:
        return self


@functools.cache
def _warning(kind: type) -> type:
    """A subclass of a tokenizer's class, of the same name, whose calls warn of what they cannot read."""

    def __call__(self: Any, text: Any = None, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        for one in [text] if isinstance(text, str) else text if isinstance(text, (list, tuple)) else []:
            if self._told is None or not isinstance(one, str):
                continue
            if new := [sign for sign in unread(self, one) if sign not in self._told]:
                self._told.update(new)
                warnings.warn(
                    f"This miniature cannot read {' '.join(new)}: not in its vocabulary, and read as unknown. Use "
                    "words that it knows; the full edition reads them all.",
                    stacklevel=2,
                )
        return kind.__call__(self, text, *args, **kwargs)

    return type(kind.__name__, (kind,), {"__call__": __call__, "__module__": kind.__module__, "__doc__": kind.__doc__})


def _normalize(backend: Any) -> None:
    """Plain twins before the vocabulary; what is not ASCII stands apart, and a run of it is one unknown token."""
    from tokenizers import Regex, normalizers, pre_tokenizers

    replace = normalizers.Replace
    backend.normalizer = normalizers.Sequence(
        [
            *(replace(Regex(signs), plain) for signs, plain in list(_TWINS.items())[:3]),  # before NFKD takes ´ apart
            normalizers.NFKD(),
            replace(Regex(r"[\p{M}\p{Cf}]+"), ""),
            replace(Regex(r"[\s\p{Cc}]+"), " "),
            normalizers.Lowercase(),
            *(replace(Regex(signs), plain) for signs, plain in _TWINS.items()),
        ]
    )
    words = (
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[a-zA-Z]+|[0-9]|[^\x00-\x7F\s]+|[!-/:-@\[-\x60{-~]+"
    )
    pieces = pre_tokenizers.Split(Regex(words), behavior="removed", invert=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.model.fuse_unk = True


def _has_weights(text: str) -> bool:
    if not any(sign in text for sign in ')"+-'):
        return False
    try:
        parsed = parse_prompt(text)
    except ValueError:
        return False
    flat = [part for part in parsed.prompts if not hasattr(part, "prompts")]
    return len(flat) != 1 or any(fragment.weight != 1 for fragment in flat[0].children)
