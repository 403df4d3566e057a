"""The unit of work of an experiment, and what one process has open while it does such work."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from leanet.errors import UserError
from leanet.experiment.open_run import FREE_TO_CHANGE, Run, find
from leanet.training.compute import Compute
from leanet.training.session import Engines

OnImages = Callable[[int, str], None]
"""on_images(images since the last call, what is being done)"""


def _nothing(_images: int, _what: str) -> None:
    return


@dataclass
class Worker:
    """What a process has open: runs by their folders, and networks placed and compiled.

    Attributes:
        runs: runs that are open; others are opened when a task asks for them.
        on_images: called as a training goes on.
        engines: networks that are shared by trainings that differ in data alone.
    """

    runs: dict[Path, Run] = field(default_factory=dict)
    on_images: OnImages = _nothing
    engines: Engines = field(default_factory=Engines)

    def run_at(self, path: Path) -> Run:
        """The run in a folder."""
        if path not in self.runs:
            self.runs[path] = find(path)
        return self.runs[path]


class Task(Protocol):
    """Plain data that pickles small: what to do, in which folder, with which options.

    A task writes into a folder of its own, renames what is complete into place, and may be done again.
    Tasks draw from the process's random numbers: a process does one at a time.
    """

    @property
    def key(self) -> str:
        """A readable name, unique in a plan: 'fold 0: colorizer'."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the tasks that must be done before."""
        ...

    def cost(self, worker: Worker) -> int:
        """Images that a training sees, each counted as often as it is seen; 0 without a training."""
        ...

    def done(self, worker: Worker) -> bool:
        """Whether what it makes is on the disk, and whole."""
        ...

    def run(self, worker: Worker) -> None:
        """Do it.

        Raises:
            UserError: what a user can mend.
        """
        ...


class Executor(Protocol):
    """Decides where tasks run."""

    def execute(self, tasks: Sequence[Task], runs: Sequence[Run], title: str) -> None:
        """Do the tasks that are not done, each after those it needs.

        Args:
            tasks: in an order in which one process can do them.
            runs: the runs that they work on, open; another process opens them from their folders.
            title: what they are, for the progress.
        Raises:
            UserError: what a task raised.
        """
        ...


def perform(task: Task, worker: Worker) -> None:
    """Do a task; an error that is no user's mistake bears a note that names it."""
    try:
        task.run(worker)
    except UserError:
        raise
    except Exception as error:
        error.add_note(f"in the task '{task.key}'")
        raise


def fingerprint_of(options: dict[str, Any], run: Run, rows: NDArray[np.int64], compute: Compute) -> str:
    """A hash of everything that a training depends on, to recognize its checkpoint by."""
    kept = sorted((k, str(v)) for k, v in options.items() if k not in FREE_TO_CHANGE)
    images = [run.images[row].sha256 for row in rows]
    return hashlib.sha256(repr((kept, images, str(compute))).encode()).hexdigest()
