"""Fixtures that all tests share."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from bundles import make_bundle
from plain import PLAIN
from rawdata import motionsense, utd_mhad
from rawdata.truth import Truth

from mmbind_data.binding.bind import bind
from mmbind_data.conversion.convert import convert
from mmbind_data.store.partitioning import partition

# No deadline: the machine is shared. No chance: a red test stays red when it is run again.
hypothesis.settings.register_profile("mmbind", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("mmbind")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell starts background jobs so, and the commands under test would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real raw data, if at hand (MMBIND_REALDATA); the test is skipped otherwise."""
    beside_the_project = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("MMBIND_REALDATA", beside_the_project))
    if not path.is_dir():
        pytest.skip(f"no real data at {path}")
    return path


@pytest.fixture(scope="session")
def utd_truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """A small raw UTD-MHAD and what it must read as; not to be changed."""
    root = tmp_path_factory.mktemp("utd") / "raw"
    return utd_mhad.write(root, rng=np.random.default_rng(11))


@pytest.fixture(scope="session")
def utd_store(utd_truth: Truth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`utd_truth`, converted; copy it before changing it."""
    out = tmp_path_factory.mktemp("stores") / "utd-mhad.zarr"
    return convert("utd-mhad", utd_truth.root, out).path


@pytest.fixture(scope="session")
def motionsense_truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """A small raw MotionSense and what it must read as; not to be changed."""
    root = tmp_path_factory.mktemp("motionsense") / "raw"
    return motionsense.write(root, rng=np.random.default_rng(12))


@pytest.fixture(scope="session")
def motionsense_store(motionsense_truth: Truth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`motionsense_truth`, converted; copy it before changing it."""
    out = tmp_path_factory.mktemp("stores") / "motionsense.zarr"
    return convert("motionsense", motionsense_truth.root, out).path


@pytest.fixture(scope="session")
def node_stores(utd_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two nodes of `utd_store`: subject 1 with acc + skeleton, subject 3 with acc + gyro."""
    folder = tmp_path_factory.mktemp("nodes")
    a, b = folder / "a.zarr", folder / "b.zarr"
    partition(utd_store, a, subjects=["1"], modalities=["acc", "skeleton"])
    partition(utd_store, b, subjects=["3"], modalities=["acc", "gyro"])
    return a, b


@pytest.fixture(scope="session")
def bound_store(node_stores: tuple[Path, Path]) -> Path:
    """`node_stores` bound by acc, beside them; copy it before changing it."""
    out = node_stores[0].parent / "bound.zarr"
    bind(node_stores, out, shared="acc", options=PLAIN)
    return out


@pytest.fixture(scope="session")
def index_bundle(bound_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bound_store`, published index-only, for its licence is unknown; not to be changed."""
    out = tmp_path_factory.mktemp("index-only") / "bundle"
    make_bundle(bound_store, out, allowed=False)
    return out


@pytest.fixture(scope="session")
def contained_bundle(bound_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bound_store`, published self-contained with a permission; not to be changed."""
    out = tmp_path_factory.mktemp("contained") / "bundle"
    make_bundle(bound_store, out, allowed=True)
    return out


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of a service on this machine that answers as S3 does."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket; credentials stand in the environment, as they do for AWS's own tools."""
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLEKEYONE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not/a/real/secret+123456")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    system = s3fs.S3FileSystem()
    system.mkdir("shelf")
    yield "shelf"
    system.invalidate_cache()
    system.rm("shelf", recursive=True)


@pytest.fixture(scope="session")
def chromium() -> str:
    """A browser; the test is skipped where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no chromium or google-chrome in PATH")
