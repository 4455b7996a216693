"""Reader of GR4DHCI: hand gestures above a desk, seen by a Leap Motion controller.

Source: Wang et al., ICSMD 2023 (arXiv:2401.03828), for what there is; the raw format is
unpublished, so files are found and read according to a mapping (gr4dhci_mapping.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mmbind_data.datasets.gr4dhci_mapping import (
    FILE,
    METRES,
    STEP,
    InfraredFiles,
    Mapping,
    Place,
    SkeletonFiles,
    load_mapping,
    locate,
)
from mmbind_data.datasets.reader import FrameFile, frame_files, make_recording, presence_notes
from mmbind_data.raw.arrays import Variable, read_npy
from mmbind_data.raw.files import (
    RawFile,
    RawListing,
    Unit,
    bad_file,
    natural,
    nothing_found,
    recognise,
)
from mmbind_data.raw.images import read_image
from mmbind_data.raw.tables import read_rows
from mmbind_data.spec.descriptor import Recording

NAME = "gr4dhci"
MODALITIES = ("skeleton", "ir")
N_SAMPLES = 7339  # of the paper
MISSING_FRAMES = "frame numbers missing between the first and the last of a sample"


def find(
    files: Sequence[RawFile], preset: str, eye: str = "left", ir_size: str = "60x80"
) -> RawListing:
    """Sort the files into one unit per sample; only the mapping, if there is one, is opened.

    A sample may lack the skeleton or the images.

    Raises
    ------
    RawLayoutError
        No file fits the mapping, the mapping is broken, or two files are the same frame.
    """
    del preset  # all presets read the same files
    mappings, _, _ = recognise(files, _mapping_path)
    mapping_file = mappings.get(FILE)
    mapping = load_mapping(mapping_file)
    places: dict[str, Place] = {}

    def canonical(path: str) -> str | None:
        place = locate(mapping, path)
        if place is None:
            return _mapping_path(path)
        places[place.canonical] = place
        return place.canonical

    by_path, unknown, notes = recognise(files, canonical)
    if not places:
        assumed = "files such as subject_1/gesture_1/trial_1/skeleton.csv"
        expected = f"files that fit the patterns of {FILE}" if mapping_file else assumed
        step = f"The raw format is unpublished: tell yours in {FILE}, see `mmbind datasets {NAME}`."
        raise nothing_found(NAME, files, expected, step)
    samples: dict[str, list[Place]] = {}
    for place in places.values():
        if place.eye is None or _side(place.eye, by_path[place.canonical], mapping) == eye:
            samples.setdefault(place.key, []).append(place)
    units = [
        _unit(samples[key], by_path, mapping, mapping_file, {"eye": eye, "ir_size": ir_size})
        for key in sorted(samples, key=natural)
    ]
    found = {name: sum(bool(frame_files(one, name)) for one in units) for name in MODALITIES}
    subjects = {unit.fields.get("subject") for unit in units} - {None}
    notes.append(f"{len(units)} of {N_SAMPLES} samples found ({len(subjects)} subjects)")
    notes += presence_notes(found, len(units), "samples")
    if mapping_file is None:
        notes.append(f"no {FILE}: files are taken to be named and filled as assumed")
    modalities = tuple(name for name in MODALITIES if found[name])
    return RawListing(tuple(units), tuple(unknown), tuple(notes), modalities)


def read(unit: Unit, modalities: Sequence[str], preset: str) -> Iterator[Recording]:
    """Read the one sample of a unit.

    Yields
    ------
    Recording
        skeleton (f, joints, 3) in m; ir (g, height, width), the mean 8-bit brightness under each
        stored pixel, of one eye. Both float32; f and g may differ. One whose files are missing is
        absent. Nothing is yielded for a sample that lacks all that was asked for.

    Raises
    ------
    RawLayoutError
        A file does not fit the mapping, or images of one sample differ in size.
    """
    mapping = load_mapping(unit.files.get("mapping"))
    streams = {}
    used: list[RawFile] = []
    missing = 0
    for name in modalities:
        frames = frame_files(unit, name)
        if not frames:
            continue
        decode = _skeleton if name == "skeleton" else _infrared
        streams[name] = decode(unit, frames, mapping)
        used += [one.file for one in frames]
        numbers = [one.number for one in frames if one.number is not None]
        missing += numbers[-1] - numbers[0] + 1 - len(numbers) if numbers else 0
    if streams:  # a row without a single stream would say nothing
        used += [unit.files["mapping"]] if "mapping" in unit.files else []
        yield make_recording(unit, streams, used, counts={MISSING_FRAMES: missing})


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Mean brightness of the area that each new pixel covers: shape (height, width), float64.

    The ratio of the sides may change.
    """
    rows, columns = _shares(image.shape[0], height), _shares(image.shape[1], width)
    return np.asarray(rows @ image.astype(np.float64) @ columns.T)


def _shares(n_old: int, n_new: int) -> np.ndarray:
    """Share of each old pixel in each new one along a side, shape (n_new, n_old); rows sum to 1."""
    edges = np.arange(n_new + 1)[:, np.newaxis] * n_old / n_new
    old = np.arange(n_old)
    overlap = np.minimum(edges[1:], old + 1) - np.maximum(edges[:-1], old)
    return np.asarray(np.maximum(overlap, 0) * n_new / n_old)


def _skeleton(unit: Unit, frames: Sequence[FrameFile], mapping: Mapping) -> np.ndarray:
    files = mapping.skeleton
    joints = np.concatenate([_joints(one, files) for one in frames])
    if files.keep is not None:
        joints = joints[:, list(files.keep)]
    return np.ascontiguousarray(METRES[files.unit] * joints, dtype=np.float32)


