"""The pictures that the rows of a manifest name: files, URLs, members of tar shards, whole tar shards."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from leanet.data import remote
from leanet.data.decode import MAX_BYTES, UnreadableImageError, read_image_file
from leanet.data.find import HEAD, NO_PICTURE, advice, why_not_by
from leanet.data.remote import NotReadError, is_url
from leanet.data.tar import Member, TarError, TarReadError, members

SHARD = ".tar"
"""The suffix of a tar shard; a row that ends with it stands for all pictures in the shard."""

MEMBER, WITHIN = "tar://", "::"
"""A row `tar://MEMBER::SHARD` names one picture in a shard, as fsspec writes it."""

SMALL = 8_000_000
"""Larger pictures are read only when they are decoded, which bounds the memory of those that wait."""

_large = threading.Lock()


@dataclass(frozen=True)
class Picture:
    """A picture before it is read.

    Attributes:
        row: number of its row in the manifest; those of one shard share it.
        file: its name in the answers.
        read: returns its content; raises UnreadableImageError, or UserError if a whole bucket cannot be read.
        waits: whether reading mainly waits for another machine.
    """

    row: int
    file: str
    read: Callable[[], bytes]
    waits: bool = False


def pictures_of(rows: Iterable[tuple[int, str]], root: str) -> Iterator[Picture]:
    """The pictures that rows name, in their order; what cannot be found is a picture that cannot be read.

    Args:
        rows: numbered rows of a manifest.
        root: folder or URL that relative names refer to.
    Raises:
        UserError: a bucket cannot be read, or the package for such URLs is missing.
    """
    with contextlib.closing(_OpenShard()) as shard:
        for row, file in rows:
            if not file:
                yield _broken(row, file, "the row is empty")
            elif "\0" in file:  # which opening a file reports as a ValueError
                yield _broken(row, file, "a name with a zero in it")
            elif file.startswith(MEMBER):
                yield _named_member(shard, row, file, root)
            elif file.lower().endswith(SHARD):
                yield from _all_members(row, file, root)
            else:
                place = joined(root, file)
                yield Picture(row, file, partial(read_place, place), is_url(place))


def joined(root: str, file: str) -> str:
    """The place of a file: a URL or an absolute path as it is, another path below the root."""
    if is_url(file) or Path(file).is_absolute():
        return file
    return f"{root.rstrip('/')}/{file}" if is_url(root) else str(Path(root, file))


def _broken(row: int, file: str, reason: str) -> Picture:
    def read() -> bytes:
        raise UnreadableImageError(Path(file), reason)

    return Picture(row, file, read)


def read_place(place: str) -> bytes:
    """The content of a path's or a URL's picture.

    Raises:
        UnreadableImageError: it cannot be read.
        UserError: its whole bucket cannot be read.
    """
    if not is_url(place):
        return read_image_file(Path(place))
    try:
        data = remote.fetch(place, 0, SMALL)
        if len(data) < SMALL:
            return data
        with _large:
            data += remote.fetch(place, SMALL, MAX_BYTES + 1)
    except NotReadError as error:
        raise UnreadableImageError(Path(place), str(error)) from None
    if len(data) > MAX_BYTES:
        raise UnreadableImageError(Path(place), f"more than {MAX_BYTES // 10**9} GB")
    return data


def _read_part(place: str, member: Member) -> bytes:
    """A large member's content, through a file of its own."""
    if member.size > MAX_BYTES:
        raise UnreadableImageError(Path(member.name), f"more than {MAX_BYTES // 10**9} GB")
    with _large:
        try:
            if is_url(place):
                data = remote.fetch(place, member.start, member.start + member.size)
            else:
                with Path(place).open("rb") as file:
                    file.seek(member.start)
                    data = file.read(member.size)
        except (NotReadError, OSError) as error:
            raise UnreadableImageError(Path(member.name), str(error)) from None
    if len(data) < member.size:
        raise UnreadableImageError(Path(member.name), _CUT)
    return data


_CUT = "the tar shard ends within it"


