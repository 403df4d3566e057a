"""The sheets that show images by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from leanet.cli import main
from leanet.data.splits import Fold
from leanet.experiment.open_run import Run, find
from leanet.experiment.run_folder import ImageRow, RunFolder
from leanet.report.pictures import examples, mistakes_sheet, recolouring_sheet, save


@pytest.mark.usefixtures("tiny_networks")
@pytest.mark.filterwarnings("error")
def test_names_are_drawn_as_they_are_and_without_warnings(leaves: Path, tmp_path: Path) -> None:
    pictures = [sorted(leaves.glob(pattern))[:4] for pattern in ("train/good/*.png", "test/spot/*.png")]
    for folder, some in zip(("Negative", "Positive/$a_$病斑$_$"), pictures, strict=True):
        (tmp_path / "leaves" / folder).mkdir(parents=True)
        for i, picture in enumerate(some):
            shutil.copy(picture, tmp_path / "leaves" / folder / f"$a_$ 葉\t{i}.png")
    options = [
        "--image-size",
        "64",
        "--n-splits",
        "2",
        "--folds",
        "0",
        "--colorizer-epochs",
        "1",
        "--compile",
        "off",
    ]
    out = tmp_path / "run"
    assert main(["colorize", str(tmp_path / "leaves"), "--out", str(out), *options]) == 0
    run = find(out)
    rows = examples(run, 0, 2)
    for suffix in ("png", "svg"):
        save(mistakes_sheet(run, [(int(row), 0, 0.7) for row in rows], 5.0), tmp_path / f"mistakes.{suffix}")
        save(recolouring_sheet(run, 0, rows), tmp_path / f"recolouring.{suffix}")


def test_of_many_kinds_eight_are_examples(tmp_path: Path) -> None:
    kinds = ["", *"abcdefghij"]
    images = tuple(
        ImageRow(f"{i}.png", int(bool(kind)), kind, str(i), "", str(i), 64, 64) for i, kind in enumerate(kinds)
    )
    labels = np.array([image.label for image in images])
    folds = (Fold((), tuple(image.file for image in images)),)
    run = Run(RunFolder(tmp_path), images, labels, np.zeros((11, 64, 64, 3), np.uint8), folds, "true")
    assert [run.images[row].kind for row in examples(run, 0, 1)] == ["", *"abcdefgh"]
