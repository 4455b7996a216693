"""Progress tells unit by unit how far a command is and how long it still takes."""

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
times = import_module("mmbind_cli.time_left")
RECENT, time_left = times.RECENT, times.time_left


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def bar(*steps: tuple[float, int, int, str]) -> str:
    """What the bar of a terminal shows last; each step comes so many seconds after the one before.

    The clock stands at each step until the next.
    """
    screen, clock = io.StringIO(), Clock()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    with output._bar("convert mine", console, clock) as update:
        for seconds, done, total, text in steps:
            clock.at += seconds
            update(done, total, text)
    return screen.getvalue().rpartition("convert mine")[2]


def test_time_left_follows_the_recent_pace() -> None:
    clock = Clock()
    left = time_left(clock)
    assert left(0, 1000) is None
    for done in range(1, 401):  # a resumed run finds these finished
        assert left(done, 1000) == 0
    for done in range(401, 401 + RECENT):
        clock.at += 2
        got = left(done, 1000)
    assert got == 2 * (1000 - 400 - RECENT)


def test_time_left_begins_anew_with_other_work() -> None:
    clock = Clock()
    left = time_left(clock)
    clock.at += 50
    assert left(5, 10) == 50
    clock.at += 8
    assert left(1, 3) == 16  # other work: the 8 s since the last word are its own
    clock.at += 2
    assert left(2, 3) == 5
    clock.at += 7
    assert left(1, 3) == 14  # fewer done: the same again
    clock.at += 4
    assert left(2, 8) == 12  # another total, though more done


def test_plain_lines_tell_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    update = output._plain_lines("convert mine", now=clock)
    for done in range(1, 401):
        clock.at += 3
        update(done, 400, f"unit {done}")
    lines = capsys.readouterr().err.splitlines()
    # a line every 5 s or more: every second unit
    assert len(lines) == 200
    assert lines[0] == "convert mine: 2 of 400, unit 2 (20 min left)"
    assert lines[-16] == "convert mine: 370 of 400, unit 370 (2 min left)"
    assert lines[-15] == "convert mine: 372 of 400, unit 372 (84 s left)"
    assert lines[-1] == "convert mine: 400 of 400, unit 400"


def test_bar_tells_count_unit_and_time_left() -> None:
    steps = [(30.0, 1, 9, "walk_[/7]"), (10.0, 8, 9, "sit_2"), (0.0, 9, 9, "run_3")]
    assert "left" not in bar()
    shown = bar(*steps[:1])
    assert "1/9" in shown
    assert "walk_[/7] (4 min left)" in shown
    shown = bar(*steps[:2])
    assert "8/9" in shown
    assert "sit_2 (5 s left)" in shown
    shown = bar(*steps)
    assert "9/9 run_3" in shown
    assert "left" not in shown


def test_a_conversion_tells_each_unit_once(tmp_path: Path) -> None:
    raw = utd_mhad.write(tmp_path / "raw", rng=np.random.default_rng(3)).root
    told: list[tuple[int, int, str]] = []
    made = convert("utd-mhad", raw, tmp_path / "out.zarr", progress=lambda *one: told.append(one))
    units = [one for one in told if not one[2].startswith("writing ")]
    assert [done for done, _, _ in units] == list(range(1, made.n_units + 1))
    assert {total for _, total, _ in told} == {made.n_units}
    assert len({key for _, _, key in units}) == made.n_units


def test_a_remark_stands_above_the_bar() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=80)
    with output._bar("work", console=console) as update:
        update(1, 4, "one")
        output.Screen().tell("warning: begins anew")
        assert "warning: begins anew" in written.getvalue()
    output.Screen(quiet=True).tell("nobody hears this")
    assert "nobody" not in written.getvalue()
