"""Bundles in a bucket: a real S3 interface on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import s3fs
from bundles import contents, send

from mmbind_data.errors import FormatError, IntegrityError, OutputError, UsageError
from mmbind_data.io.digests import BUNDLE_OWN
from mmbind_data.publishing.publish import publish
from mmbind_data.publishing.upload_s3 import BucketPrefix
from mmbind_data.publishing.verify import verify
from mmbind_data.store.bound import open_bound
from mmbind_data.store.root import BUNDLE

MANIFEST, SUMS = BUNDLE_OWN


def stored(address: str) -> dict[str, bytes]:
    system = s3fs.S3FileSystem()
    system.invalidate_cache()
    root = address.removeprefix("s3://") + "/"
    names = system.find(root)
    return {name.removeprefix(root): system.cat_file(name) for name in names}


@pytest.fixture
def address(bucket: str) -> str:
    return f"s3://{bucket}/bundles/one"


def test_publish_to_a_bucket(bound_store: Path, address: str, tmp_path: Path) -> None:
    published = publish(bound_store, address)
    there = stored(address)
    for name, content in there.items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(content)
        # what opens the bucket is in no document
        for secret in (b"AKIDEXAMPLEKEYONE", b"not/a/real/secret", b"127.0.0.1"):
            assert secret not in content, name
    assert verify(tmp_path / "copy", depth="values") == verify(address, depth="deep") == []
    assert open_bound(address).info.content_digest == published.content_digest
    with pytest.raises(OutputError, match="exists already"):
        publish(bound_store, address)


def test_an_interrupted_upload_is_no_bundle_and_goes_on(
    index_bundle: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    limits = [4, len(contents(index_bundle)) - 3, 10**6]
    put = BucketPrefix.put

    def breaks(place: BucketPrefix, folder: Path, names: list[str]) -> None:
        n = max(limits[0] - len(sent), 0)
        sent.extend(names[:n])
        put(place, folder, names[:n])
        if n < len(names):
            raise KeyboardInterrupt

    monkeypatch.setattr(BucketPrefix, "put", breaks)
    while limits[1:]:
        with pytest.raises(KeyboardInterrupt):
            send(index_bundle, address)
        assert BUNDLE not in stored(address)
        with pytest.raises(FormatError):
            open_bound(address)
        limits.pop(0)
    send(index_bundle, address)
    assert sorted(sent) == sorted(contents(index_bundle))  # each once
    assert (sent[0], sent[-1]) == (SUMS, MANIFEST)
    assert stored(address) == contents(index_bundle)


def test_overwrite_replaces_a_bundle_and_nothing_else(
    index_bundle: Path, contained_bundle: Path, address: str
) -> None:
    system = s3fs.S3FileSystem()
    send(contained_bundle, address)
    beside = f"{address}-other/thesis.txt"
    system.pipe_file(beside, b"thesis")
    with pytest.raises(OutputError, match="exists already"):
        send(index_bundle, address)
    send(index_bundle, address, overwrite=True)
    assert stored(address) == contents(index_bundle)
    assert system.cat_file(beside) == b"thesis"
    foreign = address.replace("one", "two")
    system.pipe_file(f"{foreign}/thesis.txt", b"thesis")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="no bundle that mmbind made"):
            send(index_bundle, foreign, overwrite=overwrite)
    assert stored(foreign) == {"thesis.txt": b"thesis"}


def test_half_an_upload_of_another_bundle_needs_overwrite(
    index_bundle: Path, contained_bundle: Path, address: str
) -> None:
    system = s3fs.S3FileSystem()
    for name in (SUMS, "README.md"):
        system.put_file(str(contained_bundle / name), f"{address}/{name}")
    with pytest.raises(OutputError, match="another bundle was interrupted"):
        send(index_bundle, address)
    send(index_bundle, address, overwrite=True)
    assert stored(address) == contents(index_bundle)


def test_what_arrives_otherwise_is_seen(
    index_bundle: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = BucketPrefix.put

    def flips(place: BucketPrefix, folder: Path, names: list[str]) -> None:
        put(place, folder, names)
        if "README.md" in names:
            content = bytearray((folder / "README.md").read_bytes())
            content[0] ^= 1
            place.system.pipe_file(f"{place.root}/README.md", bytes(content))

    monkeypatch.setattr(BucketPrefix, "put", flips)
    with pytest.raises(IntegrityError, match=r"not what was sent at .*README\.md"):
        send(index_bundle, address)
    assert MANIFEST not in stored(address)
    monkeypatch.setattr(BucketPrefix, "put", put)  # the same command again sends what is wrong
    send(index_bundle, address)
    assert stored(address) == contents(index_bundle)


def test_places_that_are_none(index_bundle: Path, bucket: str) -> None:
    with pytest.raises(UsageError, match="no prefix"):
        send(index_bundle, f"s3://{bucket}")
    with pytest.raises(OutputError, match="no such bucket"):
        send(index_bundle, "s3://no-such-bucket/one")
