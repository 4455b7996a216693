"""Read arrays of raw files: MATLAB and NumPy, checked against what is expected of them."""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

import numpy as np

from mmbind_data.errors import RawLayoutError
from mmbind_data.raw.files import RawFile, bad_file
from mmbind_data.raw.zips import check_size

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


@dataclass(frozen=True)
class Variable:
    """An array that a file must hold; None is a free size, of at least one."""

    name: str
    shape: tuple[int | None, ...]
    kinds: str = "fiu"

    def __str__(self) -> str:
        sides = " x ".join("n" if side is None else str(side) for side in self.shape)
        word = "numbers" if "f" in self.kinds else "unsigned integers"
        return f"{self.name}, {sides} {word}"


def read_mat(file: RawFile, variable: Variable, *, finite: bool = True) -> np.ndarray:
    """Load one array of a MATLAB 5 file, in the file's dtype.

    MATLAB may store whole-numbered floats as integers: kinds "fiu" of the variable allow for it.
    With ``finite`` NaN and infinity are refused.

    Raises
    ------
    RawLayoutError
        The file is empty or broken, or holds another array.
    """
    return _read(file, variable, _load_mat, "a whole MAT file of version 5 to 7", finite=finite)


def read_npy(file: RawFile, variable: Variable, *, finite: bool = True) -> np.ndarray:
    """Load the array of an .npy file, or the entry ``variable.name`` of an .npz file.

    Parameters and the result are those of `read_mat`.
    """
    return _read(file, variable, _load_npy, "a whole NumPy file", finite=finite)


def _read(
    file: RawFile, variable: Variable, load: Callable[..., object], kind: str, *, finite: bool
) -> np.ndarray:
    """Decode a file by `_load_mat` or `_load_npy` and make sure that it holds the variable."""
    content = file.read()
    if not content:
        raise bad_file(file, "empty file", f"{kind} with {variable}", "0 bytes")
    try:
        found = load(content, variable.name, partial(_check_declared, file, variable), file.place)
    except RawLayoutError:
        raise
    except _NoSuchArrayError as error:
        raise bad_file(file, "another variable", str(variable), error) from error
    except NotImplementedError as error:
        raise bad_file(file, "another version of the format", kind, error) from error
    # SciPy, NumPy and zipfile raise errors of many kinds for broken bytes
    except Exception as error:
        got = f"{len(content)} bytes that cannot be parsed ({error})"
        raise bad_file(file, "broken file", f"{kind} with {variable}", got) from error
    return check_array(file, found, variable, finite=finite)


def read_floats(file: RawFile, n_columns: int, dtype: str = "<f8") -> np.ndarray:
    """Read rows of little-endian numbers without a header, shape (n, n_columns); n may be 0."""
    content = file.read()
    row_bytes = np.dtype(dtype).itemsize * n_columns
    if len(content) % row_bytes:
        expected = f"rows of {n_columns} numbers, {row_bytes} bytes each"
        raise bad_file(file, "broken file", expected, f"{len(content)} bytes")
    values = np.frombuffer(content, dtype=dtype).reshape(-1, n_columns)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0].tolist()
        got = f"{values[row, column]} in row {row}, column {column}"
        raise bad_file(file, "missing value", "numbers only", got)
    return values


def check_array(
    file: RawFile, values: object, variable: Variable, *, finite: bool = True
) -> np.ndarray:
    """Make sure that a decoded object is the expected array.

    Raises
    ------
    RawLayoutError
        Another type or shape, or a value that is not finite.
    """
    if not isinstance(values, np.ndarray):
        got = f"{variable.name} of type {getattr(values, 'dtype', type(values).__name__)}"
        raise bad_file(file, "another type", str(variable), got)
    _check_declared(file, variable, values.shape, values.dtype)
    if finite and values.dtype.kind == "f" and not np.isfinite(values).all():
        place = np.argwhere(~np.isfinite(values))[0].tolist()
        raise bad_file(file, "missing value", "numbers only", f"{values[tuple(place)]} at {place}")
    return values


def _check_declared(
    file: RawFile, variable: Variable, shape: Sequence[int], dtype: np.dtype[Any] | None
) -> None:
    if dtype is not None and dtype.kind not in variable.kinds:
        got = f"{variable.name} of type {dtype}"
        raise bad_file(file, "another type", str(variable), got)
    fits = len(shape) == len(variable.shape) and all(
        size == side or (side is None and size > 0)
        for size, side in zip(shape, variable.shape, strict=True)
    )
    if not fits:
        raise bad_file(file, "another shape", str(variable), " x ".join(map(str, shape)))


class _NoSuchArrayError(LookupError):
    """The file has no array of that name; the message lists those that it has."""


def _load_npy(content: bytes, name: str, check: Check, place: str) -> np.ndarray:
    """Load an .npy file, or one array of an .npz file.

    ``check`` gets the declared shape and dtype, and raises if the array is not the expected one;
    ``place`` is where the bytes are from, for messages. Broken bytes raise errors of any kind.
    """
    if not content.startswith(b"PK"):
        return _read_npy(io.BytesIO(content), len(content), check)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        entry = entries.get(name.removesuffix(".npy"))
        if entry is None:
            raise _NoSuchArrayError(", ".join(entries) or "no array")
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


def _load_mat(content: bytes, name: str, check: Check, place: str) -> object:
    """Load one variable of a MATLAB file up to version 7; the others stay packed.

    As `_load_npy`, but the dtype of numbers is not declared. NotImplementedError is raised for
    version 7.3, which is HDF5.
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
        raise _NoSuchArrayError(", ".join(names) or "no variable")
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
    """The MAT file with the name, the type and the shape of each element alone."""
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
    """An element without compression, of the size that its tag declares."""
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
