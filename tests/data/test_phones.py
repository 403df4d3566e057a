"""Formats of phones and scanners, written by Pillow and pillow-heif: what is read, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures import picture
from PIL import Image

from leanet.data import find
from leanet.data.decode import UnreadableImageError, decode, decode_with_origin
from leanet.data.find import find_images, notes

OTHER = np.full((24, 36, 3), 200, np.uint8)


def saved(path: Path, **options: object) -> Path:
    Image.fromarray(picture()).save(path, **options)  # type: ignore[arg-type]
    return path


def test_heic_is_read_where_its_library_is(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    heif = pillow_heif.from_pillow(Image.fromarray(picture()))
    heif.add_from_pillow(Image.fromarray(OTHER))
    heif.save(tmp_path / "a.heic", quality=-1, chroma=444, primary_index=0)
    (tmp_path / "renamed.jpg").write_bytes((tmp_path / "a.heic").read_bytes())
    for name in ("a.heic", "renamed.jpg"):
        found = decode_with_origin(tmp_path / name)
        assert (found.format, found.first_of_several) == ("HEIF", True)
        assert np.abs(found.pixels.astype(int) - picture()).mean() < 6
    (tmp_path / "broken.heic").write_bytes((tmp_path / "a.heic").read_bytes()[:300])
    with pytest.raises(UnreadableImageError):
        decode(tmp_path / "broken.heic")
    assert len(find_images(tmp_path).images) == 3


def test_heic_is_turned_upright_once(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    image = Image.fromarray(picture())
    exif = image.getexif()
    exif[0x0112] = 6
    pillow_heif.register_heif_opener()
    image.save(tmp_path / "a.heic", quality=-1, exif=exif.tobytes())
    assert decode(tmp_path / "a.heic").shape == (36, 24, 3)


def test_without_the_library_heic_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "reads", lambda _: False)
    monkeypatch.setattr("leanet.data.decode.reads", lambda _: False)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    said = "HEIC is not read; convert to JPEG or PNG, or install the extra heif"
    with pytest.raises(UnreadableImageError, match=said):
        decode(tmp_path / "a.heic")
    assert notes(find_images(tmp_path).left_out, tmp_path) == [f"left out, {said}: 1 (a.heic)"]


@pytest.mark.skipif(not find.reads("AVIF"), reason="this Pillow has no AVIF")
def test_avif_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.avif", quality=100, subsampling="4:4:4")
    assert np.abs(decode(path).astype(int) - picture()).mean() < 6
    assert find_images(tmp_path).images == (path,)


def test_of_an_mpo_and_a_tiff_of_pages_the_first_is_read(tmp_path: Path) -> None:
    several = {"save_all": True, "append_images": [Image.fromarray(OTHER)]}
    tiff = saved(tmp_path / "a.tif", **several)
    mpo = saved(tmp_path / "a.jpg", format="MPO", quality=100, subsampling=0, **several)
    for path, tolerance in ((mpo, 6), (tiff, 0)):
        found = decode_with_origin(path)
        assert found.first_of_several
        assert np.abs(found.pixels.astype(int) - picture()).max() <= tolerance


def test_jpeg_2000_is_not_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jp2")
    with pytest.raises(UnreadableImageError, match="JPEG 2000 is not read; convert to JPEG or PNG"):
        decode(path)
    assert find_images(tmp_path).images == ()
