"""One command at a time in a folder: the second says who has it, and a killed process has nothing."""

from __future__ import annotations

import dataclasses
import fcntl
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from leanet.cli import main
from leanet.errors import UserError
from leanet.experiment.open_run import Run
from leanet.experiment.run_folder import RunFolder, write_history
from leanet.lock import LOCK, alone_in
from leanet.report.pictures import draw_colorizers

SMALL = ["--image-size", "64", "--n-splits", "2"]


@contextmanager
def held(folder: Path, by: str = "`somebody` (process 1 on elsewhere)") -> Iterator[None]:
    """Lock a folder as another process would, by the system's own call."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(by)
        file.flush()
        yield


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that holds a folder until its standard input ends."""
    code = "import sys; from pathlib import Path; from leanet.lock import alone_in\n"
    code += "with alone_in(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_process_says_who_has_the_folder_and_a_killed_one_has_it_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = holder(folder)
    with pytest.raises(UserError) as refused, alone_in(folder):
        pass
    for text in (f"{folder}: in use by", f"process {process.pid}", socket.gethostname(), str(folder), "since 2"):
        assert text in str(refused.value)
    process.kill()
    process.communicate()
    assert (folder / LOCK).exists()
    with alone_in(folder):
        assert f"process {process.pid} " not in (folder / LOCK).read_text()
    assert not (folder / LOCK).exists()


def test_a_process_may_take_its_lock_again_and_lets_it_go_at_the_end(tmp_path: Path) -> None:
    with alone_in(tmp_path):
        with alone_in(tmp_path / "." / "x" / ".."):
            pass
        with pytest.raises(BlockingIOError), (tmp_path / LOCK).open("r+") as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with alone_in(tmp_path), (tmp_path / LOCK).open() as other:
        assert other.read().startswith("`")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_nothing_was_written_into_is_gone_again(tmp_path: Path) -> None:
    with pytest.raises(KeyError), alone_in(tmp_path / "a" / "b"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with alone_in(tmp_path / "a" / "b"):
        (tmp_path / "a" / "file").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_who_waits_gets_it(tmp_path: Path) -> None:
    done: list[str] = []

    def wait() -> None:
        with alone_in(tmp_path, wait=True):
            done.append("waited")

    with held(tmp_path):
        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join(0.2)
        assert done == []
    waiting.join()
    assert done == ["waited"]


def test_of_several_processes_the_first_takes_it_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with held(tmp_path):
        monkeypatch.setenv("RANK", "1")
        with alone_in(tmp_path):
            pass
        monkeypatch.setenv("RANK", "0")
        with pytest.raises(UserError, match="in use by `somebody`"), alone_in(tmp_path):
            pass


@pytest.mark.parametrize("text", ["", "\0\x1b[31m\n\n" * 50_000])
def test_whatever_stands_in_the_lock_the_answer_is_one_short_line(tmp_path: Path, text: str) -> None:
    with held(tmp_path, text), pytest.raises(UserError, match="in use by") as refused, alone_in(tmp_path):
        pass
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("verb", ["run", "colorize", "study", "fit", "demo"])
def test_every_command_that_writes_a_folder_takes_its_lock(
    leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    out = tmp_path / "out"
    work = out.with_name("out.work") if verb == "fit" else out
    arguments = [] if verb == "demo" else [str(leaves), *SMALL]
    with held(work):
        assert main([verb, *arguments, "--out", str(out)]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {work}: in use by `somebody` (process 1 on elsewhere)")
    assert line.count("\n") == 1
    assert [path.name for path in work.iterdir()] == [LOCK]


def test_a_report_takes_the_lock_of_its_own_folder_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with held(tmp_path / "run"):
        assert main(["report", str(tmp_path / "run")]) == 2
        assert "not a run folder" in capsys.readouterr().err
    with held(tmp_path / "run" / "report"):
        assert main(["report", str(tmp_path / "run")]) == 2
        assert "in use by `somebody`" in capsys.readouterr().err


@pytest.mark.slow
def test_of_two_runs_started_together_one_is_done_and_the_other_refused(leaves: Path, tmp_path: Path) -> None:
    options = [*SMALL, "--folds", "0", "--colorizer-epochs", "1", "--epochs", "1", "--adn", "CNN", "--caan", "none"]
    command = [sys.executable, "-m", "leanet.cli", "run", str(leaves), "--out", str(tmp_path / "run"), *options]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2]
    assert sum("in use by" in text for text in said) == 1
    assert subprocess.run(command).returncode == 0


@pytest.fixture
def made_losses(make_run: Callable[..., Run], tmp_path: Path) -> Run:
    """A run of one fold whose colorizer has a history."""
    run = dataclasses.replace(make_run(6, 4), folder=RunFolder(tmp_path / "run"))
    history = [{"epoch": float(epoch), "loss": 1 / epoch} for epoch in (1, 2)]
    write_history(run.folder.fold(0).map_source("color").history(), history)
    return run


def test_who_draws_waits_for_the_report(made_losses: Run) -> None:
    report = made_losses.folder.report
    with held(report):
        drawing = threading.Thread(target=draw_colorizers, args=(made_losses, "0", report))
        drawing.start()
        drawing.join(0.3)
        assert [path.name for path in report.iterdir()] == [LOCK]
    drawing.join()
    assert [path.name for path in report.iterdir()] == ["colorizer_loss.png"]
