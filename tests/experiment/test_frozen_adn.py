"""A head on a frozen ADN: run, fit, and what the model says."""

from __future__ import annotations

import csv
import hashlib
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from commands import train
from sklearn.metrics import roc_auc_score
from tiny import registered
from torch import nn

import leanet
from leanet.cli import main, parse
from leanet.color.lab import srgb_to_linear
from leanet.color.light import random_light, relit
from leanet.data.tensors import images_to_tensor
from leanet.experiment.detector_task import TrainDetector
from leanet.experiment.feature_task import ComputeFeatures, relit_rows
from leanet.experiment.finished import recorded_detector
from leanet.experiment.open_run import begin, find
from leanet.experiment.run_folder import RunFolder
from leanet.experiment.tasks import Worker
from leanet.experiment.training_set import labelled_rows
from leanet.model.export import Graph
from leanet.model.model import Model
from leanet.networks.pooled_head import mirrored_blocks, pooled_features
from leanet.networks.registry import build_leanet
from leanet.training.checkpoint import read_safetensors, save_weights

FROZEN = ("--adn", "EfficientNet-Lite0", "--tune", "head", "--maps", "features", "--image-size", "64")

BALANCED = ("--white-balance", "grey-world")

NAME = "EfficientNet-Lite0-head-attention"

