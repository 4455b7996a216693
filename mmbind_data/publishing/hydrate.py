"""Attach local conversions to a published bundle: uids say which row is which sample."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mmbind_data.errors import Finding, FormatError, IntegrityError, UsageError, suggest
from mmbind_data.io.atomic import check_output, staged
from mmbind_data.io.locations import relative_link
from mmbind_data.io.unzip import is_archive, unpacked
from mmbind_data.publishing.bundle_store import (
    JUDGEMENT,
    LABELS,
    PARTNERS,
    plain_texts,
    published_info,
    renumbered,
    write_bound_tables,
)
from mmbind_data.publishing.verify import verify
from mmbind_data.spec.store import BoundInfo, SourceInfo
from mmbind_data.store.bound import ENCODER, EVALUATION, INNER, BoundDataset, open_bound
from mmbind_data.store.dataset import META, PROVENANCE, Dataset, open_dataset, read_table
from mmbind_data.store.lineage import named_uids, rows_of, sample_digest
from mmbind_data.store.root import is_bundle
from mmbind_data.store.writer import write_table

DOING = "hydrate"


def hydrate(
    bundle: str | Path,
    out: str | Path,
    sources: Mapping[str, str | Path],
    *,
    overwrite: bool = False,
) -> BoundInfo:
    """Write a bound store that points into local stores.

    A local store serves if it holds every sample that the rows name, with the values that were
    published; it may hold more samples, but no modality more than the source had. Rows are found by
    uid.

    Parameters
    ----------
    bundle : path
        A bundle, the bound store of one, or an archive of either.
    out : path
        The bound store; its mode is linked.
    sources : mapping of source id to path
        Of a self-contained bundle those that are left out are taken from the bundle.
    overwrite : bool

    Returns
    -------
    BoundInfo
        Its content digest is that of the store that was published.

    Raises
    ------
    UsageError
        A source that the bundle does not have.
    FormatError
        A source is not given, lacks samples or modalities, or holds modalities that it must not.
    IntegrityError
        The bundle is damaged, or a store holds other values under the same uids.
    OutputError
    """
    with _matched(bundle, sources) as (bound, stores):
        return _write(bound, stores, bundle, Path(out), overwrite=overwrite)


def _write(
    bound: BoundDataset,
    stores: Mapping[str, Dataset],
    bundle: str | Path,
    out: Path,
    *,
    overwrite: bool,
) -> BoundInfo:
    _check_output(bundle, stores, out, overwrite=overwrite)
    table = plain_texts(bound.pairs())
    infos = []
    for source in bound.info.sources:
        store = stores[source.source_id]
        table = renumbered(table, bound.info.modalities, source.source_id, store)
        infos.append(_attached(source, store, out))
    info = published_info(bound, "linked", infos, table)
    if info.content_digest != bound.info.content_digest:
        raise IntegrityError(
            cannot=DOING,
            problem="the pairs are not those that were published",
            at=bound.path,
            expected=f"content digest {bound.info.content_digest[:12]}",
            got=info.content_digest[:12],
            fix="Fetch the bundle again.",
        )
    with staged(out, overwrite=overwrite, doing=DOING) as folder:
        for name in (META, EVALUATION, ENCODER):
            (folder / name).mkdir(parents=True)
        for path in sorted((bound.path / ENCODER).glob("*")):
            if path.name != "zarr.json":
                (folder / ENCODER / path.name).write_bytes(path.read_bytes())
        (folder / JUDGEMENT).write_bytes((bound.path / JUDGEMENT).read_bytes())
        write_table(folder / PARTNERS, _with_labels(read_table(bound.path / PARTNERS), stores))
        provenance = {"command": DOING, "mmbind": version("mmbind"),
                      "parent": json.loads((bound.path / PROVENANCE).read_text())}  # fmt: skip
        write_bound_tables(folder, info, table, provenance)
    return info


def _check_output(
    bundle: str | Path, stores: Mapping[str, Dataset], out: Path, *, overwrite: bool
) -> None:
    places = [store.path for store in stores.values()]
    check_output(out, overwrite=overwrite, doing=DOING, inputs=[bundle, *places])


def preview_hydration(
    bundle: str | Path,
    out: str | Path,
    sources: Mapping[str, str | Path],
    *,
    overwrite: bool = False,
) -> tuple[int, dict[str, Dataset]]:
    """Look for every sample that `hydrate` needs, write nothing.

    Returns
    -------
    int
        Number of rows.
    dict of source id to Dataset

    Raises
    ------
    UsageError, FormatError, IntegrityError, OutputError
        See `hydrate`.
    """
    with _matched(bundle, sources) as (bound, stores):
        _check_output(bundle, stores, Path(out), overwrite=overwrite)
        return sum(bound.info.n_rows.values()), stores


@contextmanager
def _matched(
    bundle: str | Path, sources: Mapping[str, str | Path]
) -> Iterator[tuple[BoundDataset, dict[str, Dataset]]]:
    """Open a bundle, or an archive of one as long as it is needed, and the stores given."""
    if not is_archive(bundle):
        yield _match_sources(bundle, sources)
        return
    with unpacked(bundle, doing=DOING) as (folder, damage):
        if damage:
            raise _damaged(bundle, damage[0])
        bound, stores = _match_sources(folder, sources)
        inside = [name for name, store in stores.items() if store.path.is_relative_to(folder)]
        if inside:
            raise FormatError(
                cannot=DOING,
                problem="a store cannot point into an archive",
                at=bundle,
                expected="every source, or the bundle as a folder",
                got=f"no {', '.join(inside)}",
                fix=f"Unpack it first: unzip {bundle} -d FOLDER, or give --source ID=STORE.",
            )
        yield bound, stores


def _damaged(bundle: str | Path, found: Finding) -> IntegrityError:
    return IntegrityError(
        cannot=DOING,
        problem="the bundle is damaged",
        at=f"{bundle} {found.where}",
        expected="what was published",
        got=found.message,
        fix=found.fix,
    )


def _match_sources(
    bundle: str | Path, sources: Mapping[str, str | Path]
) -> tuple[BoundDataset, dict[str, Dataset]]:
    """The bundle's store, and the stores given, once it is sure that they are its sources."""
    if is_bundle(bundle):
        damaged = verify(bundle, depth="fast")
        if damaged:
            raise _damaged(bundle, damaged[0])
    bound = open_bound(bundle)
    known = [source.source_id for source in bound.info.sources]
    for source_id in sources:
        if source_id not in known:
            raise UsageError(
                cannot=DOING,
                problem="unknown source id",
                at=bundle,
                expected=", ".join(known),
                got=repr(source_id),
                fix=suggest(source_id, known),
            )
    inside = bound.info.mode == "self-contained"
    missing = [one for one in bound.info.sources if one.source_id not in sources]
    if missing and not inside:
        ways = "; ".join(f"--source {one.source_id}=STORE, made by: {one.convert}"
                         for one in missing)  # fmt: skip
        raise FormatError(
            cannot=DOING,
            problem="not every source is given",
            at=bundle,
            expected=f"{len(known)} sources",
            got=f"{len(sources)}",
            fix=f"Give {ways}",
        )
    stores = {}
    for source in bound.info.sources:
        place = sources.get(source.source_id)
        local = bound.path / INNER / source.source_id if place is None else place
        stores[source.source_id] = _check_source(bound, source, open_dataset(local))
    return bound, stores


