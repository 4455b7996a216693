"""Compact encoder of point clouds: each frame is a set, so neither order nor padding counts.

Letters: n rows, T frames, P points per frame, padded with NaN, C values per point.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmbind_data.embedding.temporal import TemporalEncoder


def real_points(values: Tensor) -> tuple[Tensor, Tensor]:
    """Separate points from padding: the values with 0 for NaN, and a mask of shape (..., P)."""
    real = torch.isfinite(values).all(dim=-1)
    return torch.where(real.unsqueeze(-1), values, 0.0), real


class PointEncoder(nn.Module):
    """One small network for every point, maximum and mean per frame, then `TemporalEncoder`.

    A frame without points gives zeros; how many there are is a value of the frame itself.

    Source: the shape of PointNet (Qi et al., CVPR 2017), applied per frame.
    """

    def __init__(self, n_channels: int, width: int, feature_dim: int) -> None:
        super().__init__()
        self.point = nn.Sequential(
            nn.Linear(n_channels, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.time = TemporalEncoder(2 * width + 1, width, feature_dim)

    def forward(self, values: Tensor) -> Tensor:
        """Encode (n, T, P, C) float32 to (n, feature_dim), any P >= 1."""
        points, real = real_points(values)
        # after ReLU nothing is below 0: zeros at the padding change neither maximum nor sum
        maps = self.point(points) * real.unsqueeze(-1)
        count = real.sum(dim=2, keepdim=True).to(maps.dtype)
        mean = maps.sum(dim=2) / count.clamp(min=1)
        frames = torch.cat([maps.amax(dim=2), mean, torch.log1p(count)], dim=2)
        feature: Tensor = self.time(frames)
        return feature
