"""What a user is meant to read: errors in one line, what to do about a missing extra, text fit for a terminal."""

from __future__ import annotations

import re
from pathlib import Path

LONGEST = 900
"""Characters of a message."""


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one line: the file or option, the limit, the remedy. The command line prints it without a
    traceback and exits with code 2. Names from files, which may hold anything, are made fit for that.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_cut(one_line(message)))

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
        self._option = _cut(one_line(f"--{name.replace('_', '-')} {value}: {remedy}"))

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


def one_line(text: str) -> str:
    """Text as one line that steers no terminal: control characters, in a file's name say, as Python writes them."""
    return _STEERING.sub(lambda found: _escaped(found[0]), text)


def _cut(line: str) -> str:
    """A line without the middle of a very long one."""
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 3 :]}"


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode()


# C0 and C1, line and paragraph separators, marks that turn the direction of writing, surrogates
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def install(extra: str) -> str:
    """The remedy for a library of an extra that is missing: leanet is installed from a copy of its repository."""
    return f'In a copy of the repository: pip install -c constraints.txt -e ".[{extra}]"'
