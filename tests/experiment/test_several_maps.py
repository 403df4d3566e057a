"""A run and a model with several sources of maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import leanet
from leanet.cli import main, parse
from leanet.config import RunConfig
from leanet.experiment.open_run import find
from leanet.experiment.run import run
from leanet.maps.summary import MEANS_OF_PARTS

SMALL = ("--image-size", "64", "--n-splits", "2", "--colorizer-epochs", "1", "--adn", "CNN", "--epochs", "1")

pytestmark = pytest.mark.usefixtures("tiny_networks", "blank_figures")


def test_each_source_has_a_row_beside_the_joint_map(leaves: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = (str(leaves), "--out", str(out), "--maps", "features", "color", "--cross-fit", "2", "--folds", "0")
    config = parse("run", [*arguments, *SMALL, "--caan", "Direct", "--no-compare"])
    assert isinstance(config, RunConfig)
    results = run(config)
    assert results is not None
    assert (out / "0" / "color+features" / "weights.safetensors").exists()
    opened = find(out)
    assert opened.map_source == "color+features"
    attributes, test = opened.maps(0).attributes, opened.rows(opened.folds[0].test)
    means = {
        "mean of the anomaly map": attributes["mean_delta_e"],
        "mean of the color map alone": attributes[MEANS_OF_PARTS]["color"],
        "mean of the features map alone": attributes[MEANS_OF_PARTS]["features"],
    }
    rows = {row.name: row for row in results.table.rows}
    for name, values in means.items():
        expected = roc_auc_score(opened.labels[test], np.array(values)[test])
        assert rows[name].runs[0, 0].auroc == pytest.approx(expected)
    assert 0.5 < attributes["test_normals"] < 2
    assert main(["report", str(out)]) == 0
    assert main(["run", *arguments, *SMALL, "--caan", "none", "--maps", "color"]) == 2


def test_a_model_of_several_maps_is_fitted_and_answers(leaves: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    maps = ("--maps", "color", "reconstruction", "--caan", "Direct")
    assert main(["fit", str(leaves), "--out", str(out), *SMALL, *maps]) == 0
    model = leanet.load(out)
    assert model.card.map_source == "color+reconstruction"
    result = model.predict(sorted((leaves / "test").rglob("*.png"))[0])
    assert result.mean_delta_e == pytest.approx(1, abs=0.8)
    assert result.recoloured is not None
