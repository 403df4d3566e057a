"""Map sources by name: a file in sources/ registers its own; other packages may register more."""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
from collections.abc import Callable

from leanet.config import ColorizerConfig
from leanet.config.maps import JOINED
from leanet.errors import UnknownNameError
from leanet.maps.joint import JointMap
from leanet.maps.source import MapSource

MAP_SOURCES: dict[str, type[MapSource]] = {}


def register_map_source(name: str) -> Callable[[type[MapSource]], type[MapSource]]:
    """A decorator that registers a map source's class under a name, which also names its folder in a run."""
    return functools.partial(_register, name)


def _register(name: str, kind: type[MapSource]) -> type[MapSource]:
    MAP_SOURCES[name] = kind
    return kind


def build_map_source(name: str, image_size: int, config: ColorizerConfig) -> MapSource:
    """A map source with new weights, drawn from torch's global generator.

    Args:
        name: one of MAP_SOURCES, or several of them with '+' between them.
    Raises:
        ValueError: unknown name, or an unknown option.
    """
    parts = {each: find_map_source(each)(image_size, config) for each in name.split(JOINED)}
    return JointMap(image_size, config, parts) if len(parts) > 1 else parts[name]


def find_map_source(name: str) -> type[MapSource]:
    """The class of a map source.

    Args:
        name: as `build_map_source` takes it.
    Raises:
        ValueError: unknown name.
    """
    for file in pkgutil.iter_modules(importlib.import_module("leanet.maps.sources").__path__):
        importlib.import_module(f"leanet.maps.sources.{file.name}")
    names = name.split(JOINED)
    for each in names:
        if each not in MAP_SOURCES:
            nearest = difflib.get_close_matches(each, MAP_SOURCES, 1, 0.5)
            named = f" (nearest: {nearest[0]})" if nearest else ""
            raise UnknownNameError(f"unknown map source '{each}'{named}: choose from {', '.join(MAP_SOURCES)}.")
    return JointMap if len(names) > 1 else MAP_SOURCES[name]


def described_sources(name: str) -> tuple[str, ...]:
    """Those of a map source's parts, or itself, that have descriptions; see `MapSource.described_by`."""
    return tuple(each for each in name.split(JOINED) if find_map_source(each).described_by)


def version_of(name: str) -> str:
    """The versions of a map source's parts, or its own; '' if none has one."""
    return JOINED.join(filter(None, (find_map_source(each).version for each in name.split(JOINED))))
