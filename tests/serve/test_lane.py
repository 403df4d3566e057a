"""Clients take turns by the size of what they bring, and a lane works on no more at once than it has threads."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from weakref import WeakSet

import numpy as np
import pytest

from leanet.serve.lane import FairQueue, Lane, together


def test_every_flow_has_the_same_share_of_the_work_while_it_waits() -> None:
    generator, queue = np.random.default_rng(0), FairQueue[tuple[str, int]]()
    largest = {"small": 3, "medium": 50, "large": 400}
    for flow, most in largest.items():  # one after the other: who came first has no advantage
        for size in generator.integers(1, most + 1, 40_000 // most):
            queue.put(flow, int(size), (flow, int(size)))
    done: Counter[str] = Counter()
    while sum(done.values()) < 30_000:
        flow, size = queue.get()
        done[flow] += size
    for one in largest:
        for other in largest:
            assert abs(done[one] - done[other]) <= largest[one] + largest[other]


def test_who_comes_late_is_neither_behind_nor_ahead_of_the_others() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(100):
        queue.put("a", 10, f"a{number}")
    assert [queue.get() for _ in range(50)] == [f"a{number}" for number in range(50)]
    for number in range(3):
        queue.put("b", 10, f"b{number}")
    assert [queue.get() for _ in range(6)] == ["a50", "b0", "a51", "b1", "a52", "b2"]
    assert len(queue) == 47


def test_flows_that_had_their_turn_are_forgotten() -> None:
    class Client:
        """A flow, equal to itself alone."""

    queue: FairQueue[int] = FairQueue()
    remembered: WeakSet[Client] = WeakSet()
    for number in range(1000):
        client = Client()
        remembered.add(client)
        queue.put(client, 1, number)
        assert queue.get() == number
    assert len(remembered) < 100


class Gate:
    """Work that waits until it is let go, and counts how much of it is done at once."""

    def __init__(self) -> None:
        self.go, self.at_once, self.most = threading.Event(), 0, 0
        self.batches: list[list[str]] = []
        self._lock = threading.Lock()

    def __call__(self, batch: Sequence[str]) -> list[str]:
        with self._lock:
            self.batches.append(list(batch))
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        assert self.go.wait(30)
        with self._lock:
            self.at_once -= 1
        return [item.upper() for item in batch]


def test_a_lane_keeps_to_its_threads_and_batches_and_answers_each_its_own() -> None:
    async def ask() -> list[str]:
        lane = Lane("test", work, threads=2, batch=4)
        asking = asyncio.ensure_future(together([lane.answer("flow", 1, item) for item in "abcdefghijk"]))
        await asyncio.sleep(0.05)
        work.go.set()
        return await asking

    work = Gate()
    assert asyncio.run(ask()) == list("ABCDEFGHIJK")
    assert work.most == 2
    assert sorted(len(batch) for batch in work.batches) == [3, 4, 4]


def test_what_is_given_up_before_its_turn_is_not_worked_on() -> None:
    async def ask() -> str:
        lane = Lane("test", work)
        first = asyncio.ensure_future(lane.answer("flow", 1, "first"))
        await asyncio.sleep(0.05)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await lane.answer("flow", 1, "given up")
        last = asyncio.ensure_future(lane.answer("flow", 1, "last"))
        first.cancel()  # its thread goes on; the next has to wait for it
        await asyncio.sleep(0.05)
        assert work.batches == [["first"]]
        work.go.set()
        return await last

    work = Gate()
    assert asyncio.run(ask()) == "LAST"
    assert work.batches == [["first"], ["last"]]


def test_an_error_is_told_to_those_it_concerns_and_the_lane_goes_on() -> None:
    def work(batch: Sequence[int]) -> list[float]:
        return [1 / item for item in batch]

    async def ask() -> list[float]:
        lane = Lane("test", work)
        with pytest.raises(ZeroDivisionError):
            await together([lane.answer("flow", 1, item) for item in (1, 0, 2)])
        return await together([lane.answer("flow", 1, item) for item in (1, 2)])

    assert asyncio.run(ask()) == [1, 0.5]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
def test_threads_that_yield_leave_the_processors_to_the_others() -> None:
    def niceness(items: Sequence[int]) -> list[int]:
        return [os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) for _ in items]

    async def both() -> tuple[int, int]:
        usual, yielding = Lane("usual", niceness), Lane("yielding", niceness, yielding=True)
        return await usual.answer("a", 1, 0), await yielding.answer("a", 1, 0)

    usual, yielding = asyncio.run(both())
    assert usual == niceness([0])[0]
    assert yielding > usual
