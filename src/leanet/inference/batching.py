"""Images of many clients, predicted together: whoever comes while a batch is at work is in the next one."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leanet.inference.exported import Predictor
from leanet.inference.result import Result

BATCH = 16


@dataclass(frozen=True)
class _Waiting:
    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    paint: bool
    result: asyncio.Future[Result]


class Batcher:
    """A queue in front of a model; `run` must be running in the same event loop.

    Args:
        model: what to ask; it is only ever asked from one thread.
    """

    def __init__(self, model: Predictor) -> None:
        self._model = model
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()

    async def predict(self, pixels: NDArray[np.uint8], size: tuple[int, int], *, paint: bool) -> Result:
        """Classify an image.

        Args:
            pixels: uint8 (S, S, 3), resized before so that what waits is small.
            size: height and width that the box is meant for.
            paint: whether the recoloured image is wanted.
        """
        waiting = _Waiting(pixels, size, paint, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(waiting)
        return await waiting.result

    async def run(self) -> None:
        """Predict what waits, for ever."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "predict") as thread:
            while True:
                batch = [await self._queue.get()]
                while len(batch) < BATCH and not self._queue.empty():
                    batch.append(self._queue.get_nowait())
                wanted = [w for w in batch if not w.result.cancelled()]
                if not wanted:
                    continue
                ask = functools.partial(
                    self._model.predict_pixels,
                    [w.pixels for w in wanted],
                    sizes=[w.size for w in wanted],
                    paint=any(w.paint for w in wanted),
                )
                try:
                    results = await loop.run_in_executor(thread, ask)
                except Exception as error:  # theirs to answer for, not the end of the service
                    _fail(wanted, error)
                    continue
                for w, result in zip(wanted, results, strict=True):
                    if not w.result.cancelled():
                        w.result.set_result(result)


def _fail(batch: list[_Waiting], error: Exception) -> None:
    for waiting in batch:
        if not waiting.result.cancelled():
            waiting.result.set_exception(error)
