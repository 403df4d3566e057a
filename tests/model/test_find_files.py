"""What `predict`, `serve --examples` and `export --int8` find in what a user names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from profiles import DISPLAY_P3, rgb, srgb_curve

from leanet.cli import main
from leanet.errors import UserError
from leanet.model.picture import to_pixels
from leanet.model.predict_files import find_files

P3 = rgb("Display P3", DISPLAY_P3, srgb_curve())


def picture(path: Path, form: str = "PNG", profile: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), (234, 51, 35)).save(path, form, icc_profile=profile)
    return path


def test_a_pattern_enters_each_folder_once(tmp_path: Path) -> None:
    for name in ("a.png", "sub/b.png", "sub/.hidden/c.png", "sub/[x]/d.png", "sub/e.txt"):
        picture(tmp_path / name)
    for link in ("again", "sub/again"):
        (tmp_path / link).symlink_to(tmp_path)
    expected = [tmp_path / name for name in ("a.png", "sub/[x]/d.png", "sub/b.png")]
    assert find_files([str(tmp_path / "**" / "*.png")]) == expected
    assert find_files([str(tmp_path / "su*" / "**" / "[bd].png")]) == expected[1:]
    assert find_files([str(tmp_path / "sub" / "**")]) == [*expected[1:], tmp_path / "sub" / "e.txt"]


def test_each_real_file_is_predicted_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("in/a.png", "in/b.png", "other/c.png"):
        picture(tmp_path / name)
    (tmp_path / "again").symlink_to("in")
    (tmp_path / "other" / "link.png").symlink_to("../in/a.png")
    (tmp_path / "other" / "gone.png").symlink_to("nowhere.png")
    monkeypatch.chdir(tmp_path)
    given = ["in", str(tmp_path / "in"), "again", "again/b.png", "in/../in/a.png", "other/*.png"]
    assert find_files(given) == [Path(name) for name in ("in/a.png", "in/b.png", "other/c.png", "other/gone.png")]
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"note: skipped, other names of the same files: 6 ({tmp_path}/in/a.png, "
        f"{tmp_path}/in/b.png, again/a.png, 3 more)"
    ]


@pytest.mark.usefixtures("without_heif")
def test_a_phones_folder_is_predicted_and_the_rest_is_said(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, form in (("a.png", "PNG"), ("b.jfif", "JPEG"), ("c.gif", "GIF"), ("d", "PNG")):
        picture(tmp_path / "phone" / name, form)
    (tmp_path / "phone" / "e.heic").write_bytes(bytes(100))
    (tmp_path / "phone" / "gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "phone" / "pipe.png")
    out = tmp_path / "out.csv"
    assert main(["predict", str(tiny_model), str(tmp_path / "phone"), "--out", str(out)]) == 0
    assert [line.split(",")[0] for line in out.read_text().splitlines()[1:]] == [
        str(tmp_path / "phone" / name) for name in ("a.png", "b.jfif", "c.gif", "d")
    ]
    said = capsys.readouterr().out
    for words in (
        "HEIC is not read; convert to JPEG or PNG, or install the extra heif: 1 (e.heic)",
        "broken links: 1 (gone",
        "1 (pipe.png)",
    ):
        assert words in said


@pytest.mark.usefixtures("without_heif")
def test_what_is_named_itself_is_a_row_with_its_error(tiny_model: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    named = [str(tmp_path / "pipe.png"), str(tmp_path / "a.jpg"), "/dev/zero"]
    assert main(["predict", str(tiny_model), *named, "--out", str(tmp_path / "out.csv")]) == 1
    rows = (tmp_path / "out.csv").read_text().splitlines()[1:]
    assert ["pipe, device" in rows[0], "HEIC is not read" in rows[1], "pipe, device" in rows[2]] == [True] * 3


@pytest.mark.usefixtures("without_heif")
def test_a_folder_of_other_formats_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(bytes(100))
    with pytest.raises(
        UserError,
        match=r"no images in it.*HEIC is not read; convert to JPEG or PNG, or install .* heif: 1 \(a\.heic\)",
    ):
        find_files([str(tmp_path)])


def test_a_broken_profile_is_said_once(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(3):
        picture(tmp_path / "in" / f"{i}.png", profile=b"rubbish" if i else P3)
    assert main(["predict", str(tiny_model), str(tmp_path / "in"), "--out", str(tmp_path / "out.csv")]) == 0
    assert capsys.readouterr().out.count("2 with an unusable color profile: taken as sRGB") == 1


def test_a_pil_images_profile_counts_as_the_files_does(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", profile=P3)
    with Image.open(path) as image:
        np.testing.assert_array_equal(to_pixels(image), to_pixels(path))
        np.testing.assert_allclose(to_pixels(image)[0, 0].astype(int), [255, 0, 0], atol=2)
    with (
        Image.open(picture(tmp_path / "b.png", profile=b"rubbish")) as image,
        pytest.warns(UserWarning, match="sRGB"),
    ):
        assert to_pixels(image)[0, 0].tolist() == [234, 51, 35]


def test_a_table_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "leaves.csv").write_text("file\na.png\n")
    with pytest.raises(UserError, match=r"leaves\.csv: a table, not a picture\. Name it with --manifest\."):
        find_files([str(tmp_path / "leaves.csv")])


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a folder, not a picture\. Give the paths of its pictures\."):
        to_pixels(tmp_path)
