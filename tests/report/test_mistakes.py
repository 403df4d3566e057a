"""The surest mistakes, and the sheets that show images by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from leanet.cli import main
from leanet.data.splits import Fold
from leanet.experiment.evaluate import Scored
from leanet.experiment.open_run import Run
from leanet.experiment.run_folder import ImageRow, RunFolder
from leanet.report.page import worst_mistakes


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
            Image.open(picture).save(tmp_path / "leaves" / folder / f"$a_$ {i}.png")
    options = ["--image-size", "64", "--n-splits", "2", "--folds", "0", "--adn", "CNN", "--caan", "Direct"]
    quick = ["--colorizer-epochs", "1", "--epochs", "1", "--compile", "off", "--no-compare"]
    run = tmp_path / "run"
    assert main(["run", str(tmp_path / "leaves"), "--out", str(run), *options, *quick]) == 0
    assert main(["report", str(run)]) == 0
    assert (run / "report" / "figures" / "mistakes.png").is_file()
    assert (run / "report" / "mistakes.csv").read_text(encoding="utf-8").count("$a_$") >= 1
