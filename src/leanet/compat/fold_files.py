"""Check, read and write the files of the authors' fold folders, a few images at a time.

A fold folder holds RGB, Colored, Attention and Label.npz. In each, arr_0 is the train side and arr_1 the test side:
float32 images (N, H, W, 3) in [0, 1] (Colored: Lab coded to [0, 1]), maps (N, H, W, 1) in ΔE units, labels 0 and 1.
Memory does not grow with the number of images, and nothing is unpickled.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from leanet.config import check_image_size
from leanet.data.dataset import CLASS_NAMES
from leanet.errors import UserError
from leanet.maps.store import DELTA_E_STEP

CHUNK = 16
"""Images in memory at a time."""

SIDES = {"arr_0": "train", "arr_1": "test"}
"""The two arrays of every file."""

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Kind:
    """A file of images or maps: its name, its channels, and the limits of its values."""

    file: str
    channels: int
    low: float
    high: float


RGB = Kind("RGB.npz", 3, -1e-3, 1 + 1e-3)
COLORED = Kind("Colored.npz", 3, -1e-3, 1 + 1e-3)
ATTENTION = Kind("Attention.npz", 1, 0, 65535 * DELTA_E_STEP)  # a larger ΔE cannot be stored
KINDS = (RGB, COLORED, ATTENTION)
LABEL = "Label.npz"


@dataclass(frozen=True)
class FoldFiles:
    """A fold folder with arrays of the right shapes, and the labels of its sides by array name."""

    path: Path
    labels: dict[str, NDArray[np.int64]]


def inspect(source: Path) -> tuple[list[FoldFiles], int]:
    """The fold folders 0..n-1 in a folder, with labels and shapes checked, and the side of the images in pixels.

    Raises:
        UserError: fewer than two folders, or a gap; a missing or damaged file or array; inconsistent shapes, or an
            unsupported size; labels other than 0 and 1, or a side without a class.
    """
    try:
        found = {path.name for path in source.iterdir() if path.name.isdecimal() and path.is_dir()}
    except OSError as error:
        raise UserError(f"{source}: cannot read this folder ({error.strerror}). Check the path.") from None
    names = [str(number) for number in range(len(found))]
    if len(names) < 2 or found != set(names):
        raise UserError(
            f"{source}: expected two or more fold folders 0, 1, ... without a gap, "
            f"found {', '.join(sorted(found)) or 'none'}. Name the folder that holds them."
        )
    first = source / "0" / RGB.file
    shape, _ = read_header(first, "arr_0")
    side = shape[1] if len(shape) == 4 else 0
    try:
        check_image_size(side)
    except UserError:
        raise UserError(
            f"{first}: arr_0 has the shape {shape}; expected (N, side, side, 3), side a multiple of 32 from "
            "64 to 512. Make the folds again with such images."
        ) from None
    return [_inspect_fold(source / name, side) for name in names], side


def read_images(fold: Path, kind: Kind, name: str) -> Iterator[NDArray[np.float32]]:
    """One array of a fold folder, in parts: float32 (n, H, W, channels), within the kind's limits.

    Raises:
        UserError: the file is damaged, or holds NaN or a value outside the limits.
    """
    start = 0
    for part in read_rows(fold / kind.file, name):
        is_good = (part >= kind.low) & (part <= kind.high)  # NaN is neither
        if not is_good.all():
            at = np.unravel_index(int(is_good.argmin()), part.shape)
            raise UserError(
                f"{fold / kind.file}: image {start + int(at[0])} of {name} holds the value {part[at]:g}; "
                f"expected numbers from {kind.low:.0f} to {kind.high:.0f}. Make the file again."
            )
        start += len(part)
        yield part.astype(np.float32)


def read_header(path: Path, name: str) -> tuple[Shape, np.dtype[Any]]:
    """Shape and dtype of an array in an .npz file.

    Raises:
        UserError: no such file or array; a damaged file; an array of Python objects, in Fortran order, or of
            another length than its header says.
    """
    with _opened(path, name) as (shape, dtype, _):
        return shape, dtype


def read_rows(path: Path, name: str) -> Iterator[NDArray[Any]]:
    """An array of an .npz file, at most CHUNK rows at a time.

    Raises:
        UserError: as `read_header`, or the values cannot be read or fail their checksum.
    """
    with _opened(path, name) as (shape, dtype, stream):
        for start in range(0, shape[0], CHUNK):
            part = (min(CHUNK, shape[0] - start), *shape[1:])
            content = stream.read(math.prod(part) * dtype.itemsize)
            yield np.frombuffer(content, dtype).reshape(part)  # ValueError if the content is too short


def write_header(stream: IO[bytes], dtype: DTypeLike, shape: Shape) -> None:
    """Write the header of an array in numpy's format; the values must follow in C order."""
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})


