"""Any width, any encoding, any file name: the command line prints, and text that cannot be shown has a stand-in."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import resource
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from leanet import terminal
from leanet.cli import main
from leanet.console import note, stdout

COMMAND = [sys.executable, "-m", "leanet.cli"]


def limited() -> None:
    """Two gigabytes of memory and a minute of computing: a layout that never ends is stopped by the system."""
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        preexec_fn=limited,
        check=False,
    )


def words(text: str) -> str:
    return " ".join(text.split())


def test_help_ends_in_one_column() -> None:
    done = call("predict", "--help", COLUMNS="1", LINES="²")
    assert done.returncode == 0, done.stderr
    assert "usage: leanet predict" in done.stdout.decode()


@pytest.mark.parametrize("columns", ["0", "5", "-7", "²", "wide", "10000", "9" * 5000])
def test_any_width_becomes_one_that_text_can_be_laid_out_in(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("COLUMNS", "LINES"):
        monkeypatch.setenv(name, columns)
    terminal.set_up()  # before the help, which would never end
    assert terminal.NARROWEST <= int(os.environ["COLUMNS"]) <= terminal.WIDEST
    assert int(os.environ["LINES"]) > 0
    assert main(["predict", "--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= terminal.WIDEST


def test_a_terminal_of_one_column_gets_its_help_without_colours() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 1, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    child = subprocess.Popen(
        [*COMMAND, "info", "--help"],
        env={**environment, "TERM": "xterm", "NO_COLOR": "1"},
        stdout=theirs,
        preexec_fn=limited,
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        said += part
    os.close(ours)
    assert child.wait() == 0
    assert b"usage: leanet info" in said
    assert b"\x1b[" not in said


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_help_is_printed_in_any_encoding(encoding: str) -> None:
    done = call("run", "--help", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert "dE00" in done.stdout.decode(encoding)


def test_a_locale_without_utf8_has_its_error_in_one_line() -> None:
    done = call("info", "Blätter\udcff–neu", LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    assert done.returncode == 2
    assert done.stderr.startswith(rb"error: Bl\xc3\xa4tter\xff\xe2\x80\x93neu: not a model folder")
    assert done.stderr.count(b"\n") == 1


def test_with_closed_streams_the_exit_code_is_left() -> None:
    for arguments, code in (("info --help", 0), ("info nowhere", 2)):
        shell = f'exec "$0" -m leanet.cli {arguments} >&- 2>&-'
        assert subprocess.run(["sh", "-c", shell, sys.executable], check=False).returncode == code


def test_a_narrow_terminal_breaks_no_name_in_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "3")
    name = "/a/path/that/is/longer/than/forty/columns/and/has/no/blank/in/it.png"
    assert main(["predict", "model", "a.png", "--threshold", name]) == 2
    assert name in capsys.readouterr().err
    assert os.environ["COLUMNS"] == str(terminal.NARROWEST)


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", r"mean dE 3 x 4 - \u8449 b\xe9 \xff :smile: [red]x"),
        ("cp1252", r"mean dE 3 × 4 – \u8449 bé \xff :smile: [red]x"),
        ("utf-8", r"mean ΔE 3 × 4 – 葉 bé \xff :smile: [red]x"),
    ],
)
def test_what_a_stream_cannot_encode_is_printed_readably(
    encoding: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, write_through=True))
    terminal.set_up()
    note("mean ΔE 3 × 4 – 葉 bé \udcff :smile: [red]x")
    assert words(written.getvalue().decode(encoding)) == expected


def test_a_name_moves_no_cursor_and_breaks_no_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["info", str(tmp_path / "a\x1b[2J\nb\u2028c\x9b葉")]) == 2
    said = capsys.readouterr().err
    assert r"a\x1b[2J\nb\u2028c\x9b葉: not a model folder" in said
    assert said.count("\n") == 1
    note("a\x1b[2Jb\rc")
    assert capsys.readouterr().out == "a\\x1b[2Jb\\rc\n"


def test_tables_are_drawn_in_ascii_where_there_is_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.table import Table

    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    terminal.set_up()
    table = Table("mean ΔE", title="1 × 1")
    table.add_row("[0.5] …")
    stdout.print(table)
    assert "| mean dE |" in written.getvalue().decode("ascii")
    assert "[0.5] ..." in written.getvalue().decode("ascii")
