"""What a detector may learn from, and which colorizer makes whose map: nothing sees what it is judged on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from leanet.config import ColorizeConfig, ColorizerConfig, ComputeConfig, DetectConfig, DetectorConfig
from leanet.data.splits import Fold
from leanet.errors import UserError
from leanet.experiment import map_tasks
from leanet.experiment.colorize import colorize
from leanet.experiment.experiment import Experiment
from leanet.experiment.map_tasks import MakeMaps
from leanet.experiment.open_run import Run
from leanet.experiment.training_set import divide

MakeRun = Callable[..., Run]


def configured(detector: DetectorConfig, **compute: str) -> DetectConfig:
    return DetectConfig(Path("nowhere"), detector=detector, compute=ComputeConfig(**compute))  # type: ignore[arg-type]


@pytest.mark.parametrize("group_of", [1, 4])
def test_a_fifth_is_held_out_of_each_class_and_no_group_parted(make_run: MakeRun, group_of: int) -> None:
    run = make_run(100, 100, group_of)
    found = divide(configured(DetectorConfig()), run, 0, 0)
    labelled = run.rows(run.folds[0].train)
    assert sorted([*found.train, *found.validation]) == sorted(labelled)
    assert len(found.validation) == pytest.approx(len(labelled) / 5, abs=group_of)
    groups = [{run.images[row].group for row in rows} for rows in (found.train, found.validation)]
    assert not groups[0] & groups[1]
    assert run.labels[found.validation].mean() == pytest.approx(run.labels[labelled].mean(), abs=0.05)


def test_nothing_is_held_out_for_the_authors_or_of_few_anomalies(make_run: MakeRun) -> None:
    run = make_run(100, 100)
    for config in (
        configured(DetectorConfig(), recipe="authors"),
        configured(DetectorConfig(validation=0.0)),
        configured(DetectorConfig(p_rate=0.6)),  # 48 anomalies: fewer than ten in a fifth
    ):
        assert len(divide(config, run, 0, 0).validation) == 0
    assert len(divide(configured(DetectorConfig(p_rate=0.7)), run, 0, 0).validation)


def test_a_share_that_is_asked_for_is_held_out_of_few_anomalies_too(make_run: MakeRun) -> None:
    run = make_run(100, 100)
    found = divide(configured(DetectorConfig(p_rate=0.1, validation=0.25)), run, 0, 0)
    assert run.labels[found.validation].sum() == 2
    assert run.labels[found.train].sum() == 6


def test_a_share_is_what_was_asked_for(make_run: MakeRun) -> None:
    run = make_run(100, 100)
    for share in (0.1, 0.3, 0.4, 0.5):
        found = divide(configured(DetectorConfig(validation=share)), run, 0, 0)
        assert len(found.validation) / len(found.labelled) == pytest.approx(share, abs=0.02)


def test_a_share_is_held_out_of_few_images_too(make_run: MakeRun) -> None:
    run = make_run(20, 20)  # 16 of each to train on
    for share in (0.02, 0.35, 0.45):
        found = divide(configured(DetectorConfig(validation=share)), run, 0, 0)
        assert len(found.validation) / 32 == pytest.approx(max(share, 1 / 8), abs=0.05)


def test_nothing_is_held_out_of_next_to_nothing(make_run: MakeRun) -> None:
    found = divide(configured(DetectorConfig(validation=0.3)), make_run(2, 2), 0, 0)
    assert len(found.validation) == 0


def test_overlap_is_reckoned_from_the_sides_of_the_split(make_run: MakeRun) -> None:
    assert Experiment(make_run(100, 100), configured(DetectorConfig()), (0,)).test_to_train == 40 / 160


def test_seeds_keep_other_anomalies_and_hold_out_others(make_run: MakeRun) -> None:
    run, config = make_run(100, 200), configured(DetectorConfig(p_rate=0.5))
    first, again, other = (divide(config, run, 0, seed) for seed in (0, 0, 1))
    assert np.array_equal(first.train, again.train)
    assert set(first.labelled) != set(other.labelled)


@pytest.mark.parametrize("group_of", [1, 4])
def test_cross_fitted_maps_come_from_colorizers_that_did_not_see_the_image(
    make_run: MakeRun, group_of: int
) -> None:
    run = make_run(60, 60, group_of)
    config = ColorizeConfig(Path("d"), Path("o"), colorizer=ColorizerConfig(cross_fit=3))
    *inner, own = MakeMaps(config, 0).sources
    assert len(inner) == 3
    assert sorted(row for task in (*inner, own) for row in task.mapped(run)) == list(range(120))
    assert sorted(own.mapped(run)) == sorted(run.rows(run.folds[0].test))
    for task in (*inner, own):
        assert not run.labels[task.normals(run)].any()
        seen = {run.images[row].group for row in task.normals(run)}
        assert not seen & {run.images[row].group for row in task.mapped(run)}
    for task in inner:
        assert set(run.labels[task.mapped(run)]) == {0, 1}


def test_more_parts_than_images_are_refused(make_run: MakeRun) -> None:
    config = ColorizeConfig(Path("d"), Path("o"), colorizer=ColorizerConfig(cross_fit=50))
    with pytest.raises(UserError, match="cannot make 50 inner parts"):
        MakeMaps(config, 0).sources[0].mapped(make_run(20, 20))


def test_compilation_is_decided_by_the_whole_run(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    fold = make_run(100, 100).folds[0]
    run = dataclasses.replace(make_run(100, 100), folds=(fold, Fold(fold.test, fold.train)))
    asked: list[float] = []

    class DecidedError(Exception):
        pass

    def resolve(_config: ComputeConfig, passes: float) -> None:
        asked.append(passes)
        raise DecidedError

    monkeypatch.setattr(map_tasks, "resolve", resolve)
    for folds in ("all", "0", "1"):
        config = ColorizeConfig(Path("d"), Path("o"), compute=ComputeConfig(folds=folds))
        with pytest.raises(DecidedError):
            colorize(config, run)
    assert asked[0] > 0
    assert asked == [asked[0]] * 3
