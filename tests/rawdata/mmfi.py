"""Writes a small MM-Fi in its authentic raw layout, filled with coded ramps.

Of most modalities every 11th frame is there: any other frame repeats the nearest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from mmbind_data.signal.point_clouds import PointFrames
from mmbind_data.spec.descriptor import Recording
from rawdata.truth import Truth, add_macos_junk, reshape

ENVIRONMENTS = {"S01": "E01", "S11": "E02", "S40": "E04"}
ACTIONS = {
    "A01": ("stretch and relax", "rehabilitation"),
    "A02": ("horizontal chest expansion", "daily"),
    "A15": ("lunge toward left side", "rehabilitation"),
    "A27": ("bow", "daily"),
}
SEQUENCES = tuple(
    f"{environment}/{subject}/{action}"
    for subject, environment in ENVIRONMENTS.items()
    for action in ACTIONS
)
FOLDERS = ("E01", "E02", "E04", "filtered_mmwave")
ELEVENTH = tuple(range(6, 298, 11))
DEAD_PACKET = 39  # CSI frame with a packet that has no finite value
SUFFIXES = {"depth": "png", "lidar": "bin", "mmwave": "bin", "wifi-csi": "mat"}
MODALITIES = {
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
CLOUDS = {"lidar": 3, "radar": 5}
# sequence and folder -> numbers of the frame files; a single array where there is none
FRAMES: Mapping[tuple[str, str], tuple[int, ...]] = {
    **{(sequence, "rgb"): ELEVENTH for sequence in SEQUENCES[:4]},
    **{(sequence, "mmwave"): ELEVENTH for sequence in SEQUENCES[:5]},
    (SEQUENCES[0], "infra1"): ELEVENTH,
    (SEQUENCES[0], "depth"): (6, 17, 28),
    (SEQUENCES[0], "lidar"): ELEVENTH,
    (SEQUENCES[0], "wifi-csi"): tuple(sorted((*ELEVENTH, 34, 44))),
    (SEQUENCES[1], "rgb"): tuple(sorted((*ELEVENTH, 12, 22))),
    (SEQUENCES[9], "rgb"): tuple(range(1, 41)),
}
ARRAYS = {(SEQUENCES[0], "infra2"), (SEQUENCES[10], "rgb")}
ARRAYS |= {(sequence, "rgb") for sequence in SEQUENCES[4:8]}
EMPTY = {(SEQUENCES[4], "mmwave"): (17, 28), (SEQUENCES[1], "rgb"): (17,)}  # 0 bytes
FILTERED = {SEQUENCES[0]: (3, 17, 100), SEQUENCES[6]: (1, 250)}
TRUTH_ONLY_FILTERED = SEQUENCES[5]


def write(
    root: Path,
    *,
    rng: np.random.Generator,
    form: str = "folders",
    radar: str = "plain",
    sequences: Sequence[str] = SEQUENCES,
) -> Truth:
    """Write the raw files; each value tells its sequence, frame, joint and channel.

    ``radar`` and ``sequences`` choose what of it the truth is about.
    """
    del rng  # the ramps tell all there is to tell apart
    for sequence in SEQUENCES:
        folder = root / sequence
        folder.mkdir(parents=True)
        if sequence != TRUTH_ONLY_FILTERED:
            np.save(folder / "ground_truth.npy", ground_truth(sequence))
        for camera in ("rgb", "infra1", "infra2"):
            if (sequence, camera) in ARRAYS:
                frames = [keypoints(sequence, camera, number) for number in range(1, 298)]
                np.save(folder / f"{camera}.npy", np.array(frames))
    for (sequence, name), numbers in FRAMES.items():
        (root / sequence / name).mkdir()
        for number in numbers:
            path = root / sequence / name / f"frame{number:03d}.{SUFFIXES.get(name, 'npy')}"
            write_frame(path, sequence, name, number)
    _write_filtered(root / "filtered_mmwave")
    (root / "MMFi_action_segments.csv").write_bytes(segment_table())
    (root / "README.md").write_text("# MM-Fi\n")
    add_macos_junk(root / "E01")
    reshape(root, FOLDERS, form)
    recordings = {
        "default": [_recording(one, radar, 297, (1, 297), None) for one in sequences],
        "paper": [_recording(one, radar, 30, (1, 30), None) for one in sequences],
        "segments": [
            _recording(one, radar, 297, span, number)
            for one in sequences
            for number, span in enumerate(segments(one), 1)
        ],
    }
    return Truth("mmfi", root, {preset: tuple(ones) for preset, ones in recordings.items()})


def write_people(root: Path, people: Mapping[str, Sequence[str]]) -> None:
    """Write other people and actions than `SEQUENCES`: skeleton, depth, radar and CSI of each.

    Just as many frames as the first 30 need, with the contents of one of the sequences.
    """
    for subject, actions in people.items():
        for action in actions:
            environment = f"E{(int(subject[1:]) + 9) // 10:02d}"
            folder = root / environment / subject / action
            folder.mkdir(parents=True)
            content = SEQUENCES[1:][(int(subject[1:]) + 5 * int(action[1:])) % 11]
            np.save(folder / "ground_truth.npy", ground_truth(content))
            for name in ("depth", "mmwave", "wifi-csi"):
                (folder / name).mkdir()
                for number in (6, 17, 27):
                    path = folder / name / f"frame{number:03d}.{SUFFIXES[name]}"
                    write_frame(path, content, name, number)


def ramp(shape: tuple[int, ...], steps: tuple[float, ...]) -> np.ndarray:
    """Sum of one linear ramp per axis, (shape) float64; exact in float32 for binary steps."""
    grids = np.indices(shape)
    return np.asarray(sum(step * grid for step, grid in zip(steps, grids, strict=True)))


def ground_truth(sequence: str) -> np.ndarray:
    """(297, 17, 3) float32 m, different for each sequence, frame, joint and axis."""
    offset = SEQUENCES.index(sequence)
    return (ramp((297, 17, 3), (2**-10, 2**-4, 1.0)) + 4 * offset).astype(np.float32)


def keypoints(sequence: str, camera: str, number: int) -> np.ndarray:
    """(17, 2) float64 px."""
    offset = 8 * SEQUENCES.index(sequence) + 100 * ("rgb", "infra1", "infra2").index(camera)
    return ramp((17, 2), (0.5, 64.0)) + offset + number / 512


def cloud(sequence: str, number: int, n_columns: int) -> np.ndarray:
    """(n, 5) or (n, 3) float64; one to four points."""
    n_points = number % 4 + 1
    return ramp((n_points, n_columns), (0.125, 1.0)) - SEQUENCES.index(sequence) + number / 1024


def depth(number: int) -> np.ndarray:
    """(480, 640) uint16 mm: slanted squares of 10 x 10, some with too few readings."""
    squares = 1000 + ramp((48, 64), (20, 3)) + number
    image = np.kron(squares, np.ones((10, 10)))
    image[3::10, 5::10] += 100  # 1 of 100 pixels
    image[0:5, 0:10] = 0  # half of the square has a reading: just enough
    image[0:5, 10:20] = 0
    image[5, 10] = 0  # one too few
    return image.astype(np.uint16)


def reduced(number: int) -> np.ndarray:
    """(48, 64) float32 m: what `depth` must become."""
    stored = (1000 + ramp((48, 64), (20, 3)) + number + 1) / 1000
    # the raised pixel, in row 3, is among those of the first square that have no reading
    stored[0, 0] -= 0.001
    stored[0, 1] = 0
    return stored.astype(np.float32)


def csi(sequence: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Amplitude in dB and phase in rad as written, (3, 114, 10) float64 each."""
    offset = SEQUENCES.index(sequence) + number / 512
    amplitude = 30 + ramp((3, 114, 10), (4.0, 2**-5, 2**-9)) + offset
    phase = ramp((3, 114, 10), (1.0, 2**-6, 2**-10)) - 3 + number / 1024
    if number == 28:
        amplitude[1, 7, 3] = -np.inf
        amplitude[2, 8, 3] = np.nan
        amplitude[0, 0, 9] = np.inf
        phase[1, 7, 3] = np.nan
    if number == DEAD_PACKET:
        amplitude[:, :, 4] = -np.inf
    return amplitude, phase


