"""A run and a model of tiles: their pictures stay on one side, and the model knows the tiles' size."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from commands import train

import leanet
from leanet.cli import main
from leanet.experiment.open_run import find
from leanet.results.localise import read_mask

pytestmark = pytest.mark.usefixtures("tiny_networks", "blank_figures")

QUICK = ["--image-size", "64", "--n-splits", "2", "--adn", "CNN", "--caan", "Direct", "--attention-point", "3"]
FEW = ["--colorizer-epochs", "1", "--epochs", "1", "--compile", "off", "--max-per-class", "24"]
TILES = ["--tile", "32", "--overlap", "0.25"]


def test_a_run_on_tiles(leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    asked = [str(leaves), "--out", str(out), *QUICK, *FEW, *TILES, "--no-compare", "--folds", "0"]
    train("run", *asked)
    run = find(out)
    for fold in run.folds:
        sides = [{name.partition("#")[0] for name in side} for side in (fold.train, fold.test)]
        assert not sides[0] & sides[1]
    assert all("#xywh=" in image.file and (image.width, image.height) == (32, 32) for image in run.images)
    assert all(image.group == image.file.partition("#")[0] for image in run.images)
    assert all(bool(image.mask) == image.label for image in run.images)
    (predictions,) = out.glob("0/CNN*/predictions.csv")
    with predictions.open(encoding="utf-8") as file:
        assert {row["file"] for row in csv.DictReader(file)} == set(run.folds[0].test)
    train("run", *asked)  # resumes
    assert main(["run", *asked[:3], *QUICK, *FEW, "--tile", "32", "--overlap", "0.75"]) == 2
    assert "made with --overlap 0.25, now 0.75" in capsys.readouterr().err
    assert main(["run", *asked[:3], *QUICK, *FEW]) == 2
    assert "made with --tile 32, now None" in capsys.readouterr().err
    masked = next(image for image in run.images if image.mask)
    assert read_mask(run.images_in / masked.mask, 64, picture=(32, 32)).any()


def test_a_model_of_tiles(leaves: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    assert main(["fit", str(leaves), "--out", str(out), *QUICK, *FEW, *TILES]) == 0
    card = json.loads((out / "model.json").read_text())
    assert (card["tile"], card["settings"]["tile"]) == (32, 32)
    model = leanet.load(out)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    tiles = [pixels[top : top + 32, left : left + 32] for top in (0, 8) for left in (0, 19, 39, 58)]
    probabilities = [found.probability for found in model.predict(tiles)]
    assert model.predict(pixels).probability == pytest.approx(max(p for p in probabilities if p is not None))
