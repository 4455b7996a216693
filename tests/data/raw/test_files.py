"""Raw files: found wherever they lie, read whole or refused."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import shutil
import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbind_data.errors import RawLayoutError
from mmbind_data.raw.files import is_document, natural, nothing_found, recognise, scan, spans
from mmbind_data.raw.zips import BLOCK_BYTES, BOMB_BYTES, CACHED_BYTES, TAIL_BYTES

CONTENTS = {"d/a1.csv": b"one" * 1000, "d/a2.csv": b"", "d/a10.csv": bytes(range(256)) * 40}


def write_folder(root: Path) -> None:
    for name, content in CONTENTS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def write_zip(path: Path, method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.comment = comment
        archive.mkdir("d")
        for name, content in CONTENTS.items():
            archive.writestr(name, content)
    return path


def test_folder_and_zip_give_the_same_names_and_bytes(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw")
    packed = write_zip(tmp_path / "raw.zip")
    from_folder, from_zip = scan(tmp_path / "raw"), scan(packed)
    # natural order: a2 before a10
    assert [file.path for file in from_folder] == ["raw/d/a1.csv", "raw/d/a2.csv", "raw/d/a10.csv"]
    assert [file.path for file in from_zip] == [f"raw.zip/{name}" for name in CONTENTS]
    assert [file.read() for file in from_folder] == list(CONTENTS.values())
    assert [file.read() for file in from_zip] == list(CONTENTS.values())
    assert [file.size for file in from_zip] == [len(content) for content in CONTENTS.values()]
    assert [file.size for file in from_folder] == [len(content) for content in CONTENTS.values()]
    assert from_zip[0].member == "d/a1.csv"
    assert from_folder[0].member is None


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_in_a_folder_is_opened(tmp_path: Path, method: int) -> None:
    (tmp_path / "raw" / "part").mkdir(parents=True)
    write_zip(tmp_path / "raw" / "part" / "X.ZIP", method, b"a comment behind the directory")
    found = scan(tmp_path / "raw")
    assert [file.path for file in found] == [f"raw/part/X.ZIP/{name}" for name in CONTENTS]
    assert [file.read() for file in found] == list(CONTENTS.values())


def test_zip_with_bytes_before_it_is_read(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip")
    path.write_bytes(b"#!/bin/sh self-extracting\n" + path.read_bytes())
    assert [file.read() for file in scan(path)] == list(CONTENTS.values())


def test_raw_files_travel_to_workers(tmp_path: Path) -> None:
    found = scan(write_zip(tmp_path / "x.zip"))
    assert pickle.loads(pickle.dumps(found)) == found


def test_path_begins_with_the_name_of_the_folder_even_if_given_as_dot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "A_data")
    monkeypatch.chdir(tmp_path / "A_data")
    assert scan(Path())[0].path == "A_data/d/a1.csv"


def test_what_operating_systems_add_is_left_out(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_folder(raw)
    for name in ("__MACOSX/d/a1.csv", "d/._a1.csv", ".DS_Store", "Thumbs.db", ".git/config"):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).write_bytes(b"junk")
    with zipfile.ZipFile(raw / "x.zip", "w") as archive:
        for name in ("__MACOSX/a1.csv", "d/._a1.csv", "kept.csv"):
            archive.writestr(name, "junk")
    names = [file.path for file in scan(raw)]
    assert names == ["raw/d/a1.csv", "raw/d/a2.csv", "raw/d/a10.csv", "raw/x.zip/kept.csv"]


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw")
    write_folder(tmp_path / "elsewhere")
    (tmp_path / "raw" / "link_to_folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "raw" / "link_to_file").symlink_to(tmp_path / "elsewhere" / "d" / "a1.csv")
    (tmp_path / "raw" / "dangling").symlink_to(tmp_path / "raw" / "nowhere")
    (tmp_path / "raw" / "inside").symlink_to(tmp_path / "raw" / "d" / "a1.csv")
    assert [file.path for file in scan(tmp_path / "raw")] == [
        "raw/d/a1.csv",
        "raw/d/a2.csv",
        "raw/d/a10.csv",
        "raw/dangling (link, not followed)",
        "raw/inside",
        "raw/link_to_file (link, not followed)",
        "raw/link_to_folder (link, not followed)",
    ]


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    write_folder(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert len(scan(tmp_path / "link")) == 3


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(
        RawLayoutError, match=r"expected a folder or a \.zip file, got no such path"
    ):
        scan(tmp_path / "nowhere")


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(RawLayoutError, match=r"expected raw files, got no file\. Give") as caught:
        scan(tmp_path)
    assert "link" not in str(caught.value).lower()


def test_folder_of_nothing_but_links(tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RawLayoutError, match=r"got only links .*raw/link\. Links are followed"):
        scan(tmp_path / "raw")


def test_neither_folder_nor_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, kind in ((pipe, "a named pipe"), (Path(os.devnull), "a device")):
        with pytest.raises(RawLayoutError, match="neither folder nor zip") as caught:
            scan(path)
        assert str(caught.value).endswith(f"{path}: expected a folder or a .zip file, got {kind}.")


@pytest.mark.parametrize("name", ["x.zip", "x.csv", "x.rar"])
def test_file_that_is_no_zip(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(RawLayoutError, match=rf"broken or no zip at .*{name}.*16 bytes"):
        scan(path)


def test_truncated_zip_in_a_folder(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(
        RawLayoutError, match=r"broken or no zip at .*x\.zip: expected a whole \.zip"
    ):
        scan(tmp_path)


@given(at=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_a_changed_byte_is_never_read_as_data(
    tmp_path_factory: pytest.TempPathFactory, at: float, change: int
) -> None:
    path = write_zip(tmp_path_factory.mktemp("zip") / "x.zip")
    found = scan(path)
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= change
    path.write_bytes(bytes(content))
    for file, expected in zip(found, CONTENTS.values(), strict=True):
        with contextlib.suppress(RawLayoutError):
            assert file.read() == expected


def test_corrupt_member_names_zip_and_member(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"oneone", b"oneeno", 1))
    with pytest.raises(RawLayoutError, match=r"broken file at .*x\.zip:d/a1\.csv: expected CRC"):
        scan(path)[0].read()


def test_zip_that_shrank_after_the_scan(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", zipfile.ZIP_STORED)
    found = scan(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(RawLayoutError, match=r"expected 3000 bytes, got 4\d\d bytes"):
        found[0].read()
    with pytest.raises(RawLayoutError, match=r"expected a zip member's header"):
        found[2].read()


def test_member_larger_than_its_directory_says_is_not_unpacked_whole(tmp_path: Path) -> None:
    file = scan(write_zip(tmp_path / "x.zip"))[0]
    assert file.span is not None
    lying = replace(file, span=replace(file.span, size=10))
    with pytest.raises(RawLayoutError, match=r"expected 10 bytes, got 11 bytes"):
        lying.read()


def test_file_gone_after_the_scan(tmp_path: Path) -> None:
    write_folder(tmp_path)
    file = scan(tmp_path)[0]
    file.container.unlink()
    with pytest.raises(RawLayoutError, match=r"broken file at .*a1\.csv.*No such file"):
        file.read()


def test_other_compression_must_be_unpacked_by_the_user(tmp_path: Path) -> None:
    file = scan(write_zip(tmp_path / "x.zip", zipfile.ZIP_BZIP2))[0]
    with pytest.raises(RawLayoutError, match=r"compression method 12\. Unpack the zip first"):
        file.read()


def test_encrypted_member(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip")
    content = bytearray(path.read_bytes())
    first = content.index(b"d/a1.csv", content.index(b"PK\1\2"))
    content[first - 46 + 8] |= 1  # general purpose flags of the directory entry
    path.write_bytes(bytes(content))
    with pytest.raises(RawLayoutError, match="an encrypted member"):
        scan(path)[0].read()


@given(st.lists(st.text(st.sampled_from("ab019_./")), max_size=20))
def test_natural_order_is_total_and_keeps_numbers(texts: list[str]) -> None:
    ordered = sorted(texts, key=natural)
    assert sorted(ordered[::-1], key=natural) == ordered


@given(st.integers(0, 999), st.integers(0, 999))
def test_natural_order_compares_numbers_as_numbers(a: int, b: int) -> None:
    assert (natural(f"x{a}/y") < natural(f"x{b}/y")) == (a < b)


@given(st.sets(st.integers(1, 40), min_size=1))
def test_spans_name_each_number_once(numbers: set[int]) -> None:
    named: list[int] = []
    for run in spans(numbers).split(", "):
        first, *last = run.split("-")
        named += range(int(first), int((last or [first])[0]) + 1)
    assert named == sorted(numbers)
    assert spans(numbers).count(",") == sum(n + 1 not in numbers for n in numbers) - 1


def test_of_two_copies_the_unpacked_one_is_used_and_it_is_said(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_zip(tmp_path / "a.zip")  # sorts before the folder

    def canonical(path: str) -> str | None:
        return path[-6:] if path.endswith("1.csv") else None

    by_path, unknown, notes = recognise(scan(tmp_path), canonical)
    assert [(path, file.path, file.member) for path, file in by_path.items()] == [
        ("a1.csv", "a1.csv", None)
    ]
    assert len(unknown) == 4
    assert notes == [
        f"copies left aside: 1, e.g. {tmp_path}/a.zip:d/a1.csv (used: {tmp_path}/d/a1.csv)"
    ]
    (tmp_path / "d" / "a1.csv").write_bytes(b"another size")
    with pytest.raises(RawLayoutError, match=r"two different copies of a1\.csv"):
        recognise(scan(tmp_path), canonical)


def test_two_zips_that_differ_in_one_byte_are_refused(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"2")):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr("x.csv", content)
    with pytest.raises(RawLayoutError, match="another content"):
        recognise(scan(tmp_path), lambda path: "x.csv")


@pytest.mark.parametrize("forms", [("folder", "folder"), ("zip", "folder"), ("folder", "nested")])
def test_copies_of_one_size_are_compared_by_their_bytes(
    tmp_path: Path, forms: tuple[str, str]
) -> None:
    def write(folder: Path, form: str, content: bytes) -> None:
        folder.mkdir()
        if form == "folder":
            (folder / "x.csv").write_bytes(content)
            return
        with zipfile.ZipFile(folder / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.csv", content)
        if form == "nested":
            with zipfile.ZipFile(folder / "outer.zip", "w") as archive:
                archive.write(folder / "x.zip", "x.zip")
            (folder / "x.zip").unlink()

    content = os.urandom(BLOCK_BYTES + 100)  # the difference is in the second block
    for case, last in (("equal", content[-1:]), ("different", bytes([content[-1] ^ 1]))):
        (tmp_path / case).mkdir()
        write(tmp_path / case / "a", forms[0], content)
        write(tmp_path / case / "b", forms[1], content[:-1] + last)
    _, _, notes = recognise(scan(tmp_path / "equal"), lambda path: "x.csv")
    assert notes[0].startswith("copies left aside: 1")
    with pytest.raises(RawLayoutError, match=r"two different copies of x\.csv .*another content"):
        recognise(scan(tmp_path / "different"), lambda path: "x.csv")


def test_a_copy_that_is_gone_before_it_is_compared(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.csv").write_bytes(b"1")
    files = scan(tmp_path)
    files[1].container.unlink()
    with pytest.raises(RawLayoutError, match=r"broken file at .*b/x\.csv.*No such file"):
        recognise(files, lambda path: "x.csv")


def test_a_file_without_a_copy_is_not_read(tmp_path: Path) -> None:
    write_folder(tmp_path)
    files = scan(tmp_path)
    shutil.rmtree(tmp_path / "d")
    assert len(recognise(files, lambda path: path)[0]) == 3


def test_nothing_found_says_what_is_there(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw")
    error = nothing_found("x", scan(tmp_path / "raw"), "b.mat", "Look again.")
    assert str(error) == (
        f"cannot convert x: nothing that belongs to it at {tmp_path}/raw/d: expected b.mat, "
        "got 3 files such as raw/d/a1.csv. Look again."
    )


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/README.md", True),
        ("LICENSE", True),
        ("paper.PDF", True),
        ("readme.txt", True),
        ("readings.csv", False),
        ("a.txt", False),
        ("source/a.csv", False),
    ],
)
def test_is_document(path: str, expected: bool) -> None:
    assert is_document(path) is expected


def nested(path: Path, *, outer: int, inner: int, depth: int = 2, size: int = 3000) -> bytes:
    """A zip in a zip (in a zip ...), whose innermost member holds what is returned."""
    content = bytes(range(256)) * (size // 256)
    name = "deep/data.csv"
    packed = content
    for level in range(depth):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", inner if level < depth - 1 else outer) as archive:
            archive.writestr(f"first{level}.txt", "x" * 40)
            archive.writestr(name, packed)
            archive.writestr(f"last{level}.txt", "y" * 40)
        packed, name = buffer.getvalue(), f"in{level}.zip"
    path.write_bytes(packed)
    return content


@pytest.mark.parametrize("outer", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("inner", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("depth", [2, 3])
def test_zips_in_zips_are_read_in_place(tmp_path: Path, outer: int, inner: int, depth: int) -> None:
    content = nested(tmp_path / "x.zip", outer=outer, inner=inner, depth=depth)
    found = {file.path: file for file in scan(tmp_path / "x.zip")}
    way = "in1.zip/in0.zip/" if depth == 3 else "in0.zip/"
    assert found[f"x.zip/{way}deep/data.csv"].read() == content
    assert found[f"x.zip/{way}last0.txt"].read() == b"y" * 40
    assert len(found) == 2 * depth + 1
    assert list(tmp_path.iterdir()) == [tmp_path / "x.zip"]  # nothing was unpacked
    place = found[f"x.zip/{way}deep/data.csv"].place
    assert place == f"{tmp_path}/x.zip:{way}deep/data.csv"


@pytest.mark.parametrize("outer", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_inner_zip_that_is_too_large_to_be_kept(tmp_path: Path, outer: int) -> None:
    n_names = 600
    data = os.urandom(1 << 20) * ((CACHED_BYTES >> 20) + 1)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("first.csv", "1")
        archive.writestr("data.csv", data)
        for index in range(n_names):  # names so long that the directory exceeds the tail
            archive.writestr(f"{index:03}" + "x" * (TAIL_BYTES // n_names), str(index))
    with zipfile.ZipFile(tmp_path / "x.zip", "w", outer, compresslevel=1) as archive:
        archive.write(tmp_path / "in.zip", "in.zip")
    found = scan(tmp_path / "x.zip")
    by_name = {file.path.rsplit("/", 1)[1][:8]: file for file in found}
    assert by_name["data.csv"].read() == data
    assert by_name["first.cs"].read() == b"1"
    assert by_name["599xxxxx"].read() == b"599"
    assert len(found) == 2 + n_names


def test_a_fourth_zip_stays_closed(tmp_path: Path) -> None:
    nested(tmp_path / "x.zip", outer=zipfile.ZIP_STORED, inner=zipfile.ZIP_STORED, depth=4)
    assert "x.zip/in2.zip/in1.zip/in0.zip" in [file.path for file in scan(tmp_path / "x.zip")]


def test_a_truncated_inner_zip_is_named(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.csv", "1" * 500)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("d/in.zip", buffer.getvalue()[:300])
    with pytest.raises(RawLayoutError, match=r"broken or no zip at .*x\.zip:d/in\.zip"):
        scan(tmp_path / "x.zip")


@given(cut=st.integers(0, 2000), flips=st.lists(st.integers(0, 2000), max_size=3))
def test_damaged_nested_zip_is_refused_or_read_right(
    cut: int, flips: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("n") / "x.zip"
    content = nested(path, outer=zipfile.ZIP_DEFLATED, inner=zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    for place in flips:
        data[place % len(data)] ^= 1
    path.write_bytes(bytes(data[: max(1, len(data) - cut)]))
    with contextlib.suppress(RawLayoutError):
        for file in scan(path):
            if file.path.endswith("data.csv"):
                assert file.read() == content


@pytest.mark.parametrize(
    "name", ["../evil.csv", "/etc/passwd", "a/../../b.csv", "C:/x.csv", "..\\e"]
)
def test_names_that_lead_out_of_a_zip_are_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("fine.csv", "1")
        archive.writestr(zipfile.ZipInfo(name), "2")
    with pytest.raises(RawLayoutError, match=r"unsafe file at .*names below the zip's own folder"):
        scan(tmp_path / "x.zip")


def test_links_in_zips_are_listed_but_not_followed(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("d/a1.csv")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("d/a2.csv", "2")
    assert [file.path for file in scan(tmp_path / "x.zip")] == [
        "x.zip/d/a1.csv (link, not followed)",
        "x.zip/d/a2.csv",
    ]


def test_decompression_bombs_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.csv", bytes(1 << 20))
        archive.getinfo("zeros.csv").file_size = BOMB_BYTES + 1  # as the directory claims
        archive.writestr("fine.csv", b"1.25,2.5\n" + os.urandom(1 << 16) * 32)
    bomb, fine = sorted(scan(tmp_path / "x.zip"), key=lambda file: file.path, reverse=True)
    with pytest.raises(
        RawLayoutError, match=r"unsafe file at .*zeros\.csv: expected at most 4 GiB"
    ):
        bomb.read()
    assert len(fine.read()) == 9 + (2 << 20)
    with zipfile.ZipFile(tmp_path / "y.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("in.zip", bytes(1 << 20))
        archive.getinfo("in.zip").file_size = BOMB_BYTES + 1
    with pytest.raises(RawLayoutError, match=r"unsafe file at .*in\.zip"):
        scan(tmp_path / "y.zip")


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """The overlapping kind of bomb: every directory entry points at the same member."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.csv", os.urandom(2000))
        for copy in range(5):
            twin = archive.getinfo("a.csv")
            twin = copy_info(twin, f"b{copy}.csv")
            archive.filelist.append(twin)
    with pytest.raises(RawLayoutError, match="members that do not overlap"):
        scan(tmp_path / "x.zip")


def copy_info(info: zipfile.ZipInfo, name: str) -> zipfile.ZipInfo:
    twin = zipfile.ZipInfo(name)
    for field in ("header_offset", "compress_size", "file_size", "CRC", "compress_type"):
        setattr(twin, field, getattr(info, field))
    return twin


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"Rar!\x1a\7\0", "a RAR archive"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (bytes(257) + b"ustar", "a tar archive"),
    ],
)
def test_other_archives_are_named(tmp_path: Path, head: bytes, kind: str) -> None:
    (tmp_path / "x.zip").write_bytes(head + bytes(400))
    with pytest.raises(RawLayoutError, match=rf"got {kind}\. Unpack it first"):
        scan(tmp_path / "x.zip")
