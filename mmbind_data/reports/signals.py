"""Samples as drawings: what the binder compared."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from markupsafe import Markup

from mmbind_data.reports.plots import Layouts, point_plot, signal_plot
from mmbind_data.signal.point_clouds import RaggedPoints
from mmbind_data.spec.descriptor import Modality

MAX_LINES = 6
JOINTS = 3
FRAMES = 5
FRAME_WIDTH = 160
MAX_POINTS = 800
# What one drawing shows: panel -> line -> values of shape (T,).
Panels = Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class SignalDrawing:
    """A sample of one modality, drawn: SVG or an image, its unit, and the names of its lines."""

    drawing: Markup
    unit: str = ""
    lines: tuple[str, ...] = ()


def draw_signals(
    key: str, samples: Sequence[tuple[str, Modality, Any]], layouts: Layouts
) -> list[SignalDrawing]:
    """Draw samples of one modality on the same scale, in the same colours.

    Parameters
    ----------
    key : str
        Unique in the page.
    samples : sequence of (title, modality, values)
        Values are an ndarray of the modality's shape, or RaggedPoints of one sample; numbers of
        frames may differ.
    layouts : dict
        Axes made before; see `signal_plot`.
    """
    first = samples[0][1]
    if first.ragged:
        return [_points(f"{key}-{i}", *one) for i, one in enumerate(samples)]
    if any(axis.name == "height" for axis in first.axes):
        return [_frames(*one) for one in samples]
    arrays = [
        np.asarray(values, dtype=np.float64)[... if _is_timed(modality) else np.newaxis]
        for _, modality, values in samples
    ]
    modalities = [modality for _, modality, _ in samples]
    panels: list[Panels]
    if first.axes[-1].name == "coordinate":
        panels = list(map(partial(_skeleton, joints=_most_moving(arrays)), modalities, arrays))
    else:
        panels = [{"": one} for one in map(_channels, modalities, arrays)]
    limits, drawn = _limits(panels), []
    for i, (shown, (title, modality, _)) in enumerate(zip(panels, samples, strict=True)):
        lines = next(iter(shown.values()))
        n_frames = len(next(iter(lines.values())))
        duration = (n_frames - 1) / modality.rate_hz if modality.rate_hz else None
        drawing = signal_plot(f"{key}-{i}", title, shown, limits, duration, layouts)
        drawn.append(SignalDrawing(drawing, modality.unit.replace("^2", "²"), tuple(lines)))
    return drawn


def _limits(drawings: Sequence[Panels]) -> tuple[float, float]:
    """The range of all finite values of all drawings, never empty."""
    lines = [one for panels in drawings for panel in panels.values() for one in panel.values()]
    every = np.concatenate(lines)
    finite = every[np.isfinite(every)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    room = 0.03 * (high - low) or 0.5
    return low - room, high + room


def _is_timed(modality: Modality) -> bool:
    return bool(modality.axes) and modality.axes[0].name == "time"


def _channels(modality: Modality, values: np.ndarray) -> dict[str, np.ndarray]:
    """One line for each channel; all axes after time and channel are averaged over."""
    flat = values.reshape(len(values), values.shape[1] if values.ndim > 1 else 1, -1).mean(axis=2)
    axes = modality.axes[1:] if _is_timed(modality) else modality.axes
    names = (axes[0].names if axes else None) or [f"{i + 1}" for i in range(flat.shape[1])]
    return {name: flat[:, i] for i, name in enumerate(names[:MAX_LINES])}


def _most_moving(arrays: Sequence[np.ndarray]) -> list[int]:
    """The joints that move most over all samples, in their order."""
    motion = np.sum([np.nan_to_num(one.std(axis=0)).sum(axis=-1) for one in arrays], axis=0)
    return sorted(np.argsort(-motion, kind="stable")[:JOINTS].tolist())


def _skeleton(modality: Modality, values: np.ndarray, joints: Sequence[int]) -> Panels:
    """A panel for each coordinate, relative to the root; a line for each of some joints."""
    joint, coordinate = modality.axes[-2:]
    names = joint.names or tuple(f"joint {i + 1}" for i in range(joint.size))
    root = names.index(modality.root) if modality.root in names else None
    origin = values.mean(axis=1, keepdims=True) if root is None else values[:, root : root + 1]
    centred = values - origin
    return {
        name: {names[one].replace("_", " "): centred[:, one, i] for one in joints}
        for i, name in enumerate(coordinate.names or [f"{i + 1}" for i in range(coordinate.size)])
    }


def _frames(title: str, modality: Modality, values: np.ndarray) -> SignalDrawing:
    """A strip of some frames, or the one image, in grey or in its colours."""
    from PIL import Image

    frames = values if _is_timed(modality) else values[np.newaxis]
    chosen = frames[np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).astype(int)]
    if modality.axes[-1].name == "channel":
        chosen = chosen if chosen.shape[-1] == 3 else chosen[..., 0]
    finite = chosen[np.isfinite(chosen)]
    low, high = np.quantile(finite, [0.01, 0.99]) if len(finite) else (0.0, 1.0)
    grey = np.nan_to_num((chosen - low) / max(high - low, 1e-12)).clip(0, 1) * 255
    pictures = [Image.fromarray(one.astype(np.uint8)) for one in grey]
    for picture in pictures:
        picture.thumbnail((FRAME_WIDTH, FRAME_WIDTH))
    strip = Image.new(pictures[0].mode, (sum(one.width for one in pictures), pictures[0].height))
    for i, picture in enumerate(pictures):
        strip.paste(picture, (i * picture.width, 0))
    memory = io.BytesIO()
    strip.save(memory, "PNG")
    image = Markup('<img src="data:image/png;base64,{}" alt="{}">')
    data = base64.b64encode(memory.getvalue()).decode()
    return SignalDrawing(image.format(data, f"{title}: {len(chosen)} frames"))


def _points(key: str, title: str, modality: Modality, cloud: RaggedPoints) -> SignalDrawing:
    """The first two coordinates of the points of all frames."""
    points = cloud.values[:: max(1, len(cloud.values) // MAX_POINTS), :2].astype(np.float64)
    names = tuple(modality.axes[-1].names or ("1", "2"))[:2]
    return SignalDrawing(point_plot(key, title, points, (names[0], names[1])))
