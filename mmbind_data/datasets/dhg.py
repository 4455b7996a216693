"""Reader of DHG-14/28 and of SHREC'17, its second release: hand gestures before a RealSense camera.

The two share authors, camera, gestures and folders, and differ in the names of the files, in how
the gesture was cut out of the recording, and in the numbering of the 28 classes.

Source: De Smedt, Wannous, Vandeborre, CVPRW 2016, and De Smedt et al., 3DOR 2017; what was measured
on real files is in the descriptor next to this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mmbind_data.datasets.reader import frame_files, make_recording, presence_notes
from mmbind_data.datasets.registry import load_descriptor
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
from mmbind_data.raw.tables import read_numbers
from mmbind_data.spec.descriptor import Recording

NAME = "dhg"
FOLDERS = {"dhg": "DHG2016", "shrec17": "HandGestureDataset_SHREC2017"}  # as distributed
N_SUBJECTS = {"dhg": 20, "shrec17": 28}
N_TRIALS = {"dhg": 5, "shrec17": 99}
N_SEQUENCES = 2800  # in either release
GESTURES = range(1, 15)
FINGERS = {"1": "one finger", "2": "whole hand"}
MODALITIES = ("skeleton", "depth")
N_JOINTS, PALM = 22, 1
IMAGE_SHAPE = (480, 640)
MILLIMETRE = 1e-3
SKELETONS = {"skeleton_world.txt": "dhg", "skeletons_world.txt": "shrec17"}
DEPTH_NAME = re.compile(r"depth_(0|[1-9][0-9]{0,3})\.png|(0|[1-9][0-9]{0,3})_depth\.png")
LISTS = {
    "informations_troncage_sequences.txt": ("dhg", "truncation"),
    "train_gestures.txt": ("shrec17", "train"),
    "test_gestures.txt": ("shrec17", "test"),
}
SEQUENCE_PATH = re.compile(
    r"(?:.*/)?gesture_([1-9][0-9]?)(?:\.zip)?/"
    r"(finger_([12])/subject_([1-9][0-9]?)/essai_([1-9][0-9]?))/([^/]+)"
)
# joints in pixels, hand regions, the distribution's own scripts: no modality is read from them
OTHER_PARTS = re.compile(r".*/((skeletons?_image|general_informations?)\.txt|[^/]+\.(py|m))")


def find(
    files: Sequence[RawFile],
    preset: str,
    *,
    truncation: str = "from0",
    block: str = "8",
    joints: str = "22",
) -> RawListing:
    """Sort the files into one unit per sequence; nothing is opened.

    A sequence may lack the skeleton or the depth images, a release its lists.

    Raises
    ------
    RawLayoutError
        No file is named like one of this dataset.
    """
    descriptor = load_descriptor(NAME)
    by_path, unknown, notes = recognise(files, _canonical)
    sequences: dict[str, dict[str, RawFile]] = {}
    for path, file in by_path.items():
        key, name = path.rsplit("/", 1)
        if name not in LISTS:
            sequences.setdefault(key, {})[_role(name)] = file
    if not sequences:
        expected = "files such as gesture_1/finger_1/subject_1/essai_1/skeleton_world.txt"
        step = "Give the folder that holds gesture_1; unpack a .tar or .rar archive first."
        raise nothing_found(NAME, files, expected, step)
    options = {"truncation": truncation, "block": block, "joints": joints}
    units = []
    for key in sorted(sequences, key=natural):
        fields = _fields(key) | options
        code = fields["gesture"]
        if preset == "fingers":
            code = f"{code}_{fields['finger']}"
        fields["label"] = descriptor.labels[code]
        roles = dict(sorted(sequences[key].items()))
        needed = {role: (role.split("_")[0],) for role in roles}
        for name, (release, role) in LISTS.items():
            path = f"{FOLDERS[release]}/{name}"
            if release == fields["release"] and path in by_path:
                roles[role] = by_path[path]
        units.append(Unit(_key(fields), roles, fields, needed))
    found = {name: sum(bool(frame_files(unit, name)) for unit in units) for name in MODALITIES}
    notes += _notes(units, found, by_path)
    unrecognised = tuple(path for path in unknown if not OTHER_PARTS.fullmatch(path))
    modalities = tuple(name for name in MODALITIES if found[name])
    return RawListing(tuple(units), unrecognised, tuple(notes), modalities)


def read(unit: Unit, modalities: Sequence[str], preset: str) -> Iterator[Recording]:
    """Read the one recording of a unit: the frames of the gesture.

    Yields
    ------
    Recording
        skeleton (n, 22, 3) in m, the release's own axes, without the palm if option ``joints`` is
        21; depth (n, 480 / b, 640 / b) in m, 0 without reading, b the option ``block``. All
        float32. Nothing is yielded for a sequence that lacks all that was asked for.

    Raises
    ------
    RawLayoutError
        A text or image is not what it must be, images are missing, or the numbers of frames of
        skeleton, images and list differ.
    """
    images = _images(unit) if "depth" in modalities else []
    streams: dict[str, np.ndarray] = {}
    read_from: list[RawFile] = []
    if "skeleton" in modalities and "skeleton" in unit.files:
        file = unit.files["skeleton"]
        rows = read_numbers(file, 3 * N_JOINTS)
        if images and len(images) != len(rows):
            expected = f"as many rows as depth images, {len(images)}"
            raise bad_file(file, "number of frames", expected, len(rows))
        joints = rows.reshape(-1, N_JOINTS, 3)
        streams["skeleton"] = (
            np.delete(joints, PALM, 1) if unit.fields["joints"] == "21" else joints
        )
        read_from.append(file)
    n_frames = len(streams.get("skeleton", images))
    if n_frames == 0:
        return  # a row without a single stream would say nothing
    first, end, extra, counts = _listed(unit, n_frames)
    if "skeleton" in streams:
        streams["skeleton"] = streams["skeleton"][first:end].astype(np.float32)
    if images:
        block = int(unit.fields["block"])
        streams["depth"] = np.stack([_reduce(file, block) for file in images[first:end]])
        read_from += images[first:end]
    lists = [unit.files[role] for _, role in LISTS.values() if role in unit.files]
    yield make_recording(
        unit,
        {name: streams[name] for name in modalities if name in streams},
        [*read_from, *lists],
        extra={**_classes(unit.fields), **extra},
        counts=counts,
    )


def _canonical(path: str) -> str | None:
    name = path.rsplit("/", 1)[-1]
    if name in LISTS:
        return f"{FOLDERS[LISTS[name][0]]}/{name}"
    match = SEQUENCE_PATH.fullmatch(path)
    release = _release(name)
    if match is None or release is None or int(match[1]) not in GESTURES:
        return None
    if int(match[4]) > N_SUBJECTS[release] or int(match[5]) > N_TRIALS[release]:
        return None
    return f"{FOLDERS[release]}/gesture_{match[1]}/{match[2]}/{name}"


def _release(name: str) -> str | None:
    """Tell by a file's name which release it belongs to: the folders are the same."""
    match = DEPTH_NAME.fullmatch(name)
    if match is None:
        return SKELETONS.get(name)
    return "dhg" if match[1] is not None else "shrec17"


