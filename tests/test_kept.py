"""What version 0.1.0 wrote is still read, and gone on with: the files in tests/kept are its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kept.small_networks import KeptADN, KeptCAAN, KeptColorizer

import leanet
from leanet.config import (
    ColorizeConfig,
    ColorizerConfig,
    ComputeConfig,
    DataConfig,
    DetectConfig,
    DetectorConfig,
    ReportConfig,
)
from leanet.experiment.colorize import colorize
from leanet.experiment.detect import detect
from leanet.experiment.open_run import find
from leanet.experiment.run_folder import RunFolder, read_history
from leanet.networks.registry import ADNS, CAANS, COLORIZERS
from leanet.report.page import report

pytestmark = pytest.mark.usefixtures("blank_figures")

KEPT = Path(__file__).with_name("kept")
COMPUTE = ComputeConfig(precision="float32", compile="off", device="cpu", checkpoint_seconds=0)
DETECTOR = DetectorConfig("Kept", "Kept", epochs=2, batch_size=2, validation=0.4)


@pytest.fixture(autouse=True)
def _small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADNS, "Kept", KeptADN)
    monkeypatch.setitem(CAANS, "Kept", KeptCAAN)
    monkeypatch.setitem(COLORIZERS, "Kept", KeptColorizer)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A copy of all that is kept."""
    shutil.copytree(KEPT, tmp_path / "kept")
    return tmp_path / "kept"


def stage1(kept: Path, name: str) -> ColorizeConfig:
    maps = ColorizerConfig(colorizer="Kept", colorizer_epochs=2, colorizer_batch_size=2)
    return ColorizeConfig(kept / "leaves", kept / name, DataConfig(image_size=64, n_splits=2), maps, COMPUTE)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.glob("[0-9]/**/*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_nothing_of_a_finished_run_is_made_anew(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(kept / "run")
    colorize(stage1(kept, "run"))
    table = detect(DetectConfig(kept / "run", detector=DETECTOR, compute=COMPUTE))
    assert capsys.readouterr().out.count("already finished") == 3
    assert contents(kept / "run") == before
    assert table.rows[0].name == "Kept-Kept-p2: ADN"
    find(kept / "run").maps(0).verify()


def test_a_finished_run_is_reported(kept: Path) -> None:
    page = report(ReportConfig(kept / "run")).read_text()
    assert "Kept-Kept-p2" in page
    assert "Of 6 anomalous pictures" in page


def test_a_stopped_training_goes_on_from_its_checkpoint(kept: Path) -> None:
    colorize(replace(stage1(kept, "stopped"), compute=replace(COMPUTE, folds="0")))
    folds = [RunFolder(kept / name).fold(0) for name in ("stopped", "run")]
    stopped, whole = (read_history(fold.map_source("color").history()) for fold in folds)
    assert [row["epoch"] for row in stopped] == [1, 2]
    for row, expected in zip(stopped, whole, strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-3)


def test_a_model_says_what_it_said(kept: Path) -> None:
    said: dict[str, float] = json.loads((kept / "model-said.json").read_text())
    results = leanet.load(kept / "model").predict([kept / "leaves" / name for name in said])
    np.testing.assert_allclose([r.probability or -1 for r in results], list(said.values()), atol=1e-5)
