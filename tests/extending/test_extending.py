"""An ADN, a map source, a source of images and an executor from outside the package, through the whole pipeline."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import math
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
import torch
import toy_adn
import toy_executor
import toy_map
import toy_source
from tiny import TinyColorizer
from torch import Tensor, nn

import leanet
from leanet import (
    ADN,
    AnomalyMap,
    ColorizeConfig,
    ColorizerConfig,
    ComputeConfig,
    DataConfig,
    DetectorConfig,
    FitConfig,
    RunConfig,
    UserError,
    build_leanet,
    register_adn,
    register_map_source,
)
from leanet.config import ReportConfig
from leanet.experiment.executors.registry import executor
from leanet.experiment.open_run import find
from leanet.experiment.predictions import read_predictions
from leanet.experiment.run_folder import RunFolder
from leanet.maps.source import History, Normals
from leanet.networks.registry import ADNS, COLORIZERS
from leanet.progress import show_progress_by, unseen
from leanet.report.page import report
from leanet.training.session import Session

pytestmark = pytest.mark.usefixtures("blank_figures")

DATA = DataConfig(image_size=64, n_splits=2, source="memory")
MAPS = ColorizerConfig(maps=("mean",))
DETECTOR = DetectorConfig("ToyADN", "Direct", (2, 3), epochs=1, batch_size=4)
COMPUTE = ComputeConfig(executor="pool", device="cpu")


@pytest.fixture(autouse=True)
def pictures(leaves: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty leaves, in memory alone."""
    for i, name in enumerate(["good", "spot"]):
        for file in sorted(leaves.rglob(f"{name}/*.png"))[:10]:
            if "ground_truth" not in file.parts:
                monkeypatch.setitem(toy_source.PICTURES, f"{name} {file.stem}", (file.read_bytes(), i))


@pytest.mark.parametrize("module", [toy_adn, toy_executor, toy_map, toy_source])
def test_an_extension_is_one_short_file(module: ModuleType) -> None:
    assert len(inspect.getsource(module).splitlines()) < 40


def test_the_whole_pipeline_runs_with_all_four(tmp_path: Path) -> None:
    out = tmp_path / "run"
    toy_executor.USED.clear()
    leanet.run(RunConfig(Path("memory"), out, DATA, MAPS, DETECTOR, COMPUTE, compare=False))
    assert [key for _, key in toy_executor.USED] == [
        "fold 0: mean",
        "fold 0: maps",
        "fold 1: mean",
        "fold 1: maps",
        "fold 0: ToyADN-Direct-p23",
        "fold 1: ToyADN-Direct-p23",
    ]
    assert all("MainThread" not in name for name, _ in toy_executor.USED)
    run = find(out)
    normals = run.rows(run.folds[0].train)[run.labels[run.rows(run.folds[0].train)] == 0]
    mean = run.pixels[normals].astype(np.float64).mean(0)
    for row in range(len(run.images)):
        expected = np.sqrt((((run.pixels[row] - mean) / 255) ** 2).sum(2))
        np.testing.assert_allclose(run.maps(0).delta_e(np.array([row]))[0], expected, atol=1e-4)
    said = [read_predictions(RunFolder(out).fold(n).detector(DETECTOR.name).predictions) for n in (0, 1)]
    assert sorted(file for p in said for file in p.files) == sorted(toy_source.PICTURES)
    assert "ToyADN-Direct-p23" in report(ReportConfig(out)).read_text()


def test_a_model_of_them_is_fitted_saved_and_asked_without_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("leanet"), "handlers", [])  # as in a program that asked for no log
    show_progress_by(unseen)
    leanet.fit(FitConfig(Path("memory"), tmp_path / "model", DATA, MAPS, DETECTOR, COMPUTE))
    model = leanet.load(tmp_path / "model")
    result = model.predict(next(iter(toy_source.PICTURES.values()))[0])
    assert result.probability is not None
    assert result.anomaly_map is not None
    assert 0 <= result.anomaly_map.min() <= result.anomaly_map.max() <= math.sqrt(3)
    assert result.recoloured is None
    assert capfd.readouterr() == ("", "")


class WrongChannels(toy_adn.ToyADN):
    channels = (4, 8, 9)


class StridesThatShrink(toy_adn.ToyADN):
    strides = (4, 4, 16)


class TooFewStrides(toy_adn.ToyADN):
    strides: ClassVar[tuple[int, ...]] = (4, 8)


class NoHead(toy_adn.ToyADN):
    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.head = nn.Sequential(toy_adn.Pooled(), nn.Linear(8, 3))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (WrongChannels, r"WrongChannels: stage 3 gives \(2, 8, 4, 4\), expected \(2, 9, 4, 4\)"),
        (StridesThatShrink, "StridesThatShrink: .*"),
        (TooFewStrides, "TooFewStrides: .*2 strides"),
        (NoHead, r"NoHead: the head gives \(2, 3\), expected \(2, 2\)"),
    ],
)
def test_an_adn_that_gives_other_shapes_than_it_says_is_named(
    kind: type[ADN], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ADNS, kind.__name__, kind)
    with pytest.raises(ValueError, match=said):
        build_leanet(kind.__name__, "Direct", (2,), 64)


