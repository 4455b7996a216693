"""Every built-in dataset passes the kit; a new one is tested by adding its files."""

from __future__ import annotations

import importlib
import re

from rawdata.truth import FORMS

from mmbind_data.datasets.registry import list_datasets, load_descriptor
from mmbind_data.testing.conformance import DatasetConformance


def _kit(name: str) -> type[DatasetConformance]:
    module = name.replace("-", "_")
    writer = importlib.import_module(f"rawdata.{module}")
    body = {"name": name, "write": staticmethod(writer.write), "forms": FORMS}
    return type(f"Test_{module}", (DatasetConformance,), body)


globals().update({f"Test_{name.replace('-', '_')}": _kit(name) for name in list_datasets()})


def test_every_citation_has_a_year() -> None:
    for name in list_datasets():
        assert re.search(r"\b(19|20)\d\d\b", str(load_descriptor(name).citation.value)), name
