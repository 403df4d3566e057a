"""Executors by name, and the local one, which runs tasks in this process one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from leanet.errors import OptionError
from leanet.experiment.open_run import Run
from leanet.experiment.tasks import Executor, Task, Worker, perform
from leanet.progress import progress_bar

EXECUTORS: dict[str, Callable[[], Executor]] = {}


def register_executor(name: str) -> Callable[[type[Executor]], type[Executor]]:
    """A decorator that registers an executor's class under a name."""

    def register(kind: type[Executor]) -> type[Executor]:
        EXECUTORS[name] = kind
        return kind

    return register


def executor(name: str) -> Executor:
    """A new executor of this name.

    Raises:
        OptionError: there is none.
    """
    if name not in EXECUTORS:
        raise OptionError("executor", name, f"choose from {', '.join(EXECUTORS)}.")
    return EXECUTORS[name]()


@register_executor("local")
class Local:
    """One task after another in this process, or together with the others of `accelerate launch`."""

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
