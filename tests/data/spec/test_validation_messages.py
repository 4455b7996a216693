"""Tests of the words for documents that are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, Field

from mmbind_data.errors import FormatError
from mmbind_data.spec.validation_messages import fault_of, fault_text


class Inner(BaseModel):
    steps: int = Field(gt=0)


class Document(BaseModel, extra="forbid"):
    inner: Inner
    names: tuple[str, ...] = ()
    column: str | int = 0


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({}, "missing field at inner in a.json: expected a value, got none."),
        ({"inner": {"steps": 0}}, "bad value at inner.steps in a.json: expected a number greater"),
        ({"inner": 3}, r"bad value at inner in a.json: expected an object \{...\}, got 3."),
        ({"inner": {"steps": 1}, "more": 1}, "unknown field at more in a.json"),
        ({"inner": {"steps": 1}, "names": "x"}, r"names in a.json: .* list \[...\], got 'x'"),
        ({"inner": {"steps": 1}, "column": 1.5}, "column in a.json: .* a text, or a whole number"),
    ],
)
def test_the_field_is_named_in_the_terms_of_json(document: Any, sentence: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        Document.model_validate_json(json.dumps(document))
    error = FormatError(cannot="read it", **fault_of(refused.value, "a.json"))
    with pytest.raises(FormatError, match=sentence):
        raise error


def test_a_document_that_is_not_there_or_no_json() -> None:
    assert fault_text(FileNotFoundError()) == "unreadable: expected a JSON document, got no file"
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        Document.model_validate_json("{")
    assert fault_text(refused.value).startswith("broken JSON: expected a JSON document, got EOF")
