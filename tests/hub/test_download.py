# ruff: noqa: F811  (a fixture)
"""What is fetched: only the files that are read, once, resumed and checked; and what is then used without a network."""

from __future__ import annotations

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import CachedRepoTreeNotFoundError

from helpers.catalog import revisions
from helpers.catalog.checkpoints import CATALOG
from helpers.cli.main import main
from helpers.common.paths import cache_folder
from helpers.hub import client, download, snapshots
from tests.hub.desk import BIG, CHOSEN, SD, _desk, desk, repository, weights  # noqa: F401

UNET = "unet/diffusion_pytorch_model.fp16.safetensors"


def fetch(name: str = "sd15") -> list[snapshots.Snapshot]:
    download.fetch(download.order(CATALOG[name]))
    return [snapshots.find(repo, variant=CATALOG[name].variant) for repo in CATALOG[name].repositories]


def cached(path: str, repo: str = SD) -> Path:
    return Path(try_to_load_from_cache(repo, path))


def test_only_what_is_read_is_fetched(desk):
    [found] = fetch()
    assert set(desk.fetched(SD)) == CHOSEN
    assert {file.path for file in found.files} == CHOSEN and found.faults() == {} and found.variant == "fp16"
    assert {path: cached(path).read_bytes() for path in CHOSEN} == {p: desk.files(SD)[p].bytes for p in CHOSEN}


def test_what_is_ordered_says_its_size_and_fetches_only_the_index(desk):
    [one] = download.order(CATALOG["sd15"])
    assert desk.fetched(SD) == ["model_index.json"]
    expected = {path: len(desk.files(SD)[path].bytes) for path in CHOSEN - {"model_index.json"}}
    assert one.size == sum(expected.values()) and {file.path for file in one.files} == set(expected)


def test_a_second_time_nothing_is_fetched(desk):
    fetch()
    desk.requests.clear()
    [one] = download.order(CATALOG["sd15"])
    assert one.size == 0 and one.faults == {}
    download.fetch([one])
    assert desk.fetched() == []


def test_what_is_here_is_used_without_asking_the_hub(desk):
    fetch()
    desk.requests.clear()
    folder, prior, variant = download.folders(CATALOG["sd15"])
    assert (Path(folder), prior, variant) == (cached(UNET).parents[1], None, "fp16")
    assert desk.requests == []


def test_load_fetches_what_is_not_here(desk):
    folder, *_ = download.folders(CATALOG["sd15"])
    assert set(desk.fetched(SD)) == CHOSEN and (Path(folder) / UNET).read_bytes() == desk.files(SD)[UNET].bytes


def test_a_new_commit_comes_by_download_and_not_by_load(desk):
    [old] = fetch()
    new = desk.push(SD, {UNET: weights("new")})
    assert download.folders(CATALOG["sd15"])[0] == str(old.folder)
    desk.requests.clear()
    [found] = fetch()
    assert found.commit == new and desk.fetched(SD) == [UNET]  # the rest is the same
    assert (found.folder / UNET).read_bytes() == weights("new")


def test_a_variant_that_the_publisher_lacks_is_done_without_and_said_once(desk, caplog, monkeypatch):
    desk.push(SD, {path: None for path in desk.files(SD) if "fp16" in path})
    for _ in range(2):
        assert download.folders(CATALOG["sd15"])[2] is None
    assert "unet/diffusion_pytorch_model.safetensors" in desk.fetched(SD)
    said = [record.getMessage() for record in caplog.records if "fp16" in record.getMessage()]
    assert said == [f"{SD} has no fp16 files; the full ones are used, which are larger."]


def test_one_model_without_the_variant_comes_in_its_plain_files(desk):
    desk.push(SD, {"vae/diffusion_pytorch_model.fp16.safetensors": None})
    [found] = fetch()
    assert found.variant == "fp16"
    assert {"vae/diffusion_pytorch_model.safetensors", UNET} <= {file.path for file in found.files}


