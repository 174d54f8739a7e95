"""The PNG file of a record: what comes back from it, and what no file may bring into a session or a script."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from helpers.generation import png_record
from helpers.generation.records import Record
from helpers.images import as_json
from tests.support.calls import noise
from tests.support.records import EVIL, ORIGIN, record


def equal(one, other) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, Image.Image):
        return (one.mode, one.size, one.tobytes()) == (other.mode, other.size, other.tobytes())
    return (one.dtype, one.tolist()) == (other.dtype, other.tolist()) if hasattr(one, "dtype") else one == other


def test_everything_comes_back_as_it_was(tmp_path) -> None:
    before = record()
    after = Record.load(before.save(tmp_path / "a.png"))
    assert equal(after.parameters, before.parameters) and equal(after.image, before.image)
    names = ("origin", "seconds", "exact", "error", "axes")
    assert all(equal(getattr(after, name), getattr(before, name)) for name in names)
    assert after.key() == before.key() and equal(Record.load((tmp_path / "a.png").read_bytes()).image, before.image)
    with Image.open(tmp_path / "a.png") as opened:
        opened.load()
        assert list(opened.text) == [png_record.KEY] and not opened.private_chunks


def test_keys_tell_records_apart() -> None:
    keys = {record(**one).key() for one in ({}, {"image": noise(5)}, {"seed": 2}, {"prompt": "b"}, {"timesteps": None})}
    assert len(keys | {record({"threads": 3}).key()}) == 6 and record(image=noise(1)).key() in keys


LEAVES = [
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([noise(1, "L", 3), noise(2).convert("1"), torch.arange(3), np.eye(2), torch.zeros(0, 4).half()]),
]
VALUES = st.recursive(
    st.one_of(LEAVES),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_any_values_survive_the_round_trip(value) -> None:
    assert equal(as_json.decode(json.loads(json.dumps(as_json.encode(value)))), value)
    assert equal(as_json.snapshot_argument(value, name="value"), value)


def test_a_record_of_another_format_is_refused_by_its_number(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.png"
    for version, remedy in ((1, "make the image again"), (99, "update the course"), ("x", "update the course")):
        with monkeypatch.context() as patch:
            patch.setattr(png_record, "FORMAT", version)
            record().save(path)
        with pytest.raises(ValueError, match=rf"a\.png'.* format {version!r} and this course reads 2: {remedy}"):
            Record.load(path)


def test_a_file_of_another_program_is_refused(tmp_path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a cat, Steps: 20")
    noise(1).save(tmp_path / "foreign.png", pnginfo=info)
    noise(1).save(tmp_path / "a.jpg")
    cut = record().save(tmp_path / "cut.png")
    cut.write_bytes(cut.read_bytes()[:-400])
    for name, message in (
        ("foreign.png", "foreign.png' holds no record of this course"),
        ("a.jpg", "holds no record of this course"),
        ("cut.png", "broken or cut off"),
        ("none.png", "no such file"),
    ):
        with pytest.raises(ValueError, match=message):
            Record.load(tmp_path / name)


def test_an_image_edited_after_saving_is_warned_about(tmp_path) -> None:
    path = record().save(tmp_path / "a.png")
    png_record.write(path, noise(3), png_record.read(path)[1])
    with pytest.warns(UserWarning, match="edited after it was recorded"):
        Record.load(path)


def test_what_cannot_be_read_again_is_not_written(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(png_record, "MAX_BYTES", 10_000)
    big = record(image=noise(1, size=64))
    with pytest.raises(ValueError, match=r"a\.png'.* takes 0 MiB.*Save the image alone"):
        big.save(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("broken", [(Path, "write_bytes"), (png_record.os, "replace"), (Image.Image, "save")])
def test_saving_is_whole_or_not_at_all(tmp_path, monkeypatch, broken) -> None:
    path = record().save(tmp_path / "a.png")
    before = path.read_bytes()

    def fails(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(*broken, fails)
    with pytest.raises(OSError, match="disk full"):
        record().save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_where_a_record_cannot_be_saved(tmp_path) -> None:
    for name, message in (("a.jpg", r"a\.jpg'.*let the name end in \.png"), ("none/a.png", "there is no folder")):
        with pytest.raises(ValueError, match=message):
            record().save(tmp_path / name)
    with pytest.raises(ValueError, match="device='moon' is not what this course writes"):
        record({"device": "moon"}).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="no image to save: it failed"):
        Record(None, {}, 0, {}, error="it failed").save(tmp_path / "a.png")


def forged(path: Path, place: tuple, value) -> Path:
    """A saved record in whose JSON `value` stands at `place`."""
    image, content = png_record.read(record().save(path))
    *way, last = place
    inner = content
    for step in way:
        inner = inner[step]
    inner[last] = value
    return png_record.write(path, image, content)


DEEP = json.loads("[" * 500 + "]" * 500)


@pytest.mark.parametrize(
    ("place", "values"),
    [
        (("parameters",), [None, [], "x"]),
        (("parameters", f"x=1), {EVIL}, f(y"), [1]),
        (("parameters", "import"), [1]),
        (("parameters", "generator"), [1]),
        (("parameters", "seed"), [EVIL, None, -1, 1.5, {"tuple": []}]),
        (("parameters", "scheduler"), [EVIL, "AutoencoderKL", None]),
        (("parameters", "blur_factor"), [EVIL, {"image": ""}, float("inf")]),
        (("parameters", "keep_unmasked"), [EVIL, 1]),
        (("parameters", "prompt"), [["x"], DEEP]),
        (("parameters", "image"), [{"image": "?"}, {"image": 3}, {"image": "AAAA"}, {"picture": "x"}, {"tuple": 3}]),
        (("parameters", "prompt_embeds"), [{"tensor": ""}, {"array": "AAAA"}, {"tensor": None}, {"dict": []}, DEEP]),
        (("parameters", "timesteps"), [[float("nan")], DEEP]),
        (("seconds",), ["1", None, float("nan"), -1, 10**400]),
        (("exact",), [1, None]),
        (("error",), [1, DEEP]),
        (("axes",), [None, [1], [EVIL]]),
        (("control",), [EVIL, 1]),
        (("pixels",), [None]),
        (("origin",), [None, [], DEEP]),
        (("origin", "pipeline"), [EVIL, "AutoencoderKL", f"Pipeline\n{EVIL}\nPipeline", None, DEEP]),
        (("origin", "checkpoint"), [EVIL, 1, DEEP]),
        (("origin", "edition"), [EVIL, True]),
        (("origin", "source"), [f"x'){EVIL}", "../x", "/etc", "a\nb", 1]),
        (("origin", "controlnet"), [f"x'){EVIL}", "a/b/c", 1]),
        (("origin", "revisions"), [[], {"a/b": EVIL}, {EVIL: "a" * 40}, {"a/b": "a" * 41}]),
        (("origin", "schedulers"), [[], {EVIL: {}}, {"scheduler": {}}, {"scheduler": []}, {"scheduler": DEEP}]),
        (("origin", "schedulers", "scheduler", "class"), [EVIL, "AutoencoderKL", None, DEEP]),
        (("origin", "schedulers", "scheduler", "config"), [EVIL, {"beta_start": {"a": 1}}, {"trained_betas": [[]]}]),
        (("origin", "dtype"), [EVIL, "float", f"float16\n{EVIL}", None]),
        (("origin", "memory_format"), [EVIL, 1]),
        (("origin", "device"), [EVIL, "cpu\n", "cuda:x", 0]),
        (("origin", "hardware"), ["a\nb", 1]),
        (("origin", "offload"), [EVIL, None]),
        (("origin", "threads"), [EVIL, True, 0, 2.0]),
        (("origin", "runtime"), [EVIL, None, "onnxruntime", "onnxruntime 1'2"]),
        (
            ("origin", "adapters"),
            [["a\n" + EVIL], {"a\n" + EVIL: {}}, {"unet": {"a\n" + EVIL: 1}}, {"unet": {"a": "b"}}],
        ),
        (("origin", "versions"), [None, {"a\nb": "1"}, {"torch": "a\nb"}, {"torch": None}]),
    ],
    ids=lambda place: ".".join(place)[:40] if isinstance(place, tuple) else None,
)
def test_a_forged_field_is_refused_and_named(tmp_path, place, values) -> None:
    named = "scheduler" if "schedulers" in place else place[-1].partition(")")[0]
    for value in values:
        with pytest.raises(ValueError, match=rf"forged: .*({named}|damaged|nested|unsupported)"):
            Record.load(forged(tmp_path / "a.png", place, value))


@pytest.mark.parametrize("name", [*sorted(ORIGIN.keys() - {"runtime"}), "seed"])  # it came later
def test_a_missing_field_is_refused_and_named(tmp_path, name) -> None:
    image, content = png_record.read(record().save(tmp_path / "a.png"))
    del content["parameters" if name == "seed" else "origin"][name]
    with pytest.raises(ValueError, match=f"has no {name}"):
        Record.load(png_record.write(tmp_path / "a.png", image, content))


def test_a_file_is_read_as_bytes_of_any_kind(tmp_path) -> None:
    data = record().save(tmp_path / "a.png").read_bytes()
    for kind in (bytes, bytearray, memoryview, lambda one: memoryview(b"xx" + one + b"xx")[2:-2]):
        assert equal(Record.load(kind(data)).image, record().image)
    for wrong in (None, 3, ["a.png"]):
        with pytest.raises(TypeError, match=f"path is a {type(wrong).__name__}: expected the path"):
            Record.load(wrong)


def test_a_name_that_begins_with_a_tilde_is_a_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert equal(Record.load(record().save("~a.png")).image, record().image)
    assert [file.name for file in tmp_path.iterdir()] == ["~a.png"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert record().save("~/b.PNG") == tmp_path / "b.PNG"


def test_what_the_system_does_not_write_says_why(tmp_path) -> None:
    (tmp_path / "folder.png").mkdir()
    for name, message in (
        ("folder.png", r"folder\.png' cannot be written: Is a directory\. Choose another"),
        ("文" * 85 + ".png", "cannot be written: File name too long"),
        ("x" * 252 + ".png", "cannot be written: File name too long"),
    ):
        with pytest.raises(OSError, match=message):
            record().save(tmp_path / name)
    for name, message in (("a\0.png", "NUL"), ("\ud800.png", "characters"), ("a.png.", r"end in \.png")):
        with pytest.raises(ValueError, match=message):
            record().save(tmp_path / name)
    record().save(tmp_path / ("文" * 83 + ".png"))
    assert len(list(tmp_path.iterdir())) == 2
