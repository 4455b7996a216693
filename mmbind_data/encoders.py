"""Networks that turn one modality's window into a feature vector, and back.

No layer of the compact networks looks at other rows of the batch (GroupNorm, never BatchNorm):
a dummy row of zeros, or any other row, cannot change what a sample is encoded to.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmbind_data.errors import UsageError, problem, suggest

Variant = Literal["compact", "reference"]

WIDTH = 32
FEATURE_DIM = 128
SEGMENTS = 4  # parts of the window that are averaged apart: keeps the order of a gesture
MIN_FRAMES = 8


def _block(n_in: int, n_out: int, kernel: int, stride: int) -> nn.Sequential:
    """Temporal convolution, normalised within its own row."""
    return nn.Sequential(
        nn.Conv1d(n_in, n_out, kernel, stride=stride, padding=kernel // 2),
        nn.GroupNorm(4, n_out),
        nn.ReLU(),
    )


class TemporalEncoder(nn.Module):
    """Three temporal convolutions, segment means, one linear layer.

    Parameters
    ----------
    n_channels : int
        Values per frame.
    width : int
        Channels of the first convolution; the later ones have twice as many. Multiple of 4.
    feature_dim : int
        Length of the feature.
    """

    def __init__(self, n_channels: int, width: int = WIDTH, feature_dim: int = FEATURE_DIM) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            _block(n_channels, width, 7, 2),
            _block(width, 2 * width, 5, 2),
            _block(2 * width, 2 * width, 3, 1),
        )
        self.project = nn.Linear(2 * width * SEGMENTS, feature_dim)

    def forward(self, values: Tensor) -> Tensor:
        """Encode (n, T, ...) float32, any T >= 8, to (n, feature_dim)."""
        frames = values.flatten(2).transpose(1, 2)
        maps = self.convolutions(frames)
        pooled = maps @ _segment_means(maps.shape[-1], maps)
        feature: Tensor = self.project(pooled.flatten(1))
        return feature


def _segment_means(n_frames: int, like: Tensor) -> Tensor:
    """Matrix (n_frames, SEGMENTS) that averages each part of a window.

    The product is what adaptive pooling gives; its gradient takes a tenth of the time on a CPU.
    """
    identity = torch.eye(n_frames, dtype=like.dtype, device=like.device)
    return functional.adaptive_avg_pool1d(identity.unsqueeze(0), SEGMENTS).squeeze(0)


class VideoEncoder(nn.Module):
    """Three strided convolutions on every frame, then `TemporalEncoder` over the frames."""

    def __init__(self, width: int = WIDTH, feature_dim: int = FEATURE_DIM) -> None:
        super().__init__()
        first, cells = width // 4, 6
        self.frame = nn.Sequential(
            nn.Conv2d(1, first, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(first, 2 * first, 3, stride=2, padding=1),
            nn.GroupNorm(2, 2 * first),
            nn.ReLU(),
            nn.Conv2d(2 * first, 2 * first, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d((2, 3)),
            nn.Flatten(),
        )
        self.time = TemporalEncoder(2 * first * cells, width, feature_dim)

    def forward(self, values: Tensor) -> Tensor:
        """Encode (n, T, H, W) float32 to (n, feature_dim)."""
        n, frames = values.shape[:2]
        maps = self.frame(values.flatten(0, 1).unsqueeze(1))
        feature: Tensor = self.time(maps.view(n, frames, -1))
        return feature


class ReferenceInertial(nn.Module):
    """The paper's published network for inertial windows, for comparison.

    Three 2-D convolutions (64, 32, 16 maps; kernels 2x2, 1x1, 1x1; batch normalisation, dropout 0.5
    behind the first two) and a two-layer GRU(120) that runs over the 16 maps, not over time.

    Source: the published code's IMU encoder (shared/facts/reference-utd-pamap2-cross.md 2.1).
    """

    def __init__(self, n_frames: int, n_channels: int) -> None:
        super().__init__()
        maps = ((1, 64, (2, 2), 0.5), (64, 32, (1, 1), 0.5), (32, 16, (1, 1), 0.0))
        layers: list[nn.Module] = []
        for n_in, n_out, kernel, dropout in maps:
            layers += [nn.Conv2d(n_in, n_out, kernel), nn.BatchNorm2d(n_out), nn.ReLU()]
            layers += [nn.Dropout(dropout)] if dropout else []
        self.convolutions = nn.Sequential(*layers)
        self.recurrence = nn.GRU((n_frames - 1) * (n_channels - 1), 120, 2, batch_first=True)

    def forward(self, values: Tensor) -> Tensor:
        """Encode (n, T, C) float32 to (n, 1920)."""
        steps = self.convolutions(values.unsqueeze(1)).flatten(2)
        feature: Tensor = self.recurrence(steps)[0].flatten(1)
        return feature


class ReferenceSkeleton(nn.Module):
    """The paper's published network for skeletons, for comparison.

    Five 3-D convolutions over time, joint and coordinate, then the GRU of `ReferenceInertial`.

    Source: the published code's skeleton encoder (shared/facts/reference-utd-pamap2-cross.md 2.2).
    """

    def __init__(self, n_frames: int, n_joints: int) -> None:
        super().__init__()
        sizes = (1, 64, 64, 64, 32, 16)
        layers: list[nn.Module] = []
        for depth, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
            kernel = (5, 5, 2) if depth == 0 else (3, 3, 1)
            layers += [nn.Conv3d(n_in, n_out, kernel), nn.BatchNorm3d(n_out), nn.ReLU()]
            layers += [nn.Dropout(0.5)] if depth < 4 else []
        self.convolutions = nn.Sequential(*layers)
        self.recurrence = nn.GRU((n_frames - 12) * (n_joints - 12) * 2, 120, 2, batch_first=True)

    def forward(self, values: Tensor) -> Tensor:
        """Encode (n, T, J, 3) float32 to (n, 1920)."""
        steps = self.convolutions(values.unsqueeze(1)).flatten(2)
        feature: Tensor = self.recurrence(steps)[0].flatten(1)
        return feature


class TemporalDecoder(nn.Module):
    """From a latent vector back to a window: upsampling convolutions, linear output.

    The last layer has no activation: standardised signals are negative half of the time.

    Source: paper section 5.1.1, eq. 1 (the decoder f_dec_s).
    """

    def __init__(self, shape: tuple[int, ...], latent_dim: int, width: int = WIDTH) -> None:
        super().__init__()
        self.shape = shape
        self.n_coarse = max(2, math.ceil(shape[0] / 4))
        self.expand = nn.Linear(latent_dim, width * self.n_coarse)
        self.middle = nn.Sequential(nn.ReLU(), _block(width, width, 5, 1))
        self.fine = _block(width, width, 5, 1)
        self.output = nn.Conv1d(width, math.prod(shape[1:]), 5, padding=2)

    def forward(self, latent: Tensor) -> Tensor:
        """Decode (n, latent_dim) float32 to (n, *shape)."""
        coarse = self.expand(latent).view(len(latent), -1, self.n_coarse)
        half = _resize(self.middle(coarse), max(2, math.ceil(self.shape[0] / 2)))
        frames: Tensor = self.output(_resize(self.fine(half), self.shape[0]))
        return frames.transpose(1, 2).reshape(len(latent), *self.shape)


def _resize(values: Tensor, n_frames: int) -> Tensor:
    return functional.interpolate(values, size=n_frames, mode="linear", align_corners=True)


def _compact_temporal(shape: tuple[int, ...], width: int, feature_dim: int) -> nn.Module:
    return TemporalEncoder(math.prod(shape[1:]), width, feature_dim)


def _compact_video(shape: tuple[int, ...], width: int, feature_dim: int) -> nn.Module:
    del shape  # any number of frames and pixels
    return VideoEncoder(width, feature_dim)


# kind -> number of axes of one sample, and the networks that encode it
_AXES: Mapping[str, int] = {"inertial": 2, "skeleton": 3, "depth_video": 3}
_COMPACT: Mapping[str, Callable[[tuple[int, ...], int, int], nn.Module]] = {
    "inertial": _compact_temporal,
    "skeleton": _compact_temporal,
    "depth_video": _compact_video,
}
_REFERENCE: Mapping[str, Callable[[int, int], nn.Module]] = {
    "inertial": ReferenceInertial,
    "skeleton": ReferenceSkeleton,
}
_REFERENCE_LEAST: Mapping[str, tuple[int, ...]] = {"inertial": (8, 2), "skeleton": (13, 13, 3)}
REFERENCE_DIM = 1920


def _check(kind: str, shape: tuple[int, ...], known: Mapping[str, object], doing: str) -> None:
    """Refuse a kind that has no network, and shapes the networks cannot take."""
    if kind not in known:
        raise UsageError(
            problem(
                cannot=doing,
                what="no network for this kind of modality",
                where=f"kind {kind!r}",
                expected=" or ".join(known),
                got=repr(kind),
                next_step=suggest(kind, known),
            )
        )
    if len(shape) != _AXES[kind] or shape[0] < MIN_FRAMES or min(shape) < 1:
        raise UsageError(
            problem(
                cannot=doing,
                what="the shape of one sample does not fit",
                where=f"kind {kind!r}",
                expected=f"{_AXES[kind]} axes, time first, at least {MIN_FRAMES} frames",
                got=f"shape {shape}",
            )
        )


def encoder_dim(variant: str, feature_dim: int = FEATURE_DIM) -> int:
    """Length of the features that `build_encoder` gives for a variant."""
    return REFERENCE_DIM if variant == "reference" else feature_dim


def build_encoder(
    kind: str,
    shape: tuple[int, ...],
    *,
    variant: Variant = "compact",
    width: int = WIDTH,
    feature_dim: int = FEATURE_DIM,
) -> nn.Module:
    """Make the encoder of one modality, with fresh weights from torch's global generator.

    Parameters
    ----------
    kind : str
        Modality kind: inertial (T, C), skeleton (T, J, 3) or depth_video (T, H, W).
    shape : tuple of int
        Shape of one sample, time first, at least 8 frames.
    variant : {"compact", "reference"}
        ``reference``: the published architecture (inertial and skeleton only); its feature has
        1920 values whatever `feature_dim` is, and it looks at the whole batch (BatchNorm).
    width : int
        Channels of the first layer of the compact encoders, a multiple of 8.
    feature_dim : int
        Length of the compact encoders' feature.

    Returns
    -------
    nn.Module
        Maps (n, *shape) float32 to (n, feature_dim) float32.

    Raises
    ------
    UsageError
        For a kind, shape or variant that has no network.
    """
    doing = f"build a {variant} encoder"
    if variant == "compact":
        _check(kind, shape, _COMPACT, doing)
        if width < 8 or width % 8:
            raise UsageError(
                problem(doing, "width does not fit", "width", "a multiple of 8", str(width))
            )
        return _COMPACT[kind](shape, width, feature_dim)
    if variant != "reference":
        names = ("compact", "reference")
        raise UsageError(
            problem(
                doing, "unknown variant", "variant", " or ".join(names), repr(variant),
                suggest(variant, names),
            )
        )  # fmt: skip
    _check(kind, shape, _REFERENCE, doing)
    least = _REFERENCE_LEAST[kind]
    if any(size < bound for size, bound in zip(shape, least, strict=True)):
        raise UsageError(
            problem(
                doing, "the window is too small for the published kernels", f"kind {kind!r}",
                f"at least {least}", f"shape {shape}", "Use the compact encoder.",
            )
        )  # fmt: skip
    return _REFERENCE[kind](shape[0], shape[1])


def build_decoder(kind: str, shape: tuple[int, ...], latent_dim: int) -> nn.Module:
    """Make the decoder that the autoencoder of eq. 1 needs beside `build_encoder`.

    Parameters
    ----------
    kind : str
        inertial or skeleton.
    shape : tuple of int
        Shape of one sample, time first.
    latent_dim : int
        Length of the latent vector.

    Returns
    -------
    nn.Module
        Maps (n, latent_dim) float32 to (n, *shape) float32, any sign.

    Raises
    ------
    UsageError
        For a kind or shape that has no network.

    Notes
    -----
    Source: paper section 5.1.1, eq. 1.
    """
    _check(kind, shape, {name: _AXES[name] for name in ("inertial", "skeleton")}, "build a decoder")
    return TemporalDecoder(shape, latent_dim)


def count_parameters(module: nn.Module) -> int:
    """Count the trainable numbers of a network."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
