"""A run that is killed goes on where it was, to the same predictions."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def start_and_kill(arguments: list[str], watched: Path, after: int, environment: dict[str, str]) -> None:
    """Start a run, and SIGKILL it once `watched` has been written `after` times; fails if it ends before that."""
    before = watched.stat().st_mtime_ns if watched.exists() else None
    process = subprocess.Popen(
        [sys.executable, "-m", "leanet.cli", *arguments], stdout=subprocess.DEVNULL, env=environment
    )
    stamps: set[int] = set()
    while process.poll() is None and len(stamps) < after:
        if watched.exists():
            stamps |= {watched.stat().st_mtime_ns} - {before}
        time.sleep(0.005)
    assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_killed_run_resumes_to_identical_predictions(leaves: Path, tmp_path: Path, kills: int) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    options = ["--image-size", "64", "--n-splits", "2", "--folds", "0", "--colorizer-epochs", "3", "--epochs", "3"]
    options += ["--adn", "CNN", "--caan", "MobileNet", "--no-compare", "--compile", "off"]
    options += ["--checkpoint-seconds", "0", "--batch-size", "4", "--colorizer-batch-size", "4"]

    def arguments(out: Path) -> list[str]:
        return ["run", str(leaves), "--out", str(out), *options]

    whole = subprocess.run([sys.executable, "-m", "leanet.cli", *arguments(tmp_path / "whole")], env=environment)
    assert whole.returncode == 0
    random_moments = random.Random(kills)
    out = tmp_path / "killed"
    for stage in ("colorizer", "CNN-MobileNet-p2"):
        for _ in range(kills):
            watched = out / "0" / stage / "checkpoint.safetensors"
            start_and_kill(arguments(out), watched, random_moments.randint(1, 4), environment)
    resumed = subprocess.run([sys.executable, "-m", "leanet.cli", *arguments(out)], env=environment)
    assert resumed.returncode == 0
    name = Path("0", "CNN-MobileNet-p2", "predictions.csv")
    assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list(out.rglob("*.partial*"))
