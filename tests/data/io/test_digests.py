"""Digests by hand, and the manifest as sha256sum sees it."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbind_data.io.digests import (
    MANIFEST,
    SUMS,
    ArrayDigest,
    canonical_json,
    content_digest,
    file_digest,
    sample_uid,
    sample_uids,
    store_files,
    table_line,
    write_manifest,
)
from mmbind_data.spec.bundle import Manifest

CONTENTS = {"zarr.json": b"{}", "modalities/acc/data/c/0/0": b"\0\1\2", "meta/a b.json": b"x\n"}


def test_uid_is_the_first_half_of_a_sha256() -> None:
    by_hand = hashlib.sha256(b"utd-mhad|a1_s1_t1|whole|default").hexdigest()
    assert sample_uid("utd-mhad", "a1_s1_t1", "whole", "default") == by_hand[:32]
    assert len({sample_uid("d", key, span, p) for key in "ab" for span in "01" for p in "xy"}) == 8
    many = sample_uids("utd-mhad", "a1", ["whole", "0:9"], "p {}")
    assert list(many) == [sample_uid("utd-mhad", "a1", span, "p {}") for span in ("whole", "0:9")]


@given(st.lists(st.integers(1, 9), max_size=6))
def test_array_digest_is_that_of_the_whole_array_in_any_blocks(sizes: list[int]) -> None:
    values = np.random.default_rng(1).normal(size=(sum(sizes), 2, 3)).astype(np.float32)
    digest = ArrayDigest("<f4", (2, 3))
    for block in np.split(values, np.cumsum(sizes)):
        digest.update(block)
    by_hand = hashlib.sha256(values.astype("<f4").tobytes()).hexdigest()
    assert digest.line("a/b") == f"array a/b <f4 {len(values)}x2x3 {by_hand}"


def test_array_digest_ignores_how_the_values_lie_in_memory() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    lines = []
    for given_values in (values, values.astype(">f4"), np.asfortranarray(values), values.tolist()):
        digest = ArrayDigest("<f4", (4,))
        digest.update(np.asarray(given_values))
        lines.append(digest.line("x"))
    assert len(set(lines)) == 1


def test_array_digest_knows_one_nan_and_leaves_the_input_alone() -> None:
    other = np.array([0x7FC00001, 0xFFC00000], dtype=np.uint32).view(np.float32)
    kept = other.tobytes()
    lines = []
    for values in (np.array([np.nan, np.nan], dtype=np.float32), other):
        digest = ArrayDigest("<f4", ())
        digest.update(values)
        lines.append(digest.line("x"))
    assert lines[0] == lines[1]
    assert other.tobytes() == kept


def test_array_digest_tells_values_types_and_shapes_apart() -> None:
    def line(values: np.ndarray, dtype: str, row_shape: tuple[int, ...]) -> str:
        digest = ArrayDigest(dtype, row_shape)
        digest.update(values)
        return digest.line("x")

    zeros = np.zeros((2, 6), dtype=np.float32)
    lines = {
        line(zeros, "<f4", (6,)),
        line(zeros.reshape(2, 2, 3), "<f4", (2, 3)),
        line(zeros.astype(np.int32), "<i4", (6,)),
        line(zeros + 1, "<f4", (6,)),
        line(zeros[:1], "<f4", (6,)),
    }
    assert len(lines) == 5


def test_table_line_by_hand() -> None:
    digest = hashlib.sha256(b'["a",[1,null]]["b",["\\u00e4",0.5]]').hexdigest()
    assert table_line("t", {"a": [1, None], "b": ["\u00e4", 0.5]}) == f"table t {digest}"
    assert table_line("t", {"a": [1]}) != table_line("t", {"a": [2]}) != table_line("t", {"b": [2]})


def test_content_digest_does_not_depend_on_the_order() -> None:
    expected = hashlib.sha256(b"a 1\nb 2").hexdigest()
    assert content_digest(["b 2", "a 1"]) == content_digest(iter(["a 1", "b 2"])) == expected


def test_canonical_json_has_one_text_for_one_value() -> None:
    assert canonical_json({"b": [1, 2.5], "a": None}) == '{"a":null,"b":[1,2.5]}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for path, text in CONTENTS.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(text)
    return tmp_path


def sha256sum(store: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sha256sum", "--strict", "-c", SUMS],
        cwd=store,
        capture_output=True,
        text=True,
        check=False,
    )


def test_manifest_lists_every_file_but_itself(store: Path) -> None:
    written = write_manifest(store)
    assert [entry.path for entry in written.files] == sorted(CONTENTS)
    for entry in written.files:
        text = CONTENTS[entry.path]
        assert entry.bytes == len(text)
        assert entry.sha256 == hashlib.sha256(text).hexdigest() == file_digest(store / entry.path)
    lines = "".join(f"{entry.sha256}  {entry.path}\n" for entry in written.files)
    assert written.tree_sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert Manifest.model_validate_json((store / MANIFEST).read_bytes()) == written
    assert json.loads((store / MANIFEST).read_text())["spec"] == "mmbind-manifest"


def test_manifest_can_be_written_again(store: Path) -> None:
    write_manifest(store)
    before = (store / MANIFEST).read_bytes(), (store / SUMS).read_bytes()
    write_manifest(store)
    assert ((store / MANIFEST).read_bytes(), (store / SUMS).read_bytes()) == before
    assert list(store_files(store)) == sorted(CONTENTS)


def test_sha256sum_accepts_the_store_and_finds_a_changed_file(store: Path) -> None:
    write_manifest(store)
    done = sha256sum(store)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK") == len(CONTENTS)
    (store / "zarr.json").write_bytes(b"{ }")
    done = sha256sum(store)
    assert done.returncode == 1
    assert "zarr.json: FAILED" in done.stdout