def test_a_point_that_an_adn_does_not_have_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    detector = dataclasses.replace(DETECTOR, attention_point=(1,))
    with pytest.raises(UserError, match="attention_point 1: ToyADN with Direct has the attention points 2 3 4"):
        leanet.run(RunConfig(Path("memory"), tmp_path / "run", DATA, MAPS, detector, COMPUTE))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_maps_below_0_or_not_finite_are_named(value: float, tmp_path: Path) -> None:
    @register_map_source("wrong")
    class Wrong(toy_map.MeanMap):
        def forward(self, images: Tensor) -> AnomalyMap:
            return AnomalyMap(torch.full((len(images), 1, 64, 64), value), self.unit)

    maps = dataclasses.replace(MAPS, maps=("wrong",))
    with pytest.raises(UserError, match=r"map source wrong: .* with values from .*, expected 0 or more"):
        leanet.run(RunConfig(Path("memory"), tmp_path / "run", DATA, maps, DETECTOR, COMPUTE))


def test_unknown_names_are_refused_with_those_there_are(tmp_path: Path) -> None:
    maps = ColorizerConfig(maps=("mine",))
    with pytest.raises(UserError, match=r"unknown map source 'mine'.*: choose from .*color"):
        leanet.run(RunConfig(Path("memory"), tmp_path / "run", DATA, maps, DETECTOR, COMPUTE))
    with pytest.raises(UserError, match=r"executor cloud: choose from local, pool, processes, ray"):
        executor(ComputeConfig(executor="cloud"))
    for config in (
        RunConfig(Path("memory"), tmp_path / "run", DATA, ColorizerConfig(colorizer="Foo"), DETECTOR),
        RunConfig(Path("memory"), tmp_path / "run", DATA, MAPS, DETECTOR, ComputeConfig(executor="cloud")),
        RunConfig(Path("memory"), tmp_path / "run", DATA, MAPS, dataclasses.replace(DETECTOR, adn="Foo")),
    ):
        with pytest.raises(UserError, match="choose from"):
            leanet.run(config)
    assert not (tmp_path / "run").exists()


def test_maps_of_another_source_are_refused_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COLORIZERS, "Unet", TinyColorizer)
    config = ColorizeConfig(Path("memory"), tmp_path / "run", DATA, MAPS, COMPUTE)
    leanet.colorize(config)
    with pytest.raises(UserError, match="made with --maps mean, now color"):
        leanet.colorize(dataclasses.replace(config, colorizer=ColorizerConfig()))
    other = dataclasses.replace(config, out=tmp_path / "other", colorizer=ColorizerConfig(colorizer_epochs=1))
    leanet.colorize(dataclasses.replace(other, compute=ComputeConfig(folds="0", device="cpu")))
    with pytest.raises(UserError, match="made with --maps color, now mean"):
        leanet.colorize(dataclasses.replace(other, colorizer=dataclasses.replace(MAPS, colorizer_epochs=1)))


def test_the_executor_may_change_and_is_not_recorded(tmp_path: Path) -> None:
    config = ColorizeConfig(Path("memory"), tmp_path / "run", DATA, MAPS, COMPUTE)
    leanet.colorize(config)
    before = (tmp_path / "run" / "config.yaml").read_text()
    assert "\nexecutor:" not in before
    leanet.colorize(dataclasses.replace(config, compute=dataclasses.replace(COMPUTE, executor="local")))
    assert (tmp_path / "run" / "config.yaml").read_text() == before


def test_a_model_of_a_network_that_is_not_registered_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leanet.fit(FitConfig(Path("memory"), tmp_path / "model", DATA, MAPS, DETECTOR, COMPUTE))
    monkeypatch.delitem(ADNS, "ToyADN")
    with pytest.raises(UserError, match=r"unknown ADN 'ToyADN'.* Register it"):
        leanet.load(tmp_path / "model")


def test_a_task_that_fails_is_named(tmp_path: Path) -> None:
    @register_map_source("failing")
    class Failing(toy_map.MeanMap):
        def fit(self, normals: Normals, session: Session) -> History:
            raise ZeroDivisionError(f"{normals}, {session}")

    compute = dataclasses.replace(COMPUTE, executor="local")
    maps = dataclasses.replace(MAPS, maps=("failing",))
    with pytest.raises(ZeroDivisionError) as failed:
        leanet.run(RunConfig(Path("memory"), tmp_path / "run", DATA, maps, DETECTOR, compute))
    assert failed.value.__notes__ == ["in the task 'fold 0: failing'"]


def test_a_name_may_be_registered_again() -> None:
    before = ADNS["ToyADN"]
    register_adn("ToyADN")(toy_adn.ToyADN)
    assert ADNS["ToyADN"] is before
