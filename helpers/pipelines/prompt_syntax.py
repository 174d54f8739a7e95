"""Compel's notation for weights, parsed strictly: what Compel would silently take for plain text is an error here.

(words)1.3, word++, word-     a weight: a number of 0 or more, or a factor of 1.1 for each plus, 0.9 for each minus
("one", "other").blend(0.7, 0.3), ("one", "other").and()     two prompts blended, or one after the other
\\(, \\), \\", \\+, \\-     the character itself
"""

from __future__ import annotations

import math
import re
from typing import Any

DEPTH = 12  # levels of brackets
OPERATORS = ("blend", "and", "add", "swap", "attend")
_ESCAPED = re.compile(r"\\([()\"+\-.,=])")
_CALL = re.compile(rf"\.({'|'.join(OPERATORS)})$")

_WHOLE = 'Put each prompt in quotation marks, and let it be all there is: ("one", "other").{}(0.7, 0.3).'
_USE = {name: _WHOLE.format(name) for name in ("blend", "and", "add")} | {
    "attend": "It takes a number or signs: (words).attend(1.3), which is (words)1.3.",
    "swap": 'Diffusers cannot swap words during denoising; blend the two: ("one", "other").blend(0.5, 0.5).',
}
# What is a slip wherever it stands, and what to write instead.
_SLIPS = (
    (
        re.compile(r"\([^()\"]*:\s*(\d?\.\d+|\d)\s*\)"),
        'writes the weight inside the brackets, as other programs do; here it follows them: "(words)1.3"',
    ),
    (
        re.compile(r'[)"][+-]+\.?\d'),
        'has signs and a number; a weight is one of them: "(words)++" or "(words)1.3", and never below 0',
    ),
    (
        re.compile(r"\)\s+\d*\.\d+(?=[\s,)]|$)"),
        'has a space before its weight, which makes the number a word; write "(words)1.3"',
    ),
)


def parse_prompt(prompt: str, *, name: str = "prompt") -> Any:
    """What a prompt says, as a `compel.prompt_parser.Conjunction` of flat prompts and blends with their weights.

    A prompt without any syntax is one fragment, its text as it came. ValueError, naming the position, for a bracket or
    a quotation mark without its partner, and for what Compel takes for text, drops, or cannot do in diffusers.
    """
    from compel.prompt_parser import Conjunction, FlattenedPrompt

    _check_pairs(prompt, name)
    for slip, advice in _SLIPS:
        if found := slip.search(_masked(prompt)):
            raise ValueError(f"{_place(prompt, found.start(), name)} {advice}.")
    parsed = _parse(prompt, name)
    for part in parsed.prompts:
        _check_part(part, prompt, name)
    if parsed.lora_weights:
        raise ValueError(f"{name}={prompt!r}: withLora does nothing here. Load the LoRA with pipe.load_lora_weights.")
    if not parsed.prompts:
        return Conjunction([FlattenedPrompt([("", 1.0)])])
    flat = parsed.prompts[0]
    if len(parsed.prompts) == 1 and parsed.weights == [1.0] and isinstance(flat, FlattenedPrompt):
        if not re.search(r'[()"]', _masked(prompt)) and {fragment.weight for fragment in flat.children} <= {1.0}:
            return Conjunction([FlattenedPrompt([(_plain(prompt), 1.0)])])  # Compel sets blanks around signs
    return parsed


def texts(parsed: Any) -> list[tuple[str, float]]:
    """The plain texts of what `read` gave, without weights inside them, and each one's share of the whole."""
    found = []
    for part, weight in zip(parsed.prompts, parsed.weights, strict=True):
        blended = list(zip(part.prompts, part.weights, strict=True)) if hasattr(part, "prompts") else [(part, 1.0)]
        total = sum(share for _, share in blended) if getattr(part, "normalize_weights", True) else 1.0
        found += [(_text(flat), weight * share / total) for flat, share in blended]
    return found


