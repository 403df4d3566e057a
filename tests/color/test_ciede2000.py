"""ΔE00 against the published pairs and scikit-image, and its gradients where the formula has none."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from skimage import color
from torch import Tensor

from leanet.color.ciede2000 import ciede2000
from leanet.color.lab import rgb_to_lab

CSV = Path(__file__).parents[2].parent / "shared" / "reference" / "ciede2000_sharma.csv"

# Sharma, Wu & Dalal (2005), table 1: L1 a1 b1 L2 a2 b2 ΔE00
PUBLISHED = """
50.0000 2.6772 -79.7751 50.0000 0.0000 -82.7485 2.0425
50.0000 3.1571 -77.2803 50.0000 0.0000 -82.7485 2.8615
50.0000 2.8361 -74.0200 50.0000 0.0000 -82.7485 3.4412
50.0000 -1.3802 -84.2814 50.0000 0.0000 -82.7485 1.0000
50.0000 -1.1848 -84.8006 50.0000 0.0000 -82.7485 1.0000
50.0000 -0.9009 -85.5211 50.0000 0.0000 -82.7485 1.0000
50.0000 0.0000 0.0000 50.0000 -1.0000 2.0000 2.3669
50.0000 -1.0000 2.0000 50.0000 0.0000 0.0000 2.3669
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0009 7.1792
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0010 7.1792
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0011 7.2195
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0012 7.2195
50.0000 -0.0010 2.4900 50.0000 0.0009 -2.4900 4.8045
50.0000 -0.0010 2.4900 50.0000 0.0010 -2.4900 4.8045
50.0000 -0.0010 2.4900 50.0000 0.0011 -2.4900 4.7461
50.0000 2.5000 0.0000 50.0000 0.0000 -2.5000 4.3065
50.0000 2.5000 0.0000 73.0000 25.0000 -18.0000 27.1492
50.0000 2.5000 0.0000 61.0000 -5.0000 29.0000 22.8977
50.0000 2.5000 0.0000 56.0000 -27.0000 -3.0000 31.9030
50.0000 2.5000 0.0000 58.0000 24.0000 15.0000 19.4535
50.0000 2.5000 0.0000 50.0000 3.1736 0.5854 1.0000
50.0000 2.5000 0.0000 50.0000 3.2972 0.0000 1.0000
50.0000 2.5000 0.0000 50.0000 1.8634 0.5757 1.0000
50.0000 2.5000 0.0000 50.0000 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
"""


def columns(rows: list[list[float]]) -> tuple[Tensor, Tensor, Tensor]:
    table = torch.tensor(rows, dtype=torch.float64)
    return table[:, 0:3, None, None], table[:, 3:6, None, None], table[:, 6, None, None, None]


def published() -> list[list[float]]:
    return [[float(v) for v in line.split()] for line in PUBLISHED.strip().splitlines()]


def oracle(lab1: Tensor, lab2: Tensor) -> Tensor:
    delta_e: Callable[..., Any] = color.deltaE_ciede2000  # scikit-image has no types
    difference = delta_e(lab1.double().numpy(), lab2.double().numpy(), channel_axis=-3)
    return torch.from_numpy(difference).unsqueeze(-3)


def random_lab(seed: int, *shape: int) -> Tensor:
    unit = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return unit * torch.tensor([100.0, 200.0, 200.0]).view(3, 1, 1) - torch.tensor([0.0, 100.0, 100.0]).view(
        3, 1, 1
    )


def test_published_pairs() -> None:
    lab1, lab2, expected = columns(published())
    assert len(expected) == 34
    assert (ciede2000(lab1, lab2) - expected).abs().max() < 1e-4
    assert (ciede2000(lab2, lab1) - expected).abs().max() < 1e-4
    assert (ciede2000(lab1.float(), lab2.float()) - expected).abs().max() < 1e-3


def test_the_table_above_is_the_one_in_the_reference_folder() -> None:
    if not CSV.exists():
        pytest.skip(f"{CSV} is not here")
    with CSV.open() as file:
        assert [[float(v) for v in row] for row in list(csv.reader(file))[1:]] == published()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-4), (torch.float32, 1e-3)])
def test_random_colours_agree_with_scikit_image(dtype: torch.dtype, tolerance: float) -> None:
    lab1, lab2 = random_lab(0, 2, 3, 128, 128), random_lab(1, 2, 3, 128, 128)
    near = lab1 + (lab2 - lab1) * 0.03
    for other in (lab2, near):
        result = ciede2000(lab1.to(dtype), other.to(dtype))
        assert result.dtype == dtype
        assert result.shape == (2, 1, 128, 128)
        assert (result - oracle(lab1, other)).abs().max() < tolerance


def test_real_images_agree_with_scikit_image(real_rgb: Tensor) -> None:
    lab = rgb_to_lab(real_rgb)
    for other in (lab.flip(0), lab.roll(1, dims=-1)):
        assert (ciede2000(lab, other) - oracle(lab, other)).abs().max() < 1e-3


CORNERS = [  # where the formula has square roots of 0, hues of greys, or two mean hues
    ("equal", (50, 20, -30), (50, 20, -30)),
    ("equal greys", (50, 0, 0), (50, 0, 0)),
    ("grey and grey", (30, 0, 0), (70, 0, 0)),
    ("grey and colour", (50, 0, 0), (50, -1, 2)),
    ("colour and grey", (50, 10, -80), (50, 0, 0)),
    ("black and white", (0, 0, 0), (100, 0, 0)),
    ("equal blacks", (0, 0, 0), (0, 0, 0)),
    ("opposite hues", (50, 2.49, -0.001), (50, -2.49, 0.001)),
    ("opposite on the axes", (50, 0, 60), (50, 0, -60)),
    ("opposite blues", (50, 8, -90), (60, -8, 90)),
    ("right angle", (50, 30, 0), (50, 0, 30)),
    ("only lightness", (50, 30, 10), (60, 30, 10)),
    ("only chroma", (50, 30, 10), (50, 15, 5)),
    ("nearly grey", (50, 1e-5, 0), (50, 0, -1e-5)),
    ("nearly equal", (50, 40, 40), (50, 40.00001, 40)),
    ("vivid", (50, 500, -500), (50, -500, -500)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("colour1", "colour2"), [c[1:] for c in CORNERS], ids=[c[0] for c in CORNERS])
def test_corners(colour1: tuple[float, ...], colour2: tuple[float, ...], dtype: torch.dtype) -> None:
    lab1 = torch.tensor(colour1, dtype=dtype).view(3, 1, 1).requires_grad_()
    lab2 = torch.tensor(colour2, dtype=dtype).view(3, 1, 1).requires_grad_()
    difference = ciede2000(lab1, lab2)
    expected = oracle(*(torch.tensor(c, dtype=torch.float64).view(3, 1, 1) for c in (colour1, colour2)))
    assert torch.allclose(difference.double(), expected, atol=1e-3)
    assert (difference == 0).all() == (colour1 == colour2)
    for gradient in torch.autograd.grad(difference.sum(), (lab1, lab2)):
        assert gradient.isfinite().all()
        assert gradient.abs().max() < 10  # finite is not enough: no step of an optimiser may explode


def test_gradient_is_right() -> None:
    lab1, lab2 = random_lab(2, 2, 3, 4, 4), random_lab(3, 2, 3, 4, 4)
    assert torch.autograd.gradcheck(ciede2000, (lab1.requires_grad_(), lab2.requires_grad_()))


colours = st.tuples(st.floats(0, 100), st.floats(-128, 127), st.floats(-128, 127))


@settings(deadline=None, max_examples=150)
@given(colours, colours)
@example((0, 1, 0), (0, -1, 8e-308))  # opposite but for rounding: both orders must choose the same mean hue
def test_symmetric_non_negative_and_zero_for_equal_colours_only(
    colour1: tuple[float, float, float], colour2: tuple[float, float, float]
) -> None:
    lab1, lab2 = (torch.tensor(c, dtype=torch.float64).view(3, 1, 1) for c in (colour1, colour2))
    there, back = ciede2000(lab1, lab2), ciede2000(lab2, lab1)
    assert torch.allclose(there, back, rtol=1e-9, atol=1e-9)
    assert (there >= 0).all()
    assert (ciede2000(lab1, lab1) == 0).all()
    if (lab1 - lab2).abs().max() > 1e-3:
        assert (there > 0).all()


def test_any_leading_shape() -> None:
    lab1, lab2 = random_lab(4, 2, 5, 3, 6, 7), random_lab(5, 2, 5, 3, 6, 7)
    whole = ciede2000(lab1, lab2)
    assert whole.shape == (2, 5, 1, 6, 7)
    assert torch.equal(whole[1, 3], ciede2000(lab1[1, 3], lab2[1, 3]))


def test_errors() -> None:
    lab = torch.rand(2, 3, 4, 4)
    with pytest.raises(ValueError, match="must be equal"):
        ciede2000(lab, lab[:1])
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 3, H, W\)"):
        ciede2000(lab.movedim(1, -1), lab.movedim(1, -1))
    with pytest.raises(ValueError, match="expected floats"):
        ciede2000(lab.int(), lab.int())


@pytest.mark.parametrize("channel", range(3))
def test_nan_is_no_likeness(channel: int) -> None:
    lab = torch.tensor([[50.0, 20.0, 10.0], [50.0, 20.0, 10.0]]).T.reshape(1, 3, 1, 2)
    spoilt = lab.clone()
    spoilt[0, channel, 0, 0] = torch.nan
    for difference in (ciede2000(spoilt, lab), ciede2000(lab, spoilt)):
        assert difference.flatten().isnan().tolist() == [True, False]
