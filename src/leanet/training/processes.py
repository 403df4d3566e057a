"""One training in several processes (`accelerate launch`): each takes a share of every batch; the first writes.

Every process prepares the whole batch and keeps its share, which makes the augmentation that of a single process.
BatchNorm's statistics and the gradients are those of the whole batch. With n processes, the result equals that of
one process with n times the batch size, up to rounding and dropout.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import FunctionCtx

from leanet.ranks import count, rank

if TYPE_CHECKING:
    from accelerate import Accelerator

_PATIENCE = timedelta(days=1)
"""How long the others wait while the first process writes a fold's maps."""


def accelerator(device: torch.device) -> Accelerator:
    """Accelerate's handle on the device and the other processes."""
    from accelerate import Accelerator, InitProcessGroupKwargs  # prediction does not need it

    waiting = InitProcessGroupKwargs(timeout=_PATIENCE)
    made = Accelerator(cpu=device.type == "cpu", mixed_precision="no", kwargs_handlers=[waiting])
    # The recipe sets precision and steps. `accelerate config` would override the constructor's argument.
    made.gradient_accumulation_steps = 1
    return made


def wait_for_all(device: torch.device) -> None:
    """Wait until all processes have arrived here."""
    if count() > 1:
        accelerator(device).wait_for_everyone()


@contextmanager
def first_before_others(device: torch.device) -> Iterator[None]:
    """Let the first process work first; the others then find its work finished."""
    if count() == 1:
        yield
        return
    from accelerate import PartialState

    accelerator(device)
    with PartialState().main_process_first():
        yield


def share(batch: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], float]:
    """The current process's part of a batch (tensors of N rows each), and the factor for its mean loss.

    With the factor, the average over the processes is the whole batch's loss and gradient, even if the parts differ
    in size.
    """
    n, k, of = len(batch[0]), rank(), count()
    start, end = k * n // of, (k + 1) * n // of
    return tuple(t[start:end] for t in batch), (end - start) * of / n


def synchronise_batch_norm(network: nn.Module) -> nn.Module:
    """The network with every BatchNorm2d replaced by one whose statistics cover all processes."""
    for name, child in network.named_children():
        if type(child) is nn.BatchNorm2d:  # a subclass may add more, such as an activation
            synced = SynchronisedBatchNorm2d(child.num_features, child.eps, child.momentum)
            synced.load_state_dict(child.state_dict())
            setattr(network, name, synced.to(child.weight.device))
        else:
            synchronise_batch_norm(child)
    return network


class _SumOverProcesses(torch.autograd.Function):
    """The sum of all processes' tensors; its gradient is the sum of all processes' gradients."""

    @staticmethod
    def forward(_context: FunctionCtx, x: Tensor) -> Tensor:
        summed = x.clone()
        distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(_context: FunctionCtx, *gradients: Tensor) -> Tensor:
        return _over_processes(gradients[0])


def _over_processes(x: Tensor) -> Tensor:
    summed: Tensor = _SumOverProcesses.apply(x)
    return summed


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the batches of all processes: (N, C, H, W) -> the same shape. PyTorch's needs a GPU."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.running_mean is None or self.running_var is None:
            return super().forward(x)
        wide = x.float()
        pixels = _over_processes(torch.tensor(float(x[:, 0].numel()), device=x.device))
        mean = _over_processes(wide.sum((0, 2, 3))) / pixels
        centred = wide - mean[:, None, None]
        variance = _over_processes(centred.square().sum((0, 2, 3))) / pixels
        with torch.no_grad():
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum or 0.0)
            self.running_var.lerp_(variance * pixels / (pixels - 1), self.momentum or 0.0)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        y: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
        return y.to(x.dtype)
