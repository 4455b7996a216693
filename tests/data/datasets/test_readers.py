"""What every dataset must keep; a new dataset is found here by its name."""

from __future__ import annotations

import importlib
import inspect
import math
import pickle
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from rawdata.compare import assert_same, find_all, read_all
from rawdata.truth import FORMS

from mmbind_data.conversion.plan import ConversionRequest, plan_conversion
from mmbind_data.datasets.registry import list_datasets, load_descriptor, load_reader_module
from mmbind_data.errors import RawLayoutError, UsageError
from mmbind_data.raw.files import RawFile, natural, scan
from mmbind_data.signal.point_clouds import PointFrames

BUILT_IN = sorted(
    path.stem.replace("_", "-")
    for path in (Path(__file__).parents[3] / "mmbind_data" / "datasets").glob("*.json")
)
SI = {"m/s^2", "rad/s", "rad", "m", "uT", "1/min", "1", "px", "dB"}
CASES = [(name, preset) for name in BUILT_IN for preset in load_descriptor(name).presets]


def writer(name: str) -> ModuleType:
    return importlib.import_module(f"rawdata.{name.replace('-', '_')}")


@pytest.fixture(scope="session")
def all_raw(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small raw folder of every dataset; not to be changed."""
    root = tmp_path_factory.mktemp("all")
    places = {name: root / f"folder{number}" for number, name in enumerate(BUILT_IN)}
    for name, place in places.items():
        writer(name).write(place, rng=np.random.default_rng(5))
    return places


@pytest.fixture(scope="session")
def all_files(all_raw: dict[str, Path]) -> dict[str, list[RawFile]]:
    return {name: scan(place) for name, place in all_raw.items()}


def test_known_datasets_are_listed() -> None:
    assert {"motionsense", "utd-mhad"} <= set(BUILT_IN) <= set(list_datasets())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("name", "preset"), CASES)
def test_values_are_the_truth_in_every_form(
    tmp_path: Path, name: str, preset: str, form: str
) -> None:
    truth = writer(name).write(tmp_path / "raw", rng=np.random.default_rng(5), form=form)
    got = read_all(name, truth.root, preset)
    assert_same(got, truth.recordings[preset])
    assert len({one.label for one in got}) > 2
    assert len({one.subject for one in got}) > 1 or got[0].subject is None  # no persons


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_units_are_ordered_unique_cheap_and_picklable(
    tmp_path: Path, name: str, preset: str
) -> None:
    truth = writer(name).write(tmp_path, rng=np.random.default_rng(5))
    files = scan(truth.root)
    for file in files:
        file.container.write_bytes(b"")  # find must not look inside
    listing = find_all(name, files, preset)
    keys = [unit.key for unit in listing.units]
    assert keys == sorted(set(keys), key=natural)
    assert listing == find_all(name, files[::-1], preset)
    assert pickle.loads(pickle.dumps(listing.units)) == listing.units
    assert listing.unrecognised == ()
    assert f"{len(keys)} of " in " ".join(listing.notes)
    labels = load_descriptor(name).labels.values()
    for unit in listing.units:
        # what the names alone do not tell, the content does
        assert "label" not in unit.fields or unit.fields["label"] in labels or not labels


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_shapes_are_those_of_the_descriptor(
    all_raw: dict[str, Path], name: str, preset: str
) -> None:
    descriptor = load_descriptor(name)
    listing = find_all(name, scan(all_raw[name]), preset)
    assert set(descriptor.presets[preset].modalities) <= set(listing.modalities)
    for recording in read_all(name, all_raw[name], preset):
        for modality, values in recording.streams.items():
            axes = descriptor.streams[modality].channels
            numbers = values.values if isinstance(values, PointFrames) else values
            assert numbers.shape[1:] == tuple(axis.size for axis in axes)
            assert numbers.flags.c_contiguous


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_one_modality_reads_as_it_does_among_all(
    all_raw: dict[str, Path], name: str, preset: str
) -> None:
    root = all_raw[name]
    every = {one.key: one for one in read_all(name, root, preset)}
    for modality in find_all(name, scan(root), preset).modalities:
        # one without streams carries remarks alone
        alone = [one for one in read_all(name, root, preset, [modality]) if one.streams]
        assert [one.key for one in alone] == [
            key for key, one in every.items() if modality in one.streams
        ]
        for one in alone:
            assert list(one.streams) == [modality]
            got, expected = one.streams[modality], every[one.key].streams[modality]
            if isinstance(got, PointFrames) and isinstance(expected, PointFrames):
                np.testing.assert_array_equal(got.offsets, expected.offsets)
                got, expected = got.values, expected.values
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", BUILT_IN)
def test_options_are_those_of_the_descriptor(name: str) -> None:
    parameters = list(inspect.signature(load_reader_module(name).find).parameters.values())[2:]
    options = load_descriptor(name).options
    assert {one.name: one.default for one in parameters} == {
        key: option.default for key, option in options.items()
    }


@pytest.mark.parametrize("name", BUILT_IN)
def test_descriptor_is_complete_and_in_si(name: str) -> None:
    descriptor = load_descriptor(name)
    assert descriptor.dataset_id == name
    for stream in descriptor.streams.values():
        assert stream.unit in SI
        if stream.unit == stream.raw_unit.value:
            assert stream.scale == 1
    for preset in descriptor.presets.values():
        assert set(preset.modalities) <= set(descriptor.streams)
        assert set(preset.modalities) <= set(preset.windowing.length) <= set(descriptor.streams)
        assert set(preset.labels or ()) <= set(descriptor.labels.values())
        assert (preset.windowing.step is None) == (preset.windowing.mode != "cut")
    assert len(set(descriptor.labels.values())) == len(descriptor.labels)
    assert "default" in descriptor.presets
    assert descriptor.verified
    assert descriptor.unverified


def test_scales_are_the_definitions_of_the_units() -> None:
    known = {("g", "m/s^2"): 9.80665, ("deg/s", "rad/s"): math.pi / 180, ("mm", "m"): 1e-3}
    seen = set()
    for name in BUILT_IN:
        for stream in load_descriptor(name).streams.values():
            pair = (str(stream.raw_unit.value), stream.unit)
            if pair[0] != pair[1]:
                assert stream.scale == pytest.approx(known.get(pair, 1.0), rel=1e-12), pair
                seen.add(pair)
    assert seen >= set(known)


@pytest.mark.parametrize("name", BUILT_IN)
def test_zip_and_folder_side_by_side_are_read_once(
    tmp_path: Path, name: str, all_raw: dict[str, Path]
) -> None:
    folder = shutil.copytree(all_raw[name], tmp_path / "raw")
    alone = find_all(name, scan(folder))
    shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    both = find_all(name, scan(tmp_path))
    assert both.units == alone.units
    assert both.notes[0].startswith("copies left aside: ")


@pytest.mark.parametrize("name", BUILT_IN)
def test_another_datasets_folder_is_refused(name: str, all_files: dict[str, list[RawFile]]) -> None:
    for other, files in all_files.items():
        if other != name:
            with pytest.raises(RawLayoutError, match=f"cannot convert {name}: nothing that"):
                find_all(name, files)


@pytest.mark.parametrize("name", BUILT_IN)
def test_unknown_names_are_answered_with_the_close_one(name: str, tmp_path: Path) -> None:
    """Before the raw data is looked for: none is there."""
    with pytest.raises(UsageError, match=r"got 'defualt'\. Did you mean default\?"):
        plan_conversion(name, tmp_path / "none", ConversionRequest("defualt"))
    known = load_descriptor(name).presets["default"].modalities[0]
    wanted = (known, f"{known}y")
    with pytest.raises(UsageError, match=rf"got '{known}y'\. Did you mean {known}"):
        plan_conversion(name, tmp_path / "none", ConversionRequest(modalities=wanted))
