"""What the report's page says of a table, in sentences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leanet.experiment.open_run import Run
from leanet.experiment.run_folder import RunFolder
from leanet.experiment.table import Table
from leanet.report.page import in_words
from leanet.results.metrics import Scored
from leanet.results.rows import Row, make_row


def row(name: str, flipped: int) -> Row:
    """Four folds of twenty images, a quarter anomalous; the more are flipped, the worse the ranking."""
    labels, scored = np.repeat([0, 1], [15, 5]), {}
    for fold in range(4):
        scores = labels * 0.4 + np.linspace(0, 0.3, 20)
        scores[: flipped + flipped // 3 * (fold % 2)] += 0.7
        scored[fold, 0] = Scored(labels, scores)
    return make_row(name, scored, 1 / 3)


@pytest.fixture
def a_run(tmp_path: Path) -> Run:
    return Run(RunFolder(tmp_path), (), np.array([]), np.zeros((0, 64, 64, 3), np.uint8), (), "true")


@pytest.mark.parametrize(("own", "its", "said"), [(0, 6, "higher"), (6, 0, "lower")])
def test_the_baseline_comes_first_and_says_which_is_better(a_run: Run, own: int, its: int, said: str) -> None:
    rows = (row("p2: ADN", own), row("colour histogram", its), row("CNN without attention: ADN", its))
    words = in_words(a_run, Table(rows, ()), {})
    assert words[0].startswith("25% of the test images are anomalous")
    assert "F1 of 0.400" in words[0]  # precision 1/4, recall 1
    assert words[1].startswith(f"p2: ADN has a {said} AUROC than CNN without attention: ADN (")
    assert words[2].startswith(f"p2: ADN has a {said} AUROC than colour histogram (")
    assert "The folds are random." in words[3]


def test_a_wanted_recall_is_followed_by_what_became_of_it(a_run: Run) -> None:
    labels = np.repeat([0, 1], [15, 5])
    scores = np.concatenate([np.full(12, 0.1), np.full(3, 0.8), np.full(4, 0.9), [0.2]])
    decided = make_row("p2: ADN", {(f, 0): Scored(labels, scores, 0.5) for f in range(4)}, 1 / 3)
    words = in_words(a_run, Table((decided,), ()), {}, 0.95)
    assert words[1].startswith("The chosen thresholds find at least 95% of the held-out anomalous images.")
    assert (
        "On the test images, they find 80% of the anomalous ones, and call 20% of the normal ones anomalous."
        in words[1]
    )
    undecided = make_row("p2: ADN", {(f, 0): Scored(labels, scores) for f in range(4)}, 1 / 3)
    assert not any("held-out" in text for text in in_words(a_run, Table((undecided,), ()), {}, 0.95))


def test_equal_rows_show_no_difference(a_run: Run) -> None:
    first = row("p2: ADN", 3)
    of_the_next_fold = {(f, 0): first.runs[(f + 1) % 4, 0] for f in range(4)}
    swapped = Row("CNN without attention: ADN", of_the_next_fold, first.pooled, 1 / 3)
    words = in_words(a_run, Table((first, swapped), ()), {1: ["1/CNN/metrics.json"]})
    assert words[1].startswith("No difference in AUROC was shown between p2: ADN and CNN without attention: ADN")
    assert words[-1] == "The run is not finished: fold 1 lacks 1/CNN/metrics.json."
