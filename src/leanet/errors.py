"""What a user is meant to read: the one error, what to do about a missing extra, and text fit for a terminal."""

from __future__ import annotations

import re


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one line: the file or option, the limit, the remedy. The command line prints it without a
    traceback and exits with code 2.
    """


def one_line(text: str) -> str:
    """Text as one line that steers no terminal: control characters, in a file's name say, as Python writes them."""
    return _STEERING.sub(lambda found: _escaped(found[0]), text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode()


# C0 and C1, line and paragraph separators, marks that turn the direction of writing, surrogates
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def install(extra: str) -> str:
    """The remedy for a library of an extra that is missing: leanet is installed from a copy of its repository."""
    return f'In a copy of the repository: pip install -c constraints.txt -e ".[{extra}]"'
