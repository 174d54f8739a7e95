"""The catalogue's table: what it says agrees with the catalogue, with the files and with the Hub's cache."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from huggingface_hub import constants, scan_cache_dir

import helpers
from helpers import CATALOG, models
from helpers.catalog import editions, memory_plan
from helpers.cli.main import main
from helpers.common import paths
from helpers.common.sizes import GB, MB
from helpers.hub import listing
from helpers.hub.listing import HEAD
from tests.support.tiny import tiny_course  # noqa: F401


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty Hub cache; hub(id, {file: bytes}, version) puts files there as a download does, links and all."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))

    def download(hub_id: str, files: dict[str, int], version: str = "a" * 40) -> Path:
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
        return home

    return download


def test_every_checkpoint_has_a_line_that_says_what_the_catalogue_says(hub):
    table = models()
    assert [line.name for line in table] == list(CATALOG)
    assert len(table) == len(CATALOG)
    for line in table:
        known = CATALOG[line.name]
        assert (line.hub_id, line.licence, line.download) == (known.hub_id, known.licence, known.download_size)
        assert line.tasks == known.tasks or not known.tasks
        assert line.pickled == known.pickled
        assert (line.cached, line.downloaded) == (0, False)
    assert table["controlnet-depth"].tasks == ("joins another",)


def test_named_checkpoints_alone_are_listed_in_the_order_named(hub):
    table = models("sdxl-inpaint", "sd15")
    assert [line.name for line in table] == ["sdxl-inpaint", "sd15"]
    assert table["sd15"] is table.lines[1]
    assert "kandinsky" not in str(table)


def test_an_unknown_name_says_which_was_meant(hub, capsys):
    with pytest.raises(ValueError, match="no checkpoint called 'sdxl-inpainting'. Did you mean 'sdxl-inpaint'"):
        models("sdxl-inpainting")
    with pytest.raises(ValueError, match="no checkpoint called 'sd14'. Did you mean 'sd15'"):
        models()["sd14"]
    assert main(["models", "sdxl-inpainting"]) == 2
    assert "course models: there is no checkpoint called 'sdxl-inpainting'" in capsys.readouterr().err


# Sizes


def test_a_miniature_is_as_large_as_its_files(hub, tiny_course):  # noqa: F811
    def size(*folders: str) -> int:
        kept = {".json", ".safetensors", ".txt"}
        files = [file for folder in folders for file in (tiny_course / folder).iterdir() if file.suffix in kept]
        return sum(file.stat().st_size for file in files)

    both = ("vae", "text_encoder", "tokenizer", "scheduler")
    (tiny_course / "vae" / "notes.md").write_text("not shipped")
    table = models("sd15", "sd15-inpaint", "controlnet-depth", "comic")
    assert table["sd15"].miniature == size(*both, "unet-sd15")
    assert table["controlnet-depth"].miniature == size("controlnet-depth")
    assert table["comic"].miniature is None
    assert table.together == size(*both, "unet-sd15", "unet-sd15-inpaint", "controlnet-depth")  # shared parts once


def test_a_miniature_with_a_part_missing_is_not_there(hub, tiny_course):  # noqa: F811
    for file in (tiny_course / "unet-sd15").iterdir():
        file.unlink()
    table = models("sd15", "sd15-inpaint")
    assert table["sd15"].miniature is None
    assert table["sd15-inpaint"].miniature > 0


def test_no_miniatures_at_all_are_no_error(hub, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "MINIATURES", tmp_path / "none")
    table = models()
    assert {line.miniature for line in table} == {None}
    assert table.together == 0 and "share" not in str(table)


def test_the_memory_on_a_card_is_what_plan_says_of_the_full_checkpoint(hub, monkeypatch):
    said = {line.name: line.memory for line in models()}
    monkeypatch.setenv("COURSE_EDITION", "full")
    monkeypatch.setattr(editions, "_chosen", None)
    for name, checkpoint in CATALOG.items():
        assert (said[name] == {}) is (not checkpoint.tasks)
        for way, needs in said[name].items():
            found = memory_plan.plan_memory(checkpoint, free=needs, device="cuda", dtype="float16")
            assert (found.offload, found.needs, found.fits) == (way, needs, True)
    sizes = [said["sdxl-inpaint"][way] for way in ("none", "model", "sequential")]
    assert sizes == sorted(sizes, reverse=True)
    assert said == {line.name: line.memory for line in models()}  # in either edition


# The Hub's cache


def test_what_is_cached_is_counted_as_the_hub_counts_it(hub):
    hub_id = CATALOG["sd15"].hub_id
    home = hub(hub_id, {"unet/weights.safetensors": 5 * MB, "model_index.json": 400})
    hub(hub_id, {"vae/weights.safetensors": 2 * MB}, version="b" * 40)
    (home / "snapshots" / ("b" * 40) / "again.safetensors").symlink_to(
        home / "blobs" / "unet-weights.safetensors-5000000"
    )
    (home / "blobs" / "half.incomplete").write_bytes(b"x" * 999)  # a download that was cut off
    assert models("sd15")["sd15"].cached == 7 * MB + 400
    [repository] = scan_cache_dir(constants.HF_HUB_CACHE).repos
    assert repository.size_on_disk == 7 * MB + 400


def test_where_the_system_has_no_links_the_files_themselves_are_counted(hub):
    home = hub(CATALOG["sd15"].hub_id, {"a.safetensors": 300})
    (home / "snapshots" / ("a" * 40) / "b.safetensors").write_bytes(b"x" * 500)
    assert models("sd15")["sd15"].cached == 800


def test_a_part_is_told_from_the_whole(hub):
    whole = CATALOG["sd15"].download_size
    hub(CATALOG["sd15"].hub_id, {"unet.safetensors": int(0.95 * whole)})
    hub(CATALOG["sd15-inpaint"].hub_id, {"unet.safetensors": int(0.4 * whole)})
    table = models("sd15", "sd15-inpaint", "comic")
    assert [line.downloaded for line in table] == [True, False, False]
    assert [line.cells()[-1] for line in table] == ["2.0 GB", "0.8 GB, a part", "–"]


def test_kandinskys_prior_lies_in_a_repository_of_its_own_and_counts(hub):
    hub(CATALOG["kandinsky22"].hub_id, {"unet.safetensors": 5 * GB})
    assert not models("kandinsky22")["kandinsky22"].downloaded
    hub(CATALOG["kandinsky22"].prior, {"prior.safetensors": 9 * GB})
    assert models("kandinsky22")["kandinsky22"].cached == 14 * GB
    assert models("kandinsky22")["kandinsky22"].downloaded


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
    first, *_ = [line for line in ran.stdout.splitlines() if line.startswith("comic")]
    assert first.endswith("4.0 GB")
    assert f"The cache: {folder}" in ran.stdout
    assert not (folder / "models--stable-diffusion-v1-5--stable-diffusion-v1-5").exists()


# How it looks


def test_the_text_fits_a_wide_terminal_and_keeps_its_columns(hub):
    rows = str(models()).splitlines()
    assert max(map(len, rows)) <= 110
    table = rows[: rows.index("")]
    assert len(table) == 2 * (len(CATALOG) + 1)
    at = table[0].index("in the cache")
    assert {row[at - 2 : at] for row in table[::2]} == {"  "}
    assert repr(models()) == str(models())


def test_unknown_licences_pickles_and_what_is_not_there_are_said(hub, tiny_course):  # noqa: F811
    line = models("pixel-art")["pixel-art"]
    assert line.cells()[3] == "none named" and line.cells()[-2:] == ("–", "–")
    assert "Pickles alone on the Hub, read only when they are converted: pixel-art, elden-ring." in str(models())
    assert "Pickles" not in str(models("sd15"))


class Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.rows, self.links = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag != "br":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.links += [value for name, value in attributes if name == "href"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def test_a_notebook_shows_the_same_cells_in_sound_html(hub):
    table, page = models(), Cells()
    page.feed(table._repr_html_())
    assert page.open == []
    assert page.rows == [list(HEAD), *(list(line.cells()) for line in table)]
    assert page.links == [f"https://huggingface.co/{line.hub_id}" for line in table]


def test_html_is_escaped(hub):
    line = listing.Line("<b>", ("a & b",), "x/y", None, 1, {}, None, 0, False)
    shown = listing.Listing((line,), 0)._repr_html_()
    assert "<code>&lt;b&gt;</code>" in shown and "a &amp; b" in shown


@pytest.mark.parametrize(
    ("size", "words"),
    [(2_100_000_000, "2.1 GB"), (720_000_000, "0.7 GB"), (49_000_000, "49 MB"), (0, "0 MB")],
)
def test_sizes_in_words(size, words):
    assert listing.gigabytes(size) == words


def test_course_models_prints_the_table(hub, capsys):
    assert main(["models", "sd15", "upscale-x4"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(str(models("sd15", "upscale-x4")))
    assert re.search(rf"^The cache: {re.escape(constants.HF_HUB_CACHE)}$", said, re.MULTILINE)
