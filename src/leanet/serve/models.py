"""The models of a service: their names, and the queue of each."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from leanet.config import ServeConfig
from leanet.data.decode import decode_bytes, size_of
from leanet.errors import UserError
from leanet.model.anomaly_model import AnomalyModel
from leanet.model.predict_files import Loaded, reduced
from leanet.model.result import Result
from leanet.model.tiles import ByTiles
from leanet.model.where import strength
from leanet.serve.lane import Flow, Lane
from leanet.serve.metrics import Metrics

_NAME = re.compile(r"[\w.-]+", re.ASCII)


def named_models(config: ServeConfig) -> dict[str, Path]:
    """Name -> model folder or file, in the given order; the first one is the default.

    A name is the part before `=` or, without it, the file's stem or the folder's name, or that of a link to them.

    Raises:
        UserError: two models have one name, or a name has other characters than letters, digits, '.', '_', '-'.
    """
    found: dict[str, Path] = {}
    for given in (config.model, *config.more):
        name, path = _name_and_path(given)
        if name in found:
            raise UserError(
                f"{path}: {found[name]} has the name '{name}' already. Give one of them another: NAME={path}."
            )
        found[name] = path
    return found


def _name_and_path(given: Path) -> tuple[str, Path]:
    name, equals, rest = str(given).partition("=")
    if equals and not given.exists():
        if not rest or not _NAME.fullmatch(name):
            raise UserError(f"{given}: expected NAME=MODEL, with a name of letters, digits, '.', '_' and '-'.")
        return name, Path(rest)
    path = Path(os.path.abspath(given))  # noqa: PTH100 - resolve() would give the name of a link's target
    return path.stem if path.is_file() else path.name, given


@dataclass(frozen=True)
class Asked:
    """An image that waits for a model, at the model's size."""

    image: Loaded
    paint: bool


Answered: TypeAlias = tuple[Loaded, Result]
"""An image as its answer needs it, and its result."""


class Served:
    """A model by its name, with the queues of the images that wait for it.

    Args:
        by_tiles: what predicts large images by tiles; None: all images are predicted whole.
        max_pixels: of an image that is predicted by tiles.
    """

    def __init__(
        self, name: str, model: AnomalyModel, metrics: Metrics, by_tiles: ByTiles | None = None, max_pixels: int = 0
    ) -> None:
        self.name, self.model, self._metrics = name, model, metrics
        self.by_tiles, self._max_pixels = by_tiles, max_pixels
        # At low priority: it is a hundred predictions, and others wait for theirs.
        self._large: Lane[bytes, Answered] = Lane(f"tiles-{name}", self._predict_large, yielding=True)
        self._lane: Lane[Asked, Result] = Lane(
            f"predict-{name}", self._predict, threads=model.at_once, batch=max(1, model.together // model.at_once)
        )

    async def warm_up(self) -> None:
        """Predict a black image: the first prediction takes longer."""
        side = self.model.card.image_size
        black = np.zeros((side, side, 3), np.uint8)
        (first,) = await asyncio.to_thread(self.model.predict_pixels, [black], sizes=[(side, side)], paint=True)
        if first.anomaly_map is not None:  # what draws boxes is imported when it is first used
            strength(first.anomaly_map, 1.0)

    async def result(self, flow: Flow, asked: Asked) -> Result:
        """The result of an image, when it is this client's turn."""
        return await self._lane.answer(flow, 1, asked)

    def divides(self, data: bytes) -> bool:
        """Whether an image, by its file's header, is predicted by tiles."""
        size = None if self.by_tiles is None else size_of(data, self._max_pixels)
        return size is not None and self.by_tiles is not None and self.by_tiles.divides(*size)

    async def large_result(self, flow: Flow, size: float, data: bytes) -> Answered:
        """A large image, reduced, and its result by tiles, when it is this client's turn.

        It is decoded then: one decoded image is in memory at a time.

        Raises:
            UnreadableImageError: it cannot be decoded.
        """
        return await self._large.answer(flow, size, data)

    def close(self) -> None:
        """Predict nothing more."""
        self._lane.close()
        self._large.close()

    def _predict_large(self, batch: Sequence[bytes]) -> list[Answered]:
        assert self.by_tiles is not None, "asked before"
        self._metrics.batch(self.name, len(batch))
        found = []
        for data in batch:
            whole = decode_bytes(data, Path("image"), self._max_pixels)
            result = self.by_tiles.predict(whole.pixels)
            found.append((reduced(whole, result), result))
        return found

    def _predict(self, batch: Sequence[Asked]) -> list[Result]:
        self._metrics.batch(self.name, len(batch))
        images = [asked.image for asked in batch]
        return self.model.predict_pixels(
            [image.pixels for image in images],
            sizes=[image.size for image in images],
            paint=any(asked.paint for asked in batch),
        )