def _joints(frame: FrameFile, files: SkeletonFiles) -> np.ndarray:
    """Coordinates in one file as recorded, shape (f, joints, 3)."""
    file, one_frame = frame.file, frame.number is not None
    n_joints, n_numbers = files.joints, files.n_numbers
    if file.path.lower().endswith(".npy"):
        size = (n_numbers,) if files.row == "frame" else (n_joints, 3)
        shape = size if one_frame else (None, *size)
        values = read_npy(file, Variable("skeleton", shape))
        return np.asarray(values, dtype=np.float64).reshape(-1, n_joints, 3)
    if not file.path.lower().endswith((".csv", ".txt")):
        raise bad_file(file, "another kind of file", ".npy, .csv or .txt", file.path, STEP)
    wanted = range(files.first_column, files.first_column + n_numbers)
    columns = read_rows(
        file, files.n_columns, wanted, separator=files.separator, skip=files.header_lines
    )
    rows = np.stack([columns[one] for one in wanted], axis=1)
    if rows.size % (3 * n_joints) or (one_frame and rows.size != 3 * n_joints):
        expected = f"{n_joints} joints" if one_frame else f"whole frames of {n_joints} joints"
        raise bad_file(file, "rows", expected, f"{len(rows)} rows of {n_numbers} numbers", STEP)
    return rows.reshape(-1, n_joints, 3)


def _infrared(unit: Unit, frames: Sequence[FrameFile], mapping: Mapping) -> np.ndarray:
    height, width = (int(side) for side in unit.fields["ir_size"].split("x"))
    stored: list[np.ndarray] = []
    sizes: dict[tuple[int, ...], str] = {}
    for frame in frames:
        file = frame.file
        for image in _images(frame):
            sizes.setdefault(image.shape, file.path)
            if len(sizes) > 1:
                (size, first), (other, _) = sizes.items()
                expected = f"{size[0]} x {size[1]} pixels as {first}"
                raise bad_file(file, "another size", expected, f"{other[0]} x {other[1]}")
            half = _half(file, image, mapping.ir, unit.fields["eye"])
            stored.append(resize(half, height, width).astype(np.float32))
    return np.stack(stored)


def _images(frame: FrameFile) -> np.ndarray:
    """Grey images in one file, shape (g, height, width), uint8."""
    file, one_frame = frame.file, frame.number is not None
    if file.path.lower().endswith(".npy"):
        shape = (None, None) if one_frame else (None, None, None)
        values = read_npy(file, Variable("images", shape, "u"))
        if values.dtype != np.uint8:
            raise bad_file(file, "another type", "8-bit brightness", values.dtype)
        return values[np.newaxis] if one_frame else values
    if not one_frame:
        raise bad_file(file, "image without a number", "group frame in ir.pattern", "none", STEP)
    image = read_image(file, {"L": "uint8", "RGB": "uint8"})
    if image.ndim == 3:
        if (image != image[..., :1]).any():
            raise bad_file(file, "colours", "three equal channels, or one", "different ones")
        image = image[..., 0]
    return image[np.newaxis]


def _half(file: RawFile, image: np.ndarray, files: InfraredFiles, eye: str) -> np.ndarray:
    """The part of an image that the eye saw."""
    if files.layout == "one eye":
        return image
    axis = 0 if files.layout == "left over right" else 1
    if image.shape[axis] % 2:
        got = f"{image.shape[0]} x {image.shape[1]} pixels"
        raise bad_file(file, "no two halves", f"an even side, as ir.layout {files.layout}", got)
    return np.asarray(np.split(image, 2, axis)[0 if eye == "left" else 1])


def _mapping_path(path: str) -> str | None:
    return FILE if path.rsplit("/", 1)[-1] == FILE else None


def _side(eye: str, file: RawFile, mapping: Mapping) -> str:
    """Left or right: the eye of a file's path, translated by the mapping."""
    if eye not in mapping.ir.eyes:
        known = ", ".join(mapping.ir.eyes)
        raise bad_file(file, "unknown eye", f"one of ir.eyes, {known}", eye, STEP)
    return mapping.ir.eyes[eye]


def _unit(
    places: Sequence[Place],
    by_path: dict[str, RawFile],
    mapping: Mapping,
    mapping_file: RawFile | None,
    options: dict[str, str],
) -> Unit:
    first = places[0]
    file = by_path[first.canonical]
    if mapping.labels and first.label not in mapping.labels:
        known = ", ".join(mapping.labels)
        raise bad_file(file, "unknown label code", f"one of labels, {known}", first.label, STEP)
    roles: dict[str, RawFile] = {}
    needed_for: dict[str, tuple[str, ...]] = {}
    for place in sorted(places, key=_order):
        role = place.modality if place.frame is None else f"{place.modality} {place.frame}"
        if role in roles or place.modality in roles:
            got = f"another one, {place.canonical}"
            raise bad_file(roles.get(role, file), f"{role} of {place.key}", "one file", got, STEP)
        roles[role] = by_path[place.canonical]
        needed_for[role] = (place.modality,)
    if mapping_file is not None:
        roles["mapping"] = mapping_file
        needed_for["mapping"] = tuple(sorted({place.modality for place in places}))
    # without names for the codes, the codes themselves are all that is known
    label = mapping.labels.get(first.label, f"gesture {first.label}")
    fields = {"label": label, "trial": first.trial, **options}
    if first.subject is not None:
        fields["subject"] = first.subject
    return Unit(first.key, roles, fields, needed_for)


def _order(place: Place) -> tuple[str, int, str]:
    """By frame; a file of a whole trial comes before those of single frames."""
    return place.modality, -1 if place.frame is None else place.frame, place.canonical
