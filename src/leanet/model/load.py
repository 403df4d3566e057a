"""Load a model from its folder or an exported file; only a folder needs torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from leanet.config import ComputeConfig, Precision
from leanet.errors import OptionError, UserError
from leanet.model.anomaly_model import AnomalyModel
from leanet.model.exported import is_exported, load_exported

if TYPE_CHECKING:
    import torch

COMPILE_PAYS_FROM = 4000
"""From this many images on, compiling the color functions (about twenty seconds) saves time."""


def load(
    path: str | os.PathLike[str],
    *,
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
    images: int = 0,
    at_once: int = 1,
) -> AnomalyModel:
    """Load a model.

    Args:
        path: folder that `leanet fit` or `leanet import-authors` made, or an .onnx or .xml file of `leanet export`.
        device: 'cpu', 'cuda', 'mps', or 'auto' for CUDA or MPS if present. Exported files run on the CPU only.
        precision: 'float32' ('auto' is the same), or 'bfloat16', which is faster if the processor has it in
            hardware, but less exact. An exported file has its own.
        images: number of images to predict, if known: for thousands, the color functions are compiled.
        at_once: threads of the caller that will predict at once. With several, a prediction of a model folder
            computes on one processor, as all of PyTorch in this process then does. No effect on a GPU.
    Raises:
        OptionError: a device that this machine lacks, or a device or precision that an exported file cannot use.
        UserError: no model there, a damaged one, or a missing library.
    """
    try:
        place = Path(path)
    except TypeError:
        raise OptionError("path", path, "expected a model folder or an exported file.") from None
    if precision not in get_args(Precision):
        raise OptionError("precision", precision, "expected 'float32' or 'bfloat16'.")
    if is_exported(place):
        refuse_for_exported(place, str(device), precision)
        return load_exported(place, at_once)
    if not _exists(place):  # before torch is imported
        raise UserError(f"{place}: not a model folder: no such file or folder. Name one that `leanet fit` made.")
    from leanet.model.model import load as load_folder

    compiled: Literal["on", "off"] = "on" if images >= COMPILE_PAYS_FROM else "off"
    return load_folder(place, ComputeConfig(device=str(device), precision=precision, compile=compiled), at_once)


def refuse_for_exported(file: Path, device: str, precision: Precision) -> None:
    """Raise OptionError if an exported file cannot use the device or the precision."""
    if device not in ("auto", "cpu"):
        raise OptionError("device", device, f"{file} is computed on the CPU. Leave it out, or name a model folder.")
    if precision == "bfloat16":
        raise OptionError("precision", precision, f"{file} has its own. Leave it out, or name a model folder.")


def _exists(place: Path) -> bool:
    """Whether the path exists; a name that is too long does not."""
    try:
        return place.exists()
    except OSError:
        return False
