"""The wheel: it installs into an environment of its own and runs the demo there, away from the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import leanet

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def done(*command: str | Path, folder: Path) -> str:
    """What a command prints, run in a folder and without the repository on Python's path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        [*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, timeout=3000, check=False
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    return ended.stdout


def test_the_wheel_runs_the_demo_away_from_the_repository(tmp_path: Path) -> None:
    done(sys.executable, "-m", "build", "--outdir", tmp_path, ROOT, folder=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    commands = tmp_path / "env" / "bin"
    constraints = ROOT / "constraints.txt"
    done(
        commands / "pip",
        "install",
        "--no-compile",
        "-c",
        constraints,
        f"leanet[export] @ file://{wheel}",
        folder=tmp_path,
    )
    assert done(commands / "leanet", "--version", folder=tmp_path) == f"leanet {leanet.__version__}\n"
    done(commands / "leanet", "demo", folder=tmp_path)
    run = tmp_path / "demo-run"
    assert "<html" in (run / "report" / "index.html").read_text(encoding="utf-8")
    done(commands / "leanet", "fit", run / "leaves", "--out", "model", folder=tmp_path)
    done(commands / "leanet", "export", "model", folder=tmp_path)
    done(commands / "leanet", "predict", "model.onnx", run / "leaves" / "test" / "spot", folder=tmp_path)
    assert (tmp_path / "predictions.csv").is_file()
