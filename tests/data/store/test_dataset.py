"""Stores on disk: coded values come back in every order, and damage is never read as data."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from stores import LABELS, MODALITIES, SUBJECTS, coded, content, write_coded

from mmbind_data.errors import FormatError, IntegrityError
from mmbind_data.spec.store import DatasetInfo
from mmbind_data.store import dataset as layout
from mmbind_data.store import writer
from mmbind_data.store.bound import BoundDataset, open_bound, open_store
from mmbind_data.store.dataset import Dataset, data_path, open_dataset, valid_path
from mmbind_data.store.root import read_info
from mmbind_data.store.writer import chunk_rows, digest_facts, regroup, shard_rows, write_store

N = 21
ABSENT = (0, 5, 6, 20)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "READ_BYTES", 300)


def use_small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows of acc per chunk and eight per shard."""
    monkeypatch.setattr(writer, "MIN_CHUNK_BYTES", 120)
    monkeypatch.setattr(writer, "MAX_CHUNK_ROWS", 4)
    monkeypatch.setattr(writer, "MAX_SHARD_BYTES", 480)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A store of three shards, for reading only."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_small_shards(monkeypatch)
        return write_coded(tmp_path_factory.mktemp("m") / "s.zarr", N, absent=ABSENT, block=5)


@pytest.fixture
def own(store: Dataset, tmp_path: Path) -> Dataset:
    """A copy of `store` to damage."""
    return open_dataset(shutil.copytree(store.path, tmp_path / "own.zarr"))


def expected(modality: str, rows: np.ndarray) -> np.ndarray:
    values = coded(modality, rows)
    if modality == "depth":
        values[np.isin(rows, ABSENT)] = np.nan
    return values


def shards(store: Dataset, modality: str) -> list[Path]:
    return sorted(
        path for path in (store.path / data_path(modality)).glob("c/**/*") if path.is_file()
    )


def test_small_shards_are_many(store: Dataset) -> None:
    assert len(shards(store, "acc")) == 3
    assert store.group[data_path("acc")].chunks == (2, 5, 3)  # type: ignore[union-attr]


@pytest.mark.parametrize("modality", MODALITIES)
def test_all_values_come_back(store: Dataset, modality: str) -> None:
    got = store.load(modality)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, expected(modality, np.arange(N)))
    assert store.info.modalities == MODALITIES
    assert len(store) == N


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize(
    "rows",
    [
        slice(None),
        slice(3, 11),
        slice(-4, None),
        slice(15, 3),
        slice(0, 99),
        slice(2, 20, 5),
        slice(None, None, -3),
        np.array([], dtype=np.int64),
        np.array([20]),
        np.array([7, 8, 7, 0, 20, 7]),
        np.arange(N)[::-1],
        np.array([3, 1], dtype=np.uint8),
    ],
)
def test_rows_come_in_the_order_asked_for(
    store: Dataset, modality: str, rows: np.ndarray | slice
) -> None:
    np.testing.assert_array_equal(
        store.load(modality, rows), expected(modality, np.arange(N)[rows])
    )


@pytest.mark.usefixtures("small_blocks")
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=npst.arrays(np.int64, st.integers(0, 40), elements=st.integers(0, N - 1)))
def test_any_rows_in_any_order(store: Dataset, rows: np.ndarray) -> None:
    np.testing.assert_array_equal(store.load("depth", rows), expected("depth", rows))


def test_what_lies_between_rows_far_apart_is_not_read(tmp_path: Path) -> None:
    """A chunk in the middle is damaged: rows before and after it are read all the same."""
    n = 30_000  # 1.8 MB of acc
    store = write_coded(tmp_path / "s.zarr", n, block=1000)
    whole = store.load("acc")
    (shard,) = shards(store, "acc")
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(bytes(damaged))
    rows = np.array([n - 1, 0, 1, n - 1])
    np.testing.assert_array_equal(store.load("acc", rows), whole[rows])
    with pytest.raises(IntegrityError, match="damaged data"):  # one reading is faster than two
        store.load("acc", [2_000, 18_000])


