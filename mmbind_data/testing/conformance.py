"""The tests that every dataset must pass, for built-in and third-party readers alike.

A reader comes with a writer of its raw layout: a function that fills a folder with small files of
the authentic form, and returns what they must read as. In a test module of your own::

    from mmbind_data.testing.conformance import DatasetConformance
    from mypackage.rawdata import write

    class TestMine(DatasetConformance):
        name = "my-dataset"
        write = staticmethod(write)

Needs pytest. The oracles are plain loops, written without a look at the code they check.
"""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import pytest

from mmbind_data.conversion.convert import convert
from mmbind_data.conversion.pipeline import Converted
from mmbind_data.datasets.registry import load_descriptor, load_reader_module
from mmbind_data.errors import RawLayoutError
from mmbind_data.raw.files import scan
from mmbind_data.signal.point_clouds import PointFrames
from mmbind_data.signal.windows import make_windows
from mmbind_data.spec.descriptor import Recording, Windowing
from mmbind_data.store.dataset import Dataset, open_dataset
from mmbind_data.store.validation import validate

Sample = dict[str, np.ndarray | PointFrames]


@dataclass(frozen=True)
class Truth:
    """The recordings, in store order and SI units, that each preset must read from ``root``."""

    dataset_id: str
    root: Path
    recordings: Mapping[str, tuple[Recording, ...]]

    def keys(self, preset: str = "default") -> tuple[str, ...]:
        """Key of each recording."""
        return tuple(recording.key for recording in self.recordings[preset])

    def subjects(self, preset: str = "default") -> tuple[str | None, ...]:
        """Subjects in order of first appearance."""
        return tuple(dict.fromkeys(one.subject for one in self.recordings[preset]))

    def labels(self, preset: str = "default") -> tuple[str | None, ...]:
        """Label of each recording."""
        return tuple(recording.label for recording in self.recordings[preset])


class RawWriter(Protocol):
    """Writes a raw folder; ``form`` is one of the ways in which people keep the data."""

    def __call__(self, root: Path, *, rng: np.random.Generator, form: str = ...) -> Truth:
        """Fill ``root`` and return what it must read as."""


Make = Callable[..., tuple[Truth, Converted]]


