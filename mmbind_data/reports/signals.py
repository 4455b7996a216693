"""Samples as drawings: what the binder compared. Pure."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np

from mmbind_data.reports.figures import (
    LETTER,
    curve,
    decimals,
    drawing,
    legend,
    line,
    scale,
    text,
    ticks,
)
from mmbind_data.reports.html import Html, count, decimal, el
from mmbind_data.signal.point_clouds import RaggedPoints
from mmbind_data.spec.descriptor import Modality

WIDTH, TOP, PANEL, GAP = 420.0, 20.0, 92.0, 8.0
LEFT, RIGHT, BOTTOM = 46.0, 6.0, 18.0
MAX_LINES = 6
JOINTS = 3
FRAMES = 5
FRAME_WIDTH = 160
MAX_POINTS = 800
# what one drawing shows: panel -> line -> values of shape (T,)
Panels = Mapping[str, Mapping[str, np.ndarray]]


def draw_signals(
    key: str,
    names: Sequence[str],
    modalities: Sequence[Modality],
    values: Sequence[np.ndarray | RaggedPoints],
) -> list[Html]:
    """Samples of one modality on the same scale, in the same colours.

    Parameters
    ----------
    key : str
        Unique in the document.
    names : sequence of str
        What the drawings are of.
    modalities : sequence of Modality
        Of each; numbers of frames may differ.
    values : sequence of ndarray, each of its modality's shape; or of RaggedPoints of one sample

    Returns
    -------
    list of Html
        One drawing each.
    """
    if not values:
        return []
    keys = [f"{key}-{i}" for i in range(len(names))]
    clouds = [one for one in values if isinstance(one, RaggedPoints)]
    if clouds:
        return [_scatter(*one) for one in zip(keys, names, modalities, clouds, strict=True)]
    arrays = [np.asarray(one, dtype=np.float64) for one in values]
    if any(axis.name == "height" for axis in modalities[0].axes):
        return [_frames(*one) for one in zip(names, modalities, arrays, strict=True)]
    arrays = [one if _timed(kind) else one[np.newaxis]
              for kind, one in zip(modalities, arrays, strict=True)]  # fmt: skip
    if modalities[0].axes[-1].name == "coordinate":
        joints = _liveliest(arrays)
        panels = [_skeleton(*one, joints) for one in zip(modalities, arrays, strict=True)]
    else:
        panels = [{"": _channels(*one)} for one in zip(modalities, arrays, strict=True)]
    every = np.concatenate(
        [one for sample in panels for p in sample.values() for one in p.values()]
    )
    finite = every[np.isfinite(every)] if np.isfinite(every).any() else np.zeros(1)
    span = (float(finite.min()), float(finite.max()))
    return [_lines(*one, span) for one in zip(keys, names, modalities, panels, strict=True)]


def _timed(modality: Modality) -> bool:
    return bool(modality.axes) and modality.axes[0].name == "time"


def _channels(modality: Modality, values: np.ndarray) -> dict[str, np.ndarray]:
    """One line for each channel; axes behind the first after time are averaged over."""
    flat = values.reshape(len(values), values.shape[1] if values.ndim > 1 else 1, -1).mean(axis=2)
    axes = modality.axes[1:] if _timed(modality) else modality.axes
    names = (axes[0].names if axes else None) or [f"{i + 1}" for i in range(flat.shape[1])]
    return {name: flat[:, i] for i, name in enumerate(names[:MAX_LINES])}


def _liveliest(arrays: Sequence[np.ndarray]) -> list[int]:
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


def _lines(
    key: str, name: str, modality: Modality, panels: Panels, span: tuple[float, float]
) -> Html:
    """Panels one below the other over a common time axis."""
    height = TOP + len(panels) * (PANEL + GAP) + BOTTOM
    first = next(iter(panels.values()))
    n_frames = len(next(iter(first.values())))
    last = (n_frames - 1) / modality.rate_hz if modality.rate_hz else 1.0
    x = scale(0, last, LEFT, WIDTH - RIGHT)
    x_ticks = {at: f"{at:g} s" for at in ticks(0, last, 5)}
    if not modality.rate_hz:
        x_ticks = {0.0: "start", 1.0: "end"}
    classes = {one: f"s{i + 1}" for i, one in enumerate(first)}
    room = int((WIDTH - LEFT) / len(first) / LETTER) - 5
    parts = legend(LEFT, 8, {one[:room]: class_ for one, class_ in classes.items()})
    parts.append(text(0, 12, modality.unit.replace("^2", "²")))
    marks = ticks(*span, 4)
    for i, (panel, lines) in enumerate(panels.items()):
        top = TOP + i * (PANEL + GAP)
        y = scale(*span, top + PANEL - 3, top + 3)
        for at in marks:
            parts.append(line(LEFT, y(at), WIDTH - RIGHT, y(at), "grid"))
            parts.append(text(LEFT - 5, y(at) + 4, decimal(at, decimals(marks)), class_="end"))
        parts.append(text(4, top + PANEL / 2 + 4, panel, class_="name"))
        places = np.array([x(last * t / max(n_frames - 1, 1)) for t in range(n_frames)])
        for line_name, values in lines.items():
            heights = np.array([y(value) for value in values.tolist()])
            parts.append(curve(places, heights, f"signal {classes[line_name]}"))
    foot = height - BOTTOM + 10
    parts += [
        text(x(at), foot, words, class_="end" if at == last else "mid" if at else None)
        for at, words in x_ticks.items()
    ]
    desc = f"{n_frames} frames of {', '.join(first)} in {modality.unit}"
    return drawing(key, WIDTH, height, name, f"{desc}, {decimal(span[0])} to {decimal(span[1])}.",
                   *parts)  # fmt: skip


def _frames(name: str, modality: Modality, values: np.ndarray) -> Html:
    """A strip of some frames, or the one image, in grey or in its colours."""
    from PIL import Image

    frames = values if _timed(modality) else values[np.newaxis]
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
    data = base64.b64encode(memory.getvalue()).decode()
    return el("img", src=f"data:image/png;base64,{data}", alt=f"{name}: {len(chosen)} frames")


def _scatter(key: str, name: str, modality: Modality, cloud: RaggedPoints) -> Html:
    """Points of all frames seen along the last of the first two axes' normal: x against y."""
    points = cloud.values[:: max(1, len(cloud.values) // MAX_POINTS), :2].astype(np.float64)
    side = 200.0
    parts = [el("rect", x=0.5, y=0.5, width=WIDTH - 1, height=side - 1, class_="frame")]
    if len(points):
        low, high = points.min(axis=0), points.max(axis=0)
        x, y = scale(low[0], high[0], 10, WIDTH - 10), scale(low[1], high[1], side - 10, 10)
        parts += [
            el("circle", cx=f"{x(one):.1f}", cy=f"{y(other):.1f}", r=1.5, class_="fill s1")
            for one, other in points.tolist()
        ]
    names = modality.axes[-1].names or ("1", "2")
    desc = f"{count(len(cloud.values))} points of all frames, {names[0]} against {names[1]}."
    return drawing(key, WIDTH, side, name, desc, *parts)