def _check_source(bound: BoundDataset, source: SourceInfo, store: Dataset) -> Dataset:
    """Refuse a store that is not the source by its dataset, modalities, uids or values."""
    source_id, named = source.source_id, named_uids(bound.pairs(), bound.info.modalities,
                                                    source.source_id)  # fmt: skip
    way_out = f"Make it with: {source.convert}"
    if store.info.dataset_id != source.dataset_id:
        raise FormatError(
            cannot=DOING,
            problem=f"another dataset than that of {source_id}",
            at=store.path,
            expected=source.dataset_id,
            got=store.info.dataset_id,
            fix=way_out,
        )
    for name in sorted(set(named) - {""}):
        if store.info.modalities.get(name) != source.modalities[name]:
            got = "another shape or unit" if name in store.info.modalities else "no such modality"
            raise FormatError(
                cannot=DOING,
                problem=f"{name} is not that of {source_id}",
                at=store.path,
                expected=f"{name} as it was bound",
                got=got,
                fix=way_out,
            )
    more = [name for name in store.info.modalities if name not in source.modalities]
    if more:  # training refuses it: a node lacks what it is said to lack
        raise FormatError(
            cannot=DOING,
            problem=f"it holds what {source_id} lacks",
            at=store.path,
            expected=f"only {', '.join(source.modalities)}",
            got=f"also {', '.join(more)}",
            fix=f"Cut it with mmbind partition --modalities, or {way_out[0].lower()}{way_out[1:]}",
        )
    _check_uids(source, store, named, way_out)
    same = store.info.content_digest in (source.content_digest, source.stored_digest)
    if not same and sample_digest(store, named) != source.sample_digest:
        raise IntegrityError(
            cannot=DOING,
            problem=f"other values under the uids of {source_id}",
            at=store.path,
            expected="the samples that were bound",
            got="samples that differ",
            fix=way_out,
        )
    return store


def _check_uids(
    source: SourceInfo, store: Dataset, named: Mapping[str, pa.Array], way_out: str
) -> None:
    missing: set[str] = set()
    for name, uids in named.items():
        rows = rows_of(store, uids)
        lost = rows < 0
        if name:
            lost[~lost] = ~store.present(name)[rows[~lost]]
        missing |= set(uids.filter(pa.array(lost)).to_pylist())
    if missing:
        total = len({uid for uids in named.values() for uid in uids.to_pylist()})
        few = ", ".join(sorted(missing)[:3])
        few += f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise FormatError(
            cannot=DOING,
            problem=f"samples of {source.source_id} are missing",
            at=store.path,
            expected=f"{total} samples",
            got=f"{total - len(missing)}; {len(missing)} uids are not there: {few}",
            fix=way_out,
        )


def _attached(source: SourceInfo, store: Dataset, out: Path) -> SourceInfo:
    own = store.info.content_digest
    digest = None if own == source.content_digest else own
    return source.model_copy(
        update={"path": relative_link(store.path, out), "stored_digest": digest}
    )


def _with_labels(partners: pa.Table, stores: Mapping[str, Dataset]) -> pa.Table:
    """The table of partners with the labels that an index-only bundle leaves out."""
    uids, texts = [], []
    for store in stores.values():
        samples = store.samples()
        uids += samples["uid"].to_pylist()
        texts += samples["label_text"].to_pylist()
    known, told = pa.array(uids, type=pa.string()), pa.array(texts, type=pa.string())
    for name in LABELS:
        if partners[name].null_count < len(partners):
            continue
        found = pc.index_in(partners[name.replace("label", "uid")], value_set=known)
        labels = told.take(found.combine_chunks() if hasattr(found, "combine_chunks") else found)
        partners = partners.set_column(partners.column_names.index(name), name, labels)
    return partners
