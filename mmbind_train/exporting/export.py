"""`mmbind export`: a run as files that a device can use without mmbind."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmbind_data.errors import IntegrityError, UsageError, suggest
from mmbind_data.io.atomic import staged
from mmbind_data.spec.descriptor import Modality
from mmbind_train.exporting.programs import (
    LOGITS,
    OUTPUTS,
    PRESENT,
    VALUES,
    ClassifierPart,
    Contract,
    Format,
    ModalityPart,
    describe_classifier,
    describe_modality,
)
from mmbind_train.networks.model import AdaptiveModel
from mmbind_train.training.run_folder import RunInfo, load_classifier, load_run

CONTRACT = "contract.json"
ENDINGS: dict[Format, str] = {"torch": ".pt2", "onnx": ".onnx"}
NEEDED: dict[Format, tuple[str, ...]] = {
    "torch": (),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
}
TOLERANCE = 1e-5
CHECKED = (1, 3)  # numbers of samples
Program = Callable[..., Tensor | Sequence[Tensor]]


def export(
    run: str | Path,
    out: str | Path,
    *,
    kind: Format = "torch",
    modalities: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Contract:
    """Write encoders and heads of a run, and its classifier, as programs of their own.

    Parameters
    ----------
    run : path
        The output of `train`, or what `evaluate` has saved.
    out : path
        Folder: one file per modality, the classifier if the run has one, contract.json.
    kind : {"torch", "onnx"}
        ``torch``: programs of torch.export (.pt2); ``onnx``: needs the extra ``onnx``.
    modalities : sequence of str, optional
        By default all; of a fine-tuned run those that it was fine-tuned with.
    overwrite : bool

    Returns
    -------
    Contract
        Every file takes any number of samples, in physical units: what standardises them lies
        inside. Outputs are those of `AdaptiveModel.features` and `embed`.

    Raises
    ------
    UsageError
        Unknown format or modality, a missing extra, or a network that cannot be exported.
    IntegrityError
        A written file does not give what the run gives.
    FormatError, OutputError
    """
    if kind not in ENDINGS:
        raise UsageError(
            cannot="export",
            problem="unknown format",
            at="--format",
            expected=" or ".join(ENDINGS),
            got=repr(kind),
            fix=suggest(kind, ENDINGS),
        )
    _check_extra(kind)
    info, model = load_run(Path(run))
    classifier = load_classifier(Path(run), info)
    given = _chosen(info, modalities)
    with staged(
        Path(out), overwrite=overwrite, doing="export", inputs=[run], replaces="export"
    ) as folder:
        files = {name: f"{name}{ENDINGS[kind]}" for name in given}
        errors = [_write_modality(folder / file, info, model, name) for name, file in files.items()]
        described = None
        if classifier is not None:
            path = folder / f"classifier{ENDINGS[kind]}"
            part = ClassifierPart(model, classifier, info.space, given)
            errors.append(_write_classifier(path, part, model, given))
            described = describe_classifier(path, info, given)
        contract = Contract(
            format=kind,
            method=info.method,
            data_digest=info.data.content_digest,
            modalities={
                name: describe_modality(folder / file, name, info, model)
                for name, file in files.items()
            },
            presence=tuple(info.modalities) if model.n_prompt else None,
            classifier=described,
            largest_difference=max(errors),
            versions={one: version(one) for one in ("mmbind", "torch", *NEEDED[kind])},
        )
        text = json.dumps(contract.model_dump(mode="json"), indent=2) + "\n"
        (folder / CONTRACT).write_text(text, encoding="utf-8")
    return contract


def example(modality: Modality, n: int) -> Tensor:
    """Draw an input, shape (n, *shape), float32, such as a file takes; clouds half full."""
    shape = (n, *modality.shape)
    rng = torch.Generator().manual_seed(n)
    if modality.classes is not None:
        return torch.randint(0, modality.classes, shape, generator=rng).float()
    values = torch.randn(shape, generator=rng)
    if modality.kind == "point_cloud":
        values[:, :, (shape[2] + 1) // 2 :] = torch.nan
    return values


def load_program(path: Path) -> Program:
    """Read a written file back as a function of tensors by position."""
    if path.suffix == ENDINGS["torch"]:
        program: Program = torch.export.load(path).module()
        return program
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(*inputs: Tensor) -> list[Tensor]:
        given = {name: one.numpy() for name, one in zip(names, inputs, strict=True)}
        return [torch.from_numpy(one) for one in session.run(None, given)]

    return run


def _check_extra(kind: Format) -> None:
    missing = [name for name in NEEDED[kind] if find_spec(name) is None]
    if missing:
        raise UsageError(
            cannot="export",
            problem="packages are missing",
            at="--format onnx",
            expected=", ".join(NEEDED[kind]),
            got=f"no {', '.join(missing)}",
            fix="Install them: pip install 'mmbind[onnx]'.",
        )


def _chosen(info: RunInfo, modalities: Sequence[str] | None) -> tuple[str, ...]:
    known = info.finetuned.modalities if info.finetuned else tuple(info.modalities)
    for name in modalities or ():
        if name not in known:
            raise UsageError(
                cannot="export",
                problem="no such modality",
                at="--modalities",
                expected=f"one of {', '.join(known)}",
                got=repr(name),
                fix=suggest(name, known),
            )
    return tuple(name for name in known if not modalities or name in modalities)


def _write_modality(path: Path, info: RunInfo, model: AdaptiveModel, name: str) -> float:
    """Write one modality's file; the largest difference between it and the network."""
    modality = info.modalities[name]
    part = ModalityPart(model, name, modality, info.statistics[name], info.config.recentre)

    def inputs(n: int) -> dict[str, Tensor]:
        given = {VALUES: example(modality, n)}
        if model.n_prompt:
            given[PRESENT] = torch.ones(n, model.n_prompt, dtype=torch.bool)
        return given

    return _write(path, part, inputs, OUTPUTS)