pytestmark = pytest.mark.usefixtures("blank_figures")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(leaves: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    out = tmp_path_factory.mktemp("frozen") / "run"
    train("run", str(leaves), "--out", str(out), "--n-splits", "2", *FROZEN)
    return RunFolder(out)


def test_every_labeled_image_is_predicted_by_a_head_that_was_fitted_without_it(finished: RunFolder) -> None:
    detector = finished.fold(0).detector(NAME)
    labelled, unseen = read(detector.labelled), read(detector.validation)
    assert [row["file"] for row in unseen] == [row["file"] for row in labelled]
    assert not {row["file"] for row in labelled} & {row["file"] for row in read(detector.predictions)}


def test_a_threshold_is_chosen_with_few_anomalies(finished: RunFolder) -> None:
    metrics = finished.fold(0).detector(NAME).read_metrics()
    assert metrics["train"]["anomalous"] < 10
    assert metrics["adn"]["threshold_chosen"] is not None


def test_the_folds_share_features_that_are_computed_once(finished: RunFolder, leaves: Path) -> None:
    features = finished.features("EfficientNet-Lite0")
    before = features.stat().st_mtime_ns
    assert read_safetensors(features)[1]["features"].shape == (40, 3 * (16 + 24 + 40 + 80 + 112 + 192 + 320))
    finished.fold(1).detector(NAME).metrics.unlink()
    train("run", str(leaves), "--out", str(finished.path), "--n-splits", "2", *FROZEN)
    assert features.stat().st_mtime_ns == before
    assert finished.fold(1).detector(NAME).metrics.exists()


def test_copies_in_other_light_are_described_beside_the_images(finished: RunFolder) -> None:
    run = find(finished.path)
    tensors = read_safetensors(finished.features("EfficientNet-Lite0"))[1]
    row = int(relit_rows(run)[3])
    image = relit(images_to_tensor(run.pixels, np.array([row])), *random_light(7))  # the second copy
    adn = build_leanet("EfficientNet-Lite0", None, (), 64, weights="imagenet").adn.eval()
    with torch.inference_mode():
        expected = pooled_features(mirrored_blocks(adn, image))[0]
    torch.testing.assert_close(tensors["relit_features"][7], expected, rtol=1e-3, atol=1e-4)
    assert len(np.unique(tensors["relit_features"].numpy(), axis=0)) == len(tensors["relit_features"]) == 24


def test_copies_in_other_light_are_balanced_as_the_images_are(
    leaves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse("run", [str(leaves), "--out", str(tmp_path / "run"), "--n-splits", "2", *FROZEN, *BALANCED])
    run = begin(config.stages()[0])

    def light(_: object, side: int) -> Callable[..., dict[str, torch.Tensor]]:
        assert side == 64
        return lambda image: {"features": srgb_to_linear(image).mean((2, 3))}

    monkeypatch.setattr(ComputeFeatures, "describer", light)
    task = ComputeFeatures(config.stages()[1], ())
    task.run(Worker({run.folder.path: run}))
    tensors = read_safetensors(task.path)[1]
    for name in (
        "features",
        "relit_features",
    ):  # the mean color is gray, but where the brightest copies are clipped
        r, g, b = tensors[name].T
        assert float((r / g - 1).abs().median()) < 0.005
        assert float((b / g - 1).abs().median()) < 0.005
    brightness = tensors["relit_features"][:, 1] / tensors["features"][np.repeat(relit_rows(run), 2), 1]
    assert float(brightness.log2().std()) > 0.3  # they are in other light: the exposure stays


def test_heads_of_an_earlier_version_are_named_and_their_features_made_again(
    finished: RunFolder, leaves: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features, run = finished.features("EfficientNet-Lite0"), find(finished.path)
    before = features.read_bytes()
    holder = torch.nn.Module()
    holder.register_buffer("features", read_safetensors(features)[1]["features"])
    images = [image.sha256 for image in run.images]
    weights = finished.fold(0).detector(NAME).read_config()["weights"] or ""
    earlier = (images, 64, "EfficientNet-Lite0", weights)  # what version 0.1 marked the file with
    save_weights(holder, features, hashlib.sha256(repr(earlier).encode()).hexdigest())
    capsys.readouterr()
    train("run", str(leaves), "--out", str(finished.path), "--n-splits", "2", *FROZEN)
    said = capsys.readouterr().out
    assert "note: finished heads are of an earlier version, and do not ignore other light; new ones do" in said
    assert features.read_bytes() == before
    train("run", str(leaves), "--out", str(finished.path), "--n-splits", "2", *FROZEN)
    assert "earlier version" not in capsys.readouterr().out


def test_damaged_features_are_computed_again(finished: RunFolder, leaves: Path) -> None:
    features = finished.features("EfficientNet-Lite0")
    before = features.read_bytes()
    features.write_bytes(before[:5000])
    finished.fold(1).detector(NAME).metrics.unlink()
    train("run", str(leaves), "--out", str(finished.path), "--n-splits", "2", *FROZEN)
    assert features.read_bytes() == before


def test_lost_features_are_computed_again_for_finished_heads(finished: RunFolder, leaves: Path) -> None:
    features = finished.features("EfficientNet-Lite0")
    before = features.read_bytes()
    features.unlink()
    train("run", str(leaves), "--out", str(finished.path), "--n-splits", "2", *FROZEN)
    assert features.read_bytes() == before


def test_maps_of_training_normals_are_like_those_of_test_normals(finished: RunFolder) -> None:
    run = find(finished.path)
    fold = run.folds[0]
    means = np.array(run.maps(0).attributes["mean_delta_e"])
    of_training, of_test = (
        means[rows[run.labels[rows] == 0]].mean() for rows in (run.rows(fold.train), run.rows(fold.test))
    )
    assert of_training == pytest.approx(of_test, rel=0.3)


def test_a_later_detector_is_not_taken_for_a_head(finished: RunFolder) -> None:
    out = finished.path.with_name("later")
    train("detect", str(finished.path), "--out", str(out), "--adn", "EfficientNet-Lite0", "--tune", "head")
    with registered():
        train("detect", str(finished.path), "--out", str(out), "--adn", "CNN", "--caan", "none", "--epochs", "1")
        assert recorded_detector(RunFolder(out)).detector.tune is None
        assert recorded_detector(RunFolder(out), NAME).detector.tune == "head"


def test_check_names_a_quick_run_with_a_head(leaves: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(leaves), "--n-splits", "2", *FROZEN]) == 0
    quick = [str(leaves), "--out", "quick", "--n-splits", "2", "--folds", "0", *FROZEN]
    offered = re.search(r"a quick run takes \d+ (?:s|min): leanet (.*)", capsys.readouterr().out)
    assert offered
    assert parse("run", shlex.split(offered[1])[1:]) == parse("run", quick)


def test_a_fitted_model_says_what_the_network_says(leaves: Path, tmp_path: Path) -> None:
    assert main(["fit", str(leaves), "--out", str(tmp_path / "model"), "--n-splits", "2", *FROZEN]) == 0
    model = leanet.load(tmp_path / "model")
    assert isinstance(model, Model)
    assert model.card.tune == "head"
    assert model.card.map_source == "features"
    files = sorted((leaves / "test").rglob("*.png")), sorted((leaves / "train").rglob("*.png"))
    said = [[result.probability for result in model.predict(some)] for some in files]
    assert np.mean(np.array(said[0], dtype=float)) > 0.5 > np.mean(np.array(said[1], dtype=float))
    noise = np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    strange = model.predict([np.zeros((64, 64, 3), np.uint8), noise])
    assert [result.decision for result in strange] == ["unfamiliar"] * 2
    familiar = model.predict(files[1])
    assert sum(result.unfamiliar for result in familiar) <= len(familiar) // 4
    assert model.card.familiar_distances is not None
    assert Graph(model)(torch.from_numpy(noise))[-1].item() > model.card.familiar_distances[-1]


@pytest.mark.slow
def test_an_exported_head_measures_the_same_distance(leaves: Path, tmp_path: Path) -> None:
    assert main(["fit", str(leaves), "--out", str(tmp_path / "model"), "--n-splits", "2", *FROZEN]) == 0
    assert main(["export", str(tmp_path / "model")]) == 0
    files = sorted((leaves / "test").rglob("*.png"))[:6]
    for file in files:
        expected, found = (leanet.load(tmp_path / name).predict(file) for name in ("model", "model.onnx"))
        assert found.unfamiliarity == pytest.approx(expected.unfamiliarity, abs=0.05)
        assert found.decision == expected.decision
    network = build_leanet("EfficientNet-Lite0", None, (), 64).adn
    layers = sum(isinstance(module, nn.Conv2d) for module in network.stages.modules())
    nodes = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert nodes.count("Conv") == 2 * layers  # of the image as it is, for the map too, and of its mirror images


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("--adn", "ResNet18", "--tune", "head"), "the ADN needs pretrained weights"),
        (
            ("--adn", "EfficientNet-Lite0", "--tune", "head", "--weights", "none"),
            "the ADN needs pretrained weights",
        ),
        ((*FROZEN[:4], "--p-rate", "0.15"), "a head needs two of each"),
    ],
)
def test_what_has_no_head_to_fit_is_refused(
    leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], remedy: str
) -> None:
    common = ("--n-splits", "2", "--maps", "features", "--image-size", "64", *arguments)
    assert main(["run", str(leaves), "--out", str(tmp_path / "run"), *common]) == 2
    assert remedy in capsys.readouterr().err


