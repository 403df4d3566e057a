"""Ground-truth masks: image files, folders whose images form one mask, URLs, regions of a Label Studio export."""

from __future__ import annotations

import functools
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from leanet.data.dataset import Dataset, Sample
from leanet.data.find import find_images, is_special
from leanet.data.label_studio import is_task, mask_of_task, size_of_task
from leanet.data.pictures import joined, read_place
from leanet.data.remote import address, is_url
from leanet.data.tiles import part_of
from leanet.errors import UserError


def mask_pixels(place: str) -> NDArray[np.bool_]:
    """A mask in its own size: bool (H, W), True where it is anomalous.

    Args:
        place: path or URL of an image, anomalous where it is not black; a folder of such images of one size, which
            make up one mask together; EXPORT.json#TASK, the regions of a task in a Label Studio export; or a part
            of these, see `leanet.data.tiles.part_name`. Color profiles do not count.
    Raises:
        OSError: no such image, or an unreadable one.
    """
    whole, part = part_of(place)
    if part is not None:
        left, top, width, height = part
        return _kept(whole, _version(whole))[top : top + height, left : left + width]
    if is_task(place):
        return mask_of_task(place)
    if is_url(place):
        return _anomalous(BytesIO(_fetched(place)))
    path = Path(place)
    files = find_images(path).images if path.is_dir() else (path,)
    parts = [_anomalous(_regular(file)) for file in files]
    if not parts or any(part.shape != parts[0].shape for part in parts):
        raise OSError(f"{path}: no masks of one size")
    together: NDArray[np.bool_] = np.any(parts, axis=0)
    return together


def checked_mask(dataset: Dataset, sample: Sample, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask of an image that has one: bool (H, W).

    Args:
        dataset: the image's.
        sample: the image.
        size: its width and height.
    Raises:
        UserError: the mask is missing, unreadable, or of another size.
    """
    _refuse_other_size(dataset, sample, size)
    assert sample.mask is not None
    place = joined(address(dataset.home), sample.mask)
    try:
        return mask_pixels(place)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(place, sample, error) from None


def refuse_other_sizes(dataset: Dataset, sizes: dict[str, tuple[int, int]]) -> None:
    """Raise UserError if a mask of an exact data set is missing, unreadable, or of another size than its image.

    Args:
        dataset: the images.
        sizes: width and height of the readable ones.
    """
    if not dataset.is_exact:
        return
    for sample in dataset.samples:
        if sample.mask and sample.file in sizes:
            _refuse_other_size(dataset, sample, sizes[sample.file])


def _refuse_other_size(dataset: Dataset, sample: Sample, size: tuple[int, int]) -> None:
    assert sample.mask is not None
    mask = joined(address(dataset.home), sample.mask)
    try:
        found = _size(mask)
    except (OSError, ValueError, Image.DecompressionBombError) as error:  # ValueError: a name with a zero in it
        raise _unreadable(mask, sample, error) from None
    if found != size:
        raise UserError(
            f"{mask}: the mask has {found[0]} x {found[1]} pixels, its image {sample.file} {size[0]} x {size[1]}. "
            "Give it the image's size, or remove it."
        )


def _unreadable(mask: str, sample: Sample, error: Exception) -> UserError:
    said = str(getattr(error, "strerror", None) or error).lower()
    return UserError(f"{mask}: cannot read the mask of {sample.file} ({said}). Correct or remove it.")


@functools.lru_cache(maxsize=1)
def _kept(place: str, _version: object) -> NDArray[np.bool_]:
    """A whole mask, which is kept while its parts are asked for one after another."""
    return mask_pixels(place)


def _version(place: str) -> object:
    if is_url(place):
        return None
    status = Path(place.partition("#")[0] if is_task(place) else place).stat()
    return status.st_mtime_ns, status.st_size


def _size(place: str) -> tuple[int, int]:
    """Width and height of a mask, from its file's header if it is one file."""
    if is_task(place):
        return size_of_task(place)
    if is_url(place) or Path(place).is_dir():
        height, width = mask_pixels(place).shape
        return width, height
    with Image.open(_regular(Path(place))) as image:
        return image.size


def _fetched(url: str) -> bytes:
    try:
        return read_place(url)
    except UserError as error:
        raise OSError(str(error)) from None


def _regular(file: Path) -> Path:
    if is_special(file.stat()):
        raise OSError(f"{file}: a pipe, device or socket")
    return file


def _anomalous(file: Path | BytesIO) -> NDArray[np.bool_]:
    with Image.open(file) as image:
        grey = image if image.mode.startswith(("I", "F")) else image.convert("L")
        found: NDArray[np.bool_] = np.asarray(grey) > 0
        return found
