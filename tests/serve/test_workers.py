"""The command as processes: SIGTERM, and several processes on one port, with the networks as they are."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import httpx2
import pytest
from made import pictures
from serving import numbers, served
from test_service import png

from leanet.model.exported import load_exported


def test_sigterm_ends_the_command_with_success(exported_onnx: Path) -> None:
    command = [sys.executable, "-m", "leanet.cli", "serve", str(exported_onnx), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = "http" + process.stdout.readline().split("http")[1].split()[0]
        with urllib.request.urlopen(address + "/ready", timeout=60) as answer:
            assert json.load(answer) == {"status": "ready"}
        assert process.stdout.readline().startswith("1 process, ")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stdout.read() == ""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the processes in /proc")
def test_processes_share_the_port_and_the_numbers_and_are_replaced(exported_onnx: Path) -> None:
    picture, expected = png(next(pictures())), load_answer(exported_onnx)
    with served(exported_onnx, "--workers", "2") as (address, parent):
        children = children_of(parent)
        for _ in range(10):  # each on a connection of its own
            answer = httpx2.post(address + "/v1/predict", content=picture, timeout=60)
            assert answer.json()["results"][0]["probability"] == pytest.approx(expected, abs=1e-5)
        count = "leanet_requests_total{POST,/v1/predict,200}"
        assert numbers(httpx2.get(address + "/metrics", timeout=60).text)[count] == 10
        os.kill(children[0], signal.SIGKILL)
        while len(now := children_of(parent)) < 2 or children[0] in now:
            time.sleep(0.1)
        assert httpx2.post(address + "/v1/predict", content=picture, timeout=60).status_code == 200
        assert numbers(httpx2.get(address + "/metrics", timeout=60).text)[count] == 11
        assert numbers(httpx2.get(address + "/metrics", timeout=60).text)["leanet_queue_images{}"] == 0
    assert not [process for process in now if Path(f"/proc/{process}").exists()]


def load_answer(model: Path) -> float:
    return float(load_exported(model).predict(next(pictures())).probability or 0)


def children_of(parent: int) -> list[int]:
    """The processes of the service below the one that was started."""
    found = []
    for child in map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()):
        with contextlib.suppress(FileNotFoundError):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


@pytest.mark.slow
def test_a_process_that_cannot_start_ends_the_command_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "leanet.cli", "serve", str(tmp_path), "--port", "0", "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {tmp_path}: not a model folder")
    assert len(done.stderr.splitlines()) == 1
