"""schemas/*.json, the models and the documents that are really written agree."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from mmbind_data.datasets.registry import list_datasets, load_descriptor
from mmbind_data.json_schemas import SCHEMAS, schema_text
from mmbind_train import json_schemas as documents
from mmbind_train.benchmarks.protocol import list_protocols


def shipped(name: str) -> Any:
    return json.loads((files("mmbind_data.schemas") / f"{name}.schema.json").read_text())


@pytest.mark.parametrize("name", SCHEMAS)
def test_shipped_schema_is_the_models(name: str) -> None:
    text = (files("mmbind_data.schemas") / f"{name}.schema.json").read_text()
    assert text == schema_text(name), "run `make schemas`"
    jsonschema.Draft202012Validator.check_schema(json.loads(text))


@pytest.mark.parametrize("name", documents.SCHEMAS)
def test_shipped_schema_of_the_trainer_is_the_models(name: str) -> None:
    text = (files("mmbind_data.schemas") / f"{name}.schema.json").read_text()
    assert text == documents.schema_text(name), "run `make schemas`"
    jsonschema.Draft202012Validator.check_schema(json.loads(text))


@pytest.mark.parametrize("name", list_protocols())
def test_protocols_fit_the_schema(name: str) -> None:
    jsonschema.validate(json.loads(list_protocols()[name].read_text()), shipped("protocol"))


@pytest.mark.parametrize("name", list_datasets())
def test_descriptors_fit_the_schema(name: str) -> None:
    document = load_descriptor(name).model_dump(mode="json")
    jsonschema.validate(document, shipped("descriptor"))


@pytest.mark.parametrize("name", list_datasets())
def test_a_descriptor_without_a_source_is_refused(name: str) -> None:
    document = load_descriptor(name).model_dump(mode="json")
    del document["licence"]["source"]
    with pytest.raises(jsonschema.ValidationError, match="source"):
        jsonschema.validate(document, shipped("descriptor"))
