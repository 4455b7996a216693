"""Whoever changes a byte is named: in each file of bundles and stores, one after the other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from smallstores import edit_pairs

from mmbind_data.errors import FormatError
from mmbind_data.io.digests import BUNDLE_OWN, write_manifest
from mmbind_data.publishing.hydrate import hydrate
from mmbind_data.publishing.verify import verify
from mmbind_data.store.bound import open_bound
from mmbind_data.store.partitioning import partition


def files_of(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def flip(path: Path, place: int) -> bytes:
    """Change one bit, give what was there."""
    before = path.read_bytes()
    changed = bytearray(before)
    changed[place] ^= 1
    path.write_bytes(changed)
    return before


@pytest.mark.parametrize("kind", ["index_bundle", "contained_bundle", "bound_store", "utd_store"])
def test_one_flipped_bit_is_found_in_every_file(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    original: Path = request.getfixturevalue(kind)
    copy = shutil.copytree(original, tmp_path / original.name)
    if kind == "bound_store":
        for name in "ab":
            shutil.copytree(original.parent / f"{name}.zarr", tmp_path / f"{name}.zarr")
    assert verify(copy, depth="values") == []
    names = files_of(copy)
    assert len(names) > 10
    for number, name in enumerate(names):
        size = (copy / name).stat().st_size
        for place in {0, size // 2, size - 1} if number % 5 == 0 else {size // 2}:
            before = flip(copy / name, place)
            found = verify(copy, depth="deep")
            assert [one.where for one in found] == [name], (name, place, found)
            (copy / name).write_bytes(before)
    assert verify(copy, depth="deep") == []


def test_fast_finds_what_sizes_and_names_tell(contained_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(contained_bundle, tmp_path / "bundle")
    shard = next(copy.rglob("acc/data/c/0/0/0"))
    name = shard.relative_to(copy).as_posix()
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    assert [(one.code, one.where) for one in verify(copy)] == [("file-changed", name)]
    shard.unlink()
    assert [(one.code, one.where) for one in verify(copy)] == [("file-missing", name)]
    shard.write_bytes(content)
    (copy / "extra.txt").write_text("hello")
    assert [(one.code, one.where) for one in verify(copy)] == [("file-unknown", "extra.txt")]
    (copy / "extra.txt").unlink()
    assert verify(copy) == []
    for own in BUNDLE_OWN:
        held = (copy / own).read_bytes()
        (copy / own).unlink()
        assert [(one.code, one.where) for one in verify(copy)] == [("file-missing", own)]
        (copy / own).write_bytes(held)
    # a byte that says nothing is one that changed, too
    held = (copy / "MANIFEST.json").read_bytes()
    (copy / "MANIFEST.json").write_bytes(held.replace(b"\n", b" ", 1))
    assert [(one.code, one.where) for one in verify(copy)] == [
        ("manifest-changed", "MANIFEST.json")
    ]
    (copy / "MANIFEST.json").write_bytes(held)
    # a size that was forged in the manifest: the manifest is to blame, not the file
    manifest = json.loads((copy / "MANIFEST.json").read_text())
    manifest["files"][0]["bytes"] += 1
    (copy / "MANIFEST.json").write_text(json.dumps(manifest, indent=1) + "\n")
    for depth in ("fast", "deep"):
        found = verify(copy, depth=depth)
        assert [(one.code, one.where) for one in found] == [("manifest-changed", "MANIFEST.json")]


def rewrite_manifests(bundle: Path) -> None:
    """What a careful forger does."""
    for inner in sorted(bundle.glob("bound.zarr/sources/*")):
        write_manifest(inner) if (inner / "meta").is_dir() else None
    write_manifest(bundle / "bound.zarr")
    write_manifest(bundle, own=BUNDLE_OWN)


def edit_weight(bundle: Path) -> None:
    edit_pairs(bundle / "bound.zarr", {"weight": {2: 7.0}})


def remove_row(bundle: Path) -> None:
    place = bundle / "bound.zarr/meta/pairs.parquet"
    pq.write_table(pq.read_table(place).slice(1), place)


def swap_partner(bundle: Path) -> None:
    table = pq.read_table(bundle / "bound.zarr/meta/pairs.parquet")
    uids, rows = table["gyro.uid"].to_pylist(), table["gyro.row"].to_pylist()
    first = next(n for n, uid in enumerate(uids) if uid)
    other = next(n for n, uid in enumerate(uids) if uid and uid != uids[first])
    edit_pairs(bundle / "bound.zarr", {"gyro.uid": {first: uids[other]},
                                       "gyro.row": {first: rows[other]}})  # fmt: skip


def swap_source(bundle: Path) -> None:
    inner = bundle / "bound.zarr/sources"
    shutil.rmtree(inner / "utd-mhad-a")
    shutil.copytree(inner / "utd-mhad-b", inner / "utd-mhad-a")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (edit_weight, "bound.zarr/meta/pairs.parquet"),
        (remove_row, "bound.zarr/meta/pairs.parquet"),
        (swap_partner, "bound.zarr/meta/pairs.parquet"),
        (swap_source, "bound.zarr/sources/utd-mhad-a"),
    ],
)
def test_tampering_is_named(
    contained_bundle: Path, tmp_path: Path, change: Callable[[Path], None], where: str
) -> None:
    copy = shutil.copytree(contained_bundle, tmp_path / "bundle")
    change(copy)
    found = verify(copy, depth="deep")
    assert found
    assert all(one.where.startswith(where) for one in found), found
    rewrite_manifests(copy)
    found = verify(copy, depth="values")
    assert found
    assert any(part in one.where for one in found for part in (where, "utd-mhad-a")), found


def test_sources_of_linked_and_hydrated_stores(
    index_bundle: Path, node_stores: tuple[Path, Path], utd_store: Path, tmp_path: Path
) -> None:
    for path in node_stores:
        shutil.copytree(path, tmp_path / path.name)
    out = tmp_path / "hydrated.zarr"
    places = {f"utd-mhad-{name}": tmp_path / f"{name}.zarr" for name in "ab"}
    hydrate(index_bundle, out, places)
    for depth in ("fast", "deep", "values"):
        assert verify(out, depth=depth) == []
    shard = next((tmp_path / "a.zarr").rglob("acc/data/c/0/0/0"))
    before = flip(shard, 40)
    assert verify(out) == []
    (found,) = verify(out, depth="deep")
    assert (found.code, found.where) == ("file-changed", str(shard))
    shard.write_bytes(before)
    # another store in the place of the source
    partition(utd_store, tmp_path / "a.zarr", subjects=["3"], modalities=["acc", "skeleton"],
              overwrite=True)  # fmt: skip
    (found,) = verify(out)
    assert (found.code, found.where) == ("source-differs", "utd-mhad-a")
    assert "another store than the one that was bound" in found.message
    assert verify(out, sources={"utd-mhad-a": node_stores[0]}) == []
    shutil.rmtree(tmp_path / "a.zarr")
    (found,) = verify(out)
    assert (found.code, found.where) == ("source-differs", "utd-mhad-a")


def test_values_are_compared_with_what_was_published(
    contained_bundle: Path, tmp_path: Path
) -> None:
    """Samples changed and every digest written anew but that of the samples."""
    copy = shutil.copytree(contained_bundle, tmp_path / "bundle")
    bound = open_bound(copy)
    place = copy / "bound.zarr/zarr.json"
    digest = bound.info.sources[0].sample_digest
    assert digest is not None
    place.write_text(place.read_text().replace(digest, "0" * 64))
    rewrite_manifests(copy)
    assert [one.where for one in verify(copy, depth="values")] == [
        "bound.zarr/sources/utd-mhad-a/meta/pairs.parquet"]  # fmt: skip


def test_nothing_to_verify(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="neither a bundle nor a store"):
        verify(tmp_path)


def test_a_store_of_a_bundle_stays_within_it(index_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(index_bundle, tmp_path / "bundle")
    document = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps({**document, "store": "../other.zarr"}))
    with pytest.raises(FormatError, match="a store outside of it"):
        open_bound(copy)
    (copy / "bundle.json").write_text("{}")
    with pytest.raises(FormatError, match=r"cannot open a bundle: missing field at .*bundle.json"):
        open_bound(copy)
