"""What a user is meant to read: the one error, and what to do about a missing extra."""


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one line: the file or option, the limit, the remedy. The command line prints it without a
    traceback and exits with code 2.
    """


def install(extra: str) -> str:
    """The remedy for a library of an extra that is missing: leanet is installed from a copy of its repository."""
    return f'In a copy of the repository: pip install -c constraints.txt -e ".[{extra}]"'
