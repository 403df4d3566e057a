"""`benchmarks.peers`: DevNet, the frozen network that the peers read, and what the command refuses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks import devnet, peers
from leanet.config import DetectConfig
from leanet.config.options import to_options
from leanet.experiment.open_run import Run
from leanet.experiment.run_folder import RunFolder, write_config
from leanet.networks.registry import build_leanet
from leanet.training.head import PARTS


def patches(labels: NDArray[np.int64], seed: int) -> torch.Tensor:
    """Noise (N, 16, 8); one patch of an anomalous image deviates in one channel."""
    features = torch.randn(len(labels), 16, 8, generator=torch.Generator().manual_seed(seed))
    features[torch.from_numpy(labels) == 1, seed % 16, 3] += 8
    return features


def test_devnet_finds_images_with_one_anomalous_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devnet, "STEPS", 150)
    monkeypatch.setattr(devnet, "LEARNING_RATE", 2e-2)
    labels = np.repeat([0, 1], [40, 6])
    model = devnet.fit_devnet(patches(labels, 0), labels, 0)
    assert torch.equal(model.linear.weight, devnet.fit_devnet(patches(labels, 0), labels, 0).linear.weight)
    with torch.inference_mode():
        scores = model(model.standardize(patches(labels, 1))).numpy()
    assert roc_auc_score(labels, scores) > 0.95
    assert (scores >= 0).all()


def test_the_deviation_loss_is_that_of_the_formula() -> None:
    references, scores = torch.tensor([-1.0, 0.0, 4.0]), torch.tensor([2.0, 2.0, 30.0])
    deviation = (np.array([2.0, 2.0, 30.0]) - 1) / np.std([-1, 0, 4], ddof=1)
    expected = np.mean([abs(deviation[0]), 5 - deviation[1], 0])
    assert float(devnet.deviation_loss(scores, torch.tensor([0, 1, 1]), references)) == pytest.approx(expected)


def test_the_frozen_network_is_leanets_and_its_layers_have_timms_names() -> None:
    backbone = peers.Backbone(64, (2, 4)).train()
    adn = build_leanet(peers.ADN_NAME, None, (), 64, weights="imagenet").adn.eval()
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    x, expected = images, []
    with torch.no_grad():
        for stage in adn.stages:
            x = stage(x)
            expected.append(x)
    found = backbone(images)
    assert list(found) == ["blocks.1", "blocks.4"]
    assert torch.equal(found["blocks.1"], expected[1])
    assert torch.equal(found["blocks.4"], expected[3])

    import timm

    with torch.device("meta"):
        network: Any = timm.create_model(peers.TIMM_NAME)
    found_by_timm = {f["module"]: f["reduction"] for f in network.feature_info[1:]}
    assert found_by_timm == {n: 2**p for p, n in peers.LAYERS.items()}


class Recorded(peers.Peer):
    """Records what it is fitted to, and what it scores."""

    def __init__(self) -> None:
        self.fits: list[tuple[set[int], set[int]]] = []

    def fit(self, rows: peers.Rows, labels: NDArray[np.int64], seed: int) -> peers.Score:
        def score(unseen: peers.Rows) -> NDArray[np.float64]:
            self.fits.append(({*rows.tolist()}, {*unseen.tolist()}))
            return np.full(len(unseen), float(len(labels) + seed))

        return score


def test_a_labeled_image_is_scored_by_a_fit_without_its_group(make_run: Callable[..., Run]) -> None:
    run, peer = make_run(24, 12, group_of=2), Recorded()
    rows = np.arange(len(run.labels))
    groups = run.groups_of(rows)
    scores = peers.unseen_scores(peer, rows, run.labels, groups, 0)
    assert scores is not None
    assert (scores > 0).all()
    assert len(peer.fits) == PARTS
    for fitted, scored in peer.fits:
        assert not {groups[row] for row in fitted} & {groups[row] for row in scored}


def test_one_group_of_anomalies_chooses_no_threshold(make_run: Callable[..., Run]) -> None:
    run = make_run(24, 2, group_of=2)
    rows = np.arange(len(run.labels))
    assert peers.unseen_scores(Recorded(), rows, run.labels, run.groups_of(rows), 0) is None


def test_without_anomalib_devnet_runs_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "anomalib", None)
    assert peers.available(("patchcore", "padim", "devnet")) == ["devnet"]
    assert capsys.readouterr().out == "anomalib is not installed: pip install anomalib. DevNet runs alone.\n"
    assert peers.available(["devnet"]) == ["devnet"]
    assert not capsys.readouterr().out
    with pytest.raises(SystemExit, match="pip install anomalib"):
        peers.available(["patchcore"])


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="not a run folder"):
        peers.opened(tmp_path / "none", None, None)


def test_a_run_without_the_detector_is_refused(tmp_path: Path) -> None:
    write_config(RunFolder(tmp_path).config, to_options(DetectConfig(run=tmp_path)), {})
    with pytest.raises(SystemExit, match=r"--detector VGG16: .* has none"):
        peers.opened(tmp_path, "VGG16", None)
