"""From image files to pixels: safe decoding, the one resize, and the decode-once cache."""

import functools
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from leanet.data.color_profile import BROKEN, Profile, read_profile
from leanet.data.find import HEAD, advice, is_special, unread_format
from leanet.errors import UserError
from leanet.files import unfinished, write_json
from leanet.reading import parse_json, read_bytes

MAX_PIXELS = 200_000_000
MAX_BYTES = 2_000_000_000  # of a file; the largest image that is read takes 1.6 GB uncompressed
MAX_SIDE = 65_535  # a JPEG's; the resize keeps one side while it shrinks the other
MAX_JPEG_SCANS = 200  # a progressive JPEG has some ten; each takes as long to decode as the whole picture
_USUAL_SCANS = 10  # those of a progressive JPEG that is not made to keep a decoder busy
_PILLOW_PIXEL = 4  # bytes of a pixel in Pillow's memory, of whatever mode but the smallest
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # none of those without a length, but the end
_JPEG_PROFILE = b"\xff\xe2ICC_PROFILE\0"  # marker and name of a segment that holds a part of one
FORMATS = (
    "JPEG",
    "PNG",
    "BMP",
    "DIB",
    "TIFF",
    "WEBP",
    "GIF",
)  # never EPS or the like, which start other programs
RESIZE_VERSION = 3  # raise it when decode or resize give other pixels than before: old caches are then not found
MAX_FACTS = 1_000_000_000  # bytes of what a cache remembers of its files
THREADS = min(4, max(2, os.cpu_count() or 2))

UInt8Array: TypeAlias = npt.NDArray[np.uint8]
T = TypeVar("T")
R = TypeVar("R")

Fact: TypeAlias = tuple[int, int] | str
"""What the cache remembers of a file: (width, height), or the reason why it is unreadable."""

_STRIP_PIXELS = 1_000_000  # composited at once

_DNG_VERSION = 50706  # the TIFF tag
_pillow_limit = threading.Lock()
_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImageError(UserError):
    """A file that cannot be used as an image; `reason` says why in a few words."""

    def __init__(self, path: Path, reason: str, remedy: str = "Remove it or replace it.", more: int = 0) -> None:
        others = f", and {more} more" if more else ""
        super().__init__(f"{path}: not a readable image ({reason}){others}. {remedy}")
        self.reason = reason


@dataclass(frozen=True)
class Decoded:
    """A decoded file.

    Attributes:
        pixels: uint8 (H, W, 3), sRGB.
        format, mode: as stored.
        turned: whether EXIF turned it.
        first_of_several: whether there were further frames or pages, which are left out.
        profile: the embedded color profile; None where there was none.
    """

    pixels: UInt8Array
    format: str
    mode: str
    turned: bool
    first_of_several: bool
    profile: Profile | None

    @property
    def broken_profile(self) -> bool:
        """Whether the embedded color profile was of no use, so that the values count as sRGB."""
        return self.profile is BROKEN


@dataclass(frozen=True)
class Cost:
    """What decoding a file takes, by its header alone.

    Attributes:
        pixels: width times height; 0 where `decode_bytes` refuses the file without decoding it.
        bytes: of the pixels, as the decoder has to make them; of a JPEG of many scans, as often as it makes them.
    """

    pixels: int
    bytes: int


@dataclass(frozen=True)
class ImageInfo:
    """An image file: sha256 of its bytes, width and height in pixels after EXIF orientation."""

    file: str
    sha256: str
    width: int
    height: int


@dataclass(frozen=True)
class Cache:
    """The decode-once cache.

    Attributes:
        path: the file that holds the pixels.
        pixels: uint8 (N, size, size, 3), memory-mapped, read-only; row i belongs to infos[i].
        sha256: of the file.
        infos: the N readable images, in the order asked for.
        skipped: (file, reason) of every unreadable file.
        broken_profiles: images whose color profile was of no use.
        healed: whether the file was there, but damaged, and was made anew.
    """

    path: Path
    pixels: UInt8Array
    sha256: str
    infos: tuple[ImageInfo, ...]
    skipped: tuple[tuple[str, str], ...]
    broken_profiles: int = 0
    healed: bool = False


@dataclass(frozen=True)
class Duplicates:
    """Sets of files with the same bytes: `within` one class, and `across` the two."""

    within: tuple[tuple[str, ...], ...]
    across: tuple[tuple[str, ...], ...]


