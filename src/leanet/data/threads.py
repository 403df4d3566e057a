"""Process files in a few threads: decoding and hashing release the GIL."""

import math
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
"""A container's limit on processor time: microseconds of a period, or max, and the period."""

THREADS = min(4, max(2, os.cpu_count() or 2))

T = TypeVar("T")
R = TypeVar("R")


def in_threads(
    work: Callable[[T], R], items: Iterable[T], on_progress: Callable[[int], None] | None = None
) -> list[R]:
    """Call `work` for every item in a few threads; the results are in the items' order."""
    pool = ThreadPoolExecutor(THREADS)
    results = []
    try:
        for result in pool.map(work, items):
            results.append(result)
            if on_progress:
                on_progress(len(results))
    finally:
        pool.shutdown(cancel_futures=True)
    return results


def ahead(
    work: Callable[[T], R], items: Iterable[T], most: int, threads: int = THREADS
) -> Generator[tuple[T, R], None, None]:
    """Each item with the result of `work`, in the items' order, while threads work on the following items.

    The items come from a thread of their own, which the caller's work does not hold up.

    Args:
        work: called in the threads. An error is raised here, in place of its item, and so is one of `items`.
        most: items that may be under way or wait for the caller; nothing else is in memory.
        threads: calls of `work` at once.
    """
    made: queue.SimpleQueue[tuple[T, Future[R]] | Exception | None] = queue.SimpleQueue()
    free, is_over = threading.Semaphore(most), threading.Event()
    workers = ThreadPoolExecutor(threads)

    def feed() -> None:
        try:
            remaining = iter(items)
            while free.acquire() and not is_over.is_set():
                try:
                    item = next(remaining)
                except StopIteration:
                    break
                made.put((item, workers.submit(work, item)))
            made.put(None)
        except Exception as error:  # the caller's to handle
            made.put(error)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    try:
        while (found := made.get()) is not None:
            if isinstance(found, Exception):
                raise found
            item, future = found
            yield item, future.result()
            free.release()
    finally:
        is_over.set()
        free.release()
        feeder.join()
        workers.shutdown(cancel_futures=True)


def processors(limit: Path = CPU_MAX) -> int:
    """Processors that this process may keep busy: those it may run on, within its container's limit.

    Args:
        limit: file with the limit of cgroup version 2; Linux has it only in a container or a unit of systemd.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = limit.read_text(encoding="ascii").split()
        return min(there, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or no limit
        return there
