"""Check the values of a converted store: all are decoded, and the content digest is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from mmbind_data.errors import Finding, FormatError, IntegrityError
from mmbind_data.io.digests import ArrayDigest, content_digest, table_line
from mmbind_data.store.dataset import (
    CODED_COLUMNS,
    READ_BYTES,
    SAMPLES,
    Dataset,
    data_path,
    point_paths,
    valid_path,
)
from mmbind_data.store.writer import digest_facts

POINT_ROWS = 64  # samples of a point cloud that are decoded at a time


def check_values(store: Dataset) -> Iterator[Finding]:
    """Check codes, presence masks and values of a converted store against its content digest."""
    try:
        yield from _check_codes(store)
        lines = list(digest_facts(store.info, {name: store.names(name) for name in CODED_COLUMNS}))
        lines += [_line(name, "<i4", store.column(name)) for name in CODED_COLUMNS]
        for name, modality in store.info.modalities.items():
            present = store.present(name)
            lines.append(_line(valid_path(name), "|b1", present))
            if int(present.sum()) != store.info.n_present.get(name):
                yield Finding("count-differs", valid_path(name), "n_present differs from the mask")
            check = _check_points if modality.ragged else _check_samples
            yield from check(store, name, present, lines)
    except (IntegrityError, FormatError) as error:
        yield Finding("data-damaged", str(store.path), str(error))
        return
    try:
        lines.append(table_line(SAMPLES, store.samples().to_pydict()))
    except ValueError as error:
        yield Finding("value-not-finite", SAMPLES, str(error))
        return
    if content_digest(lines) != store.info.content_digest:
        yield Finding("digest-differs", "zarr.json", "the values are not those of content_digest")


def _line(path: str, dtype: str, values: np.ndarray) -> str:
    digest = ArrayDigest(dtype, values.shape[1:])
    digest.update(values)
    return digest.line(path)


def _check_samples(
    store: Dataset, name: str, present: np.ndarray, lines: list[str]
) -> Iterator[Finding]:
    """Check a modality of fixed shape; add its digest line to ``lines``."""
    shape, path = store.info.modalities[name].shape, data_path(name)
    data = ArrayDigest("<f4", shape)
    block = max(1, READ_BYTES // (4 * int(np.prod(shape))))
    for start in range(0, len(store), block):
        rows = store.load(name, slice(start, start + block))
        data.update(rows)
        flat, here = rows.reshape(len(rows), -1), present[start : start + block]
        broken = here & ~np.isfinite(flat).all(axis=1)
        filled = ~here & ~np.isnan(flat).all(axis=1)
        yield from _first(start, broken, "value-not-finite", path, "holds NaN")
        text = "is marked absent but holds values"
        yield from _first(start, filled, "value-not-absent", path, text)
    lines.append(data.line(path))


def _check_points(
    store: Dataset, name: str, present: np.ndarray, lines: list[str]
) -> Iterator[Finding]:
    """Check a point cloud; add its digest lines to ``lines``."""
    n_frames, n_features = store.info.modalities[name].shape
    value_path, offset_path, frame_path = point_paths(name)
    edges = store.point_edges(name)
    if edges[0] != 0 or edges[-1] != store.n_points(name) or (np.diff(edges) < 0).any():
        yield Finding("offsets-broken", offset_path, "do not rise from 0 to the last point")
        return
    values, frames = ArrayDigest("<f4", (n_features,)), ArrayDigest("<i8", (n_frames + 1,))
    for start in range(0, len(store), POINT_ROWS):
        clouds = store.load_points(name, slice(start, start + POINT_ROWS))
        stop, inner = start + len(clouds), clouds.frame_offsets
        values.update(clouds.values)
        frames.update(inner)
        sizes = np.diff(edges[start : stop + 1])
        rising = (np.diff(inner, axis=1) >= 0).all(axis=1) & (inner[:, 0] == 0)
        broken = ~rising | (inner[:, -1] != sizes)
        filled = ~present[start:stop] & (sizes > 0)
        text = f"disagrees with {offset_path}"
        yield from _first(start, broken, "offsets-broken", frame_path, text)
        if not np.isfinite(clouds.values).all():
            yield Finding("value-not-finite", value_path, f"rows {start}-{stop - 1} hold NaN")
        text = "is marked absent but holds points"
        yield from _first(start, filled, "value-not-absent", value_path, text)
    lines += [values.line(value_path), _line(offset_path, "<i8", edges), frames.line(frame_path)]


def _first(start: int, wrong: np.ndarray, code: str, where: str, text: str) -> Iterator[Finding]:
    """A finding about the first row of a block that is wrong, if any is."""
    if wrong.any():
        yield Finding(code, where, f"row {start + int(np.argmax(wrong))} {text}")


def _check_codes(store: Dataset) -> Iterator[Finding]:
    table = store.samples()
    counts = {"label": store.info.labels, "subject": store.info.subjects}
    for name in CODED_COLUMNS:
        codes, names = store.column(name), store.names(name)
        if len(codes) and (codes.min() < -1 or codes.max() >= len(names)):
            yield Finding("code-range", name, f"codes outside -1..{len(names) - 1}")
            continue
        texts = [names[code] if code >= 0 else None for code in codes]
        if texts != table["label_text" if name == "label" else name].to_pylist():
            yield Finding("code-differs", name, f"texts differ from those in {SAMPLES}")
        found = Counter(text for text in texts if text is not None)
        if name in counts and found != Counter(counts[name]):
            yield Finding("count-differs", name, "the attributes count other samples")
    uids = table["uid"].to_pylist()
    if len(set(uids)) != len(uids):
        yield Finding("uid-repeated", SAMPLES, "a uid occurs in two rows")
