"""Local conversions find their place in a bundle by uid, or are told why they do not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bundles import assert_same_samples, contents, make_bundle
from smallstores import edit_pairs, make_world

from mmbind_data.binding.bind import bind
from mmbind_data.errors import FormatError, IntegrityError, OutputError, UsageError
from mmbind_data.io.digests import write_manifest
from mmbind_data.publishing.hydrate import hydrate
from mmbind_data.reports.bound_report import report
from mmbind_data.store.bound import open_bound
from mmbind_data.store.dataset import open_dataset
from mmbind_data.store.differences import diff
from mmbind_data.store.lineage import named_uids, sample_digest
from mmbind_data.store.partitioning import cut, partition
from mmbind_data.store.validation import validate
from mmbind_data.store.writer import write_store
from mmbind_train.data.leak_checks import check_bound
from mmbind_train.data.training_set import gather_bound

A, B = "utd-mhad-a", "utd-mhad-b"


@pytest.fixture(params=["index-only", "self-contained"])
def bundle(request: pytest.FixtureRequest, index_bundle: Path, contained_bundle: Path) -> Path:
    return index_bundle if request.param == "index-only" else contained_bundle


def both(stores: tuple[Path, Path]) -> dict[str, Path]:
    return dict(zip((A, B), stores, strict=True))


def test_round_trip(
    bundle: Path, node_stores: tuple[Path, Path], bound_store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "elsewhere" / "hydrated.zarr"
    info = hydrate(bundle, out, both(node_stores))
    original = open_bound(bound_store)
    assert info.mode == "linked"
    assert info.content_digest == original.info.content_digest
    assert validate(out, level="values") == []
    assert diff(out, bound_store) == diff(bundle, out) == []
    hydrated = open_bound(out)
    # the same store gives the same rows, digit by digit
    assert hydrated.pairs().to_pydict() == original.pairs().to_pydict()
    check_bound(hydrated, method="mmbind")
    rows, wanted = gather_bound(hydrated), gather_bound(original)
    np.testing.assert_array_equal(rows.index, wanted.index)
    for name in wanted.values:
        np.testing.assert_array_equal(rows.values[name], wanted.values[name])
    # labels, which an index-only bundle leaves out, are back for those who have the data
    partners = "eval/partners.parquet"
    assert pq.read_table(out / partners).to_pydict() == (
        pq.read_table(bound_store / partners).to_pydict())  # fmt: skip
    told = report(hydrated, tmp_path / "report.html")
    assert told["pairing_accuracy"] == pytest.approx(original.info.pairing_accuracy, abs=1e-6)
    (again := tmp_path / "elsewhere" / "again.zarr").parent.mkdir(exist_ok=True)
    hydrate(bundle, again, both(node_stores))
    assert contents(again) == contents(out)


def test_a_self_contained_bundle_hydrates_by_itself(
    contained_bundle: Path, node_stores: tuple[Path, Path], bound_store: Path, tmp_path: Path
) -> None:
    digest = open_bound(bound_store).info.content_digest
    assert hydrate(contained_bundle, tmp_path / "o.zarr", {}).content_digest == digest
    assert validate(tmp_path / "o.zarr", level="values") == []
    mixed = hydrate(contained_bundle, tmp_path / "m.zarr", {B: node_stores[1]})
    assert mixed.content_digest == digest
    assert validate(tmp_path / "m.zarr", level="values") == []
    assert open_bound(tmp_path / "m.zarr").source(B).path.resolve() == node_stores[1].resolve()


def test_rows_are_found_by_uid_in_a_larger_store(
    index_bundle: Path, utd_store: Path, node_stores: tuple[Path, Path], bound_store: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Everybody's samples in another order: row numbers all differ, the digest does not."""
    wide = tmp_path / "wide.zarr"
    partition(utd_store, wide, modalities=["acc", "skeleton"])
    out = tmp_path / "hydrated.zarr"
    info = hydrate(index_bundle, out, {A: wide, B: node_stores[1]})
    original = open_bound(bound_store)
    assert info.content_digest == original.info.content_digest
    assert info.sources[0].stored_digest == open_dataset(wide).info.content_digest
    assert info.sources[1].stored_digest is None
    assert validate(out, level="values") == []
    hydrated = open_bound(out)
    assert hydrated.pairs()["acc.row"].to_pylist() != original.pairs()["acc.row"].to_pylist()
    assert_same_samples(gather_bound(hydrated), gather_bound(original))
    check_bound(hydrated, method="mmbind")
    # and it can be published and hydrated again
    again = tmp_path / "again"
    assert make_bundle(out, again, allowed=False).content_digest == info.content_digest
    third = hydrate(again, tmp_path / "third.zarr", both(node_stores))
    assert third.content_digest == info.content_digest
    assert diff(tmp_path / "third.zarr", bound_store) == []


