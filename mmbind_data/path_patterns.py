"""Patterns of raw files' paths, as a user's descriptor gives them: ``{subject}/{label}.csv``."""

from __future__ import annotations

import re

GROUP = re.compile(r"\{([a-z][a-z0-9_]*)\}")


def match_path(pattern: re.Pattern[str], path: str) -> dict[str, str] | None:
    """Groups of a path that a pattern matches, or None.

    The path below the raw folder (the first part of ``path``) must match, or else the whole path,
    or else its end: people point at a folder above or below the one they had in mind.
    """
    parts = path.split("/")
    for start in (1, 0, *range(2, len(parts))):
        match = pattern.fullmatch("/".join(parts[start:]))
        if match is not None:
            return {name: value or "" for name, value in match.groupdict().items()}
    return None


def compile_pattern(text: str) -> re.Pattern[str]:
    """Turn a path pattern into a regular expression; see `match_path`.

    ``{name}`` stands for text without a slash, ``*`` for any such text, ``**`` for any text; a
    pattern with ``(?P<`` is a regular expression already.

    >>> match_path(compile_pattern("{subject}/{label}.csv"), "raw/s1/walk.csv")
    {'subject': 's1', 'label': 'walk'}
    """
    if "(?P<" in text:
        return re.compile(text)
    parts, end, seen = [], 0, set()
    for match in GROUP.finditer(text):
        parts.append(_literal(text[end : match.start()]))
        name = match[1]
        parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+?)")
        seen.add(name)
        end = match.end()
    return re.compile("".join(parts) + _literal(text[end:]))


def _literal(text: str) -> str:
    return re.escape(text).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
