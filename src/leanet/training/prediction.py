"""A trained network made ready to predict: BatchNorm folded away, in float32 unless asked otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from leanet.networks.folding import fold_batch_norm
from leanet.training.compute import Compute


def predictor(network: nn.Module, compute: Compute) -> Callable[..., Any]:
    """A function that predicts what the network does in evaluation mode, up to rounding, and faster.

    The network's weights are copied: training it further changes nothing here. Logits and chrominance are float32
    in any case.

    Args:
        network: a colorizer or a LEA-Net.
        compute: where, and whether in bfloat16; a training's is in `in_float32` here, so that its answers are the
            deployed model's.
    Returns:
        A function of the network's inputs, wherever they are, that returns what the network does, on its device.
    """
    folded = fold_batch_norm(network).to(compute.device)
    folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def predict(*inputs: torch.Tensor) -> Any:
        placed = [x.to(compute.device).contiguous(memory_format=torch.channels_last) for x in inputs]
        with _no_tf32(), torch.autocast(compute.device.type, torch.bfloat16, enabled=compute.bfloat16):
            return folded(*placed)

    return predict


@contextmanager
def _no_tf32() -> Iterator[None]:
    """Let CUDA's convolutions compute in float32: by default PyTorch rounds their inputs to TF32's ten bits."""
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # torch declares it at run time
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before
