"""README.md of a bundle, a card that the Hugging Face hub reads too; all of it from the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mmbind_data.binding.options import TRAINED
from mmbind_data.publishing.commands import bind_commands, convert_commands, local_names, remarks
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

MAX_CLASSES = 40  # in the table of classes
SIZES = {
    "n<1K": 10**3,
    "1K<n<10K": 10**4,
    "10K<n<100K": 10**5,
    "100K<n<1M": 10**6,
    "1M<n<10M": 10**7,
}

_KINDS = {"pseudo": "pseudo-paired", "incomplete": "incomplete", "natural": "naturally paired"}
_KINDS["mean"] = "to be averaged by the trainer"


def card(facts: Facts) -> str:
    """Text of README.md."""
    environment = Environment(
        loader=PackageLoader("mmbind_data.publishing", "template"),
        autoescape=False,  # Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    bound = facts.bound
    names = local_names(bound).items()
    return environment.get_template("card.md").render(
        facts=facts,
        bound=bound,
        bundle=facts.bundle,
        index_only=facts.bundle.mode == "index-only",
        head=front_matter(facts),
        thousands="{:,}".format,
        percent="{:.1%}".format,
        store=STORE,
        pairs=PAIRS,
        samples=SAMPLES_TABLE,
        inner=INNER,
        kinds=", ".join(f"{n:,} {_KINDS[kind]}" for kind, n in bound.n_rows.items() if n),
        licence=licence_words(facts.bundle.licence),
        duties=", ".join(facts.decision.duties),
        disclaimer=DISCLAIMER,
        local_sources=" ".join(f"--source {source}={path}" for source, path in names),
        commands=[*convert_commands(bound), *bind_commands(bound)],
        remarks=remarks(bound),
        limits=_limits(facts),
        **_pairing_tables(facts),
        **_source_tables(facts),
    )


def front_matter(facts: Facts) -> str:
    """Head of the card in YAML: what the hub's catalogue and viewer read."""
    from huggingface_hub import DatasetCardData

    terms: dict[str, Any] = {"license": hub_licence(facts.bundle.licence)}
    if facts.bundle.licence == CUSTOM:
        terms["license_name"] = f"{facts.bundle.mode}-terms-of-the-sources"
        terms["license_link"] = "LICENSES/BUNDLE.txt"
    data = DatasetCardData(
        **terms,
        pretty_name=facts.title,
        tags=["mmbind", "multimodal", "pseudo-paired", *facts.bound.modalities],
        size_categories=[size_category(facts.table.num_rows)],
        configs=[
            {"config_name": "pairs", "data_files": f"{STORE}/{PAIRS}", "default": True},
            {"config_name": "samples", "data_files": SAMPLES_TABLE},
        ],
    )
    return str(data.to_yaml())


def size_category(n_rows: int) -> str:
    """The hub's name for a number of rows.

    >>> size_category(999), size_category(1000)
    ('n<1K', '1K<n<10K')
    """
    return next((name for name, limit in SIZES.items() if n_rows < limit), "n>10M")


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    def line(cells: Sequence[object]) -> str:
        texts = (str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells)
        return f"| {' | '.join(texts)} |\n"

    return "".join([line(head), line(["---"] * len(head)), *map(line, rows)])


def _pairing_tables(facts: Facts) -> dict[str, str]:
    """Tables on rows and pairs, by the name that the template uses."""
    info, modalities = facts.bound, facts.bound.modalities
    kinds = [
        (kind, f"{n:,}", *(f"{n_carried[name]:,}" for name in modalities))
        for kind, n, n_carried in rows_by_kind(facts)
    ]
    directions = []
    for one in facts.judgement["directions"]:
        accuracy = one["pairing_accuracy"]
        judged = "unknown" if accuracy is None else f"{accuracy:.1%}"
        names = f"{one['anchor']} → {one['partner']}"
        directions.append((names, one["shared"], f"{one['n_pairs']:,}", judged))
    fields = ("metric", "match", "top_k", "weight_rule", "seed")
    bindings = [
        (
            *(number, one.shared, one.recipe, one.embedding.get("name", "unknown")),
            *(getattr(one, field) for field in fields),
        )
        for number, one in enumerate(info.binder, start=1)
    ]
    columns = ("binding", "shared", "recipe", "embedding", "metric", "match", "partners")
    quantiles = similarity_quantiles(facts.table)
    similarity = [f"{value:.4f}" for value in quantiles.values()]
    return {
        "rows_by_kind": _table(("kind", "rows", *modalities), kinds),
        "directions": _table(("anchor → partner", "shared", "pairs", "accuracy"), directions),
        "similarity": _table([f"{share:.0%}" for share in quantiles], [similarity]),
        "bindings": _table((*columns, "weights", "seed"), bindings),
    }


