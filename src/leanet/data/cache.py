"""The decode-once cache: all images of a data set, decoded and resized, in one memory-mapped file."""

import functools
import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from leanet.color.constancy import white_balance
from leanet.config import Aspect, WhiteBalance
from leanet.data.dataset import Dataset, Sample, by_file
from leanet.data.decode import RESIZE_VERSION, UInt8Array, UnreadableImageError, decode_bytes
from leanet.data.shape import to_square
from leanet.data.tensors import images_to_tensor, tensor_to_image
from leanet.data.threads import in_threads
from leanet.errors import UserError
from leanet.files import unfinished, write_json
from leanet.reading import parse_json, read_bytes, sha256_of

MAX_FACTS = 1_000_000_000  # bytes of the JSON file beside a cache

Fact: TypeAlias = tuple[int, int] | str
"""What the cache stores about a file: (width, height), or why it is unreadable."""


@dataclass(frozen=True)
class ImageInfo:
    """An image: sha256 of its file's bytes and, of a part, its place; width and height after EXIF orientation."""

    file: str
    sha256: str
    width: int
    height: int


@dataclass(frozen=True)
class Cache:
    """The decode-once cache.

    Attributes:
        path: file of the pixels.
        pixels: uint8 (N, size, size, 3), memory-mapped, read-only; row i belongs to infos[i].
        sha256: hash of the file.
        infos: the N readable images, in the data set's order.
        skipped: (file, reason) of every unreadable file.
        broken_profiles: number of images with an unusable color profile.
        healed: whether a damaged file was there and was made again.
    """

    path: Path
    pixels: UInt8Array
    sha256: str
    infos: tuple[ImageInfo, ...]
    skipped: tuple[tuple[str, str], ...]
    broken_profiles: int = 0
    healed: bool = False


@dataclass(frozen=True)
class _Prepare:
    """Makes a row of the cache of a decoded picture."""

    size: int
    aspect: Aspect
    balance: WhiteBalance

    def __call__(self, picture: UInt8Array) -> UInt8Array:
        square = to_square(picture, self.size, self.aspect)
        if self.balance == "none":
            return square
        balanced = white_balance(images_to_tensor(square[None], np.arange(1)), self.balance)
        return tensor_to_image(balanced[0])


def build_cache(
    dataset: Dataset,
    size: int,
    folder: Path,
    *,
    skip_unreadable: bool = False,
    on_progress: Callable[[int], None] | None = None,
    aspect: Aspect = "squeeze",
    balance: WhiteBalance = "none",
) -> Cache:
    """Decode and resize images once into a memory-mapped file; later calls reuse the file.

    The cache is `<folder>/<key>-<size>.npy`; a JSON file beside it holds its hash. The key depends on the files'
    bytes and their parts, their order, size and aspect, not on their names: a second call hashes the files and
    decodes nothing. A cache that does not match its hash is made again. Each file is decoded once, whatever the
    number of its parts. Memory is bounded by a few decoded files. One process at a time may build a cache.

    Args:
        dataset: the images, each with its own name.
        size: side in pixels.
        folder: folder of the cache; created if missing.
        skip_unreadable: skip unreadable files instead of raising.
        on_progress: called with the number of files decoded so far.
        aspect: how pictures become squares, see `to_square`.
        balance: how the squares are then balanced, see `white_balance`.

    Raises:
        UnreadableImageError: a file is unreadable; the message has the first and the number of others.
        UserError: no readable image; the folder cannot be written, or its disk is too full.
    """
    samples = dataset.samples
    hashes = _hashes(dataset)
    target = folder / f"{_key(hashes, size, aspect, balance)[:16]}-{size}.npy"
    try:
        stored = _stored_facts(target, len(samples))
        healed = stored is None and target.exists()
        if stored is None:
            folder.mkdir(parents=True, exist_ok=True)
            stored = _fill(target, dataset, _Prepare(size, aspect, balance), skip_unreadable, on_progress)
        pixels = open_pixels(target)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot write the pixel cache ({error.strerror}). Choose another place with --out."
        ) from None
    facts, broken_profiles = stored
    skipped = tuple((s.file, fact) for s, fact in zip(samples, facts, strict=True) if isinstance(fact, str))
    if skipped and not skip_unreadable:
        raise skippable(dataset.place(skipped[0][0]), skipped[0][1], len(skipped) - 1)
    infos = tuple(
        ImageInfo(sample.file, sha256, *fact)
        for sample, sha256, fact in zip(samples, hashes, facts, strict=True)
        if not isinstance(fact, str)
    )
    return Cache(target, pixels, _sha256_of_cache(target), infos, skipped, broken_profiles, healed)


