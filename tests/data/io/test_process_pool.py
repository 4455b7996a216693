"""The process pool: every task once, here or there; a process that dies is reported."""

from __future__ import annotations

import os
import time
from multiprocessing import parent_process
from pathlib import Path

import pytest

from mmbind_data.errors import OutputError
from mmbind_data.io.process_pool import process_pool, run_all


def where(task: float) -> tuple[float, int]:
    time.sleep(task)
    return task, os.getpid()


def test_tasks_are_shared_with_this_process() -> None:
    tasks = [0.01 * k for k in range(20)]
    with process_pool(1, cannot="test", option="--n") as pool:
        pool.submit(where, 0).result()
        found = dict(run_all(pool, where, tasks, [*range(1, 20), 0]))
    assert sorted(found) == list(range(20))
    assert [task for _, (task, _) in sorted(found.items())] == tasks
    pids = {pid for _, pid in found.values()}
    assert len(pids) == 2
    assert os.getpid() in pids
    assert dict(run_all(None, where, [0, 0], [1, 0])) == dict.fromkeys((0, 1), (0, os.getpid()))


def slow_or_broken(folder: Path) -> None:
    """Fail in this process while another one is still at its task."""
    if parent_process() is None:
        while not (folder / "begun").exists():
            time.sleep(0.01)
        raise FileNotFoundError
    with (folder / "begun").open("a") as stream:
        stream.write("1")
    time.sleep(0.3)
    with (folder / "done").open("a") as stream:
        stream.write("1")


def test_nobody_writes_any_more_after_a_failure(tmp_path: Path) -> None:
    """Whoever clears up must not find that what is being done appears again."""
    with process_pool(1, cannot="test", option="--n") as pool:
        with pytest.raises(FileNotFoundError):
            list(run_all(pool, slow_or_broken, [tmp_path] * 20, range(20)))
        assert (tmp_path / "done").read_text() == "1"
    assert (tmp_path / "begun").read_text() == "1"


@pytest.mark.parametrize("size", [1, 2])
def test_a_process_that_dies_is_reported(size: int) -> None:
    with (
        pytest.raises(OutputError, match=r"cannot test: a worker process died at --n: .*smaller"),
        process_pool(size, cannot="test", option="--n") as pool,
    ):
        pool.submit(os._exit, 3).result()
