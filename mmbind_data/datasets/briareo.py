"""Reader of Briareo: hand gestures in a car mock-up, a time-of-flight camera and a Leap Motion.

Both the public release (``tof``, ``leap_motion``, each split into train, validation and test) and
the author's folders from before it (``data/<session>``) are read.

Source: Manganaro, Pini, Borghi, Vezzani, Cucchiara, ICIAP 2019, the author's recorder and public
loaders; what was checked on real bytes is in the descriptor next to this module.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mmbind_data.datasets.reader import frame_files, make_recording, presence_notes
from mmbind_data.datasets.registry import load_descriptor
from mmbind_data.raw.arrays import Variable, read_npy
from mmbind_data.raw.files import (
    RawFile,
    RawListing,
    Unit,
    bad_file,
    natural,
    nothing_found,
    read_content,
    recognise,
    spans,
)
from mmbind_data.raw.images import GREY_16, block_means, read_image
from mmbind_data.raw.tables import read_json, read_numbers
from mmbind_data.spec.descriptor import Recording

NAME = "briareo"
N_CLIPS = 1440  # 12 gestures, 40 subjects, 3 times
SPLITS = ("train", "validation", "test")
EARLY = "data"  # folder of the sessions before the release, in the place of the split
MODALITIES = ("skeleton", "ir", "depth")
SUFFIXES = {"js.json": "skeleton", "ir.png": "ir", "z.npz": "depth", "z.gz": "depth"}
FRAME_NAME = re.compile(r"([0-9]{3,4})_(js\.json|ir\.png|z\.npz|z\.gz)")
CLIP = re.compile(r"([0-9]{3})/(g(?:0[0-9]|1[01]))/([0-9]{2})")
CONTINUOUS = "g12_test"  # all gestures in a row, without label
CAMERA_IMAGE = re.compile(r".*/[0-9]{3,4}_(rgb|rl|rr|ul|lu|ur|ru)\.png")
FRAME_LISTS = re.compile(r"(?:.*/)?[a-z_]+_(train|val|test)\.npz")
SHAPE = (171, 224)
DEPTH = Variable("arr_0", SHAPE, "f")
MAX_TEXT = 1 << 22  # bytes of one frame's depths as text: four times what 38,304 numbers take
JOINTS = (
    "frame.right_hand.wrist_position",
    *(
        f"frame.right_hand.fingers.{finger}.bones.{bone}.next_joint"
        for finger in ("thumb", "index", "middle", "ring", "pinky")
        for bone in ("metacarpal", "proximal", "intermediate", "distal")
    ),
)
VECTOR = 6  # numbers of each
MILLIMETRE = 1e-3


def find(files: Sequence[RawFile], preset: str, *, block: str = "3") -> RawListing:
    """Sort the files into one unit per clip; nothing is opened.

    A clip may lack any of the modalities.

    Raises
    ------
    RawLayoutError
        No file is named like one of this dataset.
    """
    descriptor = load_descriptor(NAME)
    by_path, unknown, notes = recognise(files, _canonical)
    clips: dict[str, dict[str, RawFile]] = {}
    for path in sorted(by_path, key=natural):
        clip, modality, name = path.rsplit("/", 2)
        clips.setdefault(clip, {})[f"{modality}_{name.split('_')[0].zfill(4)}"] = by_path[path]
    if not clips:
        expected = "files such as tof/train/000/g00/00/tof/depth/000_z.npz"
        step = "Give the folder that holds tof and leap_motion; unpack a .tar archive first."
        raise nothing_found(NAME, files, expected, step)
    units = []
    for key in sorted(clips, key=natural):
        split, subject, gesture, repetition = key.split("/")
        numbers = sorted(int(role.split("_")[1]) for role in clips[key])
        fields = {
            # a session's number need not be that of a subject of the release
            "subject": subject if split != EARLY else f"session_{subject}",
            "label": descriptor.labels[gesture],
            "trial": repetition,
            "split": split,
            "first": str(numbers[0]),
            "last": str(numbers[-1]),
            "block": block,
        }
        roles = dict(sorted(clips[key].items()))
        needed = {role: (role.split("_")[0],) for role in roles}
        units.append(Unit(key, roles, fields, needed))
    others, unrecognised = _left_aside(unknown)
    found = {name: sum(bool(frame_files(unit, name)) for unit in units) for name in MODALITIES}
    notes += [_found_note(units), *presence_notes(found, len(units)), *others]
    modalities = tuple(name for name in MODALITIES if found[name])
    return RawListing(tuple(units), unrecognised, tuple(notes), modalities)


def read(unit: Unit, modalities: Sequence[str], preset: str) -> Iterator[Recording]:
    """Read the one recording of a unit.

    Yields
    ------
    Recording
        skeleton (n, 21, 3) in m, Leap axes (x right, y up from the device, z towards the user);
        ir (n, 171 / b, 224 / b), 0 to 65535 anew in every frame; depth (n, 171 / b, 224 / b) in m,
        0 without reading; b is the option ``block``. All float32, of the same n frames: those
        from the first to the last of any modality. Nothing is yielded for a clip that lacks all
        that was asked for.

    Raises
    ------
    RawLayoutError
        A file is not what it must be, or a modality has files for fewer than half of the frames.
    """
    frames = range(int(unit.fields["first"]), int(unit.fields["last"]) + 1)
    streams: dict[str, np.ndarray] = {}
    read_from: list[RawFile] = []
    counts: Counter[str] = Counter()
    for name in MODALITIES:
        files = {one.number or 0: one.file for one in frame_files(unit, name)}
        if name not in modalities or not files:
            continue
        if 2 * len(files) < len(frames):
            what = f"{len(frames) - len(files)} of {len(frames)} frames missing"
            expected = f"{name} of the frames {frames[0]}-{frames[-1]}"
            raise bad_file(next(iter(files.values())), what, expected, spans(files))
        values = (
            _skeleton(files, frames, counts)
            if name == "skeleton"
            else _video(name, files, frames, int(unit.fields["block"]), counts)
        )
        if values is not None:
            streams[name] = values.astype(np.float32)
            read_from += files.values()
    if not streams:
        return  # a row without a single stream would say nothing
    split = unit.fields["split"]
    yield make_recording(
        unit,
        {name: streams[name] for name in modalities if name in streams},
        read_from,
        extra={"release": "before"} if split == EARLY else {"release": "public", "split": split},
        counts=counts,
    )


def _canonical(path: str) -> str | None:
    """<split>/<subject>/<gesture>/<repetition>/<modality>/<file>, without the folders between."""
    *folders, name = path.split("/")
    match = FRAME_NAME.fullmatch(name)
    # from the right, because the folders above may be named by numbers too
    for at in reversed(range(len(folders) - 2)):
        clip = "/".join(folders[at : at + 3])
        if match is not None and CLIP.fullmatch(clip):
            above = folders[at - 1].removesuffix(".zip") if at else ""
            split = above if above in SPLITS else EARLY
            return f"{split}/{clip}/{SUFFIXES[match[2]]}/{name}"
    return None


def _found_note(units: Sequence[Unit]) -> str:
    parts = []
    for split in (*SPLITS, EARLY):
        subjects = [one.fields["subject"] for one in units if one.fields["split"] == split]
        if subjects:
            what = f"{split}: subjects" if split != EARLY else "sessions before the release:"
            parts.append(f"{what} {spans(int(one.removeprefix('session_')) for one in subjects)}")
    return f"{len(units)} of {N_CLIPS} clips found ({'; '.join(parts)})"


def _left_aside(unknown: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Remarks about other parts of the distribution, and the files that belong to none."""
    continuous = [path for path in unknown if CONTINUOUS in path.split("/")]
    rest = [path for path in unknown if CONTINUOUS not in path.split("/")]
    images = [path for path in rest if CAMERA_IMAGE.fullmatch(path)]
    notes = []
    if continuous:
        notes.append(
            f"files of {CONTINUOUS}, a continuous recording, left aside: {len(continuous)}"
        )
    if images:
        notes.append(f"images of the RGB and Leap cameras left aside: {len(images)}")
    known = {*images, *(path for path in rest if FRAME_LISTS.fullmatch(path))}
    return notes, tuple(path for path in rest if path not in known)