def test_an_interrupted_download_goes_on_where_it_stopped(desk, monkeypatch):
    [one] = download.order(CATALOG["sd15"])
    unet = next(file for file in one.files if file.path == UNET)
    part = Path(constants.HF_HUB_CACHE) / f"models--{SD.replace('/', '--')}" / "blobs" / f"{unet.digest}.incomplete"
    part.write_bytes(desk.files(SD)[UNET].bytes[:40_000])
    download.fetch([one])
    sent = [request for request in desk.requests if request.file == UNET and request.sent]
    assert [(request.start, request.sent) for request in sent] == [(40_000, BIG - 40_000)]
    assert cached(UNET).read_bytes() == desk.files(SD)[UNET].bytes and not part.exists()


def test_what_an_interrupted_download_left_is_not_trusted(desk, caplog):
    [one] = download.order(CATALOG["sd15"])
    unet = next(file for file in one.files if file.path == UNET)
    part = Path(constants.HF_HUB_CACHE) / f"models--{SD.replace('/', '--')}" / "blobs" / f"{unet.digest}.incomplete"
    part.write_bytes(b"x" * 40_000)
    download.fetch([one])
    assert cached(UNET).read_bytes() == desk.files(SD)[UNET].bytes
    assert f"{UNET} of {SD} came altered: once more." in caplog.text


def test_an_interrupt_keeps_what_is_there(desk, monkeypatch, capsys):
    from huggingface_hub import file_download

    whole, data = file_download.http_get, desk.files(SD)[UNET].bytes

    def interrupted(url, stream, **how):
        if UNET not in url:
            return whole(url, stream, **how)
        stream.write(data[:50_000])
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_download, "http_get", interrupted)
        assert main(["download", "sd15", "--yes"]) == 130
    assert "course download: stopped." in capsys.readouterr().err
    assert main(["download", "sd15", "--yes"]) == 0
    assert [request.start for request in desk.requests if request.file == UNET and request.sent] == [50_000]
    assert cached(UNET).read_bytes() == data


def test_two_at_once_fetch_each_file_once(desk):
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: download.folders(CATALOG["sd15"]), range(2)))
    assert folders[0] == folders[1]
    big = [path for path in desk.fetched(SD) if path.endswith("safetensors")]
    assert len(big) == len(set(big)) == 2


def test_a_cache_that_another_program_filled_is_checked_and_used(desk):
    from huggingface_hub import snapshot_download

    snapshot_download(SD, allow_patterns=sorted(CHOSEN))
    desk.requests.clear()
    assert download.folders(CATALOG["sd15"])[2] == "fp16"
    assert desk.requests == []
    hashes = {file.path: file.digest for file in snapshots.find(SD, variant="fp16").files}
    assert hashes[UNET] == desk.files(SD)[UNET].sha256  # and not git's, which is that of a pointer to it


def test_a_cache_without_the_hubs_list_is_used_where_it_is_whole(desk, forget_lists):
    [found] = fetch()
    forget_lists()
    assert offline_folders() == (str(found.folder), None, "fp16")
    (found.folder / UNET).write_bytes(weights("other"))
    with pytest.raises(client.HubError, match=r"fp16.safetensors is altered, and HF_HUB_OFFLINE=1"):
        offline_folders()


def test_without_links_and_lists_the_header_of_the_weights_tells(desk, forget_lists):
    import safetensors.numpy

    [found] = fetch()
    forget_lists()
    whole = safetensors.numpy.save({})
    for path in CHOSEN:  # as on Windows: files, where else links lead to blobs named by their hashes
        data = whole if path.endswith(".safetensors") else (found.folder / path).read_bytes()
        (found.folder / path).unlink()
        (found.folder / path).write_bytes(data)
    assert offline_folders() == (str(found.folder), None, "fp16")
    (found.folder / UNET).write_bytes(whole[:-1])
    with pytest.raises(client.HubError, match=r"fp16.safetensors is altered, and HF_HUB_OFFLINE=1"):
        offline_folders()


@pytest.fixture
def forget_lists(monkeypatch):
    """Call it, and the cache is as another program, of an older version, would have filled it."""

    def forget() -> None:
        def nothing(repo: str, **_: object) -> None:
            raise CachedRepoTreeNotFoundError(repo)

        shutil.rmtree(cache_folder())
        monkeypatch.setattr(huggingface_hub, "get_cached_repo_tree", nothing)

    return forget


def offline_folders():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        return download.folders(CATALOG["sd15"])


def test_offline_what_is_not_here_is_named_with_what_to_do(desk):
    with pytest.raises(
        client.HubError, match=f"sd15: {SD} is not whole on this machine, and HF_HUB_OFFLINE=1 keeps off"
    ):
        offline_folders()


