"""Random changes: each switch alone, on every kind it is for, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from kinds import MODALITIES, clouds, samples

from mmbind_data.signal.point_clouds import RaggedPoints
from mmbind_data.spec.descriptor import Modality
from mmbind_data.store.input_size import FRAME_KINDS
from mmbind_train.config import NO_AUGMENTATION, Augmentation
from mmbind_train.data.augment import CHANGES, augment, draw_flips, jitter, rotations

LABEL = np.array([0, 1, 2, 0])
only = NO_AUGMENTATION.model_copy


def values_of(name: str) -> torch.Tensor:
    if MODALITIES[name].ragged:
        stored = RaggedPoints.of(clouds(name, LABEL, 5))
        return torch.from_numpy(stored.padded(np.arange(MODALITIES[name].shape[0]), 7))
    return torch.from_numpy(samples(name, LABEL, 5))


def change(name: str, options: Augmentation, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    flips = draw_flips(4, options, rng)
    return augment(values_of(name), MODALITIES[name], options, rng, flips)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.nan_to_num(nan=-999.0), b.nan_to_num(nan=-999.0))


@pytest.mark.parametrize("name", MODALITIES)
def test_off_changes_nothing_and_on_keeps_the_shape_and_the_seed(name: str) -> None:
    assert same(change(name, NO_AUGMENTATION), values_of(name))
    changed = change(name, Augmentation(), seed=1)
    assert changed.shape == values_of(name).shape
    assert not same(changed, values_of(name))
    assert same(changed, change(name, Augmentation(), seed=1))
    assert not same(changed, change(name, Augmentation(), seed=2))


@pytest.mark.parametrize("name", [n for n, one in MODALITIES.items() if one.kind != "image"])
def test_a_warp_keeps_both_ends_and_the_order_of_frames(name: str) -> None:
    values, warped = values_of(name), change(name, only(update={"warp": 0.6}))
    assert same(warped[:, [0, -1]], values[:, [0, -1]])
    assert not same(warped, values)
    if MODALITIES[name].kind in FRAME_KINDS:  # picked, not blended: every frame is a stored one
        for sample, changed in zip(values[1:], warped[1:], strict=True):
            filled = [one for one in changed if not one.isnan().all()]  # without points: all alike
            numbers = [next(t for t, f in enumerate(sample) if same(f, one)) for one in filled]
            assert len(set(numbers)) > 3
            assert numbers == sorted(numbers)


def test_warping_a_ramp_gives_a_rising_curve() -> None:
    ramp = torch.arange(24.0).view(1, 24, 1).expand(2, 24, 3)
    rng = torch.Generator().manual_seed(0)
    warped = augment(ramp, MODALITIES["acc"], only(update={"warp": 0.5}), rng)
    assert (warped.diff(dim=1) > 0).all()
    assert (warped - ramp).abs().max() > 0.5


@pytest.mark.parametrize("name", ["acc", "skeleton"])
def test_a_rotation_keeps_lengths(name: str) -> None:
    values, turned = values_of(name), change(name, only(update={"rotation": 0.5}))
    torch.testing.assert_close(turned.norm(dim=-1), values.norm(dim=-1))
    assert (turned - values).abs().max() > 0.1


@pytest.mark.parametrize("name", ["keypoints", "depth", "ir", "wifi_csi", "image", "semseg"])
def test_what_has_no_axes_in_space_is_not_rotated(name: str) -> None:
    assert same(change(name, only(update={"rotation": 0.5})), values_of(name))


def test_clouds_turn_about_the_vertical() -> None:
    values, turned = values_of("radar"), change("radar", only(update={"rotation": 0.5}))
    assert torch.equal(turned.isnan(), values.isnan())
    before, after = values.nan_to_num(), turned.nan_to_num()
    torch.testing.assert_close(after[..., 2:], before[..., 2:])  # z, intensity, doppler
    radius = before[..., :2].norm(dim=-1)
    torch.testing.assert_close(after[..., :2].norm(dim=-1), radius)
    angle = torch.atan2(after[..., 1], after[..., 0]) - torch.atan2(before[..., 1], before[..., 0])
    for sample in range(1, 4):  # one angle for all frames and points of a sample
        turns = angle[sample][radius[sample] > 0]
        torch.testing.assert_close(torch.cos(turns), torch.cos(turns[:1]).expand_as(turns))
        assert abs(float(torch.sin(turns[0]))) > 1e-3
    nameless = MODALITIES["radar"].sized((11, 4))
    rng = torch.Generator().manual_seed(0)
    kept = augment(values[..., :4], nameless, only(update={"rotation": 0.5}), rng)
    assert same(kept, values[..., :4])  # which axis is up is not said


def test_points_are_dropped_whole_and_about_as_often_as_asked() -> None:
    cloud = MODALITIES["radar"]
    values = torch.randn(4, 11, 200, 5)
    rng = torch.Generator().manual_seed(0)
    left = augment(values, cloud, only(update={"drop": 0.25}), rng).isfinite()
    assert torch.equal(left.any(dim=-1), left.all(dim=-1))
    assert float(left.float().mean()) == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("name", ["acc", "skeleton", "depth", "ir", "image", "still_depth"])
def test_a_gain_is_one_factor_per_sample_and_spares_the_background(name: str) -> None:
    values, changed = values_of(name), change(name, only(update={"gain": 0.3}))
    ratio = (changed / values).flatten(1)
    first = ratio[:, -1:]
    assert len(set(first.flatten().tolist())) == 4
    reading = values.flatten(1) != 0
    torch.testing.assert_close(ratio[reading], first.expand_as(ratio)[reading])
    assert (changed.flatten(1)[~reading] == 0).all()


def test_decibels_are_shifted_and_angles_and_classes_are_not() -> None:
    values, changed = values_of("wifi_csi"), change("wifi_csi", only(update={"gain": 0.3}))
    shift = (changed - values).flatten(1)
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift), rtol=0, atol=1e-4)
    acc = change("acc", only(update={"gain": 0.3})) / values_of("acc")
    torch.testing.assert_close(shift[:, 0], 20 * torch.log10(acc[:, 0, 0]), rtol=1e-4, atol=1e-4)
    assert same(change("semseg", only(update={"gain": 0.3})), values_of("semseg"))
    phase = MODALITIES["wifi_csi"].model_copy(update={"unit": "rad"})
    rng = torch.Generator().manual_seed(0)
    assert same(augment(values, phase, only(update={"gain": 0.3}), rng), values)


@pytest.mark.parametrize("name", ["depth", "ir", "image", "still_depth", "semseg"])
def test_a_shift_moves_the_whole_picture_and_fills_with_background(name: str) -> None:
    one = MODALITIES[name]
    row = [axis.name for axis in one.axes].index("height") + 1
    height, width = one.shape[row - 1], one.shape[row]
    place = torch.arange(1.0, height * width + 1).view(height, width)
    lead = (4, *one.shape[: row - 1])
    tail = one.shape[row + 1 :]
    picture = place.view(*[1] * len(lead), height, width, *[1] * len(tail))
    values = picture.expand(*lead, height, width, *tail).contiguous()
    rng = torch.Generator().manual_seed(3)
    shifted = augment(values, one, only(update={"shift": 0.2}), rng)
    moves = set()
    for sample in shifted:
        flat = sample.reshape(-1, height, width, math.prod(tail))
        assert (flat == flat[:1, :, :, :1]).all()  # all frames and colours alike
        seen = flat[0, :, :, 0]
        found = (seen > 0).nonzero()
        number = seen[seen > 0].long() - 1
        delta = found - torch.stack([number // width, number % width], dim=1)
        assert (delta == delta[0]).all()
        dy, dx = delta[0].tolist()
        assert len(found) == (height - abs(dy)) * (width - abs(dx))
        moves.add((dy, dx))
    assert len(moves) > 1


def test_stills_of_a_row_are_mirrored_together_and_videos_never() -> None:
    options = only(update={"flip": 0.5})
    flips = torch.tensor([True, False, True, False])
    rng = torch.Generator()
    for name, one in MODALITIES.items():
        values = values_of(name)
        got = augment(values, one, options, rng, flips)
        mirrored = values.clone()
        if one.kind == "image":
            mirrored[flips] = values[flips].flip(2)
        assert same(got, mirrored), name
    share = draw_flips(4000, only(update={"flip": 0.2}), torch.Generator().manual_seed(0))
    assert share is not None
    assert float(share.float().mean()) == pytest.approx(0.2, abs=0.03)
    assert draw_flips(4, NO_AUGMENTATION, rng) is None


def test_jitter_has_the_strength_asked_for_and_leaves_pictures_and_padding() -> None:
    options = only(update={"jitter": 0.5})
    for name, one in MODALITIES.items():
        values = values_of(name)
        noise = jitter(values, one, options, torch.Generator().manual_seed(0)) - values
        if one.kind in ("image", "depth_video"):
            assert (noise == 0).all()
            continue
        assert torch.equal(noise.isnan(), values.isnan()), name
        assert float(noise[noise.isfinite()].std()) == pytest.approx(0.5, abs=0.07), name
        if one.kind == "csi":
            assert (noise - noise[..., :1]).abs().max() < 1e-5


def test_every_kind_with_an_encoder_has_a_row() -> None:
    assert {one.kind for one in MODALITIES.values()} == set(CHANGES)


def test_rotations_keep_lengths_and_handedness() -> None:
    turns = rotations(50, 1.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(turns @ turns.mT, torch.eye(3).expand(50, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(50))
    angles = torch.arccos(((turns.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1))
    assert 0.6 < float(angles.mean()) < 1.0  # mean of |normal| is 0.8


def test_a_still_has_no_time_to_warp() -> None:
    still: Modality = MODALITIES["image"]
    rng = torch.Generator().manual_seed(0)
    assert same(
        augment(values_of("image"), still, only(update={"warp": 0.5}), rng), values_of("image")
    )
