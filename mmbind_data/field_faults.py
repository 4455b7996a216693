"""What pydantic finds in a document that a user wrote, in the words of all our messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import problem

if TYPE_CHECKING:
    from pydantic import ValidationError

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


def fault_sentence(error: ValidationError, doing: str, where: str, step: str) -> str:
    """The first fault as a sentence.

    Parameters
    ----------
    error : ValidationError
    doing : str
        Begins the message.
    where : str
        The document.
    step : str
        What to do next.
    """
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"]]
    named = bool(parts) and parts[-1] == "[key]"
    while parts and (parts[-1] == "[key]" or parts[-1] in UNION_PARTS):
        parts.pop()
    place, got = ".".join(parts) or "the document", repr(first["input"])[:80]
    kind, text = first["type"], first["msg"].removeprefix("Value error, ")
    if kind == "missing":
        return problem(doing, f"no {place}", where, "this field", "none", step)
    if kind == "extra_forbidden":
        return problem(doing, f"unknown field {place}", where, "a field of the schema", got, step)
    if kind == "value_error":
        return problem(doing, text, where, "fields that agree", "these", step)
    if kind == "string_pattern_mismatch":
        pattern = first["ctx"]["pattern"]
        expected = f"small letters and digits, a letter first (pattern {pattern})"
        place = f"the name {place}" if named else place
        return problem(doing, place, where, expected, got, step)
    if kind in ("too_short", "string_too_short"):
        n, one = first["ctx"].get("min_length", 1), "entry" if kind == "too_short" else "character"
        return problem(doing, place, where, f"at least {n} {one}", got, step)
    if first["loc"] and first["loc"][-1] in UNION_PARTS:
        return problem(doing, place, where, "a text, or a whole number from 0", got, step)
    expected = PLAIN.get(kind, text.removeprefix("Input should be "))
    return problem(doing, place, where, expected, got, step)
