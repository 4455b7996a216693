"""A pre-training that keeps what its method runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mmbind_train.data.batch import Batch
from mmbind_train.objectives.modules import Objective
from mmbind_train.training.run import PretrainingRun


class Recording(PretrainingRun):
    """Keeps the objectives of the stages, and the batches that each was given."""

    def run(self, name: str, objective: Objective, **options: Any) -> None:
        batches: list[Batch] = []
        hook = objective.register_forward_pre_hook(lambda _, given: batches.append(given[0]))
        vars(self).setdefault("objectives", []).append(objective)
        vars(self).setdefault("batches", []).append(batches)
        super().run(name, objective, **options)
        hook.remove()


def recorded(training: PretrainingRun, method: Any, **changes: Any) -> Any:
    """Run a method once more, from the network and the rows of a training, and record it."""
    again = Recording(**vars(replace(training, stages=[], **changes)))
    method(again)
    return again
