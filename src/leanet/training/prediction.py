"""Prepare a trained network for prediction: BatchNorm folded, float32 unless bfloat16 is requested."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
        with _NO_TF32, torch.autocast(compute.device.type, torch.bfloat16, enabled=compute.bfloat16):
            return getattr(folded, method)(*placed)

    return predict


def in_single_threads(
    function: Callable[[Item], Result], items: Sequence[Item], device: torch.device
) -> Iterator[Result]:
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


class _NoTf32:
    """Makes CUDA convolutions compute in float32: by default, PyTorch rounds their inputs to TF32's ten bits.

    The setting is the process's. Threads may be inside at once; the last one to leave restores it.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, ""

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = _convolutions().fp32_precision
                _convolutions().fp32_precision = "ieee"
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                _convolutions().fp32_precision = self._before


_NO_TF32 = _NoTf32()


def _convolutions() -> Any:
    return torch.backends.cudnn.conv  # type: ignore[attr-defined]  # torch declares it at run time
