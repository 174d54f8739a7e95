"""The notation for weights: what is read, what is refused, in what time; Compel's own parser as the oracle."""

from __future__ import annotations

import random
import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.pipelines.prompt_syntax import DEPTH, escape, parse_prompt, texts

NOTATION = "ab1 .,:;!?()+-\"'[]{}\\<>|~*=^/_%&#@$`—–“”’»…éß猫😀\u200b\u00a0（）：１\n"
ANY_TEXT = st.text(st.one_of(st.sampled_from(NOTATION), st.characters(exclude_categories=["Cs"])), max_size=14)


def read(prompt: str) -> list[tuple[str, float]]:
    (flat,) = parse_prompt(prompt).prompts
    return [(fragment.text, round(fragment.weight, 4)) for fragment in flat.children]


def words(text: str) -> list[str]:
    """As CLIP's tokenizer takes a text apart: spaces between words and signs mean nothing to it."""
    return re.findall(r"[^\W\d]+|\d|[^\w\s]", text)


# What is read


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("(a castle - red)1.3", [("a castle - red", 1.3)]),
        ("(a castle, red)1.3, day", [("a castle, red", 1.3), (", day", 1.0)]),
        ('(5\\" nails)1.3', [('5" nails', 1.3)]),
        ("（a castle）1.3 x", [("a castle", 1.3), ("x", 1.0)]),
        ("(w)１.３", [("w", 1.3)]),
        ("w＋＋", [("w", 1.21)]),
        ("(16:9)1.2 (10:30)0.5", [("16:9", 1.2), ("10:30", 0.5)]),
        ("castle --ar 16:9", [("castle --ar 16:9", 1.0)]),
        ("(red)1.3(blue)0.5", [("red", 1.3), ("blue", 0.5)]),
        ("(w)1.3. Then", [("w", 1.3), (". Then", 1.0)]),
        ("(w)1. Then", [("w . Then", 1.0)]),
        ("(w)1.3—x", [("w", 1.3), ("—x", 1.0)]),
        ("(semi)-transparent (cat)--like", [("semi -transparent cat --like", 1.0)]),
        ("sci-fi++ well- done", [("sci-fi", 1.21), ("well", 0.9), ("done", 1.0)]),
        ("<toy>++ 😀- x", [("<toy>", 1.21), ("😀", 0.9), ("x", 1.0)]),
        ("a+b, 1+1, +5, - item, day - night", [("a+b, 1+1, +5, - item, day - night", 1.0)]),
        (r"\(w\)1.3, c\+\+, a\\", [("(w)1.3, c++, a\\", 1.0)]),
        (r"(a\\)1.3 C:\dir", [("a\\", 1.3), ("C:\\dir", 1.0)]),
        (r"\[V\] \{x\}", [("[V] {x}", 1.0)]),
        ("((a)1.2 (b)0.5)2 c", [("a", 2.4), ("b", 1.0), ("c", 1.0)][:1] + [("b c", 1.0)]),
        ("(castle (ruined))", [("castle ruined", 1.0)]),
        ("((cat)1.2)1.5 (cat).5 (cat)+++", [("cat", 1.8), ("cat", 0.5), ("cat", 1.331)]),
        ("at (10:30) sharp, 1.5 m, covid-19, 8-10", [("at 10:30 sharp, 1.5 m, covid-19, 8-10", 1.0)]),
        ('a "quoted" word', [("a quoted word", 1.0)]),
        ("(cat) 2 dogs", [("cat 2 dogs", 1.0)]),
        ("BLACK AND WHITE", [("BLACK AND WHITE", 1.0)]),
        ("rock and roll, break", [("rock and roll, break", 1.0)]),
        ("cat.attend(1.4) (a dog).attend(--)", [("cat", 1.4), ("a dog", 0.81)]),
        ("  two  spaces\tand\nmore ", [("  two  spaces\tand\nmore ", 1.0)]),
        ("", [("", 1.0)]),
        ("(w)0 (v)100", [("w", 0.0), ("v", 100.0)]),
        ("http://x.org:80/a at 10:30, f\\:1.8", [("http://x.org:80/a at 10:30, f:1.8", 1.0)]),
    ],
)
def test_what_is_meant_is_read(prompt, expected) -> None:
    assert read(prompt) == expected


WORD = st.sampled_from(["castle", "night", "red", "sci-fi", "8k", "cat's", "a", "16:9", "3D"])
TEXT = st.lists(WORD, min_size=1, max_size=4).map(" ".join)
WEIGHTED = st.tuples(TEXT, st.sampled_from(["1.3", "0.5", ".75", "0", "2", "++", "+", "---"])).map(
    lambda t: "({}){}".format(*t)
)
SIGNED = st.tuples(st.sampled_from(["castle", "sci-fi", "night"]), st.sampled_from(["++", "+", "--"])).map("".join)
QUOTED = TEXT.map('"{}"1.2'.format)
NESTED = st.lists(st.one_of(TEXT, WEIGHTED, SIGNED), min_size=2, max_size=3).map(lambda some: f"({' '.join(some)})1.5")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(TEXT, WEIGHTED, SIGNED, QUOTED, NESTED, st.just(",")), min_size=1, max_size=4))
def test_where_compel_reads_a_weight_this_reads_the_same(pieces) -> None:
    from compel.prompt_parser import PromptParser
    from pyparsing import ParserElement

    ParserElement.enable_packrat()
    prompt = " ".join(pieces)
    (theirs,) = PromptParser().parse_conjunction(prompt).prompts
    expected = [(word, fragment.weight) for fragment in theirs.children for word in words(fragment.text)]
    found = [(word, weight) for text, weight in read(prompt) for word in words(text)]
    assert found == [(word, pytest.approx(weight, abs=1e-4)) for word, weight in expected]


