"""The commands that make a bound dataset anew, from what the store remembers."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mmbind_data.binding.options import DEFAULT, TRAINED, command_words, restored_options
from mmbind_data.binding.rebuild import SourceCommands
from mmbind_data.publishing.bundle_store import local_name
from mmbind_data.spec.label_synonyms import synonym_map
from mmbind_data.spec.store import LOCATION, TIME, BinderInfo, BoundInfo


def convert_commands(info: BoundInfo) -> list[str]:
    """Commands that make the sources under their `local_names`, each once.

    Several nodes may be cut out of one store; stores of one dataset that were converted otherwise,
    such as from other people, get names of their own.
    """
    sources = {one.source_id: SourceCommands.parse(one.convert) for one in info.sources}
    wholes = {
        replace(one, part=None, part_options=()).lines()[0]: one.converted
        for one in sources.values()
    }
    n_wholes = Counter(wholes.values())
    lines: list[str] = []
    for (source_id, commands), name in zip(
        sources.items(), local_names(info).values(), strict=True
    ):
        if commands.part is None:
            commands = replace(commands, converted=name)
        elif n_wholes[commands.converted] > 1:
            commands = replace(commands, converted=f"{source_id}-whole.zarr", part=name)
        else:
            commands = replace(commands, part=name)
        lines += commands.lines()
    return list(dict.fromkeys(lines))


def bind_commands(info: BoundInfo, out: str = "bound.zarr") -> list[str]:
    """Commands that bind the sources, under the names that `convert_commands` gives them.

    One command where all bindings were one request, else one for each request, each of which
    takes the result of the one before it.
    """
    names = list(local_names(info).values())
    requests, maps = _requests(info), label_maps(info)
    commands, used = [], 0
    for number, binders in enumerate(requests):
        last = number == len(requests) - 1
        before = [f"step-{number}.zarr"] if number else []
        take = len(binders) + (0 if number else 1)
        stores = [*before, *names[used : used + take]]
        used += take
        target = out if last else f"step-{number + 1}.zarr"
        words = ["mmbind", "bind", *_options(binders, maps), *stores, "-o", target]
        commands.append(shlex.join(words))
    return commands


def label_maps(info: BoundInfo) -> dict[str, dict[str, str]]:
    """The wordings that labels were given before they were compared, by the name of their file.

    Each request may have had its own; where two had the same, one file says it.
    """
    found: list[dict[str, str]] = []
    for one in info.binder:
        wordings = synonym_map(one)
        if wordings and wordings not in found:
            found.append(wordings)
    return {f"label-map{f'-{number}' if number > 1 else ''}.json": wordings
            for number, wordings in enumerate(found, start=1)}  # fmt: skip


def _requests(info: BoundInfo) -> list[list[BinderInfo]]:
    """The bindings that one command did, in order."""
    requests: list[list[BinderInfo]] = []
    for one in info.binder:
        if not requests or one.parent_digest is not None:
            requests.append([])
        requests[-1].append(one)
    return requests


def remarks(info: BoundInfo) -> list[str]:
    """What the commands cannot express."""
    found = []
    for one in info.binder:
        name = one.embedding.get("name")
        if name == "file":
            file, digest = one.embedding.get("file"), one.embedding.get("sha256")
            found.append(
                f"The embeddings were read from {file} (sha256 {digest}), not part of this."
            )
        elif name not in ("raw", "sentence-transformers", TIME, LOCATION, *TRAINED):
            found.append(f"The embedding was made by a function of its own: {name}.")
        if restored_options(one).elastic != DEFAULT.elastic:
            found.append("The elastic comparison had options of its own: see zarr.json, binder.")
    return list(dict.fromkeys(found))


def local_names(info: BoundInfo) -> dict[str, str]:
    """A file name for each source by its id; ids are used where two would be the same."""
    names = [local_name(source) for source in info.sources]
    return {
        source.source_id: name if names.count(name) == 1 else f"{source.source_id}.zarr"
        for name, source in zip(names, info.sources, strict=True)
    }


def _options(binders: Sequence[BinderInfo], maps: Mapping[str, Mapping[str, str]]) -> list[str]:
    shared = list(dict.fromkeys(one.shared for one in binders))
    words = []
    for name in shared if len(shared) == 1 else [one.shared for one in binders]:
        words += ["--shared", name]
    given: dict[str, str] = {}
    for one in binders:
        given |= command_words(one)
        for file, wordings in maps.items():
            if wordings == synonym_map(one):
                given["--label-map"] = file
    for derivation in dict.fromkeys(
        name for one in binders for name in restored_options(one).derive
    ):
        words += ["--derive", derivation]
    return [*words, *(word for pair in given.items() for word in pair)]
