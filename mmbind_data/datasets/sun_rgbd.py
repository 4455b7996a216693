"""Reader of SUN RGB-D: 10,335 indoor scenes, each one colour image, depth, and drawn polygons.

Source: Song, Lichtenberg, Xiao, CVPR 2015, and the README and toolbox of the distribution; what was
measured on the files themselves is in the descriptor next to this module.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from mmbind_data.datasets.reader import make_recording, presence_notes
from mmbind_data.datasets.registry import load_descriptor
from mmbind_data.datasets.sun_rgbd_semseg import paint, read_seg_mat
from mmbind_data.errors import RawLayoutError, suggest
from mmbind_data.raw.arrays import Variable, read_mat
from mmbind_data.raw.files import (
    RawFile,
    RawListing,
    Unit,
    bad_file,
    natural,
    nothing_found,
    read_content,
    recognise,
)
from mmbind_data.raw.images import read_image
from mmbind_data.raw.tables import read_json
from mmbind_data.spec.descriptor import Recording

NAME = "sun-rgbd"
N_SAMPLES = 10335
FARTHEST = 8.0  # metres: the toolbox takes no reading beyond
MILLIMETRE = 1e-3
SENSORS = {
    **dict.fromkeys(("NYUdata", "b3dodata"), "kv1"),
    **dict.fromkeys(("kinect2data", "align_kv2"), "kv2"),
    **dict.fromkeys(("lg", "sa", "sh", "shr"), "realsense"),
    **dict.fromkeys(("sun3ddata", "xtion_align_data"), "xtion"),
}
# the short names mean something only below realsense, or where the user points at one of them
SOURCE = (
    r"(?:NYUdata|b3dodata|kinect2data|align_kv2|sun3ddata|xtion_align_data"
    r"|(?:realsense(?:\.zip)?/|^)(?:lg|sa|shr|sh))"
)
SAMPLE_FILE = re.compile(rf"(?:.*/)?({SOURCE})(?:\.zip)?/(.+)")
READ = re.compile(
    r".+?/(?:scene\.txt|intrinsics\.txt|image/[^/]+\.jpe?g|depth(?:_bfx)?/[^/]+\.png"
    r"|annotation2Dfinal/index\.json|seg\.mat)"
)
# other parts of a sample (annotation folders hold dated copies), and of the toolbox
NOT_READ = re.compile(
    r".+/(?:fullres/.+|status/.+|extrinsics/.+"
    r"|annotation(?!2Dfinal/index\.json$)[^/]*/.+)"
)
TOOLBOX = re.compile(
    r"(?:.*/)?(?:SUNRGBDtoolbox(?:\.zip)?/(?!.*allsplit\.mat$).+|SUNRGBD(?:Meta|2Dseg)[^/]*\.mat)"
)
SPLIT_NAME = "allsplit.mat"
SPLIT = f"SUNRGBDtoolbox/traintestSUNRGBD/{SPLIT_NAME}"
NAMED = {"scene.txt": "scene", "intrinsics.txt": "intrinsics", "seg.mat": "seg"}
FOLDERS = {"image": "image", "annotation2Dfinal": "semseg"}
FROM_SEG_MAT = "scenes without usable polygons, semseg is of seg.mat"
SOURCES = {"semseg": "annotation2Dfinal", "seg": "seg.mat"}
DEPTH_FOLDERS = {"raw": "depth", "bfx": "depth_bfx"}
MODALITIES = ("image", "depth", "semseg")
ROLES = (*MODALITIES, "seg", "intrinsics", "scene", "split")
NEEDED_FOR = {
    "image": ("image", "semseg"),
    "depth": ("depth",),
    **dict.fromkeys(("semseg", "seg"), ("semseg",)),
}


def find(
    files: Sequence[RawFile], preset: str, *, depth: str = "raw", size: str = "240x320"
) -> RawListing:
    """Sort the files into one unit per folder that has image/ and scene.txt; nothing is opened.

    ``depth`` is ``raw`` (as measured, with holes) or ``bfx`` (holes filled by the dataset's
    authors); ``size`` is height x width in pixels of what is stored.

    Raises
    ------
    RawLayoutError
        No such folder, or two images (depth maps) in one folder.
    """
    known = {file.path for file in files if _is_known(file.path)}
    rest = [file for file in files if file.path not in known]
    by_path, unknown, notes = recognise(rest, _canonical)
    folders = _by_folder(by_path, {**FOLDERS, DEPTH_FOLDERS[depth]: "depth"})
    split = by_path.get(SPLIT)
    units = []
    for folder in sorted(folders, key=natural):
        present = folders[folder]
        if "image" not in present or "scene" not in present:
            continue
        if split is not None:
            present["split"] = split
        sensor, source, *scan, _ = folder.split("/")
        fields = {"sensor": sensor, "source": source, "session": "/".join(scan), "size": size}
        roles = {role: present[role] for role in ROLES if role in present}
        units.append(Unit(folder, roles, fields, NEEDED_FOR))
    if not units:
        expected = "folders such as SUNRGBD/kv2/<source>/<sample> with image/ and scene.txt"
        raise nothing_found(NAME, files, expected, "Give the folder that holds SUNRGBD.zip.")
    found = Counter(
        name for unit in units for name in {"semseg" if one == "seg" else one for one in unit.files}
    )
    notes += _notes(units, len(folders), found)
    if any(path.endswith("SUNRGBD2Dseg.mat") for path in known):
        notes.append("SUNRGBD2Dseg.mat is not read: semseg is of annotation2Dfinal, or of seg.mat")
    modalities = tuple(name for name in MODALITIES if found[name])
    return RawListing(tuple(units), tuple(unknown), tuple(notes), modalities)


def read(unit: Unit, modalities: Sequence[str], preset: str) -> Iterator[Recording]:
    """Read the one scene of a unit.

    Yields
    ------
    Recording
        image (1, H, W, 3), 8-bit values; depth (1, H, W) in m, 0 without reading, at most 8;
        semseg (1, H, W), class numbers 1..37, 0 for the rest. All float32 and of the same centred
        cut-out. A modality whose file is missing is absent. Nothing is yielded for a scene of a
        label that the preset leaves out.

    Raises
    ------
    RawLayoutError
        A file is broken, the label unknown, or depth and image differ in size.
    """
    descriptor = load_descriptor(NAME)
    wanted = descriptor.presets[preset].labels
    label = _label(unit.files["scene"], descriptor.labels)
    if wanted is not None and label not in wanted:
        return
    counts: Counter[str] = Counter()
    pixels, drawn = _decode(unit, modalities, counts)
    if not pixels.keys() & set(modalities):
        return  # a row without a single stream would say nothing
    height, width = next(iter(pixels.values())).shape[:2]
    rows, columns = (int(side) for side in unit.fields["size"].split("x"))
    target = (rows, columns)
    streams = {name: _reduced(name, pixels[name], target) for name in modalities if name in pixels}
    if "depth" in streams and streams["depth"].max() > FARTHEST:
        streams["depth"] = np.minimum(streams["depth"], np.float32(FARTHEST))
        counts["depth maps with readings beyond 8 m, set to 8 m"] += 1
    used = [drawn if name == "semseg" else name for name in MODALITIES if name in pixels]
    used += [role for role in ("intrinsics", "scene", "split") if role in unit.files]
    extra = {"sensor": unit.fields["sensor"], "source": unit.fields["source"]}
    if "semseg" in streams:
        extra["semseg_source"] = SOURCES[drawn]
    extra |= {"raw_size": f"{height}x{width}"} | _intrinsics(unit) | _official_half(unit)
    yield make_recording(
        unit,
        streams,
        [unit.files[role] for role in used],
        label=label,
        session=unit.fields["session"] or None,
        extra=extra,
        counts=counts,
    )


def decode_depth(raw: np.ndarray) -> np.ndarray:
    """Metres of a stored depth map: uint16 millimetres, rotated left by 3 bits in 16.

    The result is float32 of the same shape; 0 without reading, not yet limited.

    >>> decode_depth(np.array([0, 20200, 3], dtype=np.uint16)).tolist()[:2]
    [0.0, 2.5250000953674316]
    """
    millimetres = (raw >> 3) | (raw << 13)  # uint16: what is shifted out is gone
    return (MILLIMETRE * millimetres.astype(np.float64)).astype(np.float32)


def nearest(values: np.ndarray, target: tuple[int, int]) -> np.ndarray:
    """Pick, for each target pixel, the raw pixel under its centre; nothing is blended.

    The largest centred cut-out of the target's aspect ratio is taken. In whole numbers, because
    rounding would move some pixels by one.
    """
    (height, width), (rows, columns) = values.shape[:2], target
    n, d = _scale((height, width), target)
    row = (height * d + (2 * np.arange(rows) + 1 - rows) * n) // (2 * d)
    column = (width * d + (2 * np.arange(columns) + 1 - columns) * n) // (2 * d)
    return np.asarray(values[row[:, np.newaxis], column])


def _reduced(name: str, values: np.ndarray, target: tuple[int, int]) -> np.ndarray:
    """One frame of a modality at the target size, float32, (1, H, W) or (1, H, W, 3)."""
    from PIL import Image

    if name == "depth":
        small = decode_depth(nearest(values, target))
    elif name == "semseg":
        small = nearest(values, target)
    else:
        height, width = values.shape[:2]
        n, d = _scale((height, width), target)
        y, x = target[0] * n / d, target[1] * n / d  # sides of the cut-out
        box = ((width - x) / 2, (height - y) / 2, (width + x) / 2, (height + y) / 2)
        picture = Image.fromarray(values)
        # Pillow's bilinear widens with the reduction: every raw pixel has its share
        small = np.asarray(picture.resize(target[::-1], Image.Resampling.BILINEAR, box))
    return np.ascontiguousarray(small[np.newaxis], dtype=np.float32)


def _scale(shape: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """Raw pixels per stored pixel, as a fraction."""
    (height, width), (rows, columns) = shape, target
    return (height, rows) if height * columns <= width * rows else (width, columns)


def _decode(
    unit: Unit, modalities: Sequence[str], counts: Counter[str]
) -> tuple[dict[str, np.ndarray], str]:
    """Pixels by modality, all of one size, and the role of the file that semseg is from."""
    pixels: dict[str, np.ndarray] = {}
    if "image" in unit.files and {"image", "semseg"} & set(modalities):
        pixels["image"] = read_image(unit.files["image"], {"RGB": "uint8"})
    if "depth" in unit.files and "depth" in modalities:
        file = unit.files["depth"]
        pixels["depth"] = read_image(file, {"I;16": "uint16"})
        sizes = [" x ".join(map(str, one.shape[:2])) for one in pixels.values()]
        if sizes[0] != sizes[-1]:
            raise bad_file(file, "another size", f"the size of the image, {sizes[0]}", sizes[-1])
    if "semseg" in modalities:
        height, width = pixels["image"].shape[:2]
        for role, draw in (("semseg", _painted), ("seg", _labelled)):
            if role in unit.files:
                drawn = draw(unit.files[role], (height, width), counts)
                if drawn is not None:
                    return {**pixels, "semseg": drawn}, role
    return pixels, ""


def _painted(file: RawFile, shape: tuple[int, int], counts: Counter[str]) -> np.ndarray | None:
    """Class numbers from the polygons; some were distributed broken, and that is counted."""
    try:
        annotation = read_json(replace(file, content=file.read()))
    except RawLayoutError:
        counts["annotations that are no JSON"] += 1
        return None
    return paint(annotation, shape, counts)


def _labelled(file: RawFile, shape: tuple[int, int], counts: Counter[str]) -> np.ndarray | None:
    """Class numbers from seg.mat, where there are no polygons; counted either way."""
    try:
        found = read_seg_mat(replace(file, content=file.read()), shape)
    except RawLayoutError:
        counts["seg.mat of another form: no semseg"] += 1
        return None
    kind = "seg.mat without a named pixel: no semseg" if found is None else FROM_SEG_MAT
    counts[kind] += 1
    return found


def _label(file: RawFile, labels: Mapping[str, str]) -> str:
    """The scene's label; the file has no newline, or one."""
    text = read_content(file).decode("utf-8-sig", errors="replace").strip()
    if text not in labels:
        step = suggest(text, labels)
        raise bad_file(file, "unknown label", "one of the 45 labels", repr(text[:50]), step)
    return labels[text]