def open_cache(path: Path) -> UInt8Array:
    """Open a cache as `open_pixels` does, and check its hash; caches of earlier versions have none.

    Raises:
        OSError: the cache cannot be opened.
        ValueError: the cache is damaged.
    """
    pixels = open_pixels(path)
    written = _facts_of(path).get("sha256") if _facts_file(path).exists() else None
    if written not in (None, _sha256_of_cache(path)):
        raise ValueError("changed pixels")
    return pixels


def open_pixels(path: Path) -> UInt8Array:
    """Open a pixel file, uint8 (N, side, side, 3), memory-mapped and read-only.

    Raises:
        OSError: the file cannot be opened.
        ValueError: not a pixel file, or a truncated one.
    """
    if not path.is_file():
        raise ValueError("no regular file")
    try:
        # Not np.load, which also opens archives.
        pixels = np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # on a hostile header numpy raises nearly anything, even tokenize's errors
        raise ValueError(str(error)) from None
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (pixels.shape[1], pixels.shape[1], 3):
        raise ValueError(f"an array {pixels.dtype} of {pixels.shape}")
    return pixels


def skippable(path: Path, reason: str, more: int = 0) -> UnreadableImageError:
    """The error for commands with --skip-unreadable; `more` is the number of other unreadable files."""
    return UnreadableImageError(path, reason, "Remove it or replace it, or pass --skip-unreadable.", more)


def _fill(
    target: Path,
    dataset: Dataset,
    prepare: _Prepare,
    skip_unreadable: bool,
    on_progress: Callable[[int], None] | None,
) -> tuple[list[Fact], int]:
    """Write the cache under a temporary name and rename it; on an error, nothing partial stays behind."""
    samples = dataset.samples
    _refuse_full_disk(target.parent, len(samples), prepare.size)
    with unfinished(target) as partial, unfinished(target.with_suffix(".compact")) as compact:
        facts, broken_profiles = _decode_rows(partial, dataset, prepare, on_progress)
        bad = [row for row, fact in enumerate(facts) if isinstance(fact, str)]
        if bad and not skip_unreadable:
            raise skippable(dataset.place_of(samples[bad[0]]), str(facts[bad[0]]), len(bad) - 1)
        if len(bad) == len(samples):
            raise UserError(f"{dataset.root}: no readable image. Check the dataset.")
        if bad:
            _refuse_full_disk(target.parent, len(samples) - len(bad), prepare.size)
            _copy_rows(partial, compact, sorted(set(range(len(samples))) - set(bad)))
            compact.replace(partial)
        sha256 = sha256_of(partial)
        content = {"size": prepare.size, "broken_profiles": broken_profiles, "sha256": sha256, "images": facts}
        write_json(_facts_file(target), content, indent=0)
        partial.replace(target)  # last: the cache exists once this file does
    return facts, broken_profiles


def _hashes(dataset: Dataset) -> list[str]:
    """A hash of each image: of its file and, of a part, of the place too; "" if it cannot be read."""
    samples, files = dataset.samples, by_file(dataset.samples)
    of_files = in_threads(lambda numbers: _sha256_of_image(dataset, samples[numbers[0]]), files)
    found = [""] * len(samples)
    for numbers, sha256 in zip(files, of_files, strict=True):
        for number in numbers:
            found[number] = placed_hash(sha256, samples[number])
    return found


