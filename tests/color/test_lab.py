"""sRGB <-> CIELAB against scikit-image."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import color
from torch import Tensor

from leanet.color.lab import decode_lab, encode_lab, lab_to_rgb, rgb_to_lab


def oracle(rgb: Tensor) -> Tensor:
    return torch.from_numpy(color.rgb2lab(rgb.double().numpy(), channel_axis=-3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_colours_agree_with_scikit_image(dtype: torch.dtype) -> None:
    rgb = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=dtype)
    rgb[0, :, :8] *= 0.02  # the two linear branches
    lab = rgb_to_lab(rgb)
    assert lab.dtype == dtype
    assert (lab - oracle(rgb)).abs().max() < 3e-4
    back = torch.from_numpy(color.lab2rgb(lab.double().numpy(), channel_axis=-3))
    assert (lab_to_rgb(lab) - back).abs().max() < 1e-5


def test_real_images_agree_with_scikit_image(real_rgb: Tensor) -> None:
    assert (rgb_to_lab(real_rgb) - oracle(real_rgb)).abs().max() < 3e-4


def test_black_and_white() -> None:
    lab = rgb_to_lab(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1))
    assert torch.allclose(lab[:, 0].flatten(), torch.tensor([0.0, 100.0]), atol=1e-3)
    assert lab[:, 1:].abs().max() < 0.01


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_there_and_back(rgb: list[float]) -> None:
    image = torch.tensor(rgb, dtype=torch.float64).view(3, 1, 1)
    assert torch.allclose(lab_to_rgb(rgb_to_lab(image)), image, atol=1e-9)


@settings(deadline=None, max_examples=50)
@given(st.tuples(st.floats(-20, 120), st.floats(-200, 200), st.floats(-200, 200)))
def test_any_lab_gives_rgb_within_0_and_1_and_finite_gradients(lab: tuple[float, float, float]) -> None:
    image = torch.tensor(lab).view(3, 1, 1).requires_grad_()
    rgb = lab_to_rgb(image)
    assert 0 <= rgb.min() <= rgb.max() <= 1
    (gradient,) = torch.autograd.grad(rgb.sum(), image)
    assert gradient.isfinite().all()


def test_gradients() -> None:
    ends = torch.tensor([0.0, 0.04045, 0.5, 1.0]).view(4, 1, 1, 1).repeat(1, 3, 1, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(rgb_to_lab(ends).sum(), ends)
    assert gradient.isfinite().all()

    rgb = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.8 + 0.1
    assert torch.autograd.gradcheck(rgb_to_lab, rgb.clone().requires_grad_())
    assert torch.autograd.gradcheck(lab_to_rgb, rgb_to_lab(rgb).requires_grad_())


def test_no_gradient_through_a_clipped_primary() -> None:
    lab = torch.tensor([50.0, 300.0, 0.0]).view(3, 1, 1).requires_grad_()  # far redder than any screen
    rgb = lab_to_rgb(lab)
    assert rgb[0] > 0.999999
    (gradient,) = torch.autograd.grad(rgb[0].sum(), lab)
    assert (gradient == 0).all()


def test_the_coding_spans_0_to_1_and_is_undone() -> None:
    ends = torch.tensor([[0.0, -128.0, -128.0], [100.0, 127.0, 127.0]]).view(2, 3, 1, 1)
    assert torch.equal(encode_lab(ends).flatten(1), torch.tensor([[0.0] * 3, [1.0] * 3]))
    assert torch.allclose(decode_lab(encode_lab(ends)), ends, atol=1e-4)


@pytest.mark.parametrize("function", [rgb_to_lab, lab_to_rgb, encode_lab, decode_lab])
def test_errors(function: object) -> None:
    assert callable(function)
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 3, H, W\)"):
        function(torch.rand(2, 4, 4, 3))
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 3, H, W\)"):
        function(torch.rand(3, 4))
    with pytest.raises(ValueError, match="expected floats"):
        function(torch.zeros(3, 4, 4, dtype=torch.uint8))