@contextlib.contextmanager
def _opened(place: str) -> Iterator[IO[bytes]]:
    """Open a shard; a remote file system's failure stops the work, because the rest of the shard would be lost."""
    if not is_url(place):
        with Path(place).open("rb") as file:
            yield file
        return
    system, path = remote.file_system(place)
    try:
        file = system.open(path, "rb")
    except FileNotFoundError:
        with remote.user_errors(place):
            system.info(path.lstrip("/").split("/")[0])
        raise
    except Exception as error:  # each file system raises classes of its own
        with remote.user_errors(place):
            raise error
    with file:
        yield file


def _all_members(row: int, file: str, root: str) -> Iterator[Picture]:
    """All pictures in a shard, and one that cannot be read if the shard is damaged or has none."""
    place, found = joined(root, file), 0
    try:
        with _opened(place) as stream:
            for member in members(stream):
                name = f"{MEMBER}{_as_text(member.name)}{WITHIN}{file}"
                why = _why_not(member, stream)
                if why != NO_PICTURE:
                    found += 1
                    yield _broken(row, name, advice(why)) if why else _member(row, name, place, member, stream)
        if not found:
            yield _broken(row, file, "a tar shard without pictures")
    except (TarError, TarReadError, OSError) as error:
        yield _broken(row, file, _problem(error, place))


def _problem(error: Exception, place: str) -> str:
    """Why a shard cannot be read; UserError if that may not be the shard's fault."""
    if isinstance(error, TarError):
        return f"damaged tar shard: {error}"
    cause = error.__cause__ if isinstance(error, TarReadError) else error
    if is_url(place) and not isinstance(cause, FileNotFoundError):
        with remote.user_errors(place):
            raise cause or error
    return (getattr(cause, "strerror", None) or "no such file or directory").lower()


def _why_not(member: Member, stream: IO[bytes]) -> str:
    path = PurePosixPath(member.name)
    if any(part.startswith(".") and part != ".." for part in path.parts):
        return NO_PICTURE

    return why_not_by(path.suffix, lambda: _content(stream, member, HEAD))


def _member(row: int, name: str, place: str, member: Member, stream: IO[bytes]) -> Picture:
    """A shard's picture; a small one is read at once, because shards are read best from front to back."""
    if member.size > SMALL:
        return Picture(row, name, partial(_read_part, place, member), is_url(place))
    data = _content(stream, member, SMALL)
    return Picture(row, name, lambda: data) if len(data) == member.size else _broken(row, name, _CUT)


def _content(stream: IO[bytes], member: Member, most: int) -> bytes:
    try:
        stream.seek(member.start)
        return stream.read(min(member.size, most))
    except Exception as error:  # a remote file system raises classes of its own
        raise TarReadError from error


def _as_text(name: str) -> str:
    """A name that UTF-8 can store; other bytes are escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _named_member(shard: _OpenShard, row: int, file: str, root: str) -> Picture:
    name, _, inside = file.removeprefix(MEMBER).rpartition(WITHIN)
    if not name or not inside:
        return _broken(row, file, f"expected {MEMBER}MEMBER{WITHIN}SHARD")
    place = joined(root, inside)
    try:
        member = shard.find(place, name)
        if member is None:
            return _broken(row, file, "no such member in the tar shard")
        return _member(row, file, place, member, shard.stream)
    except (TarError, TarReadError, OSError) as error:
        shard.close()
        return _broken(row, file, _problem(error, place))


class _OpenShard:
    """The shard that was used last, listed only as far as was needed: rows in its order read it once."""

    stream: IO[bytes]

    def __init__(self) -> None:
        self._place = ""
        self._stack = contextlib.ExitStack()
        self._known: dict[str, Member] = {}
        self._remaining: Iterator[Member] = iter(())

    def find(self, place: str, name: str) -> Member | None:
        """A member of a shard by its name, the first of several; None if there is none."""
        if place != self._place:
            self.close()
            self.stream = self._stack.enter_context(_opened(place))
            self._place, self._remaining = place, members(self.stream)
        while name not in self._known:
            if (member := next(self._remaining, None)) is None:
                return None
            self._known.setdefault(_as_text(member.name), member)
        return self._known[name]

    def close(self) -> None:
        """Close the shard."""
        self._stack.close()
        self._place, self._known, self._remaining = "", {}, iter(())
