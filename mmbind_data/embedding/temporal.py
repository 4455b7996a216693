"""Compact encoders of streams: inertial, signal, skeleton, and channel state (CSI).

No layer combines rows of the batch (GroupNorm, never BatchNorm): a dummy row of zeros, or any other
row, cannot change the feature of a sample. The same holds in the other compact encoders.

Letters: n rows, T frames, C values per frame.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

SEGMENTS = 4  # parts of the window that are averaged separately: keeps the order of a gesture
CSI_CELLS = 4  # parts of the frequency band that are averaged separately


def temporal_block(n_in: int, n_out: int, kernel: int, stride: int) -> nn.Sequential:
    """Temporal convolution, normalised within its own row."""
    return nn.Sequential(
        nn.Conv1d(n_in, n_out, kernel, stride=stride, padding=kernel // 2),
        nn.GroupNorm(4, n_out),
        nn.ReLU(),
    )


class TemporalEncoder(nn.Module):
    """Three temporal convolutions, segment means, one linear layer.

    The first convolution has ``width`` channels, a multiple of 4, the later ones twice as many.
    """

    def __init__(self, n_channels: int, width: int, feature_dim: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            temporal_block(n_channels, width, 7, 2),
            temporal_block(width, 2 * width, 5, 2),
            temporal_block(2 * width, 2 * width, 3, 1),
        )
        self.project = nn.Linear(2 * width * SEGMENTS, feature_dim)

    def forward(self, values: Tensor) -> Tensor:
        """Encode (n, T, ...) float32, any T >= 8, to (n, feature_dim)."""
        frames = values.flatten(2).transpose(1, 2)
        maps = self.convolutions(frames)
        pooled = maps @ segment_means(maps.shape[-1], SEGMENTS, maps)
        feature: Tensor = self.project(pooled.flatten(1))
        return feature


def segment_means(n_places: int, n_segments: int, like: Tensor) -> Tensor:
    """Matrix (n_places, n_segments) that averages each part of an axis.

    The product is what adaptive pooling gives; its gradient takes a tenth of the time on a CPU.
    """
    identity = torch.eye(n_places, dtype=like.dtype, device=like.device)
    return functional.adaptive_avg_pool1d(identity.unsqueeze(0), n_segments).squeeze(0)


class CsiEncoder(nn.Module):
    """Two convolutions along the subcarriers of every frame, then `TemporalEncoder`.

    Antennas and packets of a frame are the channels of the first convolution: phase and speed of a
    body show in how packets 10 ms apart differ.
    """

    def __init__(self, n_antennas: int, n_packets: int, width: int, feature_dim: int) -> None:
        super().__init__()
        first = width // 2
        self.band = nn.Sequential(
            nn.Conv1d(n_antennas * n_packets, first, 7, stride=4, padding=3),
            nn.ReLU(),
            nn.Conv1d(first, width, 5, stride=2, padding=2),
            nn.GroupNorm(4, width),
            nn.ReLU(),
        )
        self.time = TemporalEncoder(width * CSI_CELLS, width, feature_dim)

    def forward(self, values: Tensor) -> Tensor:
        """Encode (n, T, antennas, subcarriers, packets) float32 to (n, feature_dim)."""
        n, n_frames = values.shape[:2]
        bands = values.flatten(0, 1).transpose(2, 3).flatten(1, 2)
        maps = self.band(bands)
        cells = maps @ segment_means(maps.shape[-1], CSI_CELLS, maps)
        feature: Tensor = self.time(cells.view(n, n_frames, -1))
        return feature


class TemporalDecoder(nn.Module):
    """From a latent vector back to a window: upsampling convolutions, linear output.

    The last layer has no activation: standardised signals are negative half of the time.

    Source: MMBind paper, section 5.1.1, eq. 1 (the decoder f_dec_s).
    """

    def __init__(self, shape: tuple[int, ...], latent_dim: int, width: int) -> None:
        super().__init__()
        self.shape = shape
        self.n_coarse = max(2, math.ceil(shape[0] / 4))
        self.expand = nn.Linear(latent_dim, width * self.n_coarse)
        self.middle = nn.Sequential(nn.ReLU(), temporal_block(width, width, 5, 1))
        self.fine = temporal_block(width, width, 5, 1)
        self.output = nn.Conv1d(width, math.prod(shape[1:]), 5, padding=2)

    def forward(self, latent: Tensor) -> Tensor:
        """Decode (n, latent_dim) float32 to (n, *shape)."""
        coarse = self.expand(latent).view(len(latent), -1, self.n_coarse)
        half = _resize(self.middle(coarse), max(2, math.ceil(self.shape[0] / 2)))
        frames: Tensor = self.output(_resize(self.fine(half), self.shape[0]))
        return frames.transpose(1, 2).reshape(len(latent), *self.shape)


def _resize(values: Tensor, n_frames: int) -> Tensor:
    return functional.interpolate(values, size=n_frames, mode="linear", align_corners=True)
