"""A run that is killed goes on where it was, to the same predictions."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import train

DETECTOR = "CNN-MobileNet-p2"
PREDICTIONS = Path("0", DETECTOR, "predictions.csv")

OPTIONS = ["--image-size", "64", "--n-splits", "2", "--folds", "0", "--adn", "CNN", "--caan", "MobileNet"]
OPTIONS += ["--no-compare", "--compile", "off", "--device", "cpu"]
OPTIONS += ["--checkpoint-seconds", "0", "--batch-size", "4", "--colorizer-batch-size", "4"]


def fork(arguments: list[str]) -> int:
    """Train in a copy of this process, with the networks that are registered here."""
    number = os.fork()
    if number == 0:
        code = 1
        try:
            train(*arguments)
            code = 0
        finally:
            os._exit(code)
    return number


def spawn(arguments: list[str]) -> int:
    """Start the command line in a process of its own."""
    return os.posix_spawn(sys.executable, [sys.executable, "-m", "leanet.cli", *arguments], os.environ)


def kill(process: int, watched: Path, after: int) -> None:
    """SIGKILL a run once `watched` has been written `after` times, while it is still there; the run did not end."""
    before = watched.stat().st_mtime_ns if watched.exists() else None
    stamps: set[int] = set()
    while len(stamps) < after:
        assert os.waitpid(process, os.WNOHANG) == (0, 0), "the run ended before it could be killed"
        if watched.exists():
            stamps |= {watched.stat().st_mtime_ns} - {before}
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    assert watched.exists(), "the training ended before it could be killed"


def kill_in_each_training(start: Callable[[list[str]], int], arguments: list[str], out: Path, kills: int) -> None:
    """Start a run that is killed so many times in each of its trainings, and let it end."""
    moments = random.Random(kills)
    for stage in ("colorizer", DETECTOR):
        for _ in range(kills):
            kill(start(arguments), out / "0" / stage / "checkpoint.safetensors", moments.randint(1, 4))
    assert os.waitstatus_to_exitcode(os.waitpid(start(arguments), 0)[1]) == 0
    assert not list(out.rglob("*.partial*"))


@pytest.mark.usefixtures("tiny_networks")
def test_killed_run_resumes_to_identical_predictions(leaves: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = ["run", str(leaves), *OPTIONS, "--colorizer-epochs", "8", "--epochs", "8", "--out"]
    train(*command, str(whole))
    kill_in_each_training(fork, [*command, str(killed)], killed, kills=1)
    assert (killed / PREDICTIONS).read_bytes() == (whole / PREDICTIONS).read_bytes()


@pytest.mark.slow
def test_killed_processes_with_the_authors_networks_resume_to_identical_predictions(
    leaves: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = ["run", str(leaves), *OPTIONS, "--colorizer-epochs", "3", "--epochs", "3", "--out"]
    assert os.waitstatus_to_exitcode(os.waitpid(spawn([*command, str(whole)]), 0)[1]) == 0
    kill_in_each_training(spawn, [*command, str(killed)], killed, kills=3)
    assert (killed / PREDICTIONS).read_bytes() == (whole / PREDICTIONS).read_bytes()
