"""Whether the numbers of two modalities have the same meaning, element by element."""

from __future__ import annotations

from mmbind_data.spec.descriptor import Modality

SAME_SPAN = 1.1  # ratio of durations that still counts as equal


def why_unlike(first: Modality, second: Modality) -> str:
    """Why two modalities differ in kind, unit or the axes after time; empty if they do not.

    Missing names of an axis are taken to be those of the other modality.
    """
    axes_a, axes_b = (
        [axis for axis in modality.axes if axis.name != "time"] for modality in (first, second)
    )
    for what, a, b in (
        ("kind", first.kind, second.kind),
        ("unit", first.unit, second.unit),
        ("number of classes", first.classes, second.classes),
        ("time axes", len(first.axes) - len(axes_a), len(second.axes) - len(axes_b)),
        ("shape after time", [axis.size for axis in axes_a], [axis.size for axis in axes_b]),
    ):
        if a != b:
            return f"{what} {a} and {b}"
    for axis, other in zip(axes_a, axes_b, strict=True):
        named = None not in (axis.names, other.names) and axis.names != other.names
        if axis.name != other.name or named:
            return f"axis {axis.name} {axis.names or ''} and {other.name} {other.names or ''}"
    return ""


def why_incomparable(first: Modality, second: Modality) -> str:
    """Why samples of two modalities cannot be compared with each other; empty if they can.

    The numbers of frames may differ: the longer sample is stretched to the shorter. If both rates
    are known, the samples must span the same time, or a slow movement would equal a fast one.
    """
    if first.ragged or second.ragged:
        return "point clouds have no fixed shape to compare"
    spans = [kind.shape[0] / kind.rate_hz for kind in (first, second) if kind.rate_hz]
    reason = why_unlike(first, second)
    if not reason and len(spans) == 2 and max(spans) > SAME_SPAN * min(spans):
        return f"samples of {spans[0]:g} s and {spans[1]:g} s"
    return reason
