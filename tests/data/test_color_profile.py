"""Embedded color profiles, against published values: of CSS Color 4, of Adobe RGB (1998), and of the curves."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pictures import of_files
from PIL import Image, TiffImagePlugin
from profiles import ADOBE_RGB, DISPLAY_P3, SRGB, cmyk, gamma, grey, rgb, srgb_curve

from leanet.data.cache import build_cache
from leanet.data.color_profile import BROKEN, read_profile
from leanet.data.decode import UnreadableImageError, cost_of, decode, decode_with_origin

P3 = rgb("Display P3", DISPLAY_P3, srgb_curve())
ADOBE = rgb("Adobe RGB (1998)", ADOBE_RGB, gamma(563 / 256))
PRIMARIES = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [128, 128, 128]]
IN_P3 = [[234, 51, 35], [117, 251, 76], [0, 0, 245], [255, 255, 255], [0, 0, 0], [128, 128, 128]]
IN_ADOBE = [[219, 0, 0], [144, 255, 60], [0, 0, 250], [255, 255, 255], [0, 0, 0], [127, 127, 127]]


def encoded(linear: np.ndarray) -> np.ndarray:
    """Linear light as sRGB levels, IEC 61966-2-1."""
    return (
        np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055) * 255
    )


def saved(path: Path, pixels: object, profile: bytes, mode: str | None = None) -> Path:
    image = Image.fromarray(np.asarray(pixels))
    image = image.convert(mode) if mode else image
    image.save(path, icc_profile=profile, lossless=True, quality=100, subsampling=0)
    return path


@pytest.mark.parametrize(("profile", "stored"), [(P3, IN_P3), (ADOBE, IN_ADOBE)], ids=["P3", "Adobe RGB"])
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_wide_colors_become_the_published_srgb_ones(
    tmp_path: Path, suffix: str, profile: bytes, stored: list[list[int]]
) -> None:
    path = saved(tmp_path / f"a.{suffix}", np.array([stored], np.uint8), profile)
    np.testing.assert_allclose(decode(path)[0].astype(int), PRIMARIES, atol=3)  # of rounding what is stored


def test_a_jpegs_profile_counts_too(tmp_path: Path) -> None:
    flat = np.tile(np.array(IN_P3[0], np.uint8), (16, 16, 1))
    assert np.abs(decode(saved(tmp_path / "a.jpg", flat, P3)).astype(int) - [255, 0, 0]).max() <= 4


def test_transparency_is_composited_after_the_profile(tmp_path: Path) -> None:
    pixels = np.array([[[*IN_P3[0], 255], [*IN_P3[0], 0], [*IN_P3[0], 51]]], np.uint8)
    found = decode(saved(tmp_path / "a.png", pixels, P3))[0].astype(int)
    np.testing.assert_allclose(found, [[255, 0, 0], [255, 255, 255], [255, 204, 204]], atol=2)


def test_a_palette_and_a_grey_image_with_an_rgb_profile(tmp_path: Path) -> None:
    image = Image.frombytes("P", (2, 1), bytes([0, 1]))
    image.putpalette([*IN_P3[0], *IN_P3[1]])
    image.save(tmp_path / "p.png", icc_profile=P3, transparency=1)
    np.testing.assert_allclose(decode(tmp_path / "p.png")[0].astype(int), [[255, 0, 0], [255, 255, 255]], atol=2)
    linear = rgb("linear", SRGB, gamma(1))
    path = saved(tmp_path / "l.png", np.array([[0, 1, 64, 255]], np.uint8), linear)
    expected = encoded(np.array([0, 1, 64, 255]) / 255)
    np.testing.assert_allclose(decode(path)[0, :, 0], expected, atol=1)


@pytest.mark.parametrize("points", [42, 182, 1024, 4096])
def test_srgb_under_any_name_changes_nothing(tmp_path: Path, points: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    profile = rgb("c2", SRGB, srgb_curve(points))
    np.testing.assert_array_equal(decode(saved(tmp_path / "a.png", pixels[..., :3], profile)), pixels[..., :3])
    saved(tmp_path / "b.png", pixels, b"")
    plain = decode(tmp_path / "b.png")
    np.testing.assert_array_equal(decode(saved(tmp_path / "b.png", pixels, profile)), plain)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_grey_profile_is_exact_down_to_black(tmp_path: Path, mode: str) -> None:
    levels = np.arange(256, dtype=np.uint8)[None]
    path = saved(tmp_path / "a.png", levels, grey("linear", gamma(1)), mode)
    expected = encoded(np.arange(256) / 255)
    np.testing.assert_allclose(decode(path)[0], np.repeat(expected[:, None], 3, 1), atol=0.51)


def test_deep_grey_keeps_its_depth_through_the_profile(tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 1001).round().astype(np.uint16)[None]
    expected = encoded(levels[0] / 65535)
    for name in ("a.png", "a.tif"):
        found = decode(saved(tmp_path / name, levels, grey("linear", gamma(1))))
        np.testing.assert_allclose(found[0, :, 0], expected, atol=0.52)
    srgb = saved(tmp_path / "same.png", levels, grey("sGray", srgb_curve()))
    np.testing.assert_array_equal(decode(srgb)[0, :, 0], np.round(levels[0] / 257).astype(np.uint8))


@pytest.mark.parametrize("suffix", ["tif", "jpg"])
def test_cmyk_goes_through_its_profile(tmp_path: Path, suffix: str) -> None:
    inks = [(0.0, 0.0, 0.0) if i % 2 else (100.0 - 12 * bin(i).count("1"), 0.0, 0.0) for i in range(16)]
    image = Image.merge("CMYK", [Image.new("L", (8, 8), value) for value in (255, 0, 0, 0)])
    image.save(tmp_path / f"a.{suffix}", icc_profile=cmyk("press", inks), quality=100)
    paper = Image.merge("CMYK", [Image.new("L", (8, 8), 0)] * 4)
    paper.save(tmp_path / f"b.{suffix}", icc_profile=cmyk("press", inks), quality=100)
    grey_of_88 = encoded(np.array((np.rint(88 * 2.55) / 2.55 + 16) / 116) ** 3)  # L* = 116 f(Y) - 16
    np.testing.assert_allclose(decode(tmp_path / f"a.{suffix}")[4, 4], [grey_of_88] * 3, atol=2)
    np.testing.assert_allclose(decode(tmp_path / f"b.{suffix}")[4, 4], [255] * 3, atol=1)


@pytest.mark.parametrize(
    "profile",
    [b"rubbish", P3[:200], b"\0" * 500, grey("not for color", gamma(1)), cmyk("not for RGB", [(0, 0, 0)] * 16)],
    ids=["rubbish", "cut", "zeros", "grey", "CMYK"],
)
def test_a_profile_of_no_use_counts_as_srgb(tmp_path: Path, profile: bytes) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    decoded = decode_with_origin(saved(tmp_path / "a.png", pixels, profile))
    np.testing.assert_array_equal(decoded.pixels, pixels)
    assert decoded.broken_profile


def damaged(path: Path, how: str) -> Path:
    """A picture with the profile P3, damaged where its file keeps it."""
    flat = np.tile(np.array(IN_P3[0], np.uint8), (16, 16, 1))
    data = bytearray(saved(path, flat, P3 if how != "too large" else P3 + bytes(2_000_000)).read_bytes())
    if path.suffix == ".jpg":
        at = data.index(b"ICC_PROFILE\0")
        if how == "count":
            data[at + 13] = 7
        else:  # a segment that ends after its name
            end = at - 2 + int.from_bytes(data[at - 2 : at])
            data[at - 2 : end] = (14).to_bytes(2) + b"ICC_PROFILE\0"
    elif path.suffix == ".png":
        start = data.index(b"iCCP")
        end = start + 4 + int.from_bytes(data[start - 4 : start])
        method = data.index(b"\0", start) + 1
        if how == "method":
            data[method] = 9
        elif how == "zlib":
            data[method + 5] ^= 0xFF
        if how in ("method", "zlib"):
            data[end : end + 4] = zlib.crc32(data[start:end]).to_bytes(4)
        elif how == "CRC":
            data[end] ^= 0xFF
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("suffix", "how"),
    [("jpg", "count"), ("jpg", "cut"), ("png", "zlib"), ("png", "CRC"), ("png", "method"), ("png", "too large")],
)
def test_a_profile_damaged_where_the_file_keeps_it_counts_as_srgb(tmp_path: Path, suffix: str, how: str) -> None:
    path = damaged(tmp_path / f"a.{suffix}", how)
    decoded = decode_with_origin(path)
    assert decoded.broken_profile
    assert np.abs(decoded.pixels.astype(int) - IN_P3[0]).max() <= 4
    assert cost_of(path.read_bytes()).pixels == 256


def test_a_tiffs_profile_of_another_type_counts_as_srgb(tmp_path: Path) -> None:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory[34675] = "text"
    directory.tagtype[34675] = 2
    Image.new("RGB", (4, 4), (234, 51, 35)).save(tmp_path / "a.tif", tiffinfo=directory)
    decoded = decode_with_origin(tmp_path / "a.tif")
    assert (decoded.broken_profile, decoded.pixels[0, 0].tolist()) == (True, [234, 51, 35])


def test_a_damaged_picture_stays_unreadable_whatever_its_profile(tmp_path: Path) -> None:
    path = damaged(tmp_path / "a.png", "CRC")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UnreadableImageError, match="truncated"):
        decode(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UnreadableImageError):
        decode(path)


def test_a_profiles_name_is_printable_and_short() -> None:
    profile = read_profile(rgb("Screen\n\x1b[31m" + "x" * 500, DISPLAY_P3, srgb_curve()))
    assert profile.name.startswith("Screen")
    assert profile.name.isprintable()
    assert len(profile.name) <= 40
    assert read_profile(b"") is BROKEN


def test_threads_share_a_transform(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, 128, 128, 3), dtype=np.uint8)
    paths = [saved(tmp_path / f"{i}.png", pixels, (P3, ADOBE)[i % 2]) for i, pixels in enumerate(noise)]
    alone = [decode(path) for path in paths]
    with ThreadPoolExecutor(6) as pool:
        for found, expected in zip(pool.map(decode, paths * 4), alone * 4, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_the_cache_holds_srgb_and_counts_broken_profiles(tmp_path: Path) -> None:
    pixels = np.tile(np.array(IN_P3[0], np.uint8), (16, 16, 1))
    saved(tmp_path / "a.png", pixels, P3)
    saved(tmp_path / "b.png", pixels, b"rubbish")
    dataset = of_files(tmp_path, ["a.png", "b.png"])
    for _ in range(2):  # made, then found again
        cache = build_cache(dataset, 16, tmp_path / "cache")
        assert cache.broken_profiles == 1
        np.testing.assert_allclose(cache.pixels[0, 0, 0].astype(int), [255, 0, 0], atol=2)
        np.testing.assert_array_equal(cache.pixels[1], pixels)
