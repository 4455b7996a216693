"""What a written raw folder must read as, and the ways raw folders are kept."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from mmbind_data.testing.conformance import Truth

__all__ = ["FORMS", "Truth", "add_macos_junk", "lasting", "reshape"]

FORMS = ("folders", "zips", "doubled")


def add_macos_junk(folder: Path) -> None:
    """What the Finder leaves: AppleDouble twins that are named like data."""
    twins = folder.parent / "__MACOSX" / folder.name
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            twin = twins / file.relative_to(folder).with_name(f"._{file.name}")
            twin.parent.mkdir(parents=True, exist_ok=True)
            twin.write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        ")
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")


def reshape(root: Path, folders: tuple[str, ...], form: str) -> None:
    """Turn the folders of ``root`` into zips, or nest each in a folder of its own name."""
    for name in folders:
        folder = root / name
        if form == "doubled":
            inner = root / "inner"
            folder.rename(inner)
            folder.mkdir()
            inner.rename(folder / name)
        elif form == "zips":
            with zipfile.ZipFile(root / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                for file in sorted([*folder.rglob("*"), *(root / "__MACOSX" / name).rglob("*")]):
                    archive.write(file, file.relative_to(root))
            shutil.rmtree(folder)
            shutil.rmtree(root / "__MACOSX" / name, ignore_errors=True)
        elif form != "folders":
            raise ValueError(form)


def lasting(lost: Sequence[bool], longest: int) -> list[tuple[int, int]]:
    """Runs of lost frames that are not bridged: longer than that, or at an end."""
    found = []
    frame = 0
    while frame < len(lost):
        end = frame
        while end < len(lost) and lost[end]:
            end += 1
        if end > frame and (end - frame > longest or frame == 0 or end == len(lost)):
            found.append((frame, end))
        frame = max(end, frame + 1)
    return found
