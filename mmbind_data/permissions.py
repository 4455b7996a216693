"""Read the permissions that owners of data have given: JSON, or Markdown with a head."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .errors import UsageError, problem
from .spec import Permission

_HEAD = re.compile(r"---\n(.*?)\n---\n(.*)", re.DOTALL)
NEXT = (
    "Write source, granted_by, date (YYYY-MM-DD) and text as a JSON object, or as Markdown whose "
    "head between two lines of --- has the first three and whose body is the text."
)


def read_permissions(paths: Sequence[str | Path]) -> list[tuple[Permission, Path]]:
    """Read permissions, each with the file that holds it.

    Parameters
    ----------
    paths : sequence of path
        JSON: one object or a list of them. Markdown: ``name: value`` lines between two lines of
        ``---``, then the words of the permission.

    Returns
    -------
    list of (Permission, Path)

    Raises
    ------
    UsageError
        A file is missing, unreadable, or lacks a field; two files have one name.
    """
    found: list[tuple[Permission, Path]] = []
    places: dict[str, Path] = {}
    for path in map(Path, paths):
        if places.setdefault(path.name, path) != path:
            expected, got = "files of different names", f"{places[path.name]} and {path}"
            raise UsageError(
                problem("use a permission", "a name twice", "--permission", expected, got)
            )
        found += [(one, path) for one in _read(path)]
    return found


def _read(path: Path) -> list[Permission]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        document = _markdown(text) if path.suffix.lower() in (".md", ".txt") else json.loads(text)
        listed = document if isinstance(document, list) else [document]
        if not listed:
            message = "an empty list"
            raise ValueError(message)
        # as JSON, because from there a date is a text
        return [Permission.model_validate_json(json.dumps(one)) for one in listed]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        got = f"{where}: {first['msg']}"
    except (OSError, ValueError) as error:
        got = str(error)
    expected = "source, granted_by, date and text"
    raise UsageError(
        problem("use a permission", "not a permission", path, expected, got, NEXT)
    ) from None


def _markdown(text: str) -> dict[str, Any]:
    found = _HEAD.fullmatch(text.replace("\r\n", "\n"))
    if found is None:
        message = "Markdown without a head"
        raise ValueError(message)
    pairs = [line.partition(":") for line in found[1].splitlines() if line.strip()]
    head = {name.strip(): value.strip() for name, _, value in pairs}
    return {**head, "text": found[2].strip()}
