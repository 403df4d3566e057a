"""Checks that several option classes share; each error names the option, the limit and the remedy."""

from __future__ import annotations

import math

from leanet.errors import OptionError

LEAST_TILE, OVERLAP, MOST_OVERLAP = 32, 0.25, 0.75
"""Of tiles: the smallest side in pixels; how much they overlap without --overlap, and at most, as a share of it."""


def at_least(option: str, value: float, least: float) -> None:
    if not least <= value < math.inf:  # nor nan
        raise OptionError(option, value, f"expected at least {least}.")


def check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise OptionError("seed", seed, f"expected a whole number from 0 to {2**32 - 1}.")


def check_image_size(image_size: int) -> None:
    """Raise UserError unless the side is a multiple of 32 from 64 to 512."""
    if image_size % 32 or not 64 <= image_size <= 512:
        nearest = min(512, max(64, round(image_size / 32) * 32))
        raise OptionError("image_size", image_size, f"expected a multiple of 32 from 64 to 512. Try {nearest}.")


def check_share(num_cpus: int | None, num_gpus: float | None, memory: float | None) -> None:
    """Check what each task asks of a machine; None is the default."""
    for name, value, least in (("num_cpus", num_cpus, 1), ("num_gpus", num_gpus, 0), ("memory", memory, 0.1)):
        if value is not None:
            at_least(name, value, least)


def training_limits(prefix: str, epochs: int | None, batch_size: int | None, lr: float | None) -> None:
    if epochs is not None:
        at_least(f"{prefix}epochs", epochs, 1)
    if batch_size is not None:
        at_least(f"{prefix}batch_size", batch_size, 2)
    if lr is not None and not 0 < lr < 1:
        raise OptionError(f"{prefix}lr", lr, "expected a learning rate between 0 and 1.")


def check_tiles(tile: int | None, overlap: float) -> None:
    """Raise OptionError unless the side of tiles and their overlap are such, or there are no tiles."""
    if tile is None:
        if overlap != OVERLAP:
            raise OptionError("overlap", overlap, "is an option of --tile. Leave it out.")
        return
    at_least("tile", tile, LEAST_TILE)
    if not 0 <= overlap <= MOST_OVERLAP:
        raise OptionError("overlap", overlap, f"expected a share from 0 to {MOST_OVERLAP}.")
