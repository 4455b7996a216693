"""Decoders of every kind: errors against naive loops, and what they learn to give."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from kinds import MODALITIES, write_kind_store

from mmbind_data.spec.descriptor import Modality
from mmbind_data.spec.store import InputBounds
from mmbind_data.store.dataset import open_dataset
from mmbind_data.store.input_size import bounded_modality
from mmbind_train.config import NetworkOptions
from mmbind_train.data.batch import make_batch
from mmbind_train.data.training_set import gather_store, measure_statistics
from mmbind_train.networks.decoders import chamfer, decoded_values, decoder_of, row_errors
from mmbind_train.networks.model import AdaptiveModel
from mmbind_train.objectives.generated import with_generated
from mmbind_train.objectives.modules import Translate

SMALL = InputBounds(frames=8, points=5, pixels=150)
ENTERING = {name: bounded_modality(one, SMALL) for name, one in MODALITIES.items()}


def clouds(rng: np.random.Generator, counts: list[list[int]]) -> torch.Tensor:
    """Padded clouds of some numbers of points per frame, two channels."""
    values = np.full((len(counts), len(counts[0]), 6, 2), np.nan, np.float32)
    for i, frames in enumerate(counts):
        for t, count in enumerate(frames):
            values[i, t, :count] = rng.normal(size=(count, 2))
    return torch.from_numpy(values)


def naive_chamfer(decoded: np.ndarray, wanted: np.ndarray) -> list[float]:
    found = []
    for mine, other in zip(decoded, wanted, strict=True):
        frames = []
        for made, padded in zip(mine, other, strict=True):
            points = [one for one in padded if np.isfinite(one).all()]
            if points:
                forth = [min(np.mean((q - p) ** 2) for p in points) for q in made]
                back = [min(np.mean((q - p) ** 2) for q in made) for p in points]
                frames.append((np.mean(forth) + np.mean(back)) / 2)
        found.append(float(np.mean(frames)) if frames else 0.0)
    return found


def test_chamfer_against_loops() -> None:
    rng = np.random.default_rng(0)
    wanted = clouds(rng, [[3, 0, 6], [1, 2, 4], [0, 0, 0]])
    decoded = torch.from_numpy(rng.normal(size=(3, 3, 4, 2)).astype(np.float32))
    decoded.requires_grad_()
    found = chamfer(decoded, wanted)
    np.testing.assert_allclose(
        found.tolist(), naive_chamfer(decoded.detach().numpy(), wanted.numpy()), rtol=1e-5
    )
    # places for points that nobody fills change nothing
    wider = torch.cat([wanted, torch.full_like(wanted, torch.nan)], dim=2)
    torch.testing.assert_close(chamfer(decoded, wider), found)
    (gradient,) = torch.autograd.grad(found.sum(), decoded)
    assert gradient.isfinite().all()
    assert (gradient[0, 1] == 0).all()  # that frame has no point to be near to
    assert (gradient[0, 0] != 0).any()
    same = clouds(rng, [[6]])
    assert chamfer(same, same.flip(2)).tolist() == [0]  # the order means nothing


def test_cross_entropy_of_class_maps_against_loops() -> None:
    one = ENTERING["semseg"]
    assert one.classes == 7
    rng = np.random.default_rng(1)
    wanted = rng.integers(0, 7, size=(2, *one.shape)).astype(np.float32)
    wanted[0, 2, 3], wanted[0, 0, 0] = 7, -1  # no class of these
    logits = rng.normal(size=(2, *one.shape, 7)).astype(np.float32)
    expected = []
    for scores, numbers in zip(logits, wanted, strict=True):
        terms = []
        for place, number in np.ndenumerate(numbers):
            if 0 <= number < 7:
                total = math.log(sum(math.exp(score) for score in scores[place]))
                terms.append(total - float(scores[place][int(number)]))
        expected.append(sum(terms) / len(terms))
    found = row_errors(torch.from_numpy(logits), torch.from_numpy(wanted), one)
    np.testing.assert_allclose(found.tolist(), expected, rtol=1e-5)
    nobody = torch.full((1, *one.shape), 9.0)
    assert row_errors(torch.from_numpy(logits[:1]), nobody, one).tolist() == [0]


@pytest.mark.parametrize("name", [name for name in MODALITIES if name not in ("radar", "semseg")])
def test_quantities_are_compared_number_by_number(name: str) -> None:
    one = ENTERING[name]
    decoded, wanted = decoder_of(one, 16)(torch.randn(2, 16)), torch.randn(2, *one.shape)
    assert decoded_values(decoded, one) is decoded
    expected = [float(np.mean(each)) for each in (decoded - wanted).detach().numpy() ** 2]
    np.testing.assert_allclose(row_errors(decoded, wanted, one).tolist(), expected, rtol=1e-5)


def learnt(one: Modality, wanted: torch.Tensor) -> torch.Tensor:
    """What a decoder gives for one sample when it has learnt that one."""
    torch.manual_seed(0)
    decoder, latent = decoder_of(one, 8), torch.ones(1, 8)
    optimiser = torch.optim.Adam(decoder.parameters(), lr=0.01)
    for _ in range(150):
        loss = row_errors(decoder(latent), wanted, one).sum()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    found: torch.Tensor = decoder(latent).detach()
    return found


def test_a_decoder_learns_the_classes_of_a_map() -> None:
    one = ENTERING["semseg"]
    height, width = one.shape
    wanted = torch.zeros(1, height, width)
    wanted[:, : height // 2, width // 2 :], wanted[:, height // 2 :] = 6, 3
    values = decoded_values(learnt(one, wanted), one)
    assert values.shape == wanted.shape
    assert values.dtype == torch.float32
    assert set(values.flatten().tolist()) == {0, 3, 6}  # no class in between
    assert (values == wanted).float().mean() > 0.9


def test_a_decoder_learns_where_points_are() -> None:
    one = MODALITIES["radar"].sized((11, 5))
    one = bounded_modality(one, InputBounds(frames=8, points=20))
    wanted = torch.full((1, *one.shape), torch.nan)
    wanted[:, :, 0], wanted[:, :, 1] = 2.0, -1.0
    found = learnt(one, wanted)
    assert found.shape == (1, 8, 16, 5)
    near = [(found - place).abs().amax(dim=-1) < 0.3 for place in (2.0, -1.0)]
    assert (near[0] | near[1]).float().mean() > 0.9
    assert all(each.any(dim=2).all() for each in near)
    values = decoded_values(found, one)
    assert values.shape == wanted.shape
    assert values[:, :, 16:].isnan().all()
    assert torch.equal(values[:, :, :16], found)


def test_generated_maps_and_clouds_are_of_their_kind(tmp_path: Path) -> None:
    names = ["acc", "radar", "semseg"]
    path = write_kind_store(tmp_path / "k.zarr", names)
    rows = gather_store(open_dataset(path), names, bounds=SMALL)
    rows.index[::2, 1:] = rows.sample[::2, 1:] = -1
    torch.manual_seed(0)
    network = NetworkOptions(width=8, feature_dim=16, embedding_dim=8)
    translate = Translate(AdaptiveModel(rows.modalities, network), rows, "acc")
    made = with_generated(rows, translate, measure_statistics(rows))
    assert (made.index >= 0).all()
    batch = make_batch(made, np.arange(0, len(rows), 2), measure_statistics(rows))
    numbers = batch.inputs["semseg"]
    assert torch.equal(numbers, numbers.round())
    assert 0 <= numbers.min() <= numbers.max() < 7
    assert batch.inputs["radar"].isfinite().all()  # as many points in every frame
    assert batch.inputs["radar"].shape[1:] == ENTERING["radar"].shape
    statistics = measure_statistics(rows)["radar"]
    with torch.no_grad():
        inputs = make_batch(rows, np.arange(0, len(rows), 2), measure_statistics(rows))
        standard = translate.generate(inputs.inputs, inputs.present, "radar").numpy()
    np.testing.assert_allclose(
        made.values["radar"][made.index[::2, 1]],
        standard * statistics.std + statistics.mean, rtol=1e-4, atol=1e-4,
    )  # fmt: skip
