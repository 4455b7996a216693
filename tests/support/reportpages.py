"""Reads reports as a stranger would: by a parser that forgives nothing, and naive look-up."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from smallstores import write_small_store

from mmbind_data.binding.bind import bind
from mmbind_data.binding.options import BindOptions
from mmbind_data.store.bound import open_bound
from mmbind_data.store.partitioning import partition

VOID = {"br", "img", "meta"}
PARTNERS = "eval/partners.parquet"


@dataclass
class Node:
    tag: str
    attributes: dict[str, str | None]
    children: list[Node | str] = field(default_factory=list)

    def text(self) -> str:
        return "".join(one if isinstance(one, str) else one.text() for one in self.children)

    def words(self) -> str:
        """The text as a browser shows it: without line breaks and repeated spaces."""
        return " ".join(self.text().split())

    def all(self, tag: str, class_: str | None = None) -> list[Node]:
        found = [] if self.tag != tag else [self]
        if class_ is not None:
            found = [one for one in found if class_ in (one.attributes.get("class") or "").split()]
        for child in self.children:
            if isinstance(child, Node):
                found += child.all(tag, class_)
        return found

    def everything(self) -> list[Node]:
        return [self] + [
            inner for one in self.children if isinstance(one, Node) for inner in one.everything()
        ]


class Reader(HTMLParser):
    """Reads a document and objects to any element that is not closed in its turn."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice: {attrs}"
        node = Node(tag, dict(attrs))
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read_html(path: Path) -> Node:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == [reader.root]
    return reader.root


def browse(browser: str, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page in a browser that reaches no network."""
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        "--hide-scrollbars", f"--user-data-dir={page.parent / 'profile'}",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=127.0.0.1:9", *options,
        page.resolve().as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)


def table_of(page: Node, caption: str) -> list[dict[str, str]]:
    """Rows of the table whose caption begins so, by column name."""
    (found,) = [
        one for one in page.all("table") if one.all("caption")[0].text().startswith(caption)
    ]
    head = [one.text() for one in found.all("thead")[0].all("th")]
    rows = []
    for row in found.all("tbody")[0].all("tr"):
        cells = [one.text() for one in row.children if isinstance(one, Node)]
        rows.append(dict(zip(head, cells, strict=True)))
    return rows


def number(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-").removesuffix(" %"))


@dataclass
class Pair:
    """What a report must say of one pair, found by naive look-up."""

    anchor: dict[str, Any]
    partner: dict[str, Any]
    rank: int
    similarity: float
    weight: float

    @property
    def right(self) -> bool:
        return bool(self.anchor["label_text"] == self.partner["label_text"])


def naive_pairs(path: Path) -> list[Pair]:
    """Every pair of a bound store of one hop, by dictionaries."""
    bound = open_bound(path)
    sample = {
        row["uid"]: row | {"source": one.source_id}
        for one in bound.info.sources
        for row in bound.source(one.source_id).samples().to_pylist()
    }
    row_of = {
        (row["anchor_uid"], row["rank"]): row
        for row in bound.pairs().to_pylist()
        if row["kind"] == "pseudo"
    }
    pairs = []
    for one in pq.read_table(path / PARTNERS).to_pylist():
        row = row_of[one["anchor_uid"], one["rank"]]
        pairs.append(
            Pair(sample[one["anchor_uid"]], sample[one["partner_uid"]], one["rank"],
                 row["similarity"], row["weight"])
        )  # fmt: skip
    return pairs


def make_hostile(root: Path) -> Path:
    """A bound store whose labels and subjects are markup."""
    labels = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "a & b's \x07$title")
    full = write_small_store(root / "full.zarr", labels=labels, subjects=("<b>1</b>", "</style>"))
    for name, subject, modality in (("a", "<b>1</b>", "gyro"), ("b", "</style>", "skeleton")):
        out = root / f"{name}.zarr"
        partition(full, out, subjects=[subject], modalities=["acc", modality])
    out = root / "<i>bound.zarr"
    bind([root / "a.zarr", root / "b.zarr"], out, shared="acc",
         options=BindOptions(embed="raw"))  # fmt: skip
    return out
