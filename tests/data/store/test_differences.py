"""What differs is told by where and how often; what does not matter is not told."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from bundles import make_bundle
from smallstores import edit_pairs, make_world, write_small_store

from mmbind_data.binding.bind import bind
from mmbind_data.binding.options import BindOptions
from mmbind_data.errors import FormatError, UsageError
from mmbind_data.publishing.versioning import change_since, choose_version
from mmbind_data.store.bound import open_bound
from mmbind_data.store.differences import Difference, diff
from mmbind_data.store.partitioning import partition


def places(found: list[Difference]) -> list[str]:
    return [one.where for one in found]


def test_equal_stores(utd_store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.zarr"
    partition(utd_store, copy)
    assert diff(utd_store, copy) == diff(utd_store, utd_store) == []


def test_samples_and_modalities(node_stores: tuple[Path, Path], utd_store: Path) -> None:
    found = diff(node_stores[0], utd_store)
    assert [(one.where, one.what, one.a, one.b.split(":")[0]) for one in found] == [
        ("modalities", "modalities in B only", "0", "2"),
        ("meta/samples.parquet", "samples in B only", "0", "15"),
    ]


def test_values_presence_and_labels(tmp_path: Path) -> None:
    names = ("a", "noisy", "absent", "other")
    a, noisy, absent, other = (tmp_path / f"{name}.zarr" for name in names)
    for path in (a, noisy):
        write_small_store(path, noise=0.1 if path == a else 0.2)
    write_small_store(absent, missing={"gyro": (4, 7)})
    write_small_store(other, labels=("clap", "punch", "wave"))
    found = diff(a, noisy)
    assert places(found) == [f"modalities/{name}/data" for name in ("acc", "gyro", "skeleton")]
    assert found[0].what == "values of 54 samples differ, the first small-0-0-0"
    (found_absent,) = diff(a, absent)
    assert found_absent.where == "modalities/gyro/valid"
    assert found_absent.what == "2 samples, the first small-0-1-1"
    assert (found_absent.a, found_absent.b) == ("there", "absent")
    (found_label,) = diff(a, other)
    assert found_label.where == "meta/samples.parquet label_text"
    assert found_label.what == "18 samples differ, the first small-0-1-0"
    assert (found_label.a, found_label.b) == ("kick", "punch")


def test_shapes_are_told_and_not_compared(tmp_path: Path) -> None:
    write_small_store(tmp_path / "a.zarr")
    write_small_store(tmp_path / "b.zarr", frames={"acc": 20, "gyro": 24, "skeleton": 12})
    assert "modalities/acc" in places(diff(tmp_path / "a.zarr", tmp_path / "b.zarr"))


def test_bound_stores(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    copy = shutil.copytree(world.bound, tmp_path / "copy.zarr")
    assert diff(world.bound, copy) == []
    edit_pairs(copy, {"weight": {3: 9.0}, "gyro.row": {5: 0}})
    found = diff(world.bound, copy)  # a row number says nothing: the uid counts
    uid = open_bound(copy).pairs()["anchor_uid"][3].as_py()
    assert [(one.where, one.what, one.b) for one in found] == [
        ("meta/pairs.parquet weight", f"1 rows differ, the first about {uid}", "9.0")]  # fmt: skip
    table = pq.read_table(copy / "meta/pairs.parquet")
    pq.write_table(table.slice(2), copy / "meta/pairs.parquet")
    assert diff(world.bound, copy)[0].what == "rows in A only"
    assert diff(copy, world.bound)[0].what == "rows in B only"
    assert diff(world.bound, copy)[0].a.startswith("2: pseudo small-0-0-0 acc 0 0 1")
    bind([world.A, world.B], tmp_path / "default.zarr", shared="acc", options=BindOptions())
    told = places(diff(world.bound, tmp_path / "default.zarr"))
    assert "zarr.json binder" in told
    assert "meta/pairs.parquet similarity" in told


def test_kinds_are_not_mixed(bound_store: Path, utd_store: Path) -> None:
    with pytest.raises(FormatError, match=r"different kinds.*mmbind-bound, got mmbind-dataset"):
        diff(bound_store, utd_store)


def test_point_clouds(tmp_path: Path) -> None:
    from stores import write_coded

    for name in "ab":
        write_coded(tmp_path / f"{name}.zarr", 9, absent=(2,))
    assert diff(tmp_path / "a.zarr", tmp_path / "b.zarr") == []


def test_versions_rise_by_what_changed(tmp_path: Path) -> None:
    """The same pairs: PATCH; more rows, no other changed: MINOR; anything else: MAJOR."""
    world = make_world(tmp_path)
    same = tmp_path / "same.zarr"
    bind([world.A, world.B], same, shared="acc", options=_plain())
    more = tmp_path / "more.zarr"  # a third store that nothing of the first two is joined with
    old = tmp_path / "old"
    make_bundle(world.bound, old, allowed=False, data_version="1.4.2")
    changed = tmp_path / "changed.zarr"
    bind([world.A, world.B], changed, shared="acc", options=BindOptions())
    for path, change, version in ((same, "patch", "1.4.3"), (changed, "major", "2.0.0")):
        assert change_since(open_bound(old), open_bound(path)) == change
        assert choose_version(open_bound(path), None, old) == version
    _append_row(world.bound, more)
    assert change_since(open_bound(old), open_bound(more)) == "minor"
    assert choose_version(open_bound(more), None, old) == "1.5.0"
    assert choose_version(open_bound(more), "1.7.0", old) == "1.7.0"
    assert choose_version(open_bound(more), None, None) == "1.0.0"
    with pytest.raises(UsageError, match=r"rows were added.*1\.5\.0 or higher, after 1\.4\.2"):
        choose_version(open_bound(more), "1.4.9", old)
    with pytest.raises(UsageError, match=r"rows were changed.*2\.0\.0 or higher"):
        choose_version(open_bound(changed), "1.99.0", old)
    # taken away is changed
    assert change_since(open_bound(more), open_bound(world.bound)) == "major"


def _plain() -> BindOptions:
    from plain import PLAIN

    return PLAIN


def _append_row(bound: Path, out: Path) -> None:
    """The last incomplete row once more, as a second rank: one row more, none changed."""
    shutil.copytree(bound, out)
    table = pq.read_table(out / "meta/pairs.parquet")
    import pyarrow as pa

    last = table.slice(len(table) - 1)
    place = table.column_names.index("rank")
    last = last.set_column(place, "rank", pa.array(np.array([1], dtype=np.int16)))
    pq.write_table(pa.concat_tables([table, last]), out / "meta/pairs.parquet")
