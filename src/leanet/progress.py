"""Progress of long work; it is shown only if a program sets how, as the command line does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

SetDone = Callable[[int, str], None]
"""set_done(units done in all, what is being done now)"""

Bar = Callable[[str, int], AbstractContextManager[SetDone]]
"""From a title and the units in all to a context in which progress is shown."""


@contextmanager
def unseen(_title: str, _total: int) -> Iterator[SetDone]:
    """Show nothing."""
    yield lambda _done, _now: None


_shown: list[Bar] = [unseen]


def show_progress_by(bar: Bar) -> None:
    """Show all progress of this process by such bars."""
    _shown[0] = bar


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[SetDone]:
    """Show the progress of some work."""
    with _shown[0](title, total) as set_done:
        yield set_done
