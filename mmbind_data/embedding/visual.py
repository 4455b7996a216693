"""Compact encoders of pictures: colour, depth and class maps, depth and infrared video.

Letters: n rows, T frames, H x W pixels, C colours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmbind_data.embedding.temporal import TemporalEncoder, segment_means

FRAME_CELLS = (2, 3)  # parts of a video frame that are averaged separately
IMAGE_CELLS = (3, 4)  # of a still
CLASS_DIM = 8  # length of the vector that represents a class of a semantic map


def _stages(n_in: int, first: int, n_stages: int) -> nn.Sequential:
    """Convolutions that each halve the picture; all but the last double the channels."""
    layers: list[nn.Module] = []
    for stage in range(n_stages):
        n_out = first * 2 ** min(stage, max(1, n_stages - 2))
        layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1)]
        # the first maps are the largest: normalising them costs as much as computing them
        layers += [nn.GroupNorm(2, n_out)] if stage else []
        layers += [nn.ReLU()]
        n_in = n_out
    return nn.Sequential(*layers)


def cell_means(maps: Tensor, cells: tuple[int, int]) -> Tensor:
    """Average (n, C, H, W) over a grid of cells: (n, C * cells)."""
    rows = segment_means(maps.shape[2], cells[0], maps)
    columns = segment_means(maps.shape[3], cells[1], maps)
    return (rows.T @ maps @ columns).flatten(1)


class VideoEncoder(nn.Module):
    """Three strided convolutions on every frame, then `TemporalEncoder` over the frames."""

    def __init__(self, width: int, feature_dim: int) -> None:
        super().__init__()
        first = width // 4
        self.frame = _stages(1, first, 3)
        self.time = TemporalEncoder(2 * first * math.prod(FRAME_CELLS), width, feature_dim)

    def forward(self, values: Tensor) -> Tensor:
        """Encode (n, T, H, W) float32 to (n, feature_dim)."""
        n, frames = values.shape[:2]
        maps = self.frame(values.flatten(0, 1).unsqueeze(1))
        feature: Tensor = self.time(cell_means(maps, FRAME_CELLS).view(n, frames, -1))
        return feature


class ClassVectors(nn.Module):
    """A learnt vector for every class of a semantic map, and one for numbers beyond them.

    Class 7 is not "more" than class 3: the numbers themselves must never enter a convolution.
    """

    def __init__(self, n_classes: int, dim: int = CLASS_DIM) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.vectors = nn.Embedding(n_classes + 1, dim)

    def forward(self, values: Tensor) -> Tensor:
        """Look up (n, H, W) float32 class numbers: (n, dim, H, W)."""
        number = values.round().long()
        known = (number >= 0) & (number < self.n_classes)
        number = torch.where(known, number, self.n_classes)
        vectors: Tensor = self.vectors(number)
        return vectors.permute(0, 3, 1, 2)


class Planes(nn.Module):
    """Bring a still into (n, C, H, W): colours to the front, one plane for depth."""

    def forward(self, values: Tensor) -> Tensor:
        """Turn (n, H, W, C) or (n, H, W) float32 into (n, C, H, W)."""
        return values.unsqueeze(1) if values.ndim == 3 else values.permute(0, 3, 1, 2)


def planes(shape: tuple[int, ...], classes: int | None) -> tuple[nn.Module, int]:
    """Give the first layer for a still, and the number of planes that leave it."""
    if classes is not None:
        return ClassVectors(classes), CLASS_DIM
    return Planes(), 1 if len(shape) == 2 else shape[2]


class ImageEncoder(nn.Module):
    """Four strided convolutions, means over a grid of 3 x 4 cells, one linear layer.

    For samples of shape (H, W) or (H, W, C), or semantic maps (H, W) of so many classes.
    """

    def __init__(
        self, shape: tuple[int, ...], classes: int | None, width: int, feature_dim: int
    ) -> None:
        super().__init__()
        self.planes, n_planes = planes(shape, classes)
        first = width // 2
        self.maps = _stages(n_planes, first, 4)
        self.project = nn.Linear(4 * first * math.prod(IMAGE_CELLS), feature_dim)

    def forward(self, values: Tensor) -> Tensor:
        """Encode (n, *shape) float32 to (n, feature_dim)."""
        maps = self.maps(self.planes(values))
        feature: Tensor = self.project(cell_means(maps, IMAGE_CELLS))
        return feature


class ImageDecoder(nn.Module):
    """From a latent vector back to a still: a coarse picture, made finer three times."""

    def __init__(self, shape: tuple[int, ...], latent_dim: int, width: int) -> None:
        super().__init__()
        self.shape = shape
        self.sizes = [
            tuple(max(2, math.ceil(side / 2**k)) for side in shape[:2]) for k in (3, 2, 1, 0)
        ]
        self.width = width
        self.expand = nn.Linear(latent_dim, width * math.prod(self.sizes[0]))
        self.finer = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(4, width), nn.ReLU())
            for _ in range(2)
        )
        n_planes = 1 if len(shape) == 2 else shape[2]
        self.output = nn.Conv2d(width, n_planes, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        """Decode (n, latent_dim) float32 to (n, *shape), any sign."""
        maps = functional.relu(self.expand(latent)).view(len(latent), self.width, *self.sizes[0])
        for size, layers in zip(self.sizes[1:], [*self.finer, self.output], strict=True):
            # the last convolution runs on the half-size picture: at full size it would cost most
            last = layers is self.output
            maps = _scaled(layers(maps), size) if last else layers(_scaled(maps, size))
        still = maps.permute(0, 2, 3, 1)
        return still.reshape(len(latent), *self.shape)


def _scaled(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=True)
