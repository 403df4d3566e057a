"""Tasks on a Ray cluster whose nodes share the run folder, or on this machine's cores and GPUs."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from leanet import __version__
from leanet.config import ComputeConfig
from leanet.errors import OptionError, UserError
from leanet.experiment.executors.elsewhere import Job, Outcome, Report, at_a_time, perform_alone
from leanet.experiment.executors.registry import register_executor
from leanet.experiment.executors.schedule import run_in_order
from leanet.experiment.open_run import Run
from leanet.experiment.run_folder import versions_here
from leanet.experiment.tasks import Task
from leanet.files import OWN

_log = logging.getLogger(__name__)

RETRIES = 3
"""Times that Ray starts a task again whose process or node died."""

QUEUED = 2
"""Tasks in flight for each that can run."""

PATIENCE = 5.0
"""Seconds in which a cluster must take a connection."""

SLOWEST_NODE = 300.0
"""Seconds in which a node must start a process and look at the run folder."""

Node = Mapping[str, Any]
"""A node as `ray.nodes` describes it."""


@register_executor("ray")
class Ray:
    """Tasks on the nodes of a Ray cluster; each has `num_cpus` cores and threads, `num_gpus` GPUs and `memory`.

    A node must have this version of leanet, and the run folder and the data set under the same paths. Ray starts a
    task again whose process or node died. If Ray is initialized already, that cluster is used.
    """

    at_once = True

    def __init__(self, compute: ComputeConfig) -> None:
        self._compute, self._threads = compute, compute.num_cpus or 1
        if importlib.util.find_spec("ray") is None:
            raise OptionError("executor", "ray", 'Ray is not installed. pip install "leanet[ray]"')
        connect(compute.address)

    def execute(self, tasks: Sequence[Task], runs: Sequence[Run], title: str) -> None:
        """See `Executor`."""
        ray = _ray()
        nodes = [node for node in ray.nodes() if node["Alive"] and self._room(node)]
        if not nodes:
            raise UserError(f"--executor ray: no node has {self._asked()} for a task. Ask for less, or add a node.")
        check_nodes(nodes, runs[0].folder.path)
        slots = sum(map(self._room, nodes))
        on = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
        _log.info(f"{title}: {at_a_time(slots, self._threads)} on {on}")
        cluster = _Cluster(Job.here(runs, self._threads), self._resources(), lambda: QUEUED * self._slots())
        try:
            run_in_order(tasks, runs, title, cluster)
        except ray.exceptions.RayTaskError:
            raise  # a defect, with the node's traceback
        except ray.exceptions.RayError as error:
            said = " ".join(str(error).split())
            raise UserError(f"--executor ray: a task's process died {RETRIES + 1} times: {said}") from None
        finally:
            cluster.stop()

    def _slots(self) -> int:
        """Tasks that can run at once; the number of nodes changes."""
        return sum(self._room(node) for node in _ray().nodes() if node["Alive"]) or 1

    def _room(self, node: Node) -> int:
        """Tasks that a node can run at once."""
        there, asked = node["Resources"], self._wanted()
        return min(int(there.get(name, 0) / amount) for name, amount in asked.items())

    def _wanted(self) -> dict[str, float]:
        """The resources of a task, by Ray's names of a node's."""
        compute = self._compute
        named = {"CPU": self._threads, "GPU": compute.num_gpus, "memory": int((compute.memory or 0) * 1e9)}
        return {name: amount for name, amount in named.items() if amount}

    def _resources(self) -> dict[str, Any]:
        """The resources of a task, by Ray's names of a task's."""
        wanted = self._wanted()
        asked = {"num_cpus": wanted["CPU"], "num_gpus": wanted.get("GPU", 0)}
        return asked | ({"memory": wanted["memory"]} if "memory" in wanted else {})

    def _asked(self) -> str:
        words = [f"--num-cpus {self._threads}"]
        words += [f"--num-gpus {self._compute.num_gpus:g}"] if self._compute.num_gpus else []
        words += [f"--memory {self._compute.memory:g}"] if self._compute.memory else []
        return ", ".join(words)


class _Cluster:
    """A `Place`: the cluster that Ray is connected to."""

    def __init__(self, job: Job, resources: Mapping[str, Any], most: Callable[[], int]) -> None:
        ray = _ray()
        self.most = most
        self._resources = {**resources, "max_retries": RETRIES}
        self._job, self._task = ray.put(job), ray.remote(_perform)
        # Restarted elsewhere, it lacks earlier reports; the next ones have the sums.
        self._mailbox = ray.remote(_Mailbox).options(num_cpus=0, max_restarts=-1).remote()
        self._asked = self._mailbox.empty.remote()
        self._started: dict[Future[Outcome], Any] = {}

    def start(self, number: int, task: Task) -> Future[Outcome]:
        remote = self._task.options(name=task.key, **self._resources)
        started = remote.remote(number, task, self._job, self._mailbox)
        future: Future[Outcome] = started.future()
        self._started[future] = started
        return future

    def reports(self) -> list[Report]:
        ray = _ray()
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
                _ray().cancel(started, force=True)
        _ray().kill(self._mailbox)


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


def _ray() -> Any:
    """Ray, which takes a second to import."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    return importlib.import_module("ray")