def _role(name: str) -> str:
    match = DEPTH_NAME.fullmatch(name)
    # padded, so that the order of the texts is that of the numbers
    return "skeleton" if match is None else f"depth_{int(match[1] or match[2]):04d}"


def _fields(path: str) -> dict[str, str]:
    folder, gesture, finger, subject, trial = path.split("/")
    release = {text: name for name, text in FOLDERS.items()}[folder]
    number = subject.split("_")[1]
    return {
        "release": release,
        "gesture": gesture.split("_")[1],
        "finger": finger.split("_")[1],
        "number": number,
        # subject 1 of one release need not be subject 1 of the other
        "subject": number if release == "dhg" else f"shrec17_{number}",
        "trial": trial.split("_")[1],
    }


def _key(fields: Mapping[str, str]) -> str:
    words = {"gesture": "gesture", "finger": "finger", "number": "subject", "trial": "essai"}
    parts = [f"{word}_{fields[name]}" for name, word in words.items()]
    return "/".join([fields["release"], *parts])


def _classes(fields: Mapping[str, str]) -> dict[str, str]:
    """Release, fingers and class numbers; those of the 28 classes in both conventions."""
    gesture, finger = int(fields["gesture"]), int(fields["finger"])
    return {
        "release": fields["release"],
        "fingers": FINGERS[fields["finger"]],
        "label14": str(gesture),
        "label28_dhg": str(gesture + 14 * (finger - 1)),
        "label28_shrec17": str(2 * (gesture - 1) + finger),
    }


def _notes(
    units: Sequence[Unit], found: Mapping[str, int], by_path: Mapping[str, RawFile]
) -> list[str]:
    by_release: dict[str, list[Unit]] = {}
    for unit in units:
        by_release.setdefault(unit.fields["release"], []).append(unit)
    notes = [f"{len(units)} of {N_SEQUENCES * len(by_release)} sequences found"]
    for release, mine in by_release.items():
        numbers = spans(int(unit.fields["number"]) for unit in mine)
        notes.append(f"{release}: {len(mine)} of {N_SEQUENCES}, subjects {numbers}")
    if len(by_release) > 1:
        notes.append("dhg and shrec17 may share people: do not train on one and test on the other")
    notes += presence_notes(found, len(units))
    for name, (release, role) in LISTS.items():
        if release in by_release and f"{FOLDERS[release]}/{name}" not in by_path:
            lost = "sequences are not cut to the gesture" if role == "truncation" else "no split"
            notes.append(f"{name} not found: {lost}")
    return notes


