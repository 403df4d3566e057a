"""The one error that a user is meant to read."""


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one line: the file or option, the limit, the remedy. The command line prints it without a
    traceback and exits with code 2.
    """