def connect(address: str | None) -> None:
    """Connect to a cluster, or start Ray on this machine; nothing if Ray is initialized.

    Raises:
        OptionError: no cluster at the address, or one of another version of Ray or Python.
        UserError: Ray does not start here.
    """
    ray = _ray()
    if ray.is_initialized():
        return
    if address and address != "auto":
        _refuse_silent(address)
    try:
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises many types, Exception itself among them
        said = str(error).strip().split("\n")[0].split(". ")[0].rstrip(".")
        if address is None:
            raise UserError(f"--executor ray: Ray does not start on this machine ({said}). Try again.") from None
        raise OptionError("address", address, f"no cluster ({said}). Start one with `ray start --head`.") from None


def _refuse_silent(address: str) -> None:
    """Raise OptionError if nothing listens at the address: Ray would try for half a minute."""
    try:
        place = urlsplit(address if "//" in address else f"//{address}")
        if place.scheme not in ("", "ray") or not place.hostname or not place.port:
            raise ValueError
        socket.create_connection((place.hostname, place.port), PATIENCE).close()
    except ValueError:
        raise OptionError(
            "address", address, "expected auto, or ray://HOST:PORT such as ray://head:10001."
        ) from None
    except OSError as error:
        said = error.strerror or "no answer"
        raise OptionError(
            "address", address, f"no cluster there ({said}). Start it, or correct the address."
        ) from None


def check_nodes(nodes: Sequence[Node], folder: Path) -> None:
    """Look at the run folder from every node.

    Raises:
        UserError: a node does not see the folder, or lacks this version of leanet or torch; the node is named.
    """
    ray = _ray()
    strategy = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    here = {name: versions_here()[name] for name in ("leanet", "torch")}
    with _marked(folder) as (path, secret):
        looks = [
            ray.remote(_looker())
            .options(num_cpus=0, name=f"look at {folder}", scheduling_strategy=strategy(node["NodeID"], soft=False))
            .remote(str(Path.cwd()), str(path), list(here))
            for node in nodes
        ]
        for node, look in zip(nodes, looks, strict=True):
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            try:
                read, versions = ray.get(look, timeout=SLOWEST_NODE)
            except ray.exceptions.RayError as error:
                said = str(error).strip().split("\n")[-1]
                raise UserError(f"node {name}: no process starts there ({said}). Remove the node.") from None
            if wrong := complaint(read, versions, secret, here):
                raise UserError(f"node {name}: {wrong}")


def complaint(read: str, there: Mapping[str, str | None], secret: str, here: Mapping[str, str]) -> str | None:
    """What is wrong with a node, and the remedy; None if nothing is.

    Args:
        read: what it reads in the run folder, where this machine wrote `secret`.
        there, here: versions of packages on the node, None for one it lacks, and on this machine.
    """
    for name, version in here.items():
        if there[name] is None:
            return f'{name} is not installed there. Install leanet {__version__}: pip install "leanet[ray]"'
        if there[name] != version:
            return f"has {name} {there[name]}, and this machine {version}. Install the same version."
    if read != secret:
        return "does not see the run folder. Put --out and the data set where all nodes have the same path to them."
    return None


@contextlib.contextmanager
def _marked(folder: Path) -> Iterator[tuple[Path, str]]:
    """A file in a folder, while the context lasts, and its content, which no other folder has."""
    secret = secrets.token_hex(16)
    path = folder / f"{OWN}shared-{secret[:8]}"
    path.write_text(secret, encoding="ascii")
    try:
        yield path, secret
    finally:
        path.unlink(missing_ok=True)


def _looker() -> Callable[[str, str, list[str]], tuple[str, dict[str, str | None]]]:
    """A function that Ray sends as code, because a node may lack leanet: it uses the standard library alone."""

    def look(directory: str, path: str, packages: list[str]) -> tuple[str, dict[str, str | None]]:
        import contextlib
        import importlib
        import os
        from importlib.metadata import version

        versions: dict[str, str | None] = dict.fromkeys(packages)
        for name in packages:
            with contextlib.suppress(ImportError):
                versions[name] = version(name) if name != "leanet" else importlib.import_module(name).__version__
        with contextlib.suppress(OSError):
            os.chdir(directory)
        content = ""
        with contextlib.suppress(OSError), open(path, encoding="ascii") as file:  # noqa: PTH123
            content = file.read()
        return content, versions

    return look
