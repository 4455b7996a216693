"""Choice of the networks that encode a sample of one modality, and that decode it again, by kind.

The networks themselves are in `mmbind_data.embedding.temporal`, `visual` and `points` (compact,
each row on its own) and in `published` (those of the paper's code).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from mmbind_data.embedding import published
from mmbind_data.embedding.points import PointEncoder
from mmbind_data.embedding.temporal import CsiEncoder, TemporalDecoder, TemporalEncoder
from mmbind_data.embedding.visual import ImageDecoder, ImageEncoder, VideoEncoder
from mmbind_data.errors import UsageError, suggest
from mmbind_data.spec.descriptor import Modality

Variant = Literal["compact", "reference"]

WIDTH = 32
FEATURE_DIM = 128
MIN_FRAMES = 8
MIN_PIXELS = 8  # of a side


def _temporal(modality: Modality, width: int, feature_dim: int) -> nn.Module:
    return TemporalEncoder(math.prod(modality.shape[1:]), width, feature_dim)


# kind -> builder from modality, width and feature length
COMPACT: Mapping[str, Callable[[Modality, int, int], nn.Module]] = {
    "inertial": _temporal,
    "signal": _temporal,
    "skeleton": _temporal,
    "image": lambda m, width, dim: ImageEncoder(m.shape, m.classes, width, dim),
    "depth_video": lambda _, width, dim: VideoEncoder(width, dim),
    "point_cloud": lambda m, width, dim: PointEncoder(m.shape[-1], width, dim),
    "csi": lambda m, width, dim: CsiEncoder(m.shape[1], m.shape[3], width, dim),
}


@dataclass(frozen=True)
class PublishedNetwork:
    """One of the networks of the paper's code."""

    build: Callable[[Modality], nn.Module]
    dim: Callable[[tuple[int, ...]], int]  # length of the feature, by shape
    hidden: int  # width of the published projection head that follows it
    least: tuple[int, ...]  # smallest shape that its kernels accept
    exact: bool = False  # all axes after time must have exactly that size


