"""A configuration as a flat mapping of option names to values: in a config file, in a run folder, as arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from leanet import settings
from leanet.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


def from_options(config_class: type[Config], options: Mapping[str, Any], **given: Any) -> Config:
    """The configuration that `to_options` made flat; options of other classes are passed over.

    Args:
        given: fields that the options do not hold, or hold otherwise.
    """
    values: dict[str, Any] = {}
    for f in dataclasses.fields(config_class):
        if f.name in given:
            values[f.name] = given[f.name]
        elif isinstance(f.default_factory, type) and dataclasses.is_dataclass(f.default_factory):
            values[f.name] = from_options(f.default_factory, options)
        elif f.name in options:
            value = options[f.name]
            values[f.name] = tuple(value) if isinstance(value, list) else value
    return config_class(**values)


def to_options(config: object) -> dict[str, Any]:
    """A configuration as a flat mapping of option names to plain values, as a config file holds it."""
    options: dict[str, Any] = {}
    for f in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            options |= to_options(value)
        else:
            options[f.name] = _plain(value)
    return options


def read_config_file(path: Path) -> dict[str, Any]:
    """The options in a YAML config file, with 'recorded' (versions and times, kept for the reader) as it is."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Name an existing file.") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise UserError(f"{path}: not a YAML file. Start from the config.yaml of a run folder.") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path}: a mapping of option names to values is expected.")
    if loaded.get("map_coding") is True:  # YAML's reading of the bare words
        loaded["map_coding"] = "true"
    if isinstance(loaded.get("compile"), bool):
        loaded["compile"] = "on" if loaded["compile"] else "off"
    return loaded


def to_arguments(options: dict[str, Any], config_class: type, path: Path, given: list[str]) -> list[str]:
    """Arguments with a config file's options put before them, so that both are checked by the same parser.

    Args:
        options: the file's content.
        config_class: the command's configuration. A run's own file has options of other commands, which are
            passed over.
        path: the file, for messages.
        given: the arguments from the command line, which win.
    Raises:
        UserError: a key that is no option.
    """
    known = _option_names(config_class)
    arguments: list[str] = []
    positional: list[str] = []
    elsewhere = {"recorded", *_option_names(settings.RunConfig)} if "recorded" in options else set()
    if elsewhere and config_class is settings.DetectConfig:  # its --out is another place than the run's
        known.pop("out")
    order = list(known)  # of positional ones; the file's order is its writer's
    for key, value in sorted(options.items(), key=lambda item: order.index(item[0]) if item[0] in known else -1):
        if key not in known and key not in elsewhere:
            raise UserError(f"{path}: unknown key '{key}'. Known keys: {', '.join(sorted(known))}.")
        if key not in known or value is None:
            continue
        if known[key]:
            positional += map(str, value) if isinstance(value, list) else [str(value)]
        else:
            arguments += argument(key, value)
    # The positional argument first: an option that takes several values would swallow it.
    own = 1 if given and not given[0].startswith("-") else 0
    return (given[:1] if own else positional) + arguments + given[own:]


def argument(name: str, value: Any) -> list[str]:
    """An option of this name with a plain value, as the command line takes it."""
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    return [flag, *map(str, value)] if isinstance(value, list) else [flag, str(value)]


def _option_names(config_class: type) -> dict[str, bool]:
    """Every option of a configuration class, nested ones included, and whether it is positional."""
    names: dict[str, bool] = {}
    for f in dataclasses.fields(config_class):
        if isinstance(f.default_factory, type) and dataclasses.is_dataclass(f.default_factory):
            names |= _option_names(f.default_factory)
        else:
            names[f.name] = "Positional" in str(f.type)
    return names


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