# Damage


@pytest.mark.parametrize("kind, damage", [("cut short", lambda b: b[:-7]), ("altered", lambda b: b[:-1] + b"!")])
def test_a_damaged_file_is_named_and_fetched_again(desk, caplog, kind, damage):
    fetch()
    good = cached(UNET).read_bytes()
    cached(UNET).write_bytes(damage(good))
    desk.requests.clear()
    with pytest.raises(client.HubError, match=rf"{UNET} is {kind}, and HF_HUB_OFFLINE=1"):
        offline_folders()
    folder, *_ = download.folders(CATALOG["sd15"])
    assert (Path(folder) / UNET).read_bytes() == good
    assert desk.fetched() == [UNET]
    assert f"{UNET} is {kind}: it is fetched again." in caplog.text


def test_mending_brings_no_other_commit(desk):
    [old] = fetch()
    cached(UNET).write_bytes(b"")
    desk.push(SD, {UNET: weights("new")})
    assert download.folders(CATALOG["sd15"])[0] == str(old.folder)
    assert hashlib.sha256(cached(UNET).read_bytes()).hexdigest() == hashlib.sha256(old_unet(desk)).hexdigest()


def old_unet(desk) -> bytes:
    return repository("fp16.safetensors")[UNET]


def test_a_damaged_index_is_mended_first(desk, caplog):
    fetch()
    cached("model_index.json").write_text('{"unet": ["diffusers"')
    desk.requests.clear()
    download.folders(CATALOG["sd15"])
    assert set(desk.fetched()) == {"model_index.json"}


def test_a_file_is_hashed_once_as_long_as_nobody_touches_it(desk, monkeypatch):
    [found] = fetch()
    monkeypatch.setattr(snapshots, "digest", lambda *_: pytest.fail("hashed again"))
    assert found.faults() == {}


# Space


def test_too_little_room_is_said_before_anything_is_fetched(desk, monkeypatch):
    orders = download.order(CATALOG["sd15"])
    monkeypatch.setattr(client, "free_space", lambda: 50_000)
    desk.requests.clear()
    with pytest.raises(
        client.HubError, match=r"sd15: 0.00 GB are to be fetched into .*/hub, and that disk has 0.00 GB free"
    ):
        download.fetch(orders)
    assert desk.requests == []


def test_a_disk_that_fills_up_says_so_and_the_download_goes_on_later(desk, monkeypatch):
    import errno

    from huggingface_hub import file_download

    whole = file_download.http_get

    def full(url, stream, **how):
        stream.write(b"")
        raise OSError(errno.ENOSPC, "No space left on device")

    orders = download.order(CATALOG["sd15"])
    monkeypatch.setattr(file_download, "http_get", full)
    with pytest.raises(
        client.HubError, match=r"sd15: the disk of .* is full. Free some space, or set HF_HOME .*course download sd15"
    ):
        download.fetch(orders)
    monkeypatch.setattr(file_download, "http_get", whole)
    [found] = fetch()
    assert found.faults() == {}


# Pins


def test_a_pinned_commit_is_fetched_and_needs_no_network_afterwards(desk):
    old = desk.commit(SD)
    desk.push(SD, {UNET: weights("new")})
    revisions.write({SD: old})
    [found] = fetch()
    assert found.commit == old and (found.folder / UNET).read_bytes() == old_unet(desk)
    desk.requests.clear()
    assert download.folders(CATALOG["sd15"])[0] == str(found.folder) and desk.requests == []
    revisions.write({})
    [newer] = fetch()
    assert newer.commit == desk.commit(SD) != old


def test_a_pin_moves_load_to_its_commit(desk):
    fetch()
    new = desk.push(SD, {UNET: weights("new")})
    revisions.write({SD: new})
    assert Path(download.folders(CATALOG["sd15"])[0]).name == new
    assert CATALOG["sd15"].load_kwargs["revision"] == new  # for plain from_pretrained


def test_bars_show_what_is_fetched(desk, capfd, monkeypatch):
    monkeypatch.setenv("TQDM_POSITION", "-1")  # else they show in terminals and notebooks alone
    fetch()
    assert "pytorch_model.fp16.safetensors: 100%" in capfd.readouterr().err