REFERENCE: Mapping[str, PublishedNetwork] = {
    "inertial": PublishedNetwork(
        lambda m: published.reference_inertial(*m.shape), lambda _: 1920, 1280, (8, 2)
    ),
    "skeleton": PublishedNetwork(
        lambda m: published.reference_skeleton(*m.shape[:2]), lambda _: 1920, 1280, (13, 13, 3)
    ),
    "keypoints": PublishedNetwork(
        lambda m: published.ReferenceKeypoints(*m.shape[:2]), lambda s: 16 * s[0], 240, (8, 1, 2)
    ),
    "depth_video": PublishedNetwork(
        lambda m: published.ReferenceDepth(m.shape), lambda s: 64 * s[0], 800, (8, 46, 46)
    ),
    "point_cloud": PublishedNetwork(
        lambda m: published.ReferencePoints(m.shape[0], m.shape[2]),
        lambda s: 64 * s[0], 800, (8, 1, 1),
    ),
    "csi": PublishedNetwork(
        lambda _: published.ReferenceCsi(), lambda s: 16 * s[0], 240, (8, 3, 114, 10), exact=True
    ),
    "image": PublishedNetwork(
        lambda m: published.ReferenceImage(m.shape, m.classes),
        lambda s: 32 * math.prod((side // 8 - 2) // 5 + 1 for side in s[:2]), 500, (16, 16),
    ),
}  # fmt: skip

DECODERS: Mapping[str, type[TemporalDecoder | ImageDecoder]] = {
    "inertial": TemporalDecoder,
    "signal": TemporalDecoder,
    "skeleton": TemporalDecoder,
    "depth_video": TemporalDecoder,
    "csi": TemporalDecoder,
    "image": ImageDecoder,
}

_AXES: Mapping[str, tuple[int, ...]] = {
    "inertial": (2,), "signal": (2,), "skeleton": (3,), "depth_video": (3,), "csi": (4,),
    "point_cloud": (3,), "image": (2, 3),
}  # fmt: skip


def _refusal(
    doing: str, problem: str, at: str, expected: str, got: object, fix: str = ""
) -> UsageError:
    return UsageError(cannot=doing, problem=problem, at=at, expected=expected, got=got, fix=fix)


def _check(modality: Modality, known: Mapping[str, object], doing: str) -> None:
    """Refuse a kind that has no network, and shapes that no network accepts."""
    kind, shape = modality.kind, modality.shape
    at = f"kind {kind!r}"
    if kind not in known:
        problem, expected = "no network for this kind of modality", " or ".join(known)
        raise _refusal(doing, problem, at, expected, repr(kind), suggest(kind, known))
    axes, still = _AXES[kind], kind == "image"
    least, unit = (MIN_PIXELS, "pixels a side") if still else (MIN_FRAMES, "frames")
    if len(shape) not in axes or min(shape[: 2 if still else 1]) < least:
        order = "" if still else ", time first"
        if kind == "point_cloud":
            order += ", then points (padded), then channels"
        expected = f"{' or '.join(map(str, axes))} axes, at least {least} {unit}{order}"
        problem = "the shape of one sample does not fit"
        raise _refusal(doing, problem, at, expected, f"shape {shape}")


def reference_of(modality: Modality) -> PublishedNetwork:
    """Find the published network of a modality.

    Raises
    ------
    UsageError
        None was published for its kind, or its shape is too small for the kernels.
    """
    doing = "build a reference encoder"
    _check(modality, REFERENCE, doing)
    flat = modality.kind == "skeleton" and modality.shape[-1] == 2
    found, shape = REFERENCE["keypoints" if flat else modality.kind], modality.shape
    fits = all(size >= bound for size, bound in zip(shape, found.least, strict=False))
    if not fits or (found.exact and shape[1:] != found.least[1:]):
        raise _refusal(
            doing,
            "the sample does not fit the published kernels",
            f"kind {modality.kind!r}",
            f"{'after time exactly' if found.exact else 'at least'} {found.least}",
            f"shape {shape}",
            "Use the compact encoder.",
        )
    return found


def encoder_dim(
    modality: Modality, *, variant: Variant = "compact", feature_dim: int = FEATURE_DIM
) -> int:
    """Length of the features that `build_encoder` gives."""
    return reference_of(modality).dim(modality.shape) if variant == "reference" else feature_dim


def build_encoder(
    modality: Modality,
    *,
    variant: Variant = "compact",
    width: int = WIDTH,
    feature_dim: int = FEATURE_DIM,
) -> nn.Module:
    """Build the encoder of one modality, with new weights from torch's global generator.

    Parameters
    ----------
    modality : Modality
        inertial, signal (T, C); skeleton (T, J, 2 or 3); depth_video (T, H, W); csi (T, antennas,
        subcarriers, packets); point_cloud (T, P, C), NaN where a frame has fewer points; image
        (H, W), (H, W, C), or (H, W) class numbers. T >= 8.
    variant : {"compact", "reference"}
        ``reference``: the published architecture, which fixes the length of the feature and
        normalises over the batch (BatchNorm).
    width : int
        Channels of the first layer of the compact encoders, a multiple of 8.
    feature_dim : int
        Length of the compact encoders' feature.

    Returns
    -------
    nn.Module
        Maps (n, *modality.shape) float32 to (n, `encoder_dim`) float32.

    Raises
    ------
    UsageError
        For a kind, shape or variant that has no network.
    """
    doing = f"build a {variant} encoder"
    if variant == "compact":
        _check(modality, COMPACT, doing)
        if width < 8 or width % 8:
            raise _refusal(doing, "width does not fit", "width", "a multiple of 8", width)
        return COMPACT[modality.kind](modality, width, feature_dim)
    if variant != "reference":
        hint = suggest(variant, ("compact", "reference"))
        expected = "compact or reference"
        raise _refusal(doing, "unknown variant", "variant", expected, repr(variant), hint)
    return reference_of(modality).build(modality)


def build_decoder(modality: Modality, latent_dim: int) -> nn.Module:
    """Build the decoder that the autoencoder of eq. 1 trains together with its encoder.

    There is one for any kind except point clouds, whose points have no order, and class maps, whose
    numbers have no distance. It maps (n, latent_dim) float32 to (n, *modality.shape) float32.

    Raises
    ------
    UsageError
        For a kind or shape that has no network.

    Notes
    -----
    Source: MMBind paper, section 5.1.1, eq. 1.
    """
    doing = "build a decoder"
    _check(modality, DECODERS, doing)
    if modality.classes is not None:
        problem = "class numbers cannot be reconstructed as numbers"
        expected = "a modality whose values are quantities"
        raise _refusal(doing, problem, "a semantic map", expected, f"{modality.classes} classes")
    return DECODERS[modality.kind](modality.shape, latent_dim, WIDTH)
