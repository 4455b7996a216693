"""Progress reports unit by unit how far a command is."""

from __future__ import annotations

import io
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from rawdata import utd_mhad
from rich.console import Console

from mmbind_data.conversion.convert import convert

output = import_module("mmbind_cli.output")


def test_lines_show_count_unit_and_elapsed_time(capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter(range(0, 3000, 3))
    update = output.progress_lines("convert mine", now=lambda: next(clock))
    for done in range(1, 401):
        update(done, 400, f"unit {done}")
    lines = capsys.readouterr().err.splitlines()
    # a line every 5 s or more: every second unit
    assert len(lines) == 200
    assert lines[0] == "convert mine: 2 of 400, unit 2 (6 s)"
    assert lines[50] == "convert mine: 102 of 400, unit 102 (5 min)"
    assert lines[-1] == "convert mine: 400 of 400, unit 400 (20 min)"


@pytest.mark.parametrize(
    ("steps", "shown"),
    [
        ([(1, "walk_[/7]")], "1/9 -:--:-- walk_[/7]"),  # one step has no pace; text, not markup
        ([(1, "walk_7"), (9, "run_3")], "9/9 0:00:00 run_3"),
    ],
)
def test_bar_shows_count_time_left_and_unit(steps: list[tuple[int, str]], shown: str) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    with output.progress_bar("convert mine", console) as update:
        for done, text in steps:
            update(done, 9, text)
    assert shown in screen.getvalue().rpartition("convert mine")[2]


def test_a_conversion_reports_each_unit_once(tmp_path: Path) -> None:
    raw = utd_mhad.write(tmp_path / "raw", rng=np.random.default_rng(3)).root
    told: list[tuple[int, int, str]] = []
    made = convert("utd-mhad", raw, tmp_path / "out.zarr", progress=lambda *one: told.append(one))
    units = [one for one in told if not one[2].startswith("writing ")]
    assert [done for done, _, _ in units] == list(range(1, made.n_units + 1))
    assert {total for _, total, _ in told} == {made.n_units}
    assert len({key for _, _, key in units}) == made.n_units


def test_a_remark_is_printed_above_the_bar() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=80)
    with output.progress_bar("work", console) as update:
        update(1, 4, "one")
        output.Screen().remark("warning: begins anew")
        assert "warning: begins anew" in written.getvalue()
    output.Screen(quiet=True).remark("nobody hears this")
    assert "nobody" not in written.getvalue()
