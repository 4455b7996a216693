"""Bundles on the hub: its own client against a small server on this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundles import contents, send
from smallhub import TOKEN, SmallHub, small_hub

from mmbind_data.errors import IntegrityError, OutputError, UsageError
from mmbind_data.io.digests import BUNDLE_OWN
from mmbind_data.publishing.publish import preview_publication, publish
from mmbind_data.publishing.upload import open_destination

# how the hub's client sends large files, by its own library's view
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
MANIFEST, _ = BUNDLE_OWN
ADDRESS = "hf://datasets/owner/bound"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    from huggingface_hub import constants

    with small_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # read once, on import
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def uploaded(hub: SmallHub) -> dict[str, bytes]:
    files = hub.repositories["owner/bound"]
    return {name: files[name] for name in sorted(files) if name != ".gitattributes"}


def test_publish_to_the_hub(hub: SmallHub, bound_store: Path) -> None:
    planned = preview_publication(bound_store, ADDRESS)
    assert hub.asked == []  # a preview does not ask the hub
    published = publish(bound_store, ADDRESS)
    assert planned.bundle == published
    there = uploaded(hub)
    assert {one.path: one.bytes for one in planned.files} == {n: len(c) for n, c in there.items()}
    assert json.loads(there["bundle.json"])["content_digest"] == published.content_digest
    assert hub.private == {"owner/bound": True}
    assert list(hub.repositories["owner/bound"])[-1] == MANIFEST  # the last to arrive
    assert hub.large  # the tables went the way of large files
    for name, content in there.items():
        assert TOKEN.encode() not in content, name
    with pytest.raises(OutputError, match=r"exists already.*--overwrite"):
        publish(bound_store, ADDRESS)


def test_overwrite_deletes_what_the_old_bundle_had_more(
    hub: SmallHub, index_bundle: Path, contained_bundle: Path
) -> None:
    send(contained_bundle, ADDRESS)
    send(index_bundle, ADDRESS, overwrite=True)
    assert uploaded(hub) == contents(index_bundle)
    hub.repositories["owner/bound"] = {"thesis.txt": b"thesis"}
    with pytest.raises(OutputError, match="no bundle that mmbind made"):
        send(index_bundle, ADDRESS, overwrite=True)


@pytest.mark.parametrize("path", ["README.md", "bound.zarr/meta/pairs.parquet"])
def test_what_arrives_otherwise_is_seen(hub: SmallHub, index_bundle: Path, path: str) -> None:
    hub.flip = path
    with pytest.raises(IntegrityError, match=rf"not what was sent at {ADDRESS} {path}"):
        send(index_bundle, ADDRESS)
    assert MANIFEST not in uploaded(hub)
    hub.flip = None  # the same command again sends what is wrong
    send(index_bundle, ADDRESS)
    assert uploaded(hub) == contents(index_bundle)


def test_a_wrong_token_is_told_and_not_shown(
    hub: SmallHub, index_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_someOtherToken")
    with pytest.raises(OutputError, match=r"the hub refuses .*got status 401\. Log in") as caught:
        send(index_bundle, ADDRESS)
    assert "hf_some" not in str(caught.value)
    assert hub.repositories == {}


def test_without_a_hub(monkeypatch: pytest.MonkeyPatch, index_bundle: Path) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    begin = time.monotonic()
    with pytest.raises(OutputError, match=r"cannot be reached .*Check the connection") as caught:
        send(index_bundle, ADDRESS)
    assert caught.value.exit_code == 4
    assert time.monotonic() - begin < 15


@pytest.mark.parametrize(
    "address",
    ["hf://owner/bound", "hf://datasets/bound", "hf://datasets/a/b/c", "hf://datasets/a/b@x"],
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(UsageError, match="hf://datasets/owner/name"):
        open_destination(address)
