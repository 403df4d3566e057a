"""Decoding of every kind of file and the resize, on files made by Pillow or by hand."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from pictures import picture
from PIL import Image

from leanet.data.decode import UnreadableImageError, decode, resize

SHARED = Path(__file__).parents[3] / "shared" / "data"


def png_bytes(width: int, height: int, bits: int, colour: int, rows: bytes, more: bytes = b"") -> bytes:
    """Write a PNG by hand, also such as Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def reason(path: Path) -> str:
    with pytest.raises(UnreadableImageError) as caught:
        decode(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: not a readable image (")
    assert text.endswith("). Remove it or replace it.")
    assert "\n" not in text
    return caught.value.reason


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff", "webp", "jpg", "jpeg"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    path, image = tmp_path / f"a.{suffix}", picture()
    Image.fromarray(image).save(path, lossless=True, quality=100, subsampling=0)
    tolerance = 6 if suffix in ("jpg", "jpeg") else 0
    assert np.abs(decode(path).astype(int) - image).max() <= tolerance


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_grey_and_palette_are_expanded(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(picture()).convert(mode)
    image.save(tmp_path / "a.png")
    decoded = decode(tmp_path / "a.png")
    assert decoded.shape == (24, 36, 3)
    np.testing.assert_array_equal(decoded, np.asarray(image.convert("RGB")))


def test_what_follows_a_jpegs_end_is_not_counted_as_scans(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.jpg", progressive=True)
    plain = decode(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "film.jpg").write_bytes(data + b"\xff\xda" * 300)
    np.testing.assert_array_equal(decode(tmp_path / "film.jpg"), plain)
    last = data[data.rindex(b"\xff\xda") : -2]
    thumbnail = b"\xff\xe1\x00\x06\xff\xd9\xff\xd9"  # an end inside a segment is none
    (tmp_path / "scans.jpg").write_bytes(data[:2] + thumbnail + data[2:-2] + last * 300 + b"\xff\xd9")
    assert reason(tmp_path / "scans.jpg") == "more than 200 scans"


def test_cmyk_goes_through_pillow(tmp_path: Path) -> None:
    image = Image.fromarray(picture()).convert("CMYK")
    image.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(decode(tmp_path / "a.tif"), np.asarray(image.convert("RGB")))
    image.save(tmp_path / "a.jpg", quality=100, subsampling=0)
    assert np.abs(decode(tmp_path / "a.jpg").astype(int) - picture()).max() <= 6


@pytest.mark.parametrize("stored", ["I;16 png", "I;16 tif", "I;16B tif", "I tif"])
def test_deep_grey_is_scaled_by_257(tmp_path: Path, stored: str) -> None:
    mode, suffix = stored.split()
    levels = np.array([[0, 128, 129, 257, 1000, 32768, 65406, 65407, 65535]])
    dtype = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}[mode]
    data = levels.astype(dtype)
    Image.frombytes(mode, (9, 1), data.tobytes()).save(tmp_path / f"a.{suffix}")
    expected = np.round(levels / 257).astype(np.uint8)
    np.testing.assert_array_equal(decode(tmp_path / f"a.{suffix}"), np.repeat(expected[..., None], 3, 2))


def test_deep_grey_with_a_transparent_level_turns_white_there(tmp_path: Path) -> None:
    rows = b"\0" + np.array([1000, 2000], ">u2").tobytes()
    (tmp_path / "a.png").write_bytes(png_bytes(2, 1, 16, 0, rows, chunk(b"tRNS", struct.pack(">H", 1000))))
    np.testing.assert_array_equal(decode(tmp_path / "a.png")[0, :, 0], [255, 8])


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4)])
def test_deep_colour_is_within_one_of_scaling_by_257(tmp_path: Path, colour: int, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (1, 50, channels))
    values[..., 3:] = 65535
    (tmp_path / "a.png").write_bytes(png_bytes(50, 1, 16, colour, b"\0" + values.astype(">u2").tobytes()))
    assert np.abs(decode(tmp_path / "a.png") - values[..., :3] / 257).max() <= 1


def test_values_that_do_not_fit_are_refused_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.array([[70000, 0]], np.int32)).save(tmp_path / "deep.tif")
    assert reason(tmp_path / "deep.tif") == "gray values outside 0..65535"
    Image.fromarray(np.array([[0.5, 1.0]], np.float32)).save(tmp_path / "float.tif")
    assert reason(tmp_path / "float.tif") == "floating-point pixels"


