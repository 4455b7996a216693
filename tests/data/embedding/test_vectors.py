"""Embeddings that somebody else made: taken as they are, or refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmbind_data.embedding.vectors import EmbedFunction, embed_file, embed_with
from mmbind_data.errors import BindingError
from mmbind_data.io.digests import file_digest
from mmbind_data.spec.descriptor import Axis, Modality

ACC = Modality(
    kind="inertial", unit="m/s^2", axes=(Axis(name="time", size=8), Axis(name="channel", size=3))
)


def saved(folder: Path, array: np.ndarray) -> Path:
    path = folder / "mine.npy"
    np.save(path, array)
    return path


@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "int16", ">f4"])
def test_vectors_are_read_as_they_are(tmp_path: Path, kind: str) -> None:
    vectors = np.arange(12).reshape(4, 3).astype(kind)
    path = saved(tmp_path, np.asfortranarray(vectors))
    embedded = embed_file(path, 4)
    assert embedded.vectors.dtype == np.float32
    assert embedded.vectors.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(embedded.vectors, vectors)
    assert embedded.config == {"name": "file", "file": "mine.npy", "sha256": file_digest(path)}
    assert not embedded.weights


def with_value(value: float) -> np.ndarray:
    vectors = np.ones((4, 3))
    vectors[2, 1] = value
    return vectors


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((5, 3)), r"expected .*\(4, d\).*got 5 rows"),
        (np.ones((3, 4)), "got 3 rows"),
        (np.ones(4), r"got shape \(4,\)"),
        (np.ones((4, 3, 2)), r"got shape \(4, 3, 2\)"),
        (np.ones((4, 0)), r"got shape \(4, 0\)"),
        (with_value(np.nan), "1 rows with NaN or infinity, the first is row 2"),
        (with_value(-np.inf), "the first is row 2"),
        (with_value(1e300), "single precision.*the first is row 2"),
        (np.ones((4, 3), dtype=complex), "no real numbers.*complex128"),
        (np.full((4, 3), "x"), "no real numbers"),
    ],
)
def test_other_arrays_are_one_sentence(tmp_path: Path, array: np.ndarray, message: str) -> None:
    with pytest.raises(BindingError, match=message) as error:
        embed_file(saved(tmp_path, array), 4)
    assert "mine.npy" in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 4


def test_other_files_are_one_sentence(tmp_path: Path) -> None:
    whole = saved(tmp_path, np.ones((400, 3))).read_bytes()
    path = tmp_path / "other.npy"
    for content in (b"", b"uid,1,2\n", whole[:9], whole[:50], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(BindingError, match="unreadable embeddings") as error:
            embed_file(path, 400)
        assert "\n" not in str(error.value)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BindingError, match="unreadable embeddings"):
        embed_file(path, 1)
    archive = tmp_path / "mine.npz"
    np.savez(archive, np.ones((4, 3)))
    with pytest.raises(BindingError, match="unreadable embeddings"):
        embed_file(archive, 4)
    with pytest.raises(BindingError, match="unreadable embeddings"):
        embed_file(tmp_path, 4)
    with pytest.raises(BindingError, match="no such file"):
        embed_file(tmp_path / "none.npy", 4)


def test_any_function_can_embed() -> None:
    values = np.random.default_rng(0).normal(size=(5, 8, 3)).astype(np.float32)
    before = values.copy()

    def energy(values: np.ndarray, modality: Modality) -> np.ndarray:
        assert modality is ACC
        values **= 2
        return np.asarray(values.mean(axis=1), dtype=np.float64)

    function: EmbedFunction = energy
    embedded = embed_with(function, values, ACC)
    np.testing.assert_allclose(embedded.vectors, (before**2).mean(axis=1), rtol=1e-6)
    assert embedded.vectors.dtype == np.float32
    assert embedded.config == {"name": "energy"}
    np.testing.assert_array_equal(values, before)  # what it does to its copy stays there


def test_an_object_is_named_by_its_class() -> None:
    class Mine:
        def __call__(self, values: np.ndarray, modality: Modality, /) -> np.ndarray:
            return np.ones((len(values), 2))

    assert embed_with(Mine(), np.zeros((3, 8, 3)), ACC).config == {"name": "Mine"}


@pytest.mark.parametrize("give", [np.ones((4, 2)), np.ones(5), np.full((5, 2), np.nan), "text"])
def test_functions_that_give_something_else_are_refused(give: object) -> None:
    def mine(values: np.ndarray, modality: Modality) -> np.ndarray:
        return give  # type: ignore[return-value]

    with pytest.raises(BindingError, match=r"at mine: expected .*\(5, d\)"):
        embed_with(mine, np.zeros((5, 8, 3), dtype=np.float32), ACC)
