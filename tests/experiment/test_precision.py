"""A training in bfloat16 leaves predictions in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from commands import train

from leanet.config import DetectorConfig
from leanet.experiment.detector_task import build_detector, predict
from leanet.experiment.map_reader import map_reader
from leanet.experiment.open_run import find
from leanet.experiment.predictions import read_predictions
from leanet.training.checkpoint import load_weights

pytestmark = pytest.mark.usefixtures("tiny_networks", "blank_figures")

OPTIONS = ["--image-size", "64", "--n-splits", "2", "--folds", "0", "--colorizer-epochs", "1", "--epochs", "1"]
DETECTOR = DetectorConfig("CNN", "Direct", (3,))


def test_predictions_of_a_run_are_those_of_its_weights_in_float32(leaves: Path, tmp_path: Path) -> None:
    out, d = tmp_path / "run", DETECTOR
    named = ["--adn", d.adn, "--caan", d.caan, "--attention-point", "3", "--validation", "0.3", "--no-compare"]
    computed = ["--precision", "bfloat16", "--device", "cpu", "--compile", "off"]
    train("run", str(leaves), "--out", str(out), *OPTIONS, *named, *computed)
    run = find(out)
    folder = run.folder.fold(0).detector(d.name)
    network = build_detector(d, run.side)
    load_weights(network, folder.weights)
    read_maps = map_reader(run.maps(0), "normals")
    for path in (folder.predictions, folder.validation):
        said = read_predictions(path)
        with torch.inference_mode():
            expected, _ = predict(network.eval(), run.pixels, read_maps, run.rows(said.files))
        np.testing.assert_allclose(said.adn, expected, atol=1e-5)