def test_transparency_is_composited_on_white(tmp_path: Path) -> None:
    rgba = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [200, 0, 0, 128]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    rgb = decode(tmp_path / "rgba.png")[0].tolist()
    assert rgb[:2] == [[200, 0, 0], [255, 255, 255]]
    np.testing.assert_allclose(rgb[2], [227, 127, 127], atol=1)
    Image.fromarray(rgba).convert("LA").save(tmp_path / "la.png")
    assert decode(tmp_path / "la.png")[0, 1].tolist() == [255, 255, 255]
    palette = Image.frombytes("P", (2, 1), bytes([0, 1]))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "p.png", transparency=1)
    assert decode(tmp_path / "p.png")[0].tolist() == [[10, 20, 30], [255, 255, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    image, exif = picture(), Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(image).save(path, exif=exif, lossless=True, quality=100, subsampling=0)
    turned = {
        1: image,
        2: image[:, ::-1],
        3: image[::-1, ::-1],
        4: image[::-1],
        5: image.swapaxes(0, 1),
        6: np.rot90(image, -1),
        7: image[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(image),
    }[orientation]
    assert np.abs(decode(path).astype(int) - turned).max() <= (6 if suffix == "jpg" else 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_spoil_the_picture(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff rubbish")
    assert decode(tmp_path / "a.jpg").shape == (24, 36, 3)


@pytest.mark.parametrize("suffix", ["webp", "tif", "png"])
def test_first_frame_of_several(tmp_path: Path, suffix: str) -> None:
    first, second = (Image.fromarray(picture(seed=seed)) for seed in (1, 2))
    path = tmp_path / f"a.{suffix}"
    first.save(path, save_all=True, append_images=[second], lossless=True)
    np.testing.assert_array_equal(decode(path), np.asarray(first))


def test_not_images(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    assert reason(tmp_path / "empty.png") == "empty file"
    (tmp_path / "text.png").write_text("not a picture")
    assert reason(tmp_path / "text.png") == "not an image, or of an unknown format"
    (tmp_path / "script.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    assert reason(tmp_path / "script.jpg") == "not an image, or of an unknown format"
    (tmp_path / "flat.png").write_bytes(png_bytes(0, 5, 8, 2, b""))
    reason(tmp_path / "flat.png")
    assert reason(tmp_path / "none.png") == "no such file or directory"
    (tmp_path / "folder.png").mkdir()
    assert reason(tmp_path / "folder.png") == "is a directory"


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_truncated(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "truncated file" in reason(path)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("side", "text"), [(20000, "20000 x 20000 pixels"), (14143, "14143 x 14143 pixels")])
def test_too_many_pixels_are_refused_from_the_header(tmp_path: Path, side: int, text: str) -> None:
    (tmp_path / "huge.png").write_bytes(png_bytes(side, side, 8, 2, b""))
    before = Image.MAX_IMAGE_PIXELS
    assert reason(tmp_path / "huge.png") == f"{text}, the limit is 200 million"
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.filterwarnings("error")
def test_pillows_own_limit_does_not_stand_below_ours(tmp_path: Path) -> None:
    (tmp_path / "big.png").write_bytes(png_bytes(14142, 14142, 8, 0, b"")[:-30])
    assert "pixels" not in reason(tmp_path / "big.png")


def test_resize_is_antialiased_and_square() -> None:
    stripes = np.zeros((64, 32, 3), np.uint8)
    stripes[::2] = 255
    small = resize(stripes, 16)
    assert small.shape == (16, 16, 3)
    assert small.dtype == np.uint8
    assert 120 <= small[4:-4].min() <= small[4:-4].max() <= 135
    np.testing.assert_array_equal(resize(picture(20, 20), 20), picture(20, 20))


def test_real_images_decode() -> None:
    root = SHARED / "plantvillage_pepper"
    if not root.is_dir():
        pytest.skip(f"no real images at {root}")
    odd = [path for path in root.glob("*/*") if path.suffix != ".JPG"]
    assert sorted(path.suffix for path in odd) == [".jpg", ".png"]
    for path in [*odd, *sorted(root.glob("*/*.JPG"))[:20]]:
        assert decode(path).shape == (256, 256, 3)


def test_a_large_picture_is_laid_on_white_as_a_whole_one_is(tmp_path: Path) -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (1100, 1000, 4), dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "large.png", compress_level=0)
    white = Image.new("RGBA", (1000, 1100), "white")
    whole = Image.alpha_composite(white, Image.fromarray(rgba)).convert("RGB")
    assert np.array_equal(decode(tmp_path / "large.png"), np.asarray(whole))
