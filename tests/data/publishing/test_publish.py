"""What a bundle holds, what an index-only one does not hold, and when there is none."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from bundles import assert_same_samples, blocks_of, contents, make_bundle, streams
from rawdata.truth import Truth
from reportpages import read_html
from smallstores import edit_pairs, make_world, write_small_store

from mmbind_data.binding.bind import bind
from mmbind_data.binding.options import PAPER
from mmbind_data.errors import IntegrityError, LicenceError, OutputError, UsageError
from mmbind_data.io.digests import write_manifest
from mmbind_data.publishing.bundle_store import write_published
from mmbind_data.publishing.publish import preview_publication, publish
from mmbind_data.spec.descriptor import Licence
from mmbind_data.store.bound import BoundDataset, open_bound
from mmbind_data.store.dataset import open_dataset
from mmbind_data.store.validation import validate
from mmbind_train.data.leak_checks import check_bound
from mmbind_train.data.training_set import gather_bound

PLACEHOLDERS = re.compile(
    r"\bNone\b|\bnan\b|\binf\b|TODO|TBD|FIXME|XXX|Information Needed|\$\w|\{\w*\}|<\w+>|[Ll]orem"
    r"|\{'"  # a mapping of Python, where words belong
)
N_SAMPLES = 31  # of both nodes
ROOT_FILES = {"README.md", "croissant.json", "CITATION.bib", "SHA256SUMS", "MANIFEST.json",
              "report.html", "bundle.json", "samples.parquet"}  # fmt: skip


def source_data(bound: BoundDataset) -> Iterator[bytes]:
    """Everything that the sources hold: values as stored, and as doubles."""
    for one in bound.info.sources:
        store = bound.source(one.source_id)
        for name in store.info.modalities:
            values = store.load(name)
            yield values.tobytes()
            yield values.astype(np.float64).tobytes()


def test_index_only_holds_no_byte_of_the_sources(
    index_bundle: Path, contained_bundle: Path, bound_store: Path, utd_truth: Truth
) -> None:
    raw = (path.read_bytes() for path in utd_truth.root.rglob("*_s[13]_*") if path.is_file())
    blocks = blocks_of(itertools.chain(source_data(open_bound(bound_store)), raw))
    assert len(blocks) > 1000
    for name, stream in streams(index_bundle):
        assert blocks.offsets(stream) == [], name
    # the same look at a bundle that does hold them finds them: compressed in files, plain decoded
    found = [name for name, stream in streams(contained_bundle) if blocks.offsets(stream)]
    assert {name for name in found if name.endswith("data decoded")} == {
        f"bound.zarr/sources/utd-mhad-{node}/modalities/{modality}/data decoded"
        for node, modality in (("a", "acc"), ("a", "skeleton"), ("b", "acc"), ("b", "gyro"))
    }
    assert blocks.offsets(b"xyz" + next(iter(blocks.whole))) == [3]


def test_index_only_tells_nothing_of_samples_but_ids(index_bundle: Path) -> None:
    assert not list(index_bundle.rglob("*.safetensors"))
    assert not (index_bundle / "bound.zarr/sources").exists()
    samples = pq.read_table(index_bundle / "samples.parquet")
    assert samples.column_names == ["source", "uid", "subject", "raw_file", "raw_start", "raw_end",
                                    "t_start", "t_end", "window_index"]  # fmt: skip
    partners = pq.read_table(index_bundle / "bound.zarr/eval/partners.parquet")
    for name in ("anchor_label", "partner_label"):
        assert partners[name].null_count == len(partners) == N_SAMPLES
    assert partners["anchor_uid"].null_count == 0
    page = read_html(index_bundle / "report.html")
    assert not page.all("article")
    assert not page.all("img")
    assert not page.all("path", "signal")
    assert "signal" not in {one.attributes.get("id") for one in page.everything()}
    assert page.all("table")  # figures over all pairs are told


def test_encoders_that_saw_restricted_data_are_left_out(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    options = replace(PAPER, steps=2)
    bind([world.A, world.B], tmp_path / "trained.zarr", shared="acc", options=options)
    whole = json.loads((tmp_path / "trained.zarr/encoder/config.json").read_text())
    assert {"mean", "std", "final_loss"} <= set(whole)
    make_bundle(tmp_path / "trained.zarr", tmp_path / "closed", allowed=False)
    kept = json.loads((tmp_path / "closed/bound.zarr/encoder/config.json").read_text())
    assert set(whole) - set(kept) == {"mean", "std", "final_loss"}
    assert not list((tmp_path / "closed").rglob("*.safetensors"))
    assert "Encoders that were trained" in (tmp_path / "closed/README.md").read_text()
    make_bundle(tmp_path / "trained.zarr", tmp_path / "open", allowed=True)
    weights = "encoder/model.safetensors"
    assert (tmp_path / "open/bound.zarr" / weights).read_bytes() == (
        tmp_path / "trained.zarr" / weights).read_bytes()  # fmt: skip
    # index-only by choice, of data that may be passed on: the encoder may be in it
    make_bundle(tmp_path / "trained.zarr", tmp_path / "chosen", allowed=True, mode="index-only")
    assert (tmp_path / "chosen/bound.zarr" / weights).is_file()
    assert not (tmp_path / "chosen/bound.zarr/sources").exists()


def test_a_self_contained_bundle_needs_nothing_else(
    contained_bundle: Path, bound_store: Path, tmp_path: Path
) -> None:
    away = shutil.copytree(contained_bundle, tmp_path / "away")
    bound, original = open_bound(away / "bound.zarr"), open_bound(bound_store)
    assert validate(bound.path, level="values") == []
    for one in bound.info.sources:
        assert validate(bound.source(one.source_id).path, level="values") == []
    check_bound(bound, method="mmbind")
    rows, wanted = gather_bound(bound), gather_bound(original)
    assert_same_samples(rows, wanted)
    np.testing.assert_array_equal(rows.weight, wanted.weight)
    assert rows.subjects == wanted.subjects
    assert bound.info.content_digest == original.info.content_digest


def test_only_referenced_rows_and_modalities_are_copied(bound_store: Path, tmp_path: Path) -> None:
    """Rows that no pair names stay at home: here those of a table cut down by hand."""
    copy = shutil.copytree(bound_store, tmp_path / "bound.zarr")
    for name in "ab":
        (tmp_path / f"{name}.zarr").symlink_to(bound_store.parent / f"{name}.zarr")
    table = pq.read_table(copy / "meta/pairs.parquet")
    kept = table.filter([row["skeleton.uid"] is None for row in table.to_pylist()])
    kept = kept.take([*range(5)])
    pq.write_table(kept, copy / "meta/pairs.parquet")
    bound = open_bound(copy)
    folder = tmp_path / "out"
    folder.mkdir()
    info = write_published(folder, bound, "self-contained", encoder=False)
    named = {row[f"{m}.uid"] for row in kept.to_pylist() for m in bound.info.modalities}
    named |= set(kept["anchor_uid"].to_pylist())
    held: set[str] = set()
    for one in info.sources:
        if one.source_id not in kept["anchor_source"].to_pylist() and not any(
            one.source_id in kept[f"{m}.source"].to_pylist() for m in bound.info.modalities
        ):
            continue
        store = open_dataset(folder / "sources" / one.source_id)
        held |= set(store.samples()["uid"].to_pylist())
        assert "skeleton" not in store.info.modalities
    assert held == named - {None}
    assert len(held) < 16


def test_files_of_a_bundle(index_bundle: Path, contained_bundle: Path) -> None:
    for bundle in (index_bundle, contained_bundle):
        names = set(contents(bundle))
        assert {name for name in names if "/" not in name} == ROOT_FILES
        assert {
            "LICENSES/BUNDLE.txt",
            "LICENSES/utd-mhad-a.txt",
            "LICENSES/utd-mhad-b.txt",
        } <= names
        listed = [line.split("  ")[1] for line in (bundle / "SHA256SUMS").read_text().splitlines()]
        assert set(listed) == names - {"SHA256SUMS", "MANIFEST.json"}
        done = subprocess.run(
            ["sha256sum", "-c", "--strict", "--quiet", "SHA256SUMS"], cwd=bundle, check=False
        )
        assert done.returncode == 0
    assert (contained_bundle / "PERMISSIONS/permission-utd-mhad.json").read_bytes() == (
        contained_bundle.parent / "permission-utd-mhad.json").read_bytes()  # fmt: skip
    text = (index_bundle / "LICENSES/utd-mhad-a.txt").read_text()
    for words in ("UTD", "unknown", "ICIP 2015", "To be cited", "not legal advice"):
        assert words in text
    bib = (index_bundle / "CITATION.bib").read_text()
    assert re.findall(r"^@(\w+)\{([\w-]+),", bib, re.MULTILINE) == [
        ("inproceedings", "ouyang2025mmbind"), ("misc", "utd-mhad")]  # fmt: skip
    assert "doi = {10.1109/ICIP.2015.7350781}" in bib
    assert bib.count("{") == bib.count("}")


def test_bundle_document(contained_bundle: Path, index_bundle: Path, bound_store: Path) -> None:
    document = json.loads((contained_bundle / "bundle.json").read_text())
    assert (document["spec_version"], document["data_version"]) == ("1.0", "1.0.0")
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", document["tool_version"])
    assert document["licence"] == "CC-BY-4.0"
    assert document["attribution"]
    assert {one["verdict"] for one in document["sources"]} == {"allow"}
    assert {one["permission"] for one in document["sources"]} == {
        "PERMISSIONS/permission-utd-mhad.json"}  # fmt: skip
    digest = open_bound(bound_store).info.content_digest
    other = json.loads((index_bundle / "bundle.json").read_text())
    assert document["content_digest"] == other["content_digest"] == digest
    assert other["licence"] == "LicenseRef-sources"


def card_of(bundle: Path) -> tuple[dict[str, object], str]:
    _, head, body = (bundle / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(head), body


def test_card_head_is_what_the_hub_reads(index_bundle: Path, contained_bundle: Path) -> None:
    head, _ = card_of(index_bundle)
    assert head["license"] == "other"
    assert (index_bundle / str(head["license_link"])).is_file()
    assert head["size_categories"] == ["n<1K"]
    assert {"mmbind", "acc", "skeleton"} <= set(head["tags"])  # type: ignore[call-overload]
    configs = head["configs"]
    assert isinstance(configs, list)
    assert [one["config_name"] for one in configs] == ["pairs", "samples"]
    for one in configs:
        table = pq.read_table(index_bundle / one["data_files"])
        # the hub's viewer knows no coded columns
        assert not any("dictionary" in str(field.type) for field in table.schema)
    head, _ = card_of(contained_bundle)
    assert head["license"] == "cc-by-4.0"
    assert "license_link" not in head


def test_card_tells_figures_of_the_data(index_bundle: Path, bound_store: Path) -> None:
    _, body = card_of(index_bundle)
    bound = open_bound(bound_store)
    rows = bound.pairs().to_pylist()
    similar = sorted(row["similarity"] for row in rows if row["similarity"] is not None)
    median = similar[N_SAMPLES // 2]
    assert f"| {median:.4f} |" in body
    assert f"**{bound.info.pairing_accuracy:.1%}** of {N_SAMPLES} anchors" in body
    labels = Counter(bound.source("utd-mhad-a").samples()["label_text"].to_pylist())
    for label, n in labels.items():
        assert f"| {label} | {n} |" in body
    for kind in ("pseudo", "incomplete"):
        mine = [row for row in rows if row["kind"] == kind]
        carried = [sum(row[f"{m}.uid"] is not None for row in mine) for m in bound.info.modalities]
        assert f"| {kind} | {len(mine)} | {' | '.join(map(str, carried))} |" in body
    for one in bound.info.sources:
        assert f"`{one.content_digest[:12]}`" in body
    assert bound.info.content_digest in body
    assert "not verified by mmbind" in body


def test_no_placeholder_remains(index_bundle: Path, contained_bundle: Path) -> None:
    for bundle in (index_bundle, contained_bundle):
        for name in ("README.md", "croissant.json", "CITATION.bib", "bundle.json",
                     "LICENSES/BUNDLE.txt", "LICENSES/utd-mhad-a.txt"):  # fmt: skip
            text = (bundle / name).read_text()
            if name in ("CITATION.bib", "croissant.json"):  # braces of BibTeX are meant
                text = re.sub(r"[{}]", "", text)
            assert PLACEHOLDERS.findall(text) == [], name
            assert str(bundle.parent) not in text
            assert "/tmp" not in text


def test_publishing_twice_gives_equal_bytes(
    bound_store: Path, contained_bundle: Path, index_bundle: Path, tmp_path: Path
) -> None:
    for allowed, first in ((True, contained_bundle), (False, index_bundle)):
        out = tmp_path / f"other-{allowed}"
        make_bundle(bound_store, out, allowed=allowed)
        assert contents(out) == contents(first)


def test_no_path_of_this_machine_is_told(
    index_bundle: Path, contained_bundle: Path, bound_store: Path
) -> None:
    words = [str(bound_store.parent).encode(), Path.home().as_posix().encode() + b"/"]
    for bundle in (index_bundle, contained_bundle):
        for name, stream in streams(bundle):
            assert not any(word in stream for word in words), name


def test_croissant_is_valid(index_bundle: Path, contained_bundle: Path) -> None:
    """By MLCommons' own validator; in a process of its own, for it warns of its dependencies."""
    pytest.importorskip("mlcroissant")
    script = (
        "import json, sys, mlcroissant\n"
        "for path in sys.argv[1:]:\n"
        "    found = mlcroissant.Dataset(path)\n"
        "    issues = found.metadata.ctx.issues\n"
        "    rows = {name: list(found.records(name)) for name in ('pairs', 'samples')}\n"
        "    first = {name.split('/')[1]: str(value) for name, value in rows['pairs'][0].items()}\n"
        "    print(json.dumps([sorted(issues.errors), len(rows['pairs']), len(rows['samples']),\n"
        "                      found.metadata.name, found.metadata.version, first]))\n"
    )
    places = [str(bundle / "croissant.json") for bundle in (index_bundle, contained_bundle)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *places], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line, bundle in zip(
        done.stdout.splitlines(), (index_bundle, contained_bundle), strict=True
    ):
        errors, n_pairs, n_samples, name, version, first = json.loads(line)
        assert errors == []
        assert (n_pairs, n_samples) == (2 * N_SAMPLES, N_SAMPLES)
        assert (name, version) == ("utd-mhad-by-acc", "1.0.0")
        row = pq.read_table(bundle / "bound.zarr/meta/pairs.parquet").to_pylist()[0]
        assert first["anchor_uid"] == f"b'{row['anchor_uid']}'"
    tampered = json.loads(Path(places[0]).read_text())
    assert tampered["prov:wasDerivedFrom"][0]["version"]
    assert tampered["usageInfo"] == ["Credit: cite what CITATION.bib lists."]


