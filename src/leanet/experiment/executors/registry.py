"""Executors by name: a file in this folder registers its own; other packages may register more."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import TypeVar

from leanet.config import ComputeConfig
from leanet.errors import OptionError
from leanet.experiment.tasks import Executor
from leanet.ranks import count

Kind = TypeVar("Kind", bound=Callable[[ComputeConfig], Executor])

EXECUTORS: dict[str, Callable[[ComputeConfig], Executor]] = {}


def register_executor(name: str) -> Callable[[Kind], Kind]:
    """A decorator that registers an executor's class under a name; a later class of the same name replaces it."""

    def register(kind: Kind) -> Kind:
        EXECUTORS[name] = kind
        return kind

    return register


def executor(compute: ComputeConfig) -> Executor:
    """A new executor, ready to execute tasks, as the options ask for.

    Raises:
        OptionError: there is none of that name, or it does not take one of the options.
        UserError: what it needs is missing: a package, or a cluster at the address.
    """
    for file in pkgutil.iter_modules(importlib.import_module("leanet.experiment.executors").__path__):
        importlib.import_module(f"leanet.experiment.executors.{file.name}")
    if compute.executor not in EXECUTORS:
        raise OptionError("executor", compute.executor, f"choose from {', '.join(sorted(EXECUTORS))}.")
    made = EXECUTORS[compute.executor](compute)
    if made.at_once and count() > 1:
        raise OptionError("executor", compute.executor, "it starts processes itself. Omit `accelerate launch`.")
    return made


def refuse_options(compute: ComputeConfig, names: dict[str, str]) -> None:
    """Raise OptionError if an option is set that the executor does not take.

    Args:
        names: name of the option -> the executors that take it.
    """
    for name, others in names.items():
        if (value := getattr(compute, name)) is not None:
            raise OptionError(name, value, f"--executor {compute.executor} does not take it. Add {others}.")
