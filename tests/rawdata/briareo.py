"""Writes a small Briareo, public and from before the release, filled with coded ramps."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmbind_data.spec.descriptor import Recording
from rawdata.pictures import png
from rawdata.truth import Truth, add_macos_junk, reshape

LABELS = {"g00": "fist", "g06": "swipe down", "g11": "rotate counter-clockwise"}
FINGERS = ("thumb", "index", "middle", "ring", "pinky")
BONES = ("metacarpal", "proximal", "intermediate", "distal")
FOLDERS = {
    "public": {"skeleton": "leap_motion/tracking_data", "ir": "tof/ir", "depth": "tof/depth"},
    "before": {"skeleton": "leap_motion_json", "ir": "depth/ir", "depth": "depth/z"},
}
TREES = {"skeleton": "leap_motion", "ir": "tof", "depth": "tof"}
ORDER = ("skeleton", "ir", "depth")


@dataclass(frozen=True)
class Clip:
    """One clip to write; frames are counted from 0."""

    place: str  # <split or data>/<subject>/<gesture>/<repetition>
    modalities: tuple[str, ...] = ("skeleton",)
    n_frames: int = 6
    invalid: tuple[int, ...] = ()
    missing: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def release(self) -> str:
        return "before" if self.place.startswith("data/") else "public"


CLIPS = (
    Clip("data/000/g00/00", ORDER, 12),
    Clip("data/000/g06/00"),
    Clip("data/001/g11/02", invalid=(0, 1)),
    Clip("test/032/g06/00", ("skeleton", "ir"), invalid=tuple(range(6))),
    Clip("test/032/g11/01"),
    Clip("train/000/g00/00", ORDER, 12, invalid=(0, 4, 5, 6, 11)),
    Clip("train/000/g00/01", ("skeleton", "depth"), 7, missing={"depth": (0, 3, 4)}),
    Clip("train/000/g06/00", ("ir",), missing={"ir": (2,)}),
    Clip("train/001/g00/00", n_frames=9, missing={"skeleton": (0, 4)}, invalid=(5,)),
    Clip("train/001/g06/02"),
    Clip("train/001/g11/00"),
    Clip("validation/026/g00/00"),
)
REMARKS = {
    "none": "clips without skeleton: no valid Leap frame",
    "invalid": "invalid Leap frames interpolated",
    "skeleton": "missing Leap frames interpolated",
    "ir": "missing ir frames replaced by the nearest",
    "depth": "missing depth frames replaced by the nearest",
}


def write(
    root: Path, *, rng: np.random.Generator, form: str = "folders", clips: Sequence[Clip] = CLIPS
) -> Truth:
    """Write the raw files; each value tells its clip, frame, joint or pixel."""
    offset = float(rng.uniform(0, 5))
    recordings = []
    for number, clip in enumerate(clips):
        streams: dict[str, np.ndarray] = {}
        counts: dict[str, int] = {}
        raw_files: list[str] = []
        split, subject, gesture, repetition = clip.place.split("/")
        lost = {name: clip.missing.get(name, ()) for name in ORDER}
        # the frames that any modality has: one that all lack at an end is no frame
        for name in clip.modalities:
            contents, values = _modality(name, clip, offset + number)
            paths = []
            for frame, content in enumerate(contents):
                if frame not in lost[name]:
                    path = _path(clip, name, frame)
                    paths.append(f"{clip.place}/{name}/{path.name}")
                    (root / path).parent.mkdir(parents=True, exist_ok=True)
                    (root / path).write_bytes(content)
            gone = {*lost[name], *(clip.invalid if name == "skeleton" else ())}
            if len(gone) == clip.n_frames:
                counts[REMARKS["none"]] = 1
                continue
            fill = _interpolated if name == "skeleton" else _nearest
            first = 1 if clip.modalities == (name,) and 0 in lost[name] else 0
            streams[name] = fill(values, sorted(gone))[first:].astype(np.float32)
            raw_files += paths
            n_lost = len(lost[name]) - first
            if n_lost:
                counts[REMARKS[name]] = n_lost
            if name == "skeleton" and clip.invalid:
                counts[REMARKS["invalid"]] = len(clip.invalid)
        before = clip.release == "before"
        recordings.append(
            Recording(
                key=clip.place,
                subject=f"session_{subject}" if before else subject,
                label=LABELS[gesture],
                streams=streams,
                raw_files=tuple(raw_files),
                trial=repetition,
                extra={"release": "before"} if before else {"release": "public", "split": split},
                counts=counts,
            )
        )
    _write_others(root, clips)
    folders = [path.name for path in sorted(root.iterdir()) if path.name != "__MACOSX"]
    for name in folders:
        add_macos_junk(root / name)
    reshape(root, tuple(folders), form)
    return Truth("briareo", root, {"default": tuple(recordings)})


def _path(clip: Clip, modality: str, frame: int) -> Path:
    ends = {"skeleton": "js.json", "ir": "ir.png", "depth": "z.npz"}
    end = "z.gz" if modality == "depth" and clip.release == "before" else ends[modality]
    tree = [] if clip.release == "before" else [TREES[modality]]
    return Path(*tree, clip.place, FOLDERS[clip.release][modality], f"{frame:03}_{end}")


def _modality(name: str, clip: Clip, code: float) -> tuple[list[bytes], np.ndarray]:
    """Content of every frame's file, and the values that it must read as, before any filling."""
    if name == "skeleton":
        joints = hand(clip.n_frames, code)
        documents = [
            {"frame": "invalid"} if frame in clip.invalid else document(joints[frame])
            for frame in range(clip.n_frames)
        ]
        return [json.dumps(one).encode() for one in documents], joints / 1000
    squares = _squares(clip.n_frames, code)
    images = squares.repeat(3, axis=1).repeat(3, axis=2)
    images = np.concatenate([images[..., :1], images, images[..., -1:]], axis=2)
    images[:, 0:3, 0] = 65535  # the columns at the edges are cut
    if name == "ir":
        images[:, 30:33, 31:34] += np.arange(9).reshape(3, 3)
        squares[:, 10, 10] += 4
        contents = [png(image.astype(np.uint16)) for image in images]
        return contents, squares
    metres = images / 16384
    reduced = squares / 16384
    metres[:, :90] = 0
    reduced[:, :30] = 0
    metres[:, 90, 1:4] = metres[:, 91, 1] = 0  # four of nine without reading
    metres[:, 90, 4:7] = metres[:, 91, 4:6] = 0  # five of nine
    reduced[:, 30, 1] = 0
    if clip.release == "before":
        texts = ["\n".join(" ".join(map(repr, row)) for row in one.tolist()) for one in metres]
        return [gzip.compress(text.encode() + b"\n", mtime=0) for text in texts], reduced
    return [npz(image.astype(np.float32)) for image in metres], reduced


