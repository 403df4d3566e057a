"""Process files in a few threads: decoding and hashing release the GIL."""

import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
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
