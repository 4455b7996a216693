"""A node's store holds exactly its own rows and modalities, and nothing of the rest."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
import pytest
from rawdata.truth import Truth

from mmbind_data.binding.rebuild import SourceCommands, source_commands
from mmbind_data.conversion.convert import convert
from mmbind_data.errors import FormatError, OutputError, RawLayoutError, UsageError
from mmbind_data.spec.store import DatasetInfo, Selection
from mmbind_data.store.dataset import PROVENANCE, RAW_FILES, Dataset, open_dataset
from mmbind_data.store.partitioning import partition, plan_partition
from mmbind_data.store.validation import validate

KEPT = ("uid", "subject", "trial", "placement", "label", "label_text", "raw_file", "window_index")


def rows_of(store: Dataset, subjects: list[str]) -> np.ndarray:
    """Rows of some subjects, by the sample table."""
    table = store.samples().to_pylist()
    return np.array([row for row, sample in enumerate(table) if sample["subject"] in subjects])


@pytest.mark.parametrize("subjects", [["1"], ["3"], ["3", "1"], None])
@pytest.mark.parametrize("modalities", [["acc", "skeleton"], ["gyro"], None])
def test_values_are_the_parents(
    utd_store: Path, tmp_path: Path, subjects: list[str] | None, modalities: list[str] | None
) -> None:
    info = partition(utd_store, tmp_path / "n.zarr", subjects=subjects, modalities=modalities)
    parent, node = open_dataset(utd_store), open_dataset(tmp_path / "n.zarr")
    rows = rows_of(parent, subjects or ["1", "3"])
    assert node.info == info
    assert set(info.modalities) == set(modalities or parent.info.modalities)
    assert len(node) == len(rows) == info.n_samples
    for name in info.modalities:
        np.testing.assert_array_equal(node.load(name), parent.load(name, rows))
        np.testing.assert_array_equal(node.present(name), parent.present(name)[rows])
        assert info.n_present[name] == parent.present(name)[rows].sum()
    for column in ("label", "subject", "placement", "environment"):
        np.testing.assert_array_equal(node.column(column), parent.column(column)[rows])
        assert node.names(column) == parent.names(column)
    mine, theirs = node.samples(), parent.samples()
    assert mine["row"].to_pylist() == list(range(len(rows)))
    for column in KEPT:
        assert mine[column].to_pylist() == theirs[column].take(rows).to_pylist()
    assert info.subjects == {
        name: mine["subject"].to_pylist().count(name) for name in info.subjects
    }
    assert info.labels == {name: mine["label_text"].to_pylist().count(name) for name in info.labels}
    assert sum(info.subjects.values()) == sum(info.labels.values()) == len(rows)
    assert validate(node.path, level="values") == []


def test_a_dropped_modality_is_nowhere_on_disk(utd_store: Path, tmp_path: Path) -> None:
    partition(utd_store, tmp_path / "n.zarr", modalities=["skeleton", "acc"])
    node = open_dataset(tmp_path / "n.zarr")
    folders = {path.name for path in (node.path / "modalities").iterdir() if path.is_dir()}
    assert folders == {"acc", "skeleton"}
    for name in ("gyro", "depth"):
        with pytest.raises(FormatError, match="no such modality"):
            node.load(name)
        assert f"modalities/{name}/".encode() not in (node.path / "zarr.json").read_bytes()
    part = node.info.partition
    assert part is not None
    assert (part.node, part.modalities) == ("n", ("acc", "skeleton"))
    assert (part.dropped, part.subjects, part.labels) == (("gyro", "depth"), None, "all")
    assert part.parent_digest == open_dataset(utd_store).info.content_digest
    assert node.document(PROVENANCE)["parent"]["command"] == "convert"


def test_samples_without_any_of_the_modalities_are_left_out(
    utd_store: Path, tmp_path: Path
) -> None:
    info = partition(utd_store, tmp_path / "n.zarr", modalities=["depth"])
    parent, node = open_dataset(utd_store), open_dataset(tmp_path / "n.zarr")
    assert info.n_samples == 2
    rows = np.flatnonzero(parent.present("depth"))
    np.testing.assert_array_equal(node.load("depth"), parent.load("depth", rows))
    assert plan_partition(utd_store, tmp_path / "out.zarr", modalities=["depth"]) == (
        2, ["depth"], ["acc", "gyro", "skeleton"],
    )  # fmt: skip


def test_without_labels_no_label_is_left(motionsense_store: Path, tmp_path: Path) -> None:
    info = partition(motionsense_store, tmp_path / "n.zarr", labels="none")
    node = open_dataset(tmp_path / "n.zarr")
    np.testing.assert_array_equal(node.column("label"), np.full(len(node), -1))
    assert set(node.samples()["label"].to_pylist()) == {-1}
    assert node.samples()["label_text"].null_count == len(node)
    assert info.labels == {}
    assert info.partition is not None
    assert info.partition.labels == "none"
    assert node.samples()["uid"].to_pylist() == (
        open_dataset(motionsense_store).samples()["uid"].to_pylist()
    )


def rebuilt(info: DatasetInfo) -> str:
    """The command that makes a store anew, which is read as it was written."""
    text = str(source_commands(info))
    assert str(SourceCommands.parse(text)) == text
    return text


@pytest.mark.parametrize("first_labels", ["all", "none"])
def test_a_partition_of_a_partition_is_that_of_the_whole(
    motionsense_store: Path, tmp_path: Path, first_labels: Literal["all", "none"]
) -> None:
    first, second, direct = (tmp_path / name for name in ("one.zarr", "two.zarr", "d.zarr"))
    partition(
        motionsense_store, first, subjects=["10", "2"], modalities=["acc", "gyro"],
        labels=first_labels,
    )  # fmt: skip
    info = partition(first, second, modalities=["gyro"])
    part = info.partition
    assert part is not None
    # what the first partition took away is told by the second
    assert (part.subjects, part.dropped) == (("2", "10"), ("gravity", "acc"))
    assert (part.modalities, part.labels) == (("gyro",), first_labels)
    assert part.parent_digest == open_dataset(first).info.content_digest
    whole = partition(
        motionsense_store, direct, subjects=part.subjects, modalities=part.modalities,
        labels=part.labels,
    )  # fmt: skip
    assert whole.content_digest == info.content_digest
    expected = (
        "mmbind convert motionsense RAW motionsense.zarr && mmbind partition motionsense.zarr "
        "two.zarr --subjects 2,10 --modalities gyro"
    )
    labels = " --labels none" if first_labels == "none" else ""
    assert rebuilt(info) == expected + labels
    parent = open_dataset(motionsense_store).info
    assert rebuilt(parent.model_copy(update={"preset": "paper"})) == (
        "mmbind convert motionsense RAW motionsense.zarr --preset paper"
    )
    chosen = Selection(placements=("waist", "shin"), options={"times": "written"})
    assert rebuilt(parent.model_copy(update={"selection": chosen})).endswith(
        "motionsense.zarr --placement waist,shin --set times=written"
    )
    own = parent.model_copy(update={"dataset_id": "my-gloves"})
    assert rebuilt(own) == ("mmbind convert table RAW my-gloves.zarr --descriptor my-gloves.json")


def test_the_rebuild_command_repeats_what_was_chosen(utd_truth: Truth, tmp_path: Path) -> None:
    chosen = {"subjects": ["3"], "modalities": ["acc", "skeleton"]}
    info = convert("utd-mhad", utd_truth.root, tmp_path / "a.zarr", **chosen).info  # type: ignore[arg-type]
    command = rebuilt(info)
    assert command == (
        "mmbind convert utd-mhad RAW utd-mhad.zarr --subjects 3 --modalities acc,skeleton"
    )
    words = dict(zip(command.split()[5::2], command.split()[6::2], strict=True))
    again = convert(
        "utd-mhad",
        utd_truth.root,
        tmp_path / "b.zarr",
        subjects=words["--subjects"].split(","),
        modalities=words["--modalities"].split(","),
    )
    assert again.info.content_digest == info.content_digest


def test_files_that_no_chosen_modality_needs_are_not_read(utd_truth: Truth, tmp_path: Path) -> None:
    raw = shutil.copytree(utd_truth.root, tmp_path / "raw")
    for depth in raw.glob("Depth/*.mat"):
        depth.write_bytes(b"broken")
    out = tmp_path / "acc.zarr"
    info = convert("utd-mhad", raw, out, modalities=["acc"]).info
    assert list(info.modalities) == ["acc"]
    files = pq.read_table(out / RAW_FILES)["path"].to_pylist()
    assert {path.split("/")[0] for path in files} == {"Inertial"}
    with pytest.raises(RawLayoutError, match="depth"):
        convert("utd-mhad", raw, tmp_path / "all.zarr")


def test_same_partition_same_bytes(motionsense_store: Path, tmp_path: Path) -> None:
    for name in "ab":
        partition(motionsense_store, tmp_path / name, subjects=["1"], node="n")
    for path in (tmp_path / "a").rglob("*"):
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.is_dir() or path.read_bytes() == other.read_bytes()


def test_unknown_names_and_empty_results_are_refused(utd_store: Path, tmp_path: Path) -> None:
    out = tmp_path / "n.zarr"
    with pytest.raises(UsageError, match=r"unknown modality.*'skeletn'.*Did you mean skeleton"):
        partition(utd_store, out, modalities=["acc", "skeletn"])
    with pytest.raises(UsageError, match=r"unknown subject.*one of 1, 3.*'2'"):
        partition(utd_store, out, subjects=["2"])
    partition(utd_store, tmp_path / "one.zarr", subjects=["1"], modalities=["acc", "gyro"])
    for nothing in ({"subjects": list[str]()}, {"modalities": list[str]()}):
        with pytest.raises(UsageError, match="no sample is left"):
            partition(utd_store, out, **nothing)  # type: ignore[arg-type]
    with pytest.raises(FormatError, match="not a store"):
        partition(tmp_path / "nothing.zarr", out)
    assert [path.name for path in tmp_path.iterdir()] == ["one.zarr"]


def test_neither_a_stranger_nor_the_parent_is_overwritten(utd_store: Path, tmp_path: Path) -> None:
    out = tmp_path / "n.zarr"
    first = partition(utd_store, out, modalities=["acc"])
    with pytest.raises(OutputError, match="exists already"):
        partition(utd_store, out)
    with pytest.raises(OutputError, match="one of the inputs"):
        partition(out, out, subjects=["1"], overwrite=True)
    assert open_dataset(out).info == first
    assert partition(utd_store, out, modalities=["gyro"], overwrite=True).modalities.keys() == {
        "gyro"
    }


def test_a_bound_store_cannot_be_partitioned(bound_store: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="wrong kind"):
        partition(bound_store, tmp_path / "n.zarr")


def test_where_keeps_the_rows_that_a_naive_loop_keeps(utd_store: Path, tmp_path: Path) -> None:
    rows = open_dataset(utd_store).samples().to_pylist()
    chosen = sorted({row["label_text"] for row in rows})[:2]
    out = tmp_path / "few.zarr"
    info = partition(utd_store, out, subjects=["1"], where={"label_text": chosen})
    expected = [row["uid"] for row in rows if row["subject"] == "1" and row["label_text"] in chosen]
    assert open_dataset(out).samples()["uid"].to_pylist() == expected
    assert sorted(info.labels) == chosen
    assert info.partition is not None
    assert info.partition.where == {"label_text": tuple(chosen)}
    again = partition(out, tmp_path / "one.zarr", where={"label_text": chosen[:1]})
    assert again.partition is not None
    assert again.partition.where == {"label_text": (chosen[0],)}
    with pytest.raises(UsageError, match="nothing has this label_text"):
        partition(utd_store, tmp_path / "no.zarr", where={"label_text": ["sleep"]})
    with pytest.raises(UsageError, match="no such column"):
        partition(utd_store, tmp_path / "no.zarr", where={"colour": ["red"]})
