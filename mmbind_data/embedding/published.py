"""The networks of the paper's published code, for comparison, with its sizes and layers.

They normalise over the whole batch where the published ones do (batch normalisation): encode only
rows that are present, see `mmbind_train.networks.model.AdaptiveModel.features`.

Source: the code published with MMBind (SenSys 2025), https://github.com/nesl/multimodal-bind; the
tests compare the numbers of parameters.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from mmbind_data.embedding.points import real_points
from mmbind_data.embedding.transformer import CrossDecoder, TransformerEncoder, sinusoid
from mmbind_data.embedding.visual import ClassVectors, Planes

GRU_WIDTH = 120
TOKEN = 64  # length of a frame's token in the MM-Fi networks
SKELETON_TOKEN = 16
QUERIES = 17  # learnt queries that attend to the points of a radar frame
CSI_GRU_WIDTH = 16
DEPTH_KERNELS = ((32, 7, True), (64, 5, True), (64, 5, False), (32, 3, False), (32, 2, False))


class ConvolvedGru(nn.Module):
    """Convolutions to 16 maps and a two-layer GRU(120) that runs over the maps, not over time."""

    def __init__(self, convolutions: list[nn.Module], size: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(*convolutions)
        self.recurrence = nn.GRU(size, GRU_WIDTH, 2, batch_first=True)

    def forward(self, values: Tensor) -> Tensor:
        """Encode (n, T, ...) float32 to (n, 1920)."""
        steps = self.convolutions(values.unsqueeze(1)).flatten(2)
        feature: Tensor = self.recurrence(steps)[0].flatten(1)
        return feature


def reference_inertial(n_frames: int, n_channels: int) -> ConvolvedGru:
    """Three 2-D convolutions with 64, 32, 16 maps and kernels 2x2, 1x1, 1x1; see `ConvolvedGru`.

    Batch normalisation, and dropout 0.5 after the first two.
    """
    layers: list[nn.Module] = []
    for n_in, n_out, kernel in ((1, 64, (2, 2)), (64, 32, (1, 1)), (32, 16, (1, 1))):
        layers += [nn.Conv2d(n_in, n_out, kernel), nn.BatchNorm2d(n_out), nn.ReLU()]
        layers += [nn.Dropout(0.5)] if n_out > 16 else []
    return ConvolvedGru(layers, (n_frames - 1) * (n_channels - 1))


def reference_skeleton(n_frames: int, n_joints: int) -> ConvolvedGru:
    """Five 3-D convolutions over time, joint and coordinate; see `ConvolvedGru`."""
    layers: list[nn.Module] = []
    for depth, (n_in, n_out) in enumerate(itertools.pairwise((1, 64, 64, 64, 32, 16))):
        kernel = (5, 5, 2) if depth == 0 else (3, 3, 1)
        layers += [nn.Conv3d(n_in, n_out, kernel), nn.BatchNorm3d(n_out), nn.ReLU()]
        layers += [nn.Dropout(0.5)] if depth < 4 else []
    return ConvolvedGru(layers, (n_frames - 12) * (n_joints - 12) * 2)


class ReferenceKeypoints(nn.Module):
    """MM-Fi's network for 2-D keypoints: 16 values per frame, twelve transformer layers."""

    def __init__(self, n_frames: int, n_joints: int) -> None:
        super().__init__()
        self.token = nn.Sequential(
            nn.Linear(2 * n_joints, 20), nn.ReLU(), nn.Linear(20, SKELETON_TOKEN)
        )
        self.places = sinusoid(n_frames, SKELETON_TOKEN)
        self.time = TransformerEncoder(
            SKELETON_TOKEN, n_layers=12, n_heads=4, head_dim=5, hidden=48
        )

    def forward(self, values: Tensor) -> Tensor:
        """Encode (n, T, J, 2) float32 to (n, 16 T)."""
        tokens = self.places(self.token(values.flatten(2)))
        feature: Tensor = self.time(tokens).flatten(1)
        return feature