def test_blends_and_conjunctions_are_compels() -> None:
    from compel.prompt_parser import PromptParser

    for prompt in (
        '("a (red)1.3 cat", "a dog").blend(0.7, 0.3)',
        '("a cat", "a dog").blend()',
        '("a cat", "a dog").blend(1, -0.5, no_normalize)',
        "(cat, dog).blend(1, 1)",
        '("a cat", "a dog++").and(1, 0.5)',
        '("a cat", "a dog", "a boat").and()',
        '("a cat", "a dog").add()',
    ):
        found, expected = parse_prompt(prompt), PromptParser().parse_conjunction(prompt)
        assert (found.weights, found.prompts) == (expected.weights, expected.prompts), prompt
    assert texts(parse_prompt('("", "a cat").blend(1, 3)')) == [("", 0.25), ("a cat", 0.75)]


# What is refused


FOREIGN = """
(w:1.3) | (w:10) | (w:-0.5) | (w:+1) | (w:1,3) | (w : 1.3) | (w:.5) | (w:1.) | (w:130%) | (a (b:1.3))
((w):1.3) | ("w":1.3)
(area 51:1.3) | (ratio: 1.5) | w:1.3 | a w:0.8, b | w:-1 | w::2 | w:: 1.5 | w::-1 | （w：1.3） | (w:１.３) | ﹙w:2﹚
((w)) | (((w))) | ( (w) ) | ((a castle)) at night | (((w)))1.2 | a ((b)) c
[w] | [w:0.5] | [a:b:0.5] | [a|b] | [(w)1.3:0.5] | a ] b | {w} | {{w}} | {a|b} | ［w］
(w) 1.3 | (w) .5 | (w) 0,5 | (w) 2 | (w) 2, x | (w)  130% | (w)\t1.3 | (w)\u00a01.3 | (w)\u200b1.3 | (w) -0.5
(w) +2 | "w" 1.3
(w) ++ | (w) + | (w) -- | (w) -, x | (w) ++ x | (w)\u200b++ | castle ++ | castle + | castle --, x | castle - | +
++ | - | +a | ++ a
(w)-1 | (w)+1.3 | (w)--2 | (w)++.5 | (w)+-1 | (w)+- | w+- | w-+ | w+1.3 | w++2 | c++11 | w++x | (w)+x | a + b
(a + b)1.3
(w)=1.3 | (w):1.3 | (w)*1.3 | (w)^2 | (w)@1.5 | (w)/2 | (w) = 1.3 | (w): 1.3 | (w)(1.3) | 1.3*(w) | 1.3 * (w)
++(w) | --(w)
(w)1,3 | (w)1.3x | (w)1.3.5 | (w)1:3 | (w)1e3 | (w)130% | (w)1.3+ | (w)2nd | (w)1.3-x | (w)1\u200b.3 | (w)1000
(w)9e999
“w”1.3 | “w” 1.3 | “w”++ | «w»1.3 | 'w'1.3 | ‘w’1.3 | 「w」1.3 | 【w】1.3 | 【w】2 | <w>1.3 | “w”:1.3
a AND b | a:0.5 AND b | a BREAK b | a, BREAK, b | <lora:x:0.8> | <lora:x> | < LyCo:x:1> | x withLora(y, 0.5)
useLora(y)
("a", "b").blend(0,7, 0,3) | ("a", "b").blend(x, y) | ("a", "b").blend(1) | ("a", "b").blend(1, -1)
("a", "b").blend(inf, 1)
(“a”, “b”).blend(1, 1) | ('a', 'b').blend(1, 1) | ("a" "b").and() | ("a",).and() | "a".blend(1) | a.blend(1)
("a", "b").and(1, -1)
(("a", "b").blend(1, 1))1.2 | ("a", "b").blend(1, 1) c | c ("a", "b").blend(1, 1) | (a)1.3.blend(1)
("a").blend(1
(w).attend(x) | (w).attend(-1) | (w).attend() | (w).attend(+-) | w.attend(1,3) | w.swap(v) | (w).swap(v)
"w".swap(v)
( | ) | " | (w | w) | ()1.3 | () | ""1.3 | "(w" | ("w)" | （w | w） | ( )++ | ("a", "b
"""
REFUSED = [
    text.strip(" ").encode().decode("unicode_escape").encode("latin-1").decode()
    for line in FOREIGN.strip().splitlines()
    for text in re.split(r" \| ", line)
]


