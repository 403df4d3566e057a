"""What a user got wrong or has to know of, in one line, and how to install an extra."""

from __future__ import annotations

from pathlib import Path

LONGEST = 900
"""Characters of a message."""


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one line: the file or option, the limit, the remedy. The command line prints it without a
    traceback and exits with code 2. Names from files may hold anything: what cannot be printed is escaped, and the
    middle of a very long line left out.
    """

    def __init__(self, message: str) -> None:
        line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 3 :]}")


class DamagedError(UserError):
    """A file of a run or a model is not what was written there: cut off, changed, or of another kind.

    A run makes such a file anew where it can, and says so.
    """

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path


def install(extra: str) -> str:
    """The remedy for a library of an extra that is missing: leanet is installed from a copy of its repository."""
    return f'In a copy of the repository: pip install -c constraints.txt -e ".[{extra}]"'
