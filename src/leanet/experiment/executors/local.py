"""The local executor: tasks in this process, one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from leanet.config import ComputeConfig
from leanet.experiment.executors.registry import refuse_options, register_executor
from leanet.experiment.open_run import Run
from leanet.experiment.tasks import Task, Worker, perform
from leanet.progress import progress_bar


@register_executor("local")
class Local:
    """One task after another in this process, or together with the others of `accelerate launch`."""

    at_once = False

    def __init__(self, compute: ComputeConfig) -> None:
        either = "--executor processes or --executor ray"
        only_ray = dict.fromkeys(("address", "num_gpus"), "--executor ray")
        refuse_options(compute, only_ray | dict.fromkeys(("num_cpus", "memory"), either))

    def execute(self, tasks: Sequence[Task], runs: Sequence[Run], title: str) -> None:
        """See `Executor`."""
        worker = Worker({run.folder.path: run for run in runs})
        costs = [task.cost(worker) for task in tasks]
        with progress_bar(title, sum(costs)) as set_done:
            for i, task in enumerate(tasks):
                if not task.done(worker):
                    worker.on_images = _counted(set_done, sum(costs[:i]))
                    perform(task, worker)


def _counted(set_done: Callable[[int, str], None], before: int) -> Callable[[int, str], None]:
    """Progress of one task as progress of all of them."""
    done = before

    def on_images(images: int, what: str) -> None:
        nonlocal done
        done += images
        set_done(done, what)

    return on_images
