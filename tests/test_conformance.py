"""What every dataset must keep: found by name, a new dataset is tested by adding its files."""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from rawdata.truth import FORMS, Truth

from mmbind_data.convert import Converted, convert
from mmbind_data.datasets import list_datasets, load_descriptor
from mmbind_data.errors import RawLayoutError
from mmbind_data.layout import Store, open_store
from mmbind_data.spec import Recording, Windowing
from mmbind_data.validate import validate

Make = Callable[..., tuple[Truth, Converted]]
PRESETS = [(name, preset) for name in list_datasets() for preset in load_descriptor(name).presets]


def write_raw(name: str, root: Path, form: str = "folders") -> Truth:
    writer = importlib.import_module(f"rawdata.{name.replace('-', '_')}")
    truth = writer.write(root, rng=np.random.default_rng(7), form=form)
    assert isinstance(truth, Truth)
    return truth


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Raw data and the store made of it, once per dataset and preset."""
    done: dict[str, tuple[Truth, Converted]] = {}

    def make(name: str, preset: str = "default") -> tuple[Truth, Converted]:
        key = f"{name}-{preset}"
        if key not in done:
            folder = tmp_path_factory.mktemp(key)
            truth = write_raw(name, folder / "raw")
            done[key] = truth, convert(name, truth.root, folder / "out.zarr", preset=preset)
        return done[key]

    return make


def naive_windows(
    recording: Recording, windowing: Windowing, kind: Mapping[str, str]
) -> list[dict[str, np.ndarray]]:
    """Windows by plain loops, written without a look at window.py."""
    if windowing.mode == "cut":
        n_frames = {len(values) for values in recording.streams.values()}.pop()
        samples = []
        start = 0
        while start + max(windowing.length.values()) <= n_frames:
            samples.append(
                {
                    name: values[start : start + windowing.length[name]]
                    for name, values in recording.streams.items()
                }
            )
            start += windowing.step or max(windowing.length.values())
        return samples
    sample = {}
    for name, values in recording.streams.items():
        n = windowing.length[name]
        flat = values.reshape(len(values), -1).astype(float)
        times = [index * (len(values) - 1) / (n - 1) for index in range(n)]
        if kind[name] == "depth_video":
            rows = [flat[int(np.ceil(time - 0.5))] for time in times]
            resampled = np.array(rows)
        else:
            columns = [np.interp(times, range(len(flat)), column) for column in flat.T]
            resampled = np.array(columns).T
        sample[name] = resampled.reshape(n, *values.shape[1:])
    return [sample]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_store_holds_the_truth(name: str, preset: str, made: Make) -> None:
    truth, converted = made(name, preset)
    descriptor = load_descriptor(name)
    windowing = descriptor.presets[preset].windowing
    kinds = {key: stream.kind for key, stream in descriptor.streams.items()}
    store = open_store(converted.path)
    wanted = set(descriptor.presets[preset].modalities)
    expected = []
    for recording in truth.recordings[preset]:
        kept = {key: values for key, values in recording.streams.items() if key in wanted}
        trimmed = Recording(**{**recording.__dict__, "streams": kept})
        expected += [(recording, sample) for sample in naive_windows(trimmed, windowing, kinds)]
    assert len(store) == len(expected)
    assert len(expected) > 10
    for modality in store.info.modalities:
        data, present = store.load(modality), store.present(modality)
        assert present.tolist() == [modality in sample for _, sample in expected]
        for row, (recording, sample) in enumerate(expected):
            if modality in sample:
                np.testing.assert_allclose(
                    data[row], sample[modality], rtol=2e-6, atol=2e-6, err_msg=recording.key
                )
            else:
                assert np.isnan(data[row]).all()
    check_columns(store, [recording for recording, _ in expected])


def check_columns(store: Store, recordings: list[Recording]) -> None:
    samples = store.samples()
    for column, codes in (("label", "label_text"), ("subject", "subject")):
        texts = [getattr(recording, column) for recording in recordings]
        names = store.names(column)
        assert [names[code] for code in store.column(column)] == texts
        assert samples[codes].to_pylist() == texts
    assert samples["trial"].to_pylist() == [recording.trial for recording in recordings]
    assert samples["raw_file"].to_pylist() == [one.raw_files[0] for one in recordings]
    for key in recordings[0].extra:
        assert samples[key].to_pylist() == [one.extra[key] for one in recordings]
    uids = samples["uid"].to_pylist()
    assert len(set(uids)) == len(uids)
    assert all(re.fullmatch("[0-9a-f]{32}", uid) for uid in uids)


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_store_validates(name: str, preset: str, made: Make) -> None:
    _, converted = made(name, preset)
    assert validate(converted.path, level="values") == []


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_shapes_units_and_kinds_are_the_descriptors(name: str, preset: str, made: Make) -> None:
    _, converted = made(name, preset)
    descriptor = load_descriptor(name)
    windowing = descriptor.presets[preset].windowing
    for key, modality in converted.info.modalities.items():
        stream = descriptor.streams[key]
        sizes = tuple(axis.size for axis in stream.channels)
        assert modality.shape == (windowing.length[key], *sizes)
        assert (modality.unit, modality.kind) == (stream.unit, stream.kind)
        assert modality.rate_hz == windowing.rate_hz


@pytest.mark.parametrize("name", list_datasets())
def test_zip_folder_and_workers_give_the_same_bytes(name: str, made: Make, tmp_path: Path) -> None:
    _, converted = made(name)
    expected = tree(converted.path)
    for index, form in enumerate(FORMS):
        raw = write_raw(name, tmp_path / form, form).root
        again = convert(name, raw, tmp_path / f"{form}.zarr", workers=1 + index % 2)
        assert tree(again.path) == expected, form
        assert not list(tmp_path.glob(".*"))


def tree(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("name", list_datasets())
def test_opens_in_xarray_without_a_warning(name: str, made: Make) -> None:
    xarray = pytest.importorskip("xarray")
    _, converted = made(name)
    store = open_store(converted.path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with xarray.open_zarr(converted.path) as root:
            assert root["label"].dims == ("sample",)
            assert root["label"].values.tolist() == store.column("label").tolist()
        with xarray.open_datatree(converted.path, engine="zarr") as opened:
            for key, modality in store.info.modalities.items():
                array = opened[f"modalities/{key}/data"]
                assert array.dims == ("sample", *(axis.name for axis in modality.axes))
                np.testing.assert_array_equal(array.values, store.load(key))


@pytest.mark.parametrize("name", list_datasets())
def test_a_folder_of_something_else_is_refused(name: str, tmp_path: Path) -> None:
    raw = tmp_path / "holiday"
    raw.mkdir()
    (raw / "photo.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(RawLayoutError, match=re.escape(str(raw))) as caught:
        convert(name, raw, tmp_path / "out.zarr")
    for word in ("cannot", "expected", "got"):
        assert word in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["holiday"]


@pytest.mark.parametrize("name", list_datasets())
def test_every_fact_names_its_source(name: str) -> None:
    descriptor = load_descriptor(name)
    facts = [descriptor.homepage, descriptor.citation, descriptor.raw_layout, descriptor.n_subjects]
    facts += [*descriptor.quirks]
    for stream in descriptor.streams.values():
        facts += [stream.raw_unit, stream.raw_rate_hz]
    assert all(len(fact.source) > 5 for fact in facts)
    assert descriptor.verified
    assert descriptor.unverified
    assert re.search(r"\b(19|20)\d\d\b", str(descriptor.citation.value))
