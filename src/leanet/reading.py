"""Read untrusted files within limits of size and depth."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Protocol, Union, get_args, get_origin

_PART = 2**20

DEEPEST = 20
"""Most levels of nested lists and mappings in a YAML file; a config file has three."""


def read_bytes(path: Path, limit: int) -> bytes:
    """A file's content of at most `limit` bytes.

    Raises:
        OSError: unreadable, larger, or not a regular file (a pipe or /dev/zero may never end).
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with path.open("rb") as file:
        try:
            return read_within(file, limit)
        except OSError as error:
            error.filename = error.filename or str(path)
            raise


def sha256_of(path: Path) -> str:
    """Hash a file's bytes; "" if it is unreadable or not a regular file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return ""
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


class Readable(Protocol):
    """An open file or a similar object."""

    def read(self, size: int, /) -> bytes: ...


def read_within(file: Readable, limit: int) -> bytes:
    """The rest of an open file, at most `limit` bytes.

    Raises:
        OSError: unreadable, or larger.
        TypeError: the file does not return bytes.
    """
    parts, size = list[bytes](), 0
    while part := file.read(_PART):  # not limit + 1 at once, for which Python would allocate the memory
        if not isinstance(part, bytes):
            raise TypeError(f"{type(part).__name__} instead of bytes")
        parts.append(part)
        size += len(part)
        if size > limit:
            raise OSError(errno.EFBIG, f"larger than {limit / 1e6:g} MB")
    return b"".join(parts)


def read_text(path: Path, limit: int) -> str:
    """A text file's content with unchanged line ends; non-UTF-8 file names in it keep their bytes.

    Raises:
        OSError: see `read_bytes`.
    """
    return read_bytes(path, limit).decode("utf-8", "surrogateescape")


def parse_json(text: str | bytes) -> Any:
    """Parse JSON text.

    Raises:
        ValueError: not JSON, or nested too deep.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def parse_yaml(text: str) -> Any:
    """Parse YAML text.

    Raises:
        ValueError: not plain YAML, nested too deep, or with aliases, which can expand a few bytes to gigabytes.
    """
    import yaml  # loading a model does not need it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast
    depth = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("aliases are not read")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ValueError("nested too deep")
        return yaml.load(text, Loader=loader)  # noqa: S506  # both are safe loaders
    except Exception as error:  # PyYAML raises nearly anything for a value that does not fit its tag
        raise ValueError(" ".join(str(error).split())) from None


def fits(value: object, hint: Any) -> bool:
    """Whether a plain JSON or YAML value has a type; floats must be finite.

    Args:
        hint: Any, a class, a Literal, a union, a tuple of one type, or a dict.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in arguments)
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in arguments)
    if origin is tuple:
        return isinstance(value, list | tuple) and all(fits(each, arguments[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            fits(k, arguments[0]) and fits(v, arguments[1]) for k, v in value.items()
        )
    if hint is float:
        return (isinstance(value, float) and math.isfinite(value)) or fits(value, int)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if hint is Path:
        return isinstance(value, str | Path)
    return isinstance(value, NoneType if hint is None else hint)
