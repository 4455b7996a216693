"""Write one store of each format into a new archive: ``python tests/archives/make.py v2``.

Once, when a specification is released, from the mmbind of that day; v1.zip is never written again.
`tests/test_archives.py` reads every archive.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from mmbind_data.binding.bind import bind
from mmbind_data.conversion.convert import convert
from mmbind_data.publishing.publish import publish
from mmbind_data.store.bound import open_bound
from mmbind_data.store.dataset import open_dataset
from mmbind_data.store.partitioning import partition
from mmbind_data.testing.generated import write_utd_mhad
from mmbind_train.config import Budget, NetworkOptions, TrainConfig
from mmbind_train.training.pretrain import train


def make(root: Path, raw: Path) -> None:
    """Converted stores, a bound store, a run and two bundles, and what is known of them."""
    rng = np.random.default_rng(1)
    write_utd_mhad(raw, n_subjects=2, n_actions=3, n_trials=1, rng=rng)
    convert("utd-mhad", raw, raw / "full.zarr", modalities=["acc", "gyro", "skeleton"])
    for node, subject, modalities in (("a", "1", ["acc", "skeleton"]), ("b", "2", ["acc", "gyro"])):
        partition(raw / "full.zarr", root / f"{node}.zarr", subjects=[subject],
                  modalities=modalities)  # fmt: skip
    bind([root / "a.zarr", root / "b.zarr"], root / "bound.zarr", shared="acc")
    config = TrainConfig(
        budget=Budget(steps=2, batch=4),
        network=NetworkOptions(width=8, feature_dim=8, embedding_dim=8),
    )
    train(root / "bound.zarr", root / "run", config=config)
    permission = root / "permission.json"
    document = {"source": "utd-mhad", "granted_by": "mmbind", "date": "2026-11-21",
                "text": "The data is generated."}  # fmt: skip
    permission.write_text(json.dumps(document) + "\n")
    bound = open_bound(root / "bound.zarr")
    publish(bound, root / "index-only")
    publish(bound, root / "self-contained", permissions=[permission])
    write_known(root)


def write_known(root: Path) -> None:
    """Figures that must be read out of the folder forever."""
    store, bound = open_dataset(root / "a.zarr"), open_bound(root / "bound.zarr")
    run = json.loads((root / "run" / "run.json").read_text())
    known = {
        "converted": store.info.content_digest,
        "acc": [round(float(value), 4) for value in store.load("acc")[0, :3].ravel()],
        "labels": store.samples()["label_text"].to_pylist(),
        "bound": bound.info.content_digest,
        "n_rows": bound.info.n_rows,
        "similarity": [row["similarity"] for row in bound.pairs().to_pylist()][:4],
        "partners": [row["gyro.uid"] for row in bound.pairs().to_pylist()][:4],
        "final_loss": run["final_loss"],
        "steps": run["steps"],
    }
    (root / "known.json").write_text(json.dumps(known, indent=1) + "\n")


def pack_into(archive: Path, root: Path) -> None:
    """Deflate a folder into a new archive."""
    with zipfile.ZipFile(archive, "x", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(root).as_posix())
            target.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "root").mkdir()
        make(place / "root", place / "raw")
        pack_into(Path(__file__).parent / f"{sys.argv[1]}.zip", place / "root")
