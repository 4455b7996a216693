"""What every dataset must keep; a new dataset is found here by its name."""

from __future__ import annotations

import importlib
import math
import pickle
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from rawdata.compare import assert_same, read_all
from rawdata.truth import FORMS

from mmbind_data.datasets import list_datasets, load_descriptor, load_reader
from mmbind_data.errors import RawLayoutError, UsageError
from mmbind_data.rawfiles import natural, scan

BUILT_IN = sorted(
    path.stem.replace("_", "-")
    for path in (Path(__file__).parents[3] / "mmbind_data" / "datasets").glob("*.json")
)
SI = {"m/s^2", "rad/s", "rad", "m", "uT"}
CASES = [(name, preset) for name in BUILT_IN for preset in load_descriptor(name).presets]


def writer(name: str) -> ModuleType:
    return importlib.import_module(f"rawdata.{name.replace('-', '_')}")


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
    assert len({one.subject for one in got}) > 1


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_units_are_ordered_unique_cheap_and_picklable(
    tmp_path: Path, name: str, preset: str
) -> None:
    truth = writer(name).write(tmp_path, rng=np.random.default_rng(5))
    files = scan(truth.root)
    for file in files:
        file.container.write_bytes(b"")  # find must not look inside
    listing = load_reader(name).find(files, preset)
    keys = [unit.key for unit in listing.units]
    assert keys == sorted(set(keys), key=natural)
    assert listing == load_reader(name).find(files[::-1], preset)
    assert pickle.loads(pickle.dumps(listing.units)) == listing.units
    assert listing.unrecognised == ()
    assert f"{len(keys)} of " in " ".join(listing.notes)
    for unit in listing.units:
        assert {"subject", "label"} <= set(unit.fields)
        assert unit.fields["label"] in load_descriptor(name).labels.values()


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_shapes_are_those_of_the_descriptor(tmp_path: Path, name: str, preset: str) -> None:
    truth = writer(name).write(tmp_path, rng=np.random.default_rng(5))
    descriptor = load_descriptor(name)
    listing = load_reader(name).find(scan(truth.root), preset)
    assert set(descriptor.presets[preset].modalities) <= set(listing.modalities)
    for recording in read_all(name, truth.root, preset):
        for modality, values in recording.streams.items():
            axes = descriptor.streams[modality].channels
            assert values.shape[1:] == tuple(axis.size for axis in axes)
            assert values.flags.c_contiguous


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_one_modality_reads_as_it_does_among_all(tmp_path: Path, name: str, preset: str) -> None:
    truth = writer(name).write(tmp_path, rng=np.random.default_rng(5))
    every = {one.key: one for one in read_all(name, truth.root, preset)}
    for modality in load_reader(name).find(scan(truth.root), preset).modalities:
        alone = read_all(name, truth.root, preset, [modality])
        assert [one.key for one in alone] == [
            key for key, one in every.items() if modality in one.streams
        ]
        for one in alone:
            assert list(one.streams) == [modality]
            np.testing.assert_array_equal(one.streams[modality], every[one.key].streams[modality])


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
        assert (preset.windowing.step is None) == (preset.windowing.mode == "stretch")
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
                assert stream.scale == pytest.approx(known[pair], rel=1e-12)
                seen.add(pair)
    assert seen == set(known)


@pytest.mark.parametrize("name", BUILT_IN)
def test_another_datasets_folder_is_refused(tmp_path: Path, name: str) -> None:
    for other in BUILT_IN:
        if other != name:
            writer(other).write(tmp_path / other, rng=np.random.default_rng(5))
            with pytest.raises(RawLayoutError, match=f"cannot convert {name}: nothing that"):
                load_reader(name).find(scan(tmp_path / other), "default")


@pytest.mark.parametrize("name", BUILT_IN)
def test_unknown_names_are_answered_with_the_close_one(tmp_path: Path, name: str) -> None:
    truth = writer(name).write(tmp_path, rng=np.random.default_rng(5))
    reader = load_reader(name)
    files = scan(truth.root)
    with pytest.raises(UsageError, match=r"got defualt\. Did you mean default\?"):
        reader.find(files, "defualt")
    unit = reader.find(files, "default").units[0]
    with pytest.raises(UsageError, match=r"got giro\. Did you mean gyro\?"):
        list(reader.read(unit, ["acc", "giro"], "default"))
