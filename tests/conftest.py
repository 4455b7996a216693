"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real raw data; the test is skipped where there is none."""
    beside_the_project = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("MMBIND_REALDATA", beside_the_project))
    if not path.is_dir():
        pytest.skip(f"no real data at {path}")
    return path
