"""Writes small DHG-14/28 and SHREC'17 trees in their authentic layouts, filled with coded ramps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mmbind_data.spec.descriptor import Recording
from rawdata.truth import Truth, add_macos_junk, reshape

FOLDERS = {"dhg": "DHG2016", "shrec17": "HandGestureDataset_SHREC2017"}
# gestures that are written, in natural order
LABELS = {1: "grab", 2: "tap", 12: "swipe plus", 13: "swipe v"}
FINGERS = {1: "one finger", 2: "whole hand"}
Place = tuple[str, int, int, int, int]  # release, gesture, finger, subject, trial
SEQUENCES: tuple[Place, ...] = (
    *(("dhg", gesture, 1, subject, 1) for gesture in (1, 2, 13) for subject in (1, 12)),
    ("dhg", 13, 2, 1, 2),
    ("dhg", 13, 2, 1, 5),
    *(("shrec17", gesture, 2, subject, 1) for gesture in (1, 12) for subject in (1, 28)),
    ("shrec17", 12, 2, 28, 13),
    ("shrec17", 13, 1, 2, 1),
)
NO_SKELETON: tuple[Place, ...] = (("dhg", 2, 1, 12, 1),)
DEPTH: tuple[Place, ...] = (
    ("dhg", 1, 1, 1, 1),
    ("dhg", 2, 1, 12, 1),
    ("shrec17", 1, 2, 1, 1),
    ("shrec17", 13, 1, 2, 1),
)
# sequences that no list names (one beside another whose trial begins with the same digit), and
# one whose listed end is behind its last frame
UNLISTED: tuple[Place, ...] = (("dhg", 13, 2, 1, 2), ("shrec17", 12, 2, 28, 1))
OVERRUN: tuple[Place, ...] = (("dhg", 13, 2, 1, 5),)
REMARKS = {
    "unlisted": "sequences without a row in the truncation list, left whole",
    "overrun": "sequences whose listed end lies behind the last frame, read to that frame",
    "neither": "sequences in neither split list",
}


def write(
    root: Path,
    *,
    rng: np.random.Generator,
    form: str = "folders",
    sequences: Sequence[Place] = SEQUENCES,
    depth: Sequence[Place] = DEPTH,
    lists: bool = True,
) -> Truth:
    """Write the raw files; each value tells its sequence, frame, joint and coordinate."""
    lines: dict[str, list[str]] = {"truncation": [], "train": [], "test": []}
    default, fingers = [], []
    for number, place in enumerate(sequences):
        release, gesture, finger, subject, trial = place
        # eleven and more depth images: their order as texts is not that of their numbers
        n_frames = int(rng.integers(11, 14) if place in depth else rng.integers(20, 40))
        streams, files = {}, []
        folder = root / FOLDERS[release] / _folder(place)
        folder.mkdir(parents=True)
        first, end = (2, n_frames - 3) if release == "dhg" else (0, n_frames)
        if place in UNLISTED or not lists:
            first, end = 0, n_frames
        if place in OVERRUN and lists:
            end = n_frames
        if place not in NO_SKELETON:
            joints = _joints(number, n_frames)
            files.append(folder / f"skeleton{'s' if release == 'shrec17' else ''}_world.txt")
            _write_numbers(files[0], joints.reshape(n_frames, -1), release)
            streams["skeleton"] = joints[first:end].astype(np.float32)
        if place in depth:
            images, reduced = _images(number, n_frames)
            names = [folder / _image_name(release, index) for index in range(n_frames)]
            for name, image in zip(names, images, strict=True):
                Image.fromarray(image).save(name)
            files += names[first:end]
            streams["depth"] = reduced[first:end]
        _write_others(folder, release, n_frames)
        split = "test" if subject == 28 else "train"
        if place not in UNLISTED:
            line = [gesture, finger, subject, trial]
            if release == "dhg":
                line += [first, n_frames + 4 if place in OVERRUN else end - 1]
                lines["truncation"].append(" ".join(map(str, line)))
            else:
                line += [gesture, 2 * (gesture - 1) + finger, n_frames]
                lines[split].append(" ".join(map(str, line)))
        recording = Recording(
            key=f"{release}/{_folder(place)}",
            subject=str(subject) if release == "dhg" else f"shrec17_{subject}",
            label=LABELS[gesture],
            streams=streams,
            raw_files=(
                *(path.relative_to(root).as_posix() for path in files),
                *(_list_names(release) if lists else ()),
            ),
            trial=str(trial),
            extra={
                "release": release,
                "fingers": FINGERS[finger],
                "label14": str(gesture),
                "label28_dhg": str(gesture if finger == 1 else gesture + 14),
                "label28_shrec17": str(2 * gesture - (1 if finger == 1 else 0)),
                **_split(place, split, lists=lists),
            },
            counts=_counts(place) if lists else {},
        )
        default.append(recording)
        label = f"{LABELS[gesture]}, {FINGERS[finger]}"
        fingers.append(Recording(**{**recording.__dict__, "label": label}))
    releases = [name for name in FOLDERS if any(place[0] == name for place in sequences)]
    if lists:
        _write_lists(root, releases, lines)
    for release in releases:
        add_macos_junk(root / FOLDERS[release])
    reshape(root, tuple(FOLDERS[release] for release in releases), form)
    return Truth("dhg", root, {"default": tuple(default), "fingers": tuple(fingers)})


def _folder(place: Place) -> str:
    _, gesture, finger, subject, trial = place
    return f"gesture_{gesture}/finger_{finger}/subject_{subject}/essai_{trial}"


def _image_name(release: str, index: int) -> str:
    return f"depth_{index + 1}.png" if release == "dhg" else f"{index}_depth.png"


def _list_names(release: str) -> list[str]:
    names = {
        "dhg": ["informations_troncage_sequences.txt"],
        "shrec17": ["train_gestures.txt", "test_gestures.txt"],
    }
    return [f"{FOLDERS[release]}/{name}" for name in names[release]]


def _split(place: Place, split: str, *, lists: bool) -> dict[str, str]:
    listed = lists and place[0] == "shrec17" and place not in UNLISTED
    return {"split": split} if listed else {}


def _counts(place: Place) -> dict[str, int]:
    if place in UNLISTED:
        return {REMARKS["unlisted" if place[0] == "dhg" else "neither"]: 1}
    return {REMARKS["overrun"]: 1} if place in OVERRUN else {}


def _joints(number: int, n_frames: int) -> np.ndarray:
    """(n_frames, 22, 3) metres."""
    frame, joint, axis = np.ogrid[:n_frames, :22, :3]
    return 0.1 + 0.05 * number + 2e-4 * frame + 2e-3 * joint - 0.2 * axis


def _images(number: int, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 480, 640) uint16 mm and what is left of it: (n, 60, 80) float32 m.

    Squares of constant distance that tell number, frame, row and column, on no background.
    """
    frame, row, column = np.ogrid[:n_frames, :60, :80]
    squares = (300 + 40 * number + 3 * frame + 2 * row + 1 * column).astype(np.uint16)
    squares[:, :20] = 0
    squares[:, :, 60:] = 0
    images = squares.repeat(8, axis=1).repeat(8, axis=2)
    reduced = squares / 1000
    images[:, 160:168, 0:4] = 0  # half of the pixels: just enough readings
    images[:, 160:168, 8:13] = 0  # three of eight columns: too few
    images[:, 168:172, 0:8] += 6  # a mean of two distances
    reduced[:, 20, 1] = 0
    reduced[:, 21, 0] += 0.003
    return images, reduced.astype(np.float32)


def _write_numbers(path: Path, values: np.ndarray, release: str) -> None:
    # SHREC'17 has no blank at the line's end; for the other release both must do
    end = " \n" if release == "dhg" else "\n"
    lines = (" ".join(f"{value:.8g}" for value in row) for row in values)
    path.write_bytes("".join(line + end for line in lines).encode())


def _write_others(folder: Path, release: str, n_frames: int) -> None:
    plural = "s" if release == "shrec17" else ""
    (folder / f"skeleton{plural}_image.txt").write_text("1 2\n" * n_frames)
    (folder / f"general_information{plural}.txt").write_text("0 1 2 3 4\n" * n_frames)


def _write_lists(root: Path, releases: Sequence[str], lines: dict[str, list[str]]) -> None:
    texts = {name: "\n".join(rows) + "\n" for name, rows in lines.items()}
    for release in releases:
        folder = root / FOLDERS[release]
        if release == "dhg":
            path = folder / "informations_troncage_sequences.txt"
            path.write_bytes(texts["truncation"].replace("\n", "\r\n").encode())
        else:
            for split in ("train", "test"):
                (folder / f"{split}_gestures.txt").write_bytes(texts[split].encode())
