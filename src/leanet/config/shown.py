"""How the command line shows an option whose annotation alone does not tell.

Annotations stay text until the command line evaluates them. Only the command line imports its parser.
"""

from __future__ import annotations

import re
from pathlib import Path

_REGISTERED = re.compile(r'^@register_\w+\("([\w-]+)"\)', re.MULTILINE)

NETWORKS = Path(__file__).parents[1] / "networks"


def positional(metavar: str) -> tuple[object, ...]:
    """A positional argument, under this name in the help."""
    import tyro

    return tyro.conf.Positional, tyro.conf.arg(metavar=metavar)


def shown_as(metavar: str) -> tuple[object, ...]:
    """An option whose values have this name in the help."""
    import tyro

    return (tyro.conf.arg(metavar=metavar),)


def hidden() -> tuple[object, ...]:
    """An option for Python callers, who register the names it takes; the command line lacks it."""
    import tyro

    return (tyro.conf.Suppress,)


def unrecorded(metavar: str) -> tuple[object, ...]:
    """An option under this name in the help, which changes no result and so is not recorded with them."""
    return shown_as(metavar)


def recent(metavar: str) -> tuple[object, ...]:
    """An option that version 0.1.0 lacks. It is recorded only if it is set: the record of earlier runs stays."""
    return shown_as(metavar)


AUTO = "auto"
"""The value of an option that is chosen by others, see `leanet.config.verbs`."""


def network_in(room: str, *others: str, other: str = "") -> tuple[object, ...]:
    """An option that takes the name of a network: of those in a folder of `leanet.networks`, or one of the others.

    The names are read from the files, because the registry imports torch.

    Args:
        other: how names look that are looked up only when they are used; with it, any name passes here.
    """
    from tyro.constructors import PrimitiveConstructorSpec

    names = (*networks_in(room), *others)
    spec = PrimitiveConstructorSpec[str](
        nargs=1,
        metavar="{" + ",".join((*names, other) if other else names) + "}",
        instance_from_str=lambda given: given[0],
        is_instance=lambda value: isinstance(value, str),
        str_from_instance=lambda value: [value],
        choices=None if other else names,
    )
    return (spec,)


def networks_in(room: str) -> tuple[str, ...]:
    """The names that the files in a folder of `leanet.networks` register."""
    files = sorted((NETWORKS / room).glob("*.py"))
    return tuple(name for file in files for name in _REGISTERED.findall(file.read_text(encoding="utf-8")))