def mended(sequence: str, number: int) -> np.ndarray:
    """Amplitude as read: what is not finite becomes the mean of its packet."""
    written = csi(sequence, number)[0]
    amplitude = written.copy()
    for antenna, subcarrier, packet in np.argwhere(~np.isfinite(written)).tolist():
        finite = [one for one in written[:, :, packet].ravel() if abs(one) < np.inf]
        amplitude[antenna, subcarrier, packet] = sum(finite) / len(finite)
    return amplitude


def write_frame(path: Path, sequence: str, name: str, number: int) -> None:
    if number in EMPTY.get((sequence, name), ()):
        path.touch()
    elif name == "depth":
        Image.fromarray(depth(number)).save(path, compress_level=1)
    elif name == "wifi-csi":
        amplitude, phase = csi(sequence, number)
        scipy.io.savemat(path, {"CSIamp": amplitude, "CSIphase": phase}, do_compression=True)
        # scipy writes the time of day into the free text of the header
        path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + path.read_bytes()[116:])
    elif name in ("lidar", "mmwave"):
        cloud(sequence, number, 3 if name == "lidar" else 5).astype("<f8").tofile(path)
    else:
        np.save(path, keypoints(sequence, name, number))


def _write_filtered(root: Path) -> None:
    for sequence, numbers in FILTERED.items():
        (root / sequence).mkdir(parents=True)
        for number in numbers:
            path = root / sequence / f"frame{number:03d}.bin"
            (100 + cloud(sequence, number, 5)).astype("<f8").tofile(path)
    (root / TRUTH_ONLY_FILTERED).mkdir(parents=True)
    np.save(root / TRUTH_ONLY_FILTERED / "ground_truth.npy", ground_truth(TRUTH_ONLY_FILTERED))
    # beside the frames, the ground truth is there twice; here it tells itself apart
    np.save(root / SEQUENCES[0] / "ground_truth.npy", -ground_truth(SEQUENCES[0]))