def _source_tables(facts: Facts) -> dict[str, Any]:
    """Tables on the sources, by the name that the template uses; empty where nothing is known."""
    stores = {name: store.info for name, store in facts.stores.items()}
    sources = [
        (
            source.source_id,
            f"{source.dataset_id} {source.dataset_version}",
            ", ".join(source.modalities),
            f"{source.n_samples:,}",
            len(source.subjects),
            f"`{source.content_digest[:12]}`",
        )
        for source in facts.bound.sources
    ]
    head = ("dataset and version", "modalities", "samples", "subjects", "content digest")
    labels = list(dict.fromkeys(label for info in stores.values() for label in info.labels))
    classes = [
        (label, *(f"{info.labels.get(label, 0):,}" for info in stores.values()))
        for label in labels[:MAX_CLASSES]
    ]
    subjects = [
        (name, len(info.subjects), min(info.subjects.values()), max(info.subjects.values()))
        for name, info in stores.items()
        if info.subjects
    ]
    people = ("source", "subjects", "fewest samples of one", "most samples of one")
    modalities = facts.bound.modalities
    present = [
        (name, *(f"{info.n_present.get(modality, 0):,}" for modality in modalities))
        for name, info in stores.items()
    ]
    rights = [
        (right.source_id, right.verdict, right.spdx or "none", right.licence, right.why)
        for right in facts.decision.rights
    ]
    verdict = ("source", "may adapted data be passed on?", "SPDX", "licence", "where it says so")
    return {
        "sources": _table(("source", *head), sources),
        "classes": _table(("class", *stores), classes) if classes else "",
        "n_more_classes": len(labels) - MAX_CLASSES,
        "subjects": _table(people, subjects) if subjects else "",
        "samples_by_modality": _table(("source", *modalities), present),
        "rights": _table(verdict, rights),
    }


def _limits(facts: Facts) -> list[str]:
    found = [
        "A pseudo-paired row joins recordings of different people, times and places; nobody "
        "measured its modalities together.",
        *facts.bound.warnings,
    ]
    if facts.bound.pairing_accuracy is not None:
        wrong = 1 - facts.bound.pairing_accuracy
        right = facts.bound.quality.all_right if facts.bound.quality else None
        partners = "" if right is None else f", {1 - right:.1%} of all partners by weight"
        weight = (
            "the probability that its partner is right"
            if facts.bound.judged
            else ("how similar its partner is, not whether it is right")
        )
        found.append(
            f"{wrong:.1%} of the judged first partners have another label than their anchor"
            f"{partners}; the weight of a row tells {weight}."
        )
    trained = any(one.embedding.get("name") in TRAINED for one in facts.bound.binder)
    if trained and not facts.bundle.encoder:
        found.append("Encoders that were trained on the sources to find partners are left out.")
    for dataset_id, document in facts.descriptors.items():
        found += [f"{dataset_id}: {_words(quirk['value'])}" for quirk in document.get("quirks", ())]
        unverified = document.get("unverified", ())
        found += [f"{dataset_id}, not verified by mmbind: {text}" for text in unverified]
    return found


def _words(value: Any) -> str:
    """A fact as text, whatever its shape in the descriptor."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(part)}" for name, part in value.items())
    return ", ".join(map(_words, value)) if isinstance(value, list) else str(value)
