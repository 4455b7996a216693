"""The product refers to nothing that its users do not have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("mmbind_data", "mmbind_train", "cli", "schemas", "tests", "examples", "docs")
TEXTS = {
    ".py",
    ".md",
    ".json",
    ".toml",
    ".template",
    ".yaml",
    ".txt",
    ".cff",
    ".html",
    ".css",
    ".mplstyle",
}
# pages and folders of the project's own development
PRIVATE = re.compile(
    r"\bPROTOCOLS\b|\bDESIGN\b|\bHOUSE\.md|\bfacts/|\bshared/(data|facts|cases|faults|papers)"
    r"|\breference-(utd|mmfi)"
)


def texts() -> Iterator[Path]:
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in TEXTS)
    for folder in FOLDERS:
        yield from (path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in TEXTS)


def test_nothing_refers_to_private_pages() -> None:
    own = Path(__file__).resolve()
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in texts()
        if path != own
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if PRIVATE.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("text", ["see ../shared/data", "PROTOCOLS.md section 2", "DESIGN 9"])
def test_the_search_sees_a_reference(text: str) -> None:
    assert PRIVATE.search(text)