def segments(sequence: str) -> tuple[tuple[int, int], ...]:
    """First and last frame, from 1, of the repetitions."""
    offset = SEQUENCES.index(sequence)
    if sequence == SEQUENCES[5]:
        return ((185, 216), (148, 217), (149, 282))
    return ((1, 12 + offset), (13 + offset, 40), (41, 41), (60, 80))


def segment_table(**changed: str) -> bytes:
    """The table, with the row of a sequence such as E01_S01_A01 changed."""
    rows = [["Environment", "Subject", "Action", "Segments"]]
    for sequence in (*SEQUENCES, "E01/S02/A01"):
        spans = [(1, 9)] if sequence not in SEQUENCES else segments(sequence)
        rows.append([*sequence.split("/"), *(f"{first}-{last}" for first, last in spans)])
    lines = [",".join(row + [""] * (64 - len(row))) for row in rows]
    lines = [changed.get("_".join(line.split(",")[:3]), line) for line in lines]
    return b"\xef\xbb\xbf" + "".join(f"{line}\n" for line in lines).encode()


def nearest(present: Sequence[int], number: int) -> int | None:
    """The frame that stands for a frame, by trying ever farther ones."""
    for distance in range(6):
        for candidate in (number - distance, number + distance):
            if candidate in present:
                return candidate
    return None


def _recording(
    sequence: str, radar: str, n_frames: int, span: tuple[int, int], number: int | None
) -> Recording:
    environment, subject, action = sequence.split("/")
    label, exercise = ACTIONS[action]
    streams: dict[str, np.ndarray | PointFrames] = {}
    files: list[str] = []
    for name in MODALITIES:
        found = _stream(sequence, name, radar, n_frames, span)
        if found is not None:
            streams[name] = found[0]
            files += [path for path in found[1] if path not in files]
    extra = {"exercise": exercise}
    if number is not None:
        extra |= {"first_frame": str(span[0]), "last_frame": str(span[1])}
        files.append("MMFi_action_segments.csv")
    return Recording(
        key=sequence if number is None else f"{sequence}/{number}",
        subject=subject,
        label=label,
        streams=streams,
        raw_files=tuple(files),
        trial=None if number is None else str(number),
        environment=environment,
        extra=extra,
    )


def _stream(
    sequence: str, name: str, radar: str, n_frames: int, span: tuple[int, int]
) -> tuple[np.ndarray | PointFrames, list[str]] | None:
    """Values of one modality from the first to the last frame, and the files they come from."""
    folder, numbers = MODALITIES[name], range(span[0], span[1] + 1)
    if name == "skeleton":
        tree = "filtered_mmwave/" if sequence == TRUTH_ONLY_FILTERED else ""
        path = f"{tree}{sequence}/ground_truth.npy"
        return ground_truth(sequence)[span[0] - 1 : span[1]], [path]
    if (sequence, folder) in ARRAYS:
        arrays = np.array([keypoints(sequence, folder, one) for one in numbers], np.float32)
        return arrays, [f"{sequence}/{folder}.npy"]
    if name == "radar" and radar == "filtered":
        return _filtered_stream(sequence, numbers, n_frames)
    written = [one for one in FRAMES.get((sequence, folder), ()) if one <= n_frames]
    usable = written
    if name not in CLOUDS:
        usable = [one for one in written if one not in EMPTY.get((sequence, folder), ())]
    if name == "wifi_csi":
        usable = [one for one in usable if one != DEAD_PACKET]
    chosen = [nearest(usable, one) for one in numbers]
    frames = [one for one in chosen if one is not None]
    if len(frames) < len(chosen):
        return None
    suffix = SUFFIXES.get(folder, "npy")
    paths = [f"{sequence}/{folder}/frame{one:03d}.{suffix}" for one in sorted(set(frames))]
    if name in CLOUDS:
        empty = EMPTY.get((sequence, folder), ())
        clouds = [
            cloud(sequence, one, CLOUDS[name])[: 0 if one in empty else None] for one in frames
        ]
        return PointFrames.join(clouds), paths
    values = [_frame(sequence, name, one) for one in frames]
    return np.array(values, np.float32), paths


def _filtered_stream(
    sequence: str, numbers: Sequence[int], n_frames: int
) -> tuple[PointFrames, list[str]] | None:
    present = [one for one in FILTERED.get(sequence, ()) if one <= n_frames]
    if not present:
        return None
    empty = np.empty((0, 5))
    frames = [100 + cloud(sequence, one, 5) if one in present else empty for one in numbers]
    tree = f"filtered_mmwave/{sequence}"
    return PointFrames.join(frames), [
        f"{tree}/frame{one:03d}.bin" for one in present if one in numbers
    ]


def _frame(sequence: str, name: str, number: int) -> np.ndarray:
    if name == "depth":
        return reduced(number)
    if name == "wifi_csi":
        return mended(sequence, number)
    if name == "wifi_csi_phase":
        phase = csi(sequence, number)[1]
        return np.where(np.isnan(phase), 0.0, phase)
    return keypoints(sequence, MODALITIES[name], number)
