"""Decode image files safely, estimate the cost, and resize."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from leanet.data.color_profile import BROKEN, Profile, read_profile
from leanet.data.find import HEAD, advice, is_special, reads, unread_format
from leanet.data.headers import jpeg_scans, webp_canvas, without_profile
from leanet.data.remote import address
from leanet.errors import UserError

MAX_PIXELS = 200_000_000
MAX_BYTES = 2_000_000_000  # of a file; the largest accepted image takes 1.6 GB uncompressed
MAX_SIDE = 65_535  # JPEG's limit; the resize's first pass keeps the full height
MAX_JPEG_SCANS = 200  # a progressive JPEG has about ten; each takes as long to decode as the whole picture
FORMATS = (
    "JPEG",
    "PNG",
    "BMP",
    "DIB",
    "TIFF",
    "WEBP",
    "GIF",
)  # no EPS or the like, which start other programs
RESIZE_VERSION = 3  # raise it when decode or resize return other pixels, to invalidate old caches

UInt8Array: TypeAlias = npt.NDArray[np.uint8]

_USUAL_SCANS = 10  # of an ordinary progressive JPEG
_PILLOW_PIXEL = 4  # bytes per pixel in Pillow's memory, in all but the smallest modes
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
_ACROSS = (_TURN[5], _TURN[6], _TURN[7], _TURN[8])
"""Those that exchange width and height."""


class UnreadableImageError(UserError):
    """A file is not usable as an image; `reason` says why in a few words."""

    def __init__(self, path: Path, reason: str, remedy: str = "Remove it or replace it.", more: int = 0) -> None:
        others = f", and {more} more" if more else ""
        super().__init__(f"{address(path)}: not a readable image ({reason}){others}. {remedy}")
        self.reason = reason


@dataclass(frozen=True)
class Decoded:
    """A decoded file.

    Attributes:
        pixels: uint8 (H, W, 3), sRGB.
        format, mode: as stored.
        turned: whether EXIF orientation rotated or mirrored it.
        first_of_several: whether the file has further frames or pages, which are ignored.
        profile: the embedded color profile; None if there was none.
    """

    pixels: UInt8Array
    format: str
    mode: str
    turned: bool
    first_of_several: bool
    profile: Profile | None

    @property
    def broken_profile(self) -> bool:
        """Whether the embedded color profile was unusable; the values then count as sRGB."""
        return self.profile is BROKEN


@dataclass(frozen=True)
class Cost:
    """The cost of decoding a file, estimated from its header.

    Attributes:
        pixels: width times height; 0 if `decode_bytes` refuses the file without decoding it.
        bytes: decoded bytes, times the passes over them for a JPEG with many scans.
    """

    pixels: int
    bytes: int


def decode(path: Path) -> UInt8Array:
    """Decode an image file to sRGB.

    How each kind of file is handled:
        EXIF orientation: applied (a damaged EXIF block counts as none).
        Grayscale, 1-bit, palette: expanded to RGB.
        16-bit grayscale: divided by 257 and rounded (65535 becomes 255), without stretching or clipping.
        16-bit RGB and RGBA: Pillow's decoder keeps the high byte, which is within 1 of division by 257.
        32-bit integer grayscale: as 16-bit; values outside 0..65535 make the file unreadable.
        CMYK, YCbCr, CIELAB: Pillow's conversion, unless there is a profile.
        Embedded color profile (ICC): converted to sRGB, see `leanet.data.color_profile`; 16-bit grayscale in full
            depth, all else in 8 bits. A profile that is broken, unreadable for Pillow, or for another kind of image
            counts as sRGB. PNG's other color chunks (gAMA, cHRM, cICP) and EXIF's color space are ignored.
        Alpha or a transparent color: composited on white (but not the transparent color of 16-bit RGB), after the
            profile.
        Camera raw stored as TIFF (DNG): unreadable, because a TIFF reader finds only the thumbnail.
        Animation, several pages, several pictures (MPO, HEIC): the first frame; of HEIC, the primary picture.
        Floating point: unreadable.
    JPEG is decoded at full size (no draft mode).

    Returns:
        uint8 (H, W, 3).

    Raises:
        UnreadableImageError: missing, empty, truncated, not an image, more than MAX_PIXELS pixels, or a side
            above MAX_SIDE; the header is checked for the size before decoding.
    """
    return decode_with_origin(path).pixels


def decode_with_origin(path: Path) -> Decoded:
    """Decode as `decode` does, and report how the file stored the image."""
    return decode_bytes(read_image_file(path), path)


def read_image_file(path: Path) -> bytes:
    """The content of an image file of at most MAX_BYTES; UnreadableImageError if it cannot be read."""
    try:
        status = path.stat()
        if is_special(status):
            raise UnreadableImageError(path, "a pipe, device or socket")
        if status.st_size > MAX_BYTES:
            raise UnreadableImageError(path, f"more than {MAX_BYTES // 10**9} GB")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(path, (error.strerror or "cannot be read").lower()) from None
    except ValueError:
        raise UnreadableImageError(path, "a name with a zero in it") from None


def decode_bytes(data: bytes, name: Path, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Decode a file's content as `decode` does; messages call it `name`."""
    if not data:
        raise UnreadableImageError(name, "empty file")
    if data[:2] == b"\xff\xd8" and jpeg_scans(data) > MAX_JPEG_SCANS:
        raise UnreadableImageError(name, f"more than {MAX_JPEG_SCANS} scans")
    if (canvas := webp_canvas(data)) and (reason := _size_problem(*canvas, max_pixels)):
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
    """Estimate the cost of `decode_bytes` from a file's header."""
    scans = jpeg_scans(data) if data[:2] == b"\xff\xd8" else 1
    stored = _PILLOW_PIXEL
    size = webp_canvas(data)
    if not size:
        try:
            with _open(data) as image:
                size = image.size
                channels = len(image.getbands()) * (2 if ";16" in str(getattr(image, "tile", "")) else 1)
                stored = max(stored, channels)
        except Exception:  # decode_bytes will report the reason
            return Cost(0, 0)
    if scans > MAX_JPEG_SCANS or _size_problem(*size, max_pixels):
        return Cost(0, 0)
    pixels = size[0] * size[1]
    return Cost(pixels, pixels * stored * max(1, scans // _USUAL_SCANS))


def size_of(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int] | None:
    """Height and width of the picture that `decode_bytes` makes of a file, by its header; None if it refuses it."""
    if not data or (data[:2] == b"\xff\xd8" and jpeg_scans(data) > MAX_JPEG_SCANS):
        return None
    try:
        with _open(data) as image:
            width, height = image.size
            is_turned = image.format != "TIFF" and _TURN.get(_orientation(image)) in _ACROSS  # Pillow turns a TIFF
    except Exception:  # decode_bytes will report the reason
        return None
    if _size_problem(width, height, max_pixels):
        return None
    return (width, height) if is_turned else (height, width)


def resize(image: UInt8Array, size: int) -> UInt8Array:
    """Resize to a square, for cache and prediction: antialiased bilinear, rounded to uint8 after each direction.

    The order is always width, then height. Pillow by itself takes the cheaper order, which an exported graph cannot
    do.

    Args:
        image: uint8 (H, W, 3).
        size: side in pixels.

    Returns:
        uint8 (size, size, 3), whatever the aspect ratio.
    """
    if image.shape[:2] == (size, size):
        return image
    across = Image.fromarray(image).resize((size, image.shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(across.resize((size, size), Image.Resampling.BILINEAR))


def checked_images(images: Sequence[UInt8Array], sizes: Sequence[tuple[int, int]] | None = None) -> None:
    """Refuse anything but a batch of images.

    Args:
        images: each uint8 (H, W, 3) with sides of 1 to MAX_SIDE.
        sizes: original height and width of each image, 1 or more; None if they are the images' own.
    Raises:
        UserError: an array of another type or shape, or sizes for a different number of images.
    """
    for image in images:
        found = f"{getattr(image, 'dtype', type(image).__name__)} {np.shape(image)}"
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            raise UserError(f"expected an array of uint8, (H, W, 3), found {found}.")
        if image.ndim != 3 or image.shape[2] != 3 or not min(image.shape) > 0 or max(image.shape) > MAX_SIDE:
            raise UserError(f"expected an array (H, W, 3) with sides of 1 to {MAX_SIDE}, found {found}.")
    if sizes is not None and (len(sizes) != len(images) or any(len(s) != 2 or min(s) < 1 for s in sizes)):
        raise UserError(
            f"sizes: expected a height and a width for each of {len(images)} images, found {sizes!r:.50}."
        )


def to_rgb(image: Image.Image) -> tuple[Image.Image, Profile | None]:
    """Convert a loaded image of any mode to sRGB, see `decode`; also returns its profile, None without one.

    Raises:
        ValueError: floating-point pixels, or gray values outside 0..65535.
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


def _open(data: bytes) -> Image.Image:
    """Read the header only, without Pillow's size limit (179 million pixels), because ours is checked next."""
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        formats = _formats_of(data)
        try:
            return Image.open(BytesIO(data), formats=formats)
        except Exception:  # as in decode_bytes; an unreadable profile need not make the pixels unreadable
            if (bare := without_profile(data)) is None:
                raise
            image = Image.open(BytesIO(bare), formats=formats)
            image.info["icc_profile"] = None
            return image
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _formats_of(data: bytes) -> tuple[str, ...]:
    """The formats to try: HEIC and AVIF only for such files, because their libraries are slow to import."""
    name = unread_format(data[:HEAD])
    if name not in ("HEIC", "AVIF") or not reads(name):
        return FORMATS
    if name == "HEIC":
        import pillow_heif

        pillow_heif.register_heif_opener()
        return ("HEIF",)
    return ("AVIF",)


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


def _profile_in(image: Image.Image) -> Profile | None:
    """An image's color profile, BROKEN if it is unusable; Pillow returns None for one that it cannot read."""
    data = image.info.get("icc_profile", b"")
    if data == b"":
        return None
    profile = read_profile(bytes(data)) if isinstance(data, bytes | bytearray) else BROKEN
    return profile if profile.suits(image.mode) else BROKEN


def _on_white(image: Image.Image) -> Image.Image:
    """Composite RGBA on white, in strips, because Pillow blocks other threads during a call."""
    width, height = image.size
    laid = Image.new("RGB", image.size)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        white = Image.new("RGBA", strip.size, "white")
        laid.paste(Image.alpha_composite(white, strip).convert("RGB"), (0, top))
    return laid


def _from_deep_grey(image: Image.Image, profile: Profile | None) -> Image.Image:
    """Scale 16- or 32-bit grayscale, 0..65535, to 8 bits, and replicate it to RGB."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("gray values outside 0..65535")
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
        return advice(name) if name and not reads(name) else "not an image, or of an unknown format"
    text = " ".join(str(error).split()) or type(error).__name__
    if "could not create decoder" in text:  # libwebp's only message
        return "damaged or truncated file"
    return "truncated file" if "truncated" in text.lower() else text
