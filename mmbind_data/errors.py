"""Errors a user can meet, one class per place to mend.

Every message has one shape, built by `problem`: what failed, where, what was expected, what was
found, and the next step. The command line prints the message and exits with ``exit_code``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MMBindError(Exception):
    """Base of all errors that mmbind raises on purpose."""

    exit_code = 1
    code = "internal"


class UsageError(MMBindError, ValueError):
    """An argument that cannot be used: unknown name, contradiction, wrong range."""

    exit_code = 2
    code = "usage"


class RawLayoutError(MMBindError, ValueError):
    """Raw data that is missing or is not what its dataset distributes."""

    exit_code = 4
    code = "raw-layout"


class FormatError(MMBindError, ValueError):
    """A store that is missing, of another kind, or broken."""

    exit_code = 4
    code = "format"


class OutputError(MMBindError, OSError):
    """A place that cannot be written: it exists already, or is read-only."""

    exit_code = 4
    code = "output"


class ModelError(MMBindError, OSError):
    """A pre-trained model that cannot be loaded."""

    exit_code = 4
    code = "model"


class BindingError(MMBindError, ValueError):
    """Stores that cannot be bound as asked."""

    exit_code = 4
    code = "binding"


class LeakError(MMBindError, ValueError):
    """Training or evaluation that would see what it must not see."""

    exit_code = 3
    code = "leak"


class TrainingError(MMBindError, ArithmeticError):
    """A training whose loss is no number any more."""

    exit_code = 3
    code = "training"


class LicenceError(MMBindError, PermissionError):
    """Data that its sources' licences do not allow to be published."""

    exit_code = 5
    code = "licence"


class IntegrityError(MMBindError, ValueError):
    """Bytes or values that are not those recorded."""

    exit_code = 6
    code = "integrity"


def problem(
    cannot: str, what: str, where: object, expected: str, got: str, next_step: str = ""
) -> str:
    """One sentence in the shape of every mmbind message.

    >>> problem("convert motionsense", "no trial folder", "raw/", "dws_1 and 14 more", "3 PDFs")
    'cannot convert motionsense: no trial folder at raw/: expected dws_1 and 14 more, got 3 PDFs.'
    """
    # what a library says often ends with a full stop of its own
    sentence = f"cannot {cannot}: {what} at {where}: expected {expected}, got {got.rstrip('. ')}."
    return printable(f"{sentence} {next_step}" if next_step else sentence)


def printable(text: str) -> str:
    r"""Text with control characters written out: raw data must not steer a terminal.

    >>> printable("a" + chr(27) + "]0;b" + chr(10))
    'a\\x1b]0;b\\n'
    """
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def suggest(name: str, known: Iterable[str]) -> str:
    """Name the close matches of a mistyped name, or all that are known.

    >>> suggest("giro", ["acc", "gyro"])
    'Did you mean gyro?'
    """
    candidates = sorted(known)
    lowered = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.lower(), lowered, n=2, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(lowered[match] for match in close)}?"
    return f"Known: {', '.join(candidates) or 'none'}."
