"""Process files in a few threads: decoding and hashing release the GIL."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

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
