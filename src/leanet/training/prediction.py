"""Prepare a trained network for prediction: BatchNorm folded, float32 unless bfloat16 is requested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

from leanet.networks.folding import fold_batch_norm
from leanet.training.compute import Compute

AHEAD = 8
"""Results per thread that wait to be taken."""

Item = TypeVar("Item")
Result = TypeVar("Result")


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


def in_threads(function: Callable[[Item], Result], items: Sequence[Item], device: torch.device) -> Iterator[Result]:
    """The function's results, in order, on the CPU by as many threads as PyTorch has.

    Each thread computes alone. For one image at a time, that is faster than threads within each operation, and the
    results are those of a single thread.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    if threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for start in range(0, len(items), AHEAD * threads):
                yield from pool.map(function, items[start : start + AHEAD * threads])
        finally:
            torch.set_num_threads(threads)  # those of the pool changed what new threads begin with


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