def _intrinsics(unit: Unit) -> dict[str, str]:
    """Focal lengths and centre of the raw image in pixels, as text; 3 x 3 numbers on any lines."""
    file = unit.files.get("intrinsics")
    if file is None:
        return {}
    words = read_content(file).split()
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise bad_file(file, "no number", "9 numbers", str(error)) from error
    if len(numbers) != 9 or not all(map(math.isfinite, numbers)):
        raise bad_file(file, "another matrix", "9 finite numbers", f"{len(numbers)} numbers")
    return {name: str(numbers[i]) for name, i in (("fx", 0), ("fy", 4), ("cx", 2), ("cy", 5))}


def _official_half(unit: Unit) -> dict[str, str]:
    """``split``: train or test, where the official lists are at hand and name the scene."""
    file = unit.files.get("split")
    if file is None:
        return {}
    half = official_halves(file, file.read()).get(unit.key)
    return {} if half is None else {"split": half}


# every unit asks for the same file: parsing takes longer than reading the scene
@lru_cache(maxsize=1)
def official_halves(file: RawFile, content: bytes) -> dict[str, str]:
    """Sample folder -> train or test, from the absolute paths of allsplit.mat."""
    halves: dict[str, str] = {}
    for name, half in (("alltrain", "train"), ("alltest", "test")):
        cells = read_mat(replace(file, content=content), Variable(name, (1, None), "O"))
        for cell in cells.ravel():
            path = str(cell.item()) if isinstance(cell, np.ndarray) and cell.size == 1 else ""
            key = _sample_path("/".join(part for part in path.split("/") if part))
            if key is None:
                raise bad_file(file, f"an entry of {name}", "the path of a sample", repr(path))
            if halves.setdefault(key, half) != half:
                raise bad_file(file, "train and test overlap", "each sample once", key)
    return halves


