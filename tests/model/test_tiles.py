"""Large pictures by tiles: nothing is left out, nothing has seams, and boxes are in the picture's own pixels."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from leanet.cli import main
from leanet.data.decode import resize
from leanet.data.tiles import SmallerThanTileError, Tiling
from leanet.errors import UserError
from leanet.model.anomaly_model import AnomalyModel
from leanet.model.card import Card, card_from, in_words, read_card, to_json
from leanet.model.model import Model, load, save
from leanet.model.result import Result, make_result, overlay
from leanet.model.tiles import MOST_MAP_PIXELS, ByTiles, predict_tiled
from leanet.model.where import CELLS

SIDE = 64
CARD = Card(
    "CNN", "none", (), SIDE, "true", "max", None, 0.5, "made for a test", normals_peaks=((20.0,) * CELLS,) * CELLS
)


class RedModel(AnomalyModel):
    """Its map is the picture's red, and its probability the highest red, divided by 255."""

    def __init__(self, card: Card = CARD) -> None:
        self.card = card

    def predict_pixels(
        self,
        images: Sequence[NDArray[np.uint8]],
        anomaly_maps: NDArray[np.float32] | None = None,
        *,
        sizes: Sequence[tuple[int, int]] | None = None,
        paint: bool = False,
    ) -> list[Result]:
        del anomaly_maps, sizes, paint
        found = []
        for image in images:
            red = resize(image, self.card.image_size)[..., 0].astype(np.float32)
            found.append(make_result(self.card, image.shape[:2], red, float(red.max()) / 255, None, None))
        return found


def picture(height: int, width: int, level: int = 10) -> NDArray[np.uint8]:
    return np.full((height, width, 3), level, np.uint8)


@pytest.mark.parametrize("length", [64, 65, 111, 112, 113, 1000])
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5])
def test_tiles_reach_from_edge_to_edge_and_overlap_at_least_so_much(length: int, overlap: float) -> None:
    starts = Tiling(SIDE, overlap).starts(length)
    assert (starts[0], starts[-1]) == (0, length - SIDE)
    assert all(0 < step <= SIDE * (1 - overlap) + 1 for step in np.diff(starts))
    assert len(starts) == 1 + int(np.ceil((length - SIDE) / (SIDE * (1 - overlap))))


@pytest.mark.parametrize("overlap", [0, 0.1, 0.25, 0.75])
def test_a_map_of_what_every_tile_agrees_on_has_no_seams(overlap: float) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (150, 201, 3), dtype=np.uint8)
    found = predict_tiled(RedModel(), pixels, Tiling(SIDE, overlap))
    assert found.anomaly_map is not None
    np.testing.assert_allclose(found.anomaly_map, pixels[..., 0], rtol=1e-5)
    assert found.peak_delta_e == pixels[..., 0].max()


def test_where_tiles_disagree_the_map_passes_from_one_to_the_other() -> None:
    class Steps(RedModel):
        """Each tile's map is a constant, one higher than the tile before."""

        count = 0

        def predict_pixels(self, images, *_: object, **__: object) -> list[Result]:  # type: ignore[no-untyped-def]
            type(self).count += len(images)
            first = type(self).count - len(images)
            maps = [np.full((SIDE, SIDE), first + i, np.float32) for i in range(len(images))]
            return [make_result(CARD, (SIDE, SIDE), one, 0.1, None, None) for one in maps]

    found = predict_tiled(Steps(), picture(64, 160), Tiling(SIDE, 0.25))
    assert found.anomaly_map is not None
    row = found.anomaly_map[30]
    assert (row[0], row[-1]) == (0, 2)
    assert (np.diff(row) >= 0).all()
    assert np.diff(row).max() < 0.1  # a step of 1 over 16 pixels


def test_the_highest_tile_decides_and_the_box_is_the_pictures_own() -> None:
    pixels = picture(300, 500)
    pixels[200:220, 333:353, 0] = 200
    found = predict_tiled(RedModel(), pixels, Tiling(100, 0.25))  # seen at 64 pixels a tile
    assert found.anomalous
    assert found.probability == pytest.approx(200 / 255, abs=0.02)
    assert found.box is not None
    left, top, width, height = found.box
    assert (left, top) == pytest.approx((333, 200), abs=4)
    assert (width, height) == pytest.approx((20, 20), abs=6)
    shown = np.asarray(overlay(pixels, found, 20.0)).astype(int)
    changed = (shown != pixels).any(-1)
    assert changed[200:220, 333:353].mean() > 0.9
    assert changed.sum() < 40 * 40


def test_a_normal_picture_and_a_model_without_a_detector() -> None:
    assert predict_tiled(RedModel(), picture(128, 128), Tiling(SIDE, 0.25)).box is None
    card = dataclasses.replace(CARD, adn="", caan="none", map_threshold=60.0)

    class MapOnly(RedModel):
        def predict_pixels(self, images, *_: object, **__: object) -> list[Result]:  # type: ignore[no-untyped-def]
            return [
                make_result(self.card, i.shape[:2], i[..., 0].astype(np.float32), None, None, None) for i in images
            ]

    pixels = picture(128, 256)
    pixels[:64, 192:, 0] = 90
    found = predict_tiled(MapOnly(card), pixels, Tiling(SIDE, 0))
    assert (found.anomalous, found.mean_delta_e) == (True, 90)
    assert found.box == (192, 0, 64, 64)


