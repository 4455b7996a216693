"""A device that is pretended: values lie in CPU memory, but it refuses to mix with the CPU.

It finds tensors that were left on the CPU, as a GPU would. What it cannot find: kinds of numbers
that a GPU treats otherwise, kernels without determinism, time, and the GRUs of the published
encoders, for which it has no kernel.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch.utils._pytree import tree_map_only

NAME = "pretended"
COPIES = ("aten::copy_", "aten::_to_copy", "aten::_copy_from")
WHOLE = ("aten::index.Tensor", "aten::index_put_", "aten::index_put")  # of these, CPU indices serve


class PretendedTensor(torch.Tensor):
    """A tensor of the device, around the one that has its values."""

    raw: torch.Tensor

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> PretendedTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls, raw.size(), strides=raw.stride(), storage_offset=raw.storage_offset(),
            dtype=raw.dtype, device=torch.device(NAME, 0),
        )  # fmt: skip
        made.raw = raw
        return made

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"pretended {self.raw!r}"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = dict(kwargs or {}), function.name()
        mine: list[PretendedTensor] = []
        plain: list[torch.Tensor] = []
        tree_map_only(
            torch.Tensor,
            lambda one: (mine if isinstance(one, PretendedTensor) else plain).append(one),
            (args, kwargs),
        )
        mixed = [one for one in plain if one.dim() > 0]
        if mixed and name not in (*COPIES, *WHOLE):
            shapes = ", ".join(str(tuple(one.shape)) for one in mixed)
            raise RuntimeError(f"{name} mixes the pretended device with the CPU: shapes {shapes}")
        device = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        if device is not None and device.type == NAME:
            kwargs["device"] = torch.device("cpu")
        inner = tree_map_only(PretendedTensor, lambda one: one.raw, (args, kwargs))
        out = function(*inner[0], **inner[1])
        if device is not None and device.type == "cpu":
            return out
        if name == "aten::copy_" and not isinstance(args[0], PretendedTensor):
            return args[0]
        known = {id(one.raw): one for one in mine}
        return tree_map_only(
            torch.Tensor,
            lambda one: known.get(id(one)) if id(one) in known else PretendedTensor(one),
            out,
        )


class _Module:
    """What torch asks a device's module."""

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        del seed

    def is_initialized(self) -> bool:
        return True

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


def pretended_device() -> torch.device:
    """The device; registered with torch at the first call, for this whole process."""
    if torch._C._get_privateuse1_backend_name() != NAME:
        torch.utils.backend_registration._setup_privateuseone_for_python_backend(NAME, _Module())
        library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
        library.impl("empty.memory_format", _empty, "PrivateUse1")  # type: ignore[no-untyped-call]
        library.impl("empty_strided", _empty_strided, "PrivateUse1")  # type: ignore[no-untyped-call]
        library.impl("_copy_from", _copy_from, "PrivateUse1")  # type: ignore[no-untyped-call]
        _KEPT.append(library)
    return torch.device(NAME, 0)


_KEPT: list[Any] = []


def _empty(size: Any, *, dtype: Any = None, **_: Any) -> torch.Tensor:
    return PretendedTensor(torch.empty(size, dtype=dtype or torch.get_default_dtype()))


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> torch.Tensor:
    return PretendedTensor(
        torch.empty_strided(size, stride, dtype=dtype or torch.get_default_dtype())
    )


def _copy_from(source: Any, target: Any, non_blocking: bool = False) -> torch.Tensor:
    del non_blocking
    raw = source.raw if isinstance(source, PretendedTensor) else source
    (target.raw if isinstance(target, PretendedTensor) else target).copy_(raw)
    return cast("torch.Tensor", target)
