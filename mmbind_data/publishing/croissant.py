"""croissant.json of a bundle: the Parquet tables as record sets, the Zarr store as a set of files.

Source: Croissant format specification 1.1 (MLCommons).
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmbind_data.io.digests import file_digest
from mmbind_data.publishing.credits import PAPER, licence_url
from mmbind_data.publishing.facts import SAMPLES_TABLE, STORE, Facts
from mmbind_data.publishing.rights import CUSTOM
from mmbind_data.store.bound import PAIRS

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
# what each column of the two tables says; of <m>.source, <m>.row and <m>.uid by their ending
COLUMNS = {
    "row": "number of the row",
    "kind": "pseudo, incomplete, natural, or mean: averaged with its other ranks",
    "anchor_source": "source of the sample that the row is about",
    "anchor_uid": "uid of that sample",
    "shared": "what the row was bound by",
    "similarity": "as measured; of a chain of bindings the smallest",
    "weight": "by which the loss counts the row",
    "rank": "of several partners of one anchor, from 0",
    "hop": "binding that completed the row, from 0",
    "split": "what the row is for",
    "source": "source that the sample lies in",
    "uid": "name of the sample, the same on every machine",
    "subject": "id of the person",
    "raw_file": "path in the raw distribution",
    "raw_start": "first raw frame",
    "raw_end": "one past the last raw frame",
    "t_start": "begin, in seconds",
    "t_end": "end, in seconds",
    "window_index": "number of the window within its recording",
    "label_text": "what was done",
}


def croissant(facts: Facts, *, published: str | None = None) -> dict[str, Any]:
    """The document; the bundle's tables and its store must have been written.

    Parameters
    ----------
    facts : Facts
    published : str, optional
        Date, YYYY-MM-DD; left out by default, so that the same data gives the same bytes.
    """
    bundle = facts.bundle
    document: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": bundle.name,
        "alternateName": facts.title,
        "description": _description(facts),
        "version": bundle.data_version,
        "license": "LICENSES/BUNDLE.txt"
        if bundle.licence == CUSTOM
        else licence_url(bundle.licence),
        "citeAs": PAPER,
        "isLiveDataset": False,
        "keywords": ["multimodal", "sensor data", "pseudo-paired", *facts.bound.modalities],
        "identifier": f"mmbind:{bundle.content_digest}",
        "prov:wasDerivedFrom": [
            _origin(facts, rights.source_id) for rights in facts.decision.rights
        ],
        "distribution": [
            _file(facts, "pairs", f"{STORE}/{PAIRS}"),
            _file(facts, "samples", SAMPLES_TABLE),
            {
                "@type": "cr:FileSet",
                "@id": "store",
                "name": "store",
                "description": "The bound store: a Zarr v3 directory store.",
                "encodingFormat": "application/vnd.zarr; version=3",
                "includes": f"{STORE}/**",
            },
        ],
        "recordSet": [
            _records(facts, "pairs", f"{STORE}/{PAIRS}", "One training row each.", "row"),
            _records(facts, "samples", SAMPLES_TABLE, "One sample of a source each.", "uid"),
        ],
    }
    if published is not None:
        document["datePublished"] = published
    usage = _usage(facts)
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


def _usage(facts: Facts) -> list[str]:
    """Conditions of use: the Data Use Ontology's terms where there is one, and our own words."""
    bundle = facts.bundle
    found = []
    if bundle.non_commercial:
        found.append("http://purl.obolibrary.org/obo/DUO_0000046")
    if bundle.attribution:
        found.append("Credit: cite what CITATION.bib lists.")
    if bundle.share_alike:
        found.append("Share alike: pass adaptations on under the same licence.")
    return found


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


def _file(facts: Facts, name: str, path: str) -> dict[str, Any]:
    place = facts.folder / path
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


def _records(facts: Facts, name: str, path: str, words: str, key: str) -> dict[str, Any]:
    schema = pq.read_schema(facts.folder / path)
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": words,
        "key": {"@id": f"{name}/{key}"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column.name}",
                "name": column.name,
                "description": _meaning(column.name),
                "dataType": _data_type(column.type),
                "source": {
                    "fileObject": {"@id": f"{name}.parquet"},
                    "extract": {"column": column.name},
                },
            }
            for column in schema
        ],
    }


def _meaning(column: str) -> str:
    modality, dot, part = column.rpartition(".")
    if dot:
        words = {"source": "source that gives", "row": "row of that source that gives",
                 "uid": "uid of the sample that gives"}  # fmt: skip
        return f"{words[part]} {modality}; empty: a dummy of zeros"
    return COLUMNS.get(column, column.replace("_", " "))


def _data_type(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"