def test_a_tile_of_the_whole_picture_is_the_picture(loaded: Model) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    (whole,) = loaded.predict_pixels([pixels])
    found = predict_tiled(loaded, pixels, Tiling(64, 0.25))
    assert (found.probability, found.anomalous) == (whole.probability, whole.anomalous)
    assert found.anomaly_map is not None
    assert whole.anomaly_map is not None
    np.testing.assert_allclose(found.anomaly_map, whole.anomaly_map, rtol=1e-5)
    assert found.box == whole.box


def test_a_map_of_a_huge_picture_is_coarser() -> None:
    found = predict_tiled(RedModel(), picture(3000, 4000), Tiling(1000, 0))
    assert found.anomaly_map is not None
    assert found.anomaly_map.size <= 1.01 * MOST_MAP_PIXELS
    assert found.anomaly_map.shape[1] / found.anomaly_map.shape[0] == pytest.approx(4 / 3, rel=0.01)


def test_predict_by_tiles(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(picture(100, 150)).save(tmp_path / "a.png")
    Image.fromarray(picture(60, 150)).save(tmp_path / "b.png")
    out, maps = tmp_path / "p.csv", tmp_path / "maps"
    asked = ["predict", str(folder), str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--out", str(out)]
    for _ in range(2):  # its own maps, which are not square, are replaced
        assert main([*asked, "--tile", "64", "--maps", str(maps)]) == 1
    with out.open(encoding="utf-8") as file:
        good, small = csv.DictReader(file)
    assert good["decision"] in ("normal", "anomalous")
    assert small["error"] == "150 x 60 pixels, smaller than a tile of 64; give a smaller --tile"
    assert Image.open(maps / "a.png").size == (150, 100)
    assert np.load(maps / "a.npy").shape == (100, 150)
    with pytest.raises(SmallerThanTileError):
        predict_tiled(RedModel(), picture(63, 100), Tiling(SIDE, 0))
    capsys.readouterr()
    for given, said in (
        (["--overlap", "0.5"], "--overlap 0.5: is an option of --tile"),
        (["--tile", "8"], "--tile 8: expected at least 32"),
        (["--tile", "64", "--overlap", "0.9"], "--overlap 0.9: expected a share from 0 to 0.75"),
    ):
        assert main([*asked, *given]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line


@pytest.mark.parametrize("tile", [250, 100, 37])
def test_tiles_without_overlap_leave_no_gap(tile: int) -> None:
    result = predict_tiled(
        RedModel(dataclasses.replace(CARD, image_size=64)), picture(751, 1003), Tiling(tile, 0.0)
    )
    assert result.anomaly_map is not None
    np.testing.assert_allclose(result.anomaly_map, 10, atol=1e-3)


def test_an_unfamiliar_tile_that_decides_is_not_anomalous() -> None:
    class Strange(RedModel):
        def predict_pixels(self, images: Sequence[NDArray[np.uint8]], *rest: Any, **options: Any) -> list[Result]:
            found = super().predict_pixels(images, *rest, **options)
            return [dataclasses.replace(result, unfamiliarity=100.0) for result in found]

    result = predict_tiled(Strange(), picture(100, 100, 250), Tiling(64, 0.25))
    assert result.decision == "unfamiliar"
    assert not result.anomalous
    assert result.box is None


def test_tiles_are_not_balanced_one_by_one() -> None:
    model = RedModel(dataclasses.replace(CARD, white_balance="border"))
    with pytest.raises(UserError, match="balance"):
        ByTiles(model, Tiling(64, 0.25), small_whole=True)


def test_a_model_of_tiles_divides_larger_pictures_by_itself(tmp_path: Path, folder: Path) -> None:
    model = load(folder)
    own = tmp_path / "of-tiles"
    save(own, dataclasses.replace(model.card, tile=64), model.network, model.maps)
    assert read_card(own).tile == 64
    pixels = np.random.default_rng(2).integers(0, 256, (70, 130, 3), dtype=np.uint8)
    sizes = {"large": (70, 130), "same": (64, 64), "narrow": (40, 130)}
    for name, (height, width) in sizes.items():
        Image.fromarray(pixels[:height, :width]).save(tmp_path / f"{name}.png")
    files = [str(tmp_path / f"{name}.png") for name in sizes]
    maps = ["--maps", str(tmp_path / "maps")]
    assert main(["predict", str(own), *files, "--out", str(tmp_path / "own"), *maps]) == 0
    assert main(["predict", str(folder), *files, "--out", str(tmp_path / "asked"), "--tile", "64"]) == 1
    with (tmp_path / "own").open(encoding="utf-8") as one, (tmp_path / "asked").open(encoding="utf-8") as other:
        rows, by_option = list(csv.DictReader(one)), list(csv.DictReader(other))
    assert rows[0] == by_option[0]
    of_folder = load(own)
    found = of_folder.predict(files)
    assert [result.probability for result in found] == pytest.approx(
        [float(row["probability"]) for row in rows], abs=1e-5
    )
    assert [result.attention is None for result in found] == [True, False, False]
    assert found[0].probability == predict_tiled(model, pixels, Tiling(64, 0.25)).probability
    whole = model.predict(files[1:])
    assert [r.probability for r in whole] == pytest.approx([r.probability for r in found[1:]], abs=1e-5)


def test_other_cards_are_as_they_were() -> None:
    assert '"tile"' not in to_json(CARD)
    of_tiles = dataclasses.replace(CARD, tile=64)
    assert card_from(to_json(of_tiles), Path("card")) == of_tiles
    assert "for tiles of 64 px" in in_words(of_tiles)[0]
    with pytest.raises(UserError, match="tile"):
        card_from(to_json(dataclasses.replace(CARD, tile=0)), Path("card"))
