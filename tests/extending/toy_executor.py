"""An executor, registered from outside the package: a pool of one thread, apart from the caller's."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import current_thread

from leanet import ComputeConfig, register_executor
from leanet.experiment.open_run import Run
from leanet.experiment.tasks import Task, Worker, perform

USED: list[tuple[str, str]] = []
"""The thread and the key of each task that was done."""


@register_executor("pool")
class Pool:
    """Tasks draw from the random numbers of the process: one is done at a time."""

    at_once = False

    def __init__(self, _compute: ComputeConfig) -> None: ...

    def execute(self, tasks: Sequence[Task], runs: Sequence[Run], title: str) -> None:
        """Hand the tasks to the thread in their order."""
        worker = Worker({run.folder.path: run for run in runs})

        def work(task: Task) -> None:
            if not task.done(worker):
                perform(task, worker)
                USED.append((current_thread().name, task.key))

        with ThreadPoolExecutor(1, thread_name_prefix=title) as pool:
            list(pool.map(work, tasks))
