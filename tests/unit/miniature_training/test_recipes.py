"""The workshop's tables, and how a checkpoint enters the course."""

import json
import re

import numpy as np
import pytest

from helpers.common import paths
from miniature_training import __main__ as workshop_main
from miniature_training import registry
from miniature_training.evaluation import model_card, scores, sheets
from miniature_training.evaluation.model_card import told
from miniature_training.models import store

TABLE = (paths.MINIATURES / "checkpoints.json").read_text(encoding="utf-8")


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """An empty data/miniatures."""
    monkeypatch.setattr(paths, "MINIATURES", tmp_path)
    return tmp_path


def test_a_line_fixes_arguments_and_takes_more():
    call = registry.lazily("evaluation.model_card:told", value=0.5)
    assert call("subject") == told("subject", 0.5) == "subject right 50.0%"


@pytest.mark.parametrize("name", ["lcm", "kandinsky22-inpaint", "comic"])
def test_a_last_run_of_what_has_none_is_an_error_before_anything_is_read(name, capsys):
    with pytest.raises(SystemExit):
        workshop_main.main(["train", name, "--decay"])
    assert f"'{name}' has no last run" in capsys.readouterr().err


def test_figures_carry_their_units():
    assert told("psnr_db", 28.456) == "PSNR 28.5 dB"
    assert told("without_seam_levels", 12.34) == "without seam 12.3 grey levels"
    assert told("depth_correlation", 0.876) == "depth correlation 0.88"
    assert told("style_with_token", 0.95) == "style with token 95.0%"


def untrained():
    raise FileNotFoundError("there is no such miniature yet")


def test_evaluating_everything_leaves_out_what_is_not_trained(shelf, monkeypatch, capsys):
    monkeypatch.setattr(scores, "EVALUATIONS", {"some": lambda: {"subject": 0.91234567}, "other": untrained})
    assert scores.evaluate([]) == {"some": {"subject": 0.9123}}
    assert json.loads((shelf / "figures.json").read_text()) == {"some": {"subject": 0.9123}}
    assert "other: left out (there is no such miniature yet)" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError):
        scores.evaluate(["other"])


def test_drawing_every_sheet_leaves_out_what_is_not_trained(shelf, monkeypatch, picture):
    monkeypatch.setattr(sheets, "SHEETS", {"some": lambda: picture, "other": untrained})
    assert sheets.write([], shelf / "sheets") == [shelf / "sheets" / "some.png"]
    with pytest.raises(FileNotFoundError):
        sheets.write(["other"], shelf / "sheets")


def test_a_checkpoint_is_added_in_the_table_s_own_layout(shelf):
    (shelf / "checkpoints.json").write_text(TABLE)
    shipped = json.loads(TABLE)
    folders = {part[2] for entry in shipped.values() for part in entry.get("components", {}).values()}
    for folder in folders:
        (shelf / folder).mkdir()
    store.add_checkpoint("sd15", shipped["sd15"])
    assert (shelf / "checkpoints.json").read_text() == TABLE, "the same entry again changes no byte"
    net = {"model": ["diffusers", "ControlNetModel", "unet-sd15"], "size": 128}
    store.add_checkpoint("controlnet-depth", net)
    assert json.loads((shelf / "checkpoints.json").read_text()) == shipped | {"controlnet-depth": net}
    assert '    "model": ["diffusers", "ControlNetModel", "unet-sd15"],\n' in (shelf / "checkpoints.json").read_text()
    assert not [path.name for path in shelf.iterdir() if path.name.startswith(".")]


def test_the_first_checkpoint_makes_the_table(shelf):
    (shelf / "net").mkdir()
    store.add_checkpoint("net", {"model": ["diffusers", "ControlNetModel", "net"]})
    assert list(json.loads((shelf / "checkpoints.json").read_text())) == ["net"]


@pytest.mark.parametrize("used", [["vae"], ["vae", "delta-comic"]])
def test_a_checkpoint_without_its_components_is_refused(shelf, used):
    (shelf / "checkpoints.json").write_text(TABLE)
    if len(used) > 1:
        (shelf / "vae").mkdir()
    entry = {"components": {"vae": ["diffusers", "AutoencoderKL", *used]}, "pipeline": "StableDiffusionPipeline"}
    with pytest.raises(FileNotFoundError, match=f"'comic' needs the component '{used[-1]}'"):
        store.add_checkpoint("comic", entry)
    assert (shelf / "checkpoints.json").read_text() == TABLE


@pytest.mark.parametrize("size", [128, 192])
def test_repainting_asks_for_another_subject_over_the_whole_of_the_first(size):
    tasks = scores.repainting(10, size=size)
    assert len(tasks) == 10
    assert {drawing.scene.subject for drawing, *_ in tasks} <= set(scores.REPAINTED)
    for drawing, mask, prompt, asked in tasks:
        assert drawing.image.size == mask.size == (size, size)
        assert asked["subject"] != drawing.scene.subject and asked["colour"] != drawing.scene.colour
        assert prompt == f"a {asked['colour']} {asked['subject']}"
        assert not (np.asarray(drawing.mask) & ~np.asarray(mask)).any(), "the whole subject is painted over"
    assert [prompt for *_, prompt, _ in scores.repainting(10, size=size)] == [prompt for *_, prompt, _ in tasks]


def test_the_card_tells_how_each_component_that_is_there_was_made(shelf, monkeypatch):
    for name in ("vae", "delta-comic", "delta-elden-ring", "clip-text", "clip-image", "classifier"):
        (shelf / name).mkdir()
    figures = {"vae": {"psnr_db": 30.0}, "comic": {"psnr_db": 20.0, model_card.EARLIER: 1}}
    (shelf / "figures.json").write_text(json.dumps(figures))
    (shelf / "training.json").write_text('{"clip": "20 minutes"}')
    text = model_card.write()
    assert text == (shelf / "MODEL_CARD.md").read_text()
    lines = [re.split(" [(]|:", line)[0] for line in text.splitlines() if line.startswith("- **")]
    together = ["- **delta-comic**, **delta-elden-ring**", "- **clip-text**, **clip-image**"]
    assert lines == ["- **vae**", *together, "- **classifier**"]
    assert "| clip-image | 0.00 | 20 minutes |" in text and "| vae | PSNR 30.0 dB |" in text
    assert "| comic † | PSNR 20.0 dB |" in text


def test_the_card_knows_every_component_that_is_trained():
    told = {name for names, _ in model_card.MADE for name in names}
    there = {path.name for path in paths.MINIATURES.iterdir() if list(path.glob("*.safetensors"))}
    assert there - told == set()
    assert all(len(line) <= 120 for line in "\n".join(model_card.made()).splitlines())
