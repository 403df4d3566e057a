"""Boxes and overlays: only what goes beyond normal pictures' peaks is marked, and only where the decision is so."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from leanet.errors import UserError
from leanet.model.card import FORMAT, Card, card_from, to_json
from leanet.model.result import Result, layer, make_result, overlay, shown_from
from leanet.model.where import CELLS, ceilings, strength, strongest_region

SIDE = 64
UNIFORM = ((20.0,) * CELLS,) * CELLS
CARD = Card("CNN", "Direct", (2,), SIDE, "true", "normals", 5.0, 0.5, "made for a test", normals_peaks=UNIFORM)
MAP_ONLY = dataclasses.replace(CARD, adn="", caan="none", attention_points=(), map_threshold=3.0)


def flat(level: float = 1.0) -> NDArray[np.float32]:
    return np.full((SIDE, SIDE), level, np.float32)


def spotted(*spots: tuple[int, int, float], level: float = 1.0) -> NDArray[np.float32]:
    """A map with squares of 8 pixels: (top, left, ΔE) each."""
    anomaly_map = flat(level)
    for top, left, value in spots:
        anomaly_map[top : top + 8, left : left + 8] = value
    return anomaly_map


def answer(card: Card, anomaly_map: NDArray[np.float32], probability: float | None) -> Result:
    return make_result(card, (SIDE, SIDE), anomaly_map, probability, None, None)


def test_no_box_where_the_decision_is_normal() -> None:
    hot = spotted((8, 8, 60))
    assert answer(CARD, hot, 0.49).box is None
    assert answer(CARD, hot, 0.5).box == (8, 8, 8, 8)
    assert answer(dataclasses.replace(CARD, normals_peaks=None), hot, 0.49).box is None


def test_a_map_alone_decides_whether_there_is_a_box() -> None:
    assert answer(MAP_ONLY, spotted((8, 8, 60), level=0), None).box is None  # a mean of 0.94
    assert answer(MAP_ONLY, spotted((8, 8, 60), level=2.5), None).box == (8, 8, 8, 8)
    assert answer(MAP_ONLY, flat(15), None).box is None  # anomalous, and nowhere more than elsewhere


def test_what_normal_pictures_reach_at_their_peaks_has_no_box() -> None:
    # Far above the normals' pixels (5 ΔE), and below their peaks (20).
    assert answer(CARD, spotted((8, 8, 19)), 0.9).box is None
    assert answer(CARD, spotted((8, 8, 24)), 0.9).box == (8, 8, 8, 8)


def test_each_region_has_the_ceiling_of_its_own_part_of_the_picture() -> None:
    left_is_restless = ((60.0,) * 4 + (10.0,) * 4,) * CELLS
    card = dataclasses.replace(CARD, normals_peaks=left_is_restless)
    hotter_left = spotted((8, 8, 50), (40, 48, 16))
    assert answer(card, hotter_left, 0.9).box == (48, 40, 8, 8)
    assert answer(CARD, hotter_left, 0.9).box == (8, 8, 8, 8)
    assert answer(card, spotted((8, 8, 50)), 0.9).box is None


def test_of_two_regions_the_one_beyond_is_framed() -> None:
    assert answer(CARD, spotted((8, 8, 19), (40, 48, 30)), 0.9).box == (48, 40, 8, 8)
    # The largest excess in sum: two spots of 15 beyond, joined, come before one of 25 beyond.
    assert answer(CARD, spotted((8, 8, 35), (8, 16, 35), (40, 48, 45)), 0.9).box == (8, 8, 16, 8)
    # A single hot pixel is no region, however hot beside the normals' peaks.
    pixel = spotted((40, 48, 30))
    pixel[10, 10] = 100
    assert answer(CARD, pixel, 0.9).box == (48, 40, 8, 8)
    pixel[40:48, 48:56] = 1
    assert answer(CARD, pixel, 0.9).box is None


def test_box_is_in_the_pictures_own_pixels() -> None:
    anomaly_map = spotted((8, 16, 60))
    assert strongest_region(anomaly_map, 20.0, 640, 128) == (160, 16, 80, 16)
    at_the_edge = np.zeros((224, 224), np.float32)
    at_the_edge[200:, 216:] = 90
    left, top, width, height = strongest_region(at_the_edge, 20.0, 900, 901) or (0, 0, 0, 0)
    assert (left + width, top + height) == (900, 901)


def test_an_earlier_card_compares_with_the_normals_unit() -> None:
    card = dataclasses.replace(CARD, normals_peaks=None)
    assert answer(card, spotted((8, 8, 19)), 0.9).box == (8, 8, 8, 8)
    assert answer(card, spotted((8, 8, 4)), 0.9).box is None
    assert answer(dataclasses.replace(card, normals_unit=None), spotted((8, 8, 60)), 0.9).box is None
    content = {**dataclasses.asdict(CARD), "format": 1}
    del content["normals_peaks"]
    earlier = card_from(json.dumps(content), Path("card"))
    assert (earlier.normals_peaks, earlier.format) == (None, 1)
    assert card_from(to_json(earlier), Path("card")) == dataclasses.replace(earlier, format=FORMAT)


def test_the_card_keeps_the_peaks_and_refuses_what_are_none() -> None:
    content = {**dataclasses.asdict(CARD), "format": 1}
    assert card_from(to_json(CARD), Path("card")) == CARD
    for peaks in (
        [],
        3,
        [[1, 2]],
        [[1, 2], [3]],
        [[0.0]],
        [[float("nan")]],
        [[float("inf")]],
        [["high"]],
        [[None]],
    ):
        with pytest.raises(UserError, match="damaged, not a model's card"):
            card_from(json.dumps({**content, "normals_peaks": peaks}), Path("card"))


def test_a_card_has_the_attention_points_that_its_side_allows() -> None:
    content = {**dataclasses.asdict(CARD), "format": 1}  # 64 px: strides up to 64
    assert card_from(json.dumps({**content, "attention_points": [2, 6]}), Path("card")).attention_points == (2, 6)
    for points in ([0], [7], [10**9], [2, 2]):
        with pytest.raises(UserError, match="attention_points cannot be"):
            card_from(json.dumps({**content, "attention_points": points}), Path("card"))


def test_the_peaks_of_held_out_normals_are_not_exceeded_and_follow_where_normals_are_hot() -> None:
    generator = np.random.default_rng(0)
    maps = generator.uniform(0, 4, (40, SIDE, SIDE)).astype(np.float32)
    maps[:, :, :16] *= 10  # the left quarter is restless in every normal picture
    found = ceilings(maps[:28], maps[28:])
    assert found.shape == (CELLS, CELLS)
    assert found[:, 0].min() > 4 * found[:, -1].max()
    assert all(strength(one, found.tolist()).max() <= 1 for one in maps[28:])
    assert found[:, -1].max() < 4  # the ceiling is of smoothed peaks there, not of the whole picture
    higher = ceilings(maps[:28], [*maps[28:], 3 * maps[-1]])
    assert higher == pytest.approx(found * strength(3 * maps[-1], found.tolist()).max(), rel=1e-4)


def test_a_few_restless_normals_of_many_do_not_set_the_ceilings() -> None:
    calm, restless = flat(5), spotted((8, 8, 500), level=5)
    assert ceilings([calm], [calm] * 39 + [restless]).max() == pytest.approx(5)
    assert ceilings([calm], [calm] * 9 + [restless]).max() > 400


def test_differences_that_nobody_sees_are_no_ceiling() -> None:
    black = flat(0)
    assert (ceilings([black], [black]) == 1).all()


def test_overlay_is_clear_up_to_the_normals_peaks_and_strongest_at_twice_these() -> None:
    alpha = [np.asarray(layer(flat(value), 20.0))[32, 32, 3] for value in (0, 19.9, 25, 40, 200)]
    assert alpha[:2] == [0, 0]
    assert 0 < alpha[2] < alpha[3]
    assert alpha[3] == alpha[4] == round(0.75 * 255 - 0.5)
    picture = np.full((SIDE, SIDE, 3), 100, np.uint8)
    result = answer(CARD, spotted((8, 8, 60), (40, 48, 19)), 0.9)
    shown = np.asarray(overlay(picture, result, shown_from(CARD, result))).astype(int)
    assert (shown[32:] == 100).all()
    assert np.abs(shown[10:14, 10:14] - 100).sum(2).min() > 60


def test_overlay_of_earlier_models_begins_at_their_unit_or_at_half_of_the_maximum() -> None:
    result = answer(CARD, spotted((8, 8, 60)), 0.9)
    assert shown_from(CARD, result) == UNIFORM
    assert shown_from(dataclasses.replace(CARD, normals_peaks=None), result) == 5
    imported = dataclasses.replace(CARD, normals_peaks=None, normals_unit=None)
    assert shown_from(imported, result) == 30
    for faint in (0, 0.8):  # nobody sees such differences
        shown = layer(flat(faint), shown_from(imported, answer(imported, flat(faint), 0.9)))
        assert not np.asarray(shown)[..., 3].any()
