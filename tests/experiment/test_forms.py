"""`benchmarks.forms`: the networks that external attention is compared with, and a run that has every row."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

import leanet
from benchmarks import forms
from benchmarks.rivals import CBAM, SQUEEZE_EXCITATION, AttentionBranch, FourthChannel, with_layer
from leanet.config import ColorizeConfig, ColorizerConfig, ComputeConfig, DataConfig, DetectConfig, DetectorConfig
from leanet.experiment.detector_task import TrainDetector
from leanet.experiment.open_run import Run, find
from leanet.files import read_csv
from leanet.networks.leanet import LEANet
from leanet.networks.registry import ADNS, CAANS, JOINS, Join, build_leanet, find_adn, register_adn
from leanet.training.compute import Compute
from leanet.training.detection import loss
from leanet.training.prediction import predictor

SIDE, POINT = 64, 2
RIVALS: dict[str, Join] = {
    "channel": FourthChannel,
    "SE": partial(with_layer, SQUEEZE_EXCITATION, point=POINT),
    "CBAM": partial(with_layer, CBAM, point=POINT),
    "ABN": partial(AttentionBranch, point=POINT),
}


@pytest.fixture(autouse=True)
def registered_here() -> Iterator[None]:
    """Take back what a test registers."""
    with patch.dict(ADNS), patch.dict(CAANS), patch.dict(JOINS):
        yield


def rival(name: str, adn: str = "ResNet18") -> LEANet:
    register_adn(name, RIVALS[name])(find_adn(adn))
    torch.manual_seed(0)
    return build_leanet(name, None, (), SIDE).eval()


def plain(adn: str = "ResNet18") -> LEANet:
    torch.manual_seed(0)
    return build_leanet(adn, None, (), SIDE).eval()


def batch(n: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, 3, SIDE, SIDE, generator=generator), torch.rand(n, 1, SIDE, SIDE, generator=generator)


@pytest.mark.parametrize("adn", ["ResNet18", "EfficientNet-Lite0"])
@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_has_the_plain_adns_weights_and_gives_two_logits(name: str, adn: str) -> None:
    network, images, maps = rival(name, adn), *batch()
    with torch.inference_mode():
        output = network(images, maps)
    assert output.adn_logits.shape == (3, 2)
    assert (output.caan_logits is not None) == (name == "ABN")
    for point, attention in output.attention.items():
        assert attention.shape == (3, 1, SIDE // 2**point, SIDE // 2**point)
        assert 0 <= attention.min() <= attention.max() <= 1
    heads = network.adn.head.parameters(), plain(adn).adn.head.parameters()
    assert all(torch.equal(own, expected) for own, expected in zip(*heads, strict=True))


@pytest.mark.parametrize("adn", ["ResNet18", "EfficientNet-Lite0"])
def test_a_fourth_channel_is_at_first_the_plain_adn_and_learns_from_the_map(adn: str) -> None:
    network, images, maps = rival("channel", adn), *batch()
    expected = plain(adn)(images)
    found = network(images, maps)
    assert torch.equal(found.adn_logits, expected.adn_logits)
    found.adn_logits[:, 1].sum().backward()
    gradients = {n: p.grad for n, p in network.named_parameters() if n.endswith(".map.weight")}
    ((name, gradient),) = gradients.items()
    assert gradient is not None
    assert gradient.abs().max() > 0
    with torch.no_grad():
        network.get_parameter(name).add_(gradient)
    assert not torch.allclose(network(images, maps).adn_logits, expected.adn_logits)


def test_a_fourth_channel_is_one_convolution_of_four_channels() -> None:
    network, images, maps = rival("channel"), *batch()
    first = network.adn.get_submodule("stages.0.0")
    image, of_map = first.get_submodule("image"), first.get_submodule("map")
    weight = torch.nn.init.normal_(of_map.get_parameter("weight").detach())
    padded = torch.nn.functional.pad(
        torch.cat([images, maps], 1), (2, 3, 2, 3)
    )  # 'same' padding of 7 with stride 2
    four = torch.cat([image.get_parameter("weight"), weight], 1)
    expected = torch.nn.functional.conv2d(padded, four, image.get_parameter("bias"), stride=2)
    found: list[Tensor] = []
    first.register_forward_hook(lambda _module, _inputs, output: found.append(output))
    network(images, maps)
    torch.testing.assert_close(found[0], expected)


def test_gated_attention_is_at_first_the_plain_adn() -> None:
    torch.manual_seed(0)
    gated = build_leanet("ResNet18", "ResNet", (POINT,), SIDE, "gated").eval()
    images, maps = batch()
    assert torch.equal(gated(images, maps).adn_logits, plain()(images).adn_logits)


def test_an_attention_branch_has_a_loss_of_its_own_and_multiplies_the_features() -> None:
    network, images, maps = rival("ABN"), *batch()
    labels = torch.tensor([0, 1, 1])
    total, adn, branch = loss(network, images, maps, labels)
    torch.testing.assert_close(total, adn + branch)
    torch.autograd.backward(branch)
    for part, learns in ((network.get_submodule("to_logits"), True), (network.adn.head, False)):
        assert all(p.grad is not None and bool(p.grad.abs().max() > 0) == learns for p in part.parameters())

    output, x = network(images), images
    for stage in network.adn.stages[:POINT]:
        x = stage(x)
    x = x * (1 + output.attention[POINT])
    for stage in network.adn.stages[POINT:]:
        x = stage(x)
    torch.testing.assert_close(network.adn.head(x), output.adn_logits)


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_predicts_as_it_was_trained(name: str) -> None:
    network, images, maps = rival(name), *batch()
    with torch.inference_mode():
        expected = network(images, maps).adn_logits
        found = predictor(network, Compute(torch.device("cpu"), bfloat16=False, compiled=False))(images, maps)
    torch.testing.assert_close(found.adn_logits, expected, rtol=1e-4, atol=1e-4)


def test_a_shuffled_map_is_another_image_s_of_the_same_side() -> None:
    sides = [np.array([0, 2, 4, 6]), np.array([], dtype=np.int64), np.array([1, 3, 9])]
    other = forms.shuffled(10, sides, (0, 1))
    for side in sides:
        assert sorted(other[side]) == sorted(side)
        assert (other[side] != side).all()
    assert other[[5, 7, 8]].tolist() == [5, 7, 8]
    assert (forms.shuffled(10, sides, (0, 1)) == other).all()


@pytest.fixture
def run(leaves: Path, tmp_path: Path, tiny_networks: None) -> Run:  # noqa: ARG001
    data, maps = DataConfig(image_size=SIDE, n_splits=2), ColorizerConfig(colorizer_epochs=1)
    leanet.colorize(ColorizeConfig(leaves, tmp_path / "run", data, maps, ComputeConfig(device="cpu")))
    return find(tmp_path / "run")


@pytest.mark.slow
def test_one_epoch_gives_all_rows_and_is_resumed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*options: str) -> str:
        told = [str(run.folder.path), "--out", str(tmp_path / "out"), "--epochs", "1", *options]
        monkeypatch.setattr(sys, "argv", ["forms", *told])
        forms.main()
        return capsys.readouterr().out.partition("\n\n| row |")[2]

    printed = call()
    lines = read_csv(tmp_path / "out" / "forms.csv")
    assert [(line["row"], line["fold"]) for line in lines] == [(row, fold) for row in forms.ROWS for fold in "01"]
    assert all(0 <= float(line[metric]) <= 1 for line in lines for metric in forms.PRINTED)
    assert [line.split(" | ")[0] for line in printed.splitlines()[2:]] == [f"| {row}" for row in forms.ROWS]
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("weights.safetensors")}
    assert len(made) == 2 * len(forms.ROWS)
    assert call() == printed
    assert made == {p: p.stat().st_mtime_ns for p in made}
    assert call("--rows", "ABN").count("\n") == 3
    with pytest.raises(SystemExit, match="made with"):
        call("--seed", "1")
    with pytest.raises(SystemExit, match="--attention-point 9: ResNet18"):
        call("--point", "9")


def test_a_detector_reads_the_maps_of_other_images_of_each_side(run: Run, tmp_path: Path) -> None:
    detector = DetectorConfig("ResNet18", validation=0.5)
    config = DetectConfig(run.folder.path, tmp_path / "out", detector)
    task = forms.TrainShuffled(config, 0, 0)
    own, others, images = TrainDetector(config, 0, 0).read_maps(run), task.read_maps(run), task.images(run)
    assert len(images.validation)
    for side in (images.train, images.validation, run.rows(run.folds[0].test)):
        assert not torch.equal(own(side), others(side))
        assert sorted(own(side).mean((1, 2, 3)).tolist()) == sorted(others(side).mean((1, 2, 3)).tolist())
