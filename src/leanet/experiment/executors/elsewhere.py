"""A task in another process, perhaps on another machine: what is sent there, and what comes back."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from leanet.errors import UserError, about_file
from leanet.experiment.open_run import Run
from leanet.experiment.tasks import Task, Worker, perform
from leanet.files import OWN
from leanet.lock import alone_in
from leanet.training.session import Engines

REPORT_SECONDS = 0.5
"""Least time between two reports of a task's progress."""

Report = tuple[int, int, str]
"""Number of the task, images that it has processed, what is being done."""

_ENGINES = Engines()
"""This process's networks, for one task after another."""


@dataclass(frozen=True)
class Job:
    """What all tasks of a call need besides themselves.

    Attributes:
        runs: the open runs that the tasks work on.
        threads: number of threads to compute with.
        directory: the caller's, to which relative paths refer.
    """

    runs: tuple[Run, ...]
    threads: int
    directory: str

    @classmethod
    def here(cls, runs: Sequence[Run], threads: int) -> Job:
        """The job of a caller in this process."""
        return cls(tuple(runs), threads, str(Path.cwd()))


@dataclass(frozen=True)
class Outcome:
    """What comes back from a task; its results are on disk.

    Attributes:
        lines: what it logged.
        error: a mistake that the user can correct, in one line; None if the task is done.
    """

    lines: tuple[str, ...]
    error: str | None = None


def perform_alone(number: int, task: Task, job: Job, send: Callable[[Report], object]) -> Outcome:
    """Run a task in this process, unless it is done.

    A lock keeps a second copy of the task waiting, which then finds it done: a caller that lost a machine starts
    the task again, but that machine may still be at work.

    Args:
        number: of the task, for its reports.
        send: sends a report.
    """
    with contextlib.suppress(OSError):  # relative paths would be missing, and a check has named them
        os.chdir(job.directory)
    torch.set_num_threads(job.threads)
    folder = job.runs[0].folder.path
    lines: list[str] = []
    lock = f"{OWN}task-{hashlib.sha256(task.key.encode()).hexdigest()[:12]}"
    worker = Worker({run.folder.path: run for run in job.runs}, _reporter(number, send), _ENGINES)
    with threadpool_limits(job.threads), _logged_to(lines):
        try:
            with alone_in(folder, wait=True, name=lock):
                if not task.done(worker):
                    perform(task, worker)
        except UserError as error:
            return Outcome(tuple(lines), str(error))
        except OSError as error:
            if (said := about_file(error)) is None:
                raise
            return Outcome(tuple(lines), said)
    return Outcome(tuple(lines))


def _reporter(number: int, send: Callable[[Report], object]) -> Callable[[int, str], None]:
    """Add up a task's images, and report them from time to time."""
    done, reported = 0, 0.0

    def on_images(images: int, what: str) -> None:
        nonlocal done, reported
        done += images
        if time.monotonic() - reported >= REPORT_SECONDS:
            reported = time.monotonic()
            send((number, done, what))

    return on_images


class _Lines(logging.Handler):
    """Collects what is logged."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())


@contextlib.contextmanager
def _logged_to(lines: list[str]) -> Iterator[None]:
    """Collect what leanet logs."""
    log, handler = logging.getLogger("leanet"), _Lines(lines)
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