def _write_classifier(
    path: Path, part: ClassifierPart, model: AdaptiveModel, given: tuple[str, ...]
) -> float:
    def inputs(n: int) -> dict[str, Tensor]:
        rng = torch.Generator().manual_seed(n)
        widths = [
            model.embedding_dim if part.reads == "embedding" else model.dims[k] for k in given
        ]
        read = [torch.randn(n, width, generator=rng) for width in widths]
        present = torch.rand(n, len(given), generator=rng) < 0.7
        return {PRESENT: present, **dict(zip(given, read, strict=True))}

    return _write(path, part, inputs, LOGITS)


def _write(
    path: Path,
    part: nn.Module,
    inputs: Callable[[int], dict[str, Tensor]],
    outputs: tuple[str, ...],
) -> float:
    """Write a program whose batch axis is open, read it back and compare."""
    part.eval()
    given = inputs(2)
    try:
        _save(path, part, given, outputs)
        program = load_program(path)
    except OSError:
        raise
    except Exception as error:  # torch and onnxscript raise many sorts, none of them ours
        raise UsageError(
            cannot="export",
            problem="this network cannot be written in that format",
            at=path.name,
            expected="operations that the format has",
            got=str(error).strip().splitlines()[0],
            fix="Leave the modality out with --modalities, or use the other format.",
        ) from error
    largest = 0.0
    for n in CHECKED:
        with torch.no_grad():
            expected, found = part(*inputs(n).values()), program(*inputs(n).values())
        pairs = zip(_as_tuple(expected), _as_tuple(found), strict=True)
        largest = max(largest, *(float((a - b).abs().max()) for a, b in pairs))
    if not largest <= TOLERANCE:
        raise IntegrityError(
            cannot="export",
            problem="the written file gives other values",
            at=path.name,
            expected=f"a difference of at most {TOLERANCE}",
            got=f"{largest:.2g}",
            fix="Use the other format.",
        )
    return largest


def _save(path: Path, part: nn.Module, given: dict[str, Tensor], outputs: tuple[str, ...]) -> None:
    batch = torch.export.Dim.DYNAMIC
    open_axes: list[Any] = [{0: batch} for _ in given]
    if isinstance(part, ClassifierPart):  # what lies behind `present` is one parameter of it
        open_axes = [open_axes[0], tuple(open_axes[1:])]
    with _quiet(), torch.no_grad():
        program = torch.export.export(
            part, tuple(given.values()), dynamic_shapes=tuple(open_axes), strict=False
        )
        if path.suffix == ENDINGS["torch"]:
            torch.export.save(program, path)
            return
        found = torch.onnx.export(
            program, tuple(given.values()), dynamo=True, verbose=False, input_names=list(given),
            output_names=list(outputs),
        )  # fmt: skip
        if found is None:
            message = "nothing came out of torch.onnx"
            raise RuntimeError(message)
        found.save(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporters say of their own insides from the user."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _as_tuple(values: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    return (values,) if isinstance(values, Tensor) else tuple(values)
