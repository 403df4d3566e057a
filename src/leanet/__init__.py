"""leanet: colour anomaly detection with LEA-Net (Katafuchi & Tokunaga, arXiv 2109.05493)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

    from leanet.model.anomaly_model import AnomalyModel

__version__ = "0.1.0"


def load(
    path: str | os.PathLike[str],
    *,
    device: str | torch.device = "cpu",
    precision: Literal["float32", "bfloat16"] = "float32",
) -> AnomalyModel:
    """A trained model, from its folder or from an exported file.

    Args:
        path: folder that `leanet fit` or `leanet import-authors` made, or an .onnx or .xml file of `leanet export`,
            which needs no torch.
        device: 'cpu', 'cuda', 'mps', or 'auto' for CUDA or MPS where present; exported files take the CPU alone.
        precision: 'float32', or, of a folder, 'bfloat16': faster where the processor has it, and coarser.
    Raises:
        leanet.errors.UserError: no model there, a damaged one, a missing library, or a device or precision that
            this machine or the file does not have.
    """
    from leanet.model.load import load as load_model  # torch is heavy, and --help must be instant

    return load_model(path, device=device, precision=precision)
