"""Results appear whole or not at all, and nothing of the user's is ever deleted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from mmbind_data.errors import OutputError
from mmbind_data.io.atomic import (
    DOCUMENTS,
    Kind,
    check_output,
    commit,
    make_folder,
    remove,
    staged,
    staging_path,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_store(folder: Path, text: str = "old") -> Path:
    (folder / "deep").mkdir(parents=True)
    (folder / "zarr.json").write_text('{"attributes": {"mmbind": {}}}')
    (folder / "deep" / "data").write_text(text)
    return folder


def test_what_is_staged_appears_at_the_end_only(tmp_path: Path) -> None:
    out = tmp_path / "sub" / "out.zarr"
    with staged(out, overwrite=False, doing="test") as folder:
        assert folder == staging_path(out)
        assert (folder.parent, folder.name[0]) == (out.parent, ".")
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_bytes(b"abc")
        assert not out.exists()
    assert (out / "deep" / "file").read_bytes() == b"abc"
    assert names(out.parent) == ["out.zarr"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    out = tmp_path / "out.zarr"

    def write() -> None:
        with staged(out, overwrite=False, doing="test") as folder:
            (folder / "half").write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert names(tmp_path) == []


def test_failure_while_overwriting_keeps_the_old(tmp_path: Path) -> None:
    out = write_store(tmp_path / "out.zarr")

    def write() -> None:
        with staged(out, overwrite=True, doing="test") as folder:
            (folder / "half").write_text("half")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - the one raised above
        write()
    assert (out / "deep" / "data").read_text() == "old"
    assert names(tmp_path) == ["out.zarr"]


def test_leftovers_of_a_killed_process_do_not_get_in(tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    staging_path(out).mkdir()
    (staging_path(out) / "leftover").write_text("")
    with staged(out, overwrite=False, doing="test") as folder:
        (folder / "new").write_text("")
    assert names(out) == ["new"]


def test_overwrite_replaces_a_store_wholly(tmp_path: Path) -> None:
    out = write_store(tmp_path / "out.zarr")
    with staged(out, overwrite=True, doing="test") as folder:
        (folder / "new").write_text("new")
        assert (out / "deep" / "data").read_text() == "old"  # until the rename
    assert names(out) == ["new"]
    assert names(tmp_path) == ["out.zarr"]


@pytest.mark.parametrize("kind", ["store", "run"])
@pytest.mark.parametrize("form", ["ours", "other kind", "theirs", "home", "empty", "file"])
def test_only_what_mmbind_made_is_overwritten(tmp_path: Path, kind: Kind, form: str) -> None:
    out = tmp_path / "out"
    document = DOCUMENTS[kind]
    if form == "other kind":
        document = {"zarr.json": "run.json", "run.json": "zarr.json"}[document]
    if form == "file":
        out.write_text("a thesis")
    else:
        out.mkdir()
    if form in ("ours", "other kind"):
        (out / document).write_text('{"spec": "mmbind-run", "attributes": {"mmbind": {}}}')
    elif form == "theirs":
        (out / document).write_text('{"node_type": "group", "attributes": {}}')
    elif form == "home":
        (out / "letter.txt").write_text("dear")
    before = names(out) if out.is_dir() else out.read_text()
    if form in ("ours", "empty"):
        check_output(out, overwrite=True, doing="test", replaces=kind)
    else:
        with pytest.raises(OutputError, match=f"no {kind} that mmbind made"):
            check_output(out, overwrite=True, doing="test", replaces=kind)
        with pytest.raises(OutputError), staged(out, overwrite=True, doing="test", replaces=kind):
            pass
    assert (names(out) if out.is_dir() else out.read_text()) == before
    with pytest.raises(OutputError, match=r"exists already.*--overwrite"):
        check_output(out, overwrite=False, doing="test")


def test_an_input_is_never_the_output(tmp_path: Path) -> None:
    out = write_store(tmp_path / "out.zarr")
    (tmp_path / "link").symlink_to(out)
    for path in (out, str(out), tmp_path / "link", tmp_path / "x" / ".." / "out.zarr"):
        for target in (out, out / "sub.zarr", out / "deep" / "er"):
            with pytest.raises(OutputError, match="one of the inputs, or lies inside"):
                check_output(target, overwrite=True, doing="test", inputs=[path])
    check_output(out, overwrite=True, doing="test", inputs=[tmp_path / "other.zarr"])


def test_a_link_that_leads_nowhere_is_something(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists already"):
        check_output(tmp_path / "out", overwrite=False, doing="test")


def test_a_path_below_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / "sub" / "out.zarr"
    with pytest.raises(OutputError, match="cannot be written"):
        make_folder(out, doing="test")
    with (
        pytest.raises(OutputError, match=r"cannot test: .* at .*: expected .*, got .*\. "),
        staged(out, overwrite=False, doing="test"),
    ):
        pass
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_commit_that_fails_puts_the_old_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, new = write_store(tmp_path / "out.zarr"), write_store(tmp_path / "new", "new")
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self == new:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="No space"):
        commit(new, out, overwrite=True, doing="test")
    assert (out / "deep" / "data").read_text() == "old"


@pytest.mark.parametrize("step", ["before", "after"])
def test_an_interrupt_between_the_renames_puts_the_old_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Ctrl-C comes just before or just after the new result takes its place."""
    out, new = write_store(tmp_path / "out.zarr"), write_store(tmp_path / "new", "new")
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self == new:
            if step == "after":
                rename(self, target)
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        commit(new, out, overwrite=True, doing="test")
    assert (out / "deep" / "data").read_text() == {"before": "old", "after": "new"}[step]
    monkeypatch.undo()
    commit(write_store(tmp_path / "newer", "newer"), out, overwrite=True, doing="test")
    assert (out / "deep" / "data").read_text() == "newer"
    assert not list(tmp_path.glob(".*"))


