from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from network_contract import count_parameters
from torch import nn

from leanet.compat.authors import THEIR_ADNS, THEIR_CAANS
from leanet.networks.contract import POINTS, STRIDES
from leanet.networks.external_attention import external_attention, gated_attention, pooled_attention
from leanet.networks.folding import fold_batch_norm
from leanet.networks.leanet import LEANet, LEANetOutput, joined
from leanet.networks.registry import ADNS, CAANS, COLORIZERS, build_colorizer, build_leanet

PAIRS = list(itertools.product(THEIR_ADNS, THEIR_CAANS))
EACH = [("VGG16", "MobileNet"), ("ResNet18", "ResNet"), ("CNN", "Direct")]
"""Pairs that hold every network once, for what an ADN and a CAAN do by themselves."""

TOTALS = {
    ("VGG16", "MobileNet"): 168_767_924,
    ("VGG16", "ResNet"): 170_631_620,
    ("VGG16", "Direct"): 165_726_018,
    ("ResNet18", "MobileNet"): 14_267_188,
    ("ResNet18", "ResNet"): 16_130_884,
    ("ResNet18", "Direct"): 11_225_282,
    ("CNN", "MobileNet"): 7_024_116,
    ("CNN", "ResNet"): 8_887_812,
    ("CNN", "Direct"): 3_982_210,
}


def batch(side: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, side, side, generator=generator), torch.rand(2, 1, side, side, generator=generator)


@pytest.mark.parametrize("pair", PAIRS)
def test_parameter_totals_are_the_authors(pair: tuple[str, str]) -> None:
    with torch.device("meta"):
        assert count_parameters(build_leanet(*pair, [1], 256)) == TOTALS[pair]


@pytest.mark.parametrize(("pair", "point"), list(itertools.product(PAIRS, POINTS)))
def test_every_pair_at_every_point(pair: tuple[str, str], point: int) -> None:
    with torch.device("meta"):
        net = build_leanet(*pair, [point], 96)
        output = net(torch.empty(2, 3, 96, 96), torch.empty(2, 1, 96, 96))
    side = 96 // STRIDES[point - 1]
    assert output.adn_logits.shape == (2, 2)
    assert (output.caan_logits is None) == (pair[1] == "Direct")
    assert {p: tuple(a.shape) for p, a in output.attention.items()} == {point: (2, 1, side, side)}


def test_several_points_at_once() -> None:
    net = build_leanet("CNN", "MobileNet", [5, 1, 3], 64).eval()
    output = net(*batch())
    assert list(output.attention) == [1, 3, 5]
    assert all(a.min() >= 0 and a.max() <= 1 for a in output.attention.values())


def test_affine_attention_standardises_the_guides_mean_before_the_sigmoid() -> None:
    torch.manual_seed(0)
    published = build_leanet("CNN", "MobileNet", [1, 3], 64)
    affine = build_leanet("CNN", "MobileNet", [1, 3], 64, "affine")
    assert count_parameters(affine) == count_parameters(published) + 2 * 4  # running statistics counted
    affine.load_state_dict(published.state_dict(), strict=False)
    before, after = published(*batch()).attention, affine(*batch()).attention
    logits = before[1].logit()
    expected = ((logits - logits.mean()) / logits.std(correction=0)).sigmoid()
    torch.testing.assert_close(after[1], expected, atol=1e-3, rtol=0)
    assert before[1].min() >= 0.5
    assert 0 < after[1].min() < 0.5 < after[1].max() < 1


