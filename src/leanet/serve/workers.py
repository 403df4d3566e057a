"""Several processes that answer on one port; a process that dies is replaced."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from prometheus_client.multiprocess import mark_process_dead

from leanet.errors import UserError
from leanet.serve.metrics import FOLDER

_log = logging.getLogger(__name__)

READY = ""
"""What a process sends once it answers; anything else is the reason why it cannot."""

LOOK = 0.2
"""Seconds between two looks at the signals that came."""

AFTERWARDS = 10.0
"""Seconds beyond the time for requests that a process has to end."""

Work = Callable[[Connection], None]
"""What a process does; it sends READY, or the reason why it cannot start, and answers until SIGTERM."""


class _Worker:
    def __init__(self, work: Work) -> None:
        self._here, there = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("spawn")  # neither PyTorch nor ONNX Runtime survives a fork
        self.process: SpawnProcess = context.Process(target=_run, args=(work, there))
        self.process.start()
        there.close()
        self.ready = False

    def look(self) -> None:
        """Take note of what the process said.

        Raises:
            UserError: it cannot start.
        """
        if self.ready or not self._here.poll():
            return
        try:
            said = self._here.recv()
        except EOFError:
            said = f"a process of the service ended before it answered (exit code {self._exit_code()})."
        if said != READY:
            raise UserError(said)
        self.ready = True

    def _exit_code(self) -> int | None:
        self.process.join(AFTERWARDS)
        return self.process.exitcode


def _run(work: Work, told: Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C reaches all processes of a terminal
        work(told)


def _end_with_parent() -> None:
    """End this process when its parent is gone: it would hold the port for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


class _Signals:
    """The signals that came within a context, where they have no other effect."""

    def __enter__(self) -> _Signals:
        self.came: list[int] = []
        self._before = {one: signal.signal(one, self._note) for one in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)

    def _note(self, number: int, _frame: object) -> None:
        self.came.append(number)


def supervise(count: int, work: Work, seconds: float, on_ready: Callable[[], None]) -> int:
    """Run `count` processes until SIGTERM or Ctrl-C, which they are sent too.

    Args:
        count: how many.
        work: what each does; it is pickled.
        seconds: that a process has for the requests inside it.
        on_ready: called when all answer.
    Raises:
        UserError: a process cannot start.
        KeyboardInterrupt: Ctrl-C; the processes have ended.
    """
    workers: list[_Worker] = []
    with _shared_numbers(), _Signals() as signals:
        try:
            workers += [_Worker(work) for _ in range(count)]
            told = False
            while not signals.came:
                wait([worker.process.sentinel for worker in workers], LOOK)
                _renew(workers, work)
                if not told and all(worker.ready for worker in workers):
                    told = True
                    on_ready()
        finally:
            _end(workers, seconds + AFTERWARDS, signals)
    if signals.came[0] == signal.SIGINT:
        raise KeyboardInterrupt
    return 0


def _renew(workers: list[_Worker], work: Work) -> None:
    """Replace the processes that died after they had answered."""
    for i, worker in enumerate(workers):
        worker.look()
        if not worker.process.is_alive():
            _log.info(f"a process of the service died (exit code {worker.process.exitcode}); another one starts")
            _forget(worker)
            workers[i] = _Worker(work)


def _end(workers: Sequence[_Worker], seconds: float, signals: _Signals) -> None:
    """Let the processes finish their answers; kill those that take too long, or all after a second signal."""
    for worker in workers:
        worker.process.terminate()
    until = time.monotonic() + seconds
    while time.monotonic() < until and len(signals.came) < 2:
        if not (alive := [worker.process.sentinel for worker in workers if worker.process.is_alive()]):
            break
        wait(alive, LOOK)
    for worker in workers:
        worker.process.kill()
        worker.process.join()


def _forget(worker: _Worker) -> None:
    """Leave what a dead process had waiting out of the numbers."""
    mark_process_dead(worker.process.pid, os.environ[FOLDER])  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _shared_numbers() -> Iterator[None]:
    """Name a new folder where the processes that start within the context share their numbers."""
    before = os.environ.get(FOLDER)
    with tempfile.TemporaryDirectory(prefix="leanet-metrics-") as folder:
        os.environ[FOLDER] = folder
        try:
            yield
        finally:
            os.environ.pop(FOLDER)
            if before is not None:
                os.environ[FOLDER] = before
