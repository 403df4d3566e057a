"""Shared by the benchmarks: facts about the machine, CSV files, interleaved timing, and a program's memory."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import multiprocessing
import os
import platform
import shlex
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from leanet import files

REPOSITORY = Path(__file__).parents[1]
LEANET = str(Path(sysconfig.get_path("scripts")) / "leanet")
"""The leanet command in the benchmark's environment."""

Work = Callable[[], Mapping[str, float]]
"""Does its work once and returns seconds per image, for the whole and for named parts."""

BASELINE, OURS = "baseline", "leanet"


def facts() -> dict[str, object]:
    """Machine and versions, for every row of a CSV file."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8") if sys.platform == "linux" else ""
    fields = {name.strip(): value.strip() for name, _, value in (x.partition(":") for x in cpuinfo.splitlines())}
    flags = fields.get("flags", "").split()
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    packages = ["torch", "numpy", "scikit-image", "pillow", "leanet", "accelerate"]
    packages += ["onnxruntime", "openvino", "nncf", "anomalib"]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": fields.get("model name", platform.processor()),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "avx512_bf16": "avx512_bf16" in flags,
        "amx_bf16": "amx_bf16" in flags,
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
        "commit": commit.stdout.strip(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a script needs only what it imports
        return ""


def write_csv(path: Path, rows: Sequence[Mapping[str, object]], machine: Mapping[str, object]) -> None:
    """Write the rows, each followed by the machine's facts; the union of their keys is the header."""
    header = list(dict.fromkeys(key for row in (*rows, machine) for key in row))
    files.write_csv(path, header, [[{**row, **machine}.get(key, "") for key in header] for row in rows])


def link(image: Path, place: Path) -> None:
    """Link an image of one data set into another."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        place.symlink_to(image.resolve())


def parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """A parser with the options of all benchmarks."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # unknown options may be for `leanet run`
    )
    made.add_argument("--csv", type=Path, default=Path(f"{name}.csv"), help="file to write (%(default)s)")
    return made


def experiment_parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """A parser with the additional options of experiments on a data set."""
    made = parser(description, name)
    made.add_argument("dataset", type=Path, metavar="DATASET")
    made.add_argument("--out", type=Path, required=True, help="folder for everything that is made")
    made.set_defaults(csv=None)
    made.add_argument("--image-size", default="128", help="side of the images in pixels (%(default)s)")
    made.add_argument("--aspect", help="squeeze, letterbox or crop (default: leanet's own)")
    made.add_argument("--p-rate", default="0.05", help="share of the training anomalies (%(default)s)")
    made.add_argument("--groups", metavar="FILE", help="groups that no split parts")
    made.add_argument("--max-per-class", metavar="N", help="images of each class (default: all)")
    made.add_argument("--seed", default="0", help="of images chosen, folds and trainings (%(default)s)")
    return made


def data_options(given: argparse.Namespace) -> list[str]:
    """The options of `experiment_parser` that select images and folds, for `leanet run` and similar commands."""
    options = ["--image-size", given.image_size, "--seed", given.seed]
    options += ["--groups", given.groups] if given.groups else []
    options += ["--aspect", given.aspect] if given.aspect else []
    return options + (["--max-per-class", given.max_per_class] if given.max_per_class else [])


def alternate(baseline: Work, ours: Work, rounds: int) -> dict[str, list[float]]:
    """Time both alternately, which exposes them to the same load; a warm-up round is not counted.

    Returns:
        Name -> seconds per image, one number per round.
    """
    baseline(), ours()
    times: dict[str, list[float]] = {BASELINE: [], OURS: []}
    for n in range(rounds):
        for work in (baseline, ours) if n % 2 == 0 else (ours, baseline):
            for name, seconds in work().items():
                times.setdefault(name, []).append(seconds)
    return times


@contextlib.contextmanager
def apart(make: Callable[..., Callable[[], object]], *arguments: object) -> Iterator[Callable[[], float]]:
    """Work in a fresh process, where the baseline runs as a plain program without our allocator settings.

    Args:
        make, arguments: make(*arguments) is called there, once, and returns the work.
    Returns:
        A function that does the work once and returns the seconds it took.
    """
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(there, make, arguments), daemon=True
    )
    process.start()
    there.close()  # if the process dies, `recv` then fails instead of waiting

    def once() -> float:
        here.send(None)
        seconds: float = here.recv()
        return seconds

    try:
        yield once
    finally:
        process.terminate()
        process.join()


