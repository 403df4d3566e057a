"""Anomaly maps and their two scales."""

from typing import Any

import pytest
import torch

from leanet.color.anomaly_map import anomaly_map, scale_map


def test_the_map_is_zero_where_the_colour_was_guessed() -> None:
    lab = torch.full((2, 3, 4, 4), 40.0)
    recoloured = lab.clone()
    recoloured[1, 1, 2, 3] = -10
    result = anomaly_map(lab, recoloured)
    assert result.shape == (2, 1, 4, 4)
    assert result.nonzero().tolist() == [[1, 0, 2, 3]]


def test_scale_max_uses_each_maps_own_maximum_and_leaves_a_perfect_map_zero() -> None:
    maps = torch.stack((torch.zeros(1, 2, 2), torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])))
    scaled = scale_map(maps, "max")
    assert (scaled[0] == 0).all()
    assert torch.equal(scaled[1], maps[1] / 4)


def test_scale_normals_divides_all_maps_by_one_number() -> None:
    maps = torch.rand(3, 1, 4, 4) * 20
    assert torch.equal(scale_map(maps, "normals", 5.0), maps / 5)


@pytest.mark.parametrize("unit", [None, 0.0, -1.0, float("nan")])
def test_scale_normals_needs_its_unit(unit: float | None) -> None:
    with pytest.raises(ValueError, match="needs a ΔE00 above 0"):
        scale_map(torch.rand(1, 1, 2, 2), "normals", unit)


def test_errors() -> None:
    unknown: Any = "biggest"
    with pytest.raises(ValueError, match="one image as"):
        anomaly_map(torch.rand(3, 4, 4), torch.rand(3, 4, 4))
    with pytest.raises(ValueError, match=r"\(N, 1, H, W\)"):
        scale_map(torch.rand(1, 3, 4, 4), "max")
    with pytest.raises(ValueError, match="choose"):
        scale_map(torch.rand(1, 1, 4, 4), unknown)
