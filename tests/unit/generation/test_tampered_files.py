"""Whatever a file holds, reading it gives a Record, or one ValueError that names the file; and a Record can be used."""

from __future__ import annotations

import copy
import json
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.generation import png_record, provenance, records
from helpers.generation.records import Record
from tests.support.calls import noise
from tests.support.records import EVIL, check_script, record


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """The bytes of a saved record."""
    return (
        record(image=noise(1, size=4), mask_image=noise(2, "L", 4))
        .save(tmp_path_factory.mktemp("x") / "a.png")
        .read_bytes()
    )


def places(content, way=()):
    """Every place in a JSON document."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*way, key)
        yield from places(value, (*way, key))


TEXTS = st.text(st.characters(), max_size=9) | st.sampled_from(
    ["\ud800", "a\udfffb", "\0", "nan", "-1", "1e999", "__class__", "a" * 999, EVIL, f"x'), {EVIL}, ('", f"\n{EVIL}\n"]
)
NUMBERS = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([2**63, 2**64 - 1, 2**64, 10**400, -0.0, True])
KINDS = ["tuple", "dict", "image", "tensor", "array", "class", "config", "format"]
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.sampled_from(KINDS), inner, max_size=3),
    max_leaves=6,
)


def use(one: Record, folder) -> None:
    """What can be done with a record without a pipeline; only what the docstrings name may be raised."""
    assert one.key() == one.key() and isinstance(repr(one), str)
    try:
        check_script(one.code())
    except ValueError as error:
        assert str(error)
    again = Record.load(one.save(folder / "again.png"))
    assert again.key() == one.key() and again.parameters.keys() == one.parameters.keys()
    assert provenance.differences(one.origin, again.origin) == []


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_change_of_its_json_is_a_record_or_a_value_error(whole, tmp_path_factory, data) -> None:
    image, original = png_record.read(whole)
    content = copy.deepcopy(original)
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(list(places(content)) or [("format",)]))
        inner = content
        for step in way:
            inner = inner[step]
        action = data.draw(st.sampled_from(["set", "set", "set", "delete", "rename", "wrap"]))
        if action == "set":
            inner[last] = data.draw(JSON)
        elif action == "wrap":
            inner[last] = {data.draw(st.sampled_from(KINDS)): inner[last]}
        elif isinstance(inner, dict):
            value = inner.pop(last)
            if action == "rename":
                inner[data.draw(TEXTS)] = value
    folder = tmp_path_factory.mktemp("fuzz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of edited pixels
        try:
            one = Record.load(png_record.write(folder / "a.png", image, content))
        except ValueError as error:
            assert "a.png" in str(error)
            str(error).encode()  # and it can be printed
            return
        use(one, folder)


@settings(max_examples=60, deadline=None)
@given(
    document=JSON
    | st.sampled_from(["[" * 5000, '{"a":' * 3000, "", "nul", '{"format": 2', "\ufeff{}", '{"format": 2}'])
)
def test_any_text_in_its_place_is_refused(whole, tmp_path_factory, document) -> None:
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_itxt(
        png_record.KEY, document if isinstance(document, str) and document.isprintable() else json.dumps(document)
    )
    path = tmp_path_factory.mktemp("fuzz") / "a.png"
    noise(1, size=4).save(path, pnginfo=info)
    with pytest.raises(ValueError, match=r"a\.png"):
        Record.load(path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_change_of_its_bytes_is_a_record_or_a_value_error(whole, data) -> None:
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(broken) - 1))
        action = data.draw(st.sampled_from(["set", "cut", "insert", "swap"]))
        if action == "set":
            broken[at] = data.draw(st.integers(0, 255))
        elif action == "cut":
            del broken[at : at + data.draw(st.integers(1, 400))]
        elif action == "insert":
            broken[at:at] = data.draw(st.binary(max_size=40))
        else:
            broken[at : at + 4] = broken[at : at + 4][::-1]
        if not broken:
            break
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            records.loaded(bytes(broken))
        except ValueError as error:
            assert str(error).startswith("path=<")


SEEDS = [0, 1, 2**31, 2**32, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_seed_of_torch_comes_back_and_stands_in_the_script(tmp_path, seed) -> None:
    one = Record.load(record(seed=seed).save(tmp_path / "a.png"))
    assert one.parameters["seed"] == seed and f"manual_seed({seed})" in one.code()
    check_script(one.code())


@pytest.mark.parametrize("seed", [-1, 2**64, 2**70, 1.0, "1", True, [1]])
def test_what_is_no_seed_of_torch_is_refused(tmp_path, seed) -> None:
    with pytest.raises((ValueError, TypeError), match="seed|64 bits"):
        record(seed=seed).save(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
