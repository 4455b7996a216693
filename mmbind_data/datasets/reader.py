"""What a dataset's reader is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mmbind_data.raw.files import RawListing, Unit
from mmbind_data.spec.descriptor import Descriptor, Recording

TABLE = "table"


@dataclass(frozen=True)
class DatasetReader:
    """What is known about a dataset, and how its raw files are found and read.

    ``find`` and ``read`` get a preset, modalities and options that the descriptor has: whoever
    calls them has checked, see `mmbind_data.conversion.plan.plan_conversion`.
    """

    descriptor: Descriptor
    find: Callable[..., RawListing]
    read: Callable[[Unit, Sequence[str], str], Iterator[Recording]]
