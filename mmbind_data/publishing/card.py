"""README.md of a bundle, a card that the Hugging Face hub reads too; all of it from the data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from mmbind_data.binding.options import TRAINED
from mmbind_data.publishing.commands import (
    bind_commands,
    convert_commands,
    local_names,
    remarks,
)
from mmbind_data.publishing.credits import licence_words
from mmbind_data.publishing.facts import (
    SAMPLES_TABLE,
    STORE,
    Facts,
    hub_licence,
    rows_by_kind,
    similarity_quantiles,
)
from mmbind_data.publishing.rights import CUSTOM, DISCLAIMER
from mmbind_data.store.bound import INNER, PAIRS

MOST_CLASSES = 40
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
         (10_000_000, "1M<n<10M"))  # fmt: skip

_KINDS = {"pseudo": "pseudo-paired", "incomplete": "incomplete", "natural": "naturally paired",
          "mean": "to be averaged by the trainer"}  # fmt: skip


def card(facts: Facts) -> str:
    """Text of README.md."""
    parts = [
        front_matter(facts),
        f"# {facts.title}\n",
        _summary(facts),
        _contents(facts),
        _sources(facts),
        _pairing(facts),
        _balance(facts),
        _licence(facts),
        _use(facts),
        _rebuild(facts),
        _limits(facts),
        _versions(facts),
    ]
    return "\n".join(parts)


def front_matter(facts: Facts) -> str:
    """Head of the card: what the hub's catalogue and viewer read."""
    licence = hub_licence(facts.bundle.licence)
    head: dict[str, Any] = {"pretty_name": facts.title, "license": licence}
    if facts.bundle.licence == CUSTOM:
        head["license_name"] = f"{facts.bundle.mode}-terms-of-the-sources"
        head["license_link"] = "LICENSES/BUNDLE.txt"
    head["tags"] = ["mmbind", "multimodal", "pseudo-paired", *facts.bound.modalities]
    head["size_categories"] = [size_category(len(facts.table))]
    head["configs"] = [
        {"config_name": "pairs", "data_files": f"{STORE}/{PAIRS}", "default": True},
        {"config_name": "samples", "data_files": SAMPLES_TABLE},
    ]
    return "---\n" + _yaml(head) + "---\n"


def size_category(n_rows: int) -> str:
    """The hub's word for so many rows.

    >>> size_category(999), size_category(1000)
    ('n<1K', '1K<n<10K')
    """
    return next((name for limit, name in SIZES if n_rows < limit), "n>10M")


def _yaml(head: dict[str, Any]) -> str:
    """A mapping of texts, lists of texts and lists of flat mappings, every text quoted."""
    lines = []
    for name, value in head.items():
        if not isinstance(value, list):
            lines.append(f"{name}: {json.dumps(value)}")
            continue
        lines.append(f"{name}:")
        for one in value:
            if isinstance(one, dict):
                pairs = [f"{key}: {json.dumps(text)}" for key, text in one.items()]
                lines += [f"- {pairs[0]}", *(f"  {pair}" for pair in pairs[1:])]
            else:
                lines.append(f"- {json.dumps(one)}")
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    def line(cells: Sequence[object]) -> str:
        texts = (str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells)
        return f"| {' | '.join(texts)} |"

    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)]) + "\n"


def _summary(facts: Facts) -> str:
    kinds = ", ".join(f"{n:,} {_KINDS[kind]}" for kind, n in facts.bound.n_rows.items() if n)
    kept = (
        "It holds no data of the sources: attach your own copies with `mmbind hydrate`."
        if facts.bundle.mode == "index-only"
        else "It holds the samples that the rows name, once: it trains as it is."
    )
    return (
        f"{len(facts.table):,} training rows over {len(facts.bound.sources)} sources and the "
        f"modalities {', '.join(facts.bound.modalities)}: {kinds}. "
        f"Mode {facts.bundle.mode}. {kept}\n"
    )


