"""GR4DHCI: the assumed layout, layouts told by a mapping, bad files. No real byte is known."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rawdata import gr4dhci as raw
from rawdata.compare import assert_same, read_all, stream
from rawdata.content import DAMAGES, Damage, held, npy
from rawdata.pictures import png
from rawdata.truth import Truth

from mmbind_data.datasets import gr4dhci
from mmbind_data.datasets.gr4dhci_mapping import (
    FILE,
    InfraredFiles,
    Mapping,
    SkeletonFiles,
    load_mapping,
)
from mmbind_data.datasets.registry import load_descriptor
from mmbind_data.errors import RawLayoutError
from mmbind_data.raw.files import RawListing, Unit, scan
from mmbind_data.spec.descriptor import Recording

BOTH = ("skeleton", "ir")
SAMPLE = "(?P<subject>[A-Z])/(?P<label>[a-z]+)_(?P<trial>[0-9]+)"


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """In the assumed layout; not to be changed."""
    return raw.write(tmp_path_factory.mktemp("gr4dhci") / "raw", rng=np.random.default_rng(3))


def find(root: Path, **options: str) -> RawListing:
    return gr4dhci.find(scan(root), "default", **options)


def read_unit(unit: Unit, *modalities: str) -> Recording:
    return next(gr4dhci.read(unit, modalities or BOTH, "default"))


def told(root: Path, mapping: dict[str, Any], files: dict[str, bytes]) -> Path:
    """A raw folder that holds these files and a mapping."""
    root.mkdir(parents=True, exist_ok=True)
    (root / FILE).write_text(json.dumps(mapping))
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


# the assumed layout


def test_samples_are_found_by_the_assumed_names(truth: Truth) -> None:
    listing = find(truth.root)
    assert [unit.key for unit in listing.units][:3] == ["1/1/1", "1/1/2", "1/2/1"]
    assert listing.units[-1].key == "10/11/2"
    assert listing.notes == (
        "18 of 7339 samples found (3 subjects)",
        "skeleton found for 17 of these 18 samples",
        "ir found for 17 of these 18 samples",
        "no gr4dhci-mapping.json: files are taken to be named and filled as assumed",
    )
    assert listing.units[0].fields == {
        "subject": "1",
        "label": "gesture 1",
        "trial": "1",
        "eye": "left",
        "ir_size": "60x80",
    }


def test_frames_are_in_the_order_of_their_numbers(truth: Truth) -> None:
    unit = find(truth.root).units[0]
    numbers = [int(role.split()[1]) for role in unit.files if role.startswith("ir")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 9


def test_only_what_is_asked_for_is_read(truth: Truth) -> None:
    unit = find(truth.root).units[0]
    assert list(unit.narrowed(["skeleton"]).files) == ["skeleton"]
    assert all(role.startswith("ir ") for role in unit.narrowed(["ir"]).files)


def test_sample_without_a_modality_lacks_the_key(truth: Truth) -> None:
    units = {unit.key: unit for unit in find(truth.root).units}
    assert list(read_unit(units["1/2/1"]).streams) == ["skeleton"]
    assert list(read_unit(units["10/1/2"]).streams) == ["ir"]
    assert list(gr4dhci.read(units["1/2/1"], ["ir"], "default")) == []


def test_the_other_eye_can_be_asked_for(truth: Truth) -> None:
    left, right = find(truth.root).units[0], find(truth.root, eye="right").units[0]
    got = stream(read_unit(right), "ir")
    np.testing.assert_allclose(got, 255 - stream(read_unit(left), "ir"), rtol=1e-6)
    assert all("right_" in file.path for role, file in right.files.items() if role != "skeleton")


@pytest.mark.parametrize("size", ["120x160", "30x40", "112x112", "1x1"])
def test_size_of_images_can_be_asked_for(truth: Truth, size: str) -> None:
    unit = find(truth.root, ir_size=size).units[0]
    height, width = (int(side) for side in size.split("x"))
    got = stream(read_unit(unit), "ir")
    assert got.shape[1:] == (height, width)
    whole = raw.images(0, len(got)).astype(float)
    np.testing.assert_allclose(got.mean(axis=(1, 2)), whole.mean(axis=(1, 2)), rtol=1e-5)
    if size == "120x160":
        np.testing.assert_allclose(got, whole, rtol=1e-6)


def test_missing_frame_numbers_are_counted(tmp_path: Path) -> None:
    truth = raw.write(tmp_path, rng=np.random.default_rng(3))
    for number in (1, 4, 5):  # numbers may begin anywhere
        (tmp_path / f"subject_1/gesture_1/trial_1/left_{number}.png").unlink()
    one = read_unit(find(tmp_path).units[0])
    assert one.counts == {gr4dhci.MISSING_FRAMES: 2}
    before = truth.recordings["default"][0]
    np.testing.assert_allclose(
        stream(one, "ir"), np.delete(stream(before, "ir"), [0, 3, 4], axis=0), rtol=1e-6
    )


def test_files_that_do_not_belong_are_named(tmp_path: Path) -> None:
    raw.write(tmp_path / "raw", rng=np.random.default_rng(3))
    strangers = ["subject_1/gesture_1/trial_1/left_1.bmp", "subject_1/gesture_x/trial_1/left_1.png"]
    for name in [*strangers, "README.txt"]:
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / name).write_bytes(b"x")
    assert set(find(tmp_path / "raw").unrecognised) == {f"raw/{name}" for name in strangers}


def naive_resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Each new pixel: the old ones under it, weighted by the covered area."""
    new = np.zeros((height, width))
    tall, wide = image.shape[0] / height, image.shape[1] / width
    for i in range(height):
        for j in range(width):
            for y in range(image.shape[0]):
                for x in range(image.shape[1]):
                    down = min((i + 1) * tall, y + 1) - max(i * tall, y)
                    across = min((j + 1) * wide, x + 1) - max(j * wide, x)
                    if down > 0 and across > 0:
                        new[i, j] += image[y, x] * down * across / (tall * wide)
    return new


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 7), st.integers(1, 7))),
    st.integers(1, 7),
    st.integers(1, 7),
)
def test_resizing_is_the_naive_loop(image: np.ndarray, height: int, width: int) -> None:
    got = gr4dhci.resize(image, height, width)
    np.testing.assert_allclose(got, naive_resize(image, height, width), atol=1e-9)