def test_the_hub_library_reads_the_tables(index_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    script = (
        "import sys, datasets\n"
        "for name in ('pairs', 'samples'):\n"
        "    found = datasets.load_dataset(sys.argv[1], name, split='train')\n"
        "    print(name, found.num_rows, found[0]['acc.uid' if name == 'pairs' else 'uid'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(index_bundle)], capture_output=True,
        text=True, check=False,
        env={"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pq.read_table(index_bundle / "bound.zarr/meta/pairs.parquet").to_pylist()
    assert done.stdout.splitlines()[0] == f"pairs {2 * N_SAMPLES} {table[0]['acc.uid']}"
    assert done.stdout.splitlines()[1].startswith(f"samples {N_SAMPLES} ")


@pytest.mark.parametrize("day", ["2026-13-01", "2026-02-30", "20260102", "today", ""])
def test_a_date_is_a_day_of_the_calendar(bound_store: Path, day: str) -> None:
    with pytest.raises(UsageError, match="bad date at --date: expected a day, YYYY-MM-DD"):
        preview_publication(bound_store, "unused", published=day)


def test_non_commercial_use_is_told_to_catalogues(tmp_path: Path) -> None:
    terms = Licence(name="CC BY-NC 4.0", spdx="CC-BY-NC-4.0", redistribution="allow", source="us")
    for name, modality in (("a", "gyro"), ("b", "skeleton")):
        write_small_store(tmp_path / f"{name}.zarr", dataset_id=name, licence=terms,
                          frames={"acc": 24, modality: 12})  # fmt: skip
    bind([tmp_path / "a.zarr", tmp_path / "b.zarr"], tmp_path / "bound.zarr", shared="acc")
    out = tmp_path / "out"
    info = make_bundle(tmp_path / "bound.zarr", out, allowed=False, published="2026-05-06")
    assert (info.mode, info.licence, info.non_commercial) == (
        "self-contained", "CC-BY-NC-4.0", True)  # fmt: skip
    document = json.loads((tmp_path / "out/croissant.json").read_text())
    assert "DUO_0000046" in document["usageInfo"][0]
    assert document["license"] == "https://creativecommons.org/licenses/by-nc/4.0/"
    assert document["datePublished"] == "2026-05-06"
    assert "No commercial use." in (out / "LICENSES/BUNDLE.txt").read_text()
    # the whole text of the licence lies beside what is said of each source
    assert sorted(path.name for path in (out / "LICENSES").iterdir()) == [
        "BUNDLE.txt", "CC-BY-NC-4.0.txt", "a.txt", "b.txt"]  # fmt: skip
    whole = (out / "LICENSES/CC-BY-NC-4.0.txt").read_text()
    assert whole.startswith("Creative Commons Attribution-NonCommercial 4.0 International\n")
    assert "NonCommercial means not primarily intended for or directed towards" in whole
    assert "Text: CC-BY-NC-4.0.txt and https://creativecommons.org" in (
        out / "LICENSES/a.txt").read_text()  # fmt: skip


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"mode": "self-contained"}, LicenceError, "utd-mhad-a: unknown"),
        ({"mode": "linked"}, LicenceError, "paths of this machine"),
        ({"data_version": "1.0"}, UsageError, "MAJOR.MINOR.PATCH"),
        ({"name": "My Bundle"}, UsageError, "--name"),
        ({"published": "today"}, UsageError, "YYYY-MM-DD"),
        ({"permissions": ["nowhere.json"]}, UsageError, "cannot use a permission: unreadable"),
    ],
)
def test_refusals_leave_nothing(
    bound_store: Path,
    tmp_path: Path,
    options: dict[str, object],
    error: type[Exception],
    words: str,
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(error, match=words):
        publish(bound_store, place / "b", **options)  # type: ignore[arg-type]
    assert list(place.iterdir()) == []


def test_a_damaged_store_is_not_published(bound_store: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bound_store, tmp_path / "bound.zarr")
    for name in "ab":
        shutil.copytree(bound_store.parent / f"{name}.zarr", tmp_path / f"{name}.zarr")
    edit_pairs(copy, {"weight": {0: 2.0}})
    place = tmp_path / "place"
    with pytest.raises(IntegrityError, match=r"pairs\.parquet"):
        publish(copy, place / "b")
    write_manifest(copy)  # whoever edits can do that too: the content digest tells
    with pytest.raises(IntegrityError, match="digest-differs"):
        publish(copy, place / "b")
    assert not place.exists()


def test_overwrite_replaces_bundles_alone(bound_store: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    make_bundle(bound_store, out, allowed=False)
    with pytest.raises(OutputError, match="exists already"):
        publish(bound_store, out)
    publish(str(bound_store), str(out), data_version="2.0.0", overwrite=True)
    assert json.loads((out / "bundle.json").read_text())["data_version"] == "2.0.0"
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="no bundle that mmbind made"):
        publish(bound_store, tmp_path / "home", overwrite=True)
    with pytest.raises(OutputError, match="lies inside"):
        publish(bound_store, bound_store / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "home"]


def test_a_preview_decides_and_writes_nothing(bound_store: Path, tmp_path: Path) -> None:
    found = preview_publication(open_bound(bound_store), tmp_path / "b", mode="self-contained")
    assert found.bundle is None
    assert "utd-mhad-b" in found.refusal
    assert found.decision.outcome == "index-only"
    found = preview_publication(bound_store, tmp_path / "b")
    assert found.bundle is not None
    assert found.bundle.mode == "index-only"
    assert list(tmp_path.iterdir()) == []
