"""Tasks at the same time: in order of their needs, alone, and to the same bytes as one after another."""

from __future__ import annotations

import dataclasses
import errno
import os
import pickle
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from commands import train
from same_files import assert_same_files
from threadpoolctl import threadpool_limits

from leanet.cli import main
from leanet.config import ColorizeConfig, ComputeConfig, DataConfig
from leanet.errors import OptionError, UserError
from leanet.experiment.executors.elsewhere import Job, Outcome, Report, perform_alone
from leanet.experiment.executors.registry import executor
from leanet.experiment.executors.schedule import run_in_order
from leanet.experiment.open_run import Run, begin
from leanet.experiment.run_folder import RunFolder
from leanet.experiment.tasks import Task, Worker

OPTIONS = ["--image-size", "64", "--n-splits", "2", "--device", "cpu"]


@dataclass(frozen=True)
class Write:
    """A task that writes a file, after those it needs."""

    folder: Path
    key: str
    needs: tuple[str, ...] = ()
    error: int = 0

    def cost(self, _worker: Worker) -> int:
        return 2

    def done(self, _worker: Worker) -> bool:
        return (self.folder / self.key).exists()

    def run(self, worker: Worker) -> None:
        assert all((self.folder / other).exists() for other in self.needs)
        if self.error:
            raise OSError(self.error, os.strerror(self.error), str(self.folder / self.key))
        worker.on_images(2, self.key)
        (self.folder / self.key).touch(exist_ok=False)


@dataclass
class Here:
    """A place that does a started task only when another two have started, or when it is asked for reports."""

    job: Job
    started: list[str] = field(default_factory=list)
    queue: list[Callable[[], None]] = field(default_factory=list)
    sent: list[Report] = field(default_factory=list)

    def start(self, number: int, task: Task) -> Future[Outcome]:
        self.started.append(task.key)
        future: Future[Outcome] = Future()
        self.queue.append(lambda: future.set_result(perform_alone(number, task, self.job, self.sent.append)))
        return future

    def most(self) -> int:
        return 2

    def reports(self) -> Sequence[Report]:
        assert len(self.queue) <= self.most()
        while self.queue:
            self.queue.pop(0)()
        return self.sent


@pytest.fixture
def run(make_run: Callable[..., Run], tmp_path: Path) -> Run:
    return dataclasses.replace(make_run(10, 10), folder=RunFolder(tmp_path))


def test_each_task_starts_after_those_it_needs_and_the_others_of_its_key(run: Run, tmp_path: Path) -> None:
    needs = {"a": (), "b": ("a",), "c": (), "d": ("b", "c", "elsewhere")}
    tasks = [Write(tmp_path, key, tuple(n for n in needed if n in needs)) for key, needed in needs.items()]
    place = Here(Job.here([run], 1))
    run_in_order([*tasks, tasks[0]], [run], "tasks", place)
    assert place.started == ["a", "c", "b", "a", "d"]
    assert {path.name for path in tmp_path.iterdir()} == set(needs)  # no lock is left
    assert {number for number, _, _ in place.sent} == {0, 1, 2, 3}


def test_a_full_disk_is_one_line_and_the_results_of_others_stay(run: Run, tmp_path: Path) -> None:
    tasks = [Write(tmp_path, "a", (), errno.ENOSPC), Write(tmp_path, "b"), Write(tmp_path, "c")]
    with pytest.raises(UserError) as failed:
        run_in_order(tasks, [run], "tasks", Here(Job.here([run], 1)))
    remedy = "No space left on device. Free some space, and run the command again."
    assert str(failed.value) == f"a: {tmp_path / 'a'}: {remedy}"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_run_is_sent_without_its_pixels(leaves: Path, tmp_path: Path) -> None:
    run = begin(ColorizeConfig(leaves, tmp_path / "run", DataConfig(image_size=64, n_splits=2)))
    sent = pickle.dumps(run)
    assert len(sent) < 20_000 < run.pixels.nbytes
    received: Run = pickle.loads(sent)  # noqa: S301 our own
    assert received.fingerprint(0) == run.fingerprint(0)
    np.testing.assert_array_equal(received.pixels, run.pixels)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--executor", "cloud"], "--executor cloud: choose from local, .*processes, ray"),
        (["--address", "auto"], "--address auto: --executor local does not take it. Add --executor ray."),
        (["--num-cpus", "2"], "--num-cpus 2: .* Add --executor processes or --executor ray."),
        (["--executor", "processes", "--num-gpus", "1"], "--num-gpus 1.0: --executor processes does not take it"),
        (["--executor", "processes", "--memory", "0"], "--memory 0.0: expected at least 0.1."),
        (["--executor", "processes", "--num-cpus", "0"], "--num-cpus 0: expected at least 1."),
    ],
)
def test_options_that_do_not_fit_the_executor_are_refused_in_one_line(
    options: list[str], said: str, leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(leaves), "--out", str(tmp_path / "run"), *OPTIONS, *options]) == 2
    error = capsys.readouterr().err
    assert re.search(said, error)
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_several_processes_of_accelerate_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(OptionError, match=r"executor processes: .* Omit `accelerate launch`"):
        executor(ComputeConfig(executor="processes"))


def test_ray_that_is_not_installed_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OptionError, match=r'Ray is not installed. pip install "leanet\[ray\]"'):
        executor(ComputeConfig(executor="ray"))


@pytest.mark.slow
def test_processes_write_the_same_bytes_as_one(leaves: Path, tmp_path: Path) -> None:
    trained = ["--adn", "CNN", "--caan", "MobileNet", "--epochs", "1", "--colorizer-epochs", "1", "--seeds", "2"]
    for options in ([], trained):
        alone, together = (tmp_path / f"{name}-{len(options)}" for name in ("alone", "together"))
        with threadpool_limits(1):
            train("run", str(leaves), "--out", str(alone), *OPTIONS, *options)
        train("run", str(leaves), "--out", str(together), *OPTIONS, *options, "--executor", "processes")
        assert_same_files(alone, together)
