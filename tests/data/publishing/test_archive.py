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

from mmbind_data.errors import FormatError, IntegrityError, OutputError
from mmbind_data.publishing.archive import pack
from mmbind_data.publishing.hydrate import hydrate
from mmbind_data.publishing.verify import verify
from mmbind_data.store.bound import open_bound
from mmbind_data.store.dataset import open_dataset


def test_pack_a_bundle(contained_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.zip"
    told = pack(contained_bundle, out)
    assert told == {"path": str(out), "bytes": out.stat().st_size,
                    "n_files": len(contents(contained_bundle))}  # fmt: skip
    copy = shutil.copytree(contained_bundle, tmp_path / "copy")
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
    values = open_dataset(utd_store).load("acc")
    with zarr.storage.ZipStore(tmp_path / "s.zip", mode="r") as store:
        group = zarr.open_group(store, mode="r")
        assert group.attrs["mmbind"] == open_dataset(utd_store).info.model_dump(mode="json")
        np.testing.assert_array_equal(np.asarray(group["modalities/acc/data"]), values)
    pack(contained_bundle, tmp_path / "b.zip")
    inner = "bound.zarr/sources/utd-mhad-a"
    with zarr.storage.ZipStore(tmp_path / "b.zip", mode="r") as store:
        group = zarr.open_group(store, path=inner, mode="r")
        own = open_dataset(contained_bundle / inner).load("acc")
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
    with pytest.raises(OutputError, match="lies inside one"):
        pack(index_bundle, index_bundle / "b.zip")
    copy = shutil.copytree(index_bundle, tmp_path / "copy")
    (copy / "README.md").write_text("changed")
    with pytest.raises(IntegrityError, match=r"README.md"):
        pack(copy, tmp_path / "c.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.zip", "copy", "own.zip"]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder for temporary files: nothing may stay in it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_an_archive_is_verified_as_it_is(
    index_bundle: Path, utd_store: Path, tmp_path: Path, temporary: Path
) -> None:
    for number, root in enumerate((index_bundle, utd_store)):
        out = tmp_path / f"{number}.zip"
        pack(root, out)
        for depth in ("fast", "deep", "values"):
            assert verify(out, depth=depth) == []
        content = out.read_bytes()
        with zipfile.ZipFile(out) as archive:
            entries = archive.infolist()
        for entry in entries:  # one bit in the middle of each file
            place = entry.header_offset + 30 + len(entry.filename) + entry.file_size // 2
            out.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            found = [(one.code, one.where) for one in verify(out)]
            assert found == [("file-changed", entry.filename)]
        out.write_bytes(content[: len(content) // 2])
        with pytest.raises(FormatError, match=rf"archive cannot be read at {out}"):
            verify(out)
    assert not list(temporary.glob("mmbind-unpack-*"))


def rewrite(archive: Path, out: Path, change: dict[str, bytes | None], below: str = "") -> Path:
    """The archive with other files, each with the checksum that it has."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(out, "w") as target:
        kept = {name: source.read(name) for name in source.namelist()}
        for name, content in {**kept, **change}.items():
            if content is not None:
                target.writestr(below + name, content, zipfile.ZIP_DEFLATED)
    return out


def test_what_another_program_packed(index_bundle: Path, tmp_path: Path, temporary: Path) -> None:
    archive = tmp_path / "b.zip"
    pack(index_bundle, archive)
    # compressed, and with a folder around it
    assert verify(rewrite(archive, tmp_path / "own.zip", {}, "my-bundle/"), depth="deep") == []
    changed = rewrite(archive, tmp_path / "changed.zip", {"README.md": b"#", "CITATION.bib": None})
    assert [(one.code, one.where) for one in verify(changed)] == [
        ("file-missing", "CITATION.bib"), ("file-changed", "README.md")]  # fmt: skip
    for name in ("../escaped", "/escaped", "a/../../escaped", "..\\escaped"):
        with pytest.raises(FormatError, match="a file that must not be in it"):
            verify(rewrite(archive, tmp_path / "hostile.zip", {name: b"x"}))
    (tmp_path / "thesis.zip").write_bytes(b"years of work")
    with pytest.raises(FormatError, match="archive cannot be read"):
        verify(tmp_path / "thesis.zip")
    with pytest.raises(FormatError, match=r"unzip .*b\.zip -d FOLDER"):
        open_bound(archive)
    assert not list(temporary.glob("mmbind-unpack-*"))
    assert not list(tmp_path.rglob("*escaped*"))


def test_an_archive_is_hydrated(
    index_bundle: Path, contained_bundle: Path, node_stores: tuple[Path, Path], bound_store: Path,
    tmp_path: Path, temporary: Path,
) -> None:  # fmt: skip
    places = dict(zip(("utd-mhad-a", "utd-mhad-b"), node_stores, strict=True))
    wanted = open_bound(bound_store).info.content_digest
    for name, bundle in (("index", index_bundle), ("contained", contained_bundle)):
        archive, out = tmp_path / f"{name}.zip", tmp_path / f"{name}.zarr"
        pack(bundle, archive)
        assert hydrate(archive, out, places).content_digest == wanted
        assert verify(out, depth="values") == []
        damaged = rewrite(archive, tmp_path / f"bad-{name}.zip", {"README.md": b"#"})
        with pytest.raises(IntegrityError, match=rf"damaged at {damaged} README\.md"):
            hydrate(damaged, tmp_path / "x.zarr", places)
    # a store cannot point into the archive that lies beside it
    with pytest.raises(FormatError, match=r"no utd-mhad-b.*unzip .*contained\.zip -d FOLDER"):
        hydrate(archive, tmp_path / "x.zarr", {"utd-mhad-a": node_stores[0]})
    with pytest.raises(FormatError, match=rf"not every source is given at {tmp_path}/index\.zip"):
        hydrate(tmp_path / "index.zip", tmp_path / "x.zarr", {})
    assert not (tmp_path / "x.zarr").exists()
    assert not list(temporary.glob("mmbind-unpack-*"))