def _skeleton(
    files: Mapping[int, RawFile], frames: range, counts: Counter[str]
) -> np.ndarray | None:
    """Joints of all frames in metres, shape (n, 21, 3); None without a single valid frame.

    Frames in which the tracker saw no right hand are interpolated between their valid neighbours;
    at the ends the nearest valid frame is repeated.
    """
    known = {number: _joints(file) for number, file in files.items()}
    valid = {number: joints for number, joints in known.items() if joints is not None}
    if not valid:
        counts["clips without skeleton: no valid Leap frame"] += 1
        return None
    for remark, n in (
        ("invalid Leap frames interpolated", len(known) - len(valid)),
        ("missing Leap frames interpolated", len(frames) - len(known)),
    ):
        if n:
            counts[remark] += n
    rows = np.stack([joints.ravel() for joints in valid.values()])
    columns = [np.interp(frames, list(valid), column) for column in rows.T]
    return MILLIMETRE * np.stack(columns, axis=1).reshape(len(frames), -1, 3)


def _joints(file: RawFile) -> np.ndarray | None:
    """Wrist and the far end of each bone, shape (21, 3), mm; None for an invalid frame."""
    document = read_json(file)
    if _entry(file, document, "frame") == "invalid":
        return None
    vectors = []
    for path in JOINTS:
        vector = _entry(file, document, path)
        numbers = isinstance(vector, list) and all(type(one) in (int, float) for one in vector)
        if not numbers or len(vector) != VECTOR:
            got = f"{len(vector)} numbers" if numbers else repr(vector)[:60]
            raise bad_file(file, "another structure", f"{VECTOR} numbers in {path}", got)
        vectors.append(vector)
    try:
        # x, y, z and then three angles, which are no coordinates
        points = np.array(vectors, dtype=np.float64)
    except OverflowError as error:
        got = "a whole number of more than 308 digits"
        raise bad_file(file, "huge number", "numbers below 1.8e308", got) from error
    if not np.isfinite(points[:, :3]).all():
        joint = int(np.argwhere(~np.isfinite(points[:, :3]))[0, 0])
        raise bad_file(file, "missing value", "numbers only", f"{points[joint, :3]}, joint {joint}")
    return points[:, :3]


