"""Several maps as one: the mean of the parts, each by its own mean on normal images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sessions import CPU, session_in
from tiny import registered
from torch import Tensor

from leanet.config import ColorizerConfig
from leanet.maps.joint import JointMap
from leanet.maps.registry import MAP_SOURCES, build_map_source, find_map_source
from leanet.maps.source import AnomalyMap, History, MapSource, Normals
from leanet.model.card import Card
from leanet.model.export import write_onnx
from leanet.model.exported import OnnxModel
from leanet.model.model import load, save
from leanet.training.prediction import predictor
from leanet.training.session import Session

NAMES = ("color", "features", "reconstruction")
CONFIG = ColorizerConfig(maps=NAMES, colorizer_epochs=2, colorizer_batch_size=4)


class NearestMap(MapSource):
    """The distance of an image's mean color from the nearest it was fitted to: 0 at its own images."""

    unit = "distance"
    step = 1e-4
    described_by = "mean color"

    bank: Tensor

    def __init__(self, image_size: int, config: ColorizerConfig) -> None:
        super().__init__(image_size, config)
        self.register_buffer("bank", torch.zeros(1, 3))

    def fit(self, normals: Normals, session: Session) -> History:
        del session  # nothing is trained in steps
        assert normals.descriptions is not None
        self.bank = torch.from_numpy(normals.descriptions[normals.rows])
        return ()

    def forward(self, images: Tensor) -> AnomalyMap:
        return self.compare(self.describe(images))

    def describe(self, images: Tensor) -> Tensor:
        return (images / 255 if images.dtype == torch.uint8 else images).mean((2, 3))

    def compare(self, descriptions: Tensor) -> AnomalyMap:
        nearest = (descriptions[:, None] - self.bank).square().sum(2).sqrt().amin(1)
        return AnomalyMap(nearest[:, None, None, None].expand(-1, 1, 64, 64), self.unit)


class ShadeMap(NearestMap):
    """How dark each pixel is; it paints white."""

    described_by = ""

    def describe(self, images: Tensor) -> Tensor:
        return images

    def compare(self, descriptions: Tensor) -> AnomalyMap:
        rgb = descriptions / 255 if descriptions.dtype == torch.uint8 else descriptions
        return AnomalyMap(1 - rgb.mean(1, keepdim=True), self.unit)

    def paint(self, images: Tensor, found: AnomalyMap) -> Tensor:
        del found
        return torch.ones_like(images)


@pytest.fixture(autouse=True, scope="module")
def _nearest() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, registered():
        patch.setitem(MAP_SOURCES, "nearest", NearestMap)
        patch.setitem(MAP_SOURCES, "shade", ShadeMap)
        yield


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (11, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def source(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> JointMap:
    """Fitted to the first nine pictures."""
    torch.manual_seed(0)
    made = build_map_source("+".join(NAMES), 64, CONFIG)
    assert isinstance(made, JointMap)
    folder = tmp_path_factory.mktemp("fit")
    history = made.fit(Normals(pixels, np.arange(9)), session_in(folder))
    assert [set(row) for row in history] == [{"epoch", "color_loss", "reconstruction_loss"}] * 2
    assert not list(folder.iterdir())
    return made.eval()


def as_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def test_the_map_is_the_mean_of_the_parts_by_their_scales(source: JointMap, pixels: np.ndarray) -> None:
    images = as_tensor(pixels[8:])
    with torch.inference_mode():
        found = source(images)
        own = [source.get_submodule(f"parts.{name}")(images).values for name in NAMES]
    for name, values in zip(NAMES, own, strict=True):
        torch.testing.assert_close(found.extras[name], values)
    torch.testing.assert_close(
        found.values, sum(values / scale for values, scale in zip(own, source.scales, strict=True)) / 3
    )


def test_a_scale_is_the_mean_over_the_normal_images(source: JointMap, pixels: np.ndarray) -> None:
    with torch.inference_mode():
        found = source(as_tensor(pixels[:9]))
    for i in (0, 2):
        assert float(source.scales[i]) == pytest.approx(float(found.extras[NAMES[i]].mean()), rel=1e-4)


def test_the_scale_of_distances_to_normal_images_is_of_images_not_among_them(
    pixels: np.ndarray, tmp_path: Path
) -> None:
    made = build_map_source("nearest+reconstruction", 64, CONFIG)
    made.fit(Normals(pixels, np.arange(2, 8)), session_in(tmp_path))
    means = pixels[2:8].mean((1, 2)) / 255
    distances = np.linalg.norm(means[3:, None] - means[None, :3], axis=2).min(1)
    assert float(made.get_buffer("scales")[0]) == pytest.approx(distances.mean(), rel=1e-4)
    bank = made.get_buffer("parts.nearest.bank")
    np.testing.assert_allclose(bank, means, rtol=1e-5)


def test_what_is_painted_is_the_colorizers(source: JointMap, pixels: np.ndarray) -> None:
    images = as_tensor(pixels[9:])
    with torch.inference_mode():
        painted = source.paint(images, source(images))
        color = source.get_submodule("parts.color")
        assert isinstance(color, MapSource)
        expected = color.paint(images, color(images))
    assert painted is not None
    assert expected is not None
    torch.testing.assert_close(painted, expected)
    assert source.has_chroma


def test_a_prepared_copy_makes_the_same_maps(source: JointMap, pixels: np.ndarray) -> None:
    images = as_tensor(pixels[9:])
    with torch.inference_mode():
        expected = source(images).values
    found = predictor(source, CPU)(images).values
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize("name", ["nearest+shade", pytest.param("+".join(NAMES), marks=pytest.mark.slow)])
def test_the_exported_graph_says_what_the_saved_model_says(name: str, pixels: np.ndarray, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = build_map_source(name, 64, CONFIG)
    source.get_buffer("scales").copy_(torch.arange(1.0, 1 + len(name.split("+"))))
    card = Card("", "none", (), 64, "true", "normals", 2.0, 0.5, "made for a test", map_threshold=1.0)
    card = dataclasses.replace(card, colorizer="Unet", map_source=name)
    save(tmp_path / "model", card, None, source)
    model = load(tmp_path / "model")
    write_onnx(model, tmp_path / "model.onnx")
    with torch.inference_mode():
        expected = source.eval()(as_tensor(pixels[9:])).values[:, 0].numpy()
    for each in (model, OnnxModel(tmp_path / "model.onnx")):
        results = each.predict_pixels(list(pixels[9:]), paint=True)
        np.testing.assert_allclose(np.array([found.anomaly_map for found in results]), expected, atol=1e-2)
        assert all(found.recoloured is not None for found in results)


def test_one_name_is_one_source() -> None:
    assert find_map_source("color+features") is JointMap
    assert type(build_map_source("reconstruction", 64, dataclasses.replace(CONFIG, maps=("reconstruction",)))) is (
        find_map_source("reconstruction")
    )
    with pytest.raises(ValueError, match=r"unknown map source 'colour' \(nearest: color\)"):
        find_map_source("colour+features")
