"""Models that letterbox or crop: boxes, overlays and maps are of the picture, wherever the model runs."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from leanet.config import Aspect, ColorizeConfig, DataConfig
from leanet.config.options import to_options
from leanet.data.cache import build_cache
from leanet.data.dataset import Dataset, Sample
from leanet.data.shape import placement, to_square
from leanet.errors import DamagedError
from leanet.experiment.open_run import differing_option
from leanet.model.card import HASH, Card, card_from, in_words, to_json
from leanet.model.export import squared, write_onnx
from leanet.model.exported import OnnxModel
from leanet.model.model import Model, load
from leanet.model.predict_files import Loaded
from leanet.model.result import make_result, overlay, region
from leanet.model.where import CELLS
from leanet.results.localise import read_mask
from leanet.serve.answer import prediction

SIDE = 64
CARD = Card(
    "CNN", "none", (), SIDE, "true", "max", None, 0.5, "made for a test", normals_peaks=((20.0,) * CELLS,) * CELLS
)


def spotted(*spots: tuple[int, int]) -> NDArray[np.float32]:
    """A map with hot squares of 8 pixels: (top, left) each."""
    found = np.ones((SIDE, SIDE), np.float32)
    for top, left in spots:
        found[top : top + 8, left : left + 8] = 60
    return found


@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from([16, 64]), st.sampled_from(["letterbox", "crop"]))
@settings(max_examples=40, deadline=None)
def test_the_graph_makes_the_squares_of_the_cache(height: int, width: int, size: int, aspect: Aspect) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = to_square(image, size, aspect)
    np.testing.assert_array_equal(squared(torch.from_numpy(image), size, aspect).numpy(), expected)


def test_a_box_in_a_letterbox_is_the_pictures_own() -> None:
    card = dataclasses.replace(CARD, aspect="letterbox")
    # 400 x 200 pixels lie in the rows 16..47; a spot of the mirror image, in row 4, is no part of the picture.
    found = make_result(card, (200, 400), spotted((24, 40), (4, 8)), 0.9, None, np.ones((4, 4), np.float32))
    assert found.box is not None
    left, top, width, height = found.box
    assert (left, top) == pytest.approx((40 * 6.25, 8 * 6.25), abs=7)
    assert (width, height) == pytest.approx((50, 50), abs=13)
    assert found.anomaly_map is not None
    assert found.anomaly_map.shape == (32, 64)
    assert found.attention is not None
    assert found.attention.shape == (2, 4)
    picture = np.full((200, 400, 3), 90, np.uint8)
    changed = (np.asarray(overlay(picture, found, 20.0)) != picture).any(-1)
    assert changed[top + 5 : top + height - 5, left + 5 : left + width - 5].mean() > 0.9
    assert not changed[:, :200].any()


def test_a_box_in_a_crop_is_the_pictures_own_and_nothing_is_drawn_beyond() -> None:
    card = dataclasses.replace(CARD, aspect="crop")
    found = make_result(card, (200, 400), spotted((24, 40)), 0.9, None, None)
    assert found.covers == (100, 0, 200, 200)
    assert found.box is not None
    assert found.box[:2] == pytest.approx((100 + 40 * 3.125, 24 * 3.125), abs=4)
    assert make_result(card, (200, 200), spotted((24, 40)), 0.9, None, None).covers is None
    picture = np.full((200, 400, 3), 90, np.uint8)
    changed = (np.asarray(overlay(picture, found, 20.0)) != picture).any(-1)
    assert changed[:, 215:260].any()
    assert not changed[:, :100].any()
    assert not changed[:, 300:].any()


def test_without_normals_statistics_there_are_maps_and_no_box() -> None:
    card = dataclasses.replace(CARD, aspect="letterbox", normals_peaks=None)
    found = make_result(card, (200, 400), spotted((24, 40)), 0.9, None, None)
    assert found.box is None
    assert overlay(np.zeros((200, 400, 3), np.uint8), found, 30.0).size == (400, 200)


@pytest.mark.parametrize("aspect", ["letterbox", "crop"])
def test_a_model_answers_for_a_picture_as_for_its_square(loaded: Model, aspect: Aspect) -> None:
    model = dataclasses.replace(loaded, card=dataclasses.replace(loaded.card, aspect=aspect))
    picture = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    square = to_square(picture, SIDE, aspect)
    (expected,) = loaded.predict_pixels([square])
    for found in (model.predict(picture), *model.predict_pixels([square], sizes=[(50, 90)])):
        assert found.probability == pytest.approx(expected.probability, abs=1e-6)
        assert found.mean_delta_e == pytest.approx(expected.mean_delta_e, rel=1e-5)
        x, y, across, down = placement(50, 90, SIDE, aspect).inside
        assert found.anomaly_map is not None
        assert expected.anomaly_map is not None
        np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map[y : y + down, x : x + across], atol=1e-4)


class Squaring(nn.Module):
    """The first step of an exported graph alone: a whole one takes seconds to export."""

    def __init__(self, aspect: Aspect) -> None:
        super().__init__()
        self.aspect = aspect

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return squared(image, SIDE, self.aspect)


@pytest.mark.parametrize("aspect", ["letterbox", pytest.param("crop", marks=pytest.mark.slow)])
def test_the_exported_step_takes_pictures_of_any_shape(aspect: Aspect, tmp_path: Path) -> None:
    sizes = {"image": {0: torch.export.Dim("height", min=1), 1: torch.export.Dim("width", min=1)}}
    example = (torch.zeros((67, 69, 3), dtype=torch.uint8),)
    torch.onnx.export(
        Squaring(aspect).eval(),
        example,
        tmp_path / "m.onnx",
        dynamo=True,
        dynamic_shapes=sizes,
        input_names=["image"],
        verbose=False,
    )
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    for shape in ((50, 90, 3), (64, 64, 3), (131, 20, 3), (1, 57, 3)):
        picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        (found,) = session.run(None, {"image": picture})
        np.testing.assert_array_equal(found, to_square(picture, SIDE, aspect))


@pytest.mark.slow
def test_an_exported_letterbox(tiny_model: Path, tmp_path: Path) -> None:
    squeezing = load(tiny_model)
    model = dataclasses.replace(squeezing, card=dataclasses.replace(squeezing.card, aspect="letterbox"))
    write_onnx(model, tmp_path / "m.onnx")
    exported = OnnxModel(tmp_path / "m.onnx")
    assert exported.card == model.card
    for shape in ((50, 90, 3), (64, 64, 3), (131, 20, 3)):
        picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        expected, found = model.predict(picture), exported.predict(picture)
        by_graph = exported.predict_pixels([picture])[0]
        assert found.probability == pytest.approx(expected.probability, abs=1e-3)
        assert by_graph.probability == pytest.approx(expected.probability, abs=1e-3)
        assert by_graph.anomaly_map is not None
        assert expected.anomaly_map is not None
        np.testing.assert_allclose(by_graph.anomaly_map, expected.anomaly_map, atol=0.1)


def test_cards_of_earlier_versions_squeeze() -> None:
    content = {k: v for k, v in json.loads(to_json(CARD)).items() if k not in (HASH, "aspect")}
    earlier = json.dumps({**content, "format": 1})
    assert card_from(earlier, Path("card")).aspect == "squeeze"
    assert "64 px letterboxed" in in_words(dataclasses.replace(CARD, aspect="letterbox"))[0]
    with pytest.raises(DamagedError):
        card_from(json.dumps({**content, "format": 1, "aspect": "stretch"}), Path("card"))


def test_a_mask_lies_where_its_picture_does(tmp_path: Path) -> None:
    mask = np.zeros((40, 80), np.uint8)
    mask[10:20, 20:60] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    boxed, cropped = (read_mask(tmp_path / "m.png", 16, aspect) for aspect in ("letterbox", "crop"))
    assert np.argwhere(boxed).min(0).tolist() == [4 + 2, 4]
    assert np.argwhere(boxed).max(0).tolist() == [4 + 3, 11]
    assert np.argwhere(cropped).min(0).tolist() == [4, 0]
    assert np.argwhere(cropped).max(0).tolist() == [7, 15]
    read_mask(tmp_path / "m.png", 16, picture=(160, 81))  # a smaller mask of the same shape will do
    with pytest.raises(OSError, match="a mask of 80 x 40 pixels for a picture of 80 x 60"):
        read_mask(tmp_path / "m.png", 16, picture=(80, 60))


@pytest.mark.parametrize(("aspect", "shape"), [("letterbox", (64, 32)), ("crop", (128, 64)), ("squeeze", (64, 64))])
def test_the_services_maps_have_the_pictures_shape(aspect: Aspect, shape: tuple[int, int]) -> None:
    card = dataclasses.replace(CARD, aspect=aspect)
    found = make_result(card, (200, 400), spotted((24, 40)), 0.2, None, None)
    image = Loaded(np.full((SIDE, SIDE, 3), 90, np.uint8), (200, 400), False, False)
    told = prediction("a.png", found, image, card, ("overlay", "anomaly_map", "input"))
    assert told.box is None  # it is called normal
    assert told.region is not None
    assert told.region == region(card, found, (200, 400))
    assert told.maps is not None
    shown = {name: Image.open(io.BytesIO(base64.b64decode(png))) for name, png in told.maps.items()}
    assert {one.size for one in shown.values()} == {shape}
    opaque = np.argwhere(np.asarray(shown["overlay"])[..., 3])
    row, column = opaque.mean(0) / shape[::-1]
    left, top, width, height = told.region or (0, 0, 0, 0)
    assert (column, row) == pytest.approx(((left + width / 2) / 400, (top + height / 2) / 200), abs=0.05)


def test_a_run_keeps_its_shape(tmp_path: Path) -> None:
    config = ColorizeConfig(tmp_path, tmp_path, DataConfig(aspect="letterbox"))
    assert to_options(config)["aspect"] == "letterbox"
    assert "aspect" not in to_options(ColorizeConfig(tmp_path, tmp_path))  # as earlier versions recorded it
    earlier = to_options(ColorizeConfig(tmp_path, tmp_path))
    assert differing_option(earlier, to_options(config)) == "--aspect squeeze, now letterbox"
    assert differing_option(earlier, earlier) is None


def test_the_cache_of_each_shape_is_another(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    dataset = Dataset(tmp_path, (Sample("a.png", 0, "", "a", read=(tmp_path / "a.png").read_bytes),), ())
    made = {aspect: build_cache(dataset, 16, tmp_path / "cache", aspect=aspect) for aspect in get_args(Aspect)}
    assert len({cache.path for cache in made.values()}) == 3
    for aspect, cache in made.items():
        np.testing.assert_array_equal(cache.pixels[0], to_square(pixels, 16, aspect))
        assert (cache.infos[0].width, cache.infos[0].height) == (50, 20)
