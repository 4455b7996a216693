"""Pre-train encoders on bound stores, evaluate them without leaks, benchmark methods.

A name is imported when it is first used; ``import mmbind_train`` imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmbind_train.benchmarks.protocol import list_protocols as list_protocols
    from mmbind_train.benchmarks.protocol import load_protocol as load_protocol
    from mmbind_train.benchmarks.run import benchmark as benchmark
    from mmbind_train.config import EvaluateConfig as EvaluateConfig
    from mmbind_train.config import TrainConfig as TrainConfig
    from mmbind_train.config import recipe as recipe
    from mmbind_train.evaluation.evaluate import evaluate as evaluate
    from mmbind_train.exporting.export import export as export
    from mmbind_train.networks.model import AdaptiveModel as AdaptiveModel
    from mmbind_train.objectives.info_nce import soft_info_nce as soft_info_nce
    from mmbind_train.objectives.info_nce import weighted_info_nce as weighted_info_nce
    from mmbind_train.training.methods import METHODS as METHODS
    from mmbind_train.training.pretrain import train as train
    from mmbind_train.training.run_folder import load_run as load_run

__all__ = [
    "METHODS",
    "AdaptiveModel",
    "EvaluateConfig",
    "TrainConfig",
    "benchmark",
    "evaluate",
    "export",
    "list_protocols",
    "load_protocol",
    "load_run",
    "recipe",
    "soft_info_nce",
    "train",
    "weighted_info_nce",
]
_ORIGINS = {  # name -> where it is defined; imported when it is first asked for
    "AdaptiveModel": "networks.model.AdaptiveModel",
    "benchmark": "benchmarks.run.benchmark",
    "evaluate": "evaluation.evaluate.evaluate",
    "EvaluateConfig": "config.EvaluateConfig",
    "export": "exporting.export.export",
    "list_protocols": "benchmarks.protocol.list_protocols",
    "load_protocol": "benchmarks.protocol.load_protocol",
    "load_run": "training.run_folder.load_run",
    "METHODS": "training.methods.METHODS",
    "recipe": "config.recipe",
    "soft_info_nce": "objectives.info_nce.soft_info_nce",
    "train": "training.pretrain.train",
    "TrainConfig": "config.TrainConfig",
    "weighted_info_nce": "objectives.info_nce.weighted_info_nce",
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
