"""What a model keeps of the images it was trained on: their hashes, and their place among each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from leanet.errors import DamagedError
from leanet.training.checkpoint import read_safetensors, save_weights

TRAINING = "training.safetensors"
"""The file's name in a model's folder."""


@dataclass(frozen=True)
class Known:
    """The images that a model was trained on.

    Attributes:
        sha256: of each file, 64 hexadecimal digits.
        components: float32 (K, C), of each labeled image, see `Result.components`.
    """

    sha256: Sequence[str]
    components: NDArray[np.float32]


def write_known(folder: Path, known: Known) -> None:
    """Write the file into a model's folder."""
    holder = nn.Module()
    digests = np.frombuffer(bytes.fromhex("".join(known.sha256)), dtype=np.uint8).reshape(-1, 32)
    holder.register_buffer("sha256", torch.from_numpy(digests.copy()))
    holder.register_buffer("components", torch.from_numpy(known.components))
    save_weights(holder, folder / TRAINING)


def read_known(folder: Path) -> Known | None:
    """What a model's folder says; None if there is nothing, as in a model without head or of an earlier version.

    Raises:
        DamagedError: the file is damaged.
    """
    path = folder / TRAINING
    if not path.exists():
        return None
    try:
        tensors = read_safetensors(path)[1]
        hashes = [bytes(row.tolist()).hex() for row in tensors["sha256"]]
        return Known(hashes, tensors["components"].float().numpy())
    except (KeyError, TypeError, ValueError):
        raise DamagedError(path, "damaged. Make the model again.") from None
