"""How a function reports its progress, and a time as people write it."""

from __future__ import annotations

from collections.abc import Callable

# called with the steps done, the steps in all, and what is being done
Progress = Callable[[int, int, str], None]


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(40), duration(400), duration(9000)
    ('40 s', '7 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
