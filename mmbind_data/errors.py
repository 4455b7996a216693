"""Errors that a user can meet, one class per remedy, and the findings of a validator.

Every message has one shape: what failed, where, what was expected, what was found, and the next
step. The exceptions compose it from keyword arguments; the command line prints it and exits with
``exit_code``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeVar

E = TypeVar("E", bound="MMBindError")


class MMBindError(Exception):
    """Base of all errors that mmbind raises on purpose.

    Parameters
    ----------
    cannot : str
        What failed, as it follows "cannot".
    problem : str
        What is wrong, in a few words.
    at : object
        Where: a path, an option, a key.
    expected : str
    got : object
        Of an OSError the reason is shown, as "No such file or directory".
    fix : str
        The next step, a sentence of its own.

    Examples
    --------
    >>> print(
    ...     UsageError(cannot="bind", problem="too few stores", at="A B", expected="two", got="1")
    ... )
    cannot bind: too few stores at A B: expected two, got 1.
    """

    exit_code = 1
    code = "internal"

    def __init__(
        self, *, cannot: str, problem: str, at: object, expected: str, got: object, fix: str = ""
    ) -> None:
        reason = got.strerror if isinstance(got, OSError) else None
        # messages of libraries often end with a full stop
        found = str(reason or got).rstrip(". ")
        sentence = f"cannot {cannot}: {problem} at {at}: expected {expected}, got {found}."
        super().__init__(printable(f"{sentence} {fix}" if fix else sentence))

    def replaced(self, old: str, new: str) -> Self:
        """Give the same error with a part of its sentence replaced, such as a temporary path."""
        return _restore(type(self), str(self).replace(old, new))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), str(self)), self.__dict__


def _restore(kind: type[E], message: str) -> E:
    """Make an error with a finished sentence, also in another process."""
    error = kind.__new__(kind)
    error.args = (message,)
    return error


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
    """An output that cannot be written: the path exists already, or is read-only."""

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
    """A training whose loss is no longer finite."""

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


def printable(text: str) -> str:
    r"""Text with control characters written out: raw data must not steer a terminal.

    >>> printable("a" + chr(27) + "]0;b" + chr(10))
    'a\\x1b]0;b\\n'
    """
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


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


@dataclass(frozen=True)
class Finding:
    """One finding: a stable code, where, what is wrong and what to do."""

    code: str
    severity: Literal["error", "warning"] = field(default="error", kw_only=True)
    where: str
    message: str
    fix: str = "Convert the raw data again."
