"""What counts as a picture below a folder: every real file once, and whatever is left out by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from leanet.data.decode import UnreadableImageError, decode
from leanet.data.find import Found, cut, find_images, folders_below, listed, notes

HEIC = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(100)
AVIF = b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(100)
MP4 = b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2" + bytes(100)


def picture(path: Path, form: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (len(path.name), 90, 30)).save(path, form)
    return path


def names(found: Found, root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in found.images]


def said(found: Found, root: Path) -> list[str]:
    return notes(found.left_out, root)


def test_links_in_circles_end_and_each_file_comes_once_under_its_own_name(tmp_path: Path) -> None:
    root = tmp_path / "set"
    picture(root / "b.png")
    picture(root / "sub" / "c.png")
    picture(tmp_path / "elsewhere" / "d.png")
    for link, target in (("again", "."), ("sub/up", ".."), ("sub/top", "../.."), ("a.png", "b.png"), ("0", "sub")):
        (root / link).symlink_to(target)
    (root / "far").symlink_to(tmp_path / "elsewhere")
    (root / "zfar").symlink_to(tmp_path / "elsewhere")
    (root / "sub" / "hard.png").hardlink_to(root / "b.png")
    found = find_images(root)
    assert names(found, root) == ["b.png", "far/d.png", "sub/c.png"]
    assert said(found, root) == ["left out, links to paths already read: 7 (0, a.png, again, 4 more)"]
    assert sorted(folders_below(root)) == [root, root / "far", root / "sub"]


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for pipe in ("pipe.jpg", "pipe"):
        os.mkfifo(tmp_path / pipe)
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "self.png").symlink_to("self.png")
    found = find_images(tmp_path)
    assert names(found, tmp_path) == ["a.png"]
    assert said(found, tmp_path) == [
        "left out, neither files nor folders (pipes, devices or sockets): 3 (pipe, pipe.jpg, zero.png)",
        "left out, broken links: 2 (gone.jpg, self.png)",
    ]
    for special in ("pipe.jpg", "zero.png"):
        with pytest.raises(UnreadableImageError, match="pipe, device or socket"):
            decode(tmp_path / special)


def test_what_is_an_image_by_content_is_one(tmp_path: Path) -> None:
    for name, form in (("a.jfif", "JPEG"), ("b.gif", "GIF"), ("c", "PNG"), ("d.dat", "TIFF"), ("e.dib", "BMP")):
        picture(tmp_path / name, form)
    picture(tmp_path / "f.heic", "JPEG")
    picture(tmp_path / "g.photo", "WEBP")
    (tmp_path / "BM").write_bytes(b"BM is how this text begins, and it is longer than a header")
    found = find_images(tmp_path)
    assert names(found, tmp_path) == ["a.jfif", "b.gif", "c", "d.dat", "e.dib", "f.heic", "g.photo"]
    assert said(found, tmp_path) == ["left out, no pictures: 1 no suffix"]
    assert all(decode(path).shape == (8, 8, 3) for path in found.images)


@pytest.mark.usefixtures("without_heif")
def test_formats_that_are_not_read_are_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(HEIC)
    (tmp_path / "b.avif").write_bytes(AVIF)
    (tmp_path / "c.HEIC").write_bytes(bytes(100))
    (tmp_path / "d.mov").write_bytes(MP4)
    picture(tmp_path / "e.dng", "TIFF")
    (tmp_path / "f.jpg").write_bytes(HEIC)
    found = find_images(tmp_path)
    assert names(found, tmp_path) == ["f.jpg"]
    assert said(found, tmp_path) == [
        "left out, HEIC is not read; convert to JPEG or PNG, or install the extra heif: 2 (a, c.HEIC)",
        "left out, AVIF is not read; convert to JPEG or PNG, or install Pillow 11.3 or newer: 1 (b.avif)",
        "left out, no pictures: 1 .mov",
        "left out, camera raw is not read; convert to JPEG or PNG: 1 (e.dng)",
    ]
    with pytest.raises(UnreadableImageError, match=r"f\.jpg.*HEIC is not read; convert to JPEG or PNG"):
        decode(tmp_path / "f.jpg")


OTHERS = {
    "PNM": b"P6\n# by a camera\n2 2\n255\n" + bytes(12),
    "ICO": b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0" + bytes(100),
    "PCX": b"\x0a\5\1\x08" + bytes(200),
    "DICOM": bytes(128) + b"DICM" + bytes(20),
    "OpenEXR": b"v/1\x01" + bytes(20),
    "Radiance HDR": b"#?RADIANCE\n",
    "DDS": b"DDS " + bytes(20),
    "QOI": b"qoif" + bytes(20),
    "GIMP": b"gimp xcf v011" + bytes(20),
}


@pytest.mark.parametrize("form", OTHERS)
def test_other_formats_are_named_by_their_content(tmp_path: Path, form: str) -> None:
    (tmp_path / "a.txt").write_bytes(OTHERS[form])
    (tmp_path / "b.png").write_bytes(OTHERS[form])
    assert said(find_images(tmp_path), tmp_path) == [
        f"left out, {form} is not read; convert to JPEG or PNG: 1 (a.txt)"
    ]
    with pytest.raises(UnreadableImageError, match=f"{form} is not read; convert to JPEG or PNG"):
        decode(tmp_path / "b.png")


@pytest.mark.parametrize(("suffix", "form"), [("ppm", "PPM"), ("ico", "ICO"), ("pcx", "PCX"), ("tga", "TGA")])
def test_what_pillow_writes_in_other_formats_is_named(tmp_path: Path, suffix: str, form: str) -> None:
    path = picture(tmp_path / f"a.{suffix}", form)
    name = "PNM" if form == "PPM" else form
    assert said(find_images(tmp_path), tmp_path) == [
        f"left out, {name} is not read; convert to JPEG or PNG: 1 ({path.name})"
    ]


def test_a_picture_is_one_under_the_suffix_of_another_kind_of_file(tmp_path: Path) -> None:
    picture(tmp_path / "d.txt", "JPEG")
    picture(tmp_path / "e.pdf", "PNG")
    for name, text in (("f.txt", "P1 is our first patient"), ("g.csv", "P2,3\n"), ("h.txt", "\n\n"), ("i.txt", "")):
        (tmp_path / name).write_text(text)
    found = find_images(tmp_path)
    assert names(found, tmp_path) == ["d.txt", "e.pdf"]
    assert said(found, tmp_path) == ["left out, no pictures: 1 .csv, 3 .txt"]


def test_hidden_links_in_a_circle_stop_nothing(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / ".loop").symlink_to(".loop")
    (tmp_path / ".one").symlink_to(".other")
    (tmp_path / ".other").symlink_to(".one")
    found = find_images(tmp_path)
    assert names(found, tmp_path) == ["a.png"]
    assert said(found, tmp_path) == ["left out: 3 hidden files"]


def test_several_folders_are_searched_as_one(tmp_path: Path) -> None:
    picture(tmp_path / "b" / "own.png")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "link.png").symlink_to("../b/own.png")
    (tmp_path / "a" / "folder").symlink_to("../b")
    (tmp_path / "0").symlink_to("b")
    found = find_images(tmp_path / "0", tmp_path / "a", tmp_path / "b")
    assert names(found, tmp_path) == ["b/own.png"]
    assert said(found, tmp_path) == ["left out, links to paths already read: 3 (0, a/folder, a/link.png)"]


def test_a_raw_picture_under_a_tiffs_name_is_not_taken_by_its_thumbnail(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.tif", tiffinfo={50706: b"\1\4\0\0"})
    with pytest.raises(UnreadableImageError, match="camera raw is not read"):
        decode(tmp_path / "a.tif")


def test_masks_are_left_out_where_asked(tmp_path: Path) -> None:
    picture(tmp_path / "test" / "a.png")
    picture(tmp_path / "Ground_Truth" / "crack" / "a_mask.png")
    found = find_images(tmp_path, without="ground_truth")
    assert names(found, tmp_path) == ["test/a.png"]
    assert said(found, tmp_path) == ["left out: 1 mask file"]


def test_names_are_printable_in_notes(tmp_path: Path) -> None:
    (tmp_path / "new\nline.png").symlink_to("nowhere")
    (line,) = said(find_images(tmp_path), tmp_path)
    assert line == "left out, broken links: 1 (new?line.png)"


def test_long_lists_are_cut_at_ten_and_counted() -> None:
    numbers = [str(n) for n in range(300)]
    assert listed(numbers) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 290 more"
    assert listed(numbers[:10]) == ", ".join(numbers[:10])
    assert cut(numbers, "are unreadable")[-2:] == ["9", "290 more are unreadable"]
    assert cut(numbers[:10], "") == numbers[:10]
