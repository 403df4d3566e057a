"""Convert the kinds of picture that Python callers can pass to pixels, without torch, for exported models."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from leanet.data.color_profile import BROKEN
from leanet.data.decode import MAX_BYTES, MAX_SIDE, Decoded, decode_bytes, decode_with_origin, to_rgb
from leanet.errors import UserError
from leanet.reading import Readable, read_within

if TYPE_CHECKING:
    from torch import Tensor


Picture: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | Readable | Image.Image | NDArray[Any] | Tensor"
)
"""A path; a file's content, as bytes or as a file open for reading bytes; a PIL image; an array uint8 (H, W, 3) or
(H, W); or a tensor (3, H, W). Arrays and tensors are RGB, uint8 or float in [0, 1]."""


def is_picture(given: object) -> TypeGuard[Picture]:
    """Whether this is one picture by its type; any other iterable, or an array (N, H, W, 3), is several."""
    if isinstance(given, str | os.PathLike | Image.Image | bytes | bytearray) or hasattr(given, "read"):
        return True
    ndim = getattr(given, "ndim", None)
    return isinstance(ndim, int) and ndim < 4


def to_pixels(picture: Picture, name: str = "picture") -> NDArray[np.uint8]:
    """A picture of any kind as uint8 (H, W, 3), sRGB.

    Args:
        name: name in messages if the picture has no path.
    Raises:
        UserError: an unreadable file or image; an array or tensor whose shape or type `Picture` excludes; any other
            object.
    """
    if isinstance(picture, Image.Image):
        return _of_pil_image(picture, name)
    if isinstance(picture, str | os.PathLike):
        return _told(decode_with_origin(_path(picture, name)), str(picture))
    if isinstance(picture, bytes | bytearray | memoryview):
        return _told(decode_bytes(bytes(picture), Path(name)), name)
    if hasattr(picture, "read"):
        return _told(decode_bytes(_content(picture, name), Path(name)), name)
    return _of_array(_as_array(picture, name), name)


def _path(picture: str | os.PathLike[str], name: str) -> Path:
    try:
        path = Path(picture)
    except TypeError as error:
        raise UserError(f"{name}: expected a path of text ({error}). Give a str or a Path.") from None
    if path.is_dir():
        raise UserError(f"{path}: a folder, not a picture. Give the paths of its pictures.")
    return path


def _told(decoded: Decoded, name: str) -> NDArray[np.uint8]:
    """A file's pixels, with a warning if its color profile is unusable."""
    if decoded.broken_profile:
        _warn_of_profile(name)
    return decoded.pixels


def _warn_of_profile(name: str) -> None:
    warnings.warn(f"{name}: its color profile is unusable: taken as sRGB", stacklevel=5)


def _of_pil_image(picture: Image.Image, name: str) -> NDArray[np.uint8]:
    try:
        image, profile = to_rgb(ImageOps.exif_transpose(picture))
    except MemoryError:
        raise
    except Exception as error:  # opened, but not yet decoded: Pillow's decoders raise nearly anything
        raise UserError(f"{name}: unusable PIL image ({error}). Replace it, or convert it to RGB first.") from None
    if profile is BROKEN:
        _warn_of_profile(name)
    return _of_array(np.asarray(image), name)


def _content(file: Readable, name: str) -> bytes:
    try:
        return read_within(file, MAX_BYTES)
    except OSError as error:
        raise UserError(f"{name}: the file cannot be read ({error.strerror or error}). Open another.") from None
    except MemoryError:
        raise
    except Exception as error:  # closed, not bytes, or an error of a custom stream
        raise UserError(f"{name}: the file cannot be read ({error}). Open it for reading, in mode 'rb'.") from None


def _as_array(picture: object, name: str) -> NDArray[Any]:
    """The array or tensor as an array (H, W, 3) or (H, W), if its shape allows."""
    torch = sys.modules.get("torch")  # a caller with a tensor has imported torch
    if torch is not None and isinstance(picture, torch.Tensor):
        try:
            tensor = picture.detach().cpu()
            array: NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        except (NotImplementedError, RuntimeError, TypeError) as error:  # sparse, quantized, or a meta tensor
            reason = " ".join(str(error).split())[:100]
            raise UserError(f"{name}: unusable tensor ({reason}). Give a dense one.") from None
        return array.transpose(1, 2, 0) if array.ndim == 3 and array.shape[0] == 3 else array
    if hasattr(picture, "__array__"):
        return np.asarray(picture)
    raise UserError(
        f"{name}: expected a path, bytes, a file open for reading bytes, a PIL image, an array or a tensor, "
        f"found {type(picture).__name__}."
    )


def _of_array(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise UserError(
            f"{name}: expected an array of shape (H, W, 3) or a tensor of (3, H, W), found {array.shape}."
        )
    if max(array.shape) > MAX_SIDE:
        raise UserError(f"{name}: expected sides of up to {MAX_SIDE} pixels, found {array.shape}.")
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise UserError(f"{name}: floats must lie in [0, 1]. Divide 8-bit values by 255, or pass uint8.")
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise UserError(f"{name}: expected an array of uint8, or of floats in [0, 1], found {array.dtype}.")
    return np.ascontiguousarray(array)