def _entry(file: RawFile, document: Any, path: str) -> Any:
    """The value in a JSON document under names within names, with dots between them."""
    names = path.split(".")
    for depth, name in enumerate(names, 1):
        if not isinstance(document, dict) or name not in document:
            expected = 'frame.right_hand with wrist_position and 20 bones, or "invalid"'
            raise bad_file(file, "another structure", expected, f"no {'.'.join(names[:depth])}")
        document = document[name]
    return document


def _video(
    modality: str, files: Mapping[int, RawFile], frames: range, block: int, counts: Counter[str]
) -> np.ndarray:
    """Shrunken images of all frames; a missing one repeats the nearest, of two the earlier."""
    images = {
        number: block_means(_depth(file), block, skip_zeros=True)
        if modality == "depth"
        else block_means(read_image(file, GREY_16, SHAPE), block)
        for number, file in files.items()
    }
    missing = len(frames) - len(files)
    if missing:
        counts[f"missing {modality} frames replaced by the nearest"] += missing
    nearest = [min(images, key=lambda one: (abs(one - frame), one)) for frame in frames]
    return np.stack([images[number] for number in nearest])


def _depth(file: RawFile) -> np.ndarray:
    """Distances in metres; the release has NumPy files, the folders before it zipped text."""
    if file.path.endswith(".npz"):
        return read_npy(file, DEPTH)
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # 16: with a gzip header
    try:
        text = inflate.decompress(read_content(file), MAX_TEXT)
    except zlib.error as error:
        raise bad_file(file, "broken file", "an intact gzip file", str(error)) from error
    if not inflate.eof:
        got = f"{len(text)} bytes and no end"
        raise bad_file(file, "broken file", "a whole gzip file of one frame", got)
    values = read_numbers(file, SHAPE[1], text)
    if values.shape != SHAPE:
        raise bad_file(file, "another size", "171 lines", len(values))
    return values
