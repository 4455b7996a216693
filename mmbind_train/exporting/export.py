"""Export a run as files that a device can use without mmbind."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from mmbind_data.errors import IntegrityError, UsageError, suggest
from mmbind_data.io.atomic import staged
from mmbind_train.exporting import programs
from mmbind_train.exporting.programs import ClassifierPart, Contract, Format, ModalityPart
from mmbind_train.networks.model import AdaptiveModel
from mmbind_train.training.run_folder import RunInfo, load_classifier, load_run

CONTRACT = "contract.json"
ENDINGS: dict[Format, str] = {"torch": ".pt2", "onnx": ".onnx"}
NEEDED: dict[Format, tuple[str, ...]] = {"torch": (), "onnx": ("onnx", "onnxscript", "onnxruntime")}
TOLERANCE = 1e-5
CHECKED = (1, 3)  # numbers of samples that are compared
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
        Replace an export at ``out``.

    Returns
    -------
    Contract
        Every file takes any number of samples, in physical units, and standardises them itself.
        Outputs are those of `AdaptiveModel.features` and `embed`.

    Raises
    ------
    UsageError
        Unknown format or modality, a missing extra, or a network that cannot be exported.
    IntegrityError
        A written file does not give what the run gives.
    FormatError, OutputError

    Examples
    --------
    >>> import mmbind_train as mt
    >>> contract = mt.export("run", "programs", modalities=["acc"])  # doctest: +SKIP
    >>> contract.modalities["acc"].file, contract.modalities["acc"].input_shape  # doctest: +SKIP
    ('acc.pt2', (120, 3))
    """
    if kind not in ENDINGS:
        fix = suggest(kind, ENDINGS)
        _refuse("unknown format", "--format", " or ".join(ENDINGS), repr(kind), fix)
    missing = [name for name in NEEDED[kind] if find_spec(name) is None]
    if missing:
        expected, got = ", ".join(NEEDED[kind]), f"no {', '.join(missing)}"
        fix = "Install them: pip install 'mmbind[onnx]'."
        _refuse("packages are missing", "--format onnx", expected, got, fix)
    info, model = load_run(run)
    classifier = load_classifier(run, info)
    known = info.finetuned.modalities if info.finetuned else tuple(info.modalities)
    for name in modalities or ():
        if name not in known:
            expected, fix = f"one of {', '.join(known)}", suggest(name, known)
            _refuse("no such modality", "--modalities", expected, repr(name), fix)
    given = tuple(name for name in known if not modalities or name in modalities)
    with staged(
        Path(out), overwrite=overwrite, doing="export", inputs=[run], replaces="export"
    ) as folder:
        errors, described, written = [], None, dict[str, programs.ExportedModality]()
        for name in given:
            path = folder / f"{name}{ENDINGS[kind]}"
            part = ModalityPart(info, model, name)
            errors.append(_write(path, part, partial(_modality_inputs, info, model, name)))
            written[name] = programs.describe_modality(path, name, info, model)
        if classifier is not None:
            path = folder / f"classifier{ENDINGS[kind]}"
            last = ClassifierPart(model, classifier, info.space, given)
            errors.append(_write(path, last, partial(_classifier_inputs, info, model, given)))
            described = programs.describe_classifier(path, info, given)
        contract = Contract(
            format=kind,
            method=info.method,
            data_digest=info.data.content_digest,
            modalities=written,
            presence=tuple(info.modalities) if model.n_prompt else None,
            classifier=described,
            largest_difference=max(errors),
            versions={one: version(one) for one in ("mmbind", "torch", *NEEDED[kind])},
        )
        text = json.dumps(contract.model_dump(mode="json"), indent=2) + "\n"
        (folder / CONTRACT).write_text(text, encoding="utf-8")
    return contract


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


def _modality_inputs(info: RunInfo, model: AdaptiveModel, name: str, n: int) -> dict[str, Tensor]:
    """Draw n inputs of a modality's file; clouds are half full."""
    modality = info.modalities[name]
    shape, rng = (n, *modality.shape), torch.Generator().manual_seed(n)
    if modality.classes is not None:
        values = torch.randint(0, modality.classes, shape, generator=rng).float()
    else:
        values = torch.randn(shape, generator=rng)
    if modality.kind == "point_cloud":
        values[:, :, (shape[2] + 1) // 2 :] = torch.nan
    if not model.n_prompt:
        return {programs.VALUES: values}
    present = torch.ones(n, model.n_prompt, dtype=torch.bool)
    return {programs.VALUES: values, programs.PRESENT: present}


def _classifier_inputs(
    info: RunInfo, model: AdaptiveModel, given: tuple[str, ...], n: int
) -> dict[str, Tensor]:
    """Draw n inputs of the classifier's file."""
    rng = torch.Generator().manual_seed(n)
    embedded = info.space == "embedding"
    widths = [model.embedding_dim if embedded else model.dims[name] for name in given]
    read = [torch.randn(n, width, generator=rng) for width in widths]
    present = torch.rand(n, len(given), generator=rng) < 0.7
    return {programs.PRESENT: present, **dict(zip(given, read, strict=True))}


def _refuse(problem: str, at: str, expected: str, got: str, fix: str) -> NoReturn:
    raise UsageError(cannot="export", problem=problem, at=at, expected=expected, got=got, fix=fix)


def _write(
    path: Path, part: ModalityPart | ClassifierPart, inputs: Callable[[int], dict[str, Tensor]]
) -> float:
    """Write a program whose batch axis is open, read it back; the largest difference found."""
    part.eval()
    try:
        _save(path, part, inputs(2))
        program = load_program(path)
    except OSError:
        raise
    except Exception as error:  # torch and onnxscript raise many kinds of errors
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
            results = [one(*inputs(n).values()) for one in (part, program)]
        expected, found = ((one,) if isinstance(one, Tensor) else tuple(one) for one in results)
        pairs = zip(expected, found, strict=True)
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


def _save(path: Path, part: ModalityPart | ClassifierPart, given: dict[str, Tensor]) -> None:
    arguments, open_axes = tuple(given.values()), [{0: torch.export.Dim.DYNAMIC} for _ in given]
    shapes: tuple[Any, ...] = tuple(open_axes)
    if isinstance(part, ClassifierPart):  # what follows `present` is one parameter of it
        shapes = (open_axes[0], tuple(open_axes[1:]))
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # internals of the exporters
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(part, arguments, dynamic_shapes=shapes, strict=False)
            if path.suffix == ENDINGS["torch"]:
                torch.export.save(program, path)
                return
            names: dict[str, Any] = {"input_names": list(given), "output_names": list(part.outputs)}
            found = torch.onnx.export(program, arguments, dynamo=True, verbose=False, **names)
    finally:
        log.setLevel(level)
    if found is None:
        raise RuntimeError("nothing came out of torch.onnx")
    found.save(path)
