"""Runs that exist in memory alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from leanet.data.splits import Fold
from leanet.experiment.open_run import Run
from leanet.experiment.run_folder import ImageRow, RunFolder


@pytest.fixture(name="make_run")
def run_maker() -> Callable[..., Run]:
    """Makes a run of so many normal and anomalous images, in groups of so many."""
    return make_run


def make_run(normals: int, anomalies: int, group_of: int = 1) -> Run:
    """A run whose first fifth of each class is fold 0's test side; groups of neighbours hold both classes."""
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
