"""The unit of work of an experiment, and the state that one process shares between tasks."""

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
    """State that one process shares between tasks: open runs, and networks placed and compiled.

    Attributes:
        runs: open runs by folder; others are opened when a task needs them.
        on_images: called as a training progresses.
        engines: networks that are shared by trainings that differ only in data.
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

    A task writes into its own folder, renames complete files into place, and may run again.
    Tasks use the process's random generator: a process runs one task at a time.
    """

    @property
    def key(self) -> str:
        """A readable name: 'fold 0: colorizer'. Tasks of one key follow each other."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the tasks that must be done before."""
        ...

    def cost(self, worker: Worker) -> int:
        """Images that it processes; of a training, summed over the epochs."""
        ...

    def done(self, worker: Worker) -> bool:
        """Whether its output is on disk and complete."""
        ...

    def run(self, worker: Worker) -> None:
        """Do the work.

        Raises:
            UserError: a mistake that the user can correct.
        """
        ...


class Executor(Protocol):
    """Decides where tasks run; built with the options of the computation.

    Attributes:
        at_once: whether it takes the tasks of all trainings in one call. If not, they come training by training,
            each with its lines in the log before it.
    """

    at_once: bool

    def execute(self, tasks: Sequence[Task], runs: Sequence[Run], title: str) -> None:
        """Run the unfinished tasks, each after those it needs.

        Args:
            tasks: in an order in which one process can do them.
            runs: the open runs that they work on; another process opens them from their folders.
            title: title of the progress bar.
        Raises:
            UserError: raised by a task.
        """
        ...


def perform(task: Task, worker: Worker) -> None:
    """Run a task; an error other than a user's mistake gets a note that names the task."""
    try:
        task.run(worker)
    except UserError:
        raise
    except Exception as error:
        error.add_note(f"in the task '{task.key}'")
        raise


def fingerprint_of(options: dict[str, Any], run: Run, rows: NDArray[np.int64], compute: Compute) -> str:
    """A hash of everything that a training depends on, to identify its checkpoint."""
    kept = sorted((k, str(v)) for k, v in options.items() if k not in FREE_TO_CHANGE)
    images = [run.images[row].sha256 for row in rows]
    return hashlib.sha256(repr((kept, images, str(compute))).encode()).hexdigest()
