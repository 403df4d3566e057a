"""Networks made ready to predict say what they said before."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from leanet.networks.leanet import LEANetOutput
from leanet.networks.registry import build_colorizer, build_leanet
from leanet.training.compute import Compute
from leanet.training.prediction import in_single_threads, predictor


def trained_a_little(network: torch.nn.Module, *inputs: torch.Tensor) -> torch.nn.Module:
    """The network with BatchNorm statistics of these inputs."""
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        network.train()(*inputs)
    return network


@pytest.mark.parametrize(("bfloat16", "tolerance"), [(False, 1e-5), (True, 0.02)])
def test_colorizer_predicts_what_it_would_in_evaluation_mode(bfloat16: bool, tolerance: float) -> None:
    torch.manual_seed(0)
    lightness = torch.rand(4, 1, 64, 64)
    network = trained_a_little(build_colorizer("Unet", 64), lightness)
    found = predictor(network, Compute(torch.device("cpu"), bfloat16, compiled=False))(lightness)
    assert network.training
    with torch.inference_mode():
        expected = network.eval()(lightness)
    assert found.dtype == torch.float32
    assert (found - expected).abs().mean() < tolerance


@pytest.mark.parametrize(("bfloat16", "tolerance"), [(False, 1e-3), (True, 0.05)])
def test_leanet_predicts_what_it_would_in_evaluation_mode(bfloat16: bool, tolerance: float) -> None:
    torch.manual_seed(0)
    images, maps = torch.rand(8, 3, 64, 64), torch.rand(8, 1, 64, 64)
    network = trained_a_little(build_leanet("ResNet18", "ResNet", [2], 64), images, maps)
    found: LEANetOutput = predictor(network, Compute(torch.device("cpu"), bfloat16, compiled=False))(images, maps)
    with torch.inference_mode():
        expected: LEANetOutput = network.eval()(images, maps)
    assert found.adn_logits.dtype == torch.float32
    spread = expected.adn_logits.std()
    assert (found.adn_logits - expected.adn_logits).abs().max() < tolerance * spread
    assert not found.adn_logits.requires_grad


def test_float32_is_not_tf32_while_predicting() -> None:
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # torch declares it at run time
    before, seen = convolutions.fp32_precision, []

    class Watching(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(convolutions.fp32_precision)
            return x

    predictor(Watching(), Compute(torch.device("cpu"), False, compiled=False))(torch.zeros(1, 1, 2, 2))
    assert before == "tf32"
    assert seen == ["ieee"]
    assert convolutions.fp32_precision == before


def test_threads_give_the_results_of_one_in_order() -> None:
    """Each thread computes alone, so sums are added in the same order as by a single thread."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 3))
    predict = predictor(network, Compute(torch.device("cpu"), bfloat16=False, compiled=False))
    images, before = torch.rand(40, 3, 64, 64), torch.get_num_threads()
    threads: set[int] = set()

    def of_image(i: int) -> Tensor:
        threads.add(threading.get_ident())
        assert torch.get_num_threads() == 1
        found: Tensor = predict(images[i : i + 1])
        return found

    torch.set_num_threads(1)
    expected = [predict(images[i : i + 1]) for i in range(40)]
    torch.set_num_threads(3)
    try:
        found = list(in_single_threads(of_image, range(40), torch.device("cpu")))
        assert torch.get_num_threads() == 3
        assert threads
        assert threading.get_ident() not in threads
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
        with pytest.raises(ZeroDivisionError):
            list(in_single_threads(lambda i: 1 / (i - 20), range(40), torch.device("cpu")))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_threads_that_predict_leave_the_precision_of_convolutions_as_it_was() -> None:
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # torch declares it at run time
    before, seen, both = convolutions.fp32_precision, [], threading.Barrier(2, timeout=10)

    class Meeting(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            both.wait()  # until the other thread predicts too
            seen.append(convolutions.fp32_precision)
            return x

    predict = predictor(Meeting(), Compute(torch.device("cpu"), False, compiled=False))
    threads = [threading.Thread(target=predict, args=(torch.zeros(1, 1, 2, 2),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["ieee", "ieee"]
    assert convolutions.fp32_precision == before
