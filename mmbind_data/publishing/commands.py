"""The commands that make a bound dataset anew, from what the store remembers."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from mmbind_data.binding.options import DEFAULT, RECIPES
from mmbind_data.publishing.bundle_store import local_name
from mmbind_data.spec.label_synonyms import synonym_map
from mmbind_data.spec.store import BinderInfo, BoundInfo

TIME_AND_PLACE = ("time", "location")
TRAINED = ("autoencoder", "contrastive")
# how `bound_store.rebuild_command` writes: mmbind convert DATASET RAW TARGET, and what follows
TARGET, COMMAND_SEPARATOR = 4, " && mmbind partition "
# option of mmbind bind -> what the store calls it
_TOLD = {
    "--rerank": "rerank", "--candidates": "candidates", "--min-similarity": "rule_min_similarity",
    "--max-reuse": "rule_max_reuse", "--pca": "rule_pca", "--group-by": "group_by",
    "--temperature": "temperature", "--index": "index",
}  # fmt: skip


def convert_commands(info: BoundInfo) -> list[str]:
    """Commands that make the sources under their `local_names`, each once.

    Several nodes may be cut out of one store; stores of one dataset that were converted otherwise,
    such as from other people, are told apart.
    """
    wholes: dict[str, set[str]] = {}
    for source in info.sources:
        words = shlex.split(source.convert.partition(COMMAND_SEPARATOR)[0])
        wholes.setdefault(words[TARGET], set()).add(shlex.join(words))
    commands = []
    for source, name in zip(info.sources, local_names(info).values(), strict=True):
        first, _, rest = source.convert.partition(COMMAND_SEPARATOR)
        words = shlex.split(first)
        if not rest:
            words[TARGET] = name
        elif len(wholes[words[TARGET]]) > 1:
            words[TARGET] = f"{source.source_id}-whole.zarr"
        commands.append(shlex.join(words))
        if rest:
            _, _, *options = shlex.split(rest)
            commands.append(shlex.join(["mmbind", "partition", words[TARGET], name, *options]))
    return list(dict.fromkeys(commands))


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
    """What the commands cannot say."""
    found = []
    for one in info.binder:
        name = one.embedding.get("name")
        if name == "file":
            file, digest = one.embedding.get("file"), one.embedding.get("sha256")
            found.append(
                f"The embeddings were read from {file} (sha256 {digest}), not part of this."
            )
        elif name not in ("raw", "sentence-transformers", *TIME_AND_PLACE, *TRAINED):
            found.append(f"The embedding was made by a function of its own: {name}.")
        if any(key.startswith("elastic_") and value != getattr(DEFAULT.elastic, key[8:], value)
               for key, value in one.options.items()):  # fmt: skip
            found.append("The elastic comparison had options of its own: see zarr.json, binder.")
    return list(dict.fromkeys(found))


def local_names(info: BoundInfo) -> dict[str, str]:
    """A file name for each source by its id; told apart where two would be one."""
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
        given |= _options_of(one)
        for file, wordings in maps.items():
            if wordings == synonym_map(one):
                given["--label-map"] = file
    for derivation in dict.fromkeys(
        str(name) for one in binders for name in _texts(one.options.get("derive"))
    ):
        words += ["--derive", derivation]
    return [*words, *(word for pair in given.items() for word in pair)]


def _options_of(one: BinderInfo) -> dict[str, str]:
    """What differs from the recipe that the binding names."""
    given: dict[str, str] = {}
    name = one.embedding.get("name")
    recipe = RECIPES.get(one.recipe, DEFAULT)
    sensor = name not in TIME_AND_PLACE and "label_text" not in one.embedding
    if name in TIME_AND_PLACE:
        given["--window"] = f"{one.embedding.get('window_s', one.embedding.get('window_m'))}"
        if one.options.get("group_by"):
            given["--group-by"] = str(one.options["group_by"])
    elif not sensor:
        given["--label-model"] = str(one.embedding.get("model"))
        if one.embedding.get("label_text") != DEFAULT.label_text:
            given["--label-text"] = str(one.embedding["label_text"])
    else:
        if one.recipe in RECIPES and recipe != DEFAULT:
            given["--recipe"] = one.recipe
        if one.recipe not in RECIPES:
            given |= _custom(one)
        if name in TRAINED and one.embedding.get("steps") != DEFAULT.steps:
            given["--steps"] = str(one.embedding["steps"])
    if one.top_k == 1 and one.weight_rule != DEFAULT.weight_rule:  # several partners share 1
        given["--weights"] = one.weight_rule
    if one.seed != DEFAULT.seed:
        given["--seed"] = str(one.seed)
    return given


def _custom(one: BinderInfo) -> dict[str, str]:
    """All options of a binding that follows no recipe, as far as they differ from the default."""
    name, rule = str(one.embedding.get("name")), DEFAULT.rule
    given = {}
    if name != "raw":
        given["--embed"] = name if name in TRAINED else str(one.embedding.get("file", "PATH.npy"))
    if one.match != rule.match:
        given["--match"] = one.match
    if one.metric != rule.metric:
        given["--metric"] = one.metric
    if one.top_k != rule.top_k:
        given["--mean" if one.options.get("mean") else "--top-k"] = str(one.top_k)
    told = {"rerank": "none", "candidates": DEFAULT.candidates, **one.options}
    default = {"rerank": "dtw", "candidates": DEFAULT.candidates,
               "temperature": DEFAULT.temperature}  # fmt: skip
    for option, key in _TOLD.items():
        if told.get(key) is not None and told[key] != default.get(key):
            given[option] = str(told[key])
    return given


def _texts(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []
