"""Whether the numbers of two modalities mean the same, place by place. Pure."""

from __future__ import annotations

from mmbind_data.spec.descriptor import Modality

SAME_SPAN = 1.1  # ratio of durations that still counts as equal


def why_unlike(first: Modality, second: Modality) -> str:
    """Why two modalities differ in kind, unit or the axes behind time; empty if they do not.

    Names that one side does not tell are taken to be those of the other.
    """
    axes, others = (
        [axis for axis in modality.axes if axis.name != "time"] for modality in (first, second)
    )
    for what, one, other in (
        ("kind", first.kind, second.kind),
        ("unit", first.unit, second.unit),
        ("number of classes", first.classes, second.classes),
        ("time axes", len(first.axes) - len(axes), len(second.axes) - len(others)),
        ("shape behind time", [axis.size for axis in axes], [axis.size for axis in others]),
    ):
        if one != other:
            return f"{what} {one} and {other}"
    for mine, theirs in zip(axes, others, strict=True):
        named = None not in (mine.names, theirs.names) and mine.names != theirs.names
        if mine.name != theirs.name or named:
            return f"axis {mine.name} {mine.names or ''} and {theirs.name} {theirs.names or ''}"
    return ""


def why_incomparable(first: Modality, second: Modality) -> str:
    """Why samples of two modalities cannot be compared with one another; empty if they can.

    Different numbers of frames can: the longer is stretched to the shorter. Where both rates are
    known, the samples must span the same time, or a slow movement would be taken for a fast one.
    """
    if first.ragged or second.ragged:
        return "point clouds have no fixed shape to compare"
    spans = [one.shape[0] / one.rate_hz for one in (first, second) if one.rate_hz]
    reason = why_unlike(first, second)
    if not reason and len(spans) == 2 and max(spans) > SAME_SPAN * min(spans):
        return f"samples of {spans[0]:g} s and {spans[1]:g} s"
    return reason