@pytest.mark.parametrize("rows", [np.array([0, N]), np.array([-1]), np.ones(N, dtype=bool)])
def test_rows_that_do_not_exist_are_an_error_and_never_some_memory(
    store: Dataset, rows: np.ndarray
) -> None:
    with pytest.raises(IndexError, match="row numbers 0 to 20"):
        store.load("acc", rows)


def test_masks_columns_and_names(store: Dataset) -> None:
    assert store.present("acc").all()
    np.testing.assert_array_equal(store.present("depth"), ~np.isin(np.arange(N), ABSENT))
    assert store.present("depth").dtype == bool
    label = store.column("label")
    assert label.dtype == np.int32
    for row in range(N):
        assert label[row] == (-1 if row % 7 == 6 else row % 3)
    assert store.names("label") == LABELS
    assert [store.names("subject")[code] for code in store.column("subject")[[0, 10, 20]]] == [
        *SUBJECTS
    ]
    np.testing.assert_array_equal(store.column("placement"), np.full(N, -1))
    table = store.samples()
    assert table["row"].to_pylist() == list(range(N))
    assert table["label_text"][5].as_py() == "sit"
    assert table["label_text"][6].as_py() is None


def test_one_shard_holds_all_by_default(tmp_path: Path) -> None:
    store = write_coded(tmp_path / "s.zarr", N, absent=ABSENT)
    assert len(shards(store, "depth")) == 1
    np.testing.assert_array_equal(store.load("depth"), expected("depth", np.arange(N)))


def test_content_digest_does_not_see_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_small_shards(monkeypatch)
    infos = [write_store(tmp_path / "a", content(N, absent=ABSENT))]
    monkeypatch.setattr(writer, "MAX_SHARD_BYTES", 32 << 20)
    infos.append(write_store(tmp_path / "b", content(N, absent=ABSENT, block=N)))
    monkeypatch.setattr(writer, "MIN_CHUNK_BYTES", 128 << 10)
    infos.append(write_store(tmp_path / "c", content(N, absent=ABSENT, block=1)))
    assert len({info.content_digest for info in infos}) == 1
    assert len({len(list((tmp_path / name).rglob("*"))) for name in "ab"}) == 2
    others = [content(N, absent=ABSENT[:-1]), content(N - 1, absent=ABSENT)]
    digests = {write_store(tmp_path / f"o{i}", one).content_digest for i, one in enumerate(others)}
    assert len(digests | {infos[0].content_digest}) == 3


def test_same_content_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_coded(tmp_path / name, N, absent=ABSENT, block=ord(name) - 90)
    files = sorted(path for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) > 20
    for path in files:
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_announced_and_given_rows_must_agree(tmp_path: Path) -> None:
    short = content(N)

    def blocks(modality: str) -> Iterator[np.ndarray]:
        yield coded(modality, range(N - 1))

    with pytest.raises(ValueError, match="20 rows given, 21 announced"):
        write_store(tmp_path / "s", writer.StoreContent(**{**short.__dict__, "blocks": blocks}))


@pytest.mark.parametrize(
    ("row_bytes", "rows"), [(4, 1024), (1200, 128), (1440, 128), (307200, 1), (128 << 10, 1)]
)
def test_chunks_hold_at_least_128_kib_within_1_to_1024_rows(row_bytes: int, rows: int) -> None:
    assert chunk_rows(row_bytes) == rows
    assert rows == 1024 or rows * row_bytes >= 128 << 10
    assert rows == 1 or rows // 2 * row_bytes < 128 << 10


@given(row_bytes=st.integers(1, 1 << 22), n_rows=st.integers(1, 10**6))
def test_shards_are_whole_chunks_of_at_most_32_mib(row_bytes: int, n_rows: int) -> None:
    shard, chunk = shard_rows(row_bytes, n_rows), chunk_rows(row_bytes)
    assert shard % chunk == 0
    assert shard * row_bytes <= 32 << 20
    assert shard >= n_rows or shard * row_bytes * 2 > 32 << 20
    assert shard == chunk or shard < 2 * n_rows


@given(sizes=st.lists(st.integers(0, 9), max_size=8), n=st.integers(1, 7))
def test_regroup_keeps_all_rows_in_order(sizes: list[int], n: int) -> None:
    rows = np.arange(sum(sizes))
    blocks = list(regroup(np.split(rows, np.cumsum(sizes)[:-1]) if sizes else [], n))
    np.testing.assert_array_equal(np.concatenate([*blocks, rows[:0]]), rows)
    assert all(len(block) == n for block in blocks[:-1])
    assert not blocks or 1 <= len(blocks[-1]) <= n


