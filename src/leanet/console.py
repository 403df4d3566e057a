"""The command line's output: log and tables on stdout, progress bars with time left on a terminal's stderr."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from leanet.errors import one_line
from leanet.progress import SetDone, show_progress_by
from leanet.ranks import is_first

# Without markup and emoji: a file's name may be [red]x or :leaves:.
stdout = Console(highlight=False, markup=False, emoji=False, soft_wrap=True, quiet=not is_first())
if not stdout.is_terminal:
    stdout.width = 140  # in a file or a pipe, a table need not fit a screen
stderr = Console(stderr=True, highlight=False, markup=False, emoji=False, quiet=not is_first())

HANGING = "hanging"
"""An attribute of log records with text to wrap: the indent of all lines but the first."""


class _Handler(logging.Handler):
    """Prints what leanet logs."""

    def emit(self, record: logging.LogRecord) -> None:
        hanging: int | None = getattr(record, HANGING, None)
        if hanging is None:
            note(record.getMessage())
        else:
            paragraph(record.getMessage(), hanging)


def show_log() -> None:
    """Print leanet's log to stdout, and show progress; a second call has no effect."""
    log = logging.getLogger("leanet")
    if not any(isinstance(handler, _Handler) for handler in log.handlers):
        log.addHandler(_Handler())
        log.setLevel(logging.INFO)
        log.propagate = False
    show_progress_by(bar)


def note(text: str) -> None:
    """Print a line for the user on stdout, even if it is not a terminal."""
    stdout.print("\n".join(map(one_line, text.split("\n"))))


def heading(text: str) -> None:
    """Print a heading, after an empty line."""
    stdout.print()
    stdout.print(one_line(text), style="bold")


def paragraph(text: str, hanging: int = 2) -> None:
    """Print text wrapped to the terminal's width, with all lines but the first indented."""
    lines = textwrap.wrap(
        one_line(text),
        stdout.width,
        subsequent_indent=" " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
    stdout.print("\n".join(lines))


@contextmanager
def bar(title: str, total: int) -> Iterator[SetDone]:
    """Show a bar with the time left; nothing if stderr is not a terminal that can redraw a line."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left", markup=False),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_interactive) as progress:
        task = progress.add_task(title, total=total)

        def set_done(done: int, now: str) -> None:
            progress.update(task, completed=done, description=one_line(f"{title} {now}"))

        yield set_done
