"""Convert a raw dataset to a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from mmbind_data.errors import UsageError
from mmbind_data.io.process_pool import process_pool
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

    An interrupted conversion leaves a hidden folder next to the target; the same call resumes it.
    Raw data that cannot be read leaves nothing. The result does not depend on ``workers``, nor on
    whether the raw data is zipped.

    Parameters
    ----------
    name : str
        Dataset id, see `list_datasets`; "table" for your own data.
    raw : path
        The raw distribution: a folder, or a zip.
    out : path
        The store to write.
    preset : str
        A preset of the dataset's descriptor.
    subjects : sequence of str, optional
        Convert only these; by default all.
    modalities : sequence of str, optional
        Convert only these; by default those of the preset that the raw data holds.
    placements : sequence of str, optional
        Convert only what was worn at these body positions; by default those of the preset.
    options : mapping of str to str, optional
        Choices that the dataset's descriptor offers; those left out keep their default.
    document : str, optional
        Text of your own descriptor, for dataset "table".
    workers : int
        Processes that read and window; this one is among them, and writes at the end.
    overwrite : bool
        Replace a store at ``out``.
    progress : callable (done, total, text), optional
        Called after each raw unit, and for each modality that is written.

    Returns
    -------
    Converted
        Path and description of the store, and remarks.

    Raises
    ------
    UsageError
        An unknown dataset, preset, modality, subject, placement or option.
    RawLayoutError
        The raw data is missing, not recognised or broken.
    OutputError
        ``out`` exists or cannot be written, or a worker process died.

    Examples
    --------
    >>> import mmbind_data as md
    >>> made = md.convert(
    ...     "utd-mhad", "raw/utd-mhad", "utd.zarr", modalities=["acc", "gyro"], workers=2
    ... )  # doctest: +SKIP
    >>> len(md.open("utd.zarr"))  # doctest: +SKIP
    861
    """
    doing, option = f"convert {name}", "--workers"
    if workers < 1:
        raise UsageError(
            cannot=doing, problem="bad number", at=option, expected="1 or more", got=workers
        )
    others = workers - 1
    with process_pool(others, cannot=doing, option=option) if others else nullcontext() as pool:
        if pool is not None:
            pool.warm_up("mmbind_data.conversion.spool")
        # half a second of imports, while the first of the other processes starts
        from mmbind_data.conversion.pipeline import convert_dataset
        from mmbind_data.conversion.plan import ConversionRequest

        request = ConversionRequest(
            preset, subjects, modalities, placements, options or {}, document
        )
        return convert_dataset(
            name,
            raw,
            Path(out),
            request,
            pool=pool,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
        )
