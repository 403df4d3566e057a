"""A hash at a file's end, which reveals any changed byte; needs neither torch nor a runtime."""

from __future__ import annotations

import hashlib
from pathlib import Path

_KEY = b"leanet_sha256"

_HEX = 64
"""Digits of a SHA-256."""

# Protobuf merges a message that follows another into it. These bytes are a ModelProto with one entry of
# metadata_props (field 14), its key (1) and its value (2): protobuf.dev/encoding.
_ENTRY = bytes([1 << 3 | 2, len(_KEY)]) + _KEY + bytes([2 << 3 | 2, _HEX])
_ENDS = {
    ".onnx": (bytes([14 << 3 | 2, len(_ENTRY) + _HEX]) + _ENTRY, b""),
    ".xml": (b"<!-- " + _KEY + b" ", b" -->\n"),  # XML lets a comment follow the root
}
"""The bytes before and after the digits in each kind of file."""


def seal(path: Path, suffix: str, beside: Path | None = None) -> None:
    """Append to a file of this suffix's kind the hash of its bytes and of the file beside it."""
    before, after = _ENDS[suffix]
    digits = _hash_of(path, path.stat().st_size, beside)
    with path.open("ab") as file:
        file.write(before + digits + after)


def is_sealed(path: Path) -> bool:
    """Whether a file ends with a hash; files of earlier versions do not."""
    return _digits(path) is not None


def is_whole(path: Path, beside: Path | None = None) -> bool:
    """Whether a file and the file beside it match the hash."""
    before, after = _ENDS[path.suffix.lower()]
    length = path.stat().st_size - len(before) - _HEX - len(after)
    return _digits(path) == _hash_of(path, length, beside)


def _digits(path: Path) -> bytes | None:
    """The hash at a file's end, or None if there is none."""
    before, after = _ENDS[path.suffix.lower()]
    length = len(before) + _HEX + len(after)
    with path.open("rb") as file:
        if file.seek(0, 2) < length:
            return None
        file.seek(-length, 2)
        end = file.read(length)
    return end[len(before) :][:_HEX] if end.startswith(before) and end.endswith(after) else None


def _hash_of(path: Path, length: int, beside: Path | None) -> bytes:
    """The hash of a file's first `length` bytes and of the whole file beside it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(min(length, 1 << 20)):
            digest.update(part)
            length -= len(part)
    if beside is not None:
        with beside.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    return digest.hexdigest().encode()
