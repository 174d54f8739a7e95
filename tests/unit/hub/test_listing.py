"""The catalogue's table: what it says agrees with the catalogue, with the files and with the Hub's cache."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

import helpers
from helpers import CATALOG, models
from helpers.catalog import memory_plan
from helpers.cli.main import main
from helpers.common import paths
from helpers.common.sizes import GB, MB
from helpers.hub.listing import COLUMNS


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty Hub cache; hub(id, {file: bytes}, version) puts files there as a download does, links and all."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))

    def download(hub_id: str, files: dict[str, int], version: str = "a" * 40) -> None:
        home = folder / f"models--{hub_id.replace('/', '--')}"
        for name, size in files.items():
            blob = home / "blobs" / f"{name.replace('/', '-')}-{size}"
            blob.parent.mkdir(parents=True, exist_ok=True)
            with blob.open("wb") as file:
                file.truncate(size)
            link = home / "snapshots" / version / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blob)
        (home / "refs").mkdir(exist_ok=True)
        (home / "refs" / "main").write_text(version)

    return download


def row(name: str) -> dict[str, str]:
    """The cells of one checkpoint, by column."""
    [cells] = models(name).rows
    return dict(zip(COLUMNS, cells, strict=True))


def test_every_checkpoint_has_a_row_that_says_what_the_catalogue_says(hub):
    table = models()
    assert [cells[0] for cells in table.rows] == list(CATALOG)
    for name, known in CATALOG.items():
        found = row(name)
        assert found["Hub"] == f"https://huggingface.co/{known.hub_id}"
        assert found["licence"] == (known.licence or "none named")
        assert found["task"] == ", ".join(known.tasks) or not known.tasks
        assert found["in the cache"] == "–"
    assert row("controlnet-depth")["task"] == "joins another"


def test_named_checkpoints_alone_are_listed_in_the_order_named(hub):
    assert [cells[0] for cells in models("sdxl-inpaint", "sd15").rows] == ["sdxl-inpaint", "sd15"]


def test_an_unknown_name_says_which_was_meant(hub, capsys):
    with pytest.raises(ValueError, match="no checkpoint called 'sd14'. Did you mean 'sd15'"):
        models("sd14")
    assert main(["models", "sdxl-inpainting"]) == 2
    assert "course models: there is no checkpoint called 'sdxl-inpainting'" in capsys.readouterr().err


def test_a_miniature_is_as_large_as_its_files_and_shared_parts_count_once(hub, tiny_course):
    def size(*folders: str) -> str:
        kept = {".json", ".safetensors", ".txt"}
        files = [file for folder in folders for file in (tiny_course / folder).iterdir() if file.suffix in kept]
        return f"{sum(file.stat().st_size for file in files) / MB:.1f} MB"

    both = ("vae", "text_encoder", "tokenizer", "scheduler")
    (tiny_course / "vae" / "notes.md").write_text("not shipped" * 100_000)
    assert row("sd15")["miniature"] == size(*both, "unet-sd15")
    assert row("controlnet-depth")["miniature"] == size("controlnet-depth")
    assert row("comic")["miniature"] == "–"
    together = size(*both, "unet-sd15", "unet-sd15-inpaint")
    assert f"those above are {together} together." in models("sd15", "sd15-inpaint").note
    for file in (tiny_course / "unet-sd15").iterdir():
        file.unlink()
    assert row("sd15")["miniature"] == "–" and row("sd15-inpaint")["miniature"] != "–"


def test_no_miniatures_at_all_are_no_error(hub, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "MINIATURES", tmp_path / "none")
    assert row("sd15")["miniature"] == "–" and "share" not in models().note


@pytest.mark.parametrize("name", CATALOG)
def test_the_gpu_memory_is_what_the_plan_says_of_the_full_checkpoint(hub, name):
    said = row(name)["GPU memory"]
    assert (said == "–") is (not CATALOG[name].tasks)
    for way, amount in zip(("none", "model"), re.findall(r"[\d.]+", said), strict=False):
        found = memory_plan.plan_memory(
            CATALOG[name], free=int((float(amount) + 0.06) * GB), device="cuda", dtype="float16", edition="full"
        )
        assert (found.offload, round(found.needs / GB, 1)) == (way, float(amount))


# The Hub's cache


def test_what_is_cached_is_counted_once_and_a_part_is_told_from_the_whole(hub):
    whole = CATALOG["sd15"].download_size
    hub(CATALOG["sd15"].hub_id, {"unet.safetensors": int(0.95 * whole), "model_index.json": 400})
    hub(CATALOG["sd15"].hub_id, {"more.safetensors": 7}, version="b" * 40)
    hub(CATALOG["sd15-inpaint"].hub_id, {"unet.safetensors": int(0.4 * whole)})
    assert [row(name)["in the cache"] for name in ("sd15", "sd15-inpaint", "comic")] == [
        "2.0 GB", "840 MB, a part", "–",
    ]  # fmt: skip


def test_kandinskys_prior_lies_in_a_repository_of_its_own_and_counts(hub):
    hub(CATALOG["kandinsky22"].hub_id, {"unet.safetensors": 5 * GB})
    assert row("kandinsky22")["in the cache"] == "5.0 GB, a part"
    hub(CATALOG["kandinsky22"].prior, {"prior.safetensors": 9 * GB})
    assert row("kandinsky22")["in the cache"] == "14.0 GB"


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_HUB_CACHE"])
def test_the_command_looks_where_downloads_go_and_reaches_for_nothing(variable, tmp_path):
    folder = tmp_path / "hub" if variable == "HF_HOME" else tmp_path
    version = folder / "models--ogkalu--Comic-Diffusion" / "snapshots" / ("c" * 40)
    version.mkdir(parents=True)
    with (version / "unet.safetensors").open("wb") as file:
        file.truncate(4 * GB)
    code = (
        "import socket, sys; socket.socket.connect = None; "
        "from helpers.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, "models", "comic", "sd15"],
        capture_output=True, text=True, cwd=Path(helpers.__file__).parents[1], check=True,
        env={"PATH": "", "HOME": str(tmp_path), variable: str(tmp_path)},
    )  # fmt: skip
    [line] = [line for line in ran.stdout.splitlines() if line.startswith("comic")]
    assert "  4.0 GB  " in line
    assert f"The cache: {folder}" in ran.stdout


def test_course_models_prints_the_table_and_its_notes(hub, capsys):
    assert main(["models", "sd15", "pixel-art"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(str(models("sd15", "pixel-art")))
    assert "Pickles alone on the Hub, read only when they are converted: pixel-art." in said
    assert f"The cache: {constants.HF_HUB_CACHE}\n" in said
    assert "Pickles" not in models("sd15").note and row("pixel-art")["licence"] == "none named"
