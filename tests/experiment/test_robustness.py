"""Other light on a run with white balance: it falls on the picture as it was decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from commands import train
from numpy.typing import NDArray
from PIL import Image

from leanet.color.light import cast_gains, relit
from leanet.data.decode import decode, resize
from leanet.data.synthetic import make_leaves
from leanet.data.tensors import images_to_tensor, tensor_to_image
from leanet.errors import UserError
from leanet.experiment import robustness as module
from leanet.experiment.experiment import Experiment
from leanet.experiment.finished import finished, recorded_detector
from leanet.experiment.fold_model import fold_model
from leanet.experiment.predictions import read_predictions
from leanet.experiment.run_folder import RunFolder
from leanet.experiment.table import scores_of

pytestmark = pytest.mark.usefixtures("tiny_networks", "blank_figures")

QUICK = ["--image-size", "64", "--n-splits", "2", "--adn", "CNN", "--caan", "Direct", "--attention-point", "3"]
FEW = ["--colorizer-epochs", "1", "--epochs", "1", "--compile", "off", "--no-compare", "--folds", "0"]


@pytest.fixture
def trained(tmp_path: Path) -> Experiment:
    make_leaves(tmp_path / "leaves", n_normal=8, n_anomalous=6, image_size=96, seed=4)
    out = tmp_path / "run"
    train("run", str(tmp_path / "leaves"), "--out", str(out), *QUICK, *FEW, "--white-balance", "grey-world")
    found, _ = finished(recorded_detector(RunFolder(out)))
    return found


@dataclass
class Recorder:
    """Stands for a fold's model, and keeps what it is asked about."""

    asked: list[NDArray[np.uint8]] = field(default_factory=list)

    def predict_pixels(self, images: list[NDArray[np.uint8]]) -> list[Any]:
        self.asked += images
        return [SimpleNamespace(probability=0.5) for _ in images]


def under(picture: NDArray[np.uint8], cast: Any) -> NDArray[np.uint8]:
    return tensor_to_image(relit(images_to_tensor(picture[None], np.arange(1)), cast_gains(cast, 12))[0])


def test_a_cast_falls_on_the_picture_before_its_white_balance(
    trained: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    stand_in: Callable[..., Recorder] = lambda *_: recorder  # noqa: E731
    monkeypatch.setattr(module, "fold_model", stand_in)
    found = module.robustness(trained, scores_of(trained), tmp_path / "kept.json")
    run = trained.run
    rows = module._chosen(trained, 0)
    pictures = [resize(decode(run.images_in / run.images[row].file), 64) for row in rows]
    for picture, asked in zip(pictures, recorder.asked, strict=False):
        np.testing.assert_array_equal(asked, picture)
    assert any((run.pixels[row] != picture).any() for row, picture in zip(rows, pictures, strict=True))
    number = [condition.name for condition in found.conditions].index("cast of 12 ΔE")
    for i, cast in enumerate(("warm", "cool", "green", "magenta")):
        np.testing.assert_array_equal(recorder.asked[number * len(rows) + i], under(pictures[i], cast))


def test_the_picture_as_taken_is_balanced_once(trained: Experiment) -> None:
    fold = trained.run.folds[0]
    rows = trained.run.rows(fold.test)
    said = fold_model(trained, 0).predict_pixels(module.as_decoded(trained.run, rows))
    kept = read_predictions(trained.folder(0).predictions)
    assert [result.probability for result in said] == pytest.approx(kept.adn.tolist(), abs=1e-4)


def test_pictures_that_are_gone_or_others_are_named(trained: Experiment) -> None:
    rows = trained.run.rows(trained.run.folds[0].test)[:1]
    place = trained.run.images_in / trained.run.images[rows[0]].file
    Image.new("RGB", (96, 96)).save(place)
    with pytest.raises(UserError, match=f"{place.name}: changed since the run"):
        module.as_decoded(trained.run, rows)
    place.unlink()
    with pytest.raises(UserError, match=rf"{place.name}: cannot be decoded again \(no such file"):
        module.as_decoded(trained.run, rows)
