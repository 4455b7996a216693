"""What does not fit in a document, in words for people in place of pydantic's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pydantic import ValidationError

from .field_faults import PLAIN

LONGEST = 80  # characters of a value that is shown


@dataclass(frozen=True)
class Misfit:
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


class MisfitError(ValueError):
    """A rule between fields that a document breaks, for validators to raise."""

    def __init__(self, misfit: Misfit) -> None:
        super().__init__(misfit.what)
        self.misfit = misfit


def first_misfit(error: ValidationError) -> Misfit:
    """The first finding of a validation.

    >>> from pydantic import BaseModel, Field
    >>> class Budget(BaseModel):
    ...     steps: int = Field(gt=0)
    >>> try:
    ...     Budget(steps=0)
    ... except ValidationError as error:
    ...     first_misfit(error)
    Misfit(what='bad value', key='steps', expected='a number greater than 0', got='0', next_step='')
    """
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ValidationError):  # a document within the document
        inner = first_misfit(cause)
        return replace(inner, key=".".join(part for part in (key, inner.key) if part))
    if isinstance(cause, MisfitError):
        return cause.misfit
    shown = repr(first["input"])[:LONGEST]
    if first["type"] == "missing":
        return Misfit("missing field", key, "a value", "none")
    if first["type"] == "extra_forbidden":
        return Misfit("unknown field", key, "a field of the schema", shown)
    if first["type"] == "json_invalid":
        return Misfit("broken JSON", key, "a JSON object", str(cause))
    text = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if first["type"] == "value_error":
        return Misfit(text, key, "values that agree", shown)
    if text.startswith(("greater than", "less than")):
        text = f"a number {text}"
    return Misfit("bad value", key, PLAIN.get(first["type"], text), shown)
