"""The report's table of the kinds of anomaly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from leanet.data.splits import Fold
from leanet.experiment.open_run import Run
from leanet.experiment.run_folder import ImageRow, RunFolder
from leanet.report.page import kinds_of
from leanet.results.metrics import Scored


def test_kinds_are_ranked_against_the_normal_images_of_their_own_fold(tmp_path: Path) -> None:
    kinds = ["", "", "rust", "mildew", "rust", ""] * 4
    labels = np.array([int(bool(kind)) for kind in kinds])
    images = tuple(
        ImageRow(f"{i}.png", int(bool(kind)), kind, str(i), "", str(i), 64, 64) for i, kind in enumerate(kinds)
    )
    halves = [tuple(i.file for i in part) for part in (images[:12], images[12:])]
    folds = (Fold(halves[1], halves[0]), Fold(halves[0], halves[1]))
    run = Run(RunFolder(tmp_path), images, labels, np.zeros((24, 64, 64, 3), np.uint8), folds, "true")
    scores = np.random.default_rng(0).random((2, 2, 12)) * [[[0.1], [1.0]]]  # fold 0's are all lower than 0.1
    scored = {(f, s): Scored(labels[12 * f : 12 * f + 12], scores[s, f]) for f in (0, 1) for s in (0, 1)}
    lines = {line[0]: line[1:] for line in kinds_of(run, tmp_path, scored)}
    assert list(lines) == ["mildew", "rust"]
    of_rust = np.array([kind != "mildew" for kind in kinds[:12]])
    expected = [roc_auc_score(labels[:12][of_rust], scores[s, f][of_rust]) for f in (0, 1) for s in (0, 1)]
    found = [scores[s, f][i] >= 0.5 for f in (0, 1) for s in (0, 1) for i in range(12) if kinds[i] == "rust"]
    assert lines["rust"][0] == "8"
    assert float(lines["rust"][1]) == pytest.approx(np.mean(found), abs=1e-3)
    assert float(lines["rust"][2]) == pytest.approx(np.mean(expected), abs=1e-4)


def test_anomalies_without_a_kind_are_a_line_too(tmp_path: Path) -> None:
    kinds, labels = ["", "", "", "rust"], np.array([0, 0, 1, 1])
    images = tuple(
        ImageRow(f"{i}.png", int(labels[i]), kind, str(i), "", str(i), 64, 64) for i, kind in enumerate(kinds)
    )
    folds = (Fold((), tuple(i.file for i in images)),)
    run = Run(RunFolder(tmp_path), images, labels, np.zeros((4, 64, 64, 3), np.uint8), folds, "true")
    lines = kinds_of(run, tmp_path, {(0, 0): Scored(labels, np.array([0.1, 0.6, 0.4, 0.7]))})
    assert lines == [("without a kind", "1", "0.000", "0.5000"), ("rust", "1", "1.000", "1.0000")]


def test_a_kind_that_nothing_is_ranked_against_is_left_empty_in_the_file(tmp_path: Path) -> None:
    images = tuple(ImageRow(f"{i}.png", 1, kind, str(i), "", str(i), 64, 64) for i, kind in enumerate("ab"))
    run = Run(
        RunFolder(tmp_path),
        images,
        np.ones(2, np.int64),
        np.zeros((2, 64, 64, 3), np.uint8),
        (Fold((), ("0.png", "1.png")),),
        "true",
    )
    lines = kinds_of(run, tmp_path, {(0, 0): Scored(run.labels, np.array([0.1, 0.6]))})
    assert [line[-1] for line in lines] == ["undefined", "undefined"]
    assert [line.split(",")[-1] for line in (tmp_path / "kinds.csv").read_text().split()[1:]] == ["", ""]
