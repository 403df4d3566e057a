"""Find the pictures in a folder: each regular file once, recognized by its suffix or else its content."""

from __future__ import annotations

import glob
import importlib.util
import os
import re
import stat
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from PIL import features

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
"""Files with these suffixes count as pictures; of the others, those whose first bytes show a picture."""

MOST_LISTED = 10
"""Longer lists are cut, with a count of the rest."""

Identity: TypeAlias = tuple[int, ...]
"""Equal for all names of one file or folder."""

HEAD = 132
"""Bytes that identify a format; DICOM's signature follows 128 arbitrary bytes."""

_READ = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}

_UNREAD = {
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"8BPS": "Photoshop",
    b"gimp xcf ": "GIMP",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"#?RGBE": "Radiance HDR",
    b"DDS ": "DDS",
    b"qoif": "QOI",
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
_UNREAD_HEADERS = {
    rb"P[1-6]\s+[0-9#]|P7\nWIDTH|P[Ff]\n[0-9]": "PNM",
    rb"\x00\x00\x01\x00[^\x00]\x00...\x00[\x00\x01]\x00[\x00\x01\x04\x08\x10\x18\x20]\x00": "ICO",
    rb"\x0a[\x00\x02-\x05][\x00\x01][\x01\x02\x04\x08]": "PCX",
    rb".{128}DICM": "DICOM",
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
    ".xcf": "GIMP",
    ".exr": "OpenEXR",
    ".hdr": "Radiance HDR",
    ".dds": "DDS",
    ".qoi": "QOI",
    **dict.fromkeys((".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".pfm"), "PNM"),
    **dict.fromkeys((".ico", ".cur"), "ICO"),
    ".pcx": "PCX",
    **dict.fromkeys((".dcm", ".dicom"), "DICOM"),
    ".tga": "TGA",
    ".svg": "SVG",
}

NO_PICTURE, _HIDDEN, _SPECIAL, _BROKEN = "no picture", "hidden", "no regular file", "broken link"
_AGAIN, _CLOSED, _MASK = "the same again", "folder that cannot be opened", "mask"
_CONVERT = "convert to JPEG or PNG"
_OR_INSTALL = {"HEIC": ", or install the extra heif", "AVIF": ", or install Pillow 11.3 or newer"}


@dataclass(frozen=True)
class LeftOut:
    """A skipped file, folder or link, with one of this module's reasons or the name of an unsupported format."""

    path: Path
    why: str

    @property
    def is_missed(self) -> bool:
        """Whether it may hold pictures: a file of an unsupported format, or a folder that cannot be opened."""
        return self.why not in (NO_PICTURE, _HIDDEN, _SPECIAL, _AGAIN, _MASK)


@dataclass(frozen=True)
class Found:
    """The pictures below some folders, sorted by path, and what was skipped."""

    images: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]


def find_images(*folders: Path, closed: Collection[Identity] = (), without: str | None = None) -> Found:
    """Find the pictures below some folders; follow links, skip hidden files.

    Every file and folder is found once, even in a circle of links, and under its own name rather than a link's.

    Args:
        folders: folders to search.
        closed: folders not to enter, because they are read separately.
        without: name of subfolders, in any case, that hold masks instead of pictures.
    """
    images, left_out = list[Path](), list[LeftOut]()
    for path, why in _walk(folders, closed):
        if why == _ENTERED:
            continue
        if why or (why := _MASK if without and _is_below(path, folders, without) else why_not(path)):
            left_out.append(LeftOut(path, why))
        else:
            images.append(path)
    return Found(tuple(sorted(images, key=Path.as_posix)), tuple(left_out))


def _is_below(path: Path, folders: Iterable[Path], name: str) -> bool:
    """Whether a folder of this name is between a file and the searched folder that contains it."""
    folder = next(folder for folder in folders if path.is_relative_to(folder))
    return any(same_name(part, name) for part in path.relative_to(folder).parts[:-1])


def folders_below(folder: Path) -> list[Path]:
    """The folder and all folders below it, each once; follow links, skip hidden ones."""
    return [folder, *(path for path, why in _walk([folder], ()) if why == _ENTERED)]


def matching(pattern: str) -> Iterator[Path]:
    """The files and folders that match a pattern, unsorted; `**` enters each folder once, despite links."""
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from (Path(found) for found in glob.glob(pattern))  # noqa: PTH207 - takes absolute patterns
        return
    at = parts.index("**")
    rest = parts[at + 1 :] or ("*",)
    for start in glob.glob(str(Path(*parts[:at]))) if at else ["."]:  # noqa: PTH207 - as above
        for folder in folders_below(Path(start)):
            yield from matching(str(Path(glob.escape(str(folder)), *rest)))


def notes(left_out: Iterable[LeftOut], root: Path) -> list[str]:
    """Notes on what was skipped and what to do about it, one line per reason."""
    by_reason: dict[str, list[Path]] = {}
    for item in left_out:
        by_reason.setdefault(item.why, []).append(item.path)
    said = []
    for why, paths in by_reason.items():
        shown = [path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path) for path in paths]
        shown = ["".join(c if c.isprintable() else "?" for c in name) for name in shown]
        named = f"{len(paths)} ({listed(sorted(shown), 3)})"
        if why == NO_PICTURE:
            suffixes = Counter(path.suffix.lower() or "no suffix" for path in paths)
            said.append("left out, no pictures: " + listed([f"{n} {s}" for s, n in sorted(suffixes.items())]))
        elif why in (_HIDDEN, _MASK):
            said.append(f"left out: {len(paths)} {why} file{'s' * (len(paths) > 1)}")
        elif why == _SPECIAL:
            said.append(f"left out, neither files nor folders (pipes, devices or sockets): {named}")
        elif why == _BROKEN:
            said.append(f"left out, broken links: {named}")
        elif why == _AGAIN:
            said.append(f"left out, links to paths already read: {named}")
        elif why == _CLOSED:
            said.append(f"left out, folders that cannot be opened: {named}")
        else:
            said.append(f"left out, {advice(why)}: {named}")
    return said


def listed(items: Collection[str], most: int = MOST_LISTED) -> str:
    """The first items, separated by commas, and a count of the others."""
    return ", ".join([*list(items)[:most], *([f"{len(items) - most} more"] if len(items) > most else [])])


def cut(lines: Collection[str], what: str) -> list[str]:
    """The first ten lines, and one with a count of the others: "290 more WHAT"."""
    more = len(lines) - MOST_LISTED
    return [*list(lines)[:MOST_LISTED], *([f"{more} more {what}"] if more > 0 else [])]


def same_name(one: str, other: str) -> bool:
    """Whether two folder names are equal to a person: without regard to case, composition and outer blanks."""
    return folded(one) == folded(other)


def folded(name: str) -> str:
    """A name as `same_name` compares it."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def is_special(status: os.stat_result) -> bool:
    """Whether it is neither a file nor a folder: reading it could block or never end."""
    return not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode))


def unread_format(head: bytes) -> str | None:
    """The name of a picture format that is known but not supported, from a file's first HEAD bytes."""
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(len(head), int.from_bytes(head[:4])), 4))]
        return next((_UNREAD_BRANDS[brand] for brand in brands if brand in _UNREAD_BRANDS), None)
    by_start = (name for start, name in _UNREAD.items() if head.startswith(start))
    by_header = (name for header, name in _UNREAD_HEADERS.items() if re.match(header, head, re.DOTALL))
    return next(by_start, None) or next(by_header, None)