def write_rows(file: zipfile.ZipFile, name: str, shape: Shape, parts: Iterable[NDArray[np.float32]]) -> None:
    """Add a float32 array of this shape, given in parts, to an .npz file as numpy.savez does."""
    with file.open(f"{name}.npy", "w", force_zip64=True) as stream:
        write_header(stream, np.float32, shape)
        for part in parts:
            stream.write(part.tobytes())


def _inspect_fold(path: Path, side: int) -> FoldFiles:
    labels = {name: _read_labels(path / LABEL, name) for name in SIDES}
    for kind in KINDS:
        for name in SIDES:
            shape, dtype = read_header(path / kind.file, name)
            expected = (len(labels[name]), side, side, kind.channels)
            if shape != expected or dtype.kind != "f":
                raise UserError(
                    f"{path / kind.file}: {name} is {dtype} {shape}; expected float32 {expected}, by {LABEL} "
                    f"and the {side} px of fold 0. Make the folds again from one set of images."
                )
    return FoldFiles(path, labels)


def _read_labels(path: Path, name: str) -> NDArray[np.int64]:
    """Labels of one side of a fold, int (N,), with both classes."""
    shape, dtype = read_header(path, name)
    if not shape or shape[1:] not in ((), (1,)) or dtype.kind not in "biuf":
        raise UserError(f"{path}: {name} is {dtype} {shape}; expected numbers (N,) or (N, 1). Make it again.")
    labels = np.concatenate([np.empty(0), *(rows.ravel() for rows in read_rows(path, name))])
    bad = np.flatnonzero((labels != 0) & (labels != 1))
    if len(bad):
        raise UserError(
            f"{path}: label {bad[0]} of {name} is {labels[bad[0]]:g}; expected 0 (normal) or 1 (anomalous). "
            "Make the file again."
        )
    for label, class_name in enumerate(CLASS_NAMES):
        if label not in labels:
            raise UserError(
                f"{path}: {name} has no {class_name} image among its {len(labels)}; expected both classes on "
                "both sides of a fold. Make the folds again."
            )
    return labels.astype(np.int64)


@contextmanager
def _opened(path: Path, name: str) -> Iterator[tuple[Shape, np.dtype[Any], IO[bytes]]]:
    """An array's shape and dtype, and the stream at its first value; any failure becomes a UserError."""
    try:
        with zipfile.ZipFile(path) as file:
            if f"{name}.npy" not in file.namelist():
                found = ", ".join(member.removesuffix(".npy") for member in file.namelist()[:8])
                raise UserError(
                    f"{path}: expected arr_0 (train) and arr_1 (test), found {found or 'none'}. Make it again."
                )
            with file.open(f"{name}.npy") as stream:
                shape, dtype = _parse_header(stream, file.getinfo(f"{name}.npy").file_size)
                yield shape, dtype, stream
    except FileNotFoundError:
        files = ", ".join(kind.file for kind in KINDS)
        raise UserError(f"{path}: missing; a fold folder must hold {files} and {LABEL}. Make it again.") from None
    except (UserError, MemoryError):
        raise
    except Exception as error:  # on damaged data zipfile and numpy raise nearly anything
        reason = (str(error) or "damaged").splitlines()[0]
        raise UserError(
            f"{path}: {name} cannot be read ({reason}); expected a whole .npz file of plain arrays. Make it again."
        ) from None


def _parse_header(stream: IO[bytes], member_size: int) -> tuple[Shape, np.dtype[Any]]:
    # Only version 1.0, which numpy writes for plain arrays: headers of other versions may be gigabytes long.
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("not version 1.0 of numpy's array format")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject or is_fortran:
        raise ValueError("Python objects" if dtype.hasobject else "Fortran order")
    found, expected = member_size - stream.tell(), math.prod(shape) * dtype.itemsize
    if found != expected:
        raise ValueError(f"{found} bytes of values where the shape {shape} needs {expected}")
    return shape, dtype
