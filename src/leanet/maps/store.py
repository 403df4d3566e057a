"""A fold's anomaly maps and recolored chrominance on disk: one chunk per image, all hashed."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr import Array
from zarr.codecs import BloscCodec, numcodecs

from leanet.errors import DamagedError, UserError
from leanet.files import partial_of, remove
from leanet.reading import parse_json, read_bytes

DELTA_E_STEP = 0.005
"""Anomaly maps are stored as uint16 in steps of this many ΔE00 units."""

CHUNKS, ARRAYS, DIGEST = "chunks_blake2b", "arrays_blake2b", "digest"
"""Attributes with hashes: of each array's chunks, concatenated; of its description; of all attributes."""

DELTA_E, CHROMA = "delta_e", "recoloured_ab"
"""The two arrays: maps of any unit and, from a colorizer, the recolored chrominance."""

STEP = "step"
"""The attribute with the maps' resolution, if it is not DELTA_E_STEP."""

_DIMENSIONS = {DELTA_E: 3, CHROMA: 4}

_LARGEST = 1_000_000_000
"""Most bytes of a description; a million images need a tenth of this."""

_LARGEST_CHUNK = 64_000_000
"""Most bytes of one image's chunk; the largest has 512 x 512 x 2 before compression."""


@contextlib.contextmanager
def _no_word_of_numcodecs() -> Iterator[None]:
    """Silence Zarr's warning that other programs may not know the filter Delta; users cannot act on it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Numcodecs codecs are not", category=UserWarning)
        yield


def _hash_of_chunk(maps: Path, array: str, row: int) -> str:
    """Hash of the bytes of one image's chunk."""
    return _hash(read_bytes(maps / array / f"c.{row}{'.0' * (_DIMENSIONS[array] - 1)}", _LARGEST_CHUNK))


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _hashes(maps: Path, names: Sequence[str], images: int) -> dict[str, dict[str, str]]:
    """Hashes of the chunks and the descriptions of these arrays, as attributes."""
    chunks = {name: "".join(_hash_of_chunk(maps, name, row) for row in range(images)) for name in names}
    arrays = {name: _hash(read_bytes(maps / name / "zarr.json", _LARGEST)) for name in names}
    return {CHUNKS: chunks, ARRAYS: arrays}


def _digest(attributes: Mapping[str, Any]) -> str:
    others = {k: v for k, v in attributes.items() if k != DIGEST}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


class MapWriter:
    """Writes RUN/<fold>/maps.zarr, one chunk per image, under a temporary name until `close`.

    Args:
        path: path of the group.
        images, side: number of images, and the side of their maps in pixels.
        with_chroma: whether to store recolored chrominance too.
        step: resolution of the maps.
    """

    def __init__(
        self, path: Path, images: int, side: int, *, with_chroma: bool = True, step: float = DELTA_E_STEP
    ) -> None:
        self.path, self._step = path, step
        self._partial = partial_of(path)
        remove(self._partial)
        self._group = zarr.open_group(self._partial, mode="w")
        # On leaves, bit planes and differences of neighbors take a quarter less space than zstd alone.
        with _no_word_of_numcodecs():
            bits = BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle", typesize=2)
            self._delta_e = self._array(DELTA_E, (images, side, side), "uint16", compressors=bits)
            self._chroma: Array[Any] | None = None
            if with_chroma:
                bytes_ = BloscCodec(cname="zstd", clevel=7, shuffle="shuffle", typesize=1)
                differences = numcodecs.Delta(dtype="|u1")
                self._chroma = self._array(
                    CHROMA, (images, 2, side, side), "uint8", filters=differences, compressors=bytes_
                )

    def _array(self, name: str, shape: tuple[int, ...], dtype: str, **codecs: Any) -> Array[Any]:
        return self._group.create_array(
            name,
            shape=shape,
            chunks=(1, *shape[1:]),
            dtype=dtype,
            chunk_key_encoding={"name": "default", "separator": "."},  # a directory takes as much disk as a file
            # Write chunks of zeros too: a missing chunk then means a damaged fold.
            config={"write_empty_chunks": True},
            **codecs,
        )

    def write(
        self, rows: NDArray[np.int64], maps: NDArray[np.float32], coded_ab: NDArray[np.float32] | None = None
    ) -> None:
        """Write the maps (n, H, W) and, if any, the chrominance (n, 2, H, W) in [0, 1] of these rows.

        Raises:
            ValueError: a map has values below 0, or not finite.
        """
        if not np.isfinite(maps).all() or maps.min() < 0:
            raise ValueError(
                f"an anomaly map with values from {maps.min():g} to {maps.max():g}, expected 0 or more"
            )
        self._delta_e.oindex[rows] = np.rint(maps / self._step).clip(0, 65535).astype(np.uint16)
        if self._chroma is not None and coded_ab is not None:
            self._chroma.oindex[rows] = np.rint(coded_ab * 255).astype(np.uint8)

    def close(self, attributes: Mapping[str, Any]) -> None:
        """Store the attributes, with hashes of everything, and move the finished group to its place."""
        arrays = [DELTA_E] if self._chroma is None else [DELTA_E, CHROMA]
        stored = dict(attributes) if self._step == DELTA_E_STEP else {**attributes, STEP: self._step}
        described = {**stored, **_hashes(self._partial, arrays, self._delta_e.shape[0])}
        self._group.attrs.update({**described, DIGEST: _digest(described)})
        remove(self.path)
        self._partial.rename(self.path)


