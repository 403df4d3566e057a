"""Shared fixtures: a small synthetic data set, a small model, runs in memory, the shared real images."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from made import made
from timing import Timing
from tiny import blank_figures, tiny_networks

from leanet.cli import main
from leanet.console import show_log
from leanet.data.splits import Fold
from leanet.data.synthetic import make_leaves
from leanet.experiment.open_run import Run
from leanet.experiment.run_folder import ImageRow, RunFolder
from leanet.lock import alone_in
from leanet.model.model import Model, load, save
from leanet.networks.registry import ADNS, CAANS, COLORIZERS

__all__ = ["blank_figures", "tiny_networks"]

REAL = dict(ADNS), dict(CAANS), dict(COLORIZERS)

SHARED = Path(__file__).parents[2] / "shared"


def pytest_configure(config: pytest.Config) -> None:
    """Compute in one thread, because each core has its own process; show the log; time the run."""
    torch.set_num_threads(1)
    show_log()
    config.pluginmanager.register(Timing())


@pytest.fixture(autouse=True)
def quick_collections() -> None:
    """Exempt existing objects from garbage collection: each training collects a few times."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def leaves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty synthetic leaves of 64 pixels, sixteen of them anomalous, in the MVTec AD layout."""
    out = tmp_path_factory.mktemp("data") / "leaves"
    make_leaves(out, n_normal=24, n_anomalous=16, image_size=64, seed=3)
    return out


@pytest.fixture(scope="session")
def potato() -> Path:
    """The real potato leaves; skips where they are absent."""
    path = SHARED / "data" / "plantvillage_potato"
    if not path.is_dir():
        pytest.skip("the shared real images (plantvillage_potato) are not here")
    return path


@pytest.fixture
def without_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read neither HEIC nor AVIF, as an installation without the extra heif and an old Pillow."""
    for module in ("find", "decode"):
        monkeypatch.setattr(f"leanet.data.{module}.reads", lambda _: False)


@contextmanager
def real_networks() -> Iterator[None]:
    """Register the real networks, for what all tests share, even if a module's tests have tiny ones."""
    with patch.dict(ADNS, REAL[0]), patch.dict(CAANS, REAL[1]), patch.dict(COLORIZERS, REAL[2]):
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, saved."""
    out = tmp_path_factory.mktemp("models") / "model"
    with real_networks():
        model = made("CNN", "Direct", 2)
        save(out, model.card, model.network, model.maps)
    return out


@pytest.fixture(scope="session")
def loaded(folder: Path) -> Model:
    """The small model, loaded."""
    with real_networks():
        return load(folder)


@pytest.fixture(scope="session")
def exported_onnx(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model as an .onnx file; copy it before changing it."""
    base = tmp_path_factory.getbasetemp()
    # An export takes seconds. The processes of pytest-xdist share it: their base folders have one parent.
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "exported" / "m.onnx"
    with alone_in(shared.parent, wait=True), real_networks():
        if not shared.exists():
            assert main(["export", str(folder), "--out", str(shared)]) == 0
    return Path(shutil.copy(shared, folder.with_name("m.onnx")))


@pytest.fixture(scope="module")
def tiny_model(tiny_networks: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    """A saved model of the tiny networks, which are registered for all tests of the module."""
    out = tmp_path_factory.mktemp("models") / "tiny"
    model = made("CNN", "Direct", 2)
    save(out, model.card, model.network, model.maps)
    return out


@pytest.fixture(name="make_run")
def run_maker() -> Callable[..., Run]:
    """`make_run` as a fixture."""
    return make_run


def make_run(normals: int, anomalies: int, group_of: int = 1) -> Run:
    """A run with the first fifth of each class as fold 0's test side; groups of neighbors hold both classes."""
    labels = np.repeat([0, 1], [normals, anomalies])
    images = tuple(
        ImageRow(
            f"{i}.png", int(label), "", f"g{(i if label == 0 else i - normals) // group_of}", "", str(i), 64, 64
        )
        for i, label in enumerate(labels)
    )
    test = {i.file for i in images if int(i.group[1:]) * group_of < (normals if i.label == 0 else anomalies) // 5}
    train = tuple(i.file for i in images if i.file not in test)
    fold = Fold(train, tuple(i.file for i in images if i.file in test))
    return Run(
        RunFolder(Path("nowhere")), images, labels, np.zeros((len(labels), 64, 64, 3), np.uint8), (fold,), "true"
    )
