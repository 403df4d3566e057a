"""Progress of long work, shown only if a program sets a display, as the command line does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

SetDone = Callable[[int, str], None]
"""set_done(total units done, the current work)"""

Bar = Callable[[str, int], AbstractContextManager[SetDone]]
"""bar(title, total units): a context that shows progress."""


@contextmanager
def unseen(_title: str, _total: int) -> Iterator[SetDone]:
    """Show nothing."""
    yield lambda _done, _now: None


_shown: list[Bar] = [unseen]


def show_progress_by(bar: Bar) -> None:
    """Show this process's progress with such bars."""
    _shown[0] = bar


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[SetDone]:
    """Show the progress of some work."""
    with _shown[0](title, total) as set_done:
        yield set_done
