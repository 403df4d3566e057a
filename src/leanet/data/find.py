"""Which files of a folder are pictures: each regular file once, known by its suffix or else by its content."""

from __future__ import annotations

import functools
import mimetypes
import os
import stat
import unicodedata
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
"""Files of these suffixes count as pictures unopened; of others, those whose first bytes say so."""

MOST_LISTED = 10
"""Longer lists are cut, and the rest is counted."""

Identity: TypeAlias = tuple[int, ...]
"""What two names of one file or folder have in common."""

_HEAD = 32
"""Bytes that tell a format."""

_READ = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}

_UNREAD = {
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"8BPS": "Photoshop",
    b"FUJIFILMCCD-RAW": "camera raw",
    b"IIRO": "camera raw",
    b"IIRS": "camera raw",
    b"IIU\0": "camera raw",
}
_UNREAD_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys(
        (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"), "HEIC"
    ),
    b"crx ": "camera raw",
}
_RAW_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "iiq", "k25", "kdc", "mef", "mos", "mrw"),
        *("nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf", "srw", "x3f"),
    )
)
_UNREAD_SUFFIXES = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    ".avif": "AVIF",
    ".jxl": "JPEG XL",
    **dict.fromkeys((".jp2", ".j2k", ".jpx"), "JPEG 2000"),
    ".psd": "Photoshop",
}

_NO_PICTURE, _HIDDEN, _SPECIAL, _BROKEN = "no picture", "hidden", "no regular file", "broken link"
_AGAIN, _CLOSED, _MASK = "the same again", "folder that cannot be opened", "mask"
_CONVERT = "convert to JPEG or PNG"


@dataclass(frozen=True)
class LeftOut:
    """A file, folder or link that was passed over: one of this module's reasons, or the format that is not read."""

    path: Path
    why: str


@dataclass(frozen=True)
class Found:
    """The pictures below a folder, sorted by path, and what was passed over."""

    images: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]


def find_images(folder: Path, closed: Collection[Identity] = (), without: str | None = None) -> Found:
    """Find the pictures below a folder; links are followed, hidden files passed over.

    Every file and folder is found once, under its own name rather than a link's, so that links in a circle end.

    Args:
        folder: where to look.
        closed: folders that are not entered, because they are read by themselves.
        without: a subfolder of this name, in any case, holds no pictures but masks.
    """
    images, left_out = list[Path](), list[LeftOut]()
    for path, why in _walk(folder, closed):
        if why == _ENTERED:
            continue
        masks = without and any(same_name(part, without) for part in path.relative_to(folder).parts[:-1])
        if why or (why := _MASK if masks else _why_not(path)):
            left_out.append(LeftOut(path, why))
        else:
            images.append(path)
    return Found(tuple(sorted(images, key=Path.as_posix)), tuple(left_out))


def folders_below(folder: Path) -> list[Path]:
    """The folder and all below it, each once; links are followed, hidden ones passed over."""
    return [folder, *(path for path, why in _walk(folder, ()) if why == _ENTERED)]


def notes(left_out: Iterable[LeftOut], root: Path) -> list[str]:
    """Say in a line a reason what was passed over, and what to do about it."""
    by_reason: dict[str, list[Path]] = {}
    for item in left_out:
        by_reason.setdefault(item.why, []).append(item.path)
    said = []
    for why, paths in by_reason.items():
        shown = [path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path) for path in paths]
        shown = ["".join(c if c.isprintable() else "?" for c in name) for name in shown]
        named = f"{len(paths)} ({listed(sorted(shown), 3)})"
        if why == _NO_PICTURE:
            suffixes = Counter(path.suffix.lower() or "no suffix" for path in paths)
            said.append("left out, no pictures: " + listed([f"{n} {s}" for s, n in sorted(suffixes.items())]))
        elif why in (_HIDDEN, _MASK):
            said.append(f"left out: {len(paths)} {why} file{'s' * (len(paths) > 1)}")
        elif why == _SPECIAL:
            said.append(f"left out, neither files nor folders (pipes, devices or sockets): {named}")
        elif why == _BROKEN:
            said.append(f"left out, links that lead nowhere: {named}")
        elif why == _AGAIN:
            said.append(f"left out, links to what is read already: {named}")
        elif why == _CLOSED:
            said.append(f"left out, folders that cannot be opened: {named}")
        else:
            said.append(f"left out, {advice(why)}: {named}")
    return said


