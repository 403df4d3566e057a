"""The exported graph says what the model says, on real pictures where they are here, at any size."""

from __future__ import annotations

import csv
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from leanet.cli import main
from leanet.data.pixels import decode, resize
from leanet.errors import UserError
from leanet.inference.card import Card
from leanet.inference.export import resized, write_onnx
from leanet.inference.model import Model, load, save
from leanet.inference.onnx_model import OnnxModel
from leanet.networks.registry import ADNS, CAANS, build_colorizer, build_leanet

SIZES = ((64, 64), (97, 131), (300, 201), (1, 57))
POTATO = Path(__file__).parents[3] / "shared" / "data" / "plantvillage_potato"


def pictures() -> Iterator[np.ndarray]:
    """Two pictures at four sizes: a real leaf where the data is, and noise."""
    generator = np.random.default_rng(0)
    sources = [generator.integers(0, 256, (256, 256, 3), dtype=np.uint8)]
    sources += [decode(file) for file in sorted((POTATO / "Positive").rglob("*.*"))[:1]]
    for source, (height, width) in itertools.product(sources, SIZES):
        yield np.asarray(Image.fromarray(source).resize((width, height)))


def made(adn: str, caan: str, point: int) -> Model:
    """A model with random weights and random statistics of BatchNorm, of a size that keeps it well-conditioned."""
    torch.manual_seed(0)
    network, colorizer = build_leanet(adn, caan, (point,), 64), build_colorizer("Unet", 64)
    generator = torch.Generator().manual_seed(0)
    for layer in itertools.chain(network.modules(), colorizer.modules()):
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            layer.running_mean.normal_(0, 0.1, generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
    card = Card(adn, caan, (point,), 64, "true", "normals", 7.5, 0.3, "made for a test", colorizer="Unet")
    return Model(card, network.eval(), colorizer.eval())


@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from([16, 64]), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_resize_in_the_graph_is_the_resize_of_the_cache(height: int, width: int, size: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resized(torch.from_numpy(image), size).numpy(), resize(image, size))


PAIRS = list(itertools.product(ADNS, CAANS))


@pytest.mark.parametrize(
    ("adn", "caan"),
    [pytest.param(*pair, marks=[] if pair == ("ResNet18", "ResNet") else [pytest.mark.slow]) for pair in PAIRS],
)
def test_onnx_runtime_agrees_with_pytorch(adn: str, caan: str, tmp_path: Path) -> None:
    model = made(adn, caan, 1 + PAIRS.index((adn, caan)) % 5)
    write_onnx(model, tmp_path / "m.onnx")
    exported = OnnxModel(tmp_path / "m.onnx")
    assert exported.card == model.card
    for picture in pictures():
        expected, found = model.predict(picture), exported.predict_pixels([picture])[0]
        assert found.probability == pytest.approx(expected.probability, abs=1e-3)
        assert found.anomalous == expected.anomalous
        assert found.anomaly_map is not None
        assert found.attention is not None
        np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, atol=0.1)
        np.testing.assert_allclose(found.attention, expected.attention, atol=1e-3)
        if caan == "Direct":
            assert found.caan_probability is expected.caan_probability is None
        else:
            assert found.caan_probability == pytest.approx(expected.caan_probability, abs=1e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = made("CNN", "Direct", 2)
    out = tmp_path_factory.mktemp("models") / "model"
    save(out, model.card, model.network, model.colorizer)
    return out


def test_the_exported_file_predicts_without_torch_or_our_networks(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    assert main(["export", str(folder), "--out", str(file)]) == 0
    picture = tmp_path / "a.png"
    Image.fromarray(next(pictures())).save(picture)
    code = (
        "import sys; from leanet.cli import main\n"
        f"code = main(['predict', {str(file)!r}, {str(picture)!r}, '--out', {str(tmp_path / 'p.csv')!r}])\n"
        "assert 'torch' not in sys.modules and not any(m.startswith('leanet.networks') for m in sys.modules)\n"
        "sys.exit(code)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with (tmp_path / "p.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    expected = load(folder).predict(picture)
    assert float(row["probability"]) == pytest.approx(expected.probability, abs=1e-3)
    assert float(row["mean_delta_e"]) == pytest.approx(expected.mean_delta_e, abs=0.01)


def test_the_threshold_is_metadata(folder: Path, tmp_path: Path) -> None:
    import onnx

    write_onnx(load(folder), tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    properties = {p.key: p.value for p in proto.metadata_props}
    content = json.loads(properties["leanet"])
    assert content["threshold"] == 0.3
    onnx.helper.set_model_props(proto, {"leanet": json.dumps({**content, "threshold": 0.0})})
    onnx.save(proto, tmp_path / "other.onnx")
    assert OnnxModel(tmp_path / "other.onnx").predict_pixels([next(pictures())])[0].anomalous


def test_what_is_no_exported_model_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="damaged, or not written by `leanet export`"):
        OnnxModel(tmp_path / "m.onnx")
    assert main(["predict", str(tmp_path / "nowhere.onnx"), "a.png"]) == 2
    assert "no such file" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(UserError, match=r'pip install "leanet\[export\]"'):
        OnnxModel(tmp_path / "m.onnx")
