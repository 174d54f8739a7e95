"""A Hub that misbehaves: what passes by itself is waited for, everything else says what happened and what to type."""

from __future__ import annotations

import re

import pytest
from huggingface_hub import constants

from helpers.catalog import revisions
from helpers.catalog.checkpoints import CATALOG
from helpers.hub import client, download
from tests.hub.desk import SD, UNET, fetch


def refused() -> str:
    with pytest.raises(client.HubError) as caught:
        fetch()
    return str(caught.value)


def is_whole(found: download.Snapshot | None, hub) -> bool:
    return bool(found) and not found.missing and (found.folder / UNET).read_bytes() == hub.files(SD)[UNET].bytes


# What passes


@pytest.mark.parametrize("kind", ["busy", "broken"])
def test_a_hub_in_trouble_is_asked_again(desk, caplog, kind):
    desk.misbehave(kind, repo=SD, times=2)
    assert is_whole(fetch(), desk)
    assert "trying again in 1 s" in caplog.text


@pytest.mark.parametrize("kind", ["busy", "broken", "cut", "slow", "altered", "short"])
def test_a_file_in_trouble_is_asked_for_again(desk, kind, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    desk.misbehave(kind, file=UNET, times=1, seconds=1.0)
    assert is_whole(fetch(), desk)


# What does not


@pytest.mark.parametrize("kind", ["altered", "short"])
def test_a_file_that_stays_wrong_never_enters_the_cache(desk, tmp_path, caplog, kind):
    desk.misbehave(kind, file=UNET)
    said = refused()
    assert f"of {SD} does not have the size and hash that the Hub lists, twice; nothing of it was kept" in said
    assert "sd15: " in said and "course download sd15" in said and "fetching again" in caplog.text
    digest = desk.files(SD)[UNET].sha256
    assert not [path for path in tmp_path.rglob(f"*{digest}*") if path.suffix != ".lock"]
    with pytest.raises(client.HubError):
        download.folders(CATALOG["sd15"])


def test_a_gated_repository_says_how_to_get_in(desk, monkeypatch):
    desk.misbehave("gated", repo=SD)
    said = refused()
    assert f"sd15: {SD} is gated" in said and f"{desk.url}/{SD}" in said and "hf auth login" in said
    assert "course download sd15" in said and "use('mini')" in said
    monkeypatch.setenv("HF_TOKEN", "hf_stranger")
    assert "is gated" in refused()
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert is_whole(fetch(), desk)


@pytest.mark.parametrize(
    "kind, message",
    [
        ("gone", r"sd15: .* is gone from http.*, or private.*HF_ENDPOINT or HF_TOKEN.*use\('mini'\)"),
        ("forbidden", "is gated: its publisher asks you to accept conditions"),
        ("busy", r"reports too many requests \(429\). Wait a few minutes, then: course download sd15"),
        ("broken", r"has an internal error \(500\). Wait a few minutes"),
    ],
)
def test_a_repository_that_cannot_be_had_says_what_to_do(desk, kind, message):
    desk.misbehave(kind, repo=SD)
    assert re.search(message, refused())


@pytest.mark.parametrize(
    "kind, message",
    [
        ("missing", "has lost a file that it needs. Try its newest commit: course pin sd15"),
        ("forbidden", "is gated"),
        ("broken", r"\(500\)"),
        ("cut", r"cannot be reached .*Check the network, the proxy and HF_ENDPOINT, then: course download sd15"),
    ],
)
def test_a_file_that_cannot_be_had_says_what_to_do(desk, kind, message):
    desk.misbehave(kind, file=UNET)
    assert re.search(message, refused())
    desk.reset()
    assert is_whole(fetch(), desk)  # nothing is broken by the attempt


def test_a_pin_that_is_gone_asks_for_a_new_one(desk):
    revisions.write({SD: "0" * 40})
    assert re.search(
        f"sd15: the pinned commit of {SD} no longer exists. Look for a new one: course pin sd15", refused()
    )


def test_a_repository_without_weights_that_are_read_says_so(desk):
    desk.push(SD, {path: None for path in desk.files(SD) if path.startswith("unet/") and path.endswith("safetensors")})
    assert f"sd15: {SD} has no safetensors weights for unet, and the course reads no other format" in refused()


def test_without_a_network_the_address_is_named_and_what_is_here_is_used(desk, no_network):
    found = fetch()
    no_network()
    assert re.search(r"sd15: http://127.0.0.1:9 cannot be reached \(.*\)\. Check the network", refused())
    assert download.folders(CATALOG["sd15"])[0] == str(found.folder)


def test_offline_mode_is_told_from_a_network_that_is_down(desk, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert re.search("sd15: HF_HUB_OFFLINE=1 is set, and .* Unset it, then: course download sd15", refused())


def test_load_passes_the_message_on(desk):
    from helpers import load

    desk.misbehave("gone", repo=SD)
    with pytest.raises(client.HubError, match="is gone from"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("helpers.catalog.devices.free_memory", lambda device: 64_000_000_000)
        load("sd15", device="cpu")
