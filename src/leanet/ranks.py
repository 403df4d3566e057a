"""The number of this process among the processes of one training, which `accelerate launch` sets."""

from __future__ import annotations

import os


def count() -> int:
    """How many processes the training has."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this process is the first, which writes files and prints."""
    return rank() == 0
