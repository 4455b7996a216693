"""Small files that claim, or hold, far more than they may: refused before it is in memory."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import scipy.io
from rawdata.content import held

from mmbind_data.errors import RawLayoutError
from mmbind_data.raw.arrays import Variable, read_mat, read_npy
from mmbind_data.raw.images import MAX_PIXELS, read_image
from mmbind_data.raw.zips import BOMB_BYTES

SMALL = Variable("x", (3, 4))
ANY = Variable("x", (None, None))
LARGE = np.zeros((4096, 1024), np.uint8)  # 4 MiB


@contextmanager
def little_memory(n_bytes: int = 1 << 20) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < n_bytes
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """What is imported at the first use counts as memory too."""
    import PIL.Image
    import scipy.io.matlab

    assert PIL.Image.init()
    assert scipy.io.matlab.whosmat


def npy_header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def npz(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    return stream.getvalue()


def mat(values: object, *, compressed: bool = True, **others: object) -> bytes:
    stream = io.BytesIO()
    scipy.io.savemat(stream, {**others, "x": values}, do_compression=compressed)
    return stream.getvalue()


@pytest.mark.parametrize("pack", [npz, bytes], ids=["npz", "npy"])
def test_header_that_claims_a_terabyte(pack: Callable[[bytes], bytes]) -> None:
    content = pack(npy_header((1 << 20, 1 << 17)) + bytes(96))
    with little_memory(), pytest.raises(RawLayoutError, match=r"another shape .*1048576 x 131072"):
        read_npy(held("a.npz", content), SMALL)
    expected = r"broken file at a\.npz: .*declares 1099511627776 bytes of numbers, 96 follow"
    with little_memory(), pytest.raises(RawLayoutError, match=expected):
        read_npy(held("a.npz", content), ANY)


def test_arrays_that_would_be_huge() -> None:
    """What the directory of an .npz file and the tag of a MAT variable announce is refused."""
    n_rows = BOMB_BYTES // 8
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy_header((n_rows, 1)) + bytes(1 << 20))
        archive.getinfo("x.npy").file_size = BOMB_BYTES + 1
    content = mat_by_hand("<", n_bytes=BOMB_BYTES + 1)
    for packed, read in ((stream.getvalue(), read_npy), (content, read_mat)):
        assert len(packed) < 10_000
        with little_memory(), pytest.raises(RawLayoutError, match=r"unsafe file at a.*4 GiB"):
            read(held("a", packed), ANY)


@pytest.mark.parametrize("compressed", [True, False])
def test_variable_of_another_shape_is_not_loaded(compressed: bool) -> None:
    content = mat(LARGE, compressed=compressed)
    with little_memory(), pytest.raises(RawLayoutError, match=r"another shape .*4096 x 1024"):
        read_mat(held("a.mat", content), SMALL)


def test_other_variables_stay_packed() -> None:
    values = np.arange(12.0).reshape(3, 4)
    content = mat(values, first=LARGE, second=np.ones(3))
    with little_memory():
        found = read_mat(held("a.mat", content), SMALL)
    np.testing.assert_array_equal(found, values)


def mat_by_hand(order: str, extra: bytes = b"", n_bytes: int | None = None) -> bytes:
    """A MAT file of 3 x 4 numbers x: more behind them, or another size in the tag, if given."""
    data = struct.pack(f"{order}12d", *range(12))
    parts = [(6, struct.pack(f"{order}2I", 6, 0)), (5, struct.pack(f"{order}2i", 3, 4))]
    parts += [(1, b"x"), (9, data)]
    body = b"".join(
        struct.pack(f"{order}2I", kind, len(part)) + part + bytes(-len(part) % 8)
        for kind, part in parts
    )
    packed = zlib.compress(struct.pack(f"{order}2I", 14, n_bytes or len(body)) + body + extra)
    mark = b"\0\1IM" if order == "<" else b"\1\0MI"
    head = b"MATLAB 5.0 MAT-file".ljust(124) + mark
    return head + struct.pack(f"{order}2I", 15, len(packed)) + packed


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("extra", [b"", bytes(8), bytes(1 << 22)])
def test_element_that_is_longer_than_its_tag(order: str, extra: bytes) -> None:
    content = mat_by_hand(order, extra)
    if not extra:
        found = read_mat(held("a.mat", content), SMALL)
        np.testing.assert_array_equal(found, np.arange(12.0).reshape(4, 3).T)
        return
    with (
        little_memory(),
        pytest.raises(RawLayoutError, match="element of 152 bytes that is longer"),
    ):
        read_mat(held("a.mat", content), SMALL)


@pytest.mark.parametrize(("side", "got"), [(12_000, "12000 x 12000"), (30_000, "more than twice")])
def test_image_that_claims_too_many_pixels(side: int, got: str) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    size = struct.pack(">2I5B", side, side, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(64)))
    expected = rf"huge image at a\.png: expected at most 89 million pixels, got {got}"
    assert MAX_PIXELS < 12_000**2
    with little_memory(), pytest.raises(RawLayoutError, match=expected):
        read_image(held("a.png", content), {"L": "uint8"})
