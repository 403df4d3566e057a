"""What a user got wrong or has to know of, in one line, and how to install an extra."""

from __future__ import annotations

from pathlib import Path

LONGEST = 900
"""Characters of a message."""


def one_line(message: str) -> str:
    """A message that can be printed: other characters are escaped, and the middle of a very long one left out."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 3 :]}"


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one line: the file or option, the limit, the remedy. The command line prints it without a
    traceback and exits with code 2. Names from files, which may hold anything, are made fit for that.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))

    @property
    def on_command_line(self) -> str:
        """The message as the command line prints it."""
        return str(self)


class OptionError(UserError):
    """A value that an option does not take; Python callers read the argument's name, the command line its option's.

    Args:
        name: of the argument, such as `image_size`, which is the option `--image-size`.
        value: what was given.
        remedy: the limit and what to do.
    """

    def __init__(self, name: str, value: object, remedy: str) -> None:
        super().__init__(f"{name} {value}: {remedy}")
        self._option = one_line(f"--{name.replace('_', '-')} {value}: {remedy}")

    @property
    def on_command_line(self) -> str:
        return self._option


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
