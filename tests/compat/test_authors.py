"""The same numbers as the authors' program, from the same weights and inputs."""

from __future__ import annotations

import numpy as np
import pytest
import recordings
import torch
from numpy.typing import NDArray

from leanet.compat.authors import THEIR_ADNS, THEIR_CAANS, colorizer_from_keras_arrays, from_keras_arrays, predict
from leanet.compat.keras_graph import graph_of
from leanet.errors import UserError
from leanet.networks.leanet import LEANetOutput
from leanet.networks.registry import build_leanet
from leanet.training.detection import authors_loss

PAIRS = [(adn, caan, point) for adn in THEIR_ADNS for caan in THEIR_CAANS for point in (1, 3)]
QUICK = {("VGG16", "ResNet", 3)}  # VGG16's 165 million weights take seconds to draw

CASES = [
    pytest.param(*pair, marks=[pytest.mark.slow] if pair[0] == "VGG16" and pair not in QUICK else [])
    for pair in PAIRS
]


def nchw(array: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(array).permute(0, 3, 1, 2)


@pytest.mark.parametrize(("adn", "caan", "point"), CASES)
def test_outputs_and_loss_are_the_authors(adn: str, caan: str, point: int, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = recordings.load(f"{adn}_{caan}_p{point}")
    model = from_keras_arrays(adn, caan, point, recordings.draw(recording["weights"]))
    image, anomaly_map = recordings.inputs()
    with torch.inference_mode():
        output: LEANetOutput = model(nchw(image), nchw(anomaly_map))

    def said(given: torch.Tensor, given_map: torch.Tensor) -> LEANetOutput:
        assert torch.equal(given, nchw(image))
        assert torch.equal(given_map, nchw(anomaly_map))
        return output

    monkeypatch.setattr(model, "forward", said)  # once is enough for the predictions and both losses
    found = predict(model, image, anomaly_map)
    assert len(found) == len(recording["outputs"])
    for pair, expected in zip(found, recording["outputs"], strict=True):
        np.testing.assert_allclose(pair, expected, atol=1e-5, rtol=0)
    activations = model.adn.activation, model.caan.activation if model.caan else ""
    for weight in (1.0, 0.5):
        loss = authors_loss(*activations, caan_weight=weight)
        with torch.inference_mode():
            total, first, *second = loss(model, nchw(image), nchw(anomaly_map), torch.tensor([0, 1])).tolist()
        assert total == pytest.approx(first + weight * sum(second))
        if weight == 1:
            assert total == pytest.approx(recording["loss"], abs=1e-4)
    one_hot = np.eye(2)
    from_outputs = sum(-np.mean(one_hot * np.log(p) + (1 - one_hot) * np.log(1 - p)) for p in found)
    assert from_outputs == pytest.approx(recording["loss"], abs=1e-4)


@pytest.mark.parametrize("name", ["Unet", "SegNet", "AE"])
def test_colorizers_are_the_authors(name: str) -> None:
    recording = recordings.load(f"colorizer_{name}")
    # In float64: which of two nearly equal values SegNet pools hangs on float32's last digit and the processor.
    exact = torch.float64 if name == "SegNet" else torch.float32
    model = colorizer_from_keras_arrays(name, recordings.draw(recording["weights"])).to(exact)
    with torch.inference_mode():
        found = model(nchw(recordings.inputs()[0][..., :1]).to(exact)).permute(0, 2, 3, 1).numpy()
    assert list(found.shape) == recording["output_shape"]
    places = tuple(np.array(recording["sample_index"]).T)
    np.testing.assert_allclose(found[places], recording["sample_value"], atol=1e-5, rtol=0)
    assert found.mean() == pytest.approx(recording["mean"], abs=1e-5)
    assert found.std() == pytest.approx(recording["std"], abs=1e-5)


@pytest.mark.parametrize(("adn", "caan", "point"), PAIRS)
def test_graphs_are_the_authors_layer_by_layer(adn: str, caan: str, point: int) -> None:
    layers = recordings.load(f"{adn}_{caan}_p{point}")["layers"]
    with torch.device("meta"):
        graph = graph_of(build_leanet(adn, caan, [point], 256))
    order = graph.in_keras_order()
    place = {at: i for i, at in enumerate(order)}
    name = {layer["name"]: i for i, layer in enumerate(layers)}
    ours = [(graph.nodes[at].kind, [place[x] for x in graph.nodes[at].inputs]) for at in order]
    theirs = [
        (layer["type"], [] if layer["type"] == "InputLayer" else [name[x] for x in layer["inputs"]])
        for layer in layers
    ]
    assert ours == theirs


@pytest.mark.parametrize("point", [2, 4, 5])
@pytest.mark.parametrize(("adn", "caan"), [("CNN", "MobileNet"), ("ResNet18", "ResNet"), ("VGG16", "MobileNet")])
def test_order_at_points_without_recordings_follows_the_rule(adn: str, caan: str, point: int) -> None:
    """Decreasing longest path to an output, found here by brute force; equals by a recursive first visit."""
    with torch.device("meta"):
        graph = graph_of(build_leanet(adn, caan, [point], 256))
    readers: dict[int, list[int]] = {at: [] for at in range(len(graph.nodes))}
    for at, node in enumerate(graph.nodes):
        for source in node.inputs:
            readers[source].append(at)
    longest: dict[int, int] = {}
    for at in reversed(range(len(graph.nodes))):
        longest[at] = max((longest[reader] + 1 for reader in readers[at]), default=0)
    visits: list[int] = []

    def visit(at: int) -> None:
        if at not in visits:
            visits.append(at)
            for source in graph.nodes[at].inputs:
                visit(source)

    for output in graph.outputs:
        visit(output)
    assert graph.in_keras_order() == sorted(visits, key=lambda at: (-longest[at], visits.index(at)))


def small_arrays() -> list[NDArray[np.float32]]:
    """Arrays for CNN with Direct at 64 px."""
    with torch.device("meta"):
        model = build_leanet("CNN", "Direct", [1], 64)
    shapes: list[tuple[int, ...]] = []
    for inputs, outputs in zip((3, *model.adn.channels), model.adn.channels, strict=False):
        shapes += [(3, 3, inputs, outputs), *[(outputs,)] * 5]
    rng = np.random.default_rng(0)
    return [rng.random(shape, dtype=np.float32) for shape in [*shapes, (2 * 2 * 512, 2), (2,)]]


def test_the_image_size_follows_from_the_dense_kernel() -> None:
    assert from_keras_arrays("CNN", "Direct", 1, small_arrays()).adn.image_size == 64


def test_kernels_and_statistics_lie_where_they_belong() -> None:
    arrays = small_arrays()
    model = from_keras_arrays("CNN", "Direct", 1, arrays)
    state = model.state_dict()
    np.testing.assert_array_equal(state["adn.stages.1.0.weight"][5, 2, 1, 0], arrays[6][1, 0, 2, 5])
    np.testing.assert_array_equal(state["adn.stages.1.1.running_mean"], arrays[10])
    np.testing.assert_array_equal(state["adn.stages.1.1.running_var"], arrays[11])
    np.testing.assert_array_equal(state["adn.head.1.weight"], arrays[-2].T)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda arrays: arrays[:-1], "expected 32 arrays of weights, found 31"),
        (lambda arrays: [*arrays[:6], arrays[6].T, *arrays[7:]], r"array 6 \(adn.stages.1.0 kernel\)"),
        (lambda arrays: [arrays[0] * np.nan, *arrays[1:]], "finite floats"),
        (lambda arrays: [arrays[0].astype(np.int64), *arrays[1:]], "finite floats"),
        (lambda _: [], "expected 32 arrays of weights, found 0"),
    ],
)
def test_wrong_arrays_are_refused(change: object, expected: str) -> None:
    assert callable(change)
    with pytest.raises(UserError, match=expected):
        from_keras_arrays("CNN", "Direct", 1, change(small_arrays()))


