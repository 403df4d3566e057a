"""From image files to pixels: safe decoding, the one resize, and the decode-once cache."""

import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from leanet.errors import UserError

MAX_PIXELS = 200_000_000
MAX_SIDE = 65_535  # a JPEG's; the resize keeps one side while it shrinks the other
MAX_JPEG_SCANS = 200  # a progressive JPEG has some ten; each takes as long to decode as the whole picture
_USUAL_SCANS = 10  # those of a progressive JPEG that is not made to keep a decoder busy
_PILLOW_PIXEL = 4  # bytes of a pixel in Pillow's memory, of whatever mode but the smallest
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # none of those without a length, but the end
FORMATS = (
    "JPEG",
    "PNG",
    "BMP",
    "DIB",
    "TIFF",
    "WEBP",
    "GIF",
)  # never EPS or the like, which start other programs
RESIZE_VERSION = 2  # raise it when decode or resize give other pixels than before: old caches are then not found
THREADS = min(4, max(2, os.cpu_count() or 2))

UInt8Array: TypeAlias = npt.NDArray[np.uint8]
T = TypeVar("T")
R = TypeVar("R")

Fact: TypeAlias = tuple[int, int] | str
"""What the cache remembers of a file: (width, height), or the reason why it is unreadable."""

DAMAGED_ARRAY = (ValueError, EOFError)
"""What np.load raises of an array file that was cut off or is none; json's error is a ValueError too."""

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
    """

    pixels: UInt8Array
    format: str
    mode: str
    turned: bool
    first_of_several: bool


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
        infos: the N readable images, in the order asked for.
        skipped: (file, reason) of every unreadable file.
    """

    path: Path
    pixels: UInt8Array
    infos: tuple[ImageInfo, ...]
    skipped: tuple[tuple[str, str], ...]


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
        CMYK, YCbCr, CIELAB: Pillow's conversion. Colour profiles (ICC) are ignored.
        Alpha or a transparent colour: composited on white (but not the transparent colour of 16-bit RGB).
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
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(path, (error.strerror or "cannot be read").lower()) from None
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
            image.load()
            turn = _TURN.get(_orientation(image))
            rgb = to_rgb(image)
            several = bool(getattr(image, "is_animated", False))
    except (UserError, MemoryError):
        raise
    except Exception as error:  # on damaged data Pillow's decoders raise nearly anything
        raise UnreadableImageError(name, _reason(error)) from None
    pixels = np.asarray(rgb if turn is None else rgb.transpose(turn))
    return Decoded(pixels, *stored, turn is not None, several)


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

    The cache is `<folder>/<key>-<size>.npy` with a JSON file beside it. The key depends on the files' bytes,
    their order and the size, not on their names: a second call reads bytes to hash them and decodes nothing.
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
        facts = _stored_facts(target)
        if facts is None:
            folder.mkdir(parents=True, exist_ok=True)
            facts = _fill(target, [root / file for file in files], size, skip_unreadable, on_progress)
        pixels: UInt8Array = np.load(target, mmap_mode="r")
    except OSError as error:
        raise UserError(
            f"{folder}: cannot write the pixel cache ({error.strerror}). Choose another place with --out."
        ) from None
    skipped = tuple((file, fact) for file, fact in zip(files, facts, strict=True) if isinstance(fact, str))
    if skipped and not skip_unreadable:
        raise skippable(root / skipped[0][0], skipped[0][1], len(skipped) - 1)
    infos = tuple(
        ImageInfo(file, sha256, *fact)
        for file, sha256, fact in zip(files, hashes, facts, strict=True)
        if not isinstance(fact, str)
    )
    return Cache(target, pixels, infos, skipped)


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
) -> list[Fact]:
    """Write the cache beside its place and rename it; nothing half-written stays behind on an error."""
    _refuse_full_disk(target.parent, len(paths), size)
    partial, compact = target.with_suffix(".partial"), target.with_suffix(".compact.partial")
    try:
        facts = _decode_rows(partial, paths, size, on_progress)
        bad = [row for row, fact in enumerate(facts) if isinstance(fact, str)]
        if bad and not skip_unreadable:
            raise skippable(paths[bad[0]], str(facts[bad[0]]), len(bad) - 1)
        if len(bad) == len(paths):
            raise UserError(f"{paths[0].parent if paths else target}: no readable image. Check the dataset.")
        if bad:
            _refuse_full_disk(target.parent, len(paths) - len(bad), size)
            _copy_rows(partial, compact, sorted(set(range(len(paths))) - set(bad)))
            compact.replace(partial)
        _facts_file(target).write_text(json.dumps({"size": size, "images": facts}, indent=0))
        partial.replace(target)  # last: the cache counts as there once this file is
    finally:
        partial.unlink(missing_ok=True)
        compact.unlink(missing_ok=True)
    return facts


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
) -> list[Fact]:
    """Decode each file straight into its row of a new .npy file; rows of unreadable files stay zero."""
    rows = _new_rows(partial, len(paths), size)

    def one(row: int) -> Fact:
        try:
            image = decode(paths[row])
        except UnreadableImageError as error:
            return error.reason
        rows[row] = resize(image, size)
        return image.shape[1], image.shape[0]

    facts = in_threads(one, range(len(paths)), on_progress)
    rows.flush()
    return facts


def _copy_rows(source: Path, target: Path, wanted: Sequence[int]) -> None:
    old = np.load(source, mmap_mode="r")
    new = _new_rows(target, len(wanted), old.shape[1])
    for row, origin in enumerate(wanted):
        new[row] = old[origin]
    new.flush()


def _new_rows(path: Path, count: int, size: int) -> np.memmap[Any, np.dtype[np.uint8]]:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, size, size, 3))


def _stored_facts(target: Path) -> list[Fact] | None:
    """Read the facts of a finished cache; None where there is none, or a damaged one."""
    if not (target.is_file() and _facts_file(target).is_file()):
        return None
    try:
        np.load(target, mmap_mode="r")
        images = json.loads(_facts_file(target).read_text())["images"]
    except DAMAGED_ARRAY:
        return None
    return [fact if isinstance(fact, str) else (fact[0], fact[1]) for fact in images]


def _facts_file(target: Path) -> Path:
    return target.with_suffix(".json")


def _key(hashes: Sequence[str], size: int) -> str:
    return hashlib.sha256("\n".join([*hashes, str(size), str(RESIZE_VERSION)]).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Hash a file's bytes; "" where it cannot be read, which decoding will report."""
    try:
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
        finally:
            Image.MAX_IMAGE_PIXELS = limit


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


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded image of any mode to RGB, as `decode` says.

    Raises:
        ValueError: floating-point pixels, or grey values outside 0..65535.
    """
    if image.mode.startswith("I"):
        return _from_deep_grey(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """Scale greyscale of 16 or 32 bits, 0..65535, to 8 bits, and replicate it."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("grey values outside 0..65535")
    grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if (transparent := image.info.get("transparency")) is not None:
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of an unknown format"
    text = " ".join(str(error).split()) or type(error).__name__
    if "could not create decoder" in text:  # all that libwebp says
        return "damaged or truncated file"
    return "truncated file" if "truncated" in text.lower() else text
