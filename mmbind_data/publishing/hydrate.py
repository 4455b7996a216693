"""Attach local conversions to a published bundle; uids identify the samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mmbind_data.binding.writing import JUDGEMENT, PARTNERS, finish_bound, make_folders
from mmbind_data.errors import FormatError, IntegrityError, MMBindError, UsageError, suggest
from mmbind_data.io.atomic import check_output, staged
from mmbind_data.io.locations import relative_link
from mmbind_data.io.unzip import is_archive, unpacked
from mmbind_data.publishing.bundle_store import (
    LABELS,
    plain_texts,
    provenance,
    published_info,
    renumbered,
)
from mmbind_data.publishing.verify import refuse_damage, verify
from mmbind_data.spec.store import BoundInfo, SourceInfo
from mmbind_data.store.bound import ENCODER, INNER, BoundDataset, open_bound
from mmbind_data.store.dataset import Dataset, open_dataset, read_table
from mmbind_data.store.lineage import named_uids, rows_of, sample_digest
from mmbind_data.store.root import is_bundle
from mmbind_data.store.writer import write_table

DOING, DAMAGED = "hydrate", "the bundle is damaged"


def hydrate(
    bundle: str | Path,
    out: str | Path,
    sources: Mapping[str, str | Path],
    *,
    overwrite: bool = False,
) -> BoundInfo:
    """Write a bound store that points into local stores.

    A local store is accepted if it holds every sample that the rows name, with the values that were
    published. It may hold more samples, but no modality that the source lacked. Rows are found by
    uid.

    Parameters
    ----------
    bundle : path
        A bundle, the bound store of one, or an archive of either.
    out : path
        The bound store; its mode is linked.
    sources : mapping of source id to path
        For a self-contained bundle, sources that are left out are taken from the bundle.
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

    Examples
    --------
    >>> import mmbind_data as md
    >>> sources = {"utd-mhad-A": "A.zarr", "utd-mhad-B": "B.zarr"}
    >>> md.hydrate("bundle", "bound.zarr", sources).mode  # doctest: +SKIP
    'linked'
    """
    out = Path(out)
    with _matched(bundle, sources) as (bound, stores):
        _check_output(bundle, stores, out, overwrite=overwrite)
        table, infos = plain_texts(bound.pairs()), []
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
            _write(folder, bound, info, table, stores)
    return info


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


def _write(
    folder: Path,
    bound: BoundDataset,
    info: BoundInfo,
    table: pa.Table,
    stores: Mapping[str, Dataset],
) -> None:
    make_folders(folder)
    copied = [JUDGEMENT, *(f"{ENCODER}/{path.name}" for path in (bound.path / ENCODER).glob("*"))]
    for name in copied:
        if not name.endswith("zarr.json"):
            (folder / name).write_bytes((bound.path / name).read_bytes())
    write_table(folder / PARTNERS, _with_labels(read_table(bound.path / PARTNERS), stores))
    finish_bound(folder, info, table, provenance(bound, DOING))


def _check_output(
    bundle: str | Path, stores: Mapping[str, Dataset], out: Path, *, overwrite: bool
) -> None:
    places = [store.path for store in stores.values()]
    check_output(out, overwrite=overwrite, doing=DOING, inputs=[bundle, *places])


@contextmanager
def _matched(
    bundle: str | Path, sources: Mapping[str, str | Path]
) -> Iterator[tuple[BoundDataset, dict[str, Dataset]]]:
    """Open a bundle, or an archive of one as long as it is needed, and the stores given."""
    if not is_archive(bundle):
        refuse_damage(verify(bundle) if is_bundle(bundle) else [], DOING, DAMAGED, bundle)
        yield _match_sources(bundle, sources)
        return
    with unpacked(bundle, doing=DOING) as (folder, damage):
        damage = damage or (verify(folder) if is_bundle(folder) else [])
        refuse_damage(damage, DOING, DAMAGED, bundle)
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


def _match_sources(
    bundle: str | Path, sources: Mapping[str, str | Path]
) -> tuple[BoundDataset, dict[str, Dataset]]:
    """The bundle's store, and the stores given, once each was recognised as its source."""
    bound = open_bound(bundle)
    known = {source.source_id: source for source in bound.info.sources}
    for source_id in sorted(sources.keys() - known.keys()):
        raise UsageError(
            cannot=DOING,
            problem="unknown source id",
            at=bundle,
            expected=", ".join(known),
            got=repr(source_id),
            fix=suggest(source_id, known),
        )
    missing = [source for source in known.values() if source.source_id not in sources]
    if missing and bound.info.mode != "self-contained":
        ways = [f"--source {one.source_id}=STORE, made by: {one.convert}" for one in missing]
        raise FormatError(
            cannot=DOING,
            problem="not every source is given",
            at=bundle,
            expected=f"{len(known)} sources",
            got=len(sources),
            fix=f"Give {'; '.join(ways)}",
        )
    stores = {}
    for source_id, source in known.items():
        store = open_dataset(sources.get(source_id, bound.path / INNER / source_id))
        _check_source(source, store, named_uids(bound.pairs(), bound.info.modalities, source_id))
        stores[source_id] = store
    return bound, stores


