"""Kinds of anomaly that training lacks: what the answer and its parts find of each."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from commands import train
from scipy.spatial.distance import cdist
from sklearn.metrics import f1_score, roc_auc_score

from leanet.data.splits import Fold
from leanet.experiment.finished import finished, recorded_detector
from leanet.experiment.open_run import Run
from leanet.experiment.run_folder import ImageRow, RunFolder
from leanet.experiment.unseen_kinds import ANSWER, MEAN, WITHOUT_ATTENTION, by_kind, nearest_normal
from leanet.report.page import unseen_of
from leanet.results.baselines import MAP_ROW
from leanet.results.metrics import Scored


def test_each_kind_is_ranked_and_decided_against_the_normal_images_of_its_folds() -> None:
    kinds = ["", "", "rust", "mildew"] * 6
    labels = np.array([int(bool(kind)) for kind in kinds])
    images = tuple(ImageRow(f"{i}.png", int(bool(k)), k, "", "", str(i), 64, 64) for i, k in enumerate(kinds))
    of_fold = [
        [i for i in range(24) if kinds[i] == kind or i % 4 == n] for n, kind in enumerate(("rust", "mildew"))
    ]
    folds = tuple(Fold((), tuple(f"{i}.png" for i in rows)) for rows in of_fold)
    run = Run(RunFolder(Path("nowhere")), images, labels, np.zeros((24, 1, 1, 3), np.uint8), folds, "true")
    scores = np.random.default_rng(0).random((2, 24))
    decided = {(n, 0): Scored(labels[of_fold[n]], scores[n][of_fold[n]], 0.3 + n / 10) for n in (0, 1)}
    ranked = {key: Scored(s.labels, -s.scores, None, is_probability=False) for key, s in decided.items()}
    found = {(one.kind, one.part): one for one in by_kind(run, {"answer": decided, "part": ranked})}
    assert list(found) == [(kind, part) for kind in ("mildew", "rust", MEAN) for part in ("answer", "part")]
    for n, kind in enumerate(("rust", "mildew")):
        y, s = labels[of_fold[n]], scores[n][of_fold[n]]
        one, called = found[kind, "answer"], s >= 0.3 + n / 10
        assert (one.images, one.auroc, one.f1) == (6, roc_auc_score(y, s), f1_score(y, called))
        assert (one.found, one.false_alarms) == (called[y == 1].mean(), called[y == 0].mean())
        other = found[kind, "part"]
        assert other.auroc == pytest.approx(1 - roc_auc_score(y, s))
        assert (other.f1, other.found, other.false_alarms) == (None, None, None)
    assert found[MEAN, "answer"].auroc == np.mean([found[k, "answer"].auroc for k in ("rust", "mildew")])


def test_the_distance_is_from_normal_images_of_other_groups() -> None:
    features = np.random.default_rng(1).normal(3, 2, (30, 5))
    normals, groups = np.arange(12), [str(i // 3) for i in range(30)]
    groups[20] = "0"
    scaled = (features - features[:12].mean(0)) / features[:12].std(0)
    expected = [
        min(cdist(scaled[[i]], scaled[[n]])[0, 0] for n in normals if groups[n] != groups[i]) for i in range(30)
    ]
    assert nearest_normal(features, normals, groups) == pytest.approx(np.array(expected) / np.sqrt(5))
    assert np.isinf(nearest_normal(features, normals[:3], groups)[[0, 1, 2, 20]]).all()


@pytest.mark.usefixtures("tiny_networks")
def test_a_report_has_the_parts_of_a_kind_that_was_held_out(leaves: Path, tmp_path: Path) -> None:
    kind = sorted(folder.name for folder in (leaves / "test").iterdir() if folder.name != "good")[0]
    options = ["--image-size", "64", "--adn", "CNN", "--epochs", "1", "--colorizer-epochs", "1", "--compile", "off"]
    train("run", str(leaves), "--out", str(tmp_path / "run"), "--hold-out", f"Kind={kind}", *options)
    experiment, _ = finished(recorded_detector(RunFolder(tmp_path / "run")))
    lines, table = unseen_of(experiment, tmp_path), tmp_path / "unseen_kinds.csv"
    parts = [ANSWER, WITHOUT_ATTENTION, MAP_ROW]
    assert [(line[0], line[2]) for line in lines] == [(name, part) for name in (kind, MEAN) for part in parts]
    with table.open(encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    metrics = experiment.folder(0).read_metrics()["adn"]  # the fold tests this kind alone
    assert float(row["auroc"]) == pytest.approx(metrics["auroc"], abs=1e-6)
    assert float(row["f1"]) == pytest.approx(metrics["f1_chosen"], abs=1e-6)

    config = experiment.run.folder.config
    config.write_text(config.read_text().replace(f"hold_out: Kind={kind}", "hold_out: camera"))
    assert unseen_of(experiment, tmp_path) == []
    assert not table.exists()
