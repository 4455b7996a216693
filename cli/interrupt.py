"""Ctrl-C before a command has begun: the modules that tell about it may not be there yet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def on_interrupt() -> Iterator[None]:
    """End the process as a command does when Ctrl-C reaches it."""
    try:
        yield
    except KeyboardInterrupt:
        from .output import interrupted

        interrupted(as_json="--json" in sys.argv)
