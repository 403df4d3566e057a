"""Messages for the user: one-line errors, the remedy for a missing extra, text safe for a terminal."""

from __future__ import annotations

import errno
import re
from pathlib import Path

LONGEST = 900
"""Most characters of a message."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The system's error numbers for a full disk, a used-up quota and a file over the size limit."""


class UserError(Exception):
    """A mistake that the user can correct.

    The message is one line: the file or option, the limit, the remedy. The command line prints it without a
    traceback and exits with code 2. Control characters in names from files are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_cut(one_line(message)))

    @property
    def on_command_line(self) -> str:
        """The message as the command line prints it."""
        return str(self)


class OptionError(UserError):
    """A value that an option does not take; the message names the argument in Python, the option on a terminal.

    Args:
        name: name of the argument, such as `image_size` for the option `--image-size`.
        value: the given value.
        remedy: the limit and what to do.
    """

    def __init__(self, name: str, value: object, remedy: str) -> None:
        super().__init__(f"{name} {value}: {remedy}")
        self._option = _cut(one_line(f"--{name.replace('_', '-')} {value}: {remedy}"))

    @property
    def on_command_line(self) -> str:
        return self._option


class UnknownNameError(ValueError):
    """An unregistered name; the message lists the registered ones."""


class DamagedError(UserError):
    """A file of a run or a model is damaged: cut off, changed, or of another kind.

    A run makes such a file again if it can, and logs it.
    """

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path


def about_file(error: OSError) -> str | None:
    """A system's error about a file, or about a full disk, in one line with the remedy; None for others."""
    is_full = error.errno in FULL
    if not error.strerror or not (error.filename or is_full):
        return None
    remedy = "Free some space, and run the command again." if is_full else "Choose another name or place."
    return f"{error.filename or 'disk'}: {error.strerror}. {remedy}"


def one_line(text: str) -> str:
    """Text as one line that is safe for a terminal: control characters, for example in file names, are escaped."""
    return _STEERING.sub(lambda found: escaped(found[0]), text)


def _cut(line: str) -> str:
    """The line, without its middle if it is very long."""
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 3 :]}"


def escaped(character: str) -> str:
    """A character as Python escapes it; an undecodable byte of a file name shows as that byte."""
    if "\udc80" <= character <= "\udcff":  # what surrogateescape makes of such a byte
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode()


# C0 and C1, line and paragraph separators, bidirectional controls, surrogates
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def install(extra: str) -> str:
    """The remedy for a missing extra: install leanet with it from a copy of the repository."""
    return f'In a copy of the repository: pip install -c constraints.txt -e ".[{extra}]"'
