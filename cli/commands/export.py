"""mmbind export RUN OUT."""

from __future__ import annotations

from typing import Any, Literal

import click

from .. import options
from ..output import Report, notes, reported

NO_CLASSIFIER = "the run has no classifier: mmbind evaluate --save gives one that has"


@click.command("export")
@click.argument("run", type=click.Path())
@click.argument("out", type=click.Path())
@options.choice("--format", ["torch", "onnx"], "torch.export programs, or ONNX.", "torch")
@options.names("--modalities", help="Which to write; by default all.")
@options.overwrite(help="Replace an export at OUT.")
@reported
def command(run: str, out: str, format: Literal["torch", "onnx"], **chosen: Any) -> Report:
    """Write RUN's encoders, and its classifier, as files that work without mmbind.

    Each file takes samples in physical units and gives feature and embedding; OUT/contract.json
    tells the shapes, the units and what a caller does before.
    """
    from mmbind_train.exporting.export import export

    contract = export(run, out, kind=format, **chosen)
    lines = [
        f"{one.file}: {one.described.kind} {one.input_shape} in {one.described.unit} to feature "
        f"({one.feature_dim},) and embedding ({one.embedding_dim},)"
        for one in contract.modalities.values()
    ]
    if contract.classifier is not None:
        names = ", ".join(contract.classifier.modalities)
        classes = len(contract.classifier.classes)
        lines.append(f"{contract.classifier.file}: any of {names} to {classes} classes")
    lines.append(f"{out}: within {contract.largest_difference:.1g} of the run")
    remarks = [] if contract.classifier else [NO_CLASSIFIER]
    return Report({"path": out, **contract.model_dump(mode="json")}, lines, notes(remarks))
