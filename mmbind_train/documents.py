"""The documents of the trainer; ``python -m mmbind_train.documents`` writes their schemas anew."""

from __future__ import annotations

from collections.abc import Mapping

from mmbind_data.documents import DIALECT, as_text, write_schemas
from mmbind_data.spec import Model

from .contract import Contract
from .protocol import Protocol
from .results import Results

SCHEMAS: Mapping[str, type[Model]] = {
    "export": Contract,
    "protocol": Protocol,
    "results": Results,
}


def schema_text(name: str) -> str:
    """The exact text of schemas/<name>.schema.json; what has a default may be left out."""
    return as_text({"$schema": DIALECT, **SCHEMAS[name].model_json_schema(mode="validation")})


if __name__ == "__main__":
    write_schemas({name: schema_text(name) for name in SCHEMAS})
