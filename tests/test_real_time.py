"""Binding by time on real clocks: two phones on one body, RealWorld proband 1.

Each phone wrote its own file with its own time stamps, acc at the forearm or the waist, gyro at
the shin; two activities, of which the shin's gyroscope saw one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmbind_data.binding.bind import bind
from mmbind_data.binding.options import BindOptions
from mmbind_data.conversion.convert import convert
from mmbind_data.store.bound import open_bound

pytestmark = pytest.mark.realdata


@pytest.mark.parametrize(
    ("place", "n_pairs", "alike"), [("waist", 638, 0.7), ("forearm", 637, 0.2)]
)
def test_two_phones_meet_by_their_clocks(
    real_data: Path, tmp_path: Path, place: str, n_pairs: int, alike: float
) -> None:
    raw, inputs = real_data / "realworld", [tmp_path / "acc.zarr", tmp_path / "gyro.zarr"]
    for path, modality, placement in zip(inputs, ("acc", "gyro"), (place, "shin"), strict=True):
        convert("realworld", raw, path, modalities=[modality], placements=[placement])
    info = bind(inputs, tmp_path / "o.zarr", shared="time", options=BindOptions(window_s=1.0))
    bound = open_bound(tmp_path / "o.zarr")
    rows = [row for row in bound.pairs().to_pylist() if row["kind"] == "pseudo"]
    # 319 windows of walking at each place, one of the forearm's over a gap; climbing has nobody
    assert len(rows) == info.n_rows["pseudo"] == n_pairs
    assert info.pairing_accuracy == 1.0
    begin, strength = np.empty((2, n_pairs)), np.empty((2, n_pairs))
    for side, name in enumerate(("acc", "gyro")):
        for source in bound.info.sources:
            store = bound.source(source.source_id)
            mine = [n for n, row in enumerate(rows) if row[f"{name}.source"] == source.source_id]
            if not mine:
                continue
            places = [rows[number][f"{name}.row"] for number in mine]
            table = store.samples().take(places).to_pydict()
            assert set(table["label_text"]) == {"walking"}
            assert set(table["placement"]) == {place if name == "acc" else "shin"}
            begin[side, mine] = np.array(table["start_ms"], dtype=float) / 1e3 + table["t_start"]
            strength[side, mine] = store.load(name, places).std(axis=1).sum(axis=1)
    apart = np.abs(begin[0] - begin[1])
    assert np.median(apart) < 0.05  # the phones were started together, to some milliseconds
    assert (apart > 0.05).sum() <= 1  # the partner of the window that a gap took
    # whoever walks harder moves all limbs harder: the window at hand tells it, those far off do not
    first = [row["anchor_source"] == rows[0]["anchor_source"] for row in rows]
    acc, gyro = strength[:, first]
    assert np.corrcoef(acc, gyro)[0, 1] > alike
    assert all(abs(np.corrcoef(acc, np.roll(gyro, shift))[0, 1]) < 0.15 for shift in (20, 50, 100))
