"""What decoding takes is told by the header alone, before anything is decoded."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from leanet.data.decode import Cost, UnreadableImageError, cost_of, decode_bytes

SIZE = 30, 20


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def deep_png(channels: int) -> bytes:
    """A PNG of 16 bits a channel, which Pillow reads but does not write."""
    width, height = SIZE
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(2 * channels * width)) * height)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


FILES = {
    **{
        f"{mode} png": (encoded(Image.new(mode, SIZE), "PNG"), 4) for mode in ("1", "L", "P", "RGB", "RGBA", "I;16")
    },
    "cmyk jpeg": (encoded(Image.new("CMYK", SIZE), "JPEG"), 4),
    "progressive": (encoded(Image.new("RGB", SIZE), "JPEG", progressive=True), 4),
    "lossy webp": (encoded(Image.new("RGB", SIZE), "WEBP"), 4),
    "lossless webp": (encoded(Image.new("RGB", SIZE), "WEBP", lossless=True), 4),
    "webp with alpha": (encoded(Image.new("RGBA", SIZE, (1, 2, 3, 4)), "WEBP"), 4),
    "16-bit rgb": (deep_png(3), 6),
    "16-bit rgba": (deep_png(4), 8),
}


@pytest.mark.parametrize("kind", FILES)
def test_pixels_and_their_bytes_are_told_by_the_header(kind: str) -> None:
    data, bytes_a_pixel = FILES[kind]
    assert cost_of(data) == Cost(600, 600 * bytes_a_pixel)
    assert decode_bytes(data, Path("a")).pixels.shape == (20, 30, 3)
    assert cost_of(data, max_pixels=599) == Cost(0, 0)
    with pytest.raises(UnreadableImageError, match="30 x 20 pixels, the limit is"):
        decode_bytes(data, Path("a"), 599)


def test_scans_that_keep_a_decoder_busy_count() -> None:
    data = encoded(Image.new("RGB", SIZE), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    assert cost_of(data[:-2] + last * 100 + b"\xff\xd9") == Cost(600, 600 * 4 * 11)
    assert cost_of(data[:-2] + last * 300 + b"\xff\xd9") == Cost(0, 0)


@pytest.mark.parametrize("data", [b"", b"RIFF....WEBP", b"no image", FILES["RGB png"][0][:20]])
def test_what_is_no_image_costs_nothing(data: bytes) -> None:
    assert cost_of(data) == Cost(0, 0)


def test_a_webp_is_not_opened_before_its_size_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Image.Image:
        raise AssertionError("opened")

    data = bytearray(encoded(Image.new("RGB", (10, 10)), "WEBP", lossless=True))
    data[21:25] = (16_382 | 16_382 << 14).to_bytes(4, "little")
    monkeypatch.setattr(Image, "open", refuse)
    assert len(data) < 100
    assert cost_of(bytes(data)) == Cost(0, 0)
    with pytest.raises(UnreadableImageError, match="16383 x 16383 pixels, the limit is 200 million"):
        decode_bytes(bytes(data), Path("a"))