def test_detectors_in_another_folder_share_the_features_of_the_run(
    finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = finished.features("EfficientNet-Lite0").stat().st_mtime_ns
    head = ("--adn", "EfficientNet-Lite0", "--tune", "head", "--p-rate", "0.5")
    train("detect", str(finished.path), "--out", str(tmp_path / "few"), *head)
    assert finished.features("EfficientNet-Lite0").stat().st_mtime_ns == before
    assert not (tmp_path / "few" / "features").exists()
    assert main(["report", str(tmp_path / "few")]) == 0
    before_change = (tmp_path / "few" / "0" / NAME / "weights.safetensors").read_bytes()
    again = ["detect", str(finished.path), "--out", str(tmp_path / "few"), *head, "--light", "as-taken"]
    assert main(again) == 2
    assert "--light ignored, now as-taken" in capsys.readouterr().err
    train(*again[:-1], "ignored")  # as it is
    train("detect", str(finished.path), "--out", str(tmp_path / "light"), *head, "--light", "as-taken")
    assert (tmp_path / "light" / "0" / NAME / "weights.safetensors").read_bytes() != before_change


def test_the_baseline_is_the_head_that_reads_no_maps(finished: RunFolder) -> None:
    with_maps, plain = (
        read_safetensors(finished.fold(0).detector(name).weights)[1]["head.linear.weight"].shape[1]
        for name in (NAME, "EfficientNet-Lite0-head")
    )
    assert (plain, with_maps) == (2352, 2352 + 784 + 3)


def test_the_map_is_read_unless_it_ranks_the_labeled_anomalies_below_the_normals(finished: RunFolder) -> None:
    run = find(finished.path)
    for fold in range(2):
        task = TrainDetector(recorded_detector(finished, NAME), fold, 0)
        rows = labelled_rows(task.config, run, fold, 0)
        means = task.features.read(run, fold)["anomaly map"][rows, 0]
        expected = ["features", "attention"] if roc_auc_score(run.labels[rows], means) >= 0.5 else ["features"]
        parts = finished.fold(fold).detector(NAME).read_metrics()["parts"]
        assert [part for part in parts if part != "anomaly map"] == expected
        assert expected == ["features", "attention"] or "anomaly map" not in parts


def test_other_maps_guide_anew(finished: RunFolder) -> None:
    attention = finished.fold(0).attention("EfficientNet-Lite0")
    task = TrainDetector(recorded_detector(finished, NAME), 0, 0).features
    run = find(finished.path)
    assert task.done(Worker({finished.path: run}))
    shutil.copy(finished.fold(1).attention("EfficientNet-Lite0"), attention)
    assert not task.done(Worker({finished.path: run}))