def _check_source(source: SourceInfo, store: Dataset, named: Mapping[str, pa.Array]) -> None:
    """Refuse a store that is not the source by its dataset, modalities, uids or values."""
    source_id, own, bound = source.source_id, store.info.modalities, source.modalities

    def error(
        problem: str,
        expected: str,
        got: str,
        kind: type[MMBindError] = FormatError,
        fix: str = f"Make it with: {source.convert}",
    ) -> MMBindError:
        return kind(
            cannot=DOING, problem=problem, at=store.path, expected=expected, got=got, fix=fix
        )

    if store.info.dataset_id != source.dataset_id:
        problem = f"another dataset than that of {source_id}"
        raise error(problem, source.dataset_id, store.info.dataset_id)
    for name in sorted(named.keys() - {""}):
        if own.get(name) != bound[name]:
            got = "another shape or unit" if name in own else "no such modality"
            raise error(f"{name} is not that of {source_id}", f"{name} as it was bound", got)
    more = ", ".join(name for name in own if name not in bound)
    if more:  # training refuses such a store, because a node must not hold what it is said to lack
        fix = f"Cut it with mmbind partition --modalities, or make it with: {source.convert}"
        expected = f"only {', '.join(bound)}"
        raise error(f"it holds what {source_id} lacks", expected, f"also {more}", fix=fix)
    missing = sorted(_missing(store, named))
    if missing:
        total = len({uid for uids in named.values() for uid in uids.to_pylist()})
        few = ", ".join(missing[:3]) + f" and {len(missing) - 3} more" * (len(missing) > 3)
        got = f"{total - len(missing)}; {len(missing)} uids are not there: {few}"
        raise error(f"samples of {source_id} are missing", f"{total} samples", got)
    same = store.info.content_digest in (source.content_digest, source.stored_digest)
    if not same and sample_digest(store, named) != source.sample_digest:
        problem, expected = (
            f"other values under the uids of {source_id}",
            "the samples that were bound",
        )
        raise error(problem, expected, "samples that differ", IntegrityError)


def _missing(store: Dataset, named: Mapping[str, pa.Array]) -> set[str]:
    """Uids that a store does not have, or not with the modality that rows take from them."""
    missing: set[str] = set()
    for name, uids in named.items():
        rows = rows_of(store, uids)
        lost = rows < 0
        if name:
            lost[~lost] = ~store.present(name)[rows[~lost]]
        missing |= set(uids.filter(pa.array(lost)).to_pylist())
    return missing


def _attached(source: SourceInfo, store: Dataset, out: Path) -> SourceInfo:
    own = store.info.content_digest
    digest = None if own == source.content_digest else own
    return source.model_copy(
        update={"path": relative_link(store.path, out), "stored_digest": digest}
    )


def _with_labels(partners: pa.Table, stores: Mapping[str, Dataset]) -> pa.Table:
    """The table of partners with the labels that an index-only bundle leaves out."""
    samples = [store.samples().select(["uid", "label_text"]) for store in stores.values()]
    uids, labels = (
        pa.array([text for table in samples for text in table[name].to_pylist()], type=pa.string())
        for name in ("uid", "label_text")
    )
    for place, name in enumerate(partners.column_names):
        if name in LABELS and partners[name].null_count == len(partners):
            own = partners[name.replace("label", "uid")].combine_chunks()
            found = labels.take(pc.index_in(own, value_set=uids))
            partners = partners.set_column(place, name, found)
    return partners
