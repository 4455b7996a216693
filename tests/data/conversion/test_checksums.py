"""Known checksums: official files are recognised, others are a warning, unknown ones are silent."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from mmbind_data.conversion.checksums import checksum_notes
from mmbind_data.datasets.registry import load_descriptor
from mmbind_data.raw.files import scan
from mmbind_data.spec.descriptor import Checksum, Descriptor

CONTENT = b"1,2,3\n" * 1000


def described(*checksums: tuple[str, str, str]) -> Descriptor:
    known = tuple(
        Checksum.model_validate(
            {"file": file, "algorithm": algorithm, "digest": digest, "source": "test"}
        )
        for file, algorithm, digest in checksums
    )
    return load_descriptor("utd-mhad").model_copy(update={"checksums": known})


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "git-blob"])
@pytest.mark.parametrize("zipped", [False, True])
def test_the_official_file_is_recognised(tmp_path: Path, algorithm: str, zipped: bool) -> None:
    raw = tmp_path / "raw"
    (raw / "d").mkdir(parents=True)
    if zipped:
        with zipfile.ZipFile(raw / "x.zip", "w") as archive:
            archive.writestr("d/a.csv", CONTENT)
    else:
        (raw / "d" / "a.csv").write_bytes(CONTENT)
    prefix = f"blob {len(CONTENT)}\0".encode() if algorithm == "git-blob" else b""
    function = "sha1" if algorithm == "git-blob" else algorithm
    digest = hashlib.new(function, prefix + CONTENT).hexdigest()
    files = scan(raw)
    for path in ("a.csv", "d/a.csv"):
        notes = checksum_notes(described((path, algorithm, digest)), files)
        assert notes == ["official file, checksum known: a.csv"]
    other = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    (note,) = checksum_notes(described(("d/a.csv", algorithm, other)), files)
    assert note.startswith("warning: not the official file")
    assert note.endswith("a.csv")
    # of two releases either is official
    both = described(("a.csv", algorithm, other), ("a.csv", algorithm, digest))
    assert checksum_notes(both, files) == ["official file, checksum known: a.csv"]
    assert checksum_notes(described(("e/a.csv", algorithm, other)), files) == []
    assert checksum_notes(described(("b.csv", algorithm, other)), files) == []


def test_archives_are_compared_whole(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.csv", CONTENT)
    digest = hashlib.sha256((tmp_path / "x.zip").read_bytes()).hexdigest()
    notes = checksum_notes(described(("x.zip", "sha256", digest)), scan(tmp_path))
    assert notes == ["official file, checksum known: x.zip"]


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_git_blob_is_what_git_computes(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(CONTENT)
    command = ["git", "hash-object", str(path)]
    digest = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    notes = checksum_notes(described(("a.csv", "git-blob", digest)), scan(tmp_path))
    assert notes == ["official file, checksum known: a.csv"]


@pytest.mark.realdata
def test_real_subject_table_is_the_official_one(real_data: Path) -> None:
    notes = checksum_notes(load_descriptor("motionsense"), scan(real_data / "motionsense"))
    assert "official file, checksum known: data_subjects_info.csv" in notes
    # the archives here were packed anew, and that is told
    assert any("A_DeviceMotion_data.zip" in note and "warning" in note for note in notes)
