"""Ctrl-C before a command has begun, when the module that reports it may not be imported yet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def on_interrupt() -> Iterator[None]:
    """End the process on Ctrl-C as a command does."""
    try:
        yield
    except KeyboardInterrupt:
        from .output import interrupted

        interrupted(as_json="--json" in sys.argv)