def placed_hash(sha256: str, sample: Sample) -> str:
    """The hash of an image, by its file's: of a part, with its place.

    Two blank tiles of different pictures are thus no copies of each other, which would have to share a group.
    """
    if sample.part is None or not sha256:
        return sha256
    return hashlib.sha256(f"{sha256} {sample.part}".encode()).hexdigest()


def _sha256_of_image(dataset: Dataset, sample: Sample) -> str:
    """Hash an image file's bytes; "" if they cannot be read, which decoding will report."""
    try:
        return hashlib.sha256(dataset.read(sample)).hexdigest()
    except UnreadableImageError:
        return ""


def _refuse_full_disk(folder: Path, count: int, size: int) -> None:
    needed = count * size * size * 3
    if shutil.disk_usage(folder).free < needed:  # a memory map on a full disk dies by SIGBUS
        raise UserError(
            f"{folder}: the pixel cache needs {needed / 1e9:.1f} GB, more than the disk has free. "
            f"Free some space, or choose another place with --out."
        )


def _decode_rows(
    partial: Path, dataset: Dataset, prepare: _Prepare, on_progress: Callable[[int], None] | None
) -> tuple[list[Fact], int]:
    """Decode each file into the rows of its images in a new .npy file; rows of unreadable files stay zero.

    Returns:
        Each image's fact, and the number of unusable color profiles.
    """
    samples, files = dataset.samples, by_file(dataset.samples)
    rows = _new_rows(partial, len(samples), prepare.size)
    facts: list[Fact] = [""] * len(samples)
    done = np.cumsum([0, *map(len, files)])

    def one(numbers: list[int]) -> bool:
        first = samples[numbers[0]]
        try:
            decoded = decode_bytes(dataset.read(first), dataset.place_of(first))
        except UnreadableImageError as error:
            for row in numbers:
                facts[row] = error.reason
            return False
        for row in numbers:
            pixels = samples[row].cut(decoded.pixels)
            rows[row] = prepare(pixels)
            facts[row] = (pixels.shape[1], pixels.shape[0])
        return decoded.broken_profile

    broken = in_threads(one, files, on_progress and (lambda read: on_progress(int(done[read]))))
    rows.flush()
    return facts, sum(broken)


def _copy_rows(source: Path, target: Path, wanted: Sequence[int]) -> None:
    old = open_pixels(source)
    new = _new_rows(target, len(wanted), old.shape[1])
    for row, origin in enumerate(wanted):
        new[row] = old[origin]
    new.flush()


def _new_rows(path: Path, count: int, size: int) -> np.memmap[Any, np.dtype[np.uint8]]:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, size, size, 3))


def _stored_facts(target: Path, count: int) -> tuple[list[Fact], int] | None:
    """The facts that `_decode_rows` found for a finished cache; None if it is missing or damaged."""
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


def _facts_of(cache: Path) -> dict[str, Any]:
    """The content of the JSON file beside a cache; ValueError if it is damaged."""
    found = parse_json(read_bytes(_facts_file(cache), MAX_FACTS))
    if not isinstance(found, dict):
        raise ValueError("no facts of a cache")
    return found


def _facts_file(target: Path) -> Path:
    return target.with_suffix(".json")


def _sha256_of_cache(path: Path) -> str:
    """A cache's hash, computed once unless the file changes: a command opens it more than once."""
    found = path.stat()
    return _hash_once(path, found.st_ino, found.st_size, found.st_mtime_ns)


@functools.cache
def _hash_once(path: Path, *_version: int) -> str:
    return sha256_of(path)


def _key(hashes: Sequence[str], size: int, aspect: Aspect, balance: WhiteBalance) -> str:
    own = [name for name in (aspect, balance) if name not in ("squeeze", "none")]  # as earlier versions' caches are
    return hashlib.sha256("\n".join([*hashes, str(size), str(RESIZE_VERSION), *own]).encode()).hexdigest()