def _parse(prompt: str, name: str) -> Any:
    from compel.prompt_parser import PromptParser
    from pyparsing import ParserElement

    ParserElement.enable_packrat()  # else each level of brackets doubles the time, at least; matplotlib sets it too
    try:
        return PromptParser().parse_conjunction(prompt)
    except Exception as error:  # pyparsing's and Compel's own kinds
        raise ValueError(f"{name}={prompt!r} cannot be read: {error}") from None


def _check_part(part: Any, prompt: str, name: str) -> None:
    blended = getattr(part, "prompts", None)
    for flat in [part] if blended is None else blended:
        if getattr(flat, "wants_cross_attention_control", False):
            raise ValueError(f"{name}={prompt!r}: {_USE['swap']}")
        for fragment in flat.children:
            if found := re.search(rf"\.({'|'.join(OPERATORS)})\(", fragment.text):
                raise ValueError(f"{name}={prompt!r}: {found[0]}...) would be taken for text. {_USE[found[1]]}")
            fragment.text = _plain(fragment.text)
    if blended is not None:
        total = sum(part.weights) if part.normalize_weights else 1.0
        if not math.isfinite(total) or abs(total) < 1e-6:
            raise ValueError(f"{name}={prompt!r}: the weights of .blend() are divided by their sum, and it is 0.")


def _check_pairs(prompt: str, name: str) -> None:
    """Every bracket has its partner, every quotation mark too, no bracket is empty, nothing follows .blend()/.and()."""
    open_at: list[int] = []
    quote = -1
    place = 0
    while place < len(prompt):
        sign = prompt[place]
        if sign == "\\":
            place += 2
            continue
        if sign == '"':
            if quote < 0:
                quote = place
            elif open_at and open_at[-1] > quote:
                raise ValueError(f"{_place(prompt, open_at[-1], name)} is not closed before the quotation ends.")
            else:
                quote = -1
        elif sign == "(":
            open_at.append(place)
            if len(open_at) > DEPTH:
                raise ValueError(f"{_place(prompt, place, name)} is nested too deeply: {DEPTH} levels are the most.")
        elif sign == ")":
            if not open_at or open_at[-1] < quote:
                raise ValueError(
                    f"{_place(prompt, place, name)} closes a bracket that was never opened. For the sign itself write "
                    r"\) with a backslash."
                )
            _check_inside(prompt, (open_at.pop(), place), name)
        place += 1
    if open_at:
        raise ValueError(
            f"{_place(prompt, open_at[-1], name)} opens a bracket that is never closed. For the sign itself write "
            r"\( with a backslash."
        )
    if quote >= 0:
        raise ValueError(
            f"{_place(prompt, quote, name)} opens a quotation that never ends. For the sign itself write "
            r"\" with a backslash."
        )


def _check_inside(prompt: str, span: tuple[int, int], name: str) -> None:
    start, end = span
    operator = _CALL.search(prompt[:start])
    if operator is None and not prompt[start + 1 : end].strip():
        raise ValueError(f"{_place(prompt, start, name)} opens a bracket with nothing in it to weigh.")
    if operator and operator[1] in ("blend", "and", "add") and prompt[end + 1 :].strip():
        raise ValueError(
            f"{_place(prompt, end, name)} ends .{operator[1]}(), and more text follows. Put that text inside the "
            "quotation marks: .blend() and .and() stand for a whole prompt."
        )


def _masked(prompt: str) -> str:
    """The prompt with escaped signs blanked out, each place where it was."""
    return _ESCAPED.sub("  ", prompt)


def _plain(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)


def _text(flat: Any) -> str:
    return " ".join(fragment.text for fragment in flat.children)


def _place(prompt: str, place: int, name: str) -> str:
    """Where in the prompt, with the words around it."""
    shown = prompt[max(0, place - 20) : place] + "»" + prompt[place] + "«" + prompt[place + 1 : place + 21]
    return f"{name}: {prompt[place]!r} at position {place + 1} ({shown.strip()})"
