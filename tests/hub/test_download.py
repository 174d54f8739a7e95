"""What is fetched: only the files that are read, once, and checked; and what is then used without a network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants, snapshot_download, try_to_load_from_cache

from helpers.catalog import revisions
from helpers.catalog.checkpoints import CATALOG
from helpers.cli.main import main
from helpers.hub import client, download
from tests.hub.desk import CHOSEN, SD, UNET, fetch, repository, weights

SD15 = CATALOG["sd15"]


def cached(path: str, repo: str = SD) -> Path:
    return Path(try_to_load_from_cache(repo, path))


def test_only_what_is_read_is_fetched(desk):
    found = fetch()
    assert set(desk.fetched(SD)) == set(found.files) == CHOSEN
    assert not found.missing and found.variant == "fp16"
    assert {path: cached(path).read_bytes() for path in CHOSEN} == {p: desk.files(SD)[p].bytes for p in CHOSEN}


def test_a_plan_says_the_size_and_fetches_only_the_index(desk):
    [one] = download.plan(SD15)
    assert desk.fetched(SD) == ["model_index.json"]
    expected = {path: len(desk.files(SD)[path].bytes) for path in CHOSEN - {"model_index.json"}}
    assert one.size == sum(expected.values()) and set(one.snapshot.missing) == set(expected)


def test_load_fetches_what_is_not_here_and_then_asks_the_hub_nothing(desk):
    folder, prior, variant = download.folders(SD15)
    assert set(desk.fetched(SD)) == CHOSEN and (prior, variant) == (None, "fp16")
    assert Path(folder) == cached(UNET).parents[1] and cached(UNET).read_bytes() == desk.files(SD)[UNET].bytes
    desk.requests.clear()
    assert download.folders(SD15)[0] == folder and desk.requests == []


def test_a_new_commit_comes_by_download_and_not_by_load(desk):
    old = fetch()
    new = desk.push(SD, {UNET: weights("new")})
    assert download.folders(SD15)[0] == str(old.folder)
    download.plan(SD15)  # to ask what there is changes nothing
    assert download.folders(SD15)[0] == str(old.folder)
    desk.requests.clear()
    found = fetch()
    assert found.commit == new and desk.fetched(SD) == [UNET]  # the rest is the same
    assert (found.folder / UNET).read_bytes() == weights("new")


def test_a_variant_that_the_publisher_lacks_is_done_without_and_said_once(desk, caplog):
    desk.push(SD, {path: None for path in desk.files(SD) if "fp16" in path})
    for _ in range(2):
        assert download.folders(SD15)[2] is None
    assert "unet/diffusion_pytorch_model.safetensors" in desk.fetched(SD)
    said = [record.getMessage() for record in caplog.records if "fp16" in record.getMessage()]
    assert said == [f"{SD} has no fp16 files; the full ones are used, which are larger."]


def test_one_model_without_the_variant_comes_in_its_plain_files(desk):
    desk.push(SD, {"vae/diffusion_pytorch_model.fp16.safetensors": None})
    found = fetch()
    assert found.variant == "fp16" and {"vae/diffusion_pytorch_model.safetensors", UNET} <= set(found.files)


def test_an_interrupted_download_goes_on_with_the_missing_files(desk, monkeypatch, capsys):
    from huggingface_hub import file_download

    original = file_download.http_get

    def interrupted(url, stream, **how):
        if UNET in url:
            raise KeyboardInterrupt
        return original(url, stream, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_download, "http_get", interrupted)
        assert main(["download", "sd15", "--yes"]) == 130
    assert "course download: stopped." in capsys.readouterr().err
    before = desk.fetched(SD)
    desk.requests.clear()
    assert main(["download", "sd15", "--yes"]) == 0
    assert set(before) | set(desk.fetched(SD)) >= CHOSEN and not set(before) & set(desk.fetched(SD))
    assert cached(UNET).read_bytes() == desk.files(SD)[UNET].bytes


def test_what_was_interrupted_before_its_hashes_were_compared_is_compared_the_next_time(desk):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    desk.misbehave("altered", file=UNET, times=1)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("huggingface_hub.HfApi.verify_repo_checksums", interrupted)
        fetch()
    assert (fetch().folder / UNET).read_bytes() == desk.files(SD)[UNET].bytes


def test_a_cache_that_another_program_filled_is_used(desk):
    snapshot_download(SD, allow_patterns=sorted(CHOSEN))
    desk.requests.clear()
    assert download.folders(SD15)[2] == "fp16" and desk.requests == []


def test_a_cache_without_the_hubs_list_is_used_where_every_model_has_weights(desk, monkeypatch):
    found = fetch()
    shutil.rmtree(found.folder.parents[1] / "trees")  # as another program, of an older version, would have filled it
    monkeypatch.setattr("huggingface_hub._tree_cache._IN_MEMORY_TREE_CACHE", {})
    assert offline_folders() == (str(found.folder), None, "fp16")
    (found.folder / UNET).unlink()
    with pytest.raises(client.HubError, match=f"sd15: {SD} is incomplete on this machine"):
        offline_folders()


def offline_folders():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        return download.folders(SD15)


def test_offline_what_is_not_here_is_named_with_what_to_do(desk):
    expected = f"sd15: {SD} is incomplete on this machine, and HF_HUB_OFFLINE=1 .*: course download sd15"
    with pytest.raises(client.HubError, match=expected):
        offline_folders()


# Damage


@pytest.mark.parametrize("path", [UNET, "model_index.json"])
def test_a_file_that_was_cut_short_is_fetched_again(desk, caplog, path):
    old = fetch()
    good = cached(path).read_bytes()
    cached(path).write_bytes(good[:-7])
    desk.push(SD, {"unet/config.json": b"new"})  # to complete what is here brings no other commit
    desk.requests.clear()
    with pytest.raises(client.HubError, match="is incomplete on this machine, and HF_HUB_OFFLINE=1"):
        offline_folders()
    assert download.folders(SD15)[0] == str(old.folder)
    assert (old.folder / path).read_bytes() == good and desk.fetched() == [path]
    assert f"{path} is damaged: fetching it again." in caplog.text


def test_verify_finds_altered_bytes_and_fetches_the_file_again(desk, capsys):
    fetch()
    good = cached(UNET).read_bytes()
    cached(UNET).write_bytes(good[:-1] + b"!")
    desk.requests.clear()
    assert main(["download", "sd15", "--yes"]) == 0 and desk.fetched() == []
    assert main(["download", "sd15", "--verify"]) == 0 and desk.fetched() == [UNET]
    assert cached(UNET).read_bytes() == good


# Space


def test_too_little_room_is_said_before_anything_is_fetched(desk, monkeypatch):
    plans = download.plan(SD15)
    monkeypatch.setattr(client, "free_space", lambda: 50_000)
    desk.requests.clear()
    with pytest.raises(client.HubError, match=r"sd15: 0.00 GB are needed in .*/hub, .* has 0.00 GB free"):
        download.fetch(plans)
    assert desk.requests == []


def test_a_disk_that_fills_up_says_so_and_the_download_goes_on_later(desk, monkeypatch):
    import errno

    from huggingface_hub import file_download

    def full(url, stream, **how):
        raise OSError(errno.ENOSPC, "No space left on device")

    plans = download.plan(SD15)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_download, "http_get", full)
        with pytest.raises(client.HubError, match=r"sd15: the disk of .* is full. Free .*course download sd15"):
            download.fetch(plans)
    assert not fetch().missing


# Pins


def test_a_pinned_commit_is_fetched_and_needs_no_network_afterwards(desk):
    old = desk.commit(SD)
    desk.push(SD, {UNET: weights("new")})
    revisions.write({SD: old})
    found = fetch()
    assert found.commit == old and (found.folder / UNET).read_bytes() == repository("fp16.safetensors")[UNET]
    desk.requests.clear()
    assert download.folders(SD15)[0] == str(found.folder) and desk.requests == []
    revisions.write({})
    assert fetch().commit == desk.commit(SD) != old


def test_a_pin_moves_load_to_its_commit(desk):
    fetch()
    new = desk.push(SD, {UNET: weights("new")})
    revisions.write({SD: new})
    assert Path(download.folders(SD15)[0]).name == new
    assert SD15.load_kwargs["revision"] == new  # for plain from_pretrained
