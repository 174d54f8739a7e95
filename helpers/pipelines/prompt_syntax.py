r"""The notation for weights, read strictly: what looks like a weight and is none is an error, never words.

(words)1.3, word++, word-     a weight from 0 to 100: a number, or a factor of 1.1 for each plus, 0.9 for each minus
("one", "other").blend(0.7, 0.3), ("one", "other").and()     two prompts blended, or one after the other
\(, \), \", \+, \: ...     the sign itself; every sign of ASCII can be escaped

It is Compel's notation, and what is read comes in Compel's classes. Compel's own parser is not used: it takes what it
cannot read for words, and its time is not linear. This one reads a prompt once, from left to right.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NoReturn

from helpers.common.validation import check_text

DEPTH = 12  # levels of brackets
MOST = 100.0  # the largest weight
PLUS, MINUS = 1.1, 0.9

_ENDINGS = "”»›」』】〕〗》〉"  # of quotations and brackets that weigh nothing here
_ESCAPED = re.compile(rf"\\([!-/:-@\[-`{{-~’{_ENDINGS}])")
_NEUTRAL = "\uffff" * 2  # stands for an escaped sign: no letter, no blank, and never a character of a text
# A blank, or what looks like nothing at all (soft hyphens, zero-width spaces, marks of direction).
_B = "[\\s\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]"
_DECIMAL = r"[+\-]?\d*(?:\.\d+|,\d{1,2})(?!\w)"
_ENDS = rf"(?={_B}*(?:$|[,.;:!?)]))"  # no word follows
_OPERATORS = "blend|and|add|swap|attend"

_BOUND = re.compile(r'[()"]')
_OPERATOR = re.compile(rf"\s*\.({_OPERATORS})\s*\(", re.IGNORECASE)
_WORD_OPERATOR = re.compile(rf"(?<![\s,.;:!?])\.({_OPERATORS})$", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_SIGNS = re.compile(r"[+\-]+")
_DIGIT = re.compile(r"\.?\d")
_SPACED_WORD = re.compile(r"\s+[^\s,.;:!?)]")
_HIDDEN_REST = re.compile(rf"(?!\s){_B}+[.,]?\d")
# What a weight was meant by, behind a bracket or a quotation that has none.
_NEARLY = re.compile(
    rf"{_B}*(?:[:=*^~@/]{_B}*{_DECIMAL}|\({_B}*{_DECIMAL}{_B}*\))|[:=*^~@/][+\-]?\d"
    rf"|{_B}+(?:{_DECIMAL}|[+\-]+\.?\d|\++|-+{_ENDS}|\d+\s*%?{_ENDS})"
)
_INSIDE = re.compile(rf":{_B}*[+\-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:e[+\-]?\d+)?\s*%?{_B}*$", re.IGNORECASE)
_RATIO = re.compile(r"(?<!\S)\d+(?::\d+)+\s*$")  # or a time: 16:9, 10:30

_OWN = 'write "(words)1.3", a number of 0 or more right behind the bracket'
_WHOLE = 'Put each prompt in quotation marks, straight ones, and let it be all there is: ("one", "other").{}(0.7, 0.3).'
_USE = {name: _WHOLE.format(name) for name in ("blend", "and", "add")} | {
    "attend": "It takes a number or signs: (words).attend(1.3), which is (words)1.3.",
    "swap": 'Diffusers cannot swap words during denoising; blend the two: ("one", "other").blend(0.5, 0.5).',
}
_COLON = (
    'writes the weight inside, behind a colon, as other programs do; here it follows them: "(words)1.3"; for the sign '
    r'itself write "\:"'
)
# What belongs to other programs' notations wherever it stands, and what to do instead.
_FOREIGN = (
    (
        re.compile(r"<\s*(?:lora|lyco|lycoris|hypernet)\s*:", re.IGNORECASE),
        "begins a LoRA as other programs write it. Load it with pipe.load_lora_weights",
    ),
    (re.compile(rf"::{_B}*[+\-]?[\d.,]|(?<=[^\W\d]):(?:[+\-]\d|[+\-]?\d*[.,]\d)"), _COLON),
    (
        re.compile(r"[\[\]{}]"),
        r"is a bracket of other programs. For more or less weight write (words)1.1 or (words)0.9, and for the sign "
        r"itself \[ or \{ with a backslash",
    ),
    (
        re.compile(
            rf"[{_ENDINGS}](?:{_B}?:?{_B}?\d*[.,]\d|:?[+\-]*\d+{_ENDS}|[+\-]+{_ENDS})"
            r"|(?<=\w)['’]:?\d*[.,]\d|(?<=\w)>:?\d*[.,]\d"
        ),
        f"seems to end what is weighed, and only brackets and straight quotation marks do; {_OWN}",
    ),
)
_BEFORE_BRACKETS = ("*", "withLora", "useLora")
_KEYWORD = re.compile(r'(?<![^\s,.;()"])(?:AND|BREAK)(?![^\s,.;()":])')


@dataclass
class _Group:
    """What a pair of brackets or quotation marks holds: groups, and spans of text. The root holds all of the prompt."""

    start: int  # place of the opening sign
    quoted: bool = False
    end: int = 0  # of the closing sign
    children: list[_Group | tuple[int, int]] = field(default_factory=list)
    weight: float | None = None
    operator: str = ""  # "blend", "and" or "add"
    arguments: str = ""

    @property
    def bare(self) -> bool:
        return not self.quoted and self.weight is None and not self.operator


def parse_prompt(prompt: str, *, name: str = "prompt") -> Any:
    """What a prompt says, as a `compel.prompt_parser.Conjunction` of flat prompts and blends with their weights.

    A prompt without any syntax is one fragment, its text as it came. Full-width signs count as the plain ones.
    ValueError, naming the position, for a bracket or a quotation mark without its partner, for more than 12 levels of
    brackets, for what only looks like a weight or belongs to another program, and for what diffusers cannot do.
    """
    return _Reading(check_text(name, prompt), name).read()


def texts(parsed: Any) -> list[tuple[str, float]]:
    """The plain texts of what `parse_prompt` gave, without weights inside them, and each one's share of the whole."""
    found = []
    for part, weight in zip(parsed.prompts, parsed.weights, strict=True):
        blended = list(zip(part.prompts, part.weights, strict=True)) if hasattr(part, "prompts") else [(part, 1.0)]
        total = sum(share for _, share in blended) if getattr(part, "normalize_weights", True) else 1.0
        found += [(" ".join(one.text for one in flat.children), weight * share / total) for flat, share in blended]
    return found


