"""White balance undoes a cast, leaves what is balanced, and agrees with its formula in NumPy."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab

from leanet.color.constancy import BORDER, white_balance
from leanet.color.lab import srgb_to_linear
from leanet.color.light import LUMINANCE, cast_gains, relit
from leanet.config import WhiteBalance

METHODS = [name for name in get_args(WhiteBalance) if name != "none"]


def scene() -> torch.Tensor:
    """A gray background with a colorful middle, float (1, 3, 64, 64), away from black and white."""
    rgb = torch.full((1, 3, 64, 64), 0.5)
    rgb[:, :, 16:48, 16:48] = 0.3 + 0.3 * torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return rgb


@pytest.mark.parametrize("method", METHODS)
def test_the_same_scene_in_other_light_becomes_the_same_picture(method: WhiteBalance) -> None:
    plain = white_balance(scene(), method)
    for cast in ("warm", "green"):
        other = white_balance(relit(scene(), cast_gains(cast, 12)), method)
        difference = rgb2lab(plain[0].permute(1, 2, 0).numpy()) - rgb2lab(other[0].permute(1, 2, 0).numpy())
        assert np.linalg.norm(difference, axis=-1).max() < 1.5


def test_a_neutral_border_becomes_gray() -> None:
    balanced = white_balance(relit(scene(), cast_gains("cool", 12)), "border")
    lab = rgb2lab(balanced[0].permute(1, 2, 0).numpy())
    assert np.abs(lab[0, 0, 1:]).max() < 0.6


@pytest.mark.parametrize("method", METHODS)
def test_the_light_is_that_of_the_formula(method: WhiteBalance) -> None:
    rgb = 0.2 + 0.6 * torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) ** torch.tensor(
        [1.0, 2.0, 0.5]
    ).view(1, 3, 1, 1)
    linear = srgb_to_linear(rgb)[0].double().numpy()
    border = np.ones((32, 32), dtype=bool)
    border[32 // BORDER : -(32 // BORDER), 32 // BORDER : -(32 // BORDER)] = False
    light = {
        "grey-world": linear.mean((1, 2)),
        "shades-of-grey": (linear**6).mean((1, 2)) ** (1 / 6),
        "border": linear[:, border].mean(1),
    }[method]
    expected = np.clip(linear * (light @ LUMINANCE / light)[:, None, None], 0, 1)
    found = srgb_to_linear(white_balance(rgb, method))[0].double().numpy()
    np.testing.assert_allclose(found, expected, atol=6e-3)  # half a step of 1/255


def test_black_stays_black_and_none_changes_nothing() -> None:
    black = torch.zeros(1, 3, 32, 32)
    for method in METHODS:
        assert not white_balance(black, method).any()
    torch.testing.assert_close(white_balance(scene(), "none"), scene())