def test_people_who_were_not_bound_do_not_count_as_seen(tmp_path: Path) -> None:
    """Though they lie in the store that is attached: they may serve as a test."""
    world = make_world(tmp_path)
    make_bundle(world.bound, tmp_path / "bundle", allowed=False)
    partition(world.full, tmp_path / "wide.zarr", modalities=["acc", "skeleton"])
    places = {"small-A": tmp_path / "wide.zarr", "small-B": world.B}
    hydrate(tmp_path / "bundle", tmp_path / "back.zarr", places)
    rows = gather_bound(open_bound(tmp_path / "back.zarr"))
    assert rows.subjects == gather_bound(open_bound(world.bound)).subjects
    assert rows.subjects == {"small": ("1", "2", "3", "4")}


def test_a_store_may_not_hold_what_the_node_lacks(
    index_bundle: Path, utd_store: Path, node_stores: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(FormatError, match=r"holds what utd-mhad-a lacks.*also gyro.*partition"):
        hydrate(index_bundle, tmp_path / "o.zarr", {A: utd_store, B: node_stores[1]})
    assert list(tmp_path.iterdir()) == []


def test_missing_sources_are_told_with_their_commands(
    index_bundle: Path, node_stores: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(FormatError) as caught:
        hydrate(index_bundle, tmp_path / "o.zarr", {A: node_stores[0]})
    part = "mmbind partition utd-mhad.zarr b.zarr --subjects 3 --modalities acc,gyro"
    whole = "mmbind convert utd-mhad RAW"
    for words in ("expected 2 sources, got 1", f"--source {B}=STORE", whole, part):
        assert words in str(caught.value)
    with pytest.raises(UsageError, match="Did you mean utd-mhad-a"):
        hydrate(index_bundle, tmp_path / "o.zarr", {"utd-mhad-A": node_stores[0]})
    with pytest.raises(FormatError, match=r"index-only.*mmbind hydrate"):
        open_bound(index_bundle).source(A)
    assert list(tmp_path.iterdir()) == []


def test_missing_samples_are_counted_and_named(
    index_bundle: Path, node_stores: tuple[Path, Path], utd_store: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.zarr"
    partition(utd_store, other, subjects=["3"], modalities=["acc", "skeleton"])
    n = len(open_dataset(node_stores[0]))
    with pytest.raises(FormatError) as caught:
        hydrate(index_bundle, tmp_path / "o.zarr", {A: other, B: node_stores[1]})
    uid = min(open_dataset(node_stores[0]).samples()["uid"].to_pylist())
    for words in (
        f"samples of utd-mhad-a are missing at {other}: expected {n} samples",
        f"got 0; {n} uids are not there: {uid}",
        "mmbind convert utd-mhad RAW",
    ):
        assert words in str(caught.value)


def changed_store(store: Path, out: Path, *, modality: str, row: int, by: float) -> Path:
    """The same samples with one value changed, written by all rules."""
    opened = open_dataset(store)
    content = cut(opened, np.arange(len(opened)), list(opened.info.modalities), command="test")

    def blocks(name: str) -> object:
        values = opened.load(name)
        if name == modality:
            values[row].ravel()[0] += by
        yield values

    write_store(out, replace(content, blocks=blocks))  # type: ignore[arg-type]
    return out


def test_other_values_under_the_same_uids(
    index_bundle: Path, node_stores: tuple[Path, Path], tmp_path: Path
) -> None:
    swapped = changed_store(node_stores[0], tmp_path / "s.zarr", modality="acc", row=3, by=1e-3)
    assert validate(swapped, level="values") == []
    with pytest.raises(IntegrityError, match="other values under the uids of utd-mhad-a"):
        hydrate(index_bundle, tmp_path / "o.zarr", {A: swapped, B: node_stores[1]})
    same = changed_store(node_stores[0], tmp_path / "t.zarr", modality="acc", row=3, by=0.0)
    hydrate(index_bundle, tmp_path / "o.zarr", {A: same, B: node_stores[1]})


def test_another_dataset_or_shape(
    index_bundle: Path, node_stores: tuple[Path, Path], motionsense_store: Path, tmp_path: Path
) -> None:
    with pytest.raises(FormatError, match=r"another dataset.*expected utd-mhad, got motionsense"):
        hydrate(index_bundle, tmp_path / "o.zarr", {A: motionsense_store, B: node_stores[1]})
    with pytest.raises(FormatError, match=r"skeleton is not that of utd-mhad-a.*no such modality"):
        hydrate(index_bundle, tmp_path / "o.zarr", {A: node_stores[1], B: node_stores[1]})


def test_a_damaged_bundle_is_not_hydrated(
    index_bundle: Path, node_stores: tuple[Path, Path], tmp_path: Path
) -> None:
    copy = shutil.copytree(index_bundle, tmp_path / "bundle")
    edit_pairs(copy / "bound.zarr", {"weight": {0: 0.5}})
    with pytest.raises(IntegrityError, match=r"damaged.*bound.zarr/meta/pairs.parquet"):
        hydrate(copy, tmp_path / "o.zarr", both(node_stores))
    # by somebody who writes the manifests anew: the digest of the content tells
    write_manifest(copy / "bound.zarr")
    write_manifest(copy, own=("MANIFEST.json", "SHA256SUMS"))
    with pytest.raises(IntegrityError, match="not those that were published"):
        hydrate(copy, tmp_path / "o.zarr", both(node_stores))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]


def test_outputs_in_the_way(
    index_bundle: Path, node_stores: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match="inside"):
        hydrate(index_bundle, index_bundle / "o.zarr", both(node_stores))
    out = tmp_path / "o.zarr"
    hydrate(index_bundle, out, both(node_stores))
    with pytest.raises(OutputError, match="exists already"):
        hydrate(index_bundle, out, both(node_stores))
    hydrate(index_bundle, out, both(node_stores), overwrite=True)


def test_sample_digest_tells_samples_not_stores(utd_store: Path, tmp_path: Path) -> None:
    """By uid: order and company do not count, a value, a uid or a unit does."""
    partition(utd_store, tmp_path / "one.zarr", subjects=["3"], modalities=["acc"])
    whole, part = open_dataset(utd_store), open_dataset(tmp_path / "one.zarr")
    uids = pa.array(part.samples()["uid"].to_pylist())
    digest = sample_digest(part, {"acc": uids, "": uids})
    assert sample_digest(whole, {"acc": uids}) == digest
    assert sample_digest(whole, {"acc": uids[::-1]}) == digest
    assert sample_digest(whole, {"acc": uids[1:]}) != digest
    assert sample_digest(whole, {"gyro": uids}) != digest
    changed = changed_store(tmp_path / "one.zarr", tmp_path / "c.zarr", modality="acc", row=0, by=1)
    assert sample_digest(open_dataset(changed), {"acc": uids}) != digest


def test_bindings_of_more_than_two_stores(tmp_path: Path) -> None:
    """Several hops, and a bound store bound again: published, hydrated, equal."""
    world = make_world(tmp_path)
    bind([world.bound, world.C], tmp_path / "three.zarr", shared="skeleton")
    made = make_bundle(tmp_path / "three.zarr", tmp_path / "bundle", allowed=True)
    names = {one.source_id: tmp_path / f"{one.source_id[-1]}.zarr" for one in made.sources}
    assert len(names) == 3
    info = hydrate(tmp_path / "bundle", tmp_path / "back.zarr", names)
    assert info.content_digest == open_bound(tmp_path / "three.zarr").info.content_digest
    assert diff(tmp_path / "back.zarr", tmp_path / "three.zarr") == []
    first = made.sources[0].source_id
    named = named_uids(open_bound(tmp_path / "bundle").pairs(), info.modalities, first)
    assert set(named) == {"", "acc", "skeleton"}
    document = json.loads((tmp_path / "bundle/bound.zarr/meta/sources.json").read_text())
    assert [one["path"] for one in document] == ["A.zarr", "B.zarr", "C.zarr"]
