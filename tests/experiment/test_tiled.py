"""A run and a model of tiles: their pictures stay on one side, and the model knows the tiles' size."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from commands import train
from sklearn.metrics import roc_auc_score

import leanet
from leanet.cli import main
from leanet.config import DetectorConfig
from leanet.experiment.finished import finished, recorded_detector
from leanet.experiment.open_run import find
from leanet.experiment.predictions import Predictions, of_pictures
from leanet.experiment.table import Outcome, scored_as_pictures, table
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
    (note,) = (text for text in table(finished(recorded_detector(run.folder))[0]).notes if "As pictures" in text)
    by_picture = dict[str, tuple[int, float]]()
    with predictions.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            before = by_picture.get(name := row["file"].partition("#")[0], (0, 0.0))
            by_picture[name] = max(before[0], int(row["label"])), max(before[1], float(row["adn_probability"]))
    assert f"AUROC {roc_auc_score(*zip(*by_picture.values(), strict=True)):.3f}," in note
    masked = next(image for image in run.images if image.mask)
    assert read_mask(run.images_in / masked.mask, 64, picture=(32, 32)).any()


def test_a_threshold_is_chosen_for_pictures() -> None:
    tiles = {"a": (0, [0.1, 0.2]), "b": (0, [0.3, 0.1]), **{f"c{i}": (1, [0.2, 0.7 + i / 100]) for i in range(12)}}
    rows = [
        (f"{name}.jpg#xywh={i},0,9,9", i * label, p)
        for name, (label, ps) in tiles.items()
        for i, p in enumerate(ps)
    ]
    files, labels, probabilities = zip(*rows, strict=True)
    found = Predictions(files, np.array(labels), np.array(probabilities), None)
    pictures = of_pictures(found)
    assert pictures.files == tuple(f"{name}.jpg" for name in tiles)
    assert pictures.labels.tolist() == [label for label, _ in tiles.values()]
    assert pictures.adn.tolist() == [max(ps) for _, ps in tiles.values()]
    means = np.zeros(len(files))
    scored = scored_as_pictures(Outcome(found, means, found, means), DetectorConfig("CNN"))
    assert scored.threshold == pytest.approx(0.5)  # halfway between 0.3 and 0.7
    assert len(scored.labels) == 14


def test_a_model_of_tiles(leaves: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    assert main(["fit", str(leaves), "--out", str(out), *QUICK, *FEW, *TILES]) == 0
    card = json.loads((out / "model.json").read_text())
    assert (card["tile"], card["settings"]["tile"]) == (32, 32)
    assert "as pictures" in card["validation"]["what"]
    assert 0 < card["validation"]["images"] <= 20  # half of the pictures
    model = leanet.load(out)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    tiles = [pixels[top : top + 32, left : left + 32] for top in (0, 8) for left in (0, 19, 39, 58)]
    probabilities = [found.probability for found in model.predict(tiles)]
    assert model.predict(pixels).probability == pytest.approx(max(p for p in probabilities if p is not None))
