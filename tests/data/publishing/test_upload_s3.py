"""Bundles in a bucket: a real S3 interface on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import s3fs
from bundles import contents

from mmbind_data.errors import FormatError, IntegrityError, OutputError, UsageError
from mmbind_data.io.digests import BUNDLE_OWN
from mmbind_data.publishing import upload_s3
from mmbind_data.publishing.publish import plan_bundle
from mmbind_data.publishing.remote import publish_remote
from mmbind_data.publishing.upload_s3 import upload_to_bucket
from mmbind_data.publishing.verify import verify
from mmbind_data.spec.bundle import Manifest, ManifestEntry
from mmbind_data.store.bound import open_bound
from mmbind_data.store.root import BUNDLE

MANIFEST, SUMS = BUNDLE_OWN


def entries_of(bundle: Path) -> list[ManifestEntry]:
    manifest = Manifest.model_validate_json((bundle / MANIFEST).read_bytes())
    own = [ManifestEntry(path=name, bytes=(bundle / name).stat().st_size, sha256="0" * 64)
           for name in BUNDLE_OWN]  # fmt: skip
    return [*manifest.files, *own]


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
    plan = plan_bundle(open_bound(bound_store))
    publish_remote(plan, address)
    there = stored(address)
    for name, content in there.items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(content)
        # what opens the bucket is in no document
        for secret in (b"AKIDEXAMPLEKEYONE", b"not/a/real/secret", b"127.0.0.1"):
            assert secret not in content, name
    assert verify(tmp_path / "copy", depth="values") == verify(address, depth="deep") == []
    assert open_bound(address).info.content_digest == plan.bundle.content_digest
    with pytest.raises(OutputError, match="exists already"):
        publish_remote(plan, address)


def test_an_interrupted_upload_is_no_bundle_and_goes_on(
    index_bundle: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = entries_of(index_bundle)
    sent: list[str] = []
    limit = [0]
    put = upload_s3._put

    def breaks(system: object, root: str, folder: Path, names: list[str]) -> None:
        if len(sent) >= limit[0]:
            raise KeyboardInterrupt
        sent.extend(names)
        put(system, root, folder, names)

    monkeypatch.setattr(upload_s3, "_put", breaks)
    monkeypatch.setattr(upload_s3, "AT_ONCE", 4)
    for limit[0] in (4, len(entries) - 4):
        with pytest.raises(KeyboardInterrupt):
            upload_to_bucket(index_bundle, entries, address)
        assert BUNDLE not in stored(address)
        with pytest.raises(FormatError):
            open_bound(address)
    limit[0] = 10**6
    upload_to_bucket(index_bundle, entries, address)
    assert sorted([*sent, SUMS]) == sorted(one.path for one in entries)  # each once
    assert sent[-1] == MANIFEST
    assert stored(address) == contents(index_bundle)


def test_overwrite_replaces_a_bundle_and_nothing_else(
    index_bundle: Path, contained_bundle: Path, address: str
) -> None:
    system = s3fs.S3FileSystem()
    upload_to_bucket(contained_bundle, entries_of(contained_bundle), address)
    beside = f"{address}-other/thesis.txt"
    system.pipe_file(beside, b"thesis")
    small = entries_of(index_bundle)
    with pytest.raises(OutputError, match="exists already"):
        upload_to_bucket(index_bundle, small, address)
    upload_to_bucket(index_bundle, small, address, overwrite=True)
    assert stored(address) == contents(index_bundle)
    assert system.cat_file(beside) == b"thesis"
    foreign = address.replace("one", "two")
    system.pipe_file(f"{foreign}/thesis.txt", b"thesis")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="no bundle that mmbind made"):
            upload_to_bucket(index_bundle, small, foreign, overwrite=overwrite)
    assert stored(foreign) == {"thesis.txt": b"thesis"}


def test_half_an_upload_of_another_bundle_needs_overwrite(
    index_bundle: Path, contained_bundle: Path, address: str
) -> None:
    system = s3fs.S3FileSystem()
    for name in (SUMS, "README.md"):
        system.put_file(str(contained_bundle / name), f"{address}/{name}")
    small = entries_of(index_bundle)
    with pytest.raises(OutputError, match="another bundle was interrupted"):
        upload_to_bucket(index_bundle, small, address)
    upload_to_bucket(index_bundle, small, address, overwrite=True)
    assert stored(address) == contents(index_bundle)


def test_what_arrives_otherwise_is_seen(
    index_bundle: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = upload_s3._put

    def flips(system: s3fs.S3FileSystem, root: str, folder: Path, names: list[str]) -> None:
        put(system, root, folder, names)
        for name in {"README.md"} & set(names):
            content = bytearray((folder / name).read_bytes())
            content[0] ^= 1
            system.pipe_file(f"{root}/{name}", bytes(content))

    monkeypatch.setattr(upload_s3, "_put", flips)
    with pytest.raises(IntegrityError, match=r"not what was sent at .*README\.md"):
        upload_to_bucket(index_bundle, entries_of(index_bundle), address)
    assert MANIFEST not in stored(address)


def test_places_that_are_none(index_bundle: Path, bucket: str) -> None:
    entries = entries_of(index_bundle)
    with pytest.raises(UsageError, match="no prefix"):
        upload_to_bucket(index_bundle, entries, f"s3://{bucket}")
    with pytest.raises(OutputError, match="no such bucket"):
        upload_to_bucket(index_bundle, entries, "s3://no-such-bucket/one")