class DatasetConformance:
    """Values, shapes, columns, determinism and refusals of one dataset.

    ``forms`` is what the writer's ``form`` may be; all must convert to the same bytes.
    """

    name: ClassVar[str]  # dataset id
    write: ClassVar[RawWriter]  # as a staticmethod
    forms: ClassVar[tuple[str, ...]] = ("folders",)
    _done: ClassVar[dict[str, tuple[Truth, Converted]]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a test that asks for a preset with each of the dataset's."""
        if "preset" in metafunc.fixturenames:
            metafunc.parametrize("preset", list(load_descriptor(self.name).presets))

    def __init_subclass__(cls) -> None:
        cls._done = {}

    @pytest.fixture
    def made(self, tmp_path_factory: pytest.TempPathFactory) -> Make:
        """Raw data and the store made of it, once per preset."""
        done = self._done

        def make(preset: str = "default") -> tuple[Truth, Converted]:
            if preset not in done:
                folder = tmp_path_factory.mktemp(f"{self.name}-{preset}")
                truth = self.write_raw(folder / "raw")
                out = folder / "out.zarr"
                done[preset] = truth, convert(self.name, truth.root, out, preset=preset)
            return done[preset]

        return make

    def write_raw(self, root: Path, form: str = "folders") -> Truth:
        """Fill a folder with raw data, always the same."""
        return type(self).write(root, rng=np.random.default_rng(7), form=form)

    def test_store_holds_the_truth(self, preset: str, made: Make) -> None:
        """Samples, masks and columns are those of the truth, window by window."""
        truth, converted = made(preset)
        store = open_dataset(converted.path)
        expected = expected_samples(truth, preset)
        assert len(store) == len(expected)
        assert len(expected) > 1
        for modality in store.info.modalities:
            assert store.present(modality).tolist() == [modality in one for _, one in expected]
            check_values(store, modality, expected)
        check_columns(store, [recording for recording, _ in expected])

    def test_store_validates(self, preset: str, made: Make) -> None:
        """A full check finds nothing."""
        _, converted = made(preset)
        assert validate(converted.path, level="values") == []

    def test_shapes_units_and_kinds_are_the_descriptors(self, preset: str, made: Make) -> None:
        """A store holds what its descriptor announces."""
        _, converted = made(preset)
        descriptor = load_descriptor(self.name)
        windowing = descriptor.presets[preset].windowing
        for key, modality in converted.info.modalities.items():
            stream = descriptor.streams[key]
            sizes = tuple(axis.size for axis in stream.channels)
            frames = () if windowing.mode == "still" else (windowing.length[key],)
            assert modality.shape == (*frames, *sizes)
            assert (modality.unit, modality.kind) == (stream.unit, stream.kind)
            assert modality.rate_hz == windowing.rate_hz

    def test_every_form_and_number_of_workers_gives_the_same_bytes(
        self, made: Make, tmp_path: Path
    ) -> None:
        """Neither zips nor workers change a byte."""
        _, converted = made()
        expected = tree(converted.path)
        for index, form in enumerate(self.forms):
            raw = self.write_raw(tmp_path / form, form).root
            again = convert(self.name, raw, tmp_path / f"{form}.zarr", workers=1 + index % 2)
            assert tree(again.path) == expected, form
            assert not list(tmp_path.glob(".*"))
        packed = shutil.make_archive(
            str(tmp_path / "all"), "zip", self.write_raw(tmp_path / "raw").root
        )
        again = convert(self.name, packed, tmp_path / "zip.zarr", workers=2)
        assert tree(again.path) == expected, "one zip of everything"

    def test_opens_in_xarray_without_a_warning(self, made: Make) -> None:
        """Other tools read the store."""
        xarray = pytest.importorskip("xarray")
        _, converted = made()
        store = open_dataset(converted.path)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with xarray.open_zarr(converted.path) as root:
                assert root["label"].dims == ("sample",)
                assert root["label"].values.tolist() == store.column("label").tolist()
            with xarray.open_datatree(converted.path, engine="zarr") as opened:
                for key, modality in store.info.modalities.items():
                    if modality.ragged:
                        assert opened[f"modalities/{key}/values"].dims == ("point", "channel")
                        continue
                    array = opened[f"modalities/{key}/data"]
                    assert array.dims == ("sample", *(axis.name for axis in modality.axes))
                    assert array.attrs["units"] == modality.unit
                    np.testing.assert_array_equal(array.values, store.load(key))

    def test_a_folder_of_something_else_is_refused(self, tmp_path: Path) -> None:
        """A wrong folder is named, so is a path that is missing, and nothing is left behind."""
        raw = tmp_path / "holiday"
        raw.mkdir()
        (raw / "photo.tif").write_bytes(b"II*\0")
        with pytest.raises(RawLayoutError, match=re.escape(str(raw))) as caught:
            convert(self.name, raw, tmp_path / "out.zarr")
        message = re.fullmatch(r"cannot .+: expected (.+), got .+", str(caught.value))
        assert message is not None
        assert sorted(path.name for path in tmp_path.iterdir()) == ["holiday"]
        named = {part for word in message[1].split() for part in parts(word)}
        root = self.write_raw(tmp_path / "right").root
        right = {part for path in root.rglob("*") for part in parts(str(path.relative_to(root)))}
        assert named & right, "the message names no path of the raw layout"

    @pytest.mark.parametrize("seed", range(6))
    def test_damaged_files_are_read_or_refused_by_name(self, seed: int, tmp_path: Path) -> None:
        """Cut, empty, overwrite and lengthen each file of some units: a sentence or numbers."""
        rng = np.random.default_rng(seed)
        descriptor = load_descriptor(self.name)
        preset = descriptor.presets["default"]
        kinds = {key: stream.kind for key, stream in descriptor.streams.items()}
        options = {key: option.default for key, option in descriptor.options.items()}
        reader = load_reader_module(self.name)
        units = reader.find(scan(self.write_raw(tmp_path).root), "default", **options).units
        unit = units[int(rng.integers(len(units)))].narrowed(preset.modalities)
        roles = list(unit.files)
        for role in {roles[int(rng.integers(len(roles)))] for _ in range(3)}:
            content = unit.files[role].read()
            for damaged in damages(content, rng):
                file = replace(unit.files[role], content=damaged, size=len(damaged))
                broken = replace(unit, files={**unit.files, role: file})
                try:
                    found = list(reader.read(broken, preset.modalities, "default"))
                except RawLayoutError as error:
                    assert str(error).startswith("cannot ")  # noqa: PT017
                    continue
                for recording in found:
                    for samples in make_windows(recording, preset.windowing, kinds).data.values():
                        clouds = (
                            samples
                            if isinstance(samples, list)
                            else [PointFrames(samples, samples)]
                        )
                        assert all(np.isfinite(one.values).all() for one in clouds)

    def test_every_fact_names_its_source(self) -> None:
        """No statement without its source."""
        descriptor = load_descriptor(self.name)
        facts = [descriptor.homepage, descriptor.citation, descriptor.raw_layout, descriptor.size]
        facts += [descriptor.n_subjects, *descriptor.quirks]
        for stream in descriptor.streams.values():
            facts += [stream.raw_unit, stream.raw_rate_hz]
        assert all(len(fact.source) > 5 for fact in facts)
        assert descriptor.verified
        assert descriptor.unverified


def parts(path: str) -> set[str]:
    """Names of the folders and the file of a path, numbers aside; of a mere word nothing."""
    numberless = re.sub(r"\d+", "0", path)
    return set(numberless.split("/")) if "/" in path or "." in path else set()


def damages(content: bytes, rng: np.random.Generator) -> list[bytes]:
    """Ways in which a copy of a file goes wrong."""
    cut = int(rng.integers(max(len(content), 1)))
    flipped = bytearray(content or b"\0")
    for place in rng.integers(len(flipped), size=3).tolist():
        flipped[place] ^= 1 << int(rng.integers(8))
    return [b"", content[:cut], bytes(flipped), content + b"\n7", content[: len(content) // 2] * 2]


def expected_samples(truth: Truth, preset: str = "default") -> list[tuple[Recording, Sample]]:
    """The samples that a store must hold, in its order, each with the recording it is of."""
    descriptor = load_descriptor(truth.dataset_id)
    chosen = descriptor.presets[preset]
    kinds = {key: stream.kind for key, stream in descriptor.streams.items()}
    expected: list[tuple[Recording, Sample]] = []
    for recording in truth.recordings[preset]:
        wanted = set(chosen.modalities)
        kept = {key: values for key, values in recording.streams.items() if key in wanted}
        samples = naive_samples(replace(recording, streams=kept), chosen.windowing, kinds)
        expected += [(recording, sample) for sample in samples]
    return expected


def naive_samples(
    recording: Recording, windowing: Windowing, kinds: Mapping[str, str]
) -> list[Sample]:
    """Samples of a recording by plain loops."""
    if not recording.streams:
        return []
    if windowing.mode == "cut":
        return _naive_cut(recording, windowing)
    sample: Sample = {}
    for name, values in recording.streams.items():
        n = windowing.length[name]
        times = [index * (len(values) - 1) / max(n - 1, 1) for index in range(n)]
        nearest = [int(np.ceil(time - 0.5)) for time in times]
        if isinstance(values, PointFrames):
            sample[name] = PointFrames.join([values.frame(index) for index in nearest])
        elif windowing.mode == "still":
            sample[name] = values[0]
        elif kinds[name] in ("depth_video", "image"):
            sample[name] = np.array([values[index] for index in nearest])
        else:
            flat = values.reshape(len(values), -1).astype(float)
            columns = [np.interp(times, range(len(flat)), column) for column in flat.T]
            sample[name] = np.array(columns).T.reshape(n, *values.shape[1:])
    return [sample]


def _naive_cut(recording: Recording, windowing: Windowing) -> list[Sample]:
    samples: list[Sample] = []
    n_frames = {len(values) for values in recording.streams.values()}.pop()
    length = max(windowing.length.values())
    lost = {frame for start, end in recording.gaps for frame in range(start, end)}
    start = 0
    while start + length <= n_frames:
        if lost.isdisjoint(range(start, start + length)):
            sample: Sample = {}
            for name, values in recording.streams.items():
                if isinstance(values, PointFrames):
                    frames = [values.frame(index) for index in range(start, start + length)]
                    sample[name] = PointFrames.join(frames)
                else:
                    sample[name] = values[start : start + length]
            samples.append(sample)
        start += windowing.step or length
    return samples


def check_values(store: Dataset, modality: str, expected: list[tuple[Recording, Sample]]) -> None:
    """Hold a modality of a store against the samples it must have."""
    if store.info.modalities[modality].ragged:
        clouds = store.load_points(modality)
        for row, (recording, sample) in enumerate(expected):
            got, truth = clouds.sample(row), sample.get(modality)
            if isinstance(truth, PointFrames):
                np.testing.assert_array_equal(got.offsets, truth.offsets, recording.key)
                np.testing.assert_allclose(got.values, truth.values, rtol=2e-6, atol=2e-6)
            else:
                assert len(got.values) == 0
        return
    data = store.load(modality)
    for row, (recording, sample) in enumerate(expected):
        if modality in sample:
            truth_values: Any = sample[modality]
            np.testing.assert_allclose(
                data[row], truth_values, rtol=2e-6, atol=2e-6, err_msg=recording.key
            )
        else:
            assert np.isnan(data[row]).all()


def check_columns(store: Dataset, recordings: list[Recording]) -> None:
    """Hold the sample table of a store against the recordings its samples come from."""
    samples = store.samples()
    for column, texts in (("label", "label_text"), ("subject", "subject")):
        expected = [getattr(recording, column) for recording in recordings]
        names = store.names(column)
        codes = store.column(column)
        assert [names[code] if code >= 0 else None for code in codes] == expected
        assert samples[texts].to_pylist() == expected
    for column in ("session", "trial", "placement", "environment"):
        assert samples[column].to_pylist() == [getattr(one, column) for one in recordings]
    assert samples["raw_file"].to_pylist() == [one.raw_files[0] for one in recordings]
    types = load_descriptor(store.info.dataset_id).column_types
    for key in {key for one in recordings for key in one.extra}:
        parse: Callable[[str], Any] = {"integer": int, "number": float}.get(types.get(key, ""), str)
        expected = [parse(one.extra[key]) if key in one.extra else None for one in recordings]
        assert samples[key].to_pylist() == expected
    uids = samples["uid"].to_pylist()
    assert len(set(uids)) == len(uids)
    assert all(re.fullmatch("[0-9a-f]{32}", uid) for uid in uids)


def tree(root: Path) -> dict[str, bytes]:
    """Bytes of every file below a folder."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
