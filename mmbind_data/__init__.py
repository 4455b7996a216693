"""Convert, partition, bind, publish and check multimodal sensor datasets.

A name is imported when it is first used, so that ``import mmbind_data`` costs nothing.

>>> import mmbind_data as md
>>> "utd-mhad" in md.list_datasets()
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmbind_data.binding.advise import advise as advise
    from mmbind_data.binding.bind import bind as bind
    from mmbind_data.binding.options import BindOptions as BindOptions
    from mmbind_data.conversion.convert import convert as convert
    from mmbind_data.datasets.registry import list_datasets as list_datasets
    from mmbind_data.datasets.registry import load_descriptor as load_descriptor
    from mmbind_data.errors import MMBindError as MMBindError
    from mmbind_data.matching.rule import MatchRule as MatchRule
    from mmbind_data.publishing.archive import pack as pack
    from mmbind_data.publishing.hydrate import hydrate as hydrate
    from mmbind_data.publishing.publish import publish as publish
    from mmbind_data.publishing.verify import verify as verify
    from mmbind_data.reports.bound_report import report
    from mmbind_data.spec.descriptor import Descriptor as Descriptor
    from mmbind_data.spec.descriptor import Modality as Modality
    from mmbind_data.spec.descriptor import Recording as Recording
    from mmbind_data.store.bound import BoundDataset as BoundDataset
    from mmbind_data.store.bound import open_bound as open_bound
    from mmbind_data.store.bound import open_store as open
    from mmbind_data.store.dataset import Dataset as Dataset
    from mmbind_data.store.dataset import open_dataset as open_dataset
    from mmbind_data.store.differences import diff as diff
    from mmbind_data.store.partitioning import partition as partition
    from mmbind_data.store.validation import validate as validate

__all__ = [
    "BindOptions",
    "BoundDataset",
    "Dataset",
    "Descriptor",
    "MMBindError",
    "MatchRule",
    "Modality",
    "Recording",
    "advise",
    "bind",
    "convert",
    "diff",
    "hydrate",
    "list_datasets",
    "load_descriptor",
    "open",
    "open_bound",
    "open_dataset",
    "pack",
    "partition",
    "publish",
    "report",
    "validate",
    "verify",
]
_ORIGINS = {  # name -> where it is defined; imported when it is first asked for
    "advise": "binding.advise.advise",
    "bind": "binding.bind.bind",
    "BindOptions": "binding.options.BindOptions",
    "BoundDataset": "store.bound.BoundDataset",
    "convert": "conversion.convert.convert",
    "Dataset": "store.dataset.Dataset",
    "Descriptor": "spec.descriptor.Descriptor",
    "diff": "store.differences.diff",
    "hydrate": "publishing.hydrate.hydrate",
    "list_datasets": "datasets.registry.list_datasets",
    "load_descriptor": "datasets.registry.load_descriptor",
    "MatchRule": "matching.rule.MatchRule",
    "MMBindError": "errors.MMBindError",
    "Modality": "spec.descriptor.Modality",
    "open": "store.bound.open_store",
    "open_bound": "store.bound.open_bound",
    "open_dataset": "store.dataset.open_dataset",
    "pack": "publishing.archive.pack",
    "partition": "store.partitioning.partition",
    "publish": "publishing.publish.publish",
    "Recording": "spec.descriptor.Recording",
    "report": "reports.bound_report.report",
    "validate": "store.validation.validate",
    "verify": "publishing.verify.verify",
}


def __getattr__(name: str) -> Any:
    if name not in _ORIGINS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _ORIGINS[name].rpartition(".")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
