"""What does not fit in a document, in words for people in place of pydantic's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

LONGEST = 80  # characters of a value that is shown
# pydantic's kinds of fault -> what JSON calls that which belongs there
PLAIN = {
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
    """One finding, in the parts of `mmbind_data.errors.problem`.

    Attributes
    ----------
    what : str
    key : str
        Dotted path of the field; empty for the document as a whole.
    expected, got : str
    next_step : str
    """

    what: str
    key: str
    expected: str
    got: str
    next_step: str = ""

    def place(self, document: object) -> str:
        """Where it is: the field and the document."""
        return f"{self.key} in {document}" if self.key else str(document)


class DocumentFaultError(ValueError):
    """A rule between fields that a document breaks, for validators to raise."""

    def __init__(self, misfit: DocumentFault) -> None:
        super().__init__(misfit.what)
        self.misfit = misfit


def first_fault(error: ValidationError) -> DocumentFault:
    """The first finding of a validation.

    >>> from pydantic import BaseModel, Field
    >>> class Budget(BaseModel):
    ...     steps: int = Field(gt=0)
    >>> try:
    ...     Budget(steps=0)
    ... except ValidationError as error:
    ...     first_fault(error).expected
    'a number greater than 0'
    """
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"]]
    named = parts[-1:] == ["[key]"]
    while parts and (parts[-1] == "[key]" or parts[-1] in UNION_PARTS):
        parts.pop()
    key = ("the name " if named else "") + ".".join(parts)
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ValidationError):  # a document within the document
        inner = first_fault(cause)
        return replace(inner, key=".".join(part for part in (key, inner.key) if part))
    if isinstance(cause, DocumentFaultError):
        return cause.misfit
    shown = repr(first["input"])[:LONGEST]
    if first["type"] == "missing":
        return DocumentFault("missing field", key, "a value", "none")
    if first["type"] == "extra_forbidden":
        return DocumentFault("unknown field", key, "a field of the schema", shown)
    if first["type"] == "json_invalid":
        return DocumentFault("broken JSON", key, "a JSON object", str(cause))
    text = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if first["type"] == "value_error":
        return DocumentFault(text, key, "values that agree", shown)
    if first["loc"] and first["loc"][-1] in UNION_PARTS:
        return DocumentFault("bad value", key, "a text, or a whole number from 0", shown)
    return DocumentFault(
        "bad value", key, _expected(first["type"], first.get("ctx", {}), text), shown
    )


def _expected(kind: str, limits: Mapping[str, Any], text: str) -> str:
    """What a field takes, by pydantic's kind of fault and its text."""
    if kind == "string_pattern_mismatch":
        return f"small letters and digits, a letter first (pattern {limits['pattern']})"
    if kind in ("too_short", "string_too_short"):
        unit = "entry" if kind == "too_short" else "character"
        return f"at least {limits.get('min_length', 1)} {unit}"
    if text.startswith(("greater than", "less than")):
        return f"a number {text}"
    return PLAIN.get(kind, text)


def fault_by_field(error: ValidationError, document: str) -> dict[str, str]:
    """The first finding as keyword arguments of an error, the field named first.

    Parameters
    ----------
    error : ValidationError
    document : str
        Name of the document that was validated.
    """
    found = first_fault(error)
    key = found.key or "the document"
    what, expected, got = {
        "missing field": (f"no {key}", "this field", "none"),
        "unknown field": (f"unknown field {key}", found.expected, found.got),
        "bad value": (key, found.expected, found.got),
    }.get(found.what, (found.what, "fields that agree", "these"))
    return {"problem": what, "at": document, "expected": expected, "got": got}
