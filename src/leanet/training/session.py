"""The context of a training, and the networks that trainings in one process share."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from torch import nn

from leanet.config import RecipeName
from leanet.training.checkpoint import Checkpoint
from leanet.training.compute import Compute
from leanet.training.loop import Engine, Loss


@dataclass
class Engines:
    """The process's networks, each placed and compiled once for all trainings that differ only in data."""

    _made: dict[Hashable, Engine] = field(default_factory=dict)
    _of_parts: dict[str, Engines] = field(default_factory=dict)

    def get(self, key: Hashable, build: Callable[[], nn.Module], loss: Loss, compute: Compute) -> Engine:
        """The engine for this key, built on first use; only the latest is kept.

        Args:
            key: identifies this network and its loss.
            build, loss, compute: the arguments of `Engine`.
        """
        key = key, compute
        if key not in self._made:
            self._made = {key: Engine(build, loss, compute)}
        return self._made[key]

    def of_part(self, name: str) -> Engines:
        """The networks of one of several parts that are trained in turn, each of which keeps its latest."""
        return self._of_parts.setdefault(name, Engines())


@dataclass(frozen=True)
class Session:
    """The context of one training.

    Attributes:
        recipe: name of the recipe.
        compute: device, precision, compilation.
        seed: seeds initial weights, order and augmentation.
        checkpoint: holds the state until the training is finished.
        on_images: called after each step with its number of images and its loss.
        engines: networks shared with other trainings.
    """

    recipe: RecipeName
    compute: Compute
    seed: int
    checkpoint: Checkpoint
    on_images: Callable[[int, float], None]
    engines: Engines
