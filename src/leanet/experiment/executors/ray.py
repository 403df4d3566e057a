"""Tasks on a Ray cluster whose nodes share the run folder, or on this machine's cores and GPUs."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from leanet.cluster import QUEUED, Share, check_nodes, connect, none_left, ray_package
from leanet.config import ComputeConfig
from leanet.experiment.executors.elsewhere import Job, Outcome, Report, perform_alone
from leanet.experiment.executors.registry import register_executor
from leanet.experiment.executors.schedule import run_in_order
from leanet.experiment.open_run import Run
from leanet.experiment.tasks import Task

_log = logging.getLogger(__name__)


@register_executor("ray")
class Ray:
    """Tasks on the nodes of a Ray cluster; each has `num_cpus` cores and threads, `num_gpus` GPUs and `memory`.

    A node must have this version of leanet, and the run folder and the data set under the same paths. Ray starts a
    task again whose process or node died. If Ray is initialized already, that cluster is used.
    """

    at_once = True

    def __init__(self, compute: ComputeConfig) -> None:
        self._share = Share(compute.num_cpus or 1, compute.num_gpus, compute.memory)
        connect(compute.address)

    def execute(self, tasks: Sequence[Task], runs: Sequence[Run], title: str) -> None:
        """See `Executor`."""
        check_nodes(self._share.nodes(), runs[0].folder.path, ["torch"])
        _log.info(f"{title}: {self._share.on_nodes()}")
        cluster = _Cluster(Job.here(runs, self._share.threads), self._share)
        try:
            with none_left():
                run_in_order(tasks, runs, title, cluster)
        finally:
            cluster.stop()


class _Cluster:
    """A `Place`: the cluster that Ray is connected to."""

    def __init__(self, job: Job, share: Share) -> None:
        ray = ray_package()
        self._share = share
        self._job, self._task = ray.put(job), ray.remote(_perform)
        # Restarted elsewhere, it lacks earlier reports; the next ones have the sums.
        self._mailbox = ray.remote(_Mailbox).options(num_cpus=0, max_restarts=-1).remote()
        self._asked = self._mailbox.empty.remote()
        self._started: dict[Future[Outcome], Any] = {}

    def start(self, number: int, task: Task) -> Future[Outcome]:
        remote = self._task.options(name=task.key, **self._share.options())
        started = remote.remote(number, task, self._job, self._mailbox)
        future: Future[Outcome] = started.future()
        self._started[future] = started
        return future

    def most(self) -> int:
        return QUEUED * self._share.slots()

    def reports(self) -> list[Report]:
        ray = ray_package()
        if not ray.wait([self._asked], timeout=0)[0]:
            return []
        found: list[Report] = []
        with contextlib.suppress(ray.exceptions.RayError):  # its node died
            found = ray.get(self._asked)
        self._asked = self._mailbox.empty.remote()
        return found

    def stop(self) -> None:
        """End what the cluster still does for this call."""
        for future, started in self._started.items():
            if not future.done():
                ray_package().cancel(started, force=True)
        ray_package().kill(self._mailbox)


class _Mailbox:
    """An actor that holds the latest report of each task."""

    def __init__(self) -> None:
        self._reports: dict[int, Report] = {}

    def put(self, report: Report) -> None:
        self._reports[report[0]] = report

    def empty(self) -> list[Report]:
        found, self._reports = list(self._reports.values()), {}
        return found


def _perform(number: int, task: Task, job: Job, mailbox: Any) -> Outcome:
    return perform_alone(number, task, job, mailbox.put.remote)
