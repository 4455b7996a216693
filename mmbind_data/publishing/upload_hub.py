"""Send a bundle to a dataset repository of the Hugging Face hub.

It was tried against a server on the same machine that answers as the hub's documentation says, and
not against the hub itself, which cannot be reached from where this was made.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmbind_data.errors import IntegrityError, MMBindError, OutputError, UsageError
from mmbind_data.io.digests import BUNDLE_OWN
from mmbind_data.progress import Progress
from mmbind_data.spec.bundle import ManifestEntry
from mmbind_data.store.root import BUNDLE

DOING = "publish"
HUB = "hf://"
FORM = "hf://datasets/owner/name"
KIND = "dataset"
MANIFEST, SUMS = BUNDLE_OWN
KEPT = ".gitattributes"  # the hub's own
SECONDS = 10.0
LOGIN = "Log in with: hf auth login, or set HF_TOKEN; the token needs the right to write."
# what the hub's client raises when there is no hub, whichever library it talks through
CLIENTS = ("httpx", "httpx2", "httpcore", "requests", "huggingface_hub")


def repository(address: str) -> str:
    """Name ``owner/name`` of the repository that an address means.

    Raises
    ------
    UsageError
    """
    found = re.fullmatch(rf"{HUB}datasets/([\w.-]+/[\w.-]+)/?", address, flags=re.ASCII)
    if found is None:
        raise UsageError(
            cannot=DOING,
            problem="not an address of the hub",
            at=address,
            expected=FORM,
            got="another form",
        )
    return found[1]


def check_hub(address: str, *, overwrite: bool) -> None:
    """Refuse a repository that holds a bundle, or something else, before any work is done.

    Raises
    ------
    OutputError
        Also when the hub cannot be reached.
    UsageError
    """
    repo = repository(address)
    with _told(address):
        names = set(_listing(_api(), repo)) - {KEPT}
    if not names:
        return
    step = "Choose another repository, or replace it with --overwrite."
    if not {BUNDLE, SUMS} <= names:
        what, step = "the repository holds no bundle of mmbind", "Choose another repository."
    elif overwrite:
        return
    else:
        what = "the output exists already"
    raise OutputError(
        cannot=DOING,
        problem=what,
        at=address,
        expected="an empty repository, or none",
        got=f"{len(names)} files",
        fix=step,
    )


def upload_to_hub(
    folder: Path,
    entries: Sequence[ManifestEntry],
    address: str,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Send every file of a bundle, list what is there, and compare.

    A repository that does not exist is made, private: to open it is a step on its page. What an
    older bundle had more is deleted; the repository's history keeps it. MANIFEST.json goes last.

    Parameters
    ----------
    folder : Path
        The bundle.
    entries : sequence of ManifestEntry
        All of its files, the manifest's own two too.
    address : str
        ``hf://datasets/owner/name``.
    overwrite : bool
        A bundle may stand there.
    progress : callable (done, total, text), optional

    Raises
    ------
    OutputError
        The repository is taken, or the hub refuses or cannot be reached.
    IntegrityError
        What was sent is not what lies there.
    """
    repo = repository(address)
    check_hub(address, overwrite=overwrite)
    with _told(address):
        api = _api()
        api.create_repo(repo, repo_type=KIND, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=repo, repo_type=KIND, folder_path=folder, ignore_patterns=[MANIFEST],
            delete_patterns="*", commit_message="Bundle, by mmbind publish",
        )  # fmt: skip
        _compare(folder, [one for one in entries if one.path != MANIFEST], _listing(api, repo),
                 address)  # fmt: skip
        api.upload_file(
            repo_id=repo, repo_type=KIND, path_or_fileobj=folder / MANIFEST, path_in_repo=MANIFEST,
            commit_message="Manifest: the bundle is complete",
        )  # fmt: skip
        _compare(folder, entries, _listing(api, repo), address)
    if progress:
        progress(len(entries), len(entries), "upload")


def _api() -> Any:
    from huggingface_hub import HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    return HfApi(library_name="mmbind")


def _listing(api: Any, repo: str) -> dict[str, Any]:
    """Files of a repository by name, as the hub tells them; none if there is no repository."""
    from huggingface_hub import RepoFile
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        api.repo_info(repo, repo_type=KIND, timeout=SECONDS)  # one request: fails at once
        tree = api.list_repo_tree(repo, repo_type=KIND, recursive=True)
        return {one.path: one for one in tree if isinstance(one, RepoFile)}
    except RepositoryNotFoundError:
        return {}


def _compare(
    folder: Path, entries: Sequence[ManifestEntry], there: Mapping[str, Any], address: str
) -> None:
    wanted = {one.path: one for one in entries}
    wrong = sorted((there.keys() - {KEPT}) ^ wanted.keys()) or [
        name for name, one in wanted.items() if not _same(folder / name, one, there[name])
    ]
    if wrong:
        raise IntegrityError(
            cannot=DOING,
            problem="what lies there is not what was sent",
            at=f"{address} {wrong[0]}",
            expected=f"{len(wanted)} files as sent",
            got=f"{len(wrong)} that differ",
            fix="Run the same command again with --overwrite.",
        )


def _same(path: Path, entry: ManifestEntry, found: Any) -> bool:
    """Whether a file of the repository is the local one: the hub tells sha256, or git's name."""
    if found.size != entry.bytes:
        return False
    if found.lfs is not None:
        return bool(found.lfs.sha256 == entry.sha256)
    content = path.read_bytes()  # what is not large alone
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return bool(found.blob_id == blob.hexdigest())


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Tell in one sentence why the hub's client failed, without repeating what it had sent."""
    try:
        yield
    except MMBindError:
        raise
    except Exception as error:
        # of a large file the client tells no more than that it failed
        reason = error.__cause__ or error if isinstance(error, RuntimeError) else error
        package = type(reason).__module__.partition(".")[0]
        if package not in CLIENTS and not isinstance(reason, OSError):
            raise
        status = getattr(getattr(reason, "response", None), "status_code", None)
        got = f"status {status}" if status else f"no answer ({type(reason).__name__})"
        step = "Check the connection and HF_ENDPOINT; HF_HUB_OFFLINE must not be set."
        raise OutputError(
            cannot=DOING,
            problem="the hub refuses" if status else "the hub cannot be reached",
            at=address,
            expected="a repository that can be written",
            got=got,
            fix=LOGIN if status else step,
        ) from error
