"""The process's number among the processes of one training, which `accelerate launch` sets."""

from __future__ import annotations

import os


def count() -> int:
    """The number of processes in the training."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this is the first process, which writes files and prints."""
    return rank() == 0
