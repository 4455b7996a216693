"""Frames of MM-Fi: decode the files of one modality and put them on the sequence's time grid.

Source: the dataset's toolbox, https://github.com/ybhbingo/MMFi_dataset, mmfi_lib/mmfi.py, and the
descriptor ``mmfi.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from mmbind_data.raw.arrays import Variable, read_floats, read_mat, read_npy
from mmbind_data.raw.files import RawFile, Unit, bad_file
from mmbind_data.raw.images import GREY_16, block_means, read_image
from mmbind_data.signal.point_clouds import PointFrames

N_FRAMES = 297  # of every sequence
REACH = 5  # frames: a missing frame repeats the nearest one at most this far away
MILLIMETRE = 1e-3
DEPTH_SIDES = (480, 640)  # pixels of a depth image as distributed
CSI_SHAPE = (3, 114, 10)  # antenna, subcarrier, packet
CLOUDS = {"lidar": 3, "radar": 5}  # numbers per point
MENDED = {"wifi_csi": "replaced by the mean of their packet", "wifi_csi_phase": "replaced by 0"}
ROLES = {
    "skeleton": "ground_truth",
    "rgb_keypoints": "rgb",
    "infra1_keypoints": "infra1",
    "infra2_keypoints": "infra2",
    "depth": "depth",
    "lidar": "lidar",
    "radar": "mmwave",
    "wifi_csi": "wifi-csi",
    "wifi_csi_phase": "wifi-csi",
}
# roles that one array of all frames may play, and the shape of a frame
ARRAYS: Mapping[str, tuple[int, int]] = {
    "ground_truth": (17, 3),
    **dict.fromkeys(("rgb", "infra1", "infra2"), (17, 2)),
}


@dataclass(frozen=True)
class Stream:
    """One modality of a sequence, with as many frames as the sequence has: T.

    ``lost`` are the frames that are missing and too far from any other to be filled, ``source`` is
    the index in ``files`` of the file behind each frame, -1 for none. ``remarks`` tell what was
    repaired, and how often in each frame.
    """

    values: np.ndarray | PointFrames  # shape (T, ...), float32, or of T frames
    lost: np.ndarray  # shape (T,), bool
    source: np.ndarray  # shape (T,), int
    files: tuple[RawFile, ...]
    remarks: Mapping[str, np.ndarray]  # shape (T,), int


def read_stream(unit: Unit, name: str, n_frames: int) -> Stream | None:
    """Read frames 1 to ``n_frames`` of one modality; None if the unit has no file of it.

    The number of a frame is that in its file's name, whichever other files there are.

    Raises
    ------
    RawLayoutError
        A file is not what it must be, or no file holds a frame.
    """
    role = ROLES[name]
    if role in unit.files:
        file = unit.files[role]
        values = read_npy(file, Variable(role, (N_FRAMES, *ARRAYS[role])))
        whole = np.ascontiguousarray(_single(file, values)[:n_frames])
        first = np.zeros(n_frames, dtype=np.intp)
        return Stream(whole, first > 0, first, (file,), {})
    names = [f"{role}/{number:03d}" for number in range(1, n_frames + 1)]
    files = {index: unit.files[at] for index, at in enumerate(names) if at in unit.files}
    if not files:
        return None
    decode = _decoder(name, unit.fields)
    frames: dict[int, np.ndarray] = {}
    mended = np.zeros(n_frames, dtype=np.intp)
    for index, file in files.items():
        with np.errstate(over="ignore"):  # the mean of numbers that _single refuses
            frame, mended[index] = decode(file)
        if frame is not None:
            frames[index] = _single(file, frame)
    if not frames:
        one = next(iter(files.values()))
        raise bad_file(one, f"no usable frame of {name}", "one at least", f"{len(files)} empty")
    if name == "radar" and unit.fields["radar"] == "filtered":  # absent: no point passed
        frames = {
            index: frames.get(index, np.empty((0, 5), np.float32)) for index in range(n_frames)
        }
    return _on_grid(name, frames, files, mended)


def _single(file: RawFile, values: np.ndarray) -> np.ndarray:
    """Numbers as float32, in C order."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32, "C")
    if not np.isfinite(single).all():
        raise bad_file(file, "huge number", "numbers below 3.4e38", f"{np.abs(values).max():g}")
    return single


