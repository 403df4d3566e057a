"""Choose device, precision and compilation for this machine."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import gc
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from leanet.config import ComputeConfig
from leanet.errors import OptionError
from leanet.ranks import count

_log = logging.getLogger(__name__)

# A colorizer's graph takes a minute or two to compile on two cores and saves a third of a step. It pays off after
# this many passes of 256 x 256 images. The unit is work, not time: a decision by the clock would make two runs with
# one seed differ.
COMPILE_PAYS_FROM = 10_000

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


@dataclass(frozen=True)
class Compute:
    """Resolved choices: torch device, bfloat16 or not, compiled or not, and the number of training processes."""

    device: torch.device
    bfloat16: bool
    compiled: bool
    processes: int = 1

    def __str__(self) -> str:
        precision = "bfloat16" if self.bfloat16 else "float32"
        together = f", {self.processes} processes" if self.processes > 1 else ""
        return f"{self.device.type}, {precision}, {'torch.compile' if self.compiled else 'eager'}{together}"

    def in_float32(self) -> Compute:
        """The same in float32, for predictions, which do not use the training's precision."""
        return dataclasses.replace(self, bfloat16=False)


def resolve(config: ComputeConfig, passes_to_compile_for: float) -> Compute:
    """Decide device, precision and compilation of a training.

    Args:
        config: the user's options.
        passes_to_compile_for: the training that compilation would speed up, in passes of one 256 x 256 image; 0 if
            it speeds up none.
    Raises:
        OptionError: this machine lacks the device.
    """
    device = find_device(config.device)
    bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and has_bfloat16(device))
    wanted = config.compile == "on" or (config.compile == "auto" and passes_to_compile_for >= COMPILE_PAYS_FROM)
    if config.precision == "bfloat16" and not has_bfloat16(device):
        _say_once("note: precision bfloat16: this machine has no hardware for it; float32 would be faster.")
    alone = count() == 1  # communication between processes would break the graph at every BatchNorm
    return Compute(device, bfloat16, wanted and alone and compiler_works(device.type), count())


def resolve_for_prediction(config: ComputeConfig) -> Compute:
    """Decide device, precision and compilation of predictions: float32 unless bfloat16 is requested by name.

    Thresholds are chosen in float32, and exported files compute in it; another default would change predictions.

    Raises:
        OptionError: a device that this machine does not have.
    """
    return resolve(
        dataclasses.replace(config, precision="float32" if config.precision == "auto" else config.precision), 0
    )


@functools.cache
def fused(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An elementwise function, compiled once for all sizes into few passes over memory."""
    return torch.compile(function, dynamic=True)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes bfloat16 in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        abilities = torch.cpu.get_capabilities()
        return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16") or abilities.get("bf16"))
    return False


@functools.cache
def compiler_works(device: str) -> bool:
    """Whether torch.compile can build a kernel for the device; logs once if it cannot."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:  # the compiler stack raises many types, from OSError to its own classes
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        _say_once(f"note: no working compiler ({reason}); training runs without torch.compile, more slowly.")
        torch.compiler.reset()
        return False
    return True


@functools.cache
def _say_once(text: str) -> None:
    _log.info(text)


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step: returning it and faulting it in costs a quarter of a step.

    The setting affects the whole process; only trainings and leanet's own commands use it.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt:
        for parameter, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1)):
            mallopt(parameter, value)


def return_freed_memory() -> None:
    """Return the memory that `keep_freed_memory` kept, before work of another shape, which could not reuse it."""
    gc.collect()
    malloc_trim = _of_glibc("malloc_trim")
    if malloc_trim:
        malloc_trim(0)


def _of_glibc(name: str) -> Callable[..., Any] | None:
    """A function of the C library; None if it is not glibc's."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None


def find_device(name: str) -> torch.device:
    """The torch device of that name, or for 'auto'; OptionError if this machine lacks it."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(name.split(":")[0], False):
        here = ", ".join(n for n, there in available.items() if there)
        raise OptionError("device", name, f"this machine has {here}. Choose one of these, or auto.")
    try:
        return torch.device(name)
    except RuntimeError:
        raise OptionError("device", name, "expected a number after the colon, such as cuda:0.") from None
