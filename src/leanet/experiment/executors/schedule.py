"""Tasks at the same time, each after those it needs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Protocol

from leanet.errors import UserError
from leanet.experiment.executors.elsewhere import Outcome, Report
from leanet.experiment.open_run import Run
from leanet.experiment.tasks import Task, Worker
from leanet.progress import SetDone, progress_bar

_log = logging.getLogger(__name__)

PERIOD = 0.2
"""Seconds between two looks at the reports."""


class Place(Protocol):
    """Where tasks run."""

    def start(self, number: int, task: Task) -> Future[Outcome]:
        """Start a task, or queue it."""
        ...

    def most(self) -> int:
        """The largest number of tasks to have started at once."""
        ...

    def reports(self) -> Iterable[Report]:
        """The reports since the last call, without waiting for more."""
        ...


def run_in_order(tasks: Sequence[Task], runs: Sequence[Run], title: str, place: Place) -> None:
    """Run the tasks, each after those before it that it needs or that have its key.

    After an error no further task starts; those that run are waited for, and their results stay.

    Raises:
        UserError: the first error of a task.
    """
    needs = [_needs(tasks, number) for number in range(len(tasks))]
    waiting, running = list(range(len(tasks))), dict[Future[Outcome], int]()
    shown, say, error = _Shown(tasks, runs), _Say(), None
    with progress_bar(title, shown.total) as set_done:
        while running or waiting:
            ready = [number for number in waiting if not needs[number]]
            for number in ready[: max(0, place.most() - len(running))]:
                waiting.remove(number)
                running[place.start(number, tasks[number])] = number
            finished, _ = wait(running, PERIOD, FIRST_COMPLETED)
            for future in finished:
                number, outcome = running.pop(future), future.result()
                say(outcome.lines)
                if outcome.error:
                    error, waiting = error or f"{tasks[number].key}: {outcome.error}", []
                shown.finished(number)
                needs = [others - {number} for others in needs]
            shown.show(place.reports(), set_done, len(running))
    if error:
        raise UserError(error)


def _needs(tasks: Sequence[Task], number: int) -> set[int]:
    """The tasks that one waits for."""
    task = tasks[number]
    return {i for i in range(number) if tasks[i].key in (task.key, *task.needs)}


class _Say:
    """Logs the lines of tasks; a note that several processes make, once."""

    def __init__(self) -> None:
        self._notes: set[str] = set()

    def __call__(self, lines: Iterable[str]) -> None:
        for line in lines:
            if line not in self._notes:
                _log.info(line)
            if line.startswith("note:"):
                self._notes.add(line)


class _Shown:
    """One progress for all tasks."""

    def __init__(self, tasks: Sequence[Task], runs: Sequence[Run]) -> None:
        worker = Worker({run.folder.path: run for run in runs})
        self._costs = [task.cost(worker) for task in tasks]
        self._done = [0] * len(tasks)
        self._what = ""
        self.total = sum(self._costs)

    def finished(self, number: int) -> None:
        """Count a task in full."""
        self._done[number] = self._costs[number]

    def show(self, reports: Iterable[Report], set_done: SetDone, running: int) -> None:
        """Take reports in, and show the sum with the latest of them."""
        for number, images, what in reports:
            self._done[number] = max(self._done[number], min(images, self._costs[number]))
            self._what = what
        others = f", and {running - 1} more" if running > 1 else ""
        set_done(sum(self._done), self._what + others)
