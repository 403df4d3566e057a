"""The surest mistakes, and the sheets that show images by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from leanet.cli import main
from leanet.data.splits import Fold
from leanet.experiment.evaluate import Scored
from leanet.experiment.open_run import Run, find
from leanet.experiment.run_folder import ImageRow, RunFolder
from leanet.report.page import worst_mistakes
from leanet.report.pictures import examples, mistakes_sheet, recolouring_sheet, save


def test_the_surest_mistakes_come_first_with_their_row_and_fold(tmp_path: Path) -> None:
    labels = np.array([0, 1, 0, 1])
    images = tuple(ImageRow(f"{i}.png", int(labels[i]), "", str(i), "", str(i), 64, 64) for i in range(4))
    folds = (Fold(("0.png", "1.png"), ("2.png", "3.png")), Fold(("2.png", "3.png"), ("0.png", "1.png")))
    run = Run(RunFolder(tmp_path), images, labels, np.zeros((4, 64, 64, 3), np.uint8), folds, "true")
    scored = {0: Scored(labels[2:], np.array([0.6, 0.8])), 1: Scored(labels[:2], np.array([0.5, 0.01]))}
    assert worst_mistakes(run, scored) == [(1, 1, 0.01), (2, 0, 0.6), (0, 1, 0.5)]
    assert worst_mistakes(run, scored, each=1) == [(1, 1, 0.01)]


def test_names_with_dollars_are_names_not_formulas(leaves: Path, tmp_path: Path) -> None:
    pictures = [sorted(leaves.glob(pattern))[:4] for pattern in ("train/good/*.png", "test/spot/*.png")]
    for folder, some in zip(("Negative", "Positive/$a_$b$_$"), pictures, strict=True):
        (tmp_path / "leaves" / folder).mkdir(parents=True)
        for i, picture in enumerate(some):
            shutil.copy(picture, tmp_path / "leaves" / folder / f"$a_$ {i}.png")
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
    save(mistakes_sheet(run, [(int(row), 0, 0.7) for row in rows], 5.0), tmp_path / "mistakes.png")
    save(recolouring_sheet(run, 0, rows), tmp_path / "recolouring.png")


def test_of_many_kinds_eight_are_examples(tmp_path: Path) -> None:
    kinds = ["", *"abcdefghij"]
    images = tuple(
        ImageRow(f"{i}.png", int(bool(kind)), kind, str(i), "", str(i), 64, 64) for i, kind in enumerate(kinds)
    )
    labels = np.array([image.label for image in images])
    folds = (Fold((), tuple(image.file for image in images)),)
    run = Run(RunFolder(tmp_path), images, labels, np.zeros((11, 64, 64, 3), np.uint8), folds, "true")
    assert [run.images[row].kind for row in examples(run, 0, 1)] == ["", *"abcdefgh"]
