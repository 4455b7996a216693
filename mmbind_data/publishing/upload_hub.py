"""A dataset repository of the Hugging Face hub as a place for a bundle.

It was tested against a local server that answers as the hub's documentation describes, not against
the hub itself.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from mmbind_data.errors import MMBindError, OutputError, UsageError
from mmbind_data.io.digests import BUNDLE_OWN
from mmbind_data.spec.bundle import ManifestEntry
from mmbind_data.store.root import BUNDLE

HUB = "hf://"
FORM = "hf://datasets/owner/name"
KIND = "dataset"
ATTRIBUTES = ".gitattributes"  # made by the hub itself
SECONDS = 10.0
LOGIN = "Log in with: hf auth login, or set HF_TOKEN; the token needs the right to write."
CONNECTION = "Check the connection and HF_ENDPOINT; HF_HUB_OFFLINE must not be set."
# what the hub's client raises when there is no hub, whichever library it uses
CLIENTS = ("httpx", "httpx2", "httpcore", "requests", "huggingface_hub")


class HubRepository:
    """A repository; one that does not exist is created, private.

    Parameters
    ----------
    address : str
        ``hf://datasets/owner/name``.

    Raises
    ------
    UsageError
        An address of another form.
    """

    def __init__(self, address: str) -> None:
        found = re.fullmatch(rf"{HUB}datasets/([\w.-]+/[\w.-]+)/?", address, flags=re.ASCII)
        if found is None:
            problem, got = "not an address of the hub", "another form"
            raise UsageError(cannot="publish", problem=problem, at=address, expected=FORM, got=got)
        self.address, self.name = address, found[1]

    @cached_property
    def api(self) -> Any:
        """The hub's own client."""
        from huggingface_hub import HfApi
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
        return HfApi(os.environ.get("HF_ENDPOINT"), library_name="mmbind")

    def files(self) -> dict[str, Any]:
        """What the repository holds, by name, as the hub describes it."""
        from huggingface_hub import RepoFile
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            self.api.repo_info(self.name, repo_type=KIND, timeout=SECONDS)  # fails at once
            tree = self.api.list_repo_tree(self.name, repo_type=KIND, recursive=True)
            found = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
        except RepositoryNotFoundError:
            return {}
        return {name: entry for name, entry in found.items() if name != ATTRIBUTES}

    def is_ours(self, files: Mapping[str, Any]) -> bool:
        """Whether the files are a bundle of mmbind; its first commit has all but the manifest."""
        return {BUNDLE, BUNDLE_OWN[1]} <= files.keys()

    def same(self, path: Path, entry: ManifestEntry, found: Any) -> bool:
        """Whether a file equals a local one: by sha256 if it is large, else by git's name."""
        if found.size != entry.bytes:
            return False
        if found.lfs is not None:
            return bool(found.lfs.sha256 == entry.sha256)
        content = path.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        return bool(found.blob_id == blob.hexdigest())

    def send(
        self, folder: Path, groups: Sequence[Sequence[str]], removed: Sequence[str]
    ) -> Iterator[int]:
        """Send and delete files in one commit; yields how many were sent.

        The repository's history keeps what is deleted.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        names = [name for group in groups for name in group]
        if not names and not removed:
            return
        self.api.create_repo(self.name, repo_type=KIND, private=True, exist_ok=True)
        self.api.create_commit(
            repo_id=self.name,
            repo_type=KIND,
            operations=[
                *(CommitOperationDelete(name) for name in removed if name not in names),
                *(CommitOperationAdd(name, folder / name) for name in names),
            ],
            commit_message="Bundle, by mmbind publish",
        )
        yield len(names)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn an error of the hub's client into one sentence, without what it had sent."""
        try:
            yield
        except MMBindError:
            raise
        except Exception as error:
            # for a large file the client says only that it failed
            reason = error.__cause__ or error if isinstance(error, RuntimeError) else error
            package = type(reason).__module__.partition(".")[0]
            if package not in CLIENTS and not isinstance(reason, OSError):
                raise
            status = getattr(getattr(reason, "response", None), "status_code", None)
            raise OutputError(
                cannot="publish",
                problem="the hub refuses" if status else "the hub cannot be reached",
                at=self.address,
                expected="a repository that can be written",
                got=f"status {status}" if status else f"no answer ({type(reason).__name__})",
                fix=LOGIN if status else CONNECTION,
            ) from error