def _on_grid(
    name: str, frames: Mapping[int, np.ndarray], files: Mapping[int, RawFile], mended: np.ndarray
) -> Stream:
    """Put the frames that there are on the grid; where there is none, repeat the nearest."""
    present = np.array(sorted(frames))
    distance = np.abs(np.arange(len(mended))[:, np.newaxis] - present)
    nearest = present[distance.argmin(axis=1)].tolist()  # the first minimum: the earlier frame
    lost = distance.min(axis=1) > REACH
    repeated = ~lost & (distance.min(axis=1) > 0)
    remarks = {f"{name} frames missing, the nearest one repeated": repeated.astype(np.intp)}
    values: np.ndarray | PointFrames
    if name in CLOUDS:
        values = PointFrames.join([frames[index] for index in nearest])
        no_point = (np.diff(values.offsets) == 0).astype(np.intp)
        remarks[f"{name} frames without a point"] = no_point
    else:
        values = np.stack([frames[index] for index in nearest])
    if name in MENDED:
        remarks[f"{name} values not finite, {MENDED[name]}"] = mended
    position = {index: number for number, index in enumerate(files)}
    source = np.array([position.get(index, -1) for index in nearest])
    return Stream(values, lost, source, tuple(files.values()), remarks)


def depth_sides(size: str) -> tuple[int, int] | None:
    """Height and width of a reduced depth image, from text such as 48x64.

    None if whole squares of pixels do not make that size.
    """
    height, width = (int(side) for side in size.split("x"))
    square = DEPTH_SIDES[0] % height == 0 and height * DEPTH_SIDES[1] == width * DEPTH_SIDES[0]
    return (height, width) if square else None


def mend_packets(amplitude: np.ndarray) -> tuple[np.ndarray | None, int]:
    """Replace what is not finite by the mean of the finite values of the same packet.

    Zero power is minus infinity in dB. The mean runs over the antennas and subcarriers of the
    packet, as in the dataset's toolbox. Amplitudes are in dB, shape (antenna 3, subcarrier 114,
    packet 10); returned are the mended ones as float64, None if a packet has no finite value at
    all, and the number of values replaced.
    """
    finite = np.isfinite(amplitude)
    count = finite.sum(axis=(0, 1))
    if not count.all():
        return None, 0
    values = np.where(finite, amplitude, 0.0).astype(np.float64)
    mean = values.sum(axis=(0, 1)) / count
    return np.where(finite, values, mean), int(np.count_nonzero(~finite))


Decode = Callable[[RawFile], tuple[np.ndarray | None, int]]


def _decoder(name: str, fields: Mapping[str, str]) -> Decode:
    """Choose what decodes a frame: its values, None if it has none, and how many were mended."""
    if name in CLOUDS:
        return lambda file: (read_floats(file, CLOUDS[name]), 0)
    if name == "depth":
        height, _, width = fields["depth_size"].partition("x")
        decode: Decode = partial(_depth, height=int(height), width=int(width))
    else:
        decode = {"wifi_csi": _amplitude, "wifi_csi_phase": _phase}.get(name, _keypoints)
    # an empty file is a frame that was not captured: the toolbox leaves out what is 0 bytes long
    return lambda file: decode(file) if file.size else (None, 0)


def _keypoints(file: RawFile) -> tuple[np.ndarray | None, int]:
    return read_npy(file, Variable("keypoints", (17, 2))), 0


def _depth(file: RawFile, height: int, width: int) -> tuple[np.ndarray | None, int]:
    image = read_image(file, GREY_16)
    block = image.shape[0] // height
    if not block or image.shape != (block * height, block * width):
        expected = f"{DEPTH_SIDES[0]} x {DEPTH_SIDES[1]}, or another multiple of {height} x {width}"
        raise bad_file(file, "size of the image", expected, " x ".join(map(str, image.shape)))
    return MILLIMETRE * block_means(image, block, skip_zeros=True), 0


def _amplitude(file: RawFile) -> tuple[np.ndarray | None, int]:
    return mend_packets(read_mat(file, Variable("CSIamp", CSI_SHAPE), finite=False))


def _phase(file: RawFile) -> tuple[np.ndarray | None, int]:
    phase = read_mat(file, Variable("CSIphase", CSI_SHAPE), finite=False)
    finite = np.isfinite(phase)
    return np.where(finite, phase, 0.0), int(np.count_nonzero(~finite))