@pytest.mark.usefixtures("small_blocks")
def test_a_deleted_shard_is_an_error_where_it_is_needed(own: Dataset) -> None:
    shards(own, "acc")[1].unlink()
    np.testing.assert_array_equal(own.load("acc", slice(0, 8)), coded("acc", range(8)))
    np.testing.assert_array_equal(own.load("acc", np.array([20, 1])), coded("acc", [20, 1]))
    for rows in (None, slice(8, 9), np.array([0, 15])):
        with pytest.raises(IntegrityError, match=r"file is missing.*c/1/0/0"):
            own.load("acc", rows)


@pytest.mark.parametrize("what", ["present", "label"])
def test_a_deleted_mask_or_column_is_an_error(own: Dataset, what: str) -> None:
    path = valid_path("depth") if what == "present" else "label"
    for file in (own.path / path / "c").rglob("*"):
        if file.is_file():
            file.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        own.present("depth") if what == "present" else own.column("label")


def test_every_flipped_byte_is_an_error(own: Dataset) -> None:
    path = shards(own, "acc")[1]
    intact = path.read_bytes()
    assert 200 < len(intact) < 2000
    # every third of the data, all of the index behind it
    for position in [*range(0, len(intact) - 80, 3), *range(len(intact) - 80, len(intact))]:
        broken = bytearray(intact)
        broken[position] ^= 0x10
        path.write_bytes(bytes(broken))
        with pytest.raises(IntegrityError, match="damaged data"):
            own.load("acc", slice(8, 16))
    path.write_bytes(intact)
    np.testing.assert_array_equal(own.load("acc", slice(8, 16)), coded("acc", range(8, 16)))


@pytest.mark.parametrize("kept", [0, 1, 3, 4, 50, 68, -70, -5, -1])
def test_a_truncated_shard_is_an_error(own: Dataset, kept: int) -> None:
    path = shards(own, "acc")[1]
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(IntegrityError):
        own.load("acc", slice(8, 16))


def test_a_broken_table_is_an_error(own: Dataset) -> None:
    (own.path / layout.SAMPLES).write_bytes(b"PAR1 no more")
    with pytest.raises(IntegrityError, match=r"samples\.parquet"):
        own.samples()
    (own.path / layout.SAMPLES).unlink()
    with pytest.raises(IntegrityError, match=r"samples\.parquet"):
        own.samples()


def test_unknown_names_are_refused_with_a_suggestion(store: Dataset) -> None:
    for read in (store.load, store.present):
        with pytest.raises(FormatError, match=r"expected one of acc, depth.*Did you mean depth"):
            read("deph")
    for name in ("labels", "modalities"):
        with pytest.raises(FormatError, match="array missing"):
            store.column(name)


@pytest.mark.parametrize(
    ("form", "got"),
    [
        ("nothing", "got nothing"),
        ("file", "got a file"),
        ("folder", "got a folder without it"),
        ("json", "without mmbind's attributes"),
        ("zarr", "without mmbind's attributes"),
        ("list", "of another shape"),
    ],
)
def test_what_is_no_store_is_one_sentence(tmp_path: Path, form: str, got: str) -> None:
    path = tmp_path / "x.zarr"
    if form == "file":
        path.write_text("")
    elif form != "nothing":
        path.mkdir()
    if form == "json":
        (path / "zarr.json").write_text("{")
    elif form == "list":
        (path / "zarr.json").write_text('{"attributes": {"mmbind": []}}')
    elif form == "zarr":
        zarr.create_group(path, overwrite=True)
    for read in (open_dataset, open_bound, open_store, read_info):
        with pytest.raises(FormatError, match=got):
            read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spec_version": "2.0"}, "mmbind-dataset 2.0"),
        ({"spec": "other"}, "unknown specification"),
        ({"n_samples": -1}, "bad value at n_samples in .*zarr.json"),
        ({"surprise": 1}, "unknown field at surprise in .*zarr.json"),
    ],
)
def test_attributes_of_another_time_are_refused(
    own: Dataset, change: dict[str, object], message: str
) -> None:
    document = json.loads((own.path / "zarr.json").read_text())
    document["attributes"]["mmbind"] |= change
    (own.path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(FormatError, match=message):
        open_dataset(own.path)


def test_the_wrong_kind_of_store_is_named(store: Dataset, bound_store: Path) -> None:
    with pytest.raises(
        FormatError, match=r"expected mmbind-bound, got mmbind-dataset.*mmbind bind"
    ):
        open_bound(store.path)
    with pytest.raises(FormatError, match="expected mmbind-dataset, got mmbind-bound"):
        open_dataset(bound_store)
    assert isinstance(open_store(store.path), Dataset)
    assert isinstance(open_store(bound_store), BoundDataset)


def test_an_open_store_survives_pickling(store: Dataset) -> None:
    store.load("acc", slice(0, 1))
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again.load("acc"), store.load("acc"))
    assert again.info == store.info