def listed(items: Collection[str], most: int = MOST_LISTED) -> str:
    """The first of some items, separated by commas, and the count of the others."""
    return ", ".join([*list(items)[:most], *([f"{len(items) - most} more"] if len(items) > most else [])])


def cut(lines: Collection[str], what: str) -> list[str]:
    """The first ten lines, and one that counts the others: "290 more WHAT"."""
    more = len(lines) - MOST_LISTED
    return [*list(lines)[:MOST_LISTED], *([f"{more} more {what}"] if more > 0 else [])]


def same_name(one: str, other: str) -> bool:
    """Whether two names of folders are one to a person: in any case, composed or not, blanks at the ends aside."""
    return folded(one) == folded(other)


def folded(name: str) -> str:
    """A name as `same_name` compares it."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def is_special(status: os.stat_result) -> bool:
    """Whether it is neither a file nor a folder: reading it could wait or go on for ever."""
    return not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode))


def unread_format(head: bytes) -> str | None:
    """The name of a picture's format that is known but not read, by its first 32 bytes."""
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, len(head), 4))]
        return next((_UNREAD_BRANDS[brand] for brand in brands if brand in _UNREAD_BRANDS), None)
    return next((name for start, name in _UNREAD.items() if head.startswith(start)), None)


def advice(name: str) -> str:
    """What to do about a format that is not read, in a few words."""
    return f"{name} is not read; {_CONVERT}"


_ENTERED = "entered"


def _walk(root: Path, closed: Collection[Identity]) -> Iterator[tuple[Path, str]]:
    """Everything below a folder with "" for a regular file, _ENTERED for a folder, or why it is passed over.

    What lies there by itself comes before what a link leads to.
    """
    there = root.resolve()
    seen = {*closed, *(_identity(folder.stat()) for folder in (there, *there.parents))}
    folders, links = deque([root]), deque[Path]()
    while folders or links:
        if folders:
            try:
                with os.scandir(folders[0]) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
            except OSError:
                yield folders.popleft(), _CLOSED
                continue
            folders.popleft()
            links.extend(Path(e.path) for e in found if e.is_symlink() and not e.name.startswith("."))
            paths = [Path(e.path) for e in found if not e.is_symlink() and not e.name.startswith(".")]
            yield from ((Path(e.path), _HIDDEN) for e in found if e.name.startswith(".") and not e.is_dir())
        else:
            paths = [links.popleft()]
        for path in paths:
            try:
                status = path.stat()
            except OSError:
                yield path, _BROKEN
                continue
            if is_special(status):
                yield path, _SPECIAL
            elif (known := _identity(status)) in seen:
                yield path, _AGAIN
            else:
                seen.add(known)
                if stat.S_ISDIR(status.st_mode):
                    folders.append(path)
                    yield path, _ENTERED
                else:
                    yield path, ""


def identity(path: Path) -> Identity:
    """What tells a folder from others, whatever it is called."""
    return _identity(path.stat())


def _identity(status: os.stat_result) -> Identity:
    """Device and inode; of a file its size and time too, since some file systems number inodes carelessly."""
    known = status.st_dev, status.st_ino
    return known if stat.S_ISDIR(status.st_mode) else (*known, status.st_size, status.st_mtime_ns)


def _why_not(path: Path) -> str:
    """Why a regular file is no picture to read: a format that is not read, or none at all; "" where it is one."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return ""
    if suffix in _RAW_SUFFIXES:  # their content is often TIFF, with a thumbnail to decode
        return "camera raw"
    if not _could_be_picture(suffix):
        return _NO_PICTURE
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError:
        return _NO_PICTURE
    if _is_read(head):
        return ""
    return unread_format(head) or _UNREAD_SUFFIXES.get(suffix, _NO_PICTURE)


@functools.lru_cache
def _could_be_picture(suffix: str) -> bool:
    """Whether a look at the content is worth while: not where the suffix names another kind of file."""
    kind = mimetypes.guess_type(f"name{suffix}")[0]
    return kind is None or kind.startswith("image/") or kind == "application/octet-stream"


def _is_read(head: bytes) -> bool:
    if head.startswith(b"BM"):
        return int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    return head.startswith(_READ) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")
