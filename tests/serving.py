"""`leanet serve` in its own process, on a free local port."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families


@contextmanager
def served(model: Path, *options: str) -> Iterator[tuple[str, int]]:
    """Serve a model; yield the address and the process ID once it answers."""
    command = [sys.executable, "-m", "leanet.cli", "serve", str(model), "--port", "0", "--device", "cpu", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    stop = threading.Timer(600, process.kill)
    stop.start()
    try:
        assert process.stdout is not None
        told = (re.search(r"http://[\w.:]+", line) for line in process.stdout)
        address = next((found.group() for found in told if found), None)
        assert address, "serve ended before it answered"
        wait_for(address + "/health", process)
        yield address, process.pid
        assert process.poll() is None, "serve ended by itself"
    finally:
        stop.cancel()
        process.terminate()
        process.wait(20)


def wait_for(address: str, process: subprocess.Popen[str]) -> None:
    """Wait until the address answers."""
    for _ in range(600):
        assert process.poll() is None, "serve ended before it answered"
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("serve does not answer")


def numbers(text: str) -> dict[str, float]:
    """The samples of a text in Prometheus' format, by name and labels."""
    families = text_string_to_metric_families(text)
    return {
        f"{sample.name}{{{','.join(sample.labels.values())}}}": sample.value
        for family in families
        for sample in family.samples
    }