class Maps:
    """Reads RUN/<fold>/maps.zarr and checks everything against the stored hashes.

    Maps of earlier versions have no hashes. With `unpack`, the first read decodes all anomaly maps into a scratch
    file, for callers that read them many times.

    Args:
        path: path of the group.
        images, side: required number of images, and side of their maps in pixels.
        unpack: whether to unpack.
    Raises:
        UserError: no such group.
        DamagedError: the group is damaged.
    """

    def __init__(self, path: Path, images: int, side: int, unpack: bool = True) -> None:
        self._path, self._unpack = path, unpack
        if not path.exists():
            raise UserError(f"{path}: no anomaly maps yet. Run `leanet colorize` first, for the same folds.")
        with self._reading():
            group = parse_json(read_bytes(path / "zarr.json", _LARGEST))
            self.attributes: dict[str, Any] = dict(group["attributes"])
            self._chunks: dict[str, str] = self._checked_hashes()
            self._arrays = {DELTA_E: self._array(DELTA_E, (images, side, side), "uint16")}
            if not self._chunks or CHROMA in self._chunks:
                self._arrays[CHROMA] = self._array(CHROMA, (images, 2, side, side), "uint8")
            self._step = float(self.attributes.get(STEP, DELTA_E_STEP))
            self.normals_p99 = float(self.attributes["normals_p99"])
            means = np.array(self.attributes["mean_delta_e"], dtype=np.float64)
            if means.shape != (images,) or not np.isfinite(means).all() or not 0 < self.normals_p99 < math.inf:
                raise ValueError("other numbers than maps have")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (MemoryError, UserError):
            raise
        except Exception:  # on damaged data zarr and its codecs raise nearly anything
            raise DamagedError(
                self._path, "damaged anomaly maps. Run `leanet colorize` to make them again."
            ) from None

    def _checked_hashes(self) -> dict[str, str]:
        """Each array's chunk hashes; empty for maps of earlier versions."""
        a = self.attributes
        if not {CHUNKS, ARRAYS, DIGEST} & set(a):
            return {}
        if _digest(a) != a[DIGEST]:
            raise ValueError("changed attributes")
        for name, found in a[ARRAYS].items():
            if _hash(read_bytes(self._path / name / "zarr.json", _LARGEST)) != found:
                raise ValueError("a changed description")
        return dict(a[CHUNKS])

    def _array(self, name: str, shape: tuple[int, ...], dtype: str) -> Array[Any]:
        read_bytes(self._path / name / "zarr.json", _LARGEST)  # refuses pipes and devices before zarr opens them
        with _no_word_of_numcodecs():
            array = zarr.open_array(self._path / name, mode="r")
        if (array.shape, array.chunks, str(array.dtype)) != (shape, (1, *shape[1:]), dtype):
            raise ValueError("another shape than the run's images have")
        if array.nchunks_initialized != shape[0]:
            raise ValueError("a chunk is missing")
        return array

    def __len__(self) -> int:
        return int(self._arrays[DELTA_E].shape[0])

    @property
    def has_chroma(self) -> bool:
        """Whether the recolored chrominance is stored."""
        return CHROMA in self._arrays

    @property
    def identity(self) -> str:
        """The identity of these maps: a hash of their images, split and values."""
        content = {k: v for k, v in self.attributes.items() if k not in (CHUNKS, ARRAYS, DIGEST)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def verify(self) -> None:
        """Raise DamagedError unless every chunk matches its hash or, without a hash, can be decoded."""
        for name in self._arrays:
            for row in range(len(self)):
                if self._chunks:
                    self._check(name, row)
                else:
                    self._read(name, row)

    def _check(self, name: str, row: int) -> None:
        """Compare an image's chunk with its hash."""
        at = slice(32 * row, 32 * row + 32)
        with self._reading():
            if self._chunks and _hash_of_chunk(self._path, name, row) != self._chunks[name][at]:
                raise ValueError("a changed chunk")

    def _read(self, name: str, row: int) -> NDArray[Any]:
        """One image's part of an array."""
        self._check(name, row)
        with self._reading():
            return np.asarray(self._arrays[name][row])

    @functools.cached_property
    def _decoded(self) -> NDArray[np.uint16]:
        """The maps unpacked into a memory-mapped scratch file, which saves a millisecond per image and epoch.

        It is beside the maps, because the system's temporary folder is often in memory.
        """
        shape = self._arrays[DELTA_E].shape
        beside, needed = self._path.parent, 2 * math.prod(shape)
        place = beside if os.access(beside, os.W_OK) else Path(tempfile.gettempdir())
        if shutil.disk_usage(place).free < needed:  # a memory map on a full disk dies by SIGBUS
            raise UserError(f"{place}: unpacking the anomaly maps needs {needed / 1e9:.1f} GB. Free space there.")
        with tempfile.TemporaryFile(dir=place) as scratch:
            decoded = np.memmap(scratch, dtype=np.uint16, mode="w+", shape=shape)
        for row in range(len(self)):
            decoded[row] = self._read(DELTA_E, row)
        return decoded

    def delta_e(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Anomaly maps (n, H, W) of these rows, in their unit."""
        stored = self._decoded[rows] if self._unpack else np.stack([self._read(DELTA_E, int(r)) for r in rows])
        return stored.astype(np.float32) * np.float32(self._step)

    def coded_ab(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Recolored chrominance (n, 2, H, W) of these rows, coded to [0, 1]."""
        stored = np.stack([self._read(CHROMA, int(r)) for r in rows])
        return stored.astype(np.float32) / np.float32(255)
