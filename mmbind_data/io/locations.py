"""Paths on this machine's disk and in S3 buckets, which are read in place.

A store in a bucket is never downloaded as a whole: documents, tables and shards are fetched when
they are needed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mmbind_data.errors import FormatError, MMBindError, UsageError

if TYPE_CHECKING:
    from upath import UPath
    from zarr.storage import FsspecStore


S3 = "s3://"
INSTALL = "Install what it needs: pip install 'mmbind[s3]'."
CREDENTIALS = (
    "Credentials are found as by AWS's own tools: AWS_PROFILE, AWS_ACCESS_KEY_ID "
    "and AWS_SECRET_ACCESS_KEY, ~/.aws; another service's address from AWS_ENDPOINT_URL."
)
# a wrong address fails within seconds, while slow answers of a busy service are waited for
S3_ANSWERS = {
    "PermissionError": "access denied, or an unknown key",
    "FileNotFoundError": "no such bucket",
    "NoCredentialsError": "no credentials",
    "EndpointConnectionError": "no answer from the service",
    "ConnectTimeoutError": "no answer from the service",
}
CONFIG = {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 3}}


def is_remote(path: str | Path) -> bool:
    """Whether a path is an address of S3, as text or from `locate`.

    >>> is_remote("s3://bucket/a.zarr"), is_remote(Path("a.zarr"))
    (True, False)
    """
    return str(path).startswith(S3)


def locate(path: str | Path) -> Path:
    """Turn a path or an address of S3 into a path to read from.

    A text that begins with ``s3://`` is an address in a bucket. It becomes a `upath.UPath`, which
    has the methods of a Path that reading needs.

    Raises
    ------
    FormatError
        The bucket cannot be reached, or the packages for it are not installed.
    UsageError
        The address has no bucket, or holds a secret.
    """
    if not isinstance(path, str):
        return path
    if not is_remote(path):
        return Path(path)
    bucket, prefix = bucket_and_prefix(path)
    system = s3_system("read")
    with s3_errors("read", path, FormatError):
        system.invalidate_cache()  # the bucket may have changed since the last look
        system.exists(f"{bucket}/{prefix}")
    from upath import UPath

    return cast(Path, UPath(f"{S3}{bucket}/{prefix}", **system.storage_options))


def bucket_and_prefix(address: str) -> tuple[str, str]:
    """Parts of an address ``s3://bucket/prefix``; the prefix may be empty.

    Raises
    ------
    UsageError
        Not an address; or it holds a key and its secret, which would be written into documents.
    """
    bucket, _, prefix = address.removeprefix(S3).partition("/")
    prefix = prefix.strip("/")
    wrong = partial(UsageError, cannot="use an address of S3", expected="s3://bucket/prefix")
    if "@" in bucket or ":" in bucket:
        what, got = "it names more than a bucket", "a key or an access point in front"
        raise wrong(problem=what, at=S3, got=got, fix=CREDENTIALS)
    if not bucket or any(part in ("", ".", "..") for part in prefix.split("/") if prefix):
        raise wrong(problem="not an address", at=address, got="empty parts, or parts of dots")
    return bucket, prefix


def s3_system(doing: str) -> Any:
    """The file system of S3, by fsspec; credentials and address are found by botocore.

    Raises
    ------
    FormatError
        A package is missing.
    """
    try:
        import s3fs
        import upath  # noqa: F401
    except ImportError as error:
        what, expected = "a package is missing", "s3fs and universal_pathlib"
        got = f"no {error.name}"
        raise FormatError(
            cannot=doing, problem=what, at=S3, expected=expected, got=got, fix=INSTALL
        ) from error
    # botocore reads these too; given here, s3fs does not take two services for one in a process
    address = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return s3fs.S3FileSystem(endpoint_url=address, config_kwargs=CONFIG)


@contextmanager
def s3_errors(doing: str, address: str, kind: type[MMBindError]) -> Iterator[None]:
    """Turn errors of S3 into one sentence, without parts that may hold a secret."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except MMBindError:
        raise
    except (BotoCoreError, ClientError, OSError) as error:
        names = [base.__name__ for base in type(error).mro()]
        got = next((S3_ANSWERS[name] for name in names if name in S3_ANSWERS), names[0])
        what, expected = "S3 refuses", "a bucket that can be used"
        raise kind(
            cannot=doing, problem=what, at=address, expected=expected, got=got, fix=CREDENTIALS
        ) from error


def relative_link(target: Path, out: Path) -> str:
    """The path of ``target`` as a result at ``out`` records it, for `resolve_link`.

    It is relative to the folder of ``out``, so that both can move together, or an address of S3.
    """
    if is_remote(target):
        return str(target)
    # resolved, because ".." after a symbolic link is the parent of its target
    return Path(os.path.relpath(target.resolve(), out.parent.resolve())).as_posix()


def resolve_link(path: Path, relative: str) -> Path:
    """The location of a path that is relative to the folder of ``path``, or of an address."""
    if is_remote(relative):
        return locate(relative)
    place = path.resolve().parent / relative
    return place.resolve() if is_remote(path) else place


def files_below(root: Path) -> Iterator[str]:
    """Relative POSIX paths of all files below a folder, in any order."""
    if not is_remote(root):
        return (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    remote = cast("UPath", root)
    start = remote.path.rstrip("/") + "/"
    return (name.removeprefix(start) for name in remote.fs.find(start))


def parquet_location(path: Path) -> Any:
    """What pyarrow reads in place of a path: a table in a bucket is fetched whole."""
    if not is_remote(path):
        return path
    import pyarrow as pa

    return pa.BufferReader(path.read_bytes())


def zarr_location(path: Path) -> Path | FsspecStore:
    """What zarr opens in place of a path."""
    if not is_remote(path):
        return path
    from zarr.storage import FsspecStore

    # a connection of its own: zarr reads in an event loop of its own
    options = dict(cast("UPath", path).storage_options)
    return FsspecStore.from_url(str(path), options, read_only=True)
