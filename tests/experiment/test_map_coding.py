"""The coding and the scale of anomaly maps through both stages: computed, recorded, and not mixed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from commands import train
from torch import Tensor, nn

from leanet.cli import main, parse
from leanet.color.ciede2000 import ciede2000
from leanet.color.opencv_lab import opencv_lab
from leanet.experiment.open_run import find
from leanet.maps.sources.color import recolour

pytestmark = pytest.mark.usefixtures("tiny_networks", "blank_figures")

STAGE1 = ["--image-size", "64", "--n-splits", "2", "--colorizer-epochs", "1", "--folds", "0", "--compile", "off"]
DETECTOR = ["--adn", "CNN", "--caan", "Direct", "--folds", "0", "--epochs", "1", "--compile", "off"]


class Tinter(nn.Module):
    """A colorizer that everybody can compute: chrominance is a straight line of lightness."""

    def forward(self, lightness: Tensor) -> Tensor:
        return torch.cat([0.3 + 0.4 * lightness, 0.7 - 0.4 * lightness], 1)


@pytest.fixture(scope="module")
def authors_run(leaves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with maps in the authors' coding, and a detector with its baseline on its first fold."""
    out = tmp_path_factory.mktemp("runs") / "run"
    train("colorize", str(leaves), "--out", str(out), *STAGE1, "--map-coding", "authors")
    train("detect", str(out), *DETECTOR)
    return out


def recorded(folder: Path) -> tuple[str, str | None]:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    return config["map_coding"], config["map_scale"]


def test_recolour_does_as_the_published_program() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    coded = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2LAB) for image in rgb]).astype(np.float32) / np.float32(255)
    own = torch.from_numpy(coded).movedim(-1, 1)
    guess = torch.cat([own[:, :1], Tinter()(own[:, :1])], 1)
    delta_e, chroma = recolour(Tinter(), torch.from_numpy(rgb).movedim(-1, 1) / 255, "authors")
    assert torch.equal(chroma, guess[:, 1:])
    assert torch.equal(delta_e, ciede2000(opencv_lab(own), opencv_lab(guess)))
    true, _ = recolour(Tinter(), torch.from_numpy(rgb).movedim(-1, 1) / 255)
    assert (true - delta_e).abs().mean() > 1


def test_detectors_stay_in_their_run_whatever_its_config_file_says(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("out: other\nepochs: 3\nrecorded: {versions: {}}\n")
    config = parse("detect", ["run", "--config", str(file)])
    assert (config.out, config.detector.epochs) == (None, 3)
    assert parse("colorize", ["data", "--config", str(file)]).out == Path("other")
    file.write_text("out: other\n")
    assert parse("detect", ["run", "--config", str(file)]).out == Path("other")
    assert parse("detect", ["run", "--out", "./run"]).out is None


def test_bare_words_in_a_config_file_are_words(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("map_coding: true\ncompile: off\n")
    config = parse("colorize", ["data", "--out", "run", "--config", str(tmp_path / "config.yaml")])
    assert config.colorizer.map_coding == "true"
    assert config.compute.compile == "off"


def test_several_images_in_a_config_file_are_several_images(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("images: [a.jpg, b.jpg]\nmodel: leaf-model\n")
    config = parse("predict", ["--config", str(tmp_path / "config.yaml")])
    assert (config.model, list(config.images)) == (Path("leaf-model"), ["a.jpg", "b.jpg"])


def test_run_and_detectors_record_what_they_were_made_with(authors_run: Path) -> None:
    assert recorded(authors_run)[0] == "authors"
    assert find(authors_run).maps(0).attributes["coding"] == "authors"
    assert recorded(authors_run / "0" / "CNN-Direct-p2") == ("authors", "normals")
    assert recorded(authors_run / "0" / "CNN") == ("authors", None)


def test_a_detector_refuses_another_coding_or_scale(authors_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (authors_run / "config.yaml").read_bytes()
    assert main(["detect", str(authors_run), *DETECTOR, "--map-coding", "true"]) == 2
    assert "made with --map-coding authors" in capsys.readouterr().err
    assert main(["detect", str(authors_run), *DETECTOR, "--map-scale", "max"]) == 2
    assert "--map-scale normals, now max" in capsys.readouterr().err
    assert main(["detect", str(authors_run), *DETECTOR, "--recipe", "authors"]) == 2
    assert "--recipe leanet, now authors" in capsys.readouterr().err
    assert (authors_run / "config.yaml").read_bytes() == before
    same = ["--map-coding", "authors", "--map-scale", "normals"]
    assert main(["detect", str(authors_run), *DETECTOR, *same]) == 0
    assert "already finished" in capsys.readouterr().out