@pytest.mark.parametrize("prompt", [text for text in REFUSED if text.strip()])
def test_what_looks_like_a_weight_never_passes_as_words(prompt) -> None:
    for text in (prompt, f"a red castle, {prompt}", f"a castle ({prompt})1.2") if prompt[0] not in "9" else (prompt,):
        with pytest.raises(ValueError, match="^negative_prompt: .* at position") as caught:
            parse_prompt(text, name="negative_prompt")
        assert len(str(caught.value)) < 500


def test_brackets_that_meet_back_to_back_have_no_partner() -> None:
    with pytest.raises(ValueError, match="prompt: '\\)' at position 2 .* closes a bracket that was never opened"):
        parse_prompt("a) (b")


def test_the_error_shows_the_place_and_the_courses_own_notation() -> None:
    for prompt, sign, place in (
        ("a (cat:1.3)", ":", 7),
        ("((w))", "(", 1),
        ("a [w]", "[", 3),
        ("a (w) 1.3", ")", 5),
        ("(w)1,3", ",", 5),
    ):
        with pytest.raises(ValueError, match=re.escape(f"prompt: {sign!r} at position {place} (")) as caught:
            parse_prompt(prompt)
        assert re.search(r"\(words\)1\.\d", str(caught.value))


@pytest.mark.parametrize("weight", ["1000", "100.1", "9" * 400, "+" * 90, "+" * 5000])
def test_a_weight_that_no_embedding_survives_is_refused(weight) -> None:
    for prompt in (f"(w){weight}", f"w{weight}" if "+" in weight else f"w.attend({weight})", f"(((w)9)9){weight}"):
        with pytest.raises(ValueError, match="weights go from 0 to 100|write the weight as a number"):
            parse_prompt(prompt)
    with pytest.raises(ValueError, match="begins a weight of 121"):
        parse_prompt("((w)11)11")


def test_half_a_character_is_refused() -> None:
    with pytest.raises(ValueError, match="prompt: '.ud83d' at position 3 is half a character"):
        parse_prompt("a \ud83d cat")
    with pytest.raises(TypeError, match="prompt: expected a text, got bytes"):
        parse_prompt(b"a cat")  # type: ignore[arg-type]


# Time


def test_brackets_have_a_depth() -> None:
    assert read("(" * DEPTH + "w" + ")1.1" * DEPTH) == [("w", round(1.1**DEPTH, 4))]
    for depth in (DEPTH + 1, 100, 100_000):
        with pytest.raises(ValueError, match=f"is nested too deeply: {DEPTH} levels are the most"):
            parse_prompt("(" * depth + "w" + ")1.1" * depth)


LONG = {
    "phrases": "a (red castle)1.2 at night, ", "word": "x", "signs": "a++ ", "plus": "a+b", "minus": "- ",
    "dashes": "-", "blanks": " ", "colons": ":", "ratios": "1:", "escapes": "\\(", "backslashes": "\\",
    "quotes": '"a"', "groups": "(a)", "nested": "((a)1.2 (b)0.5)0.9", "operators": ".and", "open": "(a ",
    "numbers": "1.3", "commas": ",", "brackets": "[",
    "words": "AND ", "emoji": "😀", "full width": "（a）1.2",
}  # fmt: skip


@pytest.mark.parametrize("piece", LONG.values(), ids=LONG)
def test_the_time_is_linear(piece) -> None:
    def seconds(length: int) -> float:
        start = time.process_time()
        for ending in ("", "(w)1.2", "(w:1", "++"):
            try:
                parse_prompt(piece * (length // len(piece)) + ending)
            except ValueError:
                pass
        return time.process_time() - start

    seconds(1000)
    assert min(seconds(32_000), seconds(32_000)) < 16 * 4 * max(min(seconds(2000), seconds(2000)), 0.002)


# The way back


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT)
@example(":0")
def test_any_text_escaped_is_its_own_words(text) -> None:
    if re.search("AND|BREAK", text):
        return
    assert read(escape(text)) == [(text, 1.0)]
    if text.strip():
        assert read(f"x ({escape(text)})1.3") == [("x", 1.0), (text.strip(), 1.3)]


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT)
def test_any_text_is_read_or_refused_in_words(text) -> None:
    try:
        read(text)
    except ValueError as error:
        assert str(error).startswith("prompt: ")


def test_ordinary_text_needs_no_backslash() -> None:
    for text in (
        "a red castle, sci-fi, 16:9, 1.5 m -- at night",
        "Köln – “x”, 猫 😀",
        "f/2.8, 50 %, #1 & co.",
        "a - b",
    ):
        assert escape(text) == text
    assert escape("c++ (ruined) castle --") == r"c\+\+ \(ruined\) castle \-\-"


def test_random_mixtures_never_lose_a_weight() -> None:
    """Weighted words among all kinds of neighbours keep their weight, or the prompt is refused."""
    some = random.Random(0)
    for _ in range(500):
        before, after = ("".join(some.choices(NOTATION, k=4)) for _ in range(2))
        try:
            found = read(f"{escape(before)} (castle)1.3 {escape(after)}")
        except ValueError:
            continue
        assert ("castle", 1.3) in found, (before, after)
