"""One file to download: the same bytes each time, readable by zarr and by any unzip."""

from __future__ import annotations

import shutil
import subprocess
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from bundles import contents

from mmbind_data.errors import IntegrityError, OutputError
from mmbind_data.layout import open_store
from mmbind_data.pack import pack
from mmbind_data.verify import verify


def test_pack_a_bundle(contained_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.zip"
    told = pack(contained_bundle, out)
    assert told == {"path": str(out), "bytes": out.stat().st_size,
                    "n_files": len(contents(contained_bundle))}  # fmt: skip
    copy = tmp_path / "copy"
    shutil.copytree(contained_bundle, copy)
    time.sleep(0.01)
    for path in copy.rglob("*"):
        path.touch()  # another clock, another order on the disk
    pack(copy, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == out.read_bytes()
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        assert {one.compress_type for one in archive.infolist()} == {zipfile.ZIP_STORED}
        archive.extractall(tmp_path / "unpacked")
    assert contents(tmp_path / "unpacked") == contents(contained_bundle)
    assert verify(tmp_path / "unpacked", depth="deep") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "again.zip", "b.zip", "copy", "unpacked"]  # fmt: skip


def test_zarr_reads_the_archive_as_it_is(
    utd_store: Path, contained_bundle: Path, tmp_path: Path
) -> None:
    pack(utd_store, tmp_path / "s.zip")
    values = open_store(utd_store).load("acc")
    with zarr.storage.ZipStore(tmp_path / "s.zip", mode="r") as store:
        group = zarr.open_group(store, mode="r")
        assert group.attrs["mmbind"] == open_store(utd_store).info.model_dump(mode="json")
        np.testing.assert_array_equal(np.asarray(group["modalities/acc/data"]), values)
    pack(contained_bundle, tmp_path / "b.zip")
    inner = "bound.zarr/sources/utd-mhad-a"
    with zarr.storage.ZipStore(tmp_path / "b.zip", mode="r") as store:
        group = zarr.open_group(store, path=inner, mode="r")
        own = open_store(contained_bundle / inner).load("acc")
        np.testing.assert_array_equal(np.asarray(group["modalities/acc/data"]), own)


def test_unzip_reads_it(index_bundle: Path, tmp_path: Path) -> None:
    if shutil.which("unzip") is None:
        pytest.skip("no unzip")
    pack(index_bundle, tmp_path / "b.zip")
    subprocess.run(["unzip", "-q", "b.zip", "-d", "out"], cwd=tmp_path, check=True)
    assert contents(tmp_path / "out") == contents(index_bundle)


def test_refusals(index_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.zip"
    pack(index_bundle, out)
    with pytest.raises(OutputError, match="exists already"):
        pack(index_bundle, out)
    before = out.read_bytes()
    pack(index_bundle, out, overwrite=True)
    assert out.read_bytes() == before
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        archive.writestr("thesis.txt", "years of work")
    with pytest.raises(OutputError, match="no archive that mmbind made"):
        pack(index_bundle, tmp_path / "own.zip", overwrite=True)
    with pytest.raises(OutputError, match="inside the input"):
        pack(index_bundle, index_bundle / "b.zip")
    copy = tmp_path / "copy"
    shutil.copytree(index_bundle, copy)
    (copy / "README.md").write_text("changed")
    with pytest.raises(IntegrityError, match=r"README.md"):
        pack(copy, tmp_path / "c.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.zip", "copy", "own.zip"]
