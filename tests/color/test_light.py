"""Casts and exposure, against scikit-image's conversions and color difference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import deltaE_ciede2000, rgb2lab, rgb2xyz

from leanet.color.light import DIRECTIONS, Cast, cast_gains, random_light, relit

GRAY = torch.full((3, 1, 1), 118.9 / 255)  # L* 50


@pytest.mark.parametrize("delta_e", [3, 6, 12, 20])
@pytest.mark.parametrize("cast", DIRECTIONS)
def test_a_cast_moves_gray_by_its_color_difference_and_keeps_its_luminance(cast: Cast, delta_e: float) -> None:
    both = [x.permute(1, 2, 0).double().numpy() for x in (GRAY, relit(GRAY, cast_gains(cast, delta_e)))]
    found = deltaE_ciede2000(*(rgb2lab(x) for x in both))  # type: ignore[no-untyped-call]
    assert found[0, 0] == pytest.approx(delta_e, abs=0.05)
    luminances = [rgb2xyz(x)[0, 0, 1] for x in both]
    assert luminances[1] == pytest.approx(luminances[0], rel=2e-3)


def test_exposure_doubles_the_light_with_each_stop_until_it_clips() -> None:
    rgb = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    luminance, brighter = (
        rgb2xyz(x.permute(0, 2, 3, 1).double().numpy())[..., 1] for x in (rgb, relit(rgb, stops=1))
    )
    unclipped = (relit(rgb, stops=1) < 0.999).all(1).numpy()
    assert unclipped.any()
    np.testing.assert_allclose(brighter[unclipped], 2 * luminance[unclipped], rtol=1e-4)
    assert float(relit(rgb, stops=9).max()) == pytest.approx(1)
    torch.testing.assert_close(relit(rgb), rgb, atol=2e-6, rtol=0)


@pytest.mark.parametrize("delta_e", [0, -1, 21, float("nan")])
def test_a_cast_beyond_the_range_is_refused(delta_e: float) -> None:
    with pytest.raises(ValueError, match="at most 20"):
        cast_gains("warm", delta_e)


def test_random_light_is_a_moderate_cast_of_any_direction_and_up_to_a_stop() -> None:
    drawn = [random_light(seed) for seed in range(200)]
    assert drawn[7] == random_light(7)
    before = rgb2lab(GRAY.permute(1, 2, 0).double().numpy())
    moved = [rgb2lab(relit(GRAY, gains).permute(1, 2, 0).double().numpy()) for gains, _ in drawn]
    far = [deltaE_ciede2000(before, after)[0, 0] for after in moved]  # type: ignore[no-untyped-call]
    assert 12 < max(far) < 20
    assert min(far) < 1
    stops = np.array([stops for _, stops in drawn])
    assert (np.abs(stops) <= 1).all()
    assert stops.std() == pytest.approx(1 / np.sqrt(3), abs=0.1)
    for channel in (1, 2):  # a* and b*, of either sign
        assert 0.3 < np.mean([after[0, 0, channel] > 0 for after in moved]) < 0.7
