"""Attach local conversions to a published bundle: uids say which row is which sample."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from .bundle_place import is_bundle
from .errors import FormatError, IntegrityError, UsageError, problem, suggest
from .layout import (
    ENCODER,
    EVALUATION,
    INNER,
    META,
    PROVENANCE,
    Bound,
    Store,
    open_bound,
    open_store,
    read_table,
)
from .places import link
from .problems import Problem
from .published_store import (
    JUDGEMENT,
    LABELS,
    PARTNERS,
    plain_texts,
    published_info,
    renumbered,
    write_bound_tables,
)
from .references import named_uids, rows_of, sample_digest
from .spec import BoundInfo, SourceInfo
from .staging import check_output, staged
from .unpack import is_archive, unpacked
from .verify import verify
from .writer import write_table

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
    bound: Bound, stores: Mapping[str, Store], bundle: str | Path, out: Path, *, overwrite: bool
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
            problem(DOING, "the pairs are not those that were published", bound.path,
                    f"content digest {bound.info.content_digest[:12]}", info.content_digest[:12],
                    "Fetch the bundle again.")
        )  # fmt: skip
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
    bundle: str | Path, stores: Mapping[str, Store], out: Path, *, overwrite: bool
) -> None:
    places = [store.path for store in stores.values()]
    check_output(out, overwrite=overwrite, doing=DOING, inputs=[bundle, *places])


def rehearse_hydration(
    bundle: str | Path,
    out: str | Path,
    sources: Mapping[str, str | Path],
    *,
    overwrite: bool = False,
) -> tuple[int, dict[str, Store]]:
    """Look for every sample that `hydrate` needs, write nothing.

    Returns
    -------
    int
        Number of rows.
    dict of source id to Store

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
) -> Iterator[tuple[Bound, dict[str, Store]]]:
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
                problem(DOING, "a store cannot point into an archive", bundle,
                        "every source, or the bundle as a folder", f"no {', '.join(inside)}",
                        f"Unpack it first: unzip {bundle} -d FOLDER, or give --source ID=STORE.")
            )  # fmt: skip
        yield bound, stores


def _damaged(bundle: str | Path, found: Problem) -> IntegrityError:
    return IntegrityError(
        problem(DOING, "the bundle is damaged", f"{bundle} {found.where}", "what was published",
                found.message, found.fix)
    )  # fmt: skip


def _match_sources(
    bundle: str | Path, sources: Mapping[str, str | Path]
) -> tuple[Bound, dict[str, Store]]:
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
                problem(DOING, "unknown source id", bundle, ", ".join(known), repr(source_id),
                        suggest(source_id, known))
            )  # fmt: skip
    inside = bound.info.mode == "self-contained"
    missing = [one for one in bound.info.sources if one.source_id not in sources]
    if missing and not inside:
        ways = "; ".join(f"--source {one.source_id}=STORE, made by: {one.convert}"
                         for one in missing)  # fmt: skip
        raise FormatError(
            problem(DOING, "not every source is given", bundle, f"{len(known)} sources",
                    f"{len(sources)}", f"Give {ways}")
        )  # fmt: skip
    stores = {}
    for source in bound.info.sources:
        place = sources.get(source.source_id)
        local = bound.path / INNER / source.source_id if place is None else place
        stores[source.source_id] = _check_source(bound, source, open_store(local))
    return bound, stores


def _check_source(bound: Bound, source: SourceInfo, store: Store) -> Store:
    """Refuse a store that is not the source by its dataset, modalities, uids or values."""
    source_id, named = source.source_id, named_uids(bound.pairs(), bound.info.modalities,
                                                    source.source_id)  # fmt: skip
    way_out = f"Make it with: {source.convert}"
    if store.info.dataset_id != source.dataset_id:
        raise FormatError(
            problem(DOING, f"another dataset than that of {source_id}", store.path,
                    source.dataset_id, store.info.dataset_id, way_out)
        )  # fmt: skip
    for name in sorted(set(named) - {""}):
        if store.info.modalities.get(name) != source.modalities[name]:
            got = "another shape or unit" if name in store.info.modalities else "no such modality"
            raise FormatError(
                problem(DOING, f"{name} is not that of {source_id}", store.path,
                        f"{name} as it was bound", got, way_out)
            )  # fmt: skip
    more = [name for name in store.info.modalities if name not in source.modalities]
    if more:  # training refuses it: a node lacks what it is said to lack
        raise FormatError(
            problem(DOING, f"it holds what {source_id} lacks", store.path,
                    f"only {', '.join(source.modalities)}", f"also {', '.join(more)}",
                    f"Cut it with mmbind partition --modalities, or {way_out[0].lower()}"
                    f"{way_out[1:]}")
        )  # fmt: skip
    _check_uids(source, store, named, way_out)
    same = store.info.content_digest in (source.content_digest, source.stored_digest)
    if not same and sample_digest(store, named) != source.sample_digest:
        raise IntegrityError(
            problem(DOING, f"other values under the uids of {source_id}", store.path,
                    "the samples that were bound", "samples that differ", way_out)
        )  # fmt: skip
    return store


def _check_uids(
    source: SourceInfo, store: Store, named: Mapping[str, pa.Array], way_out: str
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
            problem(DOING, f"samples of {source.source_id} are missing", store.path,
                    f"{total} samples", f"{total - len(missing)}; {len(missing)} uids are not "
                    f"there: {few}", way_out)
        )  # fmt: skip


def _attached(source: SourceInfo, store: Store, out: Path) -> SourceInfo:
    own = store.info.content_digest
    digest = None if own == source.content_digest else own
    return source.model_copy(update={"path": link(store.path, out), "stored_digest": digest})


def _with_labels(partners: pa.Table, stores: Mapping[str, Store]) -> pa.Table:
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