def _serve(
    connection: Connection, make: Callable[..., Callable[[], object]], arguments: tuple[object, ...]
) -> None:
    work = make(*arguments)
    while True:
        connection.recv()
        connection.send(seconds_an_image(work, 1))


def seconds_an_image(work: Callable[[], object], images: int) -> float:
    """Seconds of one call, divided by its images."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) / images


def report(
    times: Mapping[str, Sequence[float]], bar: float, path: Path, machine: Mapping[str, object], **settings: object
) -> None:
    """Print and write the times and the ratio, the median over the rounds of baseline / ours."""
    ratio = statistics.median(b / o for b, o in zip(times[BASELINE], times[OURS], strict=True))
    rows: list[dict[str, object]] = []
    for name, seconds in times.items():
        ms = [1000 * s for s in seconds]
        middle = statistics.median(ms)
        print(f"{name:45} {middle:8.2f} ms an image  ({min(ms):.2f} .. {max(ms):.2f}, {len(ms)} rounds)")
        rows.append({"work": name, "median_ms": middle, "min_ms": min(ms), "max_ms": max(ms), "rounds": len(ms)})
    rows = [{**row, "ratio": ratio, "bar": bar, **settings} for row in rows]
    write_csv(path, rows, machine)
    print(f"ratio {ratio:.2f} ({verdict(ratio >= bar)}: {bar:g})")


def verdict(reached: bool) -> str:
    """Whether a bar was reached or missed, in words."""
    return "bar reached" if reached else "bar missed"


def memory_of_tree(root: int) -> int:
    """Anonymous memory (RssAnon) of a process and its descendants, in bytes; 0 after they end. Linux only."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        text = _read(path)
        if text:  # the parent follows the name, which may contain blanks and brackets
            children.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    total, to_do = 0, [root]
    while to_do:
        process = to_do.pop()
        to_do += children.get(process, [])
        lines = _read(Path(f"/proc/{process}/status")).splitlines()
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))
    return total


@dataclass(frozen=True)
class Watched:
    """A program's seconds, and the peak of its anonymous memory in bytes, including children."""

    seconds: float
    peak: int


def watch(
    command: Sequence[str], *, interval: float, quiet: bool = False, tell: Callable[[Watched], None] | None = None
) -> Watched:
    """Run a program and sample its memory in a thread; stop the program if this process is stopped.

    Args:
        command: program and arguments.
        interval: seconds between samples.
        quiet: show the program's output only if it fails.
        tell: called with the measurements so far, every ten seconds and at any end.
    Raises:
        SystemExit: the program failed, with its exit code.
    """
    peak, over = 0, threading.Event()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output if quiet else None, stderr=output if quiet else None)

        def sample() -> None:
            nonlocal peak
            while not over.wait(interval):
                peak = max(peak, memory_of_tree(process.pid))

        def taken() -> Watched:
            return Watched(time.perf_counter() - started, peak)

        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=10)
                if tell:
                    tell(taken())
        except KeyboardInterrupt:
            sys.exit("stopped")
        finally:
            watched = taken()
            process.terminate()
            process.wait()
            over.set()
            sampler.join()
            if tell:
                tell(watched)
        if process.returncode:
            output.seek(0)
            print(f"{output.read()}{shlex.join(command)}: exit code {process.returncode}", file=sys.stderr)
            sys.exit(process.returncode)
    return watched


def call(*arguments: str) -> None:
    """Run a leanet command; stop it if this process is stopped.

    Raises:
        SystemExit: the command failed, with its exit code, or this process was stopped.
    """
    command = [LEANET, *arguments]
    print(shlex.join(command), flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with subprocess.Popen(command) as process:
        try:
            process.wait()
        except KeyboardInterrupt:
            process.terminate()
            sys.exit("stopped")
    if process.returncode:
        sys.exit(process.returncode)


def adn_metrics(run: Path) -> dict[str, dict[str, str]]:
    """The ADN's rows in a run's report/metrics.csv: 'fold 0', ..., 'mean over folds' -> column -> value."""
    rows = files.read_csv(run / "report" / "metrics.csv")
    adn = next(row["row"] for row in rows if row["row"].endswith(": ADN"))
    return {row["over"]: row for row in rows if row["row"] == adn}


def less(one: float | None, other: float | None) -> float | None:
    """The difference; None if either is undefined, as in a fold with one class."""
    return None if one is None or other is None else one - other


def _read(path: Path) -> str:
    """A file in /proc; empty if the process has ended."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
