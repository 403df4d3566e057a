"""groups.csv as people and their spreadsheets write it."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Literal

import pytest

from leanet.data.groups import read_groups
from leanet.errors import UserError

FILES = ["Negative/a.png", "Negative/b c.png", "Positive/rust/é.png"]
EXPECTED = dict(zip(FILES, ("plant 1", "plant 1", "plant 2"), strict=True))


def read(tmp_path: Path, text: str, encoding: str = "utf-8") -> dict[str, str]:
    path = tmp_path / "groups.csv"
    path.write_bytes(text.encode(encoding))
    return read_groups(path, FILES, tmp_path)[0]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_spreadsheets_write(tmp_path: Path, delimiter: str, end: str, encoding: str) -> None:
    rows = [
        ("Group", " file ", "note"),
        *((group, file, "x, y; z") for file, group in EXPECTED.items()),
        ("", "", ""),
    ]
    quoted = [delimiter.join(f'"{cell}"' if cell else "" for cell in row) for row in rows]
    assert read(tmp_path, end.join(quoted) + end, encoding) == EXPECTED


@pytest.mark.parametrize(
    "text",
    [
        "file,group\nNegative/a.png,plant 1 \n Negative/b c.png,\u00a0plant 1\nPositive/rust/é.png,plant 2\n",
        "file,group\nNegative\\a.png,plant 1\nNegative\\b c.png,plant 1\nPositive\\rust\\é.png,plant 2\n",
        "file,group\n./Negative/a.png,plant 1\nnegative/B C.PNG,plant 1\nPositive//rust/é.png,plant 2\n",
    ],
    ids=["blanks", "backslashes", "other cases"],
)
def test_other_ways_to_write_the_same(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == EXPECTED


@pytest.mark.parametrize(("form", "stored"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_accents_may_be_composed_or_not(
    tmp_path: Path, form: Literal["NFC", "NFD"], stored: Literal["NFC", "NFD"]
) -> None:
    files = [unicodedata.normalize(stored, f"Negative/é{i}.png") for i in range(2)]
    text = f"file,group\n{unicodedata.normalize(form, files[0])},café\n{files[1]},cafe\u0301\n"
    (tmp_path / "groups.csv").write_text(text, encoding="utf-8")
    found, *_ = read_groups(tmp_path / "groups.csv", files, tmp_path)
    assert found == dict.fromkeys(files, "café")


def test_groups_that_look_alike_are_said(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text("file,group\nNegative/a.png,Plant 1\nNegative/b c.png,plant  1\n")
    groups, _, notes = read_groups(tmp_path / "groups.csv", FILES, tmp_path)
    assert len(set(groups.values())) == 2
    assert notes[-1] == "groups that differ only in case or spaces count as different: Plant 1 / plant  1"


def test_a_file_named_in_two_ways_is_in_one_group(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is in two groups, 1 and 2"):
        read(tmp_path, "file,group\nNegative/a.png,1\nNegative\\a.png,2\n")


def test_pipes_other_encodings_and_delimiters_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UserError, match=r"pipe\.csv: cannot read .*not a regular file"):
        read_groups(tmp_path / "pipe.csv", FILES, tmp_path)
    with pytest.raises(UserError, match=r"cannot read .*not a regular file"):
        read_groups(Path("/dev/zero"), FILES, tmp_path)
    for text, encoding in (("file,group\nPositive/rust/é.png,1\n", "cp1252"), ("file,group\n", "utf-16-le")):
        with pytest.raises(UserError, match=r"groups\.csv: (not a CSV file in UTF-8|no column)"):
            read(tmp_path, text, encoding)
    with pytest.raises(UserError, match="separated by commas, semicolons or tabs"):
        read(tmp_path, "file:group\nNegative/a.png:1\n")
