"""Read image files' headers without decoding: a JPEG's scans, a WebP's size, a profile's position."""

import re
from collections.abc import Iterator

_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # markers with a length, and the end of the image
_JPEG_PROFILE = b"\xff\xe2ICC_PROFILE\0"  # marker and name of a segment with a part of the profile


def jpeg_scans(data: bytes) -> int:
    """The number of scans up to a JPEG's end; data after it, such as raw data or a film, is not decoded."""
    at, scans = 2, 0
    while marker := _JPEG_MARKER.search(data, at):
        at, kind = marker.end(), data[marker.end() - 1]
        if kind == 0xD9:
            break
        scans += kind == 0xDA
        at += int.from_bytes(data[at : at + 2])  # the segment's length, itself included
    return scans


def webp_canvas(data: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP file; None for other files.

    Pillow's libwebp allocates 8 bytes per pixel before it reports the size, and a file of 36 bytes can claim 268
    megapixels.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    match data[12:16]:
        case b"VP8X":
            return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return bits % 2**14 + 1, (bits >> 14) % 2**14 + 1
        case b"VP8 ":
            return int.from_bytes(data[26:28], "little") % 2**14, int.from_bytes(data[28:30], "little") % 2**14
    return None


def without_profile(data: bytes) -> bytes | None:
    """A PNG or JPEG file without its color profile; None for other files, or if there is no profile."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        parts = [data[:8], *(chunk for chunk in _chunks(data) if chunk[4:8] != b"iCCP")]
    elif data.startswith(b"\xff\xd8"):
        parts = [data[:2], *(part for part in _segments(data) if part[:2] + part[4:16] != _JPEG_PROFILE)]
    else:
        return None
    bare = b"".join(parts)
    return bare if len(bare) < len(data) else None


def _chunks(data: bytes) -> Iterator[bytes]:
    """A PNG file's chunks; the first pixel chunk and all that follows are one."""
    at = 8
    while at < len(data):
        end = len(data) if data[at + 4 : at + 8] == b"IDAT" else at + 12 + int.from_bytes(data[at : at + 4])
        yield data[at:end]
        at = end


def _segments(data: bytes) -> Iterator[bytes]:
    """A JPEG file's segments before its first scan; all that follows is one."""
    at = 2
    while at < len(data):
        is_segment = data[at] == 0xFF and data[at + 1 : at + 2] != b"\xda"
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4]) if is_segment else len(data)
        yield data[at:end]
        at = end
