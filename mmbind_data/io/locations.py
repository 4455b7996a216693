"""Where a path leads: to this machine's disk, or to an S3 bucket that is read in place.

What lies in a bucket is never downloaded as a whole: documents, tables and shards are fetched when
they are asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mmbind_data.errors import FormatError, MMBindError, UsageError, printable

if TYPE_CHECKING:
    from zarr.storage import FsspecStore


S3 = "s3://"
INSTALL = "Install what it needs: pip install 'mmbind[s3]'."
CREDENTIALS = (
    "Credentials are taken from where AWS's own tools take them: AWS_PROFILE, AWS_ACCESS_KEY_ID "
    "and AWS_SECRET_ACCESS_KEY, ~/.aws; another service's address from AWS_ENDPOINT_URL."
)
# A wrong address is told within seconds; slow answers of a busy service are waited for.
CONFIG = {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 3}}


def is_remote(path: object) -> bool:
    """Whether a path, or the text of one, leads to a bucket.

    >>> is_remote("s3://bucket/a.zarr"), is_remote(Path("a.zarr"))
    (True, False)
    """
    return path.startswith(S3) if isinstance(path, str) else not isinstance(path, os.PathLike)


def locate(path: str | Path) -> Path:
    """Turn a path given by a user into one to read from.

    Parameters
    ----------
    path : str or Path
        A text that begins with ``s3://`` leads to a bucket, everything else to the disk.

    Returns
    -------
    Path
        Of a bucket an object with the methods of a Path by which stores are read.

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
        system.invalidate_cache()  # somebody may have written since the last look
        system.exists(f"{bucket}/{prefix}")
    from upath import UPath

    return cast(Path, UPath(f"{S3}{bucket}/{prefix}", **system.storage_options))


def bucket_and_prefix(address: str) -> tuple[str, str]:
    """Parts of an address ``s3://bucket/prefix``; the prefix may be empty.

    Raises
    ------
    UsageError
        Also where a key and its secret stand in the address: it would be written into documents.
    """
    bucket, _, prefix = address.removeprefix(S3).partition("/")
    prefix = prefix.strip("/")
    if "@" in bucket or ":" in bucket:
        raise UsageError(
            cannot="use an address of S3",
            problem="it names more than a bucket",
            at=S3,
            expected="s3://bucket/prefix",
            got="a key or an access point in front",
            fix=CREDENTIALS,
        )
    if not bucket or any(part in ("", ".", "..") for part in prefix.split("/") if prefix):
        raise UsageError(
            cannot="use an address of S3",
            problem="not an address",
            at=printable(address),
            expected="s3://bucket/prefix",
            got="empty parts, or parts of dots",
        )
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
        raise FormatError(
            cannot=doing,
            problem="a package is missing",
            at=S3,
            expected="s3fs and universal_pathlib",
            got=f"no {error.name}",
            fix=INSTALL,
        ) from error
    # botocore reads these too; given here, two services are not taken for one within a process
    address = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return s3fs.S3FileSystem(endpoint_url=address, config_kwargs=CONFIG)


@contextmanager
def s3_errors(doing: str, address: str, kind: type[MMBindError]) -> Iterator[None]:
    """Tell what S3 answers in one sentence, without repeating what may hold a secret."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except MMBindError:
        raise
    except (BotoCoreError, ClientError, OSError) as error:
        got = type(error).__name__
        if isinstance(error, PermissionError):
            got = "access denied, or an unknown key"
        elif isinstance(error, FileNotFoundError):
            got = "no such bucket"
        elif got == "NoCredentialsError":
            got = "no credentials"
        elif got in ("EndpointConnectionError", "ConnectTimeoutError"):
            got = "no answer from the service"
        raise kind(
            cannot=doing,
            problem="S3 refuses",
            at=address,
            expected="a bucket that can be used",
            got=got,
            fix=CREDENTIALS,
        ) from error


def relative_link(target: Path, out: Path) -> str:
    """How a result at ``out`` writes down where ``target`` lies: `resolve_link` reads it.

    Relative on one disk, so that both can move together; the address of what lies in a bucket.
    """
    if is_remote(target):
        return str(target)
    # Resolved, because ".." behind a link leads to the parent of what it points to.
    return Path(os.path.relpath(target.resolve(), out.parent.resolve())).as_posix()


def resolve_link(path: Path, relative: str) -> Path:
    """What a path relative to the folder of ``path``, or an address, leads to."""
    if is_remote(relative):
        return locate(relative)
    place = path.resolve().parent / relative
    return place.resolve() if is_remote(path) else place


def files_below(root: Path) -> Iterator[str]:
    """Relative POSIX paths of all files below a folder, in any order."""
    if is_remote(root):
        remote: Any = root
        start = remote.path.rstrip("/") + "/"
        yield from (name.removeprefix(start) for name in remote.fs.find(start))
        return
    for path in root.rglob("*"):
        if path.is_file():
            yield path.relative_to(root).as_posix()


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
    remote: Any = path
    return FsspecStore.from_url(str(path), dict(remote.storage_options), read_only=True)
