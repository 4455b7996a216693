"""croissant.json of a bundle: the Parquet tables as record sets, the Zarr store as a set of files.

``croissant_terms.json`` holds the ``@context`` of the specification and descriptions of columns;
``<m>.source``, ``<m>.row`` and ``<m>.uid`` are described by their endings.

Source: Croissant format specification 1.1 (MLCommons).
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmbind_data.io.digests import file_digest
from mmbind_data.publishing.credits import duty_sentences, licence_url, paper
from mmbind_data.publishing.facts import SAMPLES_TABLE, STORE, Facts
from mmbind_data.publishing.rights import CUSTOM
from mmbind_data.store.bound import PAIRS

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
TERMS = files(__package__) / "croissant_terms.json"
NO_COMMERCIAL_USE = "http://purl.obolibrary.org/obo/DUO_0000046"  # Data Use Ontology


def croissant(facts: Facts, *, published: str | None = None) -> dict[str, Any]:
    """The document; the bundle's tables and its store must have been written.

    Parameters
    ----------
    facts : Facts
    published : str, optional
        Date, YYYY-MM-DD; left out by default, so that the same data gives the same bytes.
    """
    bundle, terms = facts.bundle, json.loads(TERMS.read_text(encoding="utf-8"))
    pairs, samples = facts.folder / STORE / PAIRS, facts.folder / SAMPLES_TABLE
    own_terms = bundle.licence == CUSTOM
    document: dict[str, Any] = {
        "@context": terms["context"],
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": bundle.name,
        "alternateName": facts.title,
        "description": _description(facts),
        "version": bundle.data_version,
        "license": "LICENSES/BUNDLE.txt" if own_terms else licence_url(bundle.licence),
        "citeAs": paper(),
        "isLiveDataset": False,
        "keywords": ["multimodal", "sensor data", "pseudo-paired", *facts.bound.modalities],
        "identifier": f"mmbind:{bundle.content_digest}",
        "prov:wasDerivedFrom": [
            _origin(facts, rights.source_id) for rights in facts.decision.rights
        ],
        "distribution": [
            _file(pairs, "pairs", f"{STORE}/{PAIRS}"),
            _file(samples, "samples", SAMPLES_TABLE),
            {**terms["store"], "includes": f"{STORE}/**"},
        ],
        "recordSet": [
            _records(pairs, "pairs", "One training row each.", "row", terms),
            _records(samples, "samples", "One sample of a source each.", "uid", terms),
        ],
    }
    if published is not None:
        document["datePublished"] = published
    usage = [NO_COMMERCIAL_USE] if bundle.non_commercial else []
    usage += [sentence for sentence in duty_sentences(bundle) if "commercial" not in sentence]
    if usage:
        document["usageInfo"] = usage
    return document


def _description(facts: Facts) -> str:
    holds = (
        "no data of the sources" if facts.bundle.mode == "index-only" else "the samples it names"
    )
    return (
        f"{len(facts.table)} training rows that bind samples of {len(facts.bound.sources)} sources "
        f"by {', '.join(dict.fromkeys(facts.bound.shared))}. {facts.bundle.mode}: it holds {holds}."
    )


def _origin(facts: Facts, source_id: str) -> dict[str, Any]:
    """One source as provenance has it."""
    (source,) = [one for one in facts.bound.sources if one.source_id == source_id]
    origin = {
        "@type": "prov:Entity",  # a second sc:Dataset would be taken for the one described
        "@id": f"source/{source_id}",
        "name": facts.stores[source_id].info.title,
        "version": source.dataset_version,
        "identifier": f"mmbind:{source.content_digest}",
        "license": source.licence.spdx or source.licence.name,
    }
    page = facts.fact(source.dataset_id, "homepage")
    return {**origin, "url": page} if page and page.startswith("http") else origin


def _file(place: Path, name: str, path: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": f"{name}.parquet",
        "name": f"{name}.parquet",
        "description": f"The table of {name}.",
        "contentUrl": path,
        "contentSize": f"{place.stat().st_size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": file_digest(place),
    }


def _records(
    place: Path, name: str, description: str, key: str, terms: dict[str, Any]
) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": description,
        "key": {"@id": f"{name}/{key}"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column.name}",
                "name": column.name,
                "description": _meaning(column.name, terms),
                "dataType": _data_type(column.type),
                "source": {
                    "fileObject": {"@id": f"{name}.parquet"},
                    "extract": {"column": column.name},
                },
            }
            for column in pq.read_schema(place)
        ],
    }


def _meaning(column: str, terms: dict[str, Any]) -> str:
    modality, _, ending = column.rpartition(".")
    if modality:
        return f"{terms['endings'][ending]} {modality}; empty: a dummy of zeros"
    return str(terms["columns"].get(column, column.replace("_", " ")))


def _data_type(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"