def hand(n_frames: int, code: float) -> np.ndarray:
    """(n_frames, 21, 3) millimetres."""
    frame, joint, axis = np.ogrid[:n_frames, :21, :3]
    return np.asarray(50.0 * axis + 10 * code + 0.25 * joint + 0.125 * (frame % 5) * frame)


def document(joints: np.ndarray) -> dict[str, object]:
    """What the recorder writes of one frame, and around the joints what must not be taken."""
    vectors = [[*map(float, joint), 0.1, -0.2, 0.3] for joint in joints]
    decoy = [9e3, 9e3, 9e3, 0.0, 0.0, 0.0]
    fingers = {}
    for i, finger in enumerate(FINGERS):
        ends = vectors[1 + 4 * i : 5 + 4 * i]
        bones = {
            bone: {"center": decoy, "prev_joint": decoy, "next_joint": end, "length": 1.0}
            for bone, end in zip(BONES, ends, strict=True)
        }
        # the order inside a document says nothing
        fingers[finger] = {"id": i, "bones": dict(reversed(bones.items()))}
    right_hand = {
        "palm_position": decoy,
        "wrist_position": vectors[0],
        "fingers": dict(reversed(fingers.items())),
        "arm": {"wrist_position": decoy, "elbow_position": decoy},
    }
    return {"frame": {"id": 7, "timestamp": 123456, "right_hand": right_hand}}


def _squares(n_frames: int, code: float) -> np.ndarray:
    """(n_frames, 57, 74) whole numbers."""
    frame, row, column = np.ogrid[:n_frames, :57, :74]
    return np.asarray(2000.0 + 300 * int(code) + 64 * frame + 8 * (row // 4) + column // 4)


def npz(image: np.ndarray, name: str = "arr_0") -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **{name: image})  # type: ignore[arg-type]
    return stream.getvalue()


def _interpolated(values: np.ndarray, gone: Sequence[int]) -> np.ndarray:
    """Fill frames by a loop: between the neighbours by their distance, at the ends by repeating."""
    filled = values.copy()
    kept = [frame for frame in range(len(values)) if frame not in gone]
    for frame in gone:
        before = [one for one in kept if one < frame]
        after = [one for one in kept if one > frame]
        if before and after:
            a, b = before[-1], after[0]
            filled[frame] = (values[a] * (b - frame) + values[b] * (frame - a)) / (b - a)
        else:
            filled[frame] = values[before[-1] if before else after[0]]
    return filled


def _nearest(values: np.ndarray, gone: Sequence[int]) -> np.ndarray:
    filled = values.copy()
    kept = [frame for frame in range(len(values)) if frame not in gone]
    for frame in gone:
        distance = min(abs(one - frame) for one in kept)
        filled[frame] = values[next(one for one in kept if abs(one - frame) == distance)]
    return filled


def _write_others(root: Path, clips: Sequence[Clip]) -> None:
    """What is not read: other cameras, the continuous recording, the frame lists."""
    clip = next(one for one in clips if one.release == "public")
    split, subject, *_ = clip.place.split("/")
    others = [
        f"rgb/{clip.place}/rgb/000_rgb.png",
        f"leap_motion/{clip.place}/L/raw/000_rl.png",
        f"leap_motion/{clip.place}/L/undistorted/000_ul.png",
        f"tof/{split}/{subject}/g12_test/00/tof/ir/000_ir.png",
        "splits/train/depth_train.npz",
    ]
    for name in others:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"not read")
