"""Pictures that are not square: what the square shows, and where the picture lies in it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from leanet.config import Aspect
from leanet.data.decode import resize
from leanet.data.shape import placement, to_square


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def by_pillow(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Pillow's resize of one axis after the other, which rounds in between as ours does."""
    across = Image.fromarray(image).resize((width, len(image)), Image.Resampling.BILINEAR)
    return np.asarray(across.resize((width, height), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("aspect", ["squeeze", "letterbox", "crop"])
def test_a_square_picture_is_the_same_in_every_shape(aspect: Aspect) -> None:
    np.testing.assert_array_equal(to_square(noise(50, 50), 32, aspect), resize(noise(50, 50), 32))
    assert placement(50, 50, 32, aspect).whole


def test_squeezing_is_the_resize_of_earlier_versions() -> None:
    np.testing.assert_array_equal(to_square(noise(50, 90), 32, "squeeze"), resize(noise(50, 90), 32))


@pytest.mark.parametrize(("height", "width"), [(40, 100), (100, 40), (100, 99), (3, 100), (1, 500)])
def test_a_letterbox_is_the_picture_continued_by_its_mirror_image(height: int, width: int) -> None:
    size = 64
    x, y, across, down = placement(height, width, size, "letterbox").inside
    assert max(across, down) == size
    assert min(across, down) == max(1, round(size * min(height, width) / max(height, width)))
    assert abs((size - across) - 2 * x) <= 1
    assert abs((size - down) - 2 * y) <= 1
    inner = by_pillow(noise(height, width), across, down)
    around = ((y, size - down - y), (x, size - across - x), (0, 0))
    expected = np.pad(inner, around, mode="symmetric")
    np.testing.assert_array_equal(to_square(noise(height, width), size, "letterbox"), expected)


@pytest.mark.parametrize(("height", "width"), [(40, 101), (101, 40)])
def test_a_crop_is_the_middle(height: int, width: int) -> None:
    image = noise(height, width)
    middle = image[:, 30:70] if width > height else image[30:70]
    np.testing.assert_array_equal(to_square(image, 32, "crop"), by_pillow(middle, 32, 32))
    assert placement(height, width, 32, "crop").part[2:] == (40, 40)


def test_a_map_is_cut_at_its_own_resolution() -> None:
    place = placement(50, 100, 64, "letterbox")
    fine, coarse = np.zeros((64, 64), np.float32), np.zeros((4, 4), np.float32)
    fine[16:48], coarse[1:3] = 1, 1
    assert (place.cut(fine, 64).shape, place.cut(coarse, 64).shape) == ((32, 64), (2, 4))
    assert place.cut(fine, 64).min() == place.cut(coarse, 64).min() == 1
    assert placement(1, 100, 64, "letterbox").cut(coarse, 64).shape == (1, 4)