@pytest.mark.parametrize(
    ("adn", "caan", "point", "expected"),
    [
        ("Resnet18", "Direct", 1, "VGG16, ResNet18, CNN"),
        ("CNN", "none", 1, "MobileNet"),
        ("CNN", "Direct", 6, "1 2 3"),
    ],
)
def test_unknown_names_are_refused(adn: str, caan: str, point: int, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        from_keras_arrays(adn, caan, point, small_arrays())
    with pytest.raises(UserError, match="Unet, SegNet, AE"):
        colorizer_from_keras_arrays("UNet", [])


def test_bad_inputs_to_predict_are_refused() -> None:
    model = from_keras_arrays("CNN", "Direct", 1, small_arrays())
    image, anomaly_map = np.zeros((2, 64, 64, 3)), np.zeros((2, 64, 64, 1))
    with pytest.raises(UserError, match=r"image: expected shape \(N, H, W, 3\), found \(2, 3, 64, 64\)"):
        predict(model, image.transpose(0, 3, 1, 2), anomaly_map)
    with pytest.raises(UserError, match=r"\(2, 64, 64\), found \(1, 64, 64\)"):
        predict(model, image, anomaly_map[:1])
    with pytest.raises(UserError, match="anomaly map: expected finite numbers"):
        predict(model, image, anomaly_map * np.nan)