def advice(name: str) -> str:
    """What to do about an unsupported format, in a few words."""
    return f"{name} is not read; {_CONVERT}{_OR_INSTALL.get(name, '')}"


def reads(name: str) -> bool:
    """Whether this installation reads a format that needs more than Pillow's usual parts: 'HEIC' or 'AVIF'."""
    if name == "HEIC":
        return importlib.util.find_spec("pillow_heif") is not None
    return name == "AVIF" and bool(features.check("avif"))


_ENTERED = "entered"


def _walk(roots: Collection[Path], closed: Collection[Identity]) -> Iterator[tuple[Path, str]]:
    """Everything below some folders, each with "" for a regular file, _ENTERED for a folder, or why it is skipped.

    Files and folders come before the targets of links.
    """
    seen, folders, links = set(closed), deque[Path](), deque[Path]()
    for root in sorted(roots, key=Path.is_symlink):
        if (known := identity(root)) in seen:
            yield root, _AGAIN
        else:
            seen.add(known)
            folders.append(root)
    seen.update(identity(parent) for root in roots for parent in root.resolve().parents)
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
            yield from ((Path(e.path), _HIDDEN) for e in found if e.name.startswith(".") and not _is_folder(e))
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


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def identity(path: Path) -> Identity:
    """The identity of a file or folder, whatever its name; OSError if there is none."""
    return _identity(path.stat())


def _identity(status: os.stat_result) -> Identity:
    """Device and inode; for a file also size and time, because some file systems reuse inode numbers."""
    known = status.st_dev, status.st_ino
    return known if stat.S_ISDIR(status.st_mode) else (*known, status.st_size, status.st_mtime_ns)


def why_not(path: Path) -> str:
    """Why a regular file is not read as a picture: an unsupported format, or no picture; "" if it is read."""

    def head() -> bytes:
        with path.open("rb") as stream:
            return stream.read(HEAD)

    try:
        return why_not_by(path.suffix, head)
    except OSError:
        return NO_PICTURE


def why_not_by(suffix: str, head: Callable[[], bytes]) -> str:
    """What `why_not` says of a file with this suffix, whose first HEAD bytes are read only if they matter."""
    suffix = suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return ""
    if suffix in _RAW_SUFFIXES:  # often TIFF inside, of which only the thumbnail would be decoded
        return "camera raw"
    start = head()
    if _is_read(start):
        return ""
    name = unread_format(start) or _UNREAD_SUFFIXES.get(suffix, NO_PICTURE)
    return "" if reads(name) else name


def _is_read(head: bytes) -> bool:
    if head.startswith(b"BM"):
        return int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    return head.startswith(_READ) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")