def decode(path: Path) -> UInt8Array:
    """Decode an image file to sRGB.

    How each kind of file is handled:
        EXIF orientation: applied (a damaged EXIF block counts as none).
        Greyscale, 1-bit, palette: expanded to RGB.
        16-bit greyscale: divided by 257 and rounded (65535 becomes 255); nothing is stretched or clipped.
        16-bit RGB and RGBA: Pillow's decoder keeps the high byte, which is within 1 of division by 257.
        32-bit integer greyscale: as 16-bit; values outside 0..65535 make the file unreadable.
        CMYK, YCbCr, CIELAB: Pillow's conversion, where no profile says more.
        Embedded color profile (ICC): converted to sRGB, see `leanet.data.color_profile`; greyscale of 16 bits in
            full depth, all else in 8 bits. A profile counts as sRGB if it is broken, if Pillow does not read it, or
            if it is meant for another kind of image. What PNG says of color otherwise (gAMA, cHRM, cICP) and what
            EXIF says is ignored.
        Alpha or a transparent colour: composited on white (but not the transparent colour of 16-bit RGB), after the
            profile.
        Camera raw that is stored as TIFF (DNG): unreadable; what a TIFF's reader finds is its thumbnail.
        Animation, several pages: the first frame.
        Floating point: unreadable.
    JPEG is decoded at full size (no draft mode).

    Returns:
        uint8 (H, W, 3).

    Raises:
        UnreadableImageError: missing, empty, truncated, not an image, more than MAX_PIXELS pixels, or a side
            of more than MAX_SIDE; the size is checked from the header, before decoding.
    """
    return decode_with_origin(path).pixels


def decode_with_origin(path: Path) -> Decoded:
    """Do as `decode`, and tell how the file stored the image."""
    try:
        status = path.stat()
        if is_special(status):
            raise UnreadableImageError(path, "a pipe, device or socket")
        if status.st_size > MAX_BYTES:
            raise UnreadableImageError(path, f"more than {MAX_BYTES // 10**9} GB")
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(path, (error.strerror or "cannot be read").lower()) from None
    except ValueError:
        raise UnreadableImageError(path, "a name with a zero in it") from None
    return decode_bytes(data, path)


