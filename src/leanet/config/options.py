"""A configuration as a flat mapping of option names to values: in a config file, in a run folder, as arguments."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from leanet.config.maps import COLOR_MAP
from leanet.config.verbs import DetectConfig, PredictConfig, RunConfig
from leanet.errors import UserError
from leanet.reading import fits, parse_yaml, read_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")

LARGEST = 100_000
"""Bytes of a config file; ours have two thousand."""

EARLIER = {"maps": (COLOR_MAP,)}
"""Options that earlier versions lack -> what they did, if that is not today's default; it is not recorded."""

OF_ANOTHER_VERB = {DetectConfig: "out", PredictConfig: "maps"}
"""A verb's option that is another place than a run's option of the same name is, or means."""

RECORDED_NAMES = ("pixels", "pixels_sha256", "images_in", "maps_from")
"""Recorded values of a run that are read again: a file's name and hash, and two folders."""


def from_options(
    config_class: type[Config], options: Mapping[str, Any], *, recorded: bool = True, **given: Any
) -> Config:
    """The configuration that `to_options` flattened; options of other classes are ignored.

    Args:
        recorded: whether what earlier versions did not record is as it was then; else it has today's default.
        given: fields that the options lack, or whose values override theirs.
    Raises:
        UserError: an option has a value that it does not take.
    """
    hints = get_type_hints(config_class)
    values: dict[str, Any] = {}
    for f in dataclasses.fields(config_class):
        if f.name in given:
            values[f.name] = given[f.name]
        elif isinstance(f.default_factory, type) and dataclasses.is_dataclass(f.default_factory):
            values[f.name] = from_options(f.default_factory, options, recorded=recorded)
        elif recorded and f.name in EARLIER and f.name not in options:
            values[f.name] = EARLIER[f.name]
        elif f.name in options:
            value = options[f.name]
            if not fits(value, hints[f.name]):
                raise UserError(
                    f"config.yaml: {f.name} cannot be {value!r:.60}. Correct that file, or choose another --out."
                )
            values[f.name] = tuple(value) if isinstance(value, list) else value
    return config_class(**values)


def to_options(config: object) -> dict[str, Any]:
    """A configuration as a flat mapping of option names to plain values, as a config file holds it.

    An option that only Python callers have, or that earlier versions lack, is omitted if it has its default. One
    that says only where the work is done is always omitted.
    """
    options: dict[str, Any] = {}
    for f in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            options |= to_options(value)
        elif "unrecorded(" not in str(f.type) and (
            value != EARLIER.get(f.name, f.default) or not (_is_hidden(f) or "recent(" in str(f.type))
        ):
            options[f.name] = _plain(value)
    return options


def omitted_by_default(kind: type) -> set[str]:
    """The options of a class that `to_options` omits at their defaults, because earlier versions lack them."""
    return {f.name for f in dataclasses.fields(kind) if "recent(" in str(f.type)}


def read_config_file(path: Path) -> dict[str, Any]:
    """The options in a YAML config file, with 'recorded' (versions and times, for the reader) unchanged."""
    try:
        loaded = read_options(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Name an existing file.") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}. Start from the config.yaml of a run folder.") from None
    if loaded.get("map_coding") is True:  # YAML's reading of the bare words
        loaded["map_coding"] = "true"
    if isinstance(loaded.get("compile"), bool):
        loaded["compile"] = "on" if loaded["compile"] else "off"
    return loaded


def read_options(path: Path) -> dict[str, Any]:
    """The content of a YAML file of options: names with a plain value or a list of these, and 'recorded'.

    Raises:
        OSError: the file cannot be read, or is too large to be such a file.
        ValueError: the file holds something else; the message says what.
    """
    try:
        loaded = parse_yaml(read_text(path, LARGEST))
    except ValueError:
        raise ValueError("not a YAML file") from None
    if not isinstance(loaded, dict):
        raise ValueError("expected a mapping of option names to values")
    recorded = loaded.get("recorded", {})
    if not isinstance(recorded, dict) or not all(isinstance(recorded.get(k, ""), str) for k in RECORDED_NAMES):
        raise ValueError("expected a mapping of versions and names in 'recorded'")
    for key, value in loaded.items():
        if not isinstance(key, str) or not key.isprintable():
            raise ValueError(f"{key!r:.40}: expected the name of an option")
        if key != "recorded" and not all(map(_is_plain, value if isinstance(value, list) else [value])):
            raise ValueError(f"{key}: expected a plain value or a list of these")
    if "map_source" in loaded:  # what the option was called while it took one name
        source = loaded.pop("map_source")
        loaded.setdefault("maps", ["color" if source == "colorizer" else source])
    return loaded


def _is_plain(value: object) -> bool:
    """Whether a value is one that an argument can have; a date is what YAML makes of a folder named 2024-01-01."""
    if isinstance(value, str):
        return "\0" not in value
    return isinstance(value, datetime.date) or any(fits(value, kind) for kind in (bool, int, float, None))


def to_arguments(options: dict[str, Any], config_class: type, path: Path, given: list[str]) -> list[str]:
    """Arguments with a config file's options before them; the same parser then checks both.

    Args:
        options: the file's content.
        config_class: the command's configuration. Options of other commands in a run's own file are ignored.
        path: the file, for messages.
        given: the arguments from the command line, which override the file.
    Raises:
        UserError: a key that is not an option, or a value that only Python callers can set.
    """
    fields = _fields_of(config_class)
    hidden = {name: f.default for name, f in fields.items() if _is_hidden(f)}
    for name in hidden.keys() & options.keys():
        if options[name] != hidden[name]:
            raise UserError(
                f"{path}: {name} {options[name]}: only Python callers can set this. Run it from Python."
            )
    known = {name: "positional(" in str(f.type) for name, f in fields.items() if name not in hidden}
    arguments: list[str] = []
    positional: list[str] = []
    is_of_a_run = "recorded" in options
    if is_of_a_run:
        known.pop(OF_ANOTHER_VERB.get(config_class, ""), None)
        options = {**{name: value for name, value in EARLIER.items() if name in known}, **options}
    elsewhere = {"recorded", *_fields_of(RunConfig)} if is_of_a_run else set(hidden)
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
    # The positional argument goes first: an option that takes several values would consume it.
    own = 1 if given and not given[0].startswith("-") else 0
    return (given[:1] if own else positional) + arguments + given[own:]


def argument(name: str, value: Any) -> list[str]:
    """An option of this name with a plain value, as the command line takes it."""
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    return [flag, *map(str, value)] if isinstance(value, list | tuple) else [flag, str(value)]


def _fields_of(config_class: type) -> dict[str, dataclasses.Field[Any]]:
    """Every option of a configuration class by its name, including nested ones; their types are text."""
    found: dict[str, dataclasses.Field[Any]] = {}
    for f in dataclasses.fields(config_class):
        if isinstance(f.default_factory, type) and dataclasses.is_dataclass(f.default_factory):
            found |= _fields_of(f.default_factory)
        else:
            found[f.name] = f
    return found


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _is_hidden(field: dataclasses.Field[Any]) -> bool:
    """Whether the command line does not have an option."""
    return "hidden(" in str(field.type)
