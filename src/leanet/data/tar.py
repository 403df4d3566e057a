"""List the members of a tar file one after another, at constant memory, and notice where it is damaged."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

LONGEST_HEADER = 2**20
"""Most bytes of a header; a hostile one can claim the whole file."""


@dataclass(frozen=True)
class Member:
    """A regular file in a tar file: its name there, and where its content begins and how many bytes it has."""

    name: str
    start: int
    size: int


class TarError(Exception):
    """A tar file is damaged or truncated; the message says where."""


class TarReadError(Exception):
    """The file system failed while a tar file was read; the cause is its own error."""


class _Headers:
    """A file for tarfile, which reads only headers from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of more than {LONGEST_HEADER} bytes")
        try:
            return self._file.read(size)
        except Exception as error:  # a remote file system raises classes of its own
            raise TarReadError from error


def members(file: IO[bytes]) -> Iterator[Member]:
    """The regular files of an uncompressed tar file, in its order.

    The caller may read the file between two members.

    Raises:
        TarError: after the last intact member, if the file is damaged, truncated, or no tar file.
        TarReadError: the file system failed.
    """
    try:
        with tarfile.TarFile(fileobj=_Headers(file)) as tar:  # type: ignore[arg-type]  # all that it reads with
            behind = -1
            while (found := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile keeps them all
                if found.size < 0 or tar.offset <= behind:
                    raise tarfile.ReadError("a negative size")
                behind = tar.offset
                if found.isreg() and not found.issparse():
                    yield Member(found.name, found.offset_data, found.size)
            _check_end(file, tar.offset)
    except TarReadError:
        raise
    except Exception as error:  # on damaged headers tarfile raises nearly anything
        raise TarError(" ".join(str(error).split())[:100]) from None


def _check_end(file: IO[bytes], at: int) -> None:
    """Raise ReadError unless tarfile stopped at the block of zeros that ends an archive."""
    file.seek(at)
    block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"truncated at byte {at:,}")
    if any(block):
        raise tarfile.ReadError(f"damaged at byte {at:,}")
