"""Ground-truth masks: image files, folders whose images form one mask, URLs, regions of a Label Studio export."""

from __future__ import annotations

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
from leanet.errors import UserError


def mask_pixels(place: str) -> NDArray[np.bool_]:
    """A mask in its own size: bool (H, W), True where it is anomalous.

    Args:
        place: path or URL of an image, anomalous where it is not black; a folder of such images of one size, which
            make up one mask together; or EXPORT.json#TASK, the regions of a task in a Label Studio export. Color
            profiles do not count.
    Raises:
        OSError: no such image, or an unreadable one.
    """
    if is_task(place):
        return mask_of_task(place)
    if is_url(place):
        return _anomalous(BytesIO(_fetched(place)))
    path = Path(place)
    files = find_images(path).images if path.is_dir() else (path,)
    parts = [_anomalous(_regular(file)) for file in files]
    if not parts or any(part.shape != parts[0].shape for part in parts):
        raise OSError(f"{path}: no masks of one size")
    whole: NDArray[np.bool_] = np.any(parts, axis=0)
    return whole


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
        said = str(getattr(error, "strerror", None) or error).lower()
        raise UserError(f"{mask}: cannot read the mask of {sample.file} ({said}). Correct or remove it.") from None
    if found != size:
        raise UserError(
            f"{mask}: the mask has {found[0]} x {found[1]} pixels, its image {sample.file} {size[0]} x {size[1]}. "
            "Give it the image's size, or remove it."
        )


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
