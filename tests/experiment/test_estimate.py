"""What an estimate counts: the tasks that are left, by their costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from leanet.config import ColorizeConfig, ColorizerConfig, ComputeConfig, DetectConfig, DetectorConfig
from leanet.experiment.estimate import COLORIZERS, time_of, unfinished
from leanet.experiment.open_run import Run
from leanet.experiment.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("tiny_networks")


@pytest.fixture
def run(make_run: Callable[..., Run], tmp_path: Path) -> Run:
    return dataclasses.replace(make_run(20, 20), folder=RunFolder(tmp_path))


def test_an_estimate_counts_what_is_not_there(run: Run) -> None:
    first = ColorizeConfig(Path("d"), run.folder.path, colorizer=ColorizerConfig(cross_fit=2))
    detectors = [
        DetectConfig(run.folder.path, detector=d) for d in DetectorConfig("CNN", seeds=2).beside_baseline(True)
    ]
    of_maps = ["color without part 0", "color without part 1", "color", "maps"]
    trainings = ["fold 0: CNN-ResNet-p2", "fold 0, seed 1: CNN-ResNet-p2", "fold 0: CNN", "fold 0, seed 1: CNN"]
    assert [task.key for task in unfinished(first, detectors, run)] == [
        *(f"fold 0: {what}" for what in of_maps),
        *trainings,
    ]
    run.folder.fold(0).maps.mkdir(parents=True)
    assert [task.key for task in unfinished(first, detectors, run)] == trainings
    assert time_of([], run).total == 0


def test_an_estimate_has_a_part_for_the_colorizers_and_one_for_each_detector(run: Run) -> None:
    compute = ComputeConfig(compile="off")
    first = ColorizeConfig(Path("d"), run.folder.path, compute=compute)
    detector = DetectConfig(run.folder.path, detector=DetectorConfig("CNN"), compute=compute)
    tasks = unfinished(first, [detector], run)
    found = time_of(tasks, run)
    assert list(found.parts) == [COLORIZERS, "CNN-ResNet-p2"]
    assert found.total == sum(found.parts.values()) > 0
    assert 0 < found.idle_share <= 1