def _contents(facts: Facts) -> str:
    modalities = facts.bound.modalities
    body = [(kind, f"{n:,}", *(f"{carried[name]:,}" for name in modalities))
            for kind, n, carried in rows_by_kind(facts)]  # fmt: skip
    files = [
        (f"`{STORE}`", "the store: pairs, weights, provenance"
         + (", and the sources' samples" if facts.bundle.mode == "self-contained" else "")),
        (f"`{STORE}/{PAIRS}`", "one row per training row: which sample gives each modality"),
        (f"`{SAMPLES_TABLE}`", "one row per sample: uid, subject id, raw file and span"),
        ("`report.html`", "figures on the pairing; opens without a network"),
        ("`croissant.json`", "the same for catalogues (Croissant 1.1)"),
        ("`CITATION.bib`, `LICENSES/`", "whom to credit, under what terms"),
        ("`bundle.json`", "versions, mode, rights, content digest"),
        ("`SHA256SUMS`", "`sha256sum -c SHA256SUMS`"),
    ]  # fmt: skip
    return "\n".join([
        "## Contents\n", "Rows by kind, and how many of them carry each modality:\n",
        _table(("kind", "rows", *modalities), body), _table(("file", "what it is"), files),
    ])  # fmt: skip


def _sources(facts: Facts) -> str:
    body = [
        (one.source_id, f"{one.dataset_id} {one.dataset_version}", ", ".join(one.modalities),
         f"{one.n_samples:,}", len(one.subjects), f"`{one.content_digest[:12]}`")
        for one in facts.bound.sources
    ]  # fmt: skip
    head = ("source", "dataset and version", "modalities", "samples", "subjects", "content digest")
    return "## Sources\n\n" + _table(head, body)


def _pairing(facts: Facts) -> str:
    info = facts.bound
    known = info.pairing_accuracy
    judged = facts.judgement.get("n_judged", 0)
    accuracy = (
        "Pairing accuracy is not known: the sources' labels cannot be compared."
        if known is None
        else f"Pairing accuracy: **{known:.1%}** of {judged:,} anchors have the label of their "
        "first partner. Labels were read only to judge."
    )
    quantiles = similarity_quantiles(facts.table)
    directions = [
        (f"{one['anchor']} → {one['partner']}", one["shared"], f"{one['n_pairs']:,}",
         "unknown" if one["pairing_accuracy"] is None else f"{one['pairing_accuracy']:.1%}")
        for one in facts.judgement["directions"]
    ]  # fmt: skip
    how = [
        (number + 1, one.shared, one.recipe, one.embedding.get("name", "unknown"), one.metric,
         one.match, one.top_k, one.weight_rule, one.seed)
        for number, one in enumerate(info.binder)
    ]  # fmt: skip
    names = ("binding", "shared", "recipe", "embedding", "metric", "match", "partners", "weights",
             "seed")  # fmt: skip
    return "\n".join([
        "## Pairing\n", accuracy + "\n",
        _table(("anchor → partner", "shared", "pairs", "accuracy"), directions),
        "Similarity of pseudo-paired rows, as measured:\n",
        _table([f"{one:.0%}" for one in quantiles], [[f"{one:.4f}" for one in quantiles.values()]]),
        f"A partner is used {info.reuse['mean']:.1f} times on average, {info.reuse['max']:.0f} "
        "times at most.\n",
        _table(names, how),
    ])  # fmt: skip


def _balance(facts: Facts) -> str:
    classes: dict[str, Counter[str]] = {}
    for source_id, store in facts.stores.items():
        for label, n in store.info.labels.items():
            classes.setdefault(label, Counter())[source_id] += n
    ids = list(facts.stores)
    listed = list(classes.items())
    body = [
        (label, *(f"{counts[one]:,}" for one in ids)) for label, counts in listed[:MOST_CLASSES]
    ]
    rest = len(listed) - MOST_CLASSES
    parts = ["## Balance\n"]
    parts.append(_table(("class", *ids), body) if body else "No source has labels.\n")
    if rest > 0:
        parts.append(f"And {rest} more classes: see `report.html`.\n")
    people = [
        (one, len(store.info.subjects), min(store.info.subjects.values()),
         max(store.info.subjects.values()))
        for one, store in facts.stores.items() if store.info.subjects
    ]  # fmt: skip
    head = ("source", "subjects", "fewest samples of one", "most samples of one")
    parts.append(_table(head, people) if people else "Subjects are not known.\n")
    carried = [
        (one, *(f"{store.info.n_present.get(name, 0):,}" for name in facts.bound.modalities))
        for one, store in facts.stores.items()
    ]
    parts += ["Samples by modality:\n", _table(("source", *facts.bound.modalities), carried)]
    return "\n".join(parts)


