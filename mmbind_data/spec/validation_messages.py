"""Why a JSON document is refused, in plain words in place of pydantic's and Python's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

MAX_SHOWN = 80  # characters of a value in a message
# pydantic's kinds of error -> what JSON calls the value that the field takes
EXPECTED = {
    "model_type": "an object {...}",
    "dict_type": "an object {...}",
    "list_type": "a list [...]",
    "tuple_type": "a list [...]",
    "string_type": "a text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
}
UNION_PARTS = ("str", "int", "constrained-str", "constrained-int")


@dataclass(frozen=True)
class DocumentFault:
    """What is wrong with a document, in the parts of an error message.

    Attributes
    ----------
    problem : str
    key : str
        Dotted path of the field; empty for the document as a whole.
    expected, got : str
    fix : str
        The next step, if one is known.
    """

    problem: str
    key: str
    expected: str
    got: str
    fix: str = ""

    def keywords(self, document: object) -> dict[str, str]:
        """Arguments ``problem``, ``at``, ``expected`` and ``got`` of an error of mmbind."""
        at = f"{self.key} in {document}" if self.key else str(document)
        return {"problem": self.problem, "at": at, "expected": self.expected, "got": self.got}


class DocumentFaultError(ValueError):
    """A rule between fields that a document breaks, for validators to raise."""

    def __init__(self, fault: DocumentFault) -> None:
        super().__init__(fault.problem)
        self.fault = fault


def fault_of(error: Exception, document: object) -> dict[str, str]:
    """Why a document was refused, as keyword arguments of an error of mmbind.

    Parameters
    ----------
    error : Exception
        See `first_fault`.
    document : object
        Path or name of the document.

    Examples
    --------
    >>> fault_of(FileNotFoundError(2, "No such file or directory"), "run.json")
    {'problem': 'unreadable', 'at': 'run.json', 'expected': 'a JSON document', 'got': 'no file'}
    """
    return first_fault(error).keywords(document)


def fault_text(error: Exception) -> str:
    """Why a document was refused, in one phrase.

    >>> fault_text(IsADirectoryError(21, "Is a directory"))
    'unreadable: expected a JSON document, got a folder'
    """
    fault = first_fault(error)
    where = f" at {fault.key}" if fault.key else ""
    return f"{fault.problem}{where}: expected {fault.expected}, got {fault.got}"


def first_fault(error: Exception) -> DocumentFault:
    """The first thing that is wrong with a document.

    Parameters
    ----------
    error : Exception
        A ValidationError of pydantic, a DocumentFaultError, or the OSError or ValueError of
        reading and parsing.

    Examples
    --------
    >>> from pydantic import BaseModel, Field
    >>> class Budget(BaseModel):
    ...     steps: int = Field(gt=0)
    >>> try:
    ...     Budget(steps=0)
    ... except ValidationError as error:
    ...     first_fault(error).expected
    'a number greater than 0'
    """
    if isinstance(error, OSError):
        got = {FileNotFoundError: "no file", IsADirectoryError: "a folder"}.get(type(error))
        got = got or error.strerror or repr(error)
        return DocumentFault("unreadable", "", "a JSON document", got)
    if isinstance(error, DocumentFaultError):
        return error.fault
    if not isinstance(error, ValidationError):
        return DocumentFault("broken JSON", "", "a JSON document", str(error))
    first = error.errors()[0]
    kind, cause, path = first["type"], first.get("ctx", {}).get("error"), first["loc"]
    parts = [str(part) for part in path]
    while parts and (parts[-1] == "[key]" or parts[-1] in UNION_PARTS):
        parts.pop()
    key = ("the name " if path[-1:] == ("[key]",) else "") + ".".join(parts)
    if isinstance(cause, DocumentFaultError):
        return cause.fault
    if isinstance(cause, ValidationError):  # a document within the document
        inner = first_fault(cause)
        return replace(inner, key=".".join(part for part in (key, inner.key) if part))
    shown = repr(first["input"])[:MAX_SHOWN]
    text = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    problem, expected, got = {
        "missing": ("missing field", "a value", "none"),
        "extra_forbidden": ("unknown field", "a field of the schema", shown),
        "json_invalid": ("broken JSON", "a JSON document", str(cause)),
        "value_error": (text, "values that agree", "these" if shown[0] == "{" else shown),
    }.get(kind, ("bad value", _expected(kind, first.get("ctx", {}), text), shown))
    if problem == "bad value" and path and path[-1] in UNION_PARTS:
        expected = "a text, or a whole number from 0"
    return DocumentFault(problem, key, expected, got)


def _expected(kind: str, limits: Mapping[str, Any], text: str) -> str:
    """What a field takes, by pydantic's kind of error and its text."""
    if kind == "string_pattern_mismatch":
        return f"small letters and digits, a letter first (pattern {limits['pattern']})"
    if kind in ("too_short", "string_too_short"):
        unit = "entry" if kind == "too_short" else "character"
        return f"at least {limits.get('min_length', 1)} {unit}"
    if text.startswith(("greater than", "less than")):
        return f"a number {text}"
    return EXPECTED.get(kind, text)
