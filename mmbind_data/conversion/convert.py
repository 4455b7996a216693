"""Convert a raw dataset to a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmbind_data.conversion.workers import processes_beside
from mmbind_data.errors import UsageError
from mmbind_data.progress import Progress

if TYPE_CHECKING:
    from mmbind_data.conversion.pipeline import Converted


def convert(
    name: str,
    raw: str | Path,
    out: str | Path,
    *,
    preset: str = "default",
    subjects: Sequence[str] | None = None,
    modalities: Sequence[str] | None = None,
    placements: Sequence[str] | None = None,
    options: Mapping[str, str] | None = None,
    document: str | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Converted:
    """Convert a raw dataset to a `mmbind-dataset` store.

    An interrupted conversion leaves a hidden folder beside the target; the same call resumes it.
    Raw data that cannot be read leaves nothing.
    The result does not depend on ``workers``, nor on whether the raw data is zipped.

    Parameters
    ----------
    name : str
        Dataset id, see `mmbind_data.datasets.registry.list_datasets`.
    raw : path
        The raw distribution: a folder, or a zip.
    out : path
        The store to write.
    preset : str
        A preset of the dataset's descriptor.
    subjects : sequence of str, optional
        Convert only these.
    modalities : sequence of str, optional
        Convert only these; by default those of the preset that the raw data holds.
    placements : sequence of str, optional
        Convert only what was worn there; by default what the preset says.
    options : mapping of str to str, optional
        Choices that the dataset's descriptor offers.
    document : str, optional
        Text of the user's own descriptor, for dataset "table".
    workers : int
        Processes that read and window; this one is among them, and writes at the end.
    overwrite : bool
        Replace a store that stands at ``out``.
    progress : callable (done, total, text), optional

    Returns
    -------
    Converted

    Raises
    ------
    UsageError, RawLayoutError, OutputError
    """
    if workers < 1:
        raise UsageError(
            cannot=f"convert {name}",
            problem="bad number",
            at="--workers",
            expected="1 or more",
            got=str(workers),
        )
    with processes_beside(workers - 1) as others:
        # half a second of imports, while the first of them starts
        from mmbind_data.conversion.pipeline import convert_dataset
        from mmbind_data.conversion.plan import request_of

        request = request_of(
            preset=preset,
            subjects=subjects,
            modalities=modalities,
            placements=placements,
            options=options,
            document=document,
        )
        return convert_dataset(
            name, raw, Path(out), request, others=others, overwrite=overwrite, progress=progress
        )
