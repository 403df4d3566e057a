"""Read from a URL of any file system that fsspec knows: s3://, gs://, https:// and others."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from leanet.errors import UserError, install
from leanet.reading import read_bytes, read_within

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)

_LONGEST = 200
"""Most characters of a library's message; some are pages of XML."""

_ANSWERED = dict[str, str]()
"""The buckets that answered this process, each with the path of a file that was read; "" if none was."""

_WITH_BUCKETS = frozenset(("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"))
"""Schemes whose addresses begin with a bucket."""


class NotReadError(Exception):
    """A single object cannot be read, although its bucket answers; the message says why in a few words."""


def is_url(place: str) -> bool:
    """Whether a place is a URL rather than a path."""
    return _URL.match(place) is not None


def address(path: Path) -> str:
    """The URL of which a path lost a slash, because paths join them; another path as it is."""
    text = str(path)
    return re.sub(r"^([a-zA-Z][a-zA-Z0-9+.-]+):/(?!/)", r"\1://", re.sub(r"^file:/(?!/)", "file:///", text))


def absolute(path: Path) -> str:
    """The URL that a path stands for, or the absolute path."""
    place = address(path)
    return place if is_url(place) else str(path.resolve())


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, shared by all threads, and the URL's path in it.

    Raises:
        UserError: fsspec or the file system's own package is missing, or nothing handles such URLs.
    """
    parts = urlsplit(url)
    system = _file_system(parts.scheme, f"{parts.scheme}://{parts.netloc}")
    return system, str(system._strip_protocol(url))


@functools.lru_cache(maxsize=64)
def _file_system(scheme: str, start: str) -> Any:
    try:
        import fsspec
        from fsspec.registry import known_implementations
    except ImportError:
        raise UserError(f"{start}: fsspec is missing. {install('pool')}") from None
    try:
        return fsspec.core.url_to_fs(start)[0]
    except ImportError as error:
        package = str(known_implementations.get(scheme, {}).get("class", scheme)).split(".")[0]
        if package == "fsspec":  # a file system of its own, which needs other packages
            raise UserError(f"{start}: a package is missing ({in_short(error)}). Install it.") from None
        raise UserError(f"{start}: {package} is missing. Install it: pip install {package}") from None
    except Exception as error:  # each file system raises classes of its own
        raise UserError(f"{start}: cannot be opened ({in_short(error)}). Check the address.") from None


@contextlib.contextmanager
def opened(url: str) -> Iterator[IO[bytes]]:
    """Open a URL's file, which can be read from any position.

    Raises:
        UserError: as `user_errors`.
    """
    system, path = file_system(url)
    with user_errors(url):
        file = system.open(path, "rb")
    with file:
        yield file


def content(place: str, limit: int, remedy: str) -> bytes:
    """The content of a path's or URL's file, of at most `limit` bytes.

    Raises:
        UserError: no such file, it cannot be read, or it is larger; the message ends in the remedy.
    """
    if is_url(place):
        with opened(place) as file, user_errors(place):
            return read_within(file, limit)
    try:
        return read_bytes(Path(place), limit)
    except OSError as error:
        raise UserError(f"{place}: {(error.strerror or str(error)).lower()}. {remedy}") from None


@contextlib.contextmanager
def user_errors(url: str) -> Iterator[None]:
    """Make whatever a file system raises a UserError in one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each file system raises classes of its own
        raise UserError(f"{url}: {_problem(error)}") from None


def _problem(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file, folder or bucket. Check the name."
    kind = type(error).__name__
    if isinstance(error, PermissionError) or any(word in kind for word in ("Credential", "Profile", "Token")):
        return f"access denied ({in_short(error)}). Check the credentials."
    return f"cannot be read ({in_short(error)}). Check the address and the network, and run the command again."


def fetch(url: str, start: int, end: int) -> bytes:
    """Bytes start..end of a URL's file, or less at its end.

    Raises:
        NotReadError: this file cannot be read, but others of its bucket might.
        UserError: its bucket is missing, or cannot be reached with these credentials or this network.
    """
    if urlsplit(url).scheme in _WITH_BUCKETS and not urlsplit(url).netloc:
        raise NotReadError("no bucket in the address")
    system, path = file_system(url)
    try:
        data = system.cat_file(path, start=start, end=end)
    except Exception as error:  # each file system raises classes of its own
        _refuse_bucket(system, path, url, error)
        raise NotReadError(_reason(error)) from None
    _ANSWERED[_bucket_of(url)] = path
    if not isinstance(data, bytes):
        raise NotReadError("the server's answer is no file")
    return data[: end - start]  # a web server may send the whole file


def _bucket_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _refuse_bucket(system: Any, path: str, url: str, error: Exception) -> None:
    """Raise UserError if not only a file fails but its whole bucket; web servers have none."""
    bucket = _bucket_of(url)
    if url.startswith(("http://", "https://")):
        return
    if isinstance(error, FileNotFoundError) and bucket in _ANSWERED:
        return
    with user_errors(bucket):
        if isinstance(error, PermissionError) and (known := _ANSWERED.get(bucket)):
            with contextlib.suppress(FileNotFoundError):  # deleted since, which is an answer too
                system.cat_file(known, start=0, end=1)  # without the right to list, a missing object is denied too
            return
        system.invalidate_cache()
        system.info(path.lstrip("/").split("/")[0])
    _ANSWERED.setdefault(bucket, "")


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file or directory"
    return "permission denied" if isinstance(error, PermissionError) else in_short(error)


def in_short(error: BaseException) -> str:
    """A library's message as one short line."""
    return " ".join(str(error).split())[:_LONGEST] or type(error).__name__
