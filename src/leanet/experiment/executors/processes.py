"""Several tasks at a time on this machine, each in a process of its own."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from leanet.cluster import at_a_time
from leanet.config import ComputeConfig
from leanet.data.threads import processors
from leanet.errors import UserError
from leanet.experiment.executors.elsewhere import Job, Outcome, Report, perform_alone
from leanet.experiment.executors.registry import refuse_options, register_executor
from leanet.experiment.executors.schedule import run_in_order
from leanet.experiment.open_run import Run
from leanet.experiment.tasks import Task

_log = logging.getLogger(__name__)

_SPAWN = multiprocessing.get_context("spawn")  # a fork of a process that has computed hangs in OpenMP


@register_executor("processes")
class Processes:
    """As many tasks at a time as there are cores and memory for; each computes with `num_cpus` threads."""

    at_once = True

    def __init__(self, compute: ComputeConfig) -> None:
        refuse_options(compute, dict.fromkeys(("address", "num_gpus"), "--executor ray"))
        self._threads, self._memory = compute.num_cpus or 1, compute.memory

    def execute(self, tasks: Sequence[Task], runs: Sequence[Run], title: str) -> None:
        """See `Executor`."""
        pool = _pool_of(self._slots())
        _log.info(f"{title}: {at_a_time(min(len(tasks), pool.slots), self._threads)}")
        pool.job = Job.here(runs, self._threads)
        pool.reports()  # of an earlier call
        try:
            run_in_order(tasks, runs, title, pool)
        except BrokenProcessPool:
            pool.stop()
            raise UserError(
                f"{title}: a process was killed, perhaps for its memory. Set --memory, and run the command again."
            ) from None
        except UserError:
            raise
        except BaseException:
            pool.stop()
            raise

    def _slots(self) -> int:
        """Tasks that cores and memory suffice for, at least one."""
        slots = processors() // self._threads
        if self._memory and (free := free_memory()):
            slots = min(slots, int(free / 1e9 / self._memory))
        return max(1, slots)


class _Pool:
    """A `Place`: processes that start when they are needed, and stay for later calls."""

    job: Job

    def __init__(self, slots: int) -> None:
        self.slots, self._reports = slots, _SPAWN.SimpleQueue()
        self._pool = ProcessPoolExecutor(slots, _SPAWN, _begin, (self._reports,))
        self._others = set(multiprocessing.active_children())

    def start(self, number: int, task: Task) -> Future[Outcome]:
        return self._pool.submit(_perform, number, task, self.job)

    def most(self) -> int:
        return self.slots

    def reports(self) -> list[Report]:
        found = []
        while not self._reports.empty():
            found.append(self._reports.get())
        return found

    def stop(self) -> None:
        """End the processes at once; `shutdown` alone would wait for a training to end."""
        _pools.clear()
        for process in set(multiprocessing.active_children()) - self._others:
            process.terminate()
        self._pool.shutdown()


_pools: dict[int, _Pool] = {}
"""The pool in use, by its number of processes: each takes seconds to import what it needs."""


def _pool_of(slots: int) -> _Pool:
    """A pool of so many processes, in place of one of another number."""
    if slots not in _pools:
        for other in list(_pools.values()):
            other.stop()
        _pools[slots] = _Pool(slots)
    return _pools[slots]


_send: list[Callable[[Report], object]] = []
"""In a process of the pool: what sends a report."""


def _begin(reports: Any) -> None:
    """Prepare a process of the pool."""
    _send.append(reports.put)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process if the one that started it is killed: it holds the lock of the run folder."""
    parent = multiprocessing.parent_process()
    if parent:
        wait([parent.sentinel])
        os._exit(1)


def _perform(number: int, task: Task, job: Job) -> Outcome:
    return perform_alone(number, task, job, _send[0])


def free_memory() -> int | None:
    """Bytes that programs can have without swapping; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
