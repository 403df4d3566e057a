"""Prepare a trained network for prediction: BatchNorm folded, float32 unless bfloat16 is requested."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from leanet.networks.folding import fold_batch_norm
from leanet.training.compute import Compute


def predictor(network: nn.Module, compute: Compute, method: str = "__call__") -> Callable[..., Any]:
    """A faster function that computes the network's outputs in evaluation mode, equal up to rounding.

    It copies the weights; further training does not change it. Logits and chrominance are always float32.

    Args:
        network: a colorizer, a LEA-Net or a map source.
        compute: device and precision; trainings pass `in_float32`, to predict as the deployed model does.
        method: the network's method to call, instead of its forward.
    Returns:
        A function that takes the network's inputs, on any device, and returns its outputs on `compute.device`.
    """
    folded = fold_batch_norm(network).to(compute.device)
    folded.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def predict(*inputs: torch.Tensor) -> Any:
        placed = [_laid_out(x.to(compute.device)) for x in inputs]
        with _no_tf32(), torch.autocast(compute.device.type, torch.bfloat16, enabled=compute.bfloat16):
            return getattr(folded, method)(*placed)

    return predict


def _laid_out(x: torch.Tensor) -> torch.Tensor:
    """Images with their channels last in memory; other tensors as they are."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


@contextmanager
def _no_tf32() -> Iterator[None]:
    """Make CUDA convolutions compute in float32: by default, PyTorch rounds their inputs to TF32's ten bits."""
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # torch declares it at run time
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before
