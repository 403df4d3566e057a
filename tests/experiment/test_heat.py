"""What a model shows: ceilings of the right images' maps, and the heat map that lifts unseen anomalies."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import train

from leanet.experiment.detector_task import build_detector
from leanet.experiment.finished import finished, recorded_detector
from leanet.experiment.heat import ChosenHeat, choose_heat, for_another_head, heat_maps, peaks_of_maps
from leanet.experiment.open_run import find
from leanet.experiment.run_folder import RunFolder
from leanet.model.where import ceilings
from leanet.training.checkpoint import load_weights, save_weights


@pytest.fixture(scope="module")
def folder(leaves: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    out = tmp_path_factory.mktemp("heat") / "run"
    train("run", str(leaves), "--out", str(out), "--n-splits", "3", "--folds", "0", "--image-size", "64")
    return RunFolder(out)


def test_peaks_are_those_of_training_normals_and_of_unseen_normals(folder: RunFolder) -> None:
    run = find(folder.path)
    fold, maps = run.folds[0], run.maps(0)
    training, unseen = (
        [m for m, label in zip(maps.delta_e(rows), run.labels[rows], strict=True) if label == 0]
        for rows in (run.rows(fold.train), run.rows(fold.test))
    )
    assert len(training) != len(unseen)
    np.testing.assert_allclose(np.array(peaks_of_maps(run)), ceilings(training, unseen), atol=6e-4)


def test_a_head_shows_what_lifts_unseen_anomalies(folder: RunFolder) -> None:
    experiment, missing = finished(recorded_detector(folder, "EfficientNet-Lite0-head-attention"))
    assert not missing
    chosen = choose_heat(experiment)
    assert chosen.normals_peaks is not None
    assert (chosen.heat_scales is None) == (chosen.heat == "map")
    run = experiment.run
    rows = run.rows(run.folds[0].test)
    maps = heat_maps(experiment, 0, rows)
    assert {m.shape for m in maps.values()} == {(len(rows), 64, 64)}
    np.testing.assert_array_equal(maps["map"], run.maps(0).delta_e(rows))
    normal = run.labels[rows] == 0
    for kind in ("evidence", "both"):
        assert maps[kind].min() >= 0
        assert maps[kind][~normal].mean() > maps[kind][normal].mean()


def test_another_heads_evidence_is_shown_on_the_same_scale(folder: RunFolder, tmp_path: Path) -> None:
    one, _ = finished(recorded_detector(folder, "EfficientNet-Lite0-head-attention"))
    shutil.copytree(folder.path, tmp_path / "run")
    other = dataclasses.replace(one, config=dataclasses.replace(one.config, run=tmp_path / "run"))
    network = build_detector(one.detector, 64)
    load_weights(network, one.folder(0).weights)
    assert network.head is not None
    network.head.set(3 * network.head.linear.weight[0], 0.0)  # its evidence is three times as strong
    save_weights(network, other.folder(0).weights)
    chosen = ChosenHeat("both", ((0.5, 2.0), (9.0, 1.5)), None)
    found = for_another_head(chosen, one, other).heat_scales
    assert found is not None
    np.testing.assert_allclose(found, ((1.5, 6.0), (9.0, 1.5)), rtol=1e-3)
