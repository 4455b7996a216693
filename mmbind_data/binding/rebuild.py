"""The commands that make a source store from raw data, as a value and as the text of a shell."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from mmbind_data.datasets.registry import list_datasets
from mmbind_data.spec.store import DatasetInfo


@dataclass(frozen=True)
class SourceCommands:
    """``mmbind convert`` and, of a node's part of a dataset, ``mmbind partition``."""

    dataset: str
    raw: str  # stands for the folder of the raw data
    converted: str  # the store that is converted
    options: Sequence[str] = ()  # of mmbind convert
    part: str | None = None  # the store that is cut out of it
    part_options: Sequence[str] = ()  # of mmbind partition

    def lines(self) -> list[str]:
        """One or two command lines."""
        convert = ["mmbind", "convert", self.dataset, self.raw, self.converted, *self.options]
        if self.part is None:
            return [shlex.join(convert)]
        partition = ["mmbind", "partition", self.converted, self.part, *self.part_options]
        return [shlex.join(convert), shlex.join(partition)]

    def __str__(self) -> str:
        return " && ".join(self.lines())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` of such commands gives."""
        words = shlex.split(text)
        end = words.index("&&") if "&&" in words else len(words)
        _, _, dataset, raw, converted, *options = words[:end]
        if end == len(words):
            return cls(dataset, raw, converted, options)
        _, _, _, part, *part_options = words[end + 1 :]
        return cls(dataset, raw, converted, options, part, part_options)


def source_commands(info: DatasetInfo) -> SourceCommands:
    """The commands that make a store like the one described."""
    converted, options = f"{info.dataset_id}.zarr", list[str]()
    if info.dataset_id in list_datasets():
        dataset = info.dataset_id
    else:  # a user's own tables, or a package that is not installed here
        dataset, options = "table", ["--descriptor", f"{info.dataset_id}.json"]
    if info.preset != "default":
        options += ["--preset", info.preset]
    selection = info.selection
    options += _lists(
        {
            "--subjects": selection.subjects,
            "--modalities": selection.modalities,
            "--placement": selection.placements,
        }
    )
    options += [
        word for name, value in selection.options.items() for word in ("--set", f"{name}={value}")
    ]
    if info.partition is None:
        return SourceCommands(dataset, "RAW", converted, options)
    part = info.partition
    chosen = _lists({"--subjects": part.subjects, "--modalities": part.modalities})
    for column, values in (part.where or {}).items():
        chosen += [word for value in values for word in ("--where", f"{column}={value}")]
    chosen += ["--labels", "none"] if part.labels == "none" else []
    return SourceCommands(dataset, "RAW", converted, options, f"{part.node}.zarr", chosen)


def _lists(options: Mapping[str, Sequence[str] | None]) -> list[str]:
    return [
        word
        for name, values in options.items()
        if values is not None
        for word in (name, ",".join(values))
    ]