class ReferenceDepth(nn.Module):
    """MM-Fi's network for depth video: five convolutions per frame, two transformer layers."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        n_frames, height, width = shape
        layers: list[nn.Module] = []
        n_in = 1
        for n_out, kernel, pooled in DEPTH_KERNELS:
            layers += [nn.Conv2d(n_in, n_out, kernel)]
            layers += [nn.MaxPool2d(2), nn.BatchNorm2d(n_out)] if pooled else []
            layers += [nn.ReLU(), nn.Dropout(0.1)]
            height, width = (side - kernel + 1 for side in (height, width))
            height, width = (height // 2, width // 2) if pooled else (height, width)
            n_in = n_out
        layers[-2:] = [layers[-1]]  # the last convolution is not followed by ReLU
        self.frame = nn.Sequential(*layers, nn.Flatten(), nn.Linear(n_in * height * width, TOKEN))
        self.places = sinusoid(n_frames, TOKEN)
        self.time = TransformerEncoder(TOKEN, n_layers=2, n_heads=2, head_dim=32, hidden=192)

    def forward(self, values: Tensor) -> Tensor:
        """Encode (n, T, H, W) float32 to (n, 64 T)."""
        frames = self.frame(values.flatten(0, 1).unsqueeze(1))
        tokens = self.places(frames.view(values.shape[0], -1, TOKEN))
        feature: Tensor = self.time(tokens).flatten(1)
        return feature


class ReferencePoints(nn.Module):
    """MM-Fi's network for radar: learnt queries attend to the points, four transformer layers.

    Unlike the published network it ignores the padding: there, the feature of a sample depended on
    the largest cloud of its batch.
    """

    def __init__(self, n_frames: int, n_channels: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(QUERIES, n_channels))
        self.look = CrossDecoder(n_channels, n_layers=6, hidden=3 * n_channels)
        self.token = nn.Linear(QUERIES * n_channels, TOKEN)
        self.places = sinusoid(n_frames, TOKEN)
        self.time = TransformerEncoder(TOKEN, n_layers=4, n_heads=4, head_dim=16, hidden=192)

    def forward(self, values: Tensor) -> Tensor:
        """Encode (n, T, P, C) float32 to (n, 64 T)."""
        points, real = real_points(values.flatten(0, 1))
        seen = self.look(self.queries.expand(points.shape[0], -1, -1), points, real)
        tokens = self.places(self.token(seen.flatten(1)).view(values.shape[0], -1, TOKEN))
        feature: Tensor = self.time(tokens).flatten(1)
        return feature


class ReferenceCsi(nn.Module):
    """MM-Fi's network for channel state: four convolutions per frame, a two-layer GRU(16)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out, kernel, pool in ((3, 4, 10, (2, 2)), (4, 4, 5, (2, 1)), (4, 4, 5, (2, 1))):
            layers += [nn.Conv2d(n_in, n_out, (kernel, 2)), nn.BatchNorm2d(n_out), nn.ReLU()]
            layers += [nn.MaxPool2d(pool)]
        self.frame = nn.Sequential(*layers, nn.Conv2d(4, 16, (5, 2)), nn.Flatten())
        self.recurrence = nn.GRU(96, CSI_GRU_WIDTH, 2, batch_first=True, dropout=0.1)

    def forward(self, values: Tensor) -> Tensor:
        """Encode (n, T, 3, 114, 10) float32 to (n, 16 T)."""
        frames = self.frame(values.flatten(0, 1)).view(*values.shape[:2], -1)
        feature: Tensor = self.recurrence(frames)[0].flatten(1)
        return feature


class ReferenceImage(nn.Module):
    """SUN RGB-D's strided convolutions and one residual block that is applied ten times.

    A class map enters as a picture of three learnt colours; the published input was a coloured map.
    """

    def __init__(self, shape: tuple[int, ...], classes: int | None) -> None:
        super().__init__()
        n_planes = 3 if classes is not None else (*shape, 1)[2]
        self.planes = ClassVectors(classes, 3) if classes is not None else Planes()
        sizes = ((n_planes, 16, 4, 2), (16, 100, 4, 2), (100, 256, 4, 2), (256, 128, 4, 5))
        layers: list[nn.Module] = []
        for n_in, n_out, kernel, stride in sizes:
            layers += [nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=1), nn.ReLU()]
        self.maps = nn.Sequential(*layers, nn.Conv2d(128, 32, 3, padding=1))
        inner = nn.Conv2d(32, 128, 3, padding=1, bias=False)
        outer = nn.Conv2d(128, 32, 1, bias=False)
        self.residual = nn.Sequential(nn.ReLU(), inner, nn.ReLU(), outer)

    def forward(self, values: Tensor) -> Tensor:
        """Encode (n, *shape) float32 to (n, 32 h w), at 240 x 320 pixels (n, 1536)."""
        maps = self.maps(self.planes(values))
        for _ in range(10):
            maps = maps + self.residual(maps)
        feature: Tensor = torch.relu(maps).flatten(1)
        return feature
