"""Label texts: a map that overrides them, and a cache of their embeddings.

A sentence model takes seconds to load, and the labels of a dataset never change: embeddings are
kept in the user's cache folder, under the digest of the model's weights.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from .embed import Embedded, embed_texts
from .errors import UsageError, problem, suggest
from .integrity import canonical_json, file_digest, text_digest

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
        message = problem("bind", "unreadable label map", path, "a JSON object", got, MAP_STEP)
        raise UsageError(message) from error
    texts = found.values() if isinstance(found, dict) else [None]
    if not all(isinstance(text, str) and text for text in texts):
        got = type(found).__name__ if not isinstance(found, dict) else "other values"
        raise UsageError(problem("bind", "bad label map", path, "texts for texts", got, MAP_STEP))
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
                problem("bind", "unknown label in the map", "--label-map", "a label of the data",
                        repr(name), suggest(name, known))
            )  # fmt: skip


def embed_labels(texts: Sequence[str], model: str) -> Embedded:
    """Embeddings of unique label texts, from the cache as far as they are there.

    Parameters
    ----------
    texts : sequence of str
    model : str
        See `mmbind_data.embed.embed_texts`; only a model in a folder has a known digest, and is
        cached.
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