def _sample_path(path: str) -> str | None:
    """The part of a path that is the same on every machine: sensor/source/..."""
    match = SAMPLE_FILE.fullmatch(path)
    if match is None:
        return None
    source = match[1].rsplit("/", 1)[-1]
    return f"{SENSORS[source]}/{source}/{match[2]}"


def _canonical(path: str) -> str | None:
    if path.endswith(f"/{SPLIT_NAME}"):
        return SPLIT
    inner = _sample_path(path)
    return inner if inner is not None and READ.fullmatch(inner) else None


def _is_known(path: str) -> bool:
    """Whether a file is a part of the distribution that no modality is read from."""
    in_sample = NOT_READ.fullmatch(path) and _sample_path(path) is not None
    return bool(TOOLBOX.fullmatch(path) or in_sample)


def _by_folder(
    by_path: Mapping[str, RawFile], roles: Mapping[str, str]
) -> dict[str, dict[str, RawFile]]:
    """Sample folder -> role -> file."""
    folders: dict[str, dict[str, RawFile]] = {}
    for path, file in by_path.items():
        folder, name = path.rsplit("/", 1)
        role = NAMED.get(name)
        if role is None:
            folder, inner = folder.rsplit("/", 1)
            role = roles.get(inner)
        if role is not None:
            first = folders.setdefault(folder, {}).setdefault(role, file)
            if first is not file:
                step = "Remove the one that does not belong to the official archive."
                expected, got = f"one {role} file in a sample", f"{first.path} too"
                raise bad_file(file, "a second file", expected, got, step)
    return folders


def _notes(units: Sequence[Unit], n_folders: int, found: Mapping[str, int]) -> list[str]:
    sensors = Counter(unit.fields["sensor"] for unit in units)
    text = ", ".join(f"{name} {sensors[name]}" for name in sorted(sensors))
    notes = [f"{len(units)} of {N_SAMPLES} samples found ({text})"]
    if n_folders > len(units):
        notes.append(f"folders without image or scene.txt, left aside: {n_folders - len(units)}")
    notes += presence_notes({one: found[one] for one in ("depth", "semseg")}, len(units), "samples")
    if "split" not in units[0].files:
        notes.append(f"{SPLIT_NAME} of SUNRGBDtoolbox.zip not found: no official train and test")
    return notes
