"""Arrays inside NumPy and MATLAB files, by what the files declare before anything is inflated.

A file of a megabyte can announce, or hold, gigabytes of zeros. So the header is read first, and
no more is inflated than it says.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import IO, Any

import numpy as np

from .zips import check_size

MAT_HEADER, MAT_TAG = 128, 8
MAT_HEAD = 4096  # bytes; name, type and shape of a variable take some hundred at most
COMPRESSED = 15  # miCOMPRESSED
NPY_HEADERS: dict[tuple[int, int], Callable[[IO[bytes]], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

# classes of scipy.io.whosmat that are no numbers, as NumPy's kinds
MAT_KINDS = {"cell": "O", "struct": "V", "object": "V", "function": "V", "char": "U"}

Check = Callable[[Sequence[int], np.dtype[Any] | None], None]


class NoSuchArrayError(LookupError):
    """The file has no array of that name; the message lists those that it has."""


def load_npy(content: bytes, name: str, check: Check, place: str) -> np.ndarray:
    """Load an .npy file, or one array of an .npz file.

    Parameters
    ----------
    content : bytes
    name : str
        Of the array in an .npz file.
    check : callable
        Takes the declared shape and dtype, and raises if the array is not the expected one.
    place : str
        Where the bytes are from, for messages.

    Raises
    ------
    NoSuchArrayError
        The .npz file has no such array.
    RawLayoutError
        The array would be far larger than raw data is.
    Exception
        Whatever NumPy and zipfile trip over in broken bytes.
    """
    if not content.startswith(b"PK"):
        return _read_npy(io.BytesIO(content), len(content), check)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        entry = entries.get(name.removesuffix(".npy"))
        if entry is None:
            raise NoSuchArrayError(", ".join(entries) or "no array")
        check_size(entry.file_size, entry.compress_size, f"{place}:{entry.filename}")
        with archive.open(entry) as stream:
            return _read_npy(stream, entry.file_size, check)


def _read_npy(stream: IO[bytes], size: int, check: Check) -> np.ndarray:
    read_header = NPY_HEADERS.get(np.lib.format.read_magic(stream))
    if read_header is None:  # of structured arrays only
        message = "format version of no plain array"
        raise ValueError(message)
    shape, _, dtype = read_header(stream)
    check(shape, dtype)
    n_bytes, n_left = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if n_bytes > n_left:
        message = f"its header declares {n_bytes} bytes of numbers, {n_left} follow"
        raise ValueError(message)
    stream.seek(0)
    return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def load_mat(content: bytes, name: str, check: Check, place: str) -> object:
    """Load one variable of a MATLAB file up to version 7; the others stay packed.

    Parameters and errors are those of `load_npy`; the dtype of numbers is not declared, and broken
    bytes make whatever SciPy trips over.

    Raises
    ------
    NotImplementedError
        The file is of version 7.3, which is HDF5.
    """
    import scipy.io
    from scipy.io.matlab import matfile_version

    # version 5 to 7, which can be compressed; 4 cannot
    elements = _elements(content) if matfile_version(io.BytesIO(content))[0] == 1 else None
    # whosmat inflates far more than the heads it looks at
    heads = content if elements is None else _only_heads(content, elements)
    declared = scipy.io.whosmat(io.BytesIO(heads))
    names = [one for one, *_ in declared]
    if name not in names:
        raise NoSuchArrayError(", ".join(names) or "no variable")
    index = names.index(name)
    _, shape, kind = declared[index]
    check(shape, np.dtype(MAT_KINDS[kind]) if kind in MAT_KINDS else None)
    if elements is not None:
        content = content[:MAT_HEADER] + _inflated(content, elements[index], place)
    return scipy.io.loadmat(io.BytesIO(content), variable_names=[name])[name]


def _tag(content: bytes) -> struct.Struct:
    return struct.Struct("<2I" if content[126:128] == b"IM" else ">2I")


def _elements(content: bytes) -> list[tuple[int, slice]]:
    """Kind and bytes of each element of a MAT file.

    Source: MAT-File Format, The MathWorks: a header of 128 bytes, then elements, each a tag (kind
    and number of bytes, 32 bits each) and its bytes; those of a compressed one are a zlib stream
    of the tag and bytes of another.
    """
    tag = _tag(content)
    elements = []
    start = MAT_HEADER
    while start < len(content):
        kind, size = tag.unpack_from(content, start)
        start += MAT_TAG
        elements.append((int(kind), slice(start, start + size)))
        start += size
    return elements


def _only_heads(content: bytes, elements: Sequence[tuple[int, slice]]) -> bytes:
    """The MAT file with no more of each element than the name, the type and the shape."""
    tag = _tag(content)
    heads = [content[:MAT_HEADER]]
    for kind, part in elements:
        body = content[part.start : min(part.stop, part.start + MAT_HEAD)]
        if kind == COMPRESSED:
            inner = zlib.decompressobj().decompress(body, MAT_TAG + MAT_HEAD)
            kind, body = int(tag.unpack_from(inner)[0]), inner[MAT_TAG:]
        heads += [tag.pack(kind, len(body)), body]
    return b"".join(heads)


def _inflated(content: bytes, element: tuple[int, slice], place: str) -> bytes:
    """An element as it is uncompressed, of the size that its tag declares."""
    tag = _tag(content)
    kind, part = element
    packed = content[part]
    if kind != COMPRESSED:
        return content[part.start - MAT_TAG : part.start] + packed
    inflate = zlib.decompressobj()
    inner = inflate.decompress(packed, MAT_TAG)
    n_bytes = int(tag.unpack(inner)[1])
    check_size(n_bytes, len(packed), place)
    # one byte more shows an element that is larger than its tag says
    values = inflate.decompress(inflate.unconsumed_tail, n_bytes + 1)
    if len(values) != n_bytes or not inflate.eof:
        message = f"an element of {n_bytes} bytes that is longer, or ends early"
        raise ValueError(message)
    return inner + values
