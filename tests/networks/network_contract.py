"""The tests of every network, whatever its family, as a class to inherit."""

from __future__ import annotations

import copy
import functools
from abc import ABC, abstractmethod
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

SIZES = [64, 96, 160, 256]


def count_parameters(network: nn.Module) -> int:
    """Weights and BatchNorm statistics, as Keras counts them."""
    return sum(t.numel() for name, t in network.state_dict().items() if "num_batches" not in name)


def flatten(outputs: object) -> list[Tensor]:
    """All tensors of nested tuples and lists, in order."""
    if isinstance(outputs, Tensor):
        return [outputs]
    return [t for o in outputs for t in flatten(o)] if isinstance(outputs, tuple | list) else []


class NetworkContract(ABC):
    """Inherit, define the network and its output shapes, and add its own tests."""

    channels_in: int
    parameters: int
    """At 256 pixels, from the authors' program."""

    @abstractmethod
    def build(self, image_size: int) -> nn.Module:
        """A new network."""

    @abstractmethod
    def shapes(self, n: int, image_size: int) -> list[tuple[int, ...]]:
        """Shapes of all outputs for a batch of n images."""

    def example(self, image_size: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.rand(2, self.channels_in, image_size, image_size, generator=generator)

    def built(self) -> nn.Module:
        """A network of 64 pixels from seed 0, which the caller may change."""
        return copy.deepcopy(built(type(self)))

    @pytest.mark.parametrize("image_size", SIZES)
    def test_shapes(self, image_size: int) -> None:
        with torch.device("meta"):
            network = self.build(image_size).eval()
            outputs = flatten(network(torch.empty(3, self.channels_in, image_size, image_size)))
        assert [tuple(o.shape) for o in outputs] == self.shapes(3, image_size)

    def test_parameter_total(self) -> None:
        with torch.device("meta"):
            assert count_parameters(self.build(256)) == self.parameters

    def test_gradients_reach_every_parameter(self) -> None:
        network = self.built().train()
        loss = torch.stack([o.float().square().mean() for o in flatten(network(self.example(64)))]).sum()
        if self.parameters:
            torch.autograd.backward(loss)
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name

    def test_bfloat16_and_channels_last_stay_close(self) -> None:
        network, x = self.built().eval(), self.example(64)
        with torch.inference_mode():
            expected = flatten(network(x))
            with torch.autocast("cpu", torch.bfloat16):
                found = flatten(network(x.contiguous(memory_format=torch.channels_last)))
        for e, f in zip(expected, found, strict=True):
            assert f.isfinite().all()
            assert (f.float() - e).abs().mean() < 0.05 * e.abs().mean() + 0.01

    def test_weights_survive_safetensors(self, tmp_path: Path) -> None:
        saved, loaded, x = self.built(), self.built().eval(), self.example(64)
        with torch.no_grad():
            for parameter in loaded.parameters():
                parameter.zero_()
            saved.train()(x)  # moves BatchNorm's statistics away from their initial values
            save_file(saved.state_dict(), tmp_path / "weights.safetensors")
            loaded.load_state_dict(load_file(tmp_path / "weights.safetensors"))
            pairs = zip(flatten(saved.eval()(x)), flatten(loaded(x)), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)

    def test_initial_weights_follow_the_seed(self) -> None:
        torch.manual_seed(0)
        first, second = self.build(64).state_dict(), self.built().state_dict()
        assert all(torch.equal(first[name], second[name]) for name in first)


@functools.lru_cache(maxsize=1)
def built(kind: type[NetworkContract]) -> nn.Module:
    """One network for all tests of a class: drawing its weights takes longer than copying them.

    The seed is fixed: with some weights the logits are nearly 0, and so is what a tolerance allows.
    """
    torch.manual_seed(0)
    return kind().build(64)