def _licence(facts: Facts) -> str:
    body = [(one.source_id, one.verdict, one.spdx or "none", one.licence, one.why)
            for one in facts.decision.rights]  # fmt: skip
    head = ("source", "may adapted data be passed on?", "SPDX", "licence", "where it says so")
    duties = [words for holds, words in (
        (facts.bundle.attribution, "credit"), (facts.bundle.share_alike, "share alike"),
        (facts.bundle.non_commercial, "no commercial use")) if holds]  # fmt: skip
    return "\n".join([
        "## Licence\n",
        f"Licence of this bundle: {licence_words(facts.bundle.licence)}. "
        f"Asked for: {', '.join(duties) or 'nothing'}.\n",
        _table(head, body), f"{DISCLAIMER}\n",
    ])  # fmt: skip


def _use(facts: Facts) -> str:
    name = facts.bundle.name
    lines = [f"$ mmbind verify {name} --deep"]
    if facts.bundle.mode == "index-only":
        names = local_names(facts.bound)
        given = " ".join(f"--source {one}={path}" for one, path in names.items())
        lines += [f"$ mmbind hydrate {name} -o hydrated.zarr {given}",
                  "$ mmbind train hydrated.zarr -o run"]  # fmt: skip
        note = "The stores to attach are made by the first commands of the next section.\n"
    else:
        lines.append(f"$ mmbind train {name}/{STORE} -o run")
        first = facts.bound.sources[0].source_id
        place = f"{STORE}/{INNER}/{first}"
        note = f"Each source is a converted store of its own, such as `{place}`.\n"
    head = f"With this folder as `{name}`:\n"
    return "\n".join(["## Use\n", head, "```console", *lines, "```\n", note])


def _rebuild(facts: Facts) -> str:
    lines = [*convert_commands(facts.bound), *bind_commands(facts.bound)]
    told = [f"- {one}" for one in remarks(facts.bound)]
    return "\n".join([
        "## Rebuild\n", "`RAW` is the folder of the dataset's raw data.\n", "```console",
        *(f"$ {line}" for line in lines), "```\n", *told,
        f"The result has the content digest `{facts.bundle.content_digest}`.\n",
    ])  # fmt: skip


def _limits(facts: Facts) -> str:
    found = [
        "A pseudo-paired row joins recordings of different people, times and places; nobody "
        "measured its modalities together.",
        *facts.bound.warnings,
    ]
    if facts.bound.pairing_accuracy is not None:
        wrong = 1 - facts.bound.pairing_accuracy
        found.append(f"{wrong:.1%} of the judged pairs join different labels; the weight of a row "
                     "tells how similar its partners are, not whether they are right.")  # fmt: skip
    trained = any(one.embedding.get("name") in TRAINED for one in facts.bound.binder)
    if trained and not facts.bundle.encoder:
        found.append("Encoders that were trained on the sources to find partners are left out.")
    for dataset_id, document in facts.descriptors.items():
        found += [f"{dataset_id}: {_words(one['value'])}" for one in document.get("quirks", ())]
        found += [f"{dataset_id}, not verified by mmbind: {one}"
                  for one in document.get("unverified", ())]  # fmt: skip
    return "## Known limits\n\n" + "\n".join(f"- {one}" for one in found) + "\n"


def _words(value: Any) -> str:
    """A fact for people, whatever its shape in the descriptor."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(one)}" for name, one in value.items())
    return ", ".join(map(_words, value)) if isinstance(value, list) else str(value)


def _versions(facts: Facts) -> str:
    bundle = facts.bundle
    body = [
        ("data", bundle.data_version),
        ("specification", f"{bundle.spec} {bundle.spec_version}, {facts.bound.spec} "
                          f"{facts.bound.spec_version}"),
        ("tool", f"mmbind {bundle.tool_version}"),
        ("content digest", f"`{bundle.content_digest}`"),
    ]  # fmt: skip
    return "\n".join([
        "## Versions\n", _table(("what", "version"), body),
        "Of the data: PATCH, the same content written anew; MINOR, rows were added and none "
        "changed; MAJOR, rows were changed or taken away.\n",
    ])  # fmt: skip
