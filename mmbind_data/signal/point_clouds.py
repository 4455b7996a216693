"""Frames with a varying number of points each: radar and lidar point clouds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PointFrames:
    """The point clouds of consecutive frames.

    Frame t holds ``values[offsets[t]:offsets[t + 1]]``; a frame may be empty.
    """

    values: np.ndarray  # shape (P, F), float32: all points, frame after frame
    offsets: np.ndarray  # shape (T + 1,), int64

    @classmethod
    def join(cls, frames: Sequence[np.ndarray]) -> PointFrames:
        """Concatenate frames of shape (any, F); at least one.

        >>> PointFrames.join([np.zeros((2, 3)), np.zeros((0, 3))]).offsets.tolist()
        [0, 2, 2]
        """
        offsets = np.zeros(len(frames) + 1, dtype=np.int64)
        np.cumsum([len(frame) for frame in frames], out=offsets[1:])
        return cls(np.concatenate(frames).astype(np.float32), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def frame(self, index: int) -> np.ndarray:
        """Points of one frame, shape (any, F)."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def take(self, frames: Sequence[int] | np.ndarray) -> PointFrames:
        """Choose frames by number, in any order, repeatedly too."""
        return PointFrames.join([self.frame(int(index)) for index in frames])


@dataclass(frozen=True)
class RaggedPoints:
    """Samples of point clouds: each the same number of frames, each frame any number of points.

    ``frame_offsets`` tell where the frames of a sample begin and end, counted from the sample's
    first point.
    """

    values: np.ndarray  # shape (P, F), float32: all points, sample after sample, frame after frame
    frame_offsets: np.ndarray  # shape (n, T + 1), int64

    @classmethod
    def of(cls, samples: Sequence[PointFrames]) -> RaggedPoints:
        """Collect samples of equally many frames; at least one."""
        return cls(
            np.concatenate([one.values for one in samples]).astype(np.float32),
            np.stack([one.offsets for one in samples]).astype(np.int64),
        )

    @classmethod
    def join(cls, parts: Sequence[RaggedPoints]) -> RaggedPoints:
        """Concatenate groups of samples; at least one."""
        return cls(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.frame_offsets for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.frame_offsets)

    @property
    def offsets(self) -> np.ndarray:
        """First point of each sample, and one past the last of all: int64, shape (n + 1,)."""
        edges = np.zeros(len(self) + 1, dtype=np.int64)
        np.cumsum(self.frame_offsets[:, -1], out=edges[1:])
        return edges

    def sample(self, index: int) -> PointFrames:
        """One sample's frames."""
        start = int(self.frame_offsets[:index, -1].sum())
        edges = self.frame_offsets[index]
        return PointFrames(self.values[start : start + int(edges[-1])], edges)

    def padded(self, frames: np.ndarray, n_points: int) -> np.ndarray:
        """Choose frames, and pad or thin each to the same number of points.

        The t numbers in ``frames`` are those of every sample. Of a frame with more than
        ``n_points`` points this many are taken, evenly spaced in their order. The result is
        float32, of shape (n, t, n_points, F), NaN after the last point of a frame.
        """
        edges = self.offsets[:-1, np.newaxis] + self.frame_offsets
        first, count = edges[:, frames], edges[:, frames + 1] - edges[:, frames]
        place = np.arange(n_points)
        steps = max(n_points - 1, 1)
        # the nearest to evenly spaced places, of two equally near ones the earlier
        spread = -((steps - 2 * place * (count[..., np.newaxis] - 1)) // (2 * steps))
        chosen = np.where(count[..., np.newaxis] > n_points, spread, place)
        real = place < count[..., np.newaxis]
        padded = np.full((*real.shape, self.values.shape[1]), np.nan, dtype=np.float32)
        padded[real] = self.values[(first[..., np.newaxis] + chosen)[real]]
        return padded
