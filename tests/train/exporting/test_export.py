"""Exported files give what the run gives, from physical units, whatever the number of samples."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
import torch
from kinds import MODALITIES, write_kind_store

from mmbind_data.errors import IntegrityError, OutputError, UsageError
from mmbind_data.spec.store import InputBounds
from mmbind_data.store.dataset import open_dataset
from mmbind_train.config import EvaluateConfig, NetworkOptions, Space, TrainConfig
from mmbind_train.data.batch import Batch, make_batch
from mmbind_train.data.training_set import TrainingSet, gather_store, measure_statistics
from mmbind_train.exporting.export import CONTRACT, export, load_program
from mmbind_train.exporting.programs import Contract, Format
from mmbind_train.networks.model import AdaptiveModel, Classifier
from mmbind_train.training.run_folder import DataInfo, FinetuneInfo, RunInfo, save_run

COMPACT = NetworkOptions(width=8, feature_dim=16, embedding_dim=8)
REFERENCE = NetworkOptions(variant="reference", embedding_dim=8)
BOUNDS = InputBounds(frames=8, points=5, pixels=150)
NETWORKS = ("acc", "skeleton", "depth", "radar", "wifi_csi", "image", "semseg")
CLASSES = ("clap", "kick", "wave")


class Case:
    """A run of fresh weights in a folder, its network, and rows as stored and as it reads them."""

    def __init__(
        self, root: Path, names: Sequence[str], network: NetworkOptions, space: Space = "feature",
        *, finetuned: tuple[str, ...] = (), recentre: str = "frame",
    ) -> None:  # fmt: skip
        store = open_dataset(write_kind_store(root / "k.zarr", names))
        bounds = BOUNDS if network.variant == "compact" else InputBounds(points=5)
        config = TrainConfig.model_validate(
            {"network": network, "inputs": bounds, "recentre": recentre}
        )
        self.stored = gather_store(store, names, bounds=bounds, recentre="none")
        self.rows: TrainingSet = gather_store(store, names, bounds=bounds, recentre=config.recentre)
        self.statistics = measure_statistics(self.rows)
        torch.manual_seed(0)
        self.model = AdaptiveModel(self.rows.modalities, network).eval()
        width = self.model.width(space)
        self.classifier = Classifier(len(names), width, len(CLASSES), 0.2).eval()
        self.path = root / "run"
        self.path.mkdir()
        data = DataInfo(path="k", kind="converted", content_digest="k")
        tuned = FinetuneInfo(modalities=finetuned, data=data, config=EvaluateConfig())
        info = RunInfo(
            method="mmbind", config=config, space=space, classes=CLASSES, data=data,
            finetuned=tuned if finetuned else None,
            modalities=dict(self.rows.modalities), statistics=self.statistics, subjects={},
            stretched=dict(self.rows.stretched), n_rows={}, steps=0, final_loss=None, versions={},
        )  # fmt: skip
        save_run(self.path, info, self.model, self.classifier, samples=pa.table({"uid": []}))

    def batch(self, n: int) -> Batch:
        return make_batch(self.rows, np.arange(n), self.statistics)

    def physical(self, name: str, n: int) -> torch.Tensor:
        return torch.from_numpy(self.stored.values[name][np.arange(n)])


@torch.no_grad()
def check(case: Case, out: Path, contract: Contract) -> None:
    """Feed stored values to the files alone and compare with the whole network."""
    for column, (name, one) in enumerate(contract.modalities.items()):
        assert one.input_shape == case.stored.values[name][np.arange(1)].shape[1:]
        program = load_program(out / one.file)
        for n in (1, 2, 7):
            batch = case.batch(n)
            features = case.model.features(batch.inputs, batch.present)
            z = case.model.embed(features)
            told = () if contract.presence is None else (batch.present,)
            feature, embedding = program(case.physical(name, n), *told)
            expected = features[:, column, : one.feature_dim]
            torch.testing.assert_close(feature, expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(embedding, z[:, column], atol=1e-5, rtol=1e-5)


def test_every_network_gives_what_the_run_gives(tmp_path: Path) -> None:
    case = Case(tmp_path, NETWORKS, COMPACT)
    contract = export(case.path, tmp_path / "out")
    check(case, tmp_path / "out", contract)
    assert contract.largest_difference <= 1e-5
    text = (tmp_path / "out" / CONTRACT).read_text()
    assert Contract.model_validate_json(text) == contract
    assert contract.modalities["acc"].described.unit == "m/s^2"
    assert contract.modalities["acc"].standardised == case.statistics["acc"]
    assert contract.modalities["semseg"].standardised is None
    assert "Pad each frame with NaN to 5 points; of more, take as many, evenly." in (
        contract.modalities["radar"].before
    )
    assert any("12 became 8" in one for one in contract.modalities["depth"].before)


def test_networks_in_onnx(tmp_path: Path) -> None:
    case = Case(tmp_path, ("skeleton", "radar", "semseg"), COMPACT)
    contract = export(case.path, tmp_path / "out", kind="onnx")
    check(case, tmp_path / "out", contract)
    assert set(contract.versions) == {"mmbind", "torch", "onnx", "onnxscript", "onnxruntime"}
    for one in contract.modalities.values():
        path = tmp_path / "out" / one.file
        assert one.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        assert one.inputs == tuple(each.name for each in session.get_inputs())
        assert one.outputs == tuple(each.name for each in session.get_outputs())


def test_the_papers_networks(tmp_path: Path) -> None:
    case = Case(tmp_path, ("radar",), REFERENCE)
    check(case, tmp_path / "out", export(case.path, tmp_path / "out"))


@pytest.mark.benchmark
@pytest.mark.parametrize("kind", ["torch", "onnx"])
@pytest.mark.parametrize("network", [COMPACT, REFERENCE], ids=["compact", "reference"])
@pytest.mark.parametrize("name", MODALITIES)
def test_all_that_there_is(
    tmp_path: Path, name: str, network: NetworkOptions, kind: Format
) -> None:
    """Minutes: every kind of modality, both variants, both formats."""
    case = Case(tmp_path, (name,), network)
    check(case, tmp_path / "out", export(case.path, tmp_path / "out", kind=kind))


def test_skeletons_are_centred_inside(tmp_path: Path) -> None:
    case = Case(tmp_path, ("skeleton",), COMPACT, recentre="first")
    contract = export(case.path, tmp_path / "out")
    assert contract.modalities["skeleton"].recentred == "first"
    check(case, tmp_path / "out", contract)


@pytest.mark.parametrize(("space", "prompt"), [("feature", True), ("embedding", True)])
@torch.no_grad()
def test_logits_of_any_subset(tmp_path: Path, space: Space, prompt: bool) -> None:
    names = ("heart_rate", "acc", "keypoints")
    network = COMPACT.model_copy(update={"prompt": prompt})
    case = Case(tmp_path, names, network, space, finetuned=("acc", "keypoints"))
    out = tmp_path / "out"
    contract = export(case.path, out)
    assert tuple(contract.modalities) == ("acc", "keypoints")
    assert contract.classifier is not None
    assert contract.classifier.modalities == ("acc", "keypoints")
    assert contract.classifier.inputs == ("present", "acc", "keypoints")
    assert contract.classifier.classes == CLASSES
    assert contract.presence == (names if prompt else None)
    classify = load_program(out / contract.classifier.file)
    batch = case.batch(4)
    here = torch.tensor([[True, True], [True, False], [False, True], [True, True]])
    present = torch.cat([torch.zeros(4, 1, dtype=torch.bool), here], dim=1)
    told = (present,) if prompt else ()
    read = []
    for name in contract.classifier.modalities:
        program = load_program(out / contract.modalities[name].file)
        feature, embedding = program(case.physical(name, 4), *told)
        read.append(feature if space == "feature" else embedding)
    (logits,) = [classify(here, *read)]
    expected = case.classifier(case.model.represent(batch.inputs, present, space))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_torch_files_need_no_mmbind(tmp_path: Path) -> None:
    case = Case(tmp_path, ("acc",), COMPACT)
    out = tmp_path / "out"
    export(case.path, out)
    code = (
        "import sys, torch\n"
        "sys.modules['mmbind_train'] = sys.modules['mmbind_data'] = None\n"
        f"program = torch.export.load({str(out / 'acc.pt2')!r}).module()\n"
        "print(program(torch.zeros(5, 24, 3))[1].norm(dim=1).tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == pytest.approx([1.0] * 5)


def test_what_cannot_be_exported_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, ("acc",), COMPACT)
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=r"no such modality .* 'gyro'"):
        export(case.path, out, modalities=["gyro"])
    with monkeypatch.context() as patch:
        patch.setattr("mmbind_train.exporting.export.find_spec", lambda _: None)
        with pytest.raises(UsageError, match=r"pip install 'mmbind\[onnx\]'"):
            export(case.path, out, kind="onnx")
    with monkeypatch.context() as patch:
        patch.setattr(torch.export, "export", _refuse)
        with pytest.raises(UsageError, match=r"cannot be written in that format .* no such op"):
            export(case.path, out)
    with monkeypatch.context() as patch:
        other = SimpleNamespace(module=lambda: lambda *_: [torch.zeros(1)] * 2)
        patch.setattr(torch.export, "load", lambda _: other)
        with pytest.raises(IntegrityError, match="gives other values"):
            export(case.path, out)
    assert not out.exists()
    export(case.path, out)
    with pytest.raises(OutputError, match="exists already"):
        export(case.path, out)
    export(case.path, out, overwrite=True)
    with pytest.raises(OutputError, match="one of the inputs"):
        export(case.path, case.path / "inside")
    with pytest.raises(OutputError, match=r"no export that mmbind made.*an export to overwrite"):
        export(case.path, tmp_path / "k.zarr", overwrite=True)


def _refuse(*_: object, **__: object) -> None:
    message = "no such op"
    raise RuntimeError(message)
