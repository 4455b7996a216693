"""Bind incomplete multimodal sensor datasets: convert, pair, train, evaluate, publish.

This module offers all of `mmbind_data` and `mmbind_train` under the name that is installed::

    import mmbind

    mmbind.convert("motionsense", "raw/", "motionsense.zarr")
    mmbind.bind(["motionsense.zarr", "shoaib.zarr"], "bound.zarr", shared="acc")
    mmbind.train("bound.zarr", "run/")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mmbind_data
import mmbind_train

if TYPE_CHECKING:
    from mmbind_data import *  # noqa: F403
    from mmbind_train import *  # noqa: F403

__all__ = [*mmbind_data.__all__, *mmbind_train.__all__]


def __getattr__(name: str) -> Any:
    for face in (mmbind_data, mmbind_train):
        if name in face.__all__:
            return getattr(face, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