def _images(unit: Unit) -> list[RawFile]:
    """Depth images in the order of their numbers, which must run on from 0 or 1."""
    frames = {one.number or 0: one.file for one in frame_files(unit, "depth")}
    numbers = sorted(frames)
    first = 0 if numbers[:1] == [0] else 1
    if numbers != list(range(first, first + len(numbers))):
        expected = "numbers that run on from 0 or 1"
        raise bad_file(frames[numbers[0]], "missing depth images", expected, spans(numbers))
    return [frames[number] for number in numbers]


def _reduce(file: RawFile, block: int) -> np.ndarray:
    """One depth image in metres, float32, shrunk by the mean of the pixels with a reading."""
    image = read_image(file, GREY_16, IMAGE_SHAPE)
    means = MILLIMETRE * block_means(image, block, skip_zeros=True)
    return np.asarray(means, dtype=np.float32)


def _listed(unit: Unit, n_frames: int) -> tuple[int, int, dict[str, str], dict[str, int]]:
    """First frame and one past the last, further columns and remarks, from the lists."""
    if unit.fields["release"] == "dhg":
        first, end, counts = _truncation(unit, n_frames)
        return first, end, {}, counts
    rows = {
        split: _row(unit.files[split], unit.fields, 3)
        for split in ("train", "test")
        if split in unit.files
    }
    known = {split: row for split, row in rows.items() if row is not None}
    if not known:
        lost = len(rows) == 2
        return 0, n_frames, {}, {"sequences in neither split list": 1} if lost else {}
    split, row = known.popitem()
    file = unit.files[split]
    if known:
        raise bad_file(file, unit.key, "a sequence of one split", "one of both, train and test")
    classes = _classes(unit.fields)
    expected = [int(classes["label14"]), int(classes["label28_shrec17"]), n_frames]
    if row != expected:
        what = f"gesture, class and number of frames of {unit.key}"
        raise bad_file(file, what, str(expected), row)
    return 0, n_frames, {"split": split}, {}


def _truncation(unit: Unit, n_frames: int) -> tuple[int, int, dict[str, int]]:
    file, origin = unit.files.get("truncation"), unit.fields["truncation"]
    if file is None or origin == "off":
        return 0, n_frames, {}
    row = _row(file, unit.fields, 2)
    if row is None:
        return 0, n_frames, {"sequences without a row in the truncation list, left whole": 1}
    first, last = (number - (origin == "from1") for number in row)
    if not 0 <= first <= last or first >= n_frames:
        expected = f"a first and a last of {n_frames} frames, counted {origin}"
        raise bad_file(file, f"span of {unit.key}", expected, f"{row[0]} to {row[1]}")
    if last >= n_frames:
        remark = "sequences whose listed end lies behind the last frame, read to that frame"
        return first, n_frames, {remark: 1}
    return first, last + 1, {}


def _row(file: RawFile, fields: Mapping[str, str], n_numbers: int) -> list[int] | None:
    """Numbers behind gesture, finger, subject and trial in the sequence's line of a list.

    Only the lines of this sequence are parsed: the list is read once for each of 2,800.
    """
    words = [fields[name].encode() for name in ("gesture", "finger", "number", "trial")]
    content = read_content(file)
    pattern = rb"^[ \t]*" + rb"[ \t]+".join(words) + rb"(?![0-9.])([^\r\n]*)"
    texts = {match.strip() for match in re.findall(pattern, content, re.MULTILINE)}
    if not texts:
        n_words = 4 + n_numbers
        line = rb"^[ \t]*([0-9]+[ \t]+){%d}[0-9]+[ \t]*\r?$" % (n_words - 1)
        if content.strip() and not re.search(line, content, re.MULTILINE):
            got = f"none in {len(content)} bytes"
            raise bad_file(file, "another list", f"lines of {n_words} whole numbers", got)
        return None
    text = b" / ".join(sorted(texts)).decode("ascii", errors="replace")
    numbers = re.findall(r"(?<![^\s])[0-9]{1,9}(?![^\s])", text)
    if len(texts) > 1 or len(numbers) != n_numbers or len(text.split()) != n_numbers:
        what = f"line of {'_'.join(word.decode() for word in words)}"
        raise bad_file(file, what, f"one line with {n_numbers} more whole numbers", repr(text))
    return [int(number) for number in numbers]
