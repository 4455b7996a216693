"""What a validator finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Problem:
    """One finding: a stable code, where, what is wrong and what to do."""

    code: str
    severity: Literal["error", "warning"]
    where: str
    message: str
    fix: str = "Convert the raw data again."