def decode_bytes(data: bytes, name: Path, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Do as `decode` with a file's content; `name` stands in the messages."""
    if not data:
        raise UnreadableImageError(name, "empty file")
    if data[:2] == b"\xff\xd8" and _jpeg_scans(data) > MAX_JPEG_SCANS:
        raise UnreadableImageError(name, f"more than {MAX_JPEG_SCANS} scans")
    if (canvas := _webp_canvas(data)) and (reason := _size_problem(*canvas, max_pixels)):
        raise UnreadableImageError(name, reason)
    try:
        with _open(data) as image:
            if reason := _size_problem(*image.size, max_pixels):
                raise UnreadableImageError(name, reason)
            stored = image.format or "", image.mode
            if _DNG_VERSION in getattr(image, "tag_v2", ()):
                raise UnreadableImageError(name, advice("camera raw"))
            image.load()
            turn = _TURN.get(_orientation(image))
            rgb, profile = to_rgb(image)
            several = bool(getattr(image, "is_animated", False))
    except (UserError, MemoryError):
        raise
    except Exception as error:  # on damaged data Pillow's decoders raise nearly anything
        raise UnreadableImageError(name, _reason(error, data)) from None
    pixels = np.asarray(rgb if turn is None else rgb.transpose(turn))
    return Decoded(pixels, *stored, turn is not None, several, profile)


def cost_of(data: bytes, max_pixels: int = MAX_PIXELS) -> Cost:
    """Look at a file's header to tell what `decode_bytes` will take."""
    scans = _jpeg_scans(data) if data[:2] == b"\xff\xd8" else 1
    stored = _PILLOW_PIXEL
    size = _webp_canvas(data)
    if not size:
        try:
            with _open(data) as image:
                size = image.size
                channels = len(image.getbands()) * (2 if ";16" in str(getattr(image, "tile", "")) else 1)
                stored = max(stored, channels)
        except Exception:  # as in decode_bytes, which will say why
            return Cost(0, 0)
    if scans > MAX_JPEG_SCANS or _size_problem(*size, max_pixels):
        return Cost(0, 0)
    pixels = size[0] * size[1]
    return Cost(pixels, pixels * stored * max(1, scans // _USUAL_SCANS))


def resize(image: UInt8Array, size: int) -> UInt8Array:
    """Resize to a square: antialiased bilinear, rounded to uint8 after each direction; for cache and prediction.

    First across, then down, whatever the shape: left to itself, Pillow takes the cheaper order, which an exported
    graph cannot follow.

    Args:
        image: uint8 (H, W, 3).
        size: the side in pixels.

    Returns:
        uint8 (size, size, 3); the aspect ratio is not kept.
    """
    if image.shape[:2] == (size, size):
        return image
    across = Image.fromarray(image).resize((size, image.shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(across.resize((size, size), Image.Resampling.BILINEAR))


def checked_images(images: Sequence[UInt8Array], sizes: Sequence[tuple[int, int]] | None = None) -> None:
    """Refuse what is not a batch of images.

    Args:
        images: each uint8 (H, W, 3) with a side of up to MAX_SIDE.
        sizes: height and width of each image as it was before, 1 or more; None where it is the same.
    Raises:
        UserError: an array of another type or shape, or sizes for another number of images.
    """
    for image in images:
        found = f"{getattr(image, 'dtype', type(image).__name__)} {np.shape(image)}"
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            raise UserError(f"an array of uint8, (H, W, 3), is expected, found {found}.")
        if image.ndim != 3 or image.shape[2] != 3 or not min(image.shape) > 0 or max(image.shape) > MAX_SIDE:
            raise UserError(f"an array (H, W, 3) with sides of 1 to {MAX_SIDE} is expected, found {found}.")
    if sizes is not None and (len(sizes) != len(images) or any(len(s) != 2 or min(s) < 1 for s in sizes)):
        raise UserError(
            f"sizes: a height and a width for each of {len(images)} images expected, found {sizes!r:.50}."
        )


def build_cache(
    root: Path,
    files: Sequence[str],
    size: int,
    folder: Path,
    *,
    skip_unreadable: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> Cache:
    """Decode and resize images once into a memory-mapped file; find that file again on later calls.

    The cache is `<folder>/<key>-<size>.npy` with a JSON file beside it, which has the cache's hash. The key depends
    on the files' bytes, their order and the size, not on their names: a second call reads bytes to hash them and
    decodes nothing. A cache that does not have its hash any more is made anew.
    Memory is bounded by a few decoded images. One process at a time may build a cache.

    Args:
        root, files: the images, as paths relative to the root.
        size: the side in pixels.
        folder: where the cache lies; made if need be.
        skip_unreadable: leave unreadable files out instead of raising.
        on_progress: called with the number of files decoded so far.

    Raises:
        UnreadableImageError: names the first unreadable file and the count of the others.
        UserError: no readable image at all; the folder cannot be written or its disk is too full.
    """
    hashes = in_threads(lambda file: sha256_of(root / file), files)
    target = folder / f"{_key(hashes, size)[:16]}-{size}.npy"
    try:
        stored = _stored_facts(target, len(files))
        healed = stored is None and target.exists()
        if stored is None:
            folder.mkdir(parents=True, exist_ok=True)
            stored = _fill(target, [root / file for file in files], size, skip_unreadable, on_progress)
        pixels = open_pixels(target)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot write the pixel cache ({error.strerror}). Choose another place with --out."
        ) from None
    facts, broken_profiles = stored
    skipped = tuple((file, fact) for file, fact in zip(files, facts, strict=True) if isinstance(fact, str))
    if skipped and not skip_unreadable:
        raise skippable(root / skipped[0][0], skipped[0][1], len(skipped) - 1)
    infos = tuple(
        ImageInfo(file, sha256, *fact)
        for file, sha256, fact in zip(files, hashes, facts, strict=True)
        if not isinstance(fact, str)
    )
    return Cache(target, pixels, _sha256_of_cache(target), infos, skipped, broken_profiles, healed)


def duplicates(infos: Sequence[ImageInfo], labels: Sequence[int]) -> Duplicates:
    """Find files with exactly the same bytes.

    Args:
        infos, labels: one entry an image, in the same order.
    """
    same: dict[str, list[tuple[str, int]]] = {}
    for info, label in zip(infos, labels, strict=True):
        same.setdefault(info.sha256, []).append((info.file, label))
    within: list[tuple[str, ...]] = []
    across: list[tuple[str, ...]] = []
    for members in same.values():
        if len(members) > 1:
            one_class = len({label for _, label in members}) == 1
            (within if one_class else across).append(tuple(file for file, _ in members))
    return Duplicates(tuple(within), tuple(across))


def refuse_duplicates_across(infos: Sequence[ImageInfo], labels: Sequence[int]) -> None:
    """Raise UserError where the same picture lies in both classes."""
    across = duplicates(infos, labels).across
    if across:
        raise UserError(
            contradiction(across[0], dict(zip((i.file for i in infos), labels, strict=True)), len(across) - 1)
        )


def contradiction(files: Sequence[str], labels: dict[str, int], more: int = 0) -> str:
    """Say in one line that the same picture is called normal and anomalous."""
    first, second = (next(file for file in files if labels[file] == label) for label in (0, 1))
    others = f" ({more} more such pictures)" if more else ""
    return f"{first} and {second} are the same picture in both classes{others}. Remove one of the two."


def in_threads(
    work: Callable[[T], R], items: Iterable[T], on_progress: Callable[[int], None] | None = None
) -> list[R]:
    """Work on every item in a few threads; the results come in the items' order."""
    pool = ThreadPoolExecutor(THREADS)
    results = []
    try:
        for result in pool.map(work, items):
            results.append(result)
            if on_progress:
                on_progress(len(results))
    finally:
        pool.shutdown(cancel_futures=True)
    return results


def _fill(
    target: Path,
    paths: Sequence[Path],
    size: int,
    skip_unreadable: bool,
    on_progress: Callable[[int], None] | None,
) -> tuple[list[Fact], int]:
    """Write the cache beside its place and rename it; nothing half-written stays behind on an error."""
    _refuse_full_disk(target.parent, len(paths), size)
    with unfinished(target) as partial, unfinished(target.with_suffix(".compact")) as compact:
        facts, broken_profiles = _decode_rows(partial, paths, size, on_progress)
        bad = [row for row, fact in enumerate(facts) if isinstance(fact, str)]
        if bad and not skip_unreadable:
            raise skippable(paths[bad[0]], str(facts[bad[0]]), len(bad) - 1)
        if len(bad) == len(paths):
            raise UserError(f"{paths[0].parent if paths else target}: no readable image. Check the dataset.")
        if bad:
            _refuse_full_disk(target.parent, len(paths) - len(bad), size)
            _copy_rows(partial, compact, sorted(set(range(len(paths))) - set(bad)))
            compact.replace(partial)
        sha256 = sha256_of(partial)
        content = {"size": size, "broken_profiles": broken_profiles, "sha256": sha256, "images": facts}
        write_json(_facts_file(target), content, indent=0)
        partial.replace(target)  # last: the cache counts as there once this file is
    return facts, broken_profiles


def _refuse_full_disk(folder: Path, count: int, size: int) -> None:
    needed = count * size * size * 3
    if shutil.disk_usage(folder).free < needed:  # a memory map on a full disk dies by SIGBUS
        raise UserError(
            f"{folder}: the pixel cache needs {needed / 1e9:.1f} GB, more than is free. "
            f"Make room, or choose another place with --out."
        )


def skippable(path: Path, reason: str, more: int = 0) -> UnreadableImageError:
    """The error where --skip-unreadable is at hand; `more` is the number of other such files."""
    return UnreadableImageError(path, reason, "Remove it or replace it, or pass --skip-unreadable.", more)


def _decode_rows(
    partial: Path, paths: Sequence[Path], size: int, on_progress: Callable[[int], None] | None
) -> tuple[list[Fact], int]:
    """Decode each file straight into its row of a new .npy file; rows of unreadable files stay zero.

    Returns:
        what the cache remembers of each file, and how many have a color profile of no use.
    """
    rows = _new_rows(partial, len(paths), size)

    def one(row: int) -> tuple[Fact, bool]:
        try:
            decoded = decode_with_origin(paths[row])
        except UnreadableImageError as error:
            return error.reason, False
        rows[row] = resize(decoded.pixels, size)
        height, width, _ = decoded.pixels.shape
        return (width, height), decoded.broken_profile

    found = in_threads(one, range(len(paths)), on_progress)
    rows.flush()
    return [fact for fact, _ in found], sum(broken for _, broken in found)


def _copy_rows(source: Path, target: Path, wanted: Sequence[int]) -> None:
    old = open_pixels(source)
    new = _new_rows(target, len(wanted), old.shape[1])
    for row, origin in enumerate(wanted):
        new[row] = old[origin]
    new.flush()


def _new_rows(path: Path, count: int, size: int) -> np.memmap[Any, np.dtype[np.uint8]]:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, size, size, 3))


def _stored_facts(target: Path, count: int) -> tuple[list[Fact], int] | None:
    """Read what `_decode_rows` found for a finished cache; None where there is none, or a damaged one."""
    if not (target.is_file() and _facts_file(target).is_file()):
        return None
    try:
        content = _facts_of(target)
        facts = [f if isinstance(f, str) else (int(f[0]), int(f[1])) for f in content["images"]]
        if len(open_cache(target)) != sum(not isinstance(fact, str) for fact in facts) or len(facts) != count:
            raise ValueError("of another length")
        return facts, int(content["broken_profiles"])
    except (KeyError, IndexError, TypeError, ValueError, OSError):
        return None


def open_cache(path: Path) -> UInt8Array:
    """As `open_pixels`, of a cache: compared with the hash beside it, which caches of earlier versions have not.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is not what was written.
    """
    pixels = open_pixels(path)
    written = _facts_of(path).get("sha256") if _facts_file(path).exists() else None
    if written not in (None, _sha256_of_cache(path)):
        raise ValueError("changed pixels")
    return pixels


def _facts_of(cache: Path) -> dict[str, Any]:
    """What the JSON file beside a cache holds; ValueError where it is damaged."""
    found = parse_json(read_bytes(_facts_file(cache), MAX_FACTS))
    if not isinstance(found, dict):
        raise ValueError("no facts of a cache")
    return found


def _sha256_of_cache(path: Path) -> str:
    """Hash a cache: once, unless it changes, for a command opens it more than once."""
    found = path.stat()
    return _hash_once(path, found.st_ino, found.st_size, found.st_mtime_ns)


@functools.cache
def _hash_once(path: Path, *_version: int) -> str:
    return sha256_of(path)


def open_pixels(path: Path) -> UInt8Array:
    """A file of pixels, uint8 (N, side, side, 3), memory-mapped and read-only.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no such file, or was cut off.
    """
    if not path.is_file():
        raise ValueError("no regular file")
    try:
        # Not np.load, which would also open archives and, given the word, pickles.
        pixels = np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # on a hostile header numpy raises nearly anything, tokenize's own errors among it
        raise ValueError(str(error)) from None
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (pixels.shape[1], pixels.shape[1], 3):
        raise ValueError(f"an array {pixels.dtype} of {pixels.shape}")
    return pixels


def _facts_file(target: Path) -> Path:
    return target.with_suffix(".json")


def _key(hashes: Sequence[str], size: int) -> str:
    return hashlib.sha256("\n".join([*hashes, str(size), str(RESIZE_VERSION)]).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Hash a file's bytes; "" where it cannot be read, which decoding will report."""
    try:
        if is_special(path.stat()):
            return ""
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def _jpeg_scans(data: bytes) -> int:
    """The scans up to a JPEG's end; what may follow there, a camera's raw data or film, is not decoded."""
    at, scans = 2, 0
    while marker := _JPEG_MARKER.search(data, at):
        at, kind = marker.end(), data[marker.end() - 1]
        if kind == 0xD9:
            break
        scans += kind == 0xDA
        at += int.from_bytes(data[at : at + 2])  # the segment's length, itself included
    return scans


def _webp_canvas(data: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP file; None of any other.

    Read here since libwebp, which Pillow asks, takes 8 bytes a pixel before it tells: a file of 36 bytes can claim
    268 megapixels.
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


def _open(data: bytes) -> Image.Image:
    """Read the header only, past Pillow's own size limit (179 million pixels): ours is checked next."""
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(BytesIO(data), formats=FORMATS)
        except Exception:  # as in decode_bytes; a profile that Pillow does not read leaves the pixels readable
            if (bare := _without_profile(data)) is None:
                raise
            image = Image.open(BytesIO(bare), formats=FORMATS)
            image.info["icc_profile"] = None
            return image
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _without_profile(data: bytes) -> bytes | None:
    """A PNG or JPEG file without its color profile; None of any other, and of one that has none."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        parts = [data[:8], *(chunk for chunk in _chunks(data) if chunk[4:8] != b"iCCP")]
    elif data.startswith(b"\xff\xd8"):
        parts = [data[:2], *(part for part in _segments(data) if part[:2] + part[4:16] != _JPEG_PROFILE)]
    else:
        return None
    bare = b"".join(parts)
    return bare if len(bare) < len(data) else None


def _chunks(data: bytes) -> Iterator[bytes]:
    """A PNG file's chunks, in one with the first of pixels all that follows."""
    at = 8
    while at < len(data):
        end = len(data) if data[at + 4 : at + 8] == b"IDAT" else at + 12 + int.from_bytes(data[at : at + 4])
        yield data[at:end]
        at = end


def _segments(data: bytes) -> Iterator[bytes]:
    """A JPEG file's segments before its first scan, and all that follows as one."""
    at = 2
    while at < len(data):
        is_segment = data[at] == 0xFF and data[at + 1 : at + 2] != b"\xda"
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4]) if is_segment else len(data)
        yield data[at:end]
        at = end


def _size_problem(width: int, height: int, limit: int) -> str | None:
    if width * height > limit:
        return f"{width} x {height} pixels, the limit is {limit // 1_000_000} million"
    if max(width, height) > MAX_SIDE:
        return f"{width} x {height} pixels, the limit of a side is {MAX_SIDE}"
    return f"{width} x {height} pixels" if width * height == 0 else None


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow's EXIF reader raises nearly anything on a damaged block; the pixels are still good
        return 1


def to_rgb(image: Image.Image) -> tuple[Image.Image, Profile | None]:
    """Convert a loaded image of any mode to RGB in sRGB, as `decode` says; with its profile, None without one.

    Raises:
        ValueError: floating-point pixels, or grey values outside 0..65535.
    """
    profile = _profile_in(image)
    managed = None if profile in (None, BROKEN) or profile.is_srgb or profile.space == "Lab" else profile
    if image.mode.startswith("I"):
        return _from_deep_grey(image, managed), profile
    if image.mode == "F":
        raise ValueError("floating-point pixels")
    if image.mode not in ("CMYK", "LAB"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if managed:
        image = managed.convert(image)
    if image.mode == "RGBA":
        image = _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB"), profile


def _profile_in(image: Image.Image) -> Profile | None:
    """An image's color profile, BROKEN where it is of no use; Pillow gives None for one that it could not read."""
    data = image.info.get("icc_profile", b"")
    if data == b"":
        return None
    profile = read_profile(bytes(data)) if isinstance(data, bytes | bytearray) else BROKEN
    return profile if profile.suits(image.mode) else BROKEN


def _on_white(image: Image.Image) -> Image.Image:
    """RGBA laid on white, as RGB: in strips, for Pillow lets no other thread run while it composites one."""
    width, height = image.size
    laid = Image.new("RGB", image.size)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        white = Image.new("RGBA", strip.size, "white")
        laid.paste(Image.alpha_composite(white, strip).convert("RGB"), (0, top))
    return laid


def _from_deep_grey(image: Image.Image, profile: Profile | None) -> Image.Image:
    """Scale greyscale of 16 or 32 bits, 0..65535, to 8 bits, and replicate it."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("grey values outside 0..65535")
    if profile and profile.curve is not None:
        rgb = profile.curve[values]
    else:
        grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
        rgb = np.repeat(grey[..., None], 3, 2)
        if profile:
            rgb = np.array(profile.convert(Image.fromarray(rgb)))
    if (transparent := image.info.get("transparency")) is not None:
        rgb[values == transparent] = 255
    return Image.fromarray(rgb)


def _reason(error: Exception, data: bytes) -> str:
    if isinstance(error, UnidentifiedImageError):
        name = unread_format(data[:HEAD])
        return advice(name) if name else "not an image, or of an unknown format"
    text = " ".join(str(error).split()) or type(error).__name__
    if "could not create decoder" in text:  # all that libwebp says
        return "damaged or truncated file"
    return "truncated file" if "truncated" in text.lower() else text
