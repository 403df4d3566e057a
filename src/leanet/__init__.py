"""leanet: colour anomaly detection with LEA-Net (Katafuchi & Tokunaga, arXiv 2109.05493)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leanet.inference.model import Model

__version__ = "0.1.0"


def load(folder: str | Path) -> Model:
    """A trained model from its folder; see `leanet.inference.model.load`."""
    from leanet.inference.model import load as load_model  # torch is heavy, and --help must be instant

    return load_model(Path(folder))
