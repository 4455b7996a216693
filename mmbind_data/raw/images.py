"""Decode and shrink images of raw data."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping

import numpy as np

from mmbind_data.errors import RawLayoutError
from mmbind_data.raw.files import RawFile, bad_file, read_content
from mmbind_data.raw.zips import BOMB_BYTES

MAX_PIXELS = BOMB_BYTES // 3  # in RGB as many bytes as a strongly deflated member of a zip may have
# modes of 16-bit grey: Pillow names it I;16 or, in older releases, I
GREY_16 = {"I;16": "uint16", "I": "uint16"}


def read_image(
    file: RawFile, modes: Mapping[str, str], shape: tuple[int, int] | None = None
) -> np.ndarray:
    """Decode a PNG or JPEG image, shape (height, width) or (height, width, 3).

    ``modes`` are the Pillow modes that are allowed and the NumPy dtype each becomes, such as
    ``{"I;16": "uint16"}`` for 16-bit depth or ``{"RGB": "uint8"}``; ``shape``, if given, is the
    only (height, width) that is allowed.
    """
    from PIL import Image

    content = read_content(file)
    too_large = f"at most {MAX_PIXELS // 1_000_000} million pixels"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below
            image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise bad_file(file, "huge image", too_large, f"{image.height} x {image.width}")
            image.load()
            mode, values = image.mode, np.asarray(image)
    except RawLayoutError:
        raise
    except Image.DecompressionBombError as error:  # raised before the size is known
        raise bad_file(file, "huge image", too_large, "more than twice as many") from error
    except Exception as error:  # Pillow raises many kinds for broken bytes
        got = f"{len(content)} bytes that cannot be decoded ({error})"
        raise bad_file(file, "unreadable image", "a whole PNG or JPEG", got) from error
    if mode not in modes:
        raise bad_file(file, "another kind of image", f"mode {' or '.join(modes)}", f"mode {mode}")
    if shape is not None and values.shape != shape:
        expected = f"{shape[0]} x {shape[1]} pixels"
        raise bad_file(file, "another size", expected, " x ".join(map(str, values.shape)))
    return values.astype(modes[mode], copy=False)


def block_means(image: np.ndarray, block: int, *, skip_zeros: bool = False) -> np.ndarray:
    """Shrink a (height, width) image: the means of squares of ``block`` x ``block`` pixels.

    Rows and columns that fill no square are cut off, half of them on each side. With
    ``skip_zeros`` a pixel of 0 (or less) has no reading: the mean is over the others, and 0 where
    fewer than half of the square's pixels have one. Returns float64.
    """
    height, width = (side // block for side in image.shape)
    top, left = ((side % block) // 2 for side in image.shape)
    kept = image[top : top + height * block, left : left + width * block]
    blocks = kept.reshape(height, block, width, block)
    if not skip_zeros:
        return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float64))
    n_readings = (blocks > 0).sum(axis=(1, 3))
    total = np.maximum(blocks, 0).sum(axis=(1, 3), dtype=np.float64)
    return np.where(2 * n_readings < block**2, 0.0, total / np.maximum(n_readings, 1))
