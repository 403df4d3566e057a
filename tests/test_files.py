"""What is written is whole or not there, and stands over nothing but an earlier output; cells keep their text."""

from __future__ import annotations

import csv
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanet.errors import UserError, one_line
from leanet.files import (
    beside,
    from_cell,
    is_special,
    partial_of,
    read_csv,
    refuse_other,
    to_cell,
    write_csv,
    write_text,
    written,
)


@contextmanager
def full_disk() -> Iterator[None]:
    """The system refuses every file of more than 1,000 bytes: not longer than needed, for pytest may write one."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_on_an_error_the_old_file_stays_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a.csv", "old")

    def stopped(path: Path) -> None:
        with beside(path) as partial:
            partial.mkdir()
            (partial / "half").touch()
            raise KeyError

    for name in ("a.csv", "new/folder"):
        with pytest.raises(KeyError):
            stopped(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
    assert (tmp_path / "a.csv").read_text() == "old"


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path: Path) -> None:
    write_text(tmp_path / "a.csv", "old")
    with full_disk(), pytest.raises(OSError, match="File too large") as error:
        write_text(tmp_path / "a.csv", "x" * 2000)
    assert error.value.filename == str(tmp_path / "a.csv")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.csv", "old")]


def test_a_users_own_partial_files_stay(tmp_path: Path) -> None:
    (tmp_path / "a.csv.partial").write_text("mine")
    (tmp_path / "model.partial").mkdir()
    write_text(tmp_path / "a.csv", "ours")
    with beside(tmp_path / "model") as partial:
        partial.mkdir()
    assert (tmp_path / "a.csv.partial").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.csv.partial", "model", "model.partial"]


def test_what_a_kill_left_is_removed_by_the_next_call(tmp_path: Path) -> None:
    for name in ("file", "folder"):
        partial_of(tmp_path / name).mkdir()
        (partial_of(tmp_path / name) / "half").touch()
    write_text(tmp_path / "file", "whole")
    with beside(tmp_path / "folder") as partial:
        partial.mkdir()
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]


def test_of_two_that_write_one_table_the_second_is_refused(tmp_path: Path) -> None:
    with written(tmp_path / "a.csv") as file:
        with pytest.raises(UserError, match=r"a\.csv: another process is writing it"), written(tmp_path / "a.csv"):
            pass
        file.write("first")
    assert (tmp_path / "a.csv").read_text() == "first"
    with written(tmp_path / "a.csv") as file:
        file.write("next")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["next"]


def test_a_name_as_long_as_any_is_written(tmp_path: Path) -> None:
    write_text(tmp_path / ("é" * 127), "text")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["text"]


def test_what_a_link_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    write_text(tmp_path / "there" / "a.csv", "old")
    (tmp_path / "link").symlink_to("there/a.csv")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "a.csv").read_text() == "new"


def test_devices_pipes_and_what_is_open_are_special(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to-null").symlink_to("/dev/null")
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "file").touch()
    (tmp_path / "to-file").symlink_to("file")
    with (tmp_path / "file").open() as file:  # as standard output is after > file
        open_file = f"/dev/fd/{file.fileno()}"
        for name in ("/dev/null", open_file, "pipe", "to-null", "round"):
            assert is_special(tmp_path / name), name
    for name in ("file", "to-file", "nothing", "."):
        assert not is_special(tmp_path / name), name


def test_what_may_be_written_over(tmp_path: Path) -> None:
    def is_ours(path: Path) -> bool:
        return path.read_text() == "ours"

    for name, content in (("earlier", "ours"), ("other", "precious"), ("input", "ours"), ("empty", "")):
        (tmp_path / name).write_text(content)
    (tmp_path / "same").hardlink_to(tmp_path / "input")
    for name in ("earlier", "empty", "nothing"):
        refuse_other(tmp_path / name, f"--out {name}", is_ours, [tmp_path / "input"])
    for name, reason in (("other", "exists"), ("input", "reads it"), ("same", "reads it")):
        with pytest.raises(UserError, match=f"^--out {name}: .*{reason}"):
            refuse_other(tmp_path / name, f"--out {name}", is_ours, [tmp_path / "input"])
    with pytest.raises(UserError, match=r"cannot be written .File name too long"):
        refuse_other(tmp_path / ("n" * 300), "--out", is_ours)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=()), max_size=8))
def test_cells_are_no_formulas_and_come_back(text: str) -> None:
    cell = str(to_cell(text))
    assert from_cell(cell) == text
    assert cell[:1] not in tuple("=@\t\r\n")
    assert cell[:1] not in tuple("+-") or float(cell) is not None


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1.png", "'=1+1.png"),
        ("-2.png", "'-2.png"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("＝1", "'＝1"),
        ("'=x", "''=x"),
        ("'tis", "'tis"),
        ("-0.25", "-0.25"),
        ("+1e-3", "+1e-3"),
        ("a=b", "a=b"),
        ("\r0", "'\r0"),
        ("\t1", "'\t1"),
    ],
)
def test_an_apostrophe_is_put_before_what_begins_like_a_formula(text: str, cell: str) -> None:
    assert to_cell(text) == cell
    assert from_cell(cell) == text


def test_names_come_back_from_a_csv_file(tmp_path: Path) -> None:
    names = [
        "=1",
        "a,b",
        'q"q',
        "new\nline",
        "re\rturn",
        "a;b",
        "葉",
        os.fsdecode(b"latin\xe9"),
        "\ttab",
        " blank ",
    ]
    write_csv(tmp_path / "t.csv", ("file", "value"), [(name, -1.5) for name in names])
    assert [row["file"] for row in read_csv(tmp_path / "t.csv")] == names
    assert b"latin\xe9," in (tmp_path / "t.csv").read_bytes()
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert {row["value"] for row in csv.DictReader(file)} == {"-1.5"}


def test_files_of_earlier_versions_are_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,group\n=1+1.png,-a\n'tis.png,'b\n")
    assert read_csv(tmp_path / "t.csv") == [
        {"file": "=1+1.png", "group": "-a"},
        {"file": "'tis.png", "group": "'b"},
    ]


def test_no_name_steers_a_terminal() -> None:
    assert one_line("a\x1b[31m\nb\r\x9b\u202ec" + os.fsdecode(b"\xff")) == r"a\x1b[31m\nb\r\x9b\u202ec\xff"
    assert one_line("葉 é [red]x :leaves:") == "葉 é [red]x :leaves:"


def test_rows_are_quoted_where_other_signs_than_commas_would_part_a_cell(tmp_path: Path) -> None:
    rows = [["a;=1+1.png", "1"], ["b\t=2.png", "2"], ["c|d", "3"], ["plain", "4"]]
    write_csv(tmp_path / "t.csv", ("file", "n"), rows)
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines == ["file,n", '"a;=1+1.png","1"', '"b\t=2.png","2"', '"c|d","3"', "plain,4"]
    for delimiter in ";\t|":
        cells = [next(csv.reader([line], delimiter=delimiter)) for line in lines[1:4]]
        assert not any(cell.startswith("=") for row in cells for cell in row)
    assert [list(row.values()) for row in read_csv(tmp_path / "t.csv")] == rows
