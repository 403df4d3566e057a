"""Which of several processes of one training this is (`accelerate launch` says so in the environment)."""

from __future__ import annotations

import os


def count() -> int:
    """How many processes the training has."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of the process that asks, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether the process that asks is the one that writes files and prints."""
    return rank() == 0
