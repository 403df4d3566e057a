"""Pixel metrics on maps whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leanet.results.localise import aupro, peaks_on_masks, pixel_auroc, read_mask


def masks() -> np.ndarray:
    made = np.zeros((2, 40, 40), dtype=bool)
    made[0, 2:12, 2:12] = True  # 100 pixels
    made[0, 30:32, 30:32] = True  # 4 pixels
    made[1, 20:25, 5:10] = True
    return made


def test_masks_in_a_folder_make_up_one_together(tmp_path: Path) -> None:
    for number in range(2):  # each covers a quarter of every pixel of the small mask, together they cover a half
        part = np.zeros((8, 8), np.uint8)
        part[number::2, ::2] = 1 + number
        Image.fromarray(part).save(tmp_path / f"{number:03}.png")
    assert read_mask(tmp_path, 4).all()
    assert not read_mask(tmp_path / "000.png", 4).any()
    Image.fromarray(np.full((8, 8), 200, np.uint16)).save(tmp_path / "deep.png")
    assert read_mask(tmp_path / "deep.png", 4).all()
    Image.new("L", (9, 9)).save(tmp_path / "other.png")
    with pytest.raises(OSError, match="no masks of one size"):
        read_mask(tmp_path, 4)


def test_a_perfect_map_scores_one_and_a_map_of_nothing_a_half() -> None:
    truth = masks()
    perfect = truth.astype(np.float32)
    assert pixel_auroc(perfect, truth) == 1
    assert aupro(perfect, truth) == pytest.approx(1)
    assert pixel_auroc(np.zeros_like(perfect), truth) == 0.5
    assert aupro(np.zeros_like(perfect), truth) == pytest.approx(0.15)  # the diagonal's, as for guesses


def test_random_maps_overlap_as_often_as_they_err() -> None:
    truth = np.tile(masks(), (20, 1, 1))
    maps = np.random.default_rng(0).random(truth.shape).astype(np.float32)
    assert pixel_auroc(maps, truth) == pytest.approx(0.5, abs=0.02)
    assert aupro(maps, truth) == pytest.approx(0.15, abs=0.02)  # the area of a diagonal up to 0.3, over 0.3


def test_a_missed_small_region_costs_a_third_whatever_its_size() -> None:
    truth = masks()
    maps = truth.astype(np.float32)
    maps[0, 30:32, 30:32] = -1
    assert aupro(maps, truth) == pytest.approx(2 / 3, abs=1e-6)
    assert pixel_auroc(maps, truth) == pytest.approx(125 / 129, abs=1e-6)


def test_tied_values_are_found_together() -> None:
    """Against every threshold that there is, in turn: between two of them the curve is a straight line."""
    truth = masks()
    noise = np.random.default_rng(0).random(truth.shape)
    for maps in ((truth + noise > 0.8).astype(np.float32), np.round(4 * (truth * 0.5 + noise)).astype(np.float32)):
        regions = [maps[0, 2:12, 2:12], maps[0, 30:32, 30:32], maps[1, 20:25, 5:10]]
        thresholds = [np.inf, *np.unique(maps)[::-1]]
        errors = [float((maps[~truth] >= t).mean()) for t in thresholds]
        overlaps = [float(np.mean([(region >= t).mean() for region in regions])) for t in thresholds]
        at = np.linspace(0, 0.3, 30001)
        assert aupro(maps, truth) == pytest.approx(np.mean(np.interp(at, errors, overlaps)), abs=1e-4)


def test_nothing_anomalous_is_undefined() -> None:
    empty = np.zeros((1, 8, 8), dtype=bool)
    assert pixel_auroc(np.zeros((1, 8, 8), np.float32), empty) is None
    assert aupro(np.zeros((1, 8, 8), np.float32), empty) is None


def test_masks_are_resized_by_area(tmp_path: Path) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[:4, :4] = 1  # any value above 0 is anomalous
    mask[0, 7] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png", 4).tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0] * 4, [0] * 4]


def test_a_peak_beside_the_mask_counts_up_to_a_sixteenth_of_the_side() -> None:
    truth = np.zeros((3, 64, 64), dtype=bool)
    truth[:2, 10:20, 10:20] = True  # the third image has no mask and does not count
    maps = np.zeros((3, 64, 64), dtype=np.float32)
    maps[0, 15, 23] = maps[1, 15, 24] = maps[2, 5, 5] = 1  # 4 and 5 pixels from the mask
    assert peaks_on_masks(maps, truth) == 0.5
    assert peaks_on_masks(maps, np.zeros_like(truth)) is None
