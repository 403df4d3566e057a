"""A fair queue for a few threads: clients take turns, weighted by the size of their work."""

from __future__ import annotations

import asyncio
import functools
import heapq
import itertools
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeAlias, TypeVar

Flow: TypeAlias = Hashable
"""A party that takes turns with others; work within a flow is done in order of arrival."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")
T = TypeVar("T")

_STALE = 64
"""Idle flows to remember; beyond that, those that have had their turn are dropped."""


_NICENESS = 10
"""Niceness of yielding threads: competing for one processor, they get a tenth of the time."""


class FairQueue(Generic[T]):
    """A queue that gives every flow the same share of the work (self-clocked fair queueing).

    An item's stamp is its flow's total work including the item; an idle flow's total starts at the stamp taken
    last. The lowest stamp is taken first. A large item, or a thousand items of one flow, delay another flow by no
    more than that flow's own work.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, T]] = []
        self._stamps: dict[Flow, float] = {}
        self._now = 0.0
        self._number = itertools.count()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, flow: Flow, work: float, item: T) -> None:
        """Queue an item with this much work."""
        stamp = max(self._now, self._stamps.get(flow, 0.0)) + work
        self._stamps[flow] = stamp
        heapq.heappush(self._waiting, (stamp, next(self._number), item))

    def get(self) -> T:
        """Take the next item.

        Raises:
            IndexError: the queue is empty.
        """
        self._now, _, item = heapq.heappop(self._waiting)
        if len(self._stamps) > _STALE + 2 * len(self._waiting):
            self._stamps = {flow: stamp for flow, stamp in self._stamps.items() if stamp > self._now}
        return item


class Lane(Generic[Item, Answer]):
    """Threads and their queue, for use in one event loop.

    Args:
        work: returns the answers to a batch of items, in order; called in one of the threads.
        threads: number of concurrent batches.
        batch: most items in a batch; items that arrive while all threads are busy form a batch.
        yielding: run the threads at low priority, on systems with thread priorities (Linux).
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Item]], Sequence[Answer]],
        *,
        threads: int = 1,
        batch: int = 1,
        yielding: bool = False,
    ) -> None:
        self._work, self._free, self._batch = work, threads, batch
        self._queue: FairQueue[tuple[Item, asyncio.Future[Answer]]] = FairQueue()
        self._threads = ThreadPoolExecutor(threads, name, initializer=_yield_to_others if yielding else None)

    async def answer(self, flow: Flow, size: float, item: Item) -> Answer:
        """Queue an item and wait for its answer; an item canceled before its turn is dropped.

        Raises:
            Exception: any that the work raises.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._queue.put(flow, size, (item, answer))
        loop.call_soon(self._start)  # not at once: items that arrive together form one batch
        return await answer

    def close(self) -> None:
        """Start no further work."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        while self._free and (batch := self._next_batch()):
            self._free -= 1
            working = loop.run_in_executor(self._threads, self._work, [item for item, _ in batch])
            working.add_done_callback(functools.partial(self._hand_out, [answer for _, answer in batch]))

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Answer]]]:
        batch: list[tuple[Item, asyncio.Future[Answer]]] = []
        while self._queue and len(batch) < self._batch:
            item, answer = self._queue.get()
            if not answer.cancelled():
                batch.append((item, answer))
        return batch

    def _hand_out(self, waiting: list[asyncio.Future[Answer]], work: asyncio.Future[Sequence[Answer]]) -> None:
        self._free += 1
        self._start()
        there = [future for future in waiting if not future.cancelled()]
        if work.cancelled():
            for future in there:
                future.cancel()
        elif error := work.exception():
            for future in there:
                future.set_exception(error)
        else:
            for future, answer in zip(waiting, work.result(), strict=True):
                if not future.cancelled():
                    future.set_result(answer)


def _yield_to_others() -> None:
    if sys.platform == "linux":  # elsewhere, niceness applies to the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


async def together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Wait for all coroutines; if one fails, cancel the others.

    Raises:
        Exception: the one that the first failed coroutine raised.
    """
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