def test_every_parameter_learns_in_bfloat16() -> None:
    net = build_leanet("ResNet18", "ResNet", [2], 64)
    with torch.autocast("cpu", torch.bfloat16):
        output = net(*batch())
    assert output.attention[2].dtype == torch.bfloat16
    (output.adn_logits.float().square().sum() + output.caan_logits.float().square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(("caan", "points"), [(None, [1]), ("none", [1]), ("ResNet", [])])
def test_baseline_is_the_plain_adn(caan: str | None, points: list[int]) -> None:
    net = build_leanet("CNN", caan, points, 64).eval()
    image, anomaly_map = batch()
    output = net(image)
    assert net.caan is None
    assert output.caan_logits is None
    assert output.attention == {}
    assert torch.equal(output.adn_logits, net.adn(image))
    assert torch.equal(output.adn_logits, net(image, anomaly_map).adn_logits)


def test_attention_changes_the_features_at_its_points_only() -> None:
    net = build_leanet("CNN", "Direct", [2, 4], 64).eval()
    features = net.features(*batch())
    pairs = list(zip(features.before.values(), features.after.values(), strict=True))
    assert [before is after for before, after in pairs] == [True, False, True, False, True]
    before, after = pairs[1]
    torch.testing.assert_close(after, before * (1 + features.attention[2]))


def test_external_attention_is_the_papers_formula() -> None:
    f, g = torch.randn(2, 5, 4, 3, dtype=torch.float64), torch.randn(2, 7, 4, 3, dtype=torch.float64)
    attended, attention = external_attention(f, g)
    m = 1 / (1 + np.exp(-g.numpy().mean(axis=1, keepdims=True)))
    np.testing.assert_allclose(attention.numpy(), m, rtol=1e-12)
    np.testing.assert_allclose(attended.numpy(), f.numpy() + f.numpy() * m, rtol=1e-12)


def test_compiles_without_a_graph_break() -> None:
    net = build_leanet("CNN", "MobileNet", [1, 4], 64).eval()
    with torch.no_grad():
        compiled: LEANetOutput = torch.compile(net, backend="aot_eager", fullgraph=True)(*batch())
        eager: LEANetOutput = net(*batch())
    torch.testing.assert_close(compiled.adn_logits, eager.adn_logits)
    torch.testing.assert_close(compiled.attention, eager.attention)


def test_errors_tell_the_remedy() -> None:
    with torch.device("meta"):
        with pytest.raises(ValueError, match="choose from CNN, ResNet18, EfficientNet-Lite0, VGG16"):
            build_leanet("VGG19", "Direct", [1], 64)
        with pytest.raises(ValueError, match="choose from Direct, MobileNet, ResNet"):
            build_leanet("CNN", "mobilenet", [1], 64)
        with pytest.raises(ValueError, match="choose from 1, 2, 3, 4, 5"):
            build_leanet("CNN", "Direct", [0], 64)
        with pytest.raises(ValueError, match="expected a multiple of 32 from 64 to 512, such as 512"):
            build_leanet("CNN", "Direct", [1], 544)
        with pytest.raises(ValueError, match="or neither"):
            LEANet(ADNS["CNN"](64), None, [1])
        with pytest.raises(ValueError, match="or neither"):
            LEANet(ADNS["CNN"](64), CAANS["Direct"](), [])
        with pytest.raises(ValueError, match="no anomaly map"):
            build_leanet("CNN", "Direct", [1], 64)(batch()[0])
        with pytest.raises(ValueError, match="choose from published, affine"):
            build_leanet("CNN", "Direct", [1], 64, "Affine")


@pytest.mark.parametrize("guide", [(2, 8, 1, 1), (1, 8, 4, 4), (2, 8, 4, 8)])
def test_a_guide_of_another_shape_is_refused_not_broadcast(guide: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="of the same stride"):
        external_attention(torch.rand(2, 5, 4, 4), torch.rand(guide))


def stirred(network: nn.Module) -> nn.Module:
    """The network with BatchNorm statistics far from their initial values."""
    torch.manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            nn.init.normal_(layer.weight, 1, 0.1)
            nn.init.normal_(layer.bias, 0, 0.1)
    return network.eval()


@pytest.mark.parametrize("pair", EACH)
def test_folding_batch_norm_changes_nothing_but_rounding(pair: tuple[str, str]) -> None:
    net = stirred(build_leanet(*pair, [1, 3], 64))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    folded = fold_batch_norm(net)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    with torch.inference_mode():
        expected, found = net(*batch()), folded(*batch())
    torch.testing.assert_close(found.adn_logits, expected.adn_logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.attention, expected.attention, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


@pytest.mark.parametrize("name", list(COLORIZERS))
def test_folding_batch_norm_of_colorizers(name: str) -> None:
    net = stirred(build_colorizer(name, 64))
    folded = fold_batch_norm(net)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    with torch.inference_mode():
        torch.testing.assert_close(folded(batch()[1]), net(batch()[1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pair", EACH)
def test_logits_are_float32_under_autocast(pair: tuple[str, str]) -> None:
    net = build_leanet(*pair, [1], 64).eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        output = net(*batch())
    assert output.adn_logits.dtype == torch.float32
    if output.caan_logits is not None:
        assert output.caan_logits.dtype == torch.float32
        assert (output.caan_logits != output.caan_logits.bfloat16()).any()
    assert (output.adn_logits != output.adn_logits.bfloat16()).any()


def test_a_gate_opens_from_the_network_without_attention() -> None:
    network = build_leanet("CNN", "ResNet", [2], 64, "gated").eval()
    image, anomaly_map = batch()
    with torch.inference_mode():
        torch.testing.assert_close(network(image, anomaly_map).adn_logits, network.adn(image))
        torch.nn.init.constant_(network.gates["2"], 0.5)
        assert not torch.allclose(network(image, anomaly_map).adn_logits, network.adn(image))


def test_a_gate_of_one_is_the_published_form() -> None:
    f, g = torch.rand(2, 8, 4, 4), torch.rand(2, 3, 4, 4)
    for one, other in zip(gated_attention(f, g, torch.ones(1)), external_attention(f, g), strict=True):
        torch.testing.assert_close(one, other)


def test_pooled_attention_keeps_the_weighted_average() -> None:
    f, g = torch.rand(2, 8, 4, 4), torch.rand(2, 3, 4, 4)
    after, attention = pooled_attention(f, g)
    assert attention.amin() == 0
    assert attention.amax() == 1
    expected = (f * attention).sum((2, 3)) / attention.sum((2, 3))
    torch.testing.assert_close(after.mean((2, 3)), expected)


@pytest.mark.parametrize(("caan", "tune"), [("ResNet", "all"), ("none", "all"), ("Direct", "head")])
def test_outputs_of_single_images_join_to_those_of_the_batch(caan: str, tune: str) -> None:
    torch.manual_seed(0)
    head = tune == "head"
    adn, points = ("EfficientNet-Lite0", ()) if head else ("ResNet18", (2,) if caan == "ResNet" else ())
    form = "pooled" if head else "published"
    network = build_leanet(adn, None if caan == "none" else caan, points, 64, form, tune=tune).eval()
    images, maps = torch.rand(3, 3, 64, 64), torch.rand(3, 1, 64, 64)
    with torch.inference_mode():
        whole = network(images, maps)
        each = joined([network(images[i : i + 1], maps[i : i + 1]) for i in range(3)])
    assert each.attention.keys() == whole.attention.keys()
    torch.testing.assert_close(vars(each), vars(whole), rtol=1e-4, atol=1e-4)
