"""How the command line shows an option whose annotation alone does not say it.

Annotations stay text until the command line asks for them, so that only the command line imports its parser.
"""

from __future__ import annotations


def positional(metavar: str) -> tuple[object, ...]:
    """An option that is given by its place, under this name in the help."""
    import tyro

    return tyro.conf.Positional, tyro.conf.arg(metavar=metavar)


def shown_as(metavar: str) -> tuple[object, ...]:
    """An option whose values have this name in the help."""
    import tyro

    return (tyro.conf.arg(metavar=metavar),)


def hidden() -> tuple[object, ...]:
    """An option for programs, which the command line does not have."""
    import tyro

    return (tyro.conf.Suppress,)
