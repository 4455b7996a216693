"""Facts about a bundle for its documents, gathered once from the data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmbind_data.binding.writing import JUDGEMENT
from mmbind_data.publishing.bundle_store import plain_texts
from mmbind_data.publishing.rights import CUSTOM, Decision
from mmbind_data.spec.bundle import BundleInfo
from mmbind_data.spec.store import BoundInfo
from mmbind_data.store.bound import BoundDataset, open_bound
from mmbind_data.store.dataset import DESCRIPTOR, Dataset
from mmbind_data.store.lineage import named_rows, named_uids
from mmbind_data.store.pair_table import KINDS

STORE = "bound.zarr"
SAMPLES_TABLE = "samples.parquet"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# ids and places in the raw data: nothing else about a person, no label
SPAN = ("raw_start", "raw_end", "t_start", "t_end", "window_index")
POINTERS = ("uid", "subject", "raw_file", *SPAN)
DETAILS = ("session", "trial", "placement", "environment", "label_text")


@dataclass(frozen=True)
class Facts:
    """Facts about a bundle.

    Attributes
    ----------
    folder : Path
        The bundle; its store is written.
    bundle : BundleInfo
    bound : BoundInfo
        Of the bundle's store.
    decision : Decision
    table : pyarrow.Table
        The table of pairs.
    stores : mapping of source id to Dataset
        The sources, opened.
    descriptors : mapping of dataset id to JSON object
        Empty if a store has none.
    judgement : mapping
        ``eval/pairing.json``.
    """

    folder: Path
    bundle: BundleInfo
    bound: BoundInfo
    decision: Decision
    table: pa.Table
    stores: Mapping[str, Dataset]
    descriptors: Mapping[str, Mapping[str, Any]]
    judgement: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Title of card and catalogue."""
        names = dict.fromkeys(source.dataset_id for source in self.bound.sources)
        return f"{' + '.join(names)}, bound by {', '.join(dict.fromkeys(self.bound.shared))}"

    def fact(self, dataset_id: str, name: str) -> str | None:
        """A fact of a dataset's descriptor, such as its citation."""
        found = self.descriptors.get(dataset_id, {}).get(name)
        return str(found["value"]) if isinstance(found, dict) and found.get("value") else None

    def named(self, source_id: str) -> Mapping[str, pa.Array]:
        """Uids of a source's samples, by the modality that rows take from them."""
        return named_uids(self.table, self.bound.modalities, source_id)


def gather_facts(
    folder: Path, bundle: BundleInfo, decision: Decision, source: BoundDataset
) -> Facts:
    """Read what a bundle's documents need.

    Parameters
    ----------
    folder : Path
        The bundle, with its store.
    bundle : BundleInfo
    decision : Decision
    source : BoundDataset
        What is published; its sources are there.
    """
    bound = open_bound(folder / bundle.store)
    stores = {one.source_id: source.source(one.source_id) for one in bound.info.sources}
    descriptors = {store.info.dataset_id: store.document(DESCRIPTOR) for store in stores.values()}
    judgement = json.loads((bound.path / JUDGEMENT).read_text())
    pairs = bound.pairs()
    return Facts(folder, bundle, bound.info, decision, pairs, stores, descriptors, judgement)


def samples_table(facts: Facts) -> pa.Table:
    """One row for each sample that rows name, with its place in the raw data.

    Returns
    -------
    pyarrow.Table
        ``source`` and `POINTERS`; in a self-contained bundle also `DETAILS` and the row in the
        source's store.
    """
    contained = facts.bundle.mode == "self-contained"
    parts = []
    for source_id, store in facts.stores.items():
        rows = named_rows(store, facts.named(source_id))
        table = plain_texts(store.samples().take(pa.array(rows)))
        columns = {"source": pa.array([source_id] * len(rows), type=pa.string())}
        if contained:
            columns["row"] = pa.array(np.arange(len(rows)))
        for name in (*POINTERS, *(DETAILS if contained else ())):
            if name in table.column_names:
                columns[name] = table[name]
        parts.append(pa.table(columns))
    return pa.concat_tables(parts, promote_options="default")


def similarity_quantiles(table: pa.Table) -> dict[float, float]:
    """Quantiles of the similarity of all pseudo-paired rows, as measured."""
    known = table["similarity"].drop_null().to_numpy()
    return {one: float(np.quantile(known, one)) for one in QUANTILES} if len(known) else {}


def rows_by_kind(facts: Facts) -> list[tuple[str, int, dict[str, int]]]:
    """For each kind of row: its name, the number of rows, and of rows with each modality."""
    found = []
    for kind in KINDS:
        mine = facts.table.filter(pc.equal(facts.table["kind"], kind))
        if len(mine):
            names = facts.bound.modalities
            n_present = {name: len(mine) - mine[f"{name}.source"].null_count for name in names}
            found.append((kind, len(mine), n_present))
    return found


def hub_licence(licence: str) -> str:
    """The name by which the Hugging Face hub knows a licence; ``other`` for what it does not know.

    >>> hub_licence("CC-BY-NC-4.0"), hub_licence("LicenseRef-sources")
    ('cc-by-nc-4.0', 'other')
    """
    known = ("ODC-By-1.0", "ODbL-1.0", "PDDL-1.0")
    name = licence.removesuffix("-1.0") if licence in known else licence
    return "other" if licence == CUSTOM else name.lower()
