"""A clean store has no problem, and each problem is provoked and found on its level."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from mmbind_data.binding.bind import bind
from mmbind_data.binding.options import BindOptions
from mmbind_data.errors import FormatError, UsageError
from mmbind_data.io.digests import MANIFEST, SUMS, write_manifest
from mmbind_data.store import validation, validation_bound, validation_values
from mmbind_data.store.bound import PAIRS, open_bound
from mmbind_data.store.dataset import DESCRIPTOR, PROVENANCE, RAW_FILES, SAMPLES
from mmbind_data.store.pair_table import bound_digest
from mmbind_data.store.partitioning import partition
from mmbind_data.store.validation import LEVELS, validate
from mmbind_data.store.writer import write_table

Mutation = Callable[[Path], None]


def cell(path: str, column: str, row: int, value: Any) -> Mutation:
    """Change one cell of a table."""

    def mutate(store: Path) -> None:
        table = pq.read_table(store / path)
        values = table[column].to_pylist()
        values[row] = value
        place = table.column_names.index(column)
        changed = pa.array(values, type=table.schema.field(column).type)
        write_table(store / path, table.set_column(place, column, changed))

    return mutate


def table(path: str, change: Callable[[pa.Table], pa.Table]) -> Mutation:
    def mutate(store: Path) -> None:
        write_table(store / path, change(pq.read_table(store / path)))

    return mutate


def text(path: str, content: bytes | None) -> Mutation:
    """Write a file, or delete it."""

    def mutate(store: Path) -> None:
        if content is None:
            (store / path).unlink()
        else:
            (store / path).write_bytes(content)

    return mutate


def flip(path: str) -> Mutation:
    """Change one byte in the middle; the size stays."""

    def mutate(store: Path) -> None:
        content = bytearray((store / path).read_bytes())
        content[len(content) // 2] ^= 1
        (store / path).write_bytes(bytes(content))

    return mutate


def values(path: str, row: int, value: Any) -> Mutation:
    """Write into an array."""

    def mutate(store: Path) -> None:
        array = zarr.open_array(store / path, mode="r+")
        array[row] = np.full(array.shape[1:], value, dtype=array.dtype)

    return mutate


def attributes(**changes: Any) -> Mutation:
    def mutate(store: Path) -> None:
        document = json.loads((store / "zarr.json").read_text())
        document["attributes"]["mmbind"] |= changes
        (store / "zarr.json").write_text(json.dumps(document))

    return mutate


def consolidated(mutation: Mutation) -> Mutation:
    def mutate(store: Path) -> None:
        mutation(store)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(store)

    return mutate


def without(path: str) -> Mutation:
    return consolidated(lambda store: shutil.rmtree(store / path))


def shorter(path: str) -> Mutation:
    return consolidated(lambda store: zarr.open_array(store / path, mode="r+").resize((3,)))


def manifest(change: Callable[[dict[str, Any]], object]) -> Mutation:
    def mutate(store: Path) -> None:
        document = json.loads((store / MANIFEST).read_text())
        change(document)
        (store / MANIFEST).write_text(json.dumps(document))

    return mutate


SHARD = "modalities/acc/data/c/0/0/0"
CONVERTED: list[tuple[str, str, bool, Mutation]] = [
    # code, level on which it is found, whether the manifest is made anew, what is done
    ("meta-missing", "meta", False, text(MANIFEST, None)),
    ("meta-missing", "meta", False, text(DESCRIPTOR, None)),
    ("meta-missing", "meta", False, text(PROVENANCE, None)),
    ("meta-invalid", "meta", False, text(MANIFEST, b"{}")),
    ("meta-invalid", "meta", False, text(MANIFEST, b"\xff\xfe")),
    ("meta-invalid", "meta", False, text(DESCRIPTOR, b'{"dataset_id": "x"}')),
    ("meta-invalid", "meta", False, text(PROVENANCE, b"{")),
    ("file-missing", "structure", False, text(SHARD, None)),
    ("file-missing", "structure", False, text(SAMPLES, None)),
    ("file-unknown", "structure", False, text("meta/notes.txt", b"mine")),
    ("file-size", "structure", False, text(SHARD, b"short")),
    ("manifest-differs", "structure", False, text(SUMS, None)),
    ("manifest-differs", "structure", False, flip(SUMS)),
    ("manifest-differs", "structure", False, manifest(lambda m: m.update(tree_sha256="0" * 64))),
    ("array-missing", "structure", True, without("modalities/gyro/valid")),
    ("array-missing", "structure", True, without("subject")),
    ("array-shape", "structure", True, shorter("label")),
    ("array-shape", "structure", True, attributes(n_samples=60)),
    ("table-unreadable", "structure", True, text(SAMPLES, b"PAR1")),
    ("column-missing", "structure", True, table(SAMPLES, lambda t: t.drop_columns(["t_end"]))),
    ("table-rows", "structure", True, table(SAMPLES, lambda t: t.slice(1))),
    ("table-missing", "structure", True, text(RAW_FILES, None)),
    ("file-changed", "bytes", False, flip(SHARD)),
    ("file-changed", "bytes", False, flip(RAW_FILES)),
    ("data-damaged", "values", True, flip(SHARD)),
    ("data-damaged", "values", True, text("modalities/acc/valid/c/0", None)),
    ("digest-differs", "values", True, values("modalities/acc/data", 3, 1.0)),
    ("digest-differs", "values", True, values("label", 3, 5)),
    ("digest-differs", "values", True, cell(SAMPLES, "raw_start", 3, 7)),
    ("digest-differs", "values", True, attributes(dataset_version="2019")),
    ("value-not-finite", "values", True, values("modalities/acc/data", 3, np.nan)),
    ("value-not-finite", "values", True, values("modalities/acc/data", 3, np.inf)),
    ("value-not-finite", "values", True, cell(SAMPLES, "t_start", 3, float("nan"))),
    ("count-differs", "values", True, values("modalities/acc/valid", 3, False)),
    ("count-differs", "values", True, attributes(n_present={"acc": 1})),
    ("value-not-absent", "values", True, values("modalities/acc/valid", 3, False)),
    ("count-differs", "values", True, attributes(labels={"walking": 1})),
    ("count-differs", "values", True, attributes(subjects={"1": 1})),
    ("code-differs", "values", True, values("label", 3, 1)),
    ("code-differs", "values", True, cell(SAMPLES, "label_text", 3, "dancing")),
    ("code-differs", "values", True, cell(SAMPLES, "subject", 3, "99")),
    ("code-range", "values", True, values("label", 3, 6)),
    ("code-range", "values", True, values("subject", 3, -2)),
]  # fmt: skip
BOUND: list[tuple[str, str, bool, Mutation]] = [
    ("meta-missing", "meta", False, text(MANIFEST, None)),
    ("meta-missing", "meta", False, text(PROVENANCE, None)),
    ("file-missing", "structure", False, text("encoder/config.json", None)),
    ("file-changed", "bytes", False, flip("encoder/config.json")),
    ("table-unreadable", "structure", True, text(PAIRS, b"PAR1")),
    ("column-missing", "structure", True, table(PAIRS, lambda t: t.drop_columns(["gyro.row"]))),
    ("column-missing", "structure", True, table(PAIRS, lambda t: t.drop_columns(["weight"]))),
    ("table-rows", "structure", True, table(PAIRS, lambda t: t.slice(1))),
    ("digest-differs", "values", True, cell(PAIRS, "weight", 3, 0.125)),
    ("digest-differs", "values", True, attributes(shared=["gyro"])),
    ("value-range", "values", True, cell(PAIRS, "similarity", 3, 1.5)),
    ("value-not-finite", "values", True, cell(PAIRS, "weight", 3, float("nan"))),
    ("value-not-finite", "values", True, cell(PAIRS, "weight", 3, None)),
    ("value-not-finite", "values", True, cell(PAIRS, "similarity", 3, float("nan"))),
    ("reference-broken", "values", True, cell(PAIRS, "gyro.row", 3, 999)),
    ("reference-broken", "values", True, cell(PAIRS, "gyro.row", 3, None)),
    ("reference-broken", "values", True, cell(PAIRS, "gyro.uid", 3, "0" * 32)),
    ("reference-broken", "values", True, cell(PAIRS, "gyro.uid", 3, None)),
    ("reference-broken", "values", True, cell(PAIRS, "gyro.source", 3, "someone")),
    ("reference-broken", "values", True, cell(PAIRS, "gyro.source", 3, "utd-mhad-a")),
    ("reference-broken", "values", True, cell(PAIRS, "anchor_source", 3, "someone")),
    ("reference-broken", "values", True, cell(PAIRS, "anchor_uid", 3, "0" * 32)),
    ("source-missing", "values", False, lambda store: shutil.rmtree(store.parent / "b.zarr")),
    ("source-missing", "values", False, text(f"../b.zarr/{SAMPLES}", b"PAR1")),
    ("source-missing", "values", False, text("../b.zarr/zarr.json", b"{}")),
]  # fmt: skip


def check(path: Path, code: str, level: str, anew: bool, mutate: Mutation) -> None:
    mutate(path)
    if anew:
        write_manifest(path)
    assert code in {found.code for found in validate(path, level=level)}
    before = LEVELS.index(level) - 1
    if before >= 0:
        assert validate(path, level=LEVELS[before]) == []
    for deeper in LEVELS[before + 2 :]:
        found = validate(path, level=deeper)
        assert code in {one.code for one in found}
        assert all(one.severity == "error" and one.message and one.fix for one in found)


@pytest.mark.parametrize("level", LEVELS)
def test_clean_stores_have_no_problem(
    utd_store: Path,
    motionsense_store: Path,
    node_stores: tuple[Path, Path],
    bound_store: Path,
    level: str,
) -> None:
    for path in (utd_store, motionsense_store, *node_stores, bound_store):
        assert validate(path, level=level) == [], path


@pytest.mark.parametrize(("code", "level", "anew", "mutate"), CONVERTED)
def test_problem_of_a_converted_store(
    motionsense_store: Path, tmp_path: Path, code: str, level: str, anew: bool, mutate: Mutation
) -> None:
    check(shutil.copytree(motionsense_store, tmp_path / "s.zarr"), code, level, anew, mutate)


@pytest.mark.parametrize(("code", "level", "anew", "mutate"), BOUND)
def test_problem_of_a_bound_store(
    bound_store: Path, tmp_path: Path, code: str, level: str, anew: bool, mutate: Mutation
) -> None:
    for path in bound_store.parent.glob("*.zarr"):
        shutil.copytree(path, tmp_path / path.name)
    check(tmp_path / bound_store.name, code, level, anew, mutate)


def test_a_repeated_uid_is_found(motionsense_store: Path, tmp_path: Path) -> None:
    first = pq.read_table(motionsense_store / SAMPLES)["uid"][0].as_py()
    path = shutil.copytree(motionsense_store, tmp_path / "s.zarr")
    check(path, "uid-repeated", "values", True, cell(SAMPLES, "uid", 5, first))


def test_a_reference_to_an_absent_sample_is_found(utd_store: Path, tmp_path: Path) -> None:
    a, b, out = (tmp_path / name for name in ("a.zarr", "b.zarr", "bound.zarr"))
    partition(utd_store, a, subjects=["1"], modalities=["acc", "depth"])
    partition(utd_store, b, subjects=["3"], modalities=["acc", "gyro"])
    bind([a, b], out, shared="acc", options=BindOptions(embed="raw"))
    assert validate(out, level="values") == []
    pairs = open_bound(out).pairs()
    row = pairs["depth.source"].to_pylist().index(None)
    lacking = open_bound(out).source("utd-mhad-a")
    absent = int(np.flatnonzero(~lacking.present("depth"))[0])
    cell(PAIRS, "depth.source", row, "utd-mhad-a")(out)
    cell(PAIRS, "depth.row", row, absent)(out)
    uid = lacking.samples()["uid"][absent].as_py()
    check(out, "reference-absent", "values", True, cell(PAIRS, "depth.uid", row, uid))


def test_an_index_only_store_is_valid_and_says_what_was_not_checked(
    index_bundle: Path, node_stores: tuple[Path, Path]
) -> None:
    found = validate(index_bundle, level="values")
    assert [(one.code, one.severity, one.where) for one in found] == [
        ("source-not-attached", "warning", f"utd-mhad-{name}") for name in "ab"
    ]
    places = {f"utd-mhad-{name}": path for name, path in zip("ab", node_stores, strict=True)}
    assert validate(index_bundle, level="values", sources=places) == []


def test_digests_of_the_first_release_still_hold(
    bound_store: Path, node_stores: tuple[Path, Path], tmp_path: Path
) -> None:
    """They counted row numbers too; a digest of neither rule is refused."""
    copy = shutil.copytree(bound_store, tmp_path / "bound.zarr")
    places = {f"utd-mhad-{name}": path for name, path in zip("ab", node_stores, strict=True)}
    opened = open_bound(copy)
    info, document = opened.info, copy / "zarr.json"
    first = bound_digest(info.shared, info.binder, info.sources, opened.pairs(), row_numbers=True)
    assert first != info.content_digest
    for digest, codes in ((first, []), ("0" * 64, ["digest-differs"])):
        text = (bound_store / "zarr.json").read_text()
        document.write_text(text.replace(info.content_digest, digest))
        write_manifest(copy)
        found = validate(copy, level="values", sources=places)
        assert [one.code for one in found] == codes


def test_every_code_is_provoked() -> None:
    modules = (validation, validation_bound, validation_values)
    source = "".join(Path(str(module.__file__)).read_text() for module in modules)
    codes = set(re.findall(r'(?:[Ff]inding\(|_first\(.*)"([a-z]+-[a-z-]+)"', source))
    assert len(codes) > 20
    provoked = {code for code, *_ in [*CONVERTED, *BOUND]}
    alone = {"uid-repeated", "reference-absent", "mean-broken", "source-not-attached"}
    alone.add("offsets-broken")  # of point clouds
    assert codes == provoked | alone


def test_unknown_level_and_no_store(tmp_path: Path, motionsense_store: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean values"):
        validate(motionsense_store, level="value")
    with pytest.raises(FormatError, match="not a store of mmbind"):
        validate(tmp_path)
