"""The documents of the trainer; ``python -m mmbind_train.json_schemas`` writes their schemas."""

from __future__ import annotations

from collections.abc import Mapping

from mmbind_data.json_schemas import DIALECT, as_text, write_schemas
from mmbind_data.spec.descriptor import Model
from mmbind_train.benchmarks.protocol import Protocol
from mmbind_train.benchmarks.results import Results
from mmbind_train.exporting.programs import Contract

SCHEMAS: Mapping[str, type[Model]] = {"export": Contract, "protocol": Protocol, "results": Results}


def schema_text(name: str) -> str:
    """The exact text of schemas/<name>.schema.json; what has a default may be left out."""
    return as_text({"$schema": DIALECT, **SCHEMAS[name].model_json_schema(mode="validation")})


if __name__ == "__main__":
    write_schemas({name: schema_text(name) for name in SCHEMAS})
