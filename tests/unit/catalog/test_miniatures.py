"""Miniatures put together from components: complete, float32, cached."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import diffusers
import pytest
import torch
import transformers

from helpers.catalog import miniatures
from helpers.catalog.checkpoints import CATALOG
from helpers.common import paths
from tests.support.tiny import RECIPES

pytestmark = pytest.mark.usefixtures("tiny_course")
PIPELINES = [name for name, recipe in RECIPES.items() if "pipeline" in recipe]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", PIPELINES)
def test_plain_diffusers_loads_the_source_in_float32(name):
    pipe = diffusers.DiffusionPipeline.from_pretrained(CATALOG[name].source)
    assert type(pipe).__name__ == RECIPES[name]["pipeline"]
    expected = {part: (library, kind) for part, (library, kind, _) in RECIPES[name]["components"].items()}
    for part, (library, kind) in expected.items():
        component = getattr(pipe, part)
        assert isinstance(component, getattr({"diffusers": diffusers, "transformers": transformers}[library], kind))
        if isinstance(component, torch.nn.Module):
            assert {parameter.dtype for parameter in component.parameters()} == {torch.float32}, part


def test_a_single_model_lies_in_the_folder_itself():
    net = diffusers.ControlNetModel.from_pretrained(CATALOG["controlnet-depth"].source)
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}


def test_a_transformers_config_says_float32_whatever_was_shipped(tiny_course):
    shipped = tiny_course / "text_encoder" / "config.json"
    before = shipped.read_text()
    assert json.loads(before)["dtype"] == "float16"
    made = json.loads((Path(CATALOG["sd15"].source) / "text_encoder" / "config.json").read_text())
    assert made == json.loads(before) | {"dtype": "float32"}
    assert shipped.read_text() == before


def test_weights_are_copied_byte_for_byte_and_no_pickle_with_them(tiny_course):
    (tiny_course / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    made = files(Path(CATALOG["sd15"].source))
    weights = "diffusion_pytorch_model.safetensors"
    assert made[f"vae/{weights}"] == (tiny_course / "vae" / weights).read_bytes()
    assert made[f"unet/{weights}"] == (tiny_course / "unet-sd15" / weights).read_bytes()
    assert not [path for path in made if path.endswith(".bin")]
    assert json.loads(made["model_index.json"])["unet"] == ["diffusers", "UNet2DConditionModel"]


def test_the_second_time_nothing_is_written_and_old_files_are_not_read(monkeypatch):
    folder = Path(CATALOG["sd15"].source)
    opened = []
    read = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *rest, **kw: opened.append(self.name) or read(self, *rest, **kw))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert Path(CATALOG["sd15"].source) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert not [name for name in opened if name.endswith(".safetensors")]


def test_new_weights_get_a_new_folder_in_every_checkpoint_that_has_them(tiny_course):
    old = {name: CATALOG[name].source for name in ("sd15", "sd15-inpaint", "kandinsky22")}
    weights = tiny_course / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert CATALOG["sd15"].source != old["sd15"]
    assert CATALOG["sd15-inpaint"].source != old["sd15-inpaint"]
    assert CATALOG["kandinsky22"].source == old["kandinsky22"]
    assert (Path(CATALOG["sd15"].source) / "vae" / weights.name).read_bytes() == data


def test_a_process_that_was_quicker_is_no_error(monkeypatch):
    rename = Path.rename

    def slow(scratch: Path, target: Path):
        shutil.copytree(scratch, target)  # the other process, just before
        return rename(scratch, target)

    monkeypatch.setattr(Path, "rename", slow)
    folder = Path(CATALOG["sd15"].source)
    assert (folder / "model_index.json").is_file()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_miniature_that_is_not_shipped_says_how_to_get_it():
    with pytest.raises(FileNotFoundError, match="python -m miniature_training train comic.*use\\('full'\\)"):
        str(CATALOG["comic"].source)


def test_a_missing_component_is_named(tiny_course):
    shutil.rmtree(tiny_course / "unet-sd15")
    with pytest.raises(FileNotFoundError, match="needs the component 'unet-sd15'.*git checkout -- data/miniatures"):
        str(CATALOG["sd15"].source)


def test_a_broken_table_is_named(tiny_course):
    (tiny_course / "checkpoints.json").write_text('{"sd15": ')
    with pytest.raises(ValueError, match=r"checkpoints.json is not valid JSON.*git checkout"):
        str(CATALOG["sd15"].source)


def test_a_cache_that_cannot_be_written_says_what_to_set(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match="cannot write the miniature 'sd15' to .*Set the environment's COURSE_CACHE"):
        str(CATALOG["sd15"].source)


def test_the_cache_lies_where_the_environment_or_the_system_says(monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", "/course")
    assert paths.cache_folder() == Path("/course")
    monkeypatch.delenv("COURSE_CACHE")
    monkeypatch.setenv("HOME", "/somebody")
    assert paths.cache_folder().name == "diffusion-inpainting-course"


def test_equal_components_have_equal_hashes():
    plain, inpaint = miniatures.parts("sd15"), miniatures.parts("sd15-inpaint")
    assert plain.keys() == {"vae", "text_encoder", "tokenizer", "unet", "scheduler"}
    assert [part for part in plain if plain[part] != inpaint[part]] == ["unet"]