def test_sources_are_found_moved_and_told_apart(
    tmp_path: Path, bound_store: Path, node_stores: tuple[Path, Path]
) -> None:
    bound = open_bound(bound_store)
    first, second = (source.source_id for source in bound.info.sources)
    assert bound.source(first).info == open_dataset(node_stores[0]).info
    assert bound.source(second).info == open_dataset(node_stores[1]).info
    with pytest.raises(FormatError, match="unknown source id"):
        bound.source("someone")
    moved = shutil.copytree(bound_store, tmp_path / "elsewhere" / "b.zarr")
    with pytest.raises(FormatError, match=rf"--source {first}=PATH.*mmbind convert utd-mhad"):
        open_bound(moved).source(first)
    found = open_bound(moved, sources={first: node_stores[0], second: node_stores[0]})
    assert len(found.source(first)) == len(bound.source(first))
    with pytest.raises(FormatError, match="another store than the one that was bound"):
        found.source(second)
    with pytest.raises(FormatError, match="unknown source id"):
        open_bound(bound_store, sources={"someone": node_stores[0]})


def test_a_link_to_a_bound_store_finds_its_sources(tmp_path: Path, bound_store: Path) -> None:
    (tmp_path / "link").symlink_to(bound_store)
    bound = open_bound(tmp_path / "link")
    assert len(bound.source(bound.info.sources[0].source_id))


def test_xarray_opens_every_group_with_the_right_values(store: Dataset) -> None:
    with xarray.open_zarr(store.path) as root:
        np.testing.assert_array_equal(root["label"], store.column("label"))
        assert root["label"].dtype == np.int32  # -1 is a code, not a hole
        assert root["subject"].attrs["names"] == list(SUBJECTS)
        assert root.attrs["mmbind"]["dataset_id"] == "coded"
    with xarray.open_zarr(store.path, group="modalities/depth") as group:
        assert group["data"].dims == ("sample", "time", "height", "width")
        np.testing.assert_array_equal(group["data"], expected("depth", np.arange(N)))
        np.testing.assert_array_equal(group["valid"], store.present("depth"))
        assert group.attrs["unit"] == "m"


def test_xarray_opens_the_tree(store: Dataset) -> None:
    with xarray.open_datatree(store.path, engine="zarr") as tree:
        np.testing.assert_array_equal(tree["modalities/acc"]["data"], coded("acc", range(N)))
        np.testing.assert_array_equal(tree["label"], store.column("label"))


def test_xarray_opens_real_conversions(utd_store: Path, motionsense_store: Path) -> None:
    for path in (utd_store, motionsense_store):
        store = open_dataset(path)
        with xarray.open_datatree(path, engine="zarr") as tree:
            for modality in store.info.modalities:
                np.testing.assert_array_equal(
                    tree[f"modalities/{modality}"]["data"], store.load(modality)
                )


def test_a_field_younger_than_a_store_leaves_its_digest_alone() -> None:
    def facts(info: DatasetInfo) -> str:
        return next(iter(digest_facts(info, {})))

    info = content(3).info
    assert '"classes"' not in facts(info)
    named = info.modalities["depth"].model_copy(update={"classes": 5})
    changed = info.model_copy(update={"modalities": {**info.modalities, "depth": named}})
    assert facts(changed).count('"classes"') == 1
