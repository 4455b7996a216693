"""Writes a small SUN RGB-D in its authentic raw layout, filled with coded ramps."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from mmbind_data.spec.descriptor import Recording
from rawdata.pictures import png
from rawdata.truth import Truth, add_macos_junk, reshape

FOLDERS = ("SUNRGBD", "SUNRGBDtoolbox")
PAPER = ("bedroom", "furniture_store", "classroom", "bathroom", "rest_space")
SPLIT = "SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat"
SIZE = (240, 320)
# class numbers, counted by hand in the official list
NUMBERS = {"wall": 1, "chair": 5, "books": 23, "bag": 37, "ottoman": 0}


@dataclass(frozen=True)
class Scene:
    """One sample folder: raw size, and what is odd about it."""

    folder: str
    label: str
    shape: tuple[int, int] = SIZE
    stem: str = "0000144"
    depth_stem: str = "0000144"
    lacks: tuple[str, ...] = ()
    oddity: str = ""
    ending: str = ""  # of scene.txt


# in natural order; the sizes are one, and two, raw pixels per stored one, with and without cut
SCENES = (
    Scene("kv1/NYUdata/NYU0001", "bedroom", stem="NYU0001", depth_stem="NYU0001"),
    Scene("kv1/NYUdata/NYU0002", "bathroom", (250, 320), ending="\n"),
    Scene("kv1/NYUdata/NYU0010", "office"),
    Scene("kv1/b3dodata/img_0063", "bedroom", stem="img_0063", depth_stem="img_0063_abs"),
    Scene("kv1/b3dodata/img_0064", "bedroom", lacks=("annotation2Dfinal",)),  # seg.mat instead
    Scene("kv2/align_kv2/2014-12-18_11-31-54_260595134347", "classroom", (480, 640)),
    Scene("kv2/kinect2data/000002_2014-05-26_14-23-37_rgbf000103-resize", "furniture_store"),
    Scene("kv2/kinect2data/000003_2014-05-26_14-24-42_rgbf000040-resize", "furniture_store",
          (240, 333)),
    Scene("kv2/kinect2data/000008_2014-05-26_14-30-06_rgbf000060-resize", "furniture_store",
          oddity="cut off"),
    Scene("realsense/lg/2014_10_24-09_14_34-1311000073", "rest_space", lacks=("depth",)),
    Scene("realsense/sa/2014_10_21-15_21_11-1311000073", "rest_space", oddity="no polygon"),
    Scene("realsense/sh/2014_10_21-11_33_55-1311000041", "idk"),
    Scene("realsense/shr/2014_12_18-11_33_49-1311000073", "rest_space", lacks=("depth_bfx",)),
    Scene("xtion/sun3ddata/mit_32_d507/d507_1/0000008-000000234612", "classroom",
          stem="0000008-000000234612", depth_stem="0000009-000000266978"),
    Scene("xtion/sun3ddata/mit_32_d507/d507_1/0000844-000028253988", "classroom"),
    Scene("xtion/sun3ddata/mit_32_d507/d507_2/0000008-000000234612", "bathroom", oddity="far"),
    Scene("xtion/xtion_align_data/2014_12_18_11_31_55", "bathroom"),
)  # fmt: skip


def write(
    root: Path,
    *,
    rng: np.random.Generator,
    form: str = "folders",
    scenes: Sequence[Scene] = SCENES,
    split: bool = True,
    depth: str = "raw",
) -> Truth:
    """Write the raw files; each value tells its scene, row, column and channel.

    ``depth`` tells for which of the two depth maps the truth is.
    """
    recordings = []
    for number, scene in enumerate(scenes):
        folder = root / "SUNRGBD" / scene.folder
        halves = ("train", "test")[int(rng.integers(2))] if split else None
        recordings.append(_write_scene(folder, number, scene, depth, halves))
    (root / "SUNRGBDtoolbox" / "Metadata").mkdir(parents=True)
    (root / "SUNRGBDtoolbox" / "Metadata" / "SUNRGBD2Dseg.mat").write_bytes(b"MATLAB 7.3")
    (root / "SUNRGBDtoolbox" / "demo.m").write_text("% demo\n")
    if split:
        keys = {half: [one.key for one in recordings if one.extra["split"] == half]
                for half in ("train", "test")}  # fmt: skip
        write_split(root / SPLIT, keys["train"], keys["test"])
    for name in FOLDERS:
        add_macos_junk(root / name)
    reshape(root, FOLDERS, form)
    paper = tuple(one for one in recordings if one.label in PAPER)
    return Truth("sun-rgbd", root, {"default": tuple(recordings), "paper": paper})


def write_split(path: Path, train: Sequence[str], test: Sequence[str]) -> None:
    """Cell arrays of absolute paths, some with a slash too many, and samples that are not there."""
    prefix = "/n/fs/sun3d/data/SUNRGBD/"
    cells = {}
    for name, keys, other in (("alltrain", train, "NYU0901"), ("alltest", test, "NYU0902")):
        paths = [f"{prefix}{key}{'/' * (index % 3)}" for index, key in enumerate(keys)]
        paths.append(f"{prefix}kv1//NYUdata/{other}/")
        cells[name] = np.array([*paths, None], dtype=object)[np.newaxis, :-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, cells, do_compression=True)
    # scipy writes the time of day into the free text of the header
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + path.read_bytes()[116:])


def _write_scene(
    folder: Path, number: int, scene: Scene, depth: str, half: str | None
) -> Recording:
    files: dict[str, bytes] = {}
    image = image_ramp(number, scene.shape)
    files[f"image/{scene.stem}.jpg"] = content = jpeg(image)
    with Image.open(io.BytesIO(content)) as opened:
        decoded = np.asarray(opened)
    assert np.abs(decoded.astype(int) - image).max() <= 2  # the code survives
    millimetres = depth_ramp(number, scene.shape, far=scene.oddity == "far")
    filled = np.where(millimetres, millimetres, 700)
    files[f"depth/{scene.depth_stem}.png"] = png(rotated(millimetres))
    files[f"depth_bfx/{scene.depth_stem}.png"] = png(rotated(filled))
    text, drawn, counts = _annotation(number, scene)
    files["annotation2Dfinal/index.json"] = text
    fx = 500.5 + number
    words = [f"{x:.6f}" for x in (fx, 0, 277.25, 0, fx + 1, 215.5, 0, 0, 1)]
    lines = [" ".join(words)] if number % 2 else [" ".join(words[i : i + 3]) for i in (0, 3, 6)]
    files["intrinsics.txt"] = ("\n".join(lines) + " \n").encode()
    files["scene.txt"] = (scene.label + scene.ending).encode()
    files |= _other_files(scene.stem)
    if scene.oddity != "no polygon":
        files["seg.mat"] = seg_mat(*seg_ramp(scene.shape), column=number % 2 == 1)
    files = {name: one for name, one in files.items() if name.split("/")[0] not in scene.lacks}
    for name, one in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(one)

    streams = {"image": stored_image(decoded)}
    depth_folder = "depth" if depth == "raw" else "depth_bfx"
    used = [f"image/{scene.stem}.jpg"]
    if depth_folder not in scene.lacks:
        chosen = picked(millimetres if depth == "raw" else filled)
        streams["depth"] = np.minimum(chosen, 8000) / 1000
        used.append(f"{depth_folder}/{scene.depth_stem}.png")
        if chosen.max() > 8000:
            counts["depth maps with readings beyond 8 m, set to 8 m"] = 1
    drawn_in = "annotation2Dfinal/index.json"
    if drawn is None and "seg.mat" in files:
        drawn_in, drawn = "seg.mat", seg_classes(scene.shape)
        counts["scenes without usable polygons, semseg is of seg.mat"] = 1
    if drawn is not None:
        streams["semseg"] = picked(drawn)
        used.append(drawn_in)
    sensor, source, *scan = scene.folder.split("/")[:-1]
    extra = {"sensor": sensor, "source": source, "raw_size": "{}x{}".format(*scene.shape)}
    if drawn is not None:
        extra["semseg_source"] = drawn_in.split("/")[0]
    extra |= {"fx": str(fx), "fy": str(fx + 1), "cx": "277.25", "cy": "215.5"}
    paths = [f"{scene.folder}/{name}" for name in (*used, "intrinsics.txt", "scene.txt")]
    return Recording(
        key=scene.folder,
        subject=None,
        label=scene.label,
        streams={name: one[np.newaxis].astype(np.float32) for name, one in streams.items()},
        raw_files=(*paths, SPLIT) if half else tuple(paths),
        session="/".join(scan) or None,
        extra={**extra, "split": half} if half else extra,
        counts=counts,
    )


def _other_files(stem: str) -> dict[str, bytes]:
    """What a sample folder holds besides, with the names that surprise."""
    names = [f"fullres/{stem}.jpg", f"fullres/{stem}.png", "fullres/intrinsics.txt"]
    names += ["extrinsics/20140915210114.txt", "extrinsics/20150115210114.txt"]
    names += ["annotation/index.json", "annotation2D3D/index.json_20150712014949"]
    names += ["annotation3Dfinal/index.json", "annotation3Dlayout/index.json"]
    names += ["status/twoDstatus.json", "status/twoDstatus.json_2015-01-04 22:58:38.799018"]
    return dict.fromkeys(names, b"not read")


def seg_ramp(shape: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    """Places in a list of names, from 1, by column and row; 0 in a corner."""
    rows, columns = np.indices(shape)
    places = 1 + (columns // 50 + rows // 90) % 4
    places[:40, :30] = 0
    return places.astype(np.uint8), ["bag ", "ottoman", "wall", "Floor mat:occluded"]


def seg_classes(shape: tuple[int, int]) -> np.ndarray:
    """Class numbers of `seg_ramp`, counted by hand in the official list."""
    return np.asarray(np.array([0, 37, 0, 1, 20], dtype=np.uint8)[seg_ramp(shape)[0]])


def seg_mat(places: np.ndarray, names: Sequence[str], *, column: bool = False) -> bytes:
    """A seg.mat: of some sensors the names are a row, of others a column."""
    cells = np.array(names, dtype=object)
    stream = io.BytesIO()
    cells = cells[:, np.newaxis] if column else cells[np.newaxis]
    scipy.io.savemat(stream, {"names": cells, "seglabel": places}, do_compression=True)
    # scipy writes the time of day into the free text of the header
    return b"MATLAB 5.0 MAT-file".ljust(116) + stream.getvalue()[116:]


def image_ramp(number: int, shape: tuple[int, int]) -> np.ndarray:
    """(height, width, 3) uint8, red tells the column, green the row, blue the scene.

    Constant over JPEG's squares of 8 pixels, so that compression leaves it (nearly) as it is.
    """
    rows, columns = np.indices(shape) // 8
    return np.stack([60 + 2 * columns, 50 + 2 * rows, 90 + 5 * number + 0 * rows], axis=-1).astype(
        np.uint8
    )


def depth_ramp(number: int, shape: tuple[int, int], *, far: bool = False) -> np.ndarray:
    """(height, width) millimetres; a hole of odd borders; ``far`` reaches beyond 8 m."""
    rows, columns = np.indices(shape)
    millimetres = 900 + 100 * number + 3 * rows + columns + (6000 if far else 0)
    millimetres[31:97, 13:58] = 0
    return np.asarray(millimetres)


def rotated(millimetres: np.ndarray) -> np.ndarray:
    """As stored: three bits to the left, what leaves on the left comes in on the right."""
    shifted = millimetres.astype(np.uint32) * 8
    return np.asarray(shifted % 65536 + shifted // 65536, dtype=np.uint16)


def jpeg(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=100, subsampling=0)
    return stream.getvalue()


def picked(values: np.ndarray) -> np.ndarray:
    """The cut-out at the stored size, raw pixels at whole distances: 1, or 2 (the second)."""
    step = 2 if values.shape[0] == 480 else 1
    top = (values.shape[0] - step * SIZE[0]) // 2
    # of an odd rest, the centres of the stored pixels lie on borders: the pixel to the right
    left = (values.shape[1] - step * SIZE[1] + 1) // 2
    first = step - 1
    kept = values[top + first :: step, left + first :: step]
    return np.asarray(kept[: SIZE[0], : SIZE[1]])


def stored_image(decoded: np.ndarray) -> np.ndarray:
    """What bilinear reduction makes of it, columns first, each pass rounded to 8 bits."""
    columns = _weights(decoded.shape[1], SIZE[1], decoded.shape[0] == 480)
    rows = _weights(decoded.shape[0], SIZE[0], decoded.shape[0] == 480)
    narrow = np.floor(np.tensordot(decoded, columns, (1, 1)) + 0.5)  # rows, colours, columns
    return np.asarray(np.floor(np.tensordot(rows, narrow, (1, 0)) + 0.5).swapaxes(1, 2))


@lru_cache
def _weights(n_raw: int, n: int, halved: bool) -> np.ndarray:
    """Share of every raw pixel in every stored one: a triangle two stored pixels wide."""
    step = 2 if halved else 1
    centres = (n_raw - step * n) / 2 + step * (np.arange(n) + 0.5)
    distances = np.abs(np.arange(n_raw) + 0.5 - centres[:, np.newaxis])
    weights = np.maximum(0.0, 1 - distances / step)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _annotation(number: int, scene: Scene) -> tuple[bytes, np.ndarray | None, dict[str, int]]:
    """Text of index.json, the class numbers that it draws, and the remarks on it."""
    if "annotation2Dfinal" in scene.lacks:
        return b"", None, {}
    height, width = scene.shape
    # first and last column, first and last row, object; not sorted by area
    shift = number % 7
    boxes = [
        (100 + shift, 139, 60, 99, 2),  # books, drawn before the ottoman that lies around them
        (-37, 90, -40, 80 + shift, 0),  # wall, beyond the upper left corner
        (80, 159, 50, 120, 3),  # ottoman: none of the classes
        (150, width + 50, 200, height + 9, 1),  # chair
        (155, width - 40, 210, 220, 5),  # bag, in the chair
    ]
    objects = [{"name": "wall"}, {"name": "Chair:occluded"}, {"name": "books"},
               {"name": "ottoman"}, None, {"name": "bag "}]  # fmt: skip
    polygons: list[object] = [
        {"x": [a, b, b, a], "y": [c, c, d, d], "object": index} for a, b, c, d, index in boxes
    ]
    drawn = np.zeros(scene.shape, dtype=np.uint8)
    names = ("wall", "chair", "books", "ottoman", "", "bag")
    for a, b, c, d, index in sorted(boxes, key=lambda one: (one[0] - one[1]) * (one[3] - one[2])):
        drawn[max(c, 0) : d + 1, max(a, 0) : b + 1] = NUMBERS[names[index]]
    polygons += [
        {"x": [0, 300, 300], "y": [0, 0, 200], "object": 4},  # its object was deleted
        {"x": 17, "y": 4, "object": 0},  # a point, as MATLAB writes it
        {"x": [5, 90, 175], "y": [5, 5, 5], "object": 1},  # a line
    ]
    counts = {
        "polygons left out of semseg: no object, or no area": 3,
        "polygons of other things than the 37 classes, painted 0": 1,
    }
    document = {"date": "", "name": scene.folder, "frames": [{"polygon": polygons}]}
    text = json.dumps({**document, "objects": objects, "fileList": [f"{scene.stem}.jpg"]}).encode()
    if scene.oddity == "cut off":
        return text[:-40], None, {"annotations that are no JSON": 1}
    if scene.oddity == "no polygon":
        text = json.dumps({**document, "frames": [{}], "objects": [None]}).encode()
        return text, None, {"annotations without a usable polygon": 1}
    return text, drawn, counts
