"""What a pipeline reads of a prompt: the miniatures' own vocabulary, plain twins, what is unknown, and what is cut."""

from __future__ import annotations

import copy
import random
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer, CLIPTokenizer

from helpers.common.paths import DATA
from helpers.pipelines.prompt_reading import copied, hush, teach, unread

KNOWN = "!\"#%&'()*+,-./0123456789:;?@[]_abcdefghijklmnopqrstuvwxyzABCXYZ \n\t"
UNKNOWN = "<|unknown|>"


def shipped() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(DATA / "miniatures" / "tokenizer")


@pytest.fixture(scope="module")
def plain():
    """As plain from_pretrained gives it."""
    return shipped()


@pytest.fixture
def taught():
    tokenizer = shipped()
    teach([tokenizer])
    return tokenizer


def tokens(tokenizer, text: str) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)[1:-1]


def test_the_unknown_token_is_a_row_that_no_text_had_before(plain) -> None:
    assert (plain.unk_token, plain.unk_token_id, plain.eos_token_id, len(plain)) == (UNKNOWN, 14, 562, 563)
    assert UNKNOWN not in tokens(plain, "0 10 a0b 0.5 00")  # the row was that of "0" within a word


@settings(max_examples=200, deadline=None)
@given(st.text(KNOWN, max_size=40))
def test_texts_of_known_characters_keep_their_tokens(text) -> None:
    one, other = _PLAIN(text).input_ids, _TAUGHT(text).input_ids
    assert one == other and one.count(14) == 0 and one.count(562) == 1


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_nothing_but_the_end_ends_a_text(text) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for tokenizer in (_PLAIN, _TAUGHT):
            ids = tokenizer(f"a cat {text} at night").input_ids
            assert ids.index(562) == len(ids) - 1
            assert tokenizer.convert_ids_to_tokens(ids)[-3:-1] == ["at</w>", "night</w>"]


_PLAIN, _TAUGHT = shipped(), shipped()
teach([_TAUGHT])


@pytest.mark.parametrize(
    ("text", "twin"),
    [(f"a castle {dash} at night", "a castle - at night") for dash in "–—‐‑‒―−﹣－⸺〜"]
    + [("“a” „b‟ «c»", '"a" "b" "c"'), ("cat’s ‘x’ d´e f`g", "cat's 'x' d'e f'g"), ("a… b⋯", "a... b...")]
    + [
        ("Château, naïve, Köln, façade", "chateau, naive, koln, facade"),
        ("e\u0301", "e"),
        ("İstanbul ış", "istanbul is"),
    ]
    + [("straße ŒUVRE Ærø Łódź þorn", "strasse oeuvre aero lodz thorn"), ("ﬁre ﬂy ﬀ", "fire fly ff")]
    + [
        ("ＡＢＣ（１２）", "abc(12)"),
        ("½ ② ™ m²", "1/2 2 tm m2"),
        ("2 × 3", "2 x 3"),
        ("猫。犬、", "猫.犬,"),
        ("K Å", "k a"),
    ]
    + [("ca\u200bst\u00adle \ufeffnight\u2060", "castle night"), ("\u202ered\u202c \u200fcat", "red cat")]
    + [("red\u00a0cat\u3000at\u2003night", "red cat at night"), ("red\x00cat\x1fat", "red cat at"), ("♥\ufe0f", "♥")],
)
def test_what_has_a_plain_twin_is_read_as_that(taught, text, twin) -> None:
    assert tokens(taught, text) == tokens(taught, twin)
    assert UNKNOWN not in tokens(taught, text) or any(sign in twin for sign in "猫犬♥")


@pytest.mark.parametrize(
    "text", ["猫", "风格高清", "😀", "👩‍👩‍👧", "$", "<=>", "|", "~", "^", "\\", "{}", "שלום", "привет", "अ", "\ue000"]
)
def test_a_run_of_the_unknown_is_one_token_and_leaves_its_neighbours_alone(taught, text) -> None:
    assert tokens(taught, f"castle{text}at night") == ["castle</w>", UNKNOWN, "at</w>", "night</w>"]
    assert tokens(taught, f"{text} castle, {text}") == [UNKNOWN, "castle</w>", ",</w>", UNKNOWN]


def test_each_unknown_character_is_told_once(taught) -> None:
    second = shipped()
    teach([taught, second])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for tokenizer in (taught, second, copy.deepcopy(taught)):
            tokenizer("a 猫 — $ cat")
            tokenizer(["a 猫", "“an” $"], padding=True)
        taught("ё, 猫")
    assert [str(one.message).split(":")[0] for one in said] == [
        "This miniature cannot read 猫 $", "This miniature cannot read е",
    ][:1] + ["This miniature cannot read ё"]  # fmt: skip
    hushed = copy.deepcopy(taught)
    hush(hushed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hushed("犬")
        with pytest.raises(UserWarning, match="cannot read 犬"):
            taught("犬")


def test_a_taught_tokenizer_is_saved_as_the_plain_class(taught, tmp_path) -> None:
    assert type(taught).__name__ == "CLIPTokenizer" and isinstance(taught, CLIPTokenizer)
    assert type(taught).__module__ == CLIPTokenizer.__module__
    taught.save_pretrained(tmp_path)
    assert CLIPTokenizer.from_pretrained(tmp_path)("a cat").input_ids == taught("a cat").input_ids


def test_unread_names_characters_of_the_text_as_it_came(taught, plain) -> None:
    assert unread(taught, "Köln 猫猫 — 😀! $5") == "猫😀$"
    some = random.Random(0)
    for _ in range(200):
        text = "".join(some.choices(KNOWN, k=20))
        assert unread(taught, text) == unread(plain, text) == ""


def test_a_copy_reads_as_the_original_and_neither_hears_of_what_the_other_does_later(taught) -> None:
    taught.add_tokens(["<cat-toy>", "<red style>"])  # as a textual inversion does
    other, text = copied(taught), "a <cat-toy>, 猫 Köln, <red style>"
    assert type(other) is type(taught) and len(other) == len(taught)
    assert other.backend_tokenizer.to_str() == taught.backend_tokenizer.to_str()
    assert tokens(other, text) == tokens(taught, text) != tokens(shipped(), text)
    before = taught.backend_tokenizer.to_str(), taught.pad_token, taught.model_max_length
    other("a cat", truncation=True, padding="max_length", max_length=5)
    other.add_tokens(["<dog-toy>"])
    other.pad_token, other.model_max_length = "a", 9
    assert (taught.backend_tokenizer.to_str(), taught.pad_token, taught.model_max_length) == before
    assert len(taught) == len(other) - 1
    taught("a cat", truncation=True, max_length=3)
    assert other.backend_tokenizer.truncation == {"max_length": 5} | {
        key: other.backend_tokenizer.truncation[key] for key in ("stride", "strategy", "direction")
    }


def test_a_copy_shares_the_vocabulary(taught) -> None:
    other = copied(taught)
    assert other._merges is taught._merges and other.backend_tokenizer is not taught.backend_tokenizer


def test_a_tokenizer_without_a_backend_is_copied_as_well() -> None:
    one = ByT5Tokenizer()
    other = copied(one)
    other.add_tokens(["<cat-toy>"])
    assert other("a cat").input_ids == one("a cat").input_ids and len(other) == len(one) + 1