# layouts told by a mapping


def joints(n_frames: int = 3, n_joints: int = 4) -> np.ndarray:
    return np.arange(float(n_frames * n_joints * 3)).reshape(n_frames, n_joints, 3)


def text(rows: np.ndarray, separator: str = ",", before: str = "", after: str = "") -> bytes:
    lines = [before + separator.join(str(value) for value in row) + after for row in rows]
    return "\n".join(lines).encode()


WAYS: dict[str, tuple[dict[str, Any], dict[str, bytes]]] = {
    "npy of frames": ({"row": "frame"}, {"A/grab_1/s.npy": npy(joints().reshape(3, 12))}),
    "npy of joints": ({"row": "joint"}, {"A/grab_1/s.npy": npy(joints())}),
    "integers": ({"row": "joint"}, {"A/grab_1/s.npy": npy(joints().astype(np.int16))}),
    "text of frames": ({}, {"A/grab_1/s.csv": text(joints().reshape(3, 12))}),
    "text of joints": ({"row": "joint"}, {"A/grab_1/s.csv": text(joints().reshape(12, 3))}),
    "blanks": ({"separator": " "}, {"A/grab_1/s.txt": text(joints().reshape(3, 12), " ")}),
    "columns around, header": (
        {"first_column": 2, "columns": 15, "header_lines": 1, "separator": ";"},
        {"A/grab_1/s.txt": b"t;id\n" + text(joints().reshape(3, 12), ";", "7.5;x;", ";y")},
    ),
    "text per frame": (
        {"row": "joint", "pattern": SAMPLE + r"/s(?P<frame>[0-9]+)\.csv"},
        {f"A/grab_1/s{k}.csv": text(frame) for k, frame in zip((2, 9, 10), joints(), strict=True)},
    ),
    "npy per frame": (
        {"row": "joint", "pattern": SAMPLE + r"/s(?P<frame>[0-9]+)\.npy"},
        {f"A/grab_1/s{k:03}.npy": npy(frame) for k, frame in enumerate(joints())},
    ),
    "flat npy per frame": (
        {"pattern": SAMPLE + r"/s(?P<frame>[0-9]+)\.npy"},
        {f"A/grab_1/s{k:03}.npy": npy(frame.ravel()) for k, frame in enumerate(joints())},
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_skeleton_is_read_as_the_mapping_says(tmp_path: Path, way: str) -> None:
    fields, files = WAYS[way]
    skeleton = {"pattern": SAMPLE + r"/s\.(?:npy|csv|txt)", "joints": 4, **fields}
    root = told(tmp_path / "raw", {"skeleton": skeleton, "ir": {"pattern": SAMPLE}}, files)
    (unit,) = find(root).units
    one = read_unit(unit)
    np.testing.assert_allclose(stream(one, "skeleton"), joints() / 1000, rtol=1e-6)
    assert (one.key, one.subject, one.label) == ("A/grab/1", "A", "gesture grab")
    assert one.raw_files[-1] == FILE
    assert set(one.raw_files[:-1]) == set(files)


@pytest.mark.parametrize(("unit", "metres"), [("mm", 1e-3), ("cm", 1e-2), ("m", 1.0)])
def test_unit_and_joints_are_those_of_the_mapping(tmp_path: Path, unit: str, metres: float) -> None:
    skeleton = {"joints": 4, "keep": [3, 0], "unit": unit}
    root = told(
        tmp_path,
        {"skeleton": skeleton},
        {"subject_1/gesture_1/trial_1/skeleton.csv": text(joints().reshape(3, 12))},
    )
    got = stream(read_unit(find(root).units[0]), "skeleton")
    np.testing.assert_allclose(got, metres * joints()[:, [3, 0]], rtol=1e-6)
    assert got.flags.c_contiguous


GREY = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
EYES: dict[str, tuple[dict[str, Any], dict[str, bytes]]] = {
    "png": ({}, {"A/grab_1/L0.png": png(GREY), "A/grab_1/R0.png": png(255 - GREY)}),
    "grey in three channels": (
        {},
        {
            "A/grab_1/L0.png": png(np.stack([GREY] * 3, -1)),
            "A/grab_1/R0.png": png(255 - np.stack([GREY] * 3, -1)),
        },
    ),
    "npy per frame": ({}, {"A/grab_1/L0.npy": npy(GREY), "A/grab_1/R0.npy": npy(255 - GREY)}),
    "npy per trial": (
        {"pattern": SAMPLE + r"/(?P<eye>[LR])\.npy"},
        {"A/grab_1/L.npy": npy(GREY[None]), "A/grab_1/R.npy": npy(255 - GREY[None])},
    ),
    "over": (
        {"pattern": SAMPLE + r"/i(?P<frame>[0-9]+)\.png", "layout": "left over right"},
        {"A/grab_1/i7.png": png(np.concatenate([GREY, 255 - GREY]))},
    ),
    "beside": (
        {"pattern": SAMPLE + r"/i(?P<frame>[0-9]+)\.png", "layout": "left beside right"},
        {"A/grab_1/i7.png": png(np.concatenate([GREY, 255 - GREY], axis=1))},
    ),
}


@pytest.mark.parametrize("eye", ["left", "right"])
@pytest.mark.parametrize("way", EYES)
def test_infrared_is_read_as_the_mapping_says(tmp_path: Path, way: str, eye: str) -> None:
    fields, files = EYES[way]
    pattern = SAMPLE + r"/(?P<eye>[LR])(?P<frame>[0-9]+)\.(?:png|npy)"
    ir = {"pattern": pattern, "eyes": {"L": "left", "R": "right"}, **fields}
    root = told(tmp_path / "raw", {"ir": ir, "skeleton": {"pattern": SAMPLE}}, files)
    (unit,) = find(root, eye=eye, ir_size="4x6").units
    expected = GREY if eye == "left" else 255 - GREY
    np.testing.assert_allclose(stream(read_unit(unit), "ir"), [expected], rtol=1e-6)


def test_labels_are_those_of_the_mapping(tmp_path: Path) -> None:
    labels = {"1": "grab", "2": "tap", "11": "grab"}
    truth = raw.write(tmp_path, rng=np.random.default_rng(3), mapping={"labels": labels})
    assert {unit.fields["label"] for unit in find(tmp_path).units} == {"grab", "tap"}
    got = read_all("gr4dhci", tmp_path)
    assert [one.label for one in got] == [
        labels[str(one.label).removeprefix("gesture ")] for one in truth.recordings["default"]
    ]


def test_label_that_the_mapping_does_not_know_is_refused(tmp_path: Path) -> None:
    raw.write(tmp_path, rng=np.random.default_rng(3), mapping={"labels": {"1": "grab", "2": "tap"}})
    with pytest.raises(RawLayoutError, match=r"unknown label code .*one of labels, 1, 2, got 11\."):
        find(tmp_path)


def test_an_empty_mapping_says_what_is_assumed(tmp_path: Path) -> None:
    truth = raw.write(tmp_path / "raw", rng=np.random.default_rng(3), mapping={})
    got = read_all("gr4dhci", tmp_path / "raw")
    assert [one.raw_files[-1] for one in got] == [FILE] * len(got)
    assert [one.raw_files[:-1] for one in got] == [
        one.raw_files for one in truth.recordings["default"]
    ]


def test_names_without_subject_give_samples_without_subject(tmp_path: Path) -> None:
    pattern = r"(?P<label>[a-z]+)(?P<trial>[0-9]+)"
    mapping = {
        "skeleton": {"pattern": pattern + r"\.npy", "joints": 4, "row": "joint"},
        "ir": {"pattern": pattern + r"/(?P<frame>[0-9]+)\.png"},
    }
    root = told(tmp_path / "raw", mapping, {"grab1.npy": npy(joints())})
    one = read_unit(find(root).units[0])
    assert (one.key, one.subject, one.trial) == ("grab/1", None, "1")


def test_two_mappings_that_differ_are_refused(tmp_path: Path) -> None:
    raw.write(tmp_path, rng=np.random.default_rng(3), mapping={})
    (tmp_path / "subject_1" / FILE).write_text('{"note": "another"}')
    with pytest.raises(RawLayoutError, match=f"two different copies of {FILE}"):
        find(tmp_path)


@pytest.mark.parametrize(
    ("skeleton", "names"),
    [
        (SAMPLE + r"/s(?:[a-z])(?P<frame>[0-9]+)\.npy", ["A/grab_1/sa1.npy", "A/grab_1/sb01.npy"]),
        (SAMPLE + r"/s(?P<frame>[0-9]+)?\.npy", ["A/grab_1/s.npy", "A/grab_1/s0.npy"]),
    ],
)
def test_two_files_of_one_frame_are_refused(
    tmp_path: Path, skeleton: str, names: list[str]
) -> None:
    mapping = {"skeleton": {"pattern": skeleton}, "ir": {"pattern": SAMPLE}}
    root = told(tmp_path / "raw", mapping, dict.fromkeys(names, b"x"))
    with pytest.raises(RawLayoutError, match=r"of A/grab/1 at .*one file, got another one"):
        find(root)


BAD_MAPPINGS: dict[str, tuple[str, str]] = {
    "no json": ("{", r"broken JSON"),
    "empty": ("", r"empty file"),
    "a list": ("[]", r"bad value at .*an object"),
    "unknown field": ('{"skelton": {}}', r"unknown field at skelton in "),
    "inner field": ('{"ir": {"size": 3}}', r"unknown field at ir\.size in "),
    "unit": ('{"skeleton": {"unit": "inch"}}', r"skeleton\.unit .*'mm', 'cm' or 'm'"),
    "type": ('{"skeleton": {"joints": "21"}}', r"skeleton\.joints .*a whole number"),
    "no joint": ('{"skeleton": {"joints": 0}}', r"skeleton\.joints .*greater than or equal to 1"),
    "keep": ('{"skeleton": {"keep": [0, 21]}}', r"joints, 0 to 20.* at skeleton in "),
    "negative": ('{"skeleton": {"keep": [-1]}}', r"joints, 0 to 20"),
    "columns": ('{"skeleton": {"columns": 60}}', r"less than first_column \+ 63 numbers"),
    "pattern": ('{"ir": {"pattern": "("}}', r"no regular expression.* at ir\.pattern in "),
    "group": ('{"ir": {"pattern": "(?P<label>.)"}}', r"groups label; needed label, trial"),
    "more groups": (
        '{"skeleton": {"pattern": "(?P<label>.)(?P<trial>.)(?P<eye>.)"}}',
        r"groups eye, label, trial; .*possible frame, label, subject, trial",
    ),
    "subject": (
        '{"ir": {"pattern": "(?P<label>.)(?P<trial>.)"}}',
        r"either both patterns have a group subject",
    ),
    "two ways": ('{"ir": {"layout": "left over right"}}', r"layout must be 'one eye'"),
    "eye": ('{"ir": {"eyes": {"l": "links"}}}', r"ir\.eyes\.l "),
}


@pytest.mark.parametrize("name", BAD_MAPPINGS)
def test_bad_mapping_is_refused_with_its_field(tmp_path: Path, name: str) -> None:
    content, message = BAD_MAPPINGS[name]
    (tmp_path / FILE).write_text(content)
    with pytest.raises(RawLayoutError, match=rf"^cannot read .*{FILE}: .* at .*{FILE}") as caught:
        find(tmp_path)
    assert caught.match(message)
    assert "\n" not in str(caught.value)


def test_eye_that_the_mapping_does_not_know_is_refused(tmp_path: Path) -> None:
    raw.write(tmp_path, rng=np.random.default_rng(3), mapping={"ir": {"eyes": {"left": "left"}}})
    with pytest.raises(RawLayoutError, match=r"unknown eye .*one of ir\.eyes, left, got right"):
        find(tmp_path)


def test_path_that_fits_both_patterns_is_refused(tmp_path: Path) -> None:
    mapping = {"skeleton": {"pattern": SAMPLE}, "ir": {"pattern": SAMPLE}}
    root = told(tmp_path / "raw", mapping, {"A/grab_1": b"x"})
    with pytest.raises(RawLayoutError, match=r"two meanings at raw/A/grab_1"):
        find(root)


def test_folder_that_does_not_fit_leads_to_the_mapping(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(
        RawLayoutError, match=rf"tell yours in {FILE}, see `mmbind datasets gr4dhci`"
    ):
        find(tmp_path)
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(RawLayoutError, match=rf"expected files that fit the patterns of {FILE}"):
        find(tmp_path)


def test_mapping_is_documented_where_users_look() -> None:
    layout = str(load_descriptor("gr4dhci").raw_layout.value)
    assert FILE in layout
    for prefix, model in (("skeleton.", SkeletonFiles), ("ir.", InfraredFiles), ("", Mapping)):
        for name in model.model_fields:
            assert f"{prefix}{name}" in layout, name
    for pattern in (SkeletonFiles().pattern, InfraredFiles().pattern):
        assert pattern in layout
    assert "assumed" in layout


# bad files

FOLDER = "subject_1/gesture_1/trial_1"
ROW = ",".join(["1.5"] * 63)
BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("skeleton.csv", b"", r"empty file"),
    "blank": ("skeleton.csv", b"\n\n", r"empty file"),
    "header": ("skeleton.csv", f"{'x,' * 62}x\n{ROW}\n".encode(), r"unreadable row"),
    "short row": (
        "skeleton.csv",
        f"{ROW}\n1,2\n".encode(),
        r"unreadable row .*63 cells in every row, got 2 in row 2\.",
    ),
    "more columns": ("skeleton.csv", f"{ROW},1\n".encode(), r"unreadable row .*got 64"),
    "nan": ("skeleton.csv", f"{ROW[:-3]}nan\n".encode(), r"line 1 .*a number, got nan"),
    "infinite": ("skeleton.csv", f"{ROW[:-3]}inf\n".encode(), r"line 1 .*a number, got inf"),
    "image": ("left_3.png", b"\x89PNG", r"unreadable image"),
    "empty image": ("left_3.png", b"", r"empty file"),
    "16 bit": ("left_3.png", png(np.ones((120, 160), np.uint16)), r"another kind of image"),
    "colour": (
        "left_3.png",
        png(np.arange(57600, dtype=np.uint8).reshape(120, 160, 3)),
        r"colours .*three equal channels",
    ),
    "size": (
        "left_3.png",
        png(np.ones((120, 150), np.uint8)),
        r"another size .*120 x 160 pixels as subject_1/.*left_1\.png, got 120 x 150",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    raw.write(tmp_path, rng=np.random.default_rng(3))
    file, content, message = BAD_FILES[name]
    path = tmp_path / FOLDER / file
    path.write_bytes(content)
    with pytest.raises(
        RawLayoutError, match=rf"cannot read {FOLDER}/{file}: .* at {path}"
    ) as error:
        read_unit(find(tmp_path).units[0])
    assert error.match(message)


ODD: dict[str, tuple[dict[str, Any], dict[str, bytes], str]] = {
    "npy shape": (
        {"skeleton": {"row": "joint"}},
        {f"{FOLDER}/skeleton.npy": npy(np.ones((9, 20, 3)))},
        r"another shape .*n x 21 x 3 numbers, got 9 x 20 x 3",
    ),
    "npy flat": (
        {"skeleton": {"row": "joint"}},
        {f"{FOLDER}/skeleton.npy": npy(np.ones((9, 63)))},
        r"another shape .*got 9 x 63",
    ),
    "npy nan": ({}, {f"{FOLDER}/skeleton.npy": npy(np.full((9, 63), np.nan))}, r"missing value"),
    "half a frame": (
        {"skeleton": {"row": "joint"}},
        {f"{FOLDER}/skeleton.csv": b"1,2,3\n" * 22},
        r"whole frames of 21 joints, got 22 rows of 3 numbers",
    ),
    "two frames in one": (
        {"skeleton": {"pattern": SAMPLE + r"/(?P<frame>[0-9]+)\.csv", "joints": 1}},
        {"A/grab_1/1.csv": b"1,2,3\n4,5,6"},
        r"expected 1 joints, got 2 rows",
    ),
    "kind": (
        {"skeleton": {"pattern": SAMPLE + r"\.mat"}},
        {"A/grab_1.mat": b"x"},
        r"another kind of file .*\.npy, \.csv or \.txt",
    ),
    "image of no frame": (
        {"ir": {"pattern": SAMPLE + r"\.png"}, "skeleton": {"pattern": SAMPLE}},
        {"A/grab_1.png": png(GREY)},
        r"image without a number .*group frame",
    ),
    "16-bit npy": (
        {"ir": {"pattern": SAMPLE + r"\.npy"}, "skeleton": {"pattern": SAMPLE}},
        {"A/grab_1.npy": npy(np.ones((2, 4, 4), np.uint16))},
        r"8-bit brightness, got uint16",
    ),
    "odd side": (
        {
            "ir": {"pattern": SAMPLE + r"(?P<frame>x)?\.npy", "layout": "left over right"},
            "skeleton": {"pattern": SAMPLE},
        },
        {"A/grab_1.npy": npy(np.ones((2, 5, 4), np.uint8))},
        r"no two halves .*got 5 x 4 pixels",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_file_that_is_not_what_the_mapping_says_is_refused(tmp_path: Path, name: str) -> None:
    mapping, files, message = ODD[name]
    root = told(tmp_path / "raw", mapping, files)
    with pytest.raises(RawLayoutError, match=message):
        read_unit(find(root).units[0])


WHOLE = [
    (f"{FOLDER}/skeleton.npy", npy(np.ones((4, 63)))),
    (f"{FOLDER}/skeleton.csv", f"{ROW}\n{ROW}\n".encode()),
    (f"{FOLDER}/left_1.png", png(GREY)),
]


@pytest.mark.parametrize(("path", "content"), WHOLE)
@given(damage=DAMAGES)
def test_damaged_bytes_never_escape_as_another_error(
    path: str, content: bytes, damage: Damage
) -> None:
    (unit,) = gr4dhci.find([held(path, damage(content))], "default").units
    # a number beyond float32 is refused by the engine
    with contextlib.suppress(RawLayoutError), np.errstate(over="ignore"):
        read_unit(unit)


@given(
    st.text(max_size=40) | st.sampled_from(['{"labels": {"1": 2}}', '{"note": null}', "1", "{}"])
)
def test_no_text_of_a_mapping_escapes_as_another_error(content: str) -> None:
    with contextlib.suppress(RawLayoutError):
        load_mapping(held(FILE, content.encode("utf-8", errors="surrogatepass")))


def test_user_points_at_one_subject(truth: Truth) -> None:
    expected = [one for one in truth.recordings["default"] if one.subject == "2"]
    assert_same(read_all("gr4dhci", truth.root / "subject_2"), expected)