def escape(text: str) -> str:
    """The notation for these words without weights: backslashes where they are needed."""
    signs = _plain_forms(text)
    own = {found.start() for found in re.finditer(r'[\\()\[\]{}"+]', signs)}
    for dashes in re.finditer("-+(?=$|[\\s,.;:!?])", signs):
        before = signs[dashes.start() - 1 : dashes.start()]
        if (before and not before.isspace() and before not in ",.;:!?") or not _SPACED_WORD.match(signs, dashes.end()):
            own |= {*range(*dashes.span())}
    if (inside := _INSIDE.search(signs)) and not _RATIO.search(signs):  # in brackets it would be a weight
        own.add(inside.start())
    written = _with_backslashes(text, own)
    try:
        if [one.text for one in parse_prompt(written).prompts[0].children] == [text]:
            return written
    except ValueError:  # it looks like another program's weights
        pass
    return _with_backslashes(text, {place for place, sign in enumerate(signs) if _ESCAPED.match(f"\\{sign}")})


class _Reading:
    """One prompt on its way from text to Compel's classes.

    signs: the prompt with its full-width signs made plain and its escaped signs blotted out, each place where it was.
    """

    def __init__(self, prompt: str, name: str) -> None:
        self.prompt, self.name = prompt, name
        plain = _plain_forms(prompt)
        self.backslashes = {found.start() for found in _ESCAPED.finditer(plain)}
        self.signs = _ESCAPED.sub(_NEUTRAL, plain)
        self.shouted = not any(map(str.islower, prompt))  # words in capitals mean nothing then

    def read(self) -> Any:
        from compel.prompt_parser import Conjunction

        root = self._tree()
        joined = [child for child in root.children if isinstance(child, _Group) and child.operator]
        if joined:
            return self._joined(joined[0], root)
        if len(root.children) == 1 and not isinstance(root.children[0], _Group):
            pieces = list(self._pieces(root.children[0]))
            if [weight for *_, weight in pieces] == [1.0]:
                return Conjunction([_flat([(self._text(0, len(self.prompt)), 1.0)])])
        return Conjunction([_flat(self._fragments(root, 1.0))])

    # -- brackets and quotation marks

    def _tree(self) -> _Group:
        """The prompt as nested groups, each with its weight or operator."""
        root = _Group(-1, end=len(self.prompt))
        open_groups, at = [root], 0
        while found := _BOUND.search(self.signs, at):
            place, group = found.start(), open_groups[-1]
            word = _WORD_OPERATOR.search(self.signs, max(at, place - 8), place) if found[0] == "(" else None
            self._add_text(group, at, self._word_start(at, word.start()) if word else place)
            if word:
                start = self._word_start(at, word.start())
                new = _Group(start - 1, quoted=True, end=word.start(), children=[(start, word.start())])
                group.children.append(new)
                at = self._operator(new, word[1].lower(), place + 1)
            elif found[0] == ")" or (found[0] == '"' and group.quoted):
                self._check_closes(group, place)
                at = self._close(open_groups.pop(), place)
            else:
                new = _Group(place, quoted=found[0] == '"')
                if new.quoted and any(one.quoted for one in open_groups):
                    self._fail(group.start, "is not closed before the quotation ends")
                group.children.append(new)
                open_groups.append(new)
                if sum(not one.quoted for one in open_groups) > DEPTH + 1:
                    self._fail(place, f"is nested too deeply: {DEPTH} levels are the most")
                at = place + 1
        if len(open_groups) > 1:
            what = "a quotation that never ends" if open_groups[-1].quoted else "a bracket that is never closed"
            sign = self.prompt[open_groups[-1].start]
            self._fail(open_groups[-1].start, f"opens {what}. For the sign itself write \\{sign} with a backslash")
        self._add_text(root, at, len(self.signs))
        return root

    def _add_text(self, group: _Group, start: int, end: int) -> None:
        if start == end:
            return
        group.children.append((start, end))
        segment = self.signs[start:end]
        for pattern, advice in _FOREIGN:
            if found := pattern.search(segment):
                self._fail(start + found.start(), advice)
        if self.signs[end : end + 1] == "(" and segment.rstrip().endswith(_BEFORE_BRACKETS):
            star = segment.rstrip().endswith("*")
            self._fail(
                end,
                f"seems to be multiplied; {_OWN}"
                if star
                else "belongs to withLora: withLora does nothing here. Load the LoRA with pipe.load_lora_weights",
            )
        if not self.shouted and (found := _KEYWORD.search(segment)):
            self._fail(
                start + found.start(),
                f'begins {found[0]}, which joins prompts in other programs; write ("one", "other").and(), or the word '
                "in small letters",
            )

    def _check_closes(self, group: _Group, place: int) -> None:
        if self.signs[place] == ")" and (group.quoted or group.start < 0):
            self._fail(place, r"closes a bracket that was never opened. For the sign itself write \) with a backslash")

    def _close(self, group: _Group, place: int) -> int:
        """End a group with what stands behind it; returns where the text goes on."""
        group.end, at = place, place + 1
        if found := _OPERATOR.match(self.signs, at):
            at = self._operator(group, found[1].lower(), found.end())
        elif found := _NUMBER.match(self.signs, at):
            group.weight, at = self._number(found[0], at), found.end()
            self._check_follower(at)
        elif found := _SIGNS.match(self.signs, at):
            if _DIGIT.match(self.signs, found.end()):
                self._fail(
                    place, 'has signs and a number; a weight is one of them, "(words)++" or "(words)1.3", never below 0'
                )
            if "+" in found[0] or not self.signs[found.end() : found.end() + 1].isalpha():  # else (semi)-transparent
                group.weight, at = self._signs(found[0], at), found.end()
                if self.signs[at : at + 1].isalnum():
                    self._fail(at, "follows a weight without a blank")
        elif _NEARLY.match(self.signs, at):
            what = "a space" if self.signs[at].isspace() else "another sign"
            self._fail(place, f'has {what} before its weight, which makes words of it; {_OWN}, or "(words)++"')
        if not group.operator:
            self._check_inside(group)
        return at

    def _check_inside(self, group: _Group) -> None:
        if not self.signs[group.start + 1 : group.end].strip() and (group.weight is not None or not group.quoted):
            self._fail(group.start, "opens a bracket with nothing in it to weigh")
        if group.quoted or not group.children:
            return
        last = group.children[-1]
        if not isinstance(last, _Group):
            tail = self.signs[slice(*last)]
            if (found := _INSIDE.search(tail)) and not (tail[: found.start()] and _RATIO.search(tail)):
                self._fail(
                    last[0] + found.start(),
                    _COLON,
                )
        inner = [one for one in group.children if isinstance(one, _Group) or self.signs[slice(*one)].strip()]
        if group.bare and len(inner) == 1 and isinstance(inner[0], _Group) and inner[0].bare:
            self._fail(group.start, 'doubles a bracket, a weight in other programs; write "(words)1.21" or "(words)++"')

    def _operator(self, group: _Group, name: str, at: int) -> int:
        """Read the arguments of .blend( and the rest, which begin at `at`; returns where the text goes on."""
        end = self.signs.find(")", at)
        if end < 0:
            self._fail(at - 1, r"opens a bracket that is never closed. For the sign itself write \( with a backslash")
        arguments = self.signs[at:end].strip()
        if name == "swap" or (name != "attend" and group.quoted):
            self._fail(group.start + 1, f"goes with .{name}(...). {_USE[name]}")
        if name == "attend":
            if not (_NUMBER.fullmatch(arguments) or _SIGNS.fullmatch(arguments)):
                self._fail(at - 1, f"begins {arguments!r}, which is no weight. {_USE[name]}")
            group.weight = (self._number if _NUMBER.fullmatch(arguments) else self._signs)(arguments, at)
        else:
            group.operator, group.arguments = name, arguments
            if self.signs[end + 1 :].strip():
                self._fail(
                    end,
                    f"ends .{name}(), and more text follows. Put that text inside the quotation marks: .blend() and "
                    ".and() stand for a whole prompt",
                )
        return end + 1

    # -- weights

    def _number(self, text: str, place: int) -> float:
        return self._weight(float(text), place)

    def _signs(self, text: str, place: int) -> float:
        if len(set(text)) > 1:
            self._fail(place, "mixes plus and minus; a weight is a run of one of them, or a number")
        if len(text) > 100:
            self._fail(place, f"begins {len(text)} signs; write the weight as a number, (words)1.3")
        return self._weight((PLUS if text[0] == "+" else MINUS) ** len(text), place)

    def _weight(self, weight: float, place: int) -> float:
        if not 0 <= weight <= MOST:
            self._fail(max(place, 0), f"begins a weight of {weight:g}; weights go from 0 to {MOST:g}")
        return weight

    def _check_follower(self, at: int) -> None:
        """What stands right behind a number must not be a part of it."""
        follower, next_one = self.signs[at : at + 1], self.signs[at + 1 : at + 2]
        if follower == "," and next_one.isdigit():
            self._fail(at, 'makes a decimal comma of what should be a point: "(words)1.3"')
        if (
            follower.isalnum()
            or (follower and follower in "+-*/=^%<>&@#$_|~")
            or (follower in ".:" and next_one.isdigit())
        ):
            self._fail(at, f"follows a weight without a blank; {_OWN}")
        if _HIDDEN_REST.match(self.signs, at):
            self._fail(at, f"is an invisible character in a weight; {_OWN}")

    # -- text

    def _fragments(self, group: _Group, weight: float) -> list[tuple[str, float]]:
        """The texts in a group with their weights, neighbours of one weight in one."""
        found: list[tuple[str, float]] = []
        for child in group.children:
            if isinstance(child, _Group):
                if child.operator:
                    self._fail(child.start, f"goes with .{child.operator}(...). {_USE[child.operator]}")
                inner = 1.0 if child.weight is None else child.weight
                parts = self._fragments(child, self._weight(weight * inner, child.start))
            else:
                pieces = self._pieces(child)
                parts = [
                    (self._text(start, end).strip(), self._weight(weight * own, start)) for start, end, own in pieces
                ]
            for text, own in parts:
                if found and text and found[-1][1] == own:
                    found[-1] = (f"{found[-1][0]} {text}", own)
                elif text:
                    found.append((text, own))
        return found

    def _pieces(self, span: tuple[int, int]) -> Iterator[tuple[int, int, float]]:
        """Start, end and weight of the pieces of a text without brackets: words with signs behind them, and the rest.

        A hyphen in or before a word, and a dash between words, are words. ValueError for signs that are neither.
        """
        start, stop = span
        for found in _SIGNS.finditer(self.signs, *span):
            signs, at, end = found[0], found.start(), found.end()
            before, after = self.signs[at - 1] if at > span[0] else " ", self.signs[end : end + 2]
            attached = not before.isspace() and before not in ",.;:!?"
            ends = (
                not after
                or after[0].isspace()
                or after[0] in ',;:!?()"'
                or (after[0] == "." and not after[1:].isdigit())
            )
            if attached and ends:
                word = self._word_start(start, at)
                if word > start:
                    yield start, word, 1.0
                yield word, at, self._signs(signs, at)
                start = end
            elif attached:
                joins = signs == "+" and not (after[0].isdigit() or after[0] == ".") or before.isdigit()
                if "+" in signs and not joins:
                    self._fail(at, r'stands inside a word; a weight follows it, "word++", and the sign itself is "\+"')
            elif "+" in signs and (ends or not after[0].isdigit()):
                self._fail(at, r'follows no word; a weight does, "word++" or "(words)++", and the sign itself is "\+"')
            elif ends and not _SPACED_WORD.match(self.signs, end):
                self._fail(at, r'follows no word; a weight does, "word--" or "(words)--", and the sign itself is "\-"')
        if start < stop:
            yield start, stop, 1.0

    # -- blends

    def _joined(self, group: _Group, root: _Group) -> Any:
        """The whole prompt is ("one", "other").blend(...) or .and(...)."""
        from compel.prompt_parser import Blend, Conjunction

        name = group.operator
        others = [
            one
            for one in root.children
            if one is not group and (isinstance(one, _Group) or self.signs[slice(*one)].strip())
        ]
        if others:
            self._fail(group.start, f"goes with .{name}(...) and is not alone. {_USE[name]}")
        prompts = [_flat(self._fragments(one, 1.0)) for one in self._items(group)]
        arguments = [one.strip() for one in group.arguments.split(",")] if group.arguments else []
        normalized = not (name == "blend" and arguments[-1:] == ["no_normalize"])
        numbers = arguments if normalized else arguments[:-1]
        if wrong := [one for one in numbers if not re.fullmatch(r"-?(?:\d+\.?\d*|\.\d+)", one)]:
            self._fail(group.start, f"is followed by .{name}() with {wrong[0]!r}, which is no number")
        weights = [float(one) for one in numbers] or [1.0] * len(prompts)
        if len(weights) != len(prompts):
            self._fail(
                group.start, f"has mismatched prompts/weights counts: {len(prompts)} prompts, {len(weights)} weights"
            )
        if worst := [weight for weight in weights if abs(weight) > MOST]:
            self._fail(group.start, f"is followed by a weight of {worst[0]:g}; {MOST:g} is the most")
        if name == "blend":
            total = sum(weights) if normalized else 1.0
            if not math.isfinite(total) or abs(total) < 1e-6:
                self._fail(group.start, "is blended: the weights of .blend() are divided by their sum, and it is 0")
            return Conjunction([Blend(prompts, weights, normalized)])
        if negative := [weight for weight in weights if weight < 0]:
            self._fail(group.start, f"is followed by a weight of {negative[0]:g}; .and() takes 0 or more")
        return Conjunction(prompts, weights)

    def _items(self, group: _Group) -> list[_Group]:
        """The prompts in the brackets before .blend(): quotations, brackets, or single words, with commas between."""
        places: list[list[_Group]] = [[]]
        for child in group.children:
            if isinstance(child, _Group):
                places[-1].append(child)
                continue
            at = child[0]
            for number, text in enumerate(self.signs[slice(*child)].split(",")):
                if number:
                    places.append([])
                if text.strip():
                    places[-1].append(_Group(at - 1, end=at + len(text), children=[(at, at + len(text))]))
                    if len(text.split()) > 1 or re.search("[“”„‟«»'‘’]", text):
                        places[-1].append(group)  # words that are not in quotation marks
                at += len(text) + 1
        if any(len(place) != 1 for place in places):
            self._fail(group.start, f"goes with .{group.operator}(...). {_USE[group.operator]}")
        return [_Group(-1, children=[item]) if item.weight is not None else item for [item] in places]

    def _text(self, start: int, end: int) -> str:
        """This part of the prompt as words: without the backslashes before signs."""
        return "".join(self.prompt[place] for place in range(start, end) if place not in self.backslashes)

    def _word_start(self, start: int, end: int) -> int:
        """Where the word begins that ends at `end`, at `start` at the earliest."""
        while end > start and not self.signs[end - 1].isspace() and self.signs[end - 1] not in ",.;:!?":
            end -= 1
        return end

    def _fail(self, place: int, said: str) -> NoReturn:
        """ValueError that shows where in the prompt, with the words around it."""
        text, place = self.prompt, min(max(place, 0), len(self.prompt) - 1)
        shown = text[max(0, place - 20) : place] + "»" + text[place] + "«" + text[place + 1 : place + 21]
        raise ValueError(f"{self.name}: {text[place]!r} at position {place + 1} ({shown.strip()}) {said.rstrip('.')}.")


def _flat(fragments: list[tuple[str, float]]) -> Any:
    from compel.prompt_parser import FlattenedPrompt

    made = FlattenedPrompt(fragments or [("", 1.0)])
    for fragment, (text, _) in zip(made.children, fragments, strict=False):
        fragment.text = text  # it takes backslashes out, and has none to take
    return made


def _with_backslashes(text: str, places: set[int]) -> str:
    return "".join("\\" * (place in places) + sign for place, sign in enumerate(text))


def _plain_forms(text: str) -> str:
    """The text with each full-width, small or vertical form of an ASCII sign replaced by the sign."""
    return text if text.isascii() else "".join(map(_plain_form, text))


@cache
def _plain_form(sign: str) -> str:
    form, _, number = unicodedata.decomposition(sign).partition(" ")
    plain = chr(int(number, 16)) if form in ("<wide>", "<small>", "<vertical>") and " " not in number else sign
    return plain if plain.isascii() and plain != "\\" else sign