def test_an_old_result_that_cannot_be_deleted_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = write_store(tmp_path / "out.zarr")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for text in ("new", "newer"):
        new = write_store(tmp_path / "new", text)
        monkeypatch.setattr(shutil, "rmtree", refuse)
        commit(new, out, overwrite=True, doing="test")
        monkeypatch.undo()
        assert (out / "deep" / "data").read_text() == text
    # what could not be deleted is never taken for a store that was lost
    remove(out)
    check_output(out, overwrite=False, doing="test")
    assert not out.exists()
    found = sorted(path.read_text() for path in tmp_path.glob(".*/*/deep/data"))
    assert found == ["new", "old"]


def test_a_write_protected_result_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = write_store(tmp_path / "out.zarr")
    access = os.access
    # root may write anywhere: what the system would say to others
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "deep")
    with (
        pytest.raises(OutputError, match=r"cannot be deleted at .*, got .*deep without"),
        staged(out, overwrite=True, doing="test"),
    ):
        pass
    (tmp_path / "link.zarr").symlink_to(out)
    check_output(tmp_path / "link.zarr", overwrite=True, doing="test")
    monkeypatch.setattr(os, "access", access)
    check_output(out, overwrite=True, doing="test")
    assert names(tmp_path) == ["link.zarr", "out.zarr"]


def test_an_overwrite_killed_between_its_renames_loses_nothing(tmp_path: Path) -> None:
    out = write_store(tmp_path / "out.zarr")
    out.rename(tmp_path / ".out.zarr.replaced")  # as the kill leaves it
    with pytest.raises(OutputError, match="exists already"):
        check_output(out, overwrite=False, doing="test")
    assert (out / "deep" / "data").read_text() == "old"
    assert names(tmp_path) == ["out.zarr"]


def test_what_appears_at_the_target_meanwhile_survives(tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"

    def write() -> None:
        with staged(out, overwrite=False, doing="test") as folder:
            (folder / "new").write_text("new")
            out.mkdir()
            (out / "thesis.txt").write_text("years of work")

    with pytest.raises(OutputError, match="exists already"):
        write()
    assert names(out) == ["thesis.txt"]
    assert names(tmp_path) == ["out.zarr"]


def test_two_writers_of_one_target(tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    with staged(out, overwrite=False, doing="test") as folder:
        (folder / "first").write_text("")
        with (
            pytest.raises(OutputError, match="another mmbind command writes there"),
            staged(tmp_path / "x" / ".." / "out.zarr", overwrite=False, doing="test"),
        ):
            pass
        with staged(tmp_path / "other.zarr", overwrite=False, doing="test"):
            pass
    assert names(out) == ["first"]


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"cannot test: writing failed at .*: .* No space left"),
        staged(tmp_path / "out.zarr", overwrite=False, doing="test"),
    ):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == []


def test_commit_through_a_link_replaces_the_link_alone(tmp_path: Path) -> None:
    behind = write_store(tmp_path / "behind.zarr")
    (tmp_path / "out.zarr").symlink_to(behind)
    new = write_store(tmp_path / "new", "new")
    commit(new, tmp_path / "out.zarr", overwrite=True, doing="test")
    assert (tmp_path / "out.zarr" / "deep" / "data").read_text() == "new"
    assert (behind / "deep" / "data").read_text() == "old"
    assert names(tmp_path) == ["behind.zarr", "out.zarr"]


def test_remove_takes_anything(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store")
    (tmp_path / "link").symlink_to(store)
    (tmp_path / "file").write_text("")
    for name in ("link", "file", "nothing"):
        remove(tmp_path / name)
    assert names(tmp_path) == ["store"]
    remove(store)
    assert names(tmp_path) == []
